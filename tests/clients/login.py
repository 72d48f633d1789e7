"""Logs in once with a Python driver: login.py DRIVER JSON. Prints one JSON line: {"ok", "error"}."""

import asyncio
import json
import ssl
import sys


def tls_context(login):
    context = ssl.create_default_context(cafile=login.get("ca"))
    if not login.get("ca"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def by_asyncpg(login):
    import asyncpg

    async def go():
        mode = login["sslmode"]
        if login.get("ca"):
            how = tls_context(login)
        else:
            how = {"disable": False}.get(mode, mode)
        connection = await asyncpg.connect(
            host=login["host"],
            port=login["port"],
            user=login["user"],
            password=login.get("password"),
            database=login.get("database"),
            ssl=how,
            timeout=20,
            server_settings=login.get("settings") or None,
            **(login.get("options") or {}),
        )
        value = await connection.fetchval("select 1")
        await connection.close()
        return value

    return asyncio.run(go())


def by_psycopg(login):
    import psycopg

    keywords = dict(login.get("options") or {})
    keywords.update(host=login["host"], port=login["port"], user=login["user"], sslmode=login["sslmode"])
    for ours, theirs in (("password", "password"), ("database", "dbname"), ("ca", "sslrootcert")):
        if login.get(ours) is not None:
            keywords[theirs] = login[ours]
    with psycopg.connect(**keywords) as connection:
        return connection.execute("select 1").fetchone()[0]


def by_pg8000(login):
    import pg8000.native

    connection = pg8000.native.Connection(
        login["user"],
        host=login["host"],
        port=login["port"],
        database=login.get("database"),
        password=login.get("password"),
        ssl_context=False if login["sslmode"] == "disable" else tls_context(login),
        timeout=20,
    )
    value = connection.run("select 1")[0][0]
    connection.close()
    return value


def main():
    driver, login = sys.argv[1], json.loads(sys.argv[2])
    try:
        value = {"asyncpg": by_asyncpg, "psycopg": by_psycopg, "pg8000": by_pg8000}[driver](login)
        answer = {"ok": value == 1, "error": None}
    except BaseException as error:  # a driver's crash is an answer too
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


main()
