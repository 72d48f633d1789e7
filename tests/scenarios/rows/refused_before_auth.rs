//! The server refuses before it asks for anything: pg_hba.conf, capacity, state.

use std::any::Any;

use rustix::process::Signal;

use crate::At;
use crate::row::{Expect, Row, failed, row};
use crate::support::client::Who;
use crate::support::peer::Wire;
use crate::support::server::{Server, Version};

pub fn rows() -> Vec<Row> {
    let mut rows = pg_hba();
    rows.extend(capacity());
    rows.extend(state());
    rows.extend(in_german());
    rows
}

/// One plaintext attempt that pg_hba.conf refuses: nothing on the wire but the line number of the
/// source says "no entry" or "reject", and nothing at all whether TLS would get further.
fn refused_in_plaintext() -> Expect {
    failed("auth_request", "hba_no_entry")
        .variant("*")
        .unproven()
        .sqlstate("28000")
        .alternative("hba_requires_tls")
        .or(failed("auth_request", "hba_requires_tls")
            .variant("*")
            .unproven()
            .sqlstate("28000")
            .alternative("hba_no_entry"))
}

fn pg_hba() -> Vec<Row> {
    vec![
        row("no line matches the database").database("d_none").expect(refused_in_plaintext()),
        row("no line matches, with node-postgres")
            .by(Who::Pg)
            .database("d_none")
            .expect(refused_in_plaintext()),
        row("no line matches, with postgres.js")
            .by(Who::PostgresJs)
            .database("d_none")
            .expect(refused_in_plaintext()),
        row("no line matches, with asyncpg")
            .by(Who::Asyncpg)
            .database("d_none")
            .expect(refused_in_plaintext()),
        row("only a hostssl line matches and the client never asks for TLS")
            .by(Who::Pg)
            .database("d_ssl")
            .expect(refused_in_plaintext()),
        // Its own source line is the only difference; a table of those lines may know it, or not.
        row("a reject line matches").database("d_reject").expect(
            failed("auth_request", "hba_reject").sqlstate("28000").or(failed(
                "auth_request",
                "hba_no_entry|hba_requires_tls",
            )
            .variant("*")
            .unproven()
            .alternative("hba_reject")),
        ),
        row("`all` does not match a replication connection")
            .user("anydb")
            .option("replication", "true")
            .expect(
                failed("auth_request", "hba_no_entry").variant("replication").unproven().sqlstate("28000"),
            ),
        row("an ident line and no ident server")
            .database("d_ident")
            .expect(failed("auth_request", "ident_failed").provable().sqlstate("28000")),
        row("a peer line and another user")
            .at(At::MainSocket)
            .database("d_peer")
            .expect(failed("auth_request", "ident_failed").provable().sqlstate("28000")),
    ]
}

fn capacity() -> Vec<Row> {
    let too_many = |step, variant| {
        failed(step, "too_many_connections").variant(variant).provable().sqlstate("53300").leg("server")
    };
    vec![
        row("all connection slots are taken")
            .at(At::Full)
            .prepare(fill_all)
            .expect(too_many("auth_request", "server")),
        row("all connection slots are taken, with node-postgres")
            .at(At::Full)
            .by(Who::Pg)
            .prepare(fill_all)
            .expect(too_many("auth_request", "server")),
        row("only the reserved slots are left")
            .at(At::Full)
            .prepare(fill_unreserved)
            .expect(too_many("session_setup", "reserved")),
        row("the role has reached its limit").user("app_limited").expect(too_many("session_setup", "role")),
        row("the database has reached its limit")
            .database("d_limited")
            .expect(too_many("session_setup", "database")),
        row("the server takes no replication connections")
            .at(At::Full)
            .prepare(|_| Box::new(()))
            .user("app_repl")
            .option("replication", "true")
            .expect(too_many("auth_request|session_setup", "walsender")),
    ]
}

fn fill_all(server: &Server) -> Box<dyn Any> {
    fill(server, "postgres", 5)
}

fn fill_unreserved(server: &Server) -> Box<dyn Any> {
    fill(server, "trust_any", 3)
}

