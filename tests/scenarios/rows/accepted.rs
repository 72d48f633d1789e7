//! Logins that work, by every method and every client.

use crate::At;
use crate::row::{Expect, RIGHT, Row, cancel, ok, opaque, row};
use crate::support::client::Who;
use crate::support::peer::{GSS_REQUEST, V3, Wire};
use crate::support::server::Version;

const SCRAM: &str = "scram-sha-256";

pub fn rows() -> Vec<Row> {
    let mut rows = by_every_client();
    rows.extend(by_every_method());
    rows.extend(by_other_roads());
    rows
}

fn scram() -> Expect {
    ok().method(SCRAM)
}

fn by_every_client() -> Vec<Row> {
    vec![
        row("psql logs in by SCRAM").expect(scram().driver("psql|libpq")),
        row("node-postgres logs in by SCRAM").by(Who::Pg).expect(scram().driver("node-postgres")),
        row("postgres.js logs in by SCRAM").by(Who::PostgresJs).expect(scram().driver("postgres.js")),
        row("asyncpg logs in by SCRAM").by(Who::Asyncpg).expect(scram().driver("asyncpg")),
        row("asyncpg 0.30 logs in by SCRAM").by(Who::Asyncpg030).expect(scram().driver("asyncpg")),
        // Nothing that psycopg sends tells it from another program on libpq.
        row("psycopg logs in by SCRAM").by(Who::Psycopg).expect(scram().driver("libpq|psycopg")),
        row("pg8000 logs in by SCRAM").by(Who::Pg8000).expect(scram().driver("pg8000")),
        row("pgjdbc logs in by SCRAM").by(Who::Pgjdbc).expect(scram().driver("pgjdbc")),
        // Its pair of client_encoding first and unquoted is tokio-postgres's alone among the known.
        row("tokio-postgres logs in by SCRAM")
            .by(Who::TokioPostgres)
            .expect(scram().driver("tokio-postgres")),
    ]
}

fn by_every_method() -> Vec<Row> {
    vec![
        row("a trust line asks for nothing").user("trust_any").no_password().database("d_trust").expect(ok()),
        row("md5 works").user("app_md5").database("d_md5").expect(ok().method("md5").warning("*")),
        row("md5 works with node-postgres 7.8")
            .by(Who::Pg7)
            .user("app_md5")
            .database("d_md5")
            .expect(ok().method("md5")),
        row("a cleartext line works")
            .user("app_clear")
            .database("d_clear")
            .expect(ok().method("password|cleartext")),
        row("an md5 line asks a role with a SCRAM secret for SCRAM").database("d_md5").expect(scram()),
        row("a login with the expected password is only a login").knows(RIGHT).expect(scram()),
        row("a wrong expected password does not make a login fail").knows("not-the-pw-5T").expect(scram()),
        row("libpq prepares a decomposed password as the server does")
            .role("prepped", "p\u{e4}ssword-3Z")
            .password("pa\u{308}ssword-3Z")
            .expect(scram()),
        row("a role that may replicate opens a replication connection")
            .user("app_repl")
            .option("replication", "database")
            .expect(scram()),
        row("options with a setting reach the server").option("options", "-c geqo=off").expect(scram()),
    ]
}

fn by_other_roads() -> Vec<Row> {
    vec![
        row("a server's Unix socket is an upstream").at(At::MainSocket).expect(scram()),
        row("TLS that is passed through works and is opaque").sslmode("require").expect(opaque()),
        row("TLS that is passed through keeps channel binding")
            .sslmode("require")
            .option("channel_binding", "require")
            .expect(opaque()),
        row("direct TLS works where the server knows it")
            .only(Version::V18)
            .by(Who::Psycopg)
            .sslmode("require")
            .option("sslnegotiation", "direct")
            .expect(opaque()),
        row("client-tls disable lets libpq's prefer go on in plaintext")
            .sslmode("prefer")
            .args(&["--client-tls", "disable"])
            .expect(scram()),
        row("a server without TLS lets libpq's prefer go on in plaintext")
            .at(At::Plain)
            .sslmode("prefer")
            .expect(scram()),
        row("libpq's first try over TLS fails and its second in plaintext works")
            .database("d_nossl")
            .sslmode("prefer")
            .expect(opaque())
            .expect(scram()),
        row("libpq 18 speaks protocol 3.2")
            .by(Who::Psycopg)
            .option("max_protocol_version", "latest")
            .expect(scram()),
        row("libpq asks for Kerberos encryption, is told no, and goes on")
            .only(Version::V18)
            .user("trust_any")
            .no_password()
            .database("d_trust")
            .by(Who::Raw(|wire| {
                wire.send(GSS_REQUEST)?;
                assert_eq!(wire.read(1)?, b"N");
                wire.startup(V3, &[("user", "trust_any"), ("database", "d_trust")])?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(ok()),
        row("a startup packet that comes byte by byte is a startup packet")
            .by(Who::Raw(|wire| {
                let bytes =
                    crate::support::peer::startup(V3, &[("user", "trust_any"), ("database", "d_trust")]);
                for byte in bytes {
                    wire.send(&[byte])?;
                }
                wire.read_until(b'Z').map(drop)
            }))
            .expect(ok()),
        row("a cancel request is no login").by(Who::Raw(cancel_nobody)).expect(cancel()),
    ]
}

fn cancel_nobody(wire: &mut Wire) -> std::io::Result<()> {
    wire.send(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02")?;
    wire.read_to_end().map(drop)
}
