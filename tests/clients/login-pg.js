// Logs in once with node-postgres: login-pg.js PACKAGE JSON. Prints one JSON line: {"ok", "error"}.
// Runs on Node 10 too (pg 7.8.2 opens no socket on newer ones): no newer syntax here.
'use strict'

const packageName = process.argv[2]
const login = JSON.parse(process.argv[3])
const { Client } = require(packageName)

function answer(ok, error) {
  process.stdout.write(JSON.stringify({ ok: ok, error: error ? String(error.message || error) : null }) + '\n', function () {
    process.exit(0)
  })
}

process.on('uncaughtException', function (error) {
  answer(false, error)
})

const config = { host: login.host, port: login.port, user: login.user, database: login.database }
if (login.password !== undefined && login.password !== null) config.password = login.password
if (login.sslmode === 'require') config.ssl = { rejectUnauthorized: false }
if (login.sslmode === 'verify-full') config.ssl = {}
if (login.tls) config.ssl = Object.assign(config.ssl || { rejectUnauthorized: false }, login.tls)
Object.assign(config, login.options || {})
config.connectionTimeoutMillis = 20000

const client = new Client(config)
client.on('error', function (error) {
  answer(false, error)
})
client.connect(function (error) {
  if (error) return answer(false, error)
  client.query('select 1 as one', function (error, result) {
    if (error) return answer(false, error)
    client.end(function () {
      answer(result.rows[0].one === 1, null)
    })
  })
})