/// Holds so many sessions. Those of an earlier row may still be leaving: then it tries again.
fn fill(server: &Server, user: &str, count: usize) -> Box<dyn Any> {
    let began = std::time::Instant::now();
    let mut held = Vec::new();
    while held.len() < count {
        match Wire::log_in_by_trust(server.addr(), user, "postgres") {
            Ok(wire) => held.push(wire),
            Err(error) => {
                assert!(began.elapsed() < crate::support::DEADLINE, "the server can't be filled: {error}")
            }
        }
    }
    Box::new(held)
}

fn state() -> Vec<Row> {
    // All states share one SQLSTATE and routine: in a language that nobody knows no variant is honest, and a wrong
    // one is not.
    let not_accepting =
        |variant| failed("auth_request", "server_not_accepting").variant(variant).proven().sqlstate("57P03");
    vec![
        row("the server is starting up").at(At::Starting).expect(not_accepting("starting_up|recovery|-")),
        row("the server is shutting down")
            .at(At::Stopping)
            .prepare(stop_smartly)
            .expect(not_accepting("shutting_down|-")),
        row("the server is shutting down, and says so in German")
            .only(Version::V15)
            .at(At::StoppingInGerman)
            .prepare(stop_in_german)
            .expect(not_accepting("shutting_down")),
        row("the standby takes no connections").at(At::Standby).expect(not_accepting("standby|-")),
        row("the standby takes no connections, with node-postgres")
            .at(At::Standby)
            .by(Who::Pg)
            .expect(not_accepting("standby|-")),
    ]
}

fn stop_smartly(server: &Server) -> Box<dyn Any> {
    stop(server, "received smart shutdown request")
}

fn stop_in_german(server: &Server) -> Box<dyn Any> {
    stop(server, "intelligentes Herunterfahren")
}

fn stop(server: &Server, logged: &'static str) -> Box<dyn Any> {
    let held = Wire::log_in_by_trust(server.addr(), "postgres", "postgres").expect("a session");
    server.signal(Signal::TERM);
    assert!(server.wait_log(|line| line.contains(logged)), "{}", server.log_text());
    Box::new(held)
}

/// The same verdicts from a server whose texts are German.
fn in_german() -> Vec<Row> {
    let german = |claim: &str| row(format!("in German: {claim}")).only(Version::V15).at(At::German);
    vec![
        german("a wrong password")
            .password(crate::row::WRONG)
            .expect(failed("scram_client_final", "password_rejected").possible().sqlstate("28P01")),
        german("no line matches").database("d_none").expect(refused_in_plaintext()),
        german("an ident line").database("d_ident").expect(failed("auth_request", "ident_failed").provable()),
        german("no such database")
            .user("anydb")
            .database("d_gibts_nicht")
            .expect(failed("session_setup", "database_missing").variant("absent").proven()),
        german("the role may not log in")
            .user("app_nologin")
            .expect(failed("session_setup", "role_cannot_login").proven()),
        german("the role has reached its limit")
            .user("app_limited")
            .expect(failed("session_setup", "too_many_connections").variant("role").provable()),
        german("the database has reached its limit")
            .database("d_limited")
            .expect(failed("session_setup", "too_many_connections").variant("database").provable()),
        german("the database is closed")
            .database("d_closed")
            .expect(failed("session_setup", "database_not_accepting").proven()),
        german("no right to connect")
            .database("d_private")
            .expect(failed("session_setup", "connect_privilege_missing").proven()),
        german("a setting that does not exist")
            .by(Who::Asyncpg)
            .setting("schema", "public")
            .expect(failed("session_setup", "startup_parameter_refused").variant("unknown").proven()),
        // Only the text says that it is missing and not forbidden to log in: in German that is lost.
        german("a role that does not exist on a trust line")
            .user("ghost")
            .database("d_trust")
            .expect(failed("session_setup", "role_missing").variant("absent|-").provable()),
        german("quotes kept around the password")
            .password("\"correct-pw-7Q\"")
            .knows(crate::row::RIGHT)
            .expect(failed("scram_client_final", "password_mismatch").variant("quotes_kept").proven()),
    ]
}
