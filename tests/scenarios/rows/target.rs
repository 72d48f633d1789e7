//! Behind ReadyForQuery: the server is of another kind than the client wants.

use crate::row::{At, Expect, Row, failed, ok, row};
use crate::support::client::Who;
use crate::support::peer::{V3, Wire};

const ATTRS: &str = "target_session_attrs";

pub fn rows() -> Vec<Row> {
    let unwanted = || failed("ready", "target_session_mismatch").leg("client").alternative("not_a_client");
    let likely = || unwanted().confidence("likely");
    let mut rows = vec![
        reader("psql wants to write and the role is read-only by default")
            .option(ATTRS, "read-write")
            .expect(likely()),
        reader("psql tries a list of hosts, all of them read-only")
            .option("host", "127.0.0.1,127.0.0.1")
            .option(ATTRS, "read-write")
            .expect(likely())
            .expect(likely()),
        standby("psql wants a primary and reaches a standby").option(ATTRS, "primary").expect(likely()),
        standby("psql wants to write and reaches a standby").option(ATTRS, "read-write").expect(likely()),
        standby("psycopg wants a primary and reaches a standby")
            .by(Who::Psycopg)
            .option(ATTRS, "primary")
            .expect(likely()),
        standby("asyncpg wants a primary and reaches a standby")
            .by(Who::Asyncpg)
            .option(ATTRS, "primary")
            .expect(likely()),
        // It looks at no settings: it asks.
        standby("tokio-postgres wants to write and reaches a standby")
            .by(Who::TokioPostgres)
            .option(ATTRS, "read-write")
            .expect(likely()),
        reader("postgres.js wants to write and the role is read-only by default")
            .by(Who::PostgresJs)
            .url_query("?target_session_attrs=read-write")
            .expect(likely()),
    ];
    rows.extend(content());
    rows.extend(without_settings(unwanted));
    rows
}

/// The client stays, or nothing tells that it wanted another kind.
fn content() -> Vec<Row> {
    vec![
        standby("psql wants a standby and has one").option(ATTRS, "standby").expect(ok()),
        standby("psql does not mind a standby").expect(ok()),
        standby("node-postgres does not mind a standby").by(Who::Pg).expect(ok()),
        reader("psql wants a primary, and read-only by default is one").option(ATTRS, "primary").expect(ok()),
        standby("pg_isready logs in and leaves, as always")
            .by(Who::Raw(|wire| {
                wire.startup(
                    V3,
                    &[("user", "trust_any"), ("database", "d_trust"), ("application_name", "pg_isready")],
                )?;
                wire.read_until(b'Z')?;
                leave(wire)
            }))
            .expect(ok()),
        standby("a client asks another question first")
            .by(Who::Raw(|wire| {
                enter(wire)?;
                ask(wire, "select 1")?;
                leave(wire)
            }))
            .expect(ok()),
        standby("a client asks what it has reached, and stays")
            .by(Who::Raw(|wire| {
                enter(wire)?;
                ask(wire, "SHOW transaction_read_only")?;
                ask(wire, "select 1")?;
                leave(wire)
            }))
            .expect(ok()),
        // One that wanted a standby does the same: but so does every check whether a login works.
        row("a client leaves a primary at once")
            .by(Who::Raw(|wire| enter(wire).and_then(|()| leave(wire))))
            .expect(ok()),
        standby("a client is cut off without Terminate").by(Who::Raw(enter)).expect(ok()),
    ]
}

/// A server of before version 14, or a pooler: it tells nothing of its kind, so clients ask.
fn without_settings(unwanted: impl Fn() -> Expect) -> Vec<Row> {
    let old = |claim: &str, who| row(claim).at(At::Fake(old_server)).by(Who::Raw(who));
    vec![
        old("a client asks an old server for its kind, and leaves", |wire| {
            enter(wire)?;
            ask(wire, "SHOW transaction_read_only")?;
            leave(wire)
        })
        .expect(unwanted().confidence("likely")),
        old("a client asks by the extended protocol, and leaves", |wire| {
            enter(wire)?;
            wire.message(b'P', b"\0show transaction_read_only\0\0\0")?;
            wire.message(b'S', b"")?;
            wire.read_until(b'Z')?;
            leave(wire)
        })
        .expect(unwanted().confidence("likely")),
        old("a client leaves an old server at once", |wire| enter(wire).and_then(|()| leave(wire)))
            .expect(ok()),
        old("a client stays at an old server", |wire| enter(wire).and_then(|()| ask(wire, "select 1")))
            .expect(ok()),
    ]
}

fn reader(claim: &str) -> Row {
    row(claim).user("app_reader")
}

fn standby(claim: &str) -> Row {
    row(claim).at(At::HotStandby)
}

fn enter(wire: &mut Wire) -> std::io::Result<()> {
    wire.startup(V3, &[("user", "trust_any"), ("database", "d_trust")])?;
    wire.read_until(b'Z').map(drop)
}

fn ask(wire: &mut Wire, query: &str) -> std::io::Result<()> {
    wire.message(b'Q', format!("{query}\0").as_bytes())?;
    wire.read_until(b'Z').map(drop)
}

fn leave(wire: &mut Wire) -> std::io::Result<()> {
    wire.message(b'X', b"")?;
    wire.end()
}

/// Lets everybody in, and answers `on` to everything.
fn old_server(wire: &mut Wire) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.message(b'R', &[0; 4])?;
    wire.message(b'S', b"server_version\x0013.20\0")?;
    wire.message(b'Z', b"I")?;
    loop {
        match wire.read_message()?.0 {
            b'X' => return Ok(()),
            b'Q' | b'S' => {
                wire.message(
                    b'T',
                    b"\0\x01transaction_read_only\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
                )?;
                wire.message(b'D', b"\0\x01\0\0\0\x02on")?;
                wire.message(b'C', b"SHOW\0")?;
                wire.message(b'Z', b"I")?;
            }
            _ => {}
        }
    }
}
