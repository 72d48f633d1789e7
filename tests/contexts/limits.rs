//! Limits of the role, the database and the server, each held full by real sessions, with an
//! administrator who tells how full.

use std::time::{Duration, Instant};

use super::case::{Case, case, play_all};
use super::stage::conninfo;
use crate::support::DEADLINE;
use crate::support::peer::{V3, Wire};
use crate::support::server::{Plan, Server, Version};

/// A login while sessions of others are held open.
pub struct Row {
    /// User, database, and how many.
    held: Vec<(&'static str, &'static str, usize)>,
    pub case: Case,
}

/// A physical replication connection in place of a database.
const REPLICATION: &str = "(replication)";

/// Eight connections, of which two are for superusers and, since version 16, one for the privileged.
const CONF: &str = "max_connections = 8\nsuperuser_reserved_connections = 2\nmax_wal_senders = 1\n";

const SQL: &str = "
CREATE ROLE app LOGIN; CREATE ROLE holder LOGIN; CREATE ROLE roled LOGIN CONNECTION LIMIT 1;
CREATE ROLE repl LOGIN REPLICATION; CREATE DATABASE tiny CONNECTION LIMIT 1;
";

pub fn rows(version: Version) -> Vec<Row> {
    let full = |kind: &str| -> &'static str {
        match kind {
            "role" => "too_many_connections/role proven",
            "database" => "too_many_connections/database proven",
            "server" => "too_many_connections/server proven",
            "reserved" => "too_many_connections/reserved proven",
            _ => "too_many_connections/walsender proven",
        }
    };
    let row = |held: &[(&'static str, &'static str, usize)], kind: &str, claim: &str, user: &str| Row {
        held: held.to_vec(),
        case: case(claim, user, [], full(kind), full(kind)),
    };
    let (open, kept) = if version == Version::V15 { (6, "2 + 0") } else { (5, "2 + 1") };
    let mut rows = vec![
        row(&[("roled", "postgres", 1)], "role", "the role's only connection is taken", "roled")
            .says("1 of 1 connections of the role"),
        row(&[("holder", "tiny", 1)], "database", "the database's only connection is taken", "app")
            .database("tiny")
            .says("1 of 1 connections of the database"),
        row(&[("holder", "postgres", open)], "reserved", "only reserved connections are left", "app")
            .says(kept),
        // The administrator finds no connection either.
        row(
            &[("holder", "postgres", open), ("postgres", "postgres", 8 - open)],
            "server",
            "all connections are taken",
            "app",
        )
        .says("--admin"),
        row(&[("repl", REPLICATION, 1)], "walsender", "the only WAL sender is taken", "repl")
            .replication()
            .says("1 of 1 WAL senders"),
    ];
    if version == Version::V18 {
        rows.push(
            row(
                &[("holder", "postgres", 5), ("keeper", "postgres", 1)],
                "reserved",
                "the connections reserved for the privileged are taken, too",
                "keeper",
            )
            .says(kept),
        );
    }
    rows
}

impl Row {
    fn says(mut self, text: &'static str) -> Self {
        self.case = self.case.says(text);
        self
    }

    fn database(mut self, name: &str) -> Self {
        self.case = self.case.database(name);
        self
    }

    fn replication(mut self) -> Self {
        self.case = self.case.option("replication", "true");
        self
    }
}

pub fn run(version: Version) {
    let (mut conf, mut sql) = (CONF.to_owned(), SQL.to_owned());
    if version == Version::V18 {
        conf.push_str("reserved_connections = 1\n");
        sql.push_str("CREATE ROLE keeper LOGIN; GRANT pg_use_reserved_connections TO keeper;");
    }
    let hba = "host all all 127.0.0.1/32 trust\nhost replication repl 127.0.0.1/32 trust\n";
    let server = Server::start(version, &Plan { hba: hba.into(), conf, sql, ..Plan::default() });
    let args = ["--admin".to_owned(), conninfo(&server, "postgres")];
    let mut failed = Vec::new();
    for row in rows(version) {
        empty(&server);
        let held: Vec<Wire> = row
            .held
            .iter()
            .flat_map(|(user, database, count)| (0..*count).map(|_| enter(&server, user, database)))
            .collect();
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let name = format!("PostgreSQL {version:?}, limits");
            play_all(&name, vec![row.case], |case| while_held(&held, || case.play(server.port, &args)));
        }));
        if let Err(panic) = played {
            failed.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
    }
    assert!(failed.is_empty(), "{} rows failed:\n{}", failed.len(), failed.join("\n"));
}

/// What it takes is there as long as the work goes on.
fn while_held<T>(_held: &[Wire], work: impl FnOnce() -> T) -> T {
    work()
}

fn enter(server: &Server, user: &str, database: &str) -> Wire {
    let mut wire = Wire::connect(server.addr()).unwrap();
    let more = if database == REPLICATION { ("replication", "true") } else { ("database", database) };
    wire.startup(V3, &[("user", user), more]).unwrap();
    wire.read_until(b'Z').unwrap();
    wire
}

/// Waits until the sessions of the row before are gone.
fn empty(server: &Server) {
    let until = Instant::now() + DEADLINE;
    let others = "select count(*) from pg_stat_activity where pid <> pg_backend_pid() \
                  and backend_type in ('client backend', 'walsender')";
    while server.sql(others).trim() != "0" {
        assert!(Instant::now() < until, "sessions stay");
        std::thread::sleep(Duration::from_millis(20));
    }
}
