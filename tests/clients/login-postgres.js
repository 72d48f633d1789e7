// Logs in once with postgres.js: login-postgres.js JSON. Prints one JSON line: {"ok", "error"}.
'use strict'

const postgres = require('postgres')
const login = JSON.parse(process.argv[2])

async function main() {
  const options = { max: 1, connect_timeout: 20, connection: login.settings || {} }
  let sql
  if (login.url) {
    sql = postgres(login.url, options)
  } else {
    const ssl = { disable: false, prefer: 'prefer', require: 'require', 'verify-full': 'verify-full' }[login.sslmode]
    const who = { host: login.host, port: login.port, username: login.user, database: login.database }
    if (login.password !== undefined && login.password !== null) who.password = login.password
    sql = postgres(Object.assign(options, who, { ssl: ssl }, login.options || {}))
  }
  const rows = await sql`select 1 as one`
  await sql.end()
  return rows[0].one === 1
}

main().then(
  (ok) => finish({ ok: ok, error: null }),
  (error) => finish({ ok: false, error: String(error.message || error.code || error) })
)

function finish(answer) {
  process.stdout.write(JSON.stringify(answer) + '\n', () => process.exit(0))
}
