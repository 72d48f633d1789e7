"""Uses as many kinds of message as the drivers can send and prints what came back, always the same.

messages.py JSON, with host, port, user, database.
"""

import asyncio
import hashlib
import json
import sys

import asyncpg
import psycopg


def psycopg_session(where):
    conninfo = psycopg.conninfo.make_conninfo(
        host=where["host"], port=where["port"], user=where["user"], dbname=where["database"], sslmode=where["sslmode"]
    )
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.add_notice_handler(lambda notice: print("notice", notice.sqlstate, notice.message_primary))
        print("simple", db.execute("select 1; select 'two'").fetchall())
        print("extended", db.execute("select %s::int8, %s::text", [2**40, "ä€😀"]).fetchall())
        for number in range(8):
            print("prepared", db.execute("select %s::int + 1", [number], prepare=True).fetchall())
        db.execute("do $$ begin raise notice 'noticed'; raise warning 'warned'; end $$")
        try:
            db.execute("select 1/0")
        except psycopg.Error as error:
            print("error", error.sqlstate, error.diag.message_primary, error.diag.source_function)
        db.execute("create temp table t (i int, b bytea, x text)")
        with db.cursor().copy("copy t from stdin") as copy:
            for number in range(5000):
                copy.write_row((number, bytes([number % 256]) * 100, "x" * (number % 300)))
        digest = hashlib.sha256()
        with db.cursor().copy("copy t to stdout (format binary)") as copy:
            for data in copy:
                digest.update(data)
        print("copy", digest.hexdigest())
        try:
            with db.cursor().copy("copy t from stdin") as copy:
                copy.write("not\tenough\n")
        except psycopg.Error as error:
            print("copy error", error.sqlstate)
        try:
            with db.cursor().copy("copy t from stdin") as copy:
                raise KeyError("the client breaks off")
        except KeyError:
            print("copy broken off", db.info.transaction_status.name)
        with db.transaction():
            with db.cursor("portal") as cursor:
                cursor.execute("select i from t order by i")
                print("portal", cursor.fetchmany(3), cursor.fetchmany(2))
        with db.pipeline() as pipeline:
            cursors = [db.execute("select %s::int * 2", [number]) for number in range(20)]
            pipeline.sync()
            print("pipeline", [cursor.fetchone()[0] for cursor in cursors])
        print("stream", sum(row[0] for row in db.cursor().stream("select i from t")))
        big = db.execute("select repeat('y', 20000000)").fetchone()[0]
        print("large", len(big), hashlib.sha256(big.encode()).hexdigest())
        print("large parameter", db.execute("select length(%s::text)", ["z" * 10_000_000]).fetchall())
        db.execute("listen bell")
        db.execute("notify bell, 'ring'")
        for note in db.notifies(timeout=20, stop_after=1):
            print("notify", note.channel, note.payload)
        print("status", db.execute("set application_name to 'renamed'").statusmessage, db.info.parameter_status("application_name"))


async def asyncpg_session(where):
    db = await asyncpg.connect(
        host=where["host"], port=where["port"], user=where["user"], database=where["database"],
        ssl={"disable": False}.get(where["sslmode"], where["sslmode"]),
    )
    db.add_log_listener(lambda _, message: print("log", message.sqlstate, message.message))
    print("fetch", await db.fetch("select $1::int[] a, $2::jsonb j", [1, 2, 3], "{}"))
    await db.executemany("select $1::int", [(number,) for number in range(100)])
    async with db.transaction():
        print("cursor", [row["g"] async for row in db.cursor("select g from generate_series(1, 120) g")][-3:])
    heard = asyncio.get_running_loop().create_future()
    await db.add_listener("gong", lambda *message: heard.done() or heard.set_result(message[2:]))
    await db.execute("notify gong, 'once'")
    print("heard", await asyncio.wait_for(heard, 20))
    try:
        await db.fetch("select pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        print("cancelled by a timeout, and still usable:", await db.fetchval("select 7"))
    await db.close()


def cancel(where):
    import threading

    with psycopg.connect(
        host=where["host"], port=where["port"], user=where["user"], dbname=where["database"],
        sslmode=where["sslmode"], autocommit=True,
    ) as db:
        threading.Thread(target=cancel_when_active, args=(db, where)).start()
        try:
            db.execute("select pg_sleep(60)")
        except psycopg.Error as error:
            print("cancelled", error.sqlstate)


def cancel_when_active(db, where):
    """The other connection sees the query run before the cancel request goes out."""
    with psycopg.connect(
        host=where["host"], port=where["port"], user=where["user"], dbname=where["database"], autocommit=True
    ) as other:
        active = "select count(*) from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
        while other.execute(active, [db.info.backend_pid]).fetchone()[0] == 0:
            pass
    db.cancel_safe(timeout=20)


def main():
    where = json.loads(sys.argv[1])
    psycopg_session(where)
    asyncio.run(asyncpg_session(where))
    cancel(where)


main()
