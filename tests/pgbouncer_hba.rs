//! PgBouncer reads `auth_hba_file` with a parser of its own: where it differs from PostgreSQL's reading of
//! pg_hba.conf, and what is said about its refusals. The rules stand in docs/hba.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, dead_code, reason = "a test has no public face, and shares its workshop")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use pgwhy::hba::{Connection, Files, Server as Reader, Verdict, World, decide, parse};
use support::client::{Login, Who};
use support::keeper::{self, Scratch};
use support::port::Port;
use support::proxy::Proxy;
use support::server::{Plan, Server, Version, as_postgres, give_to_postgres};
use support::{DEADLINE, install};

/// A running PgBouncer with a file of rules.
struct Bouncer {
    port: u16,
    _reserved: Port,
    child: Child,
}

impl Bouncer {
    fn start(server: &Server, dir: &Scratch, rules: &Path) -> Self {
        let program = install::need("pgbouncer", "apt-get install pgbouncer");
        let users = dir.write("users.txt", "\"app\" \"r1ght-pass\"\n\"Mixed\" \"r1ght-pass\"\n");
        give_to_postgres(&users);
        let reserved = Port::reserve();
        let port = reserved.number;
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = hba\nauth_hba_file = {}\n\
             auth_file = {}\nlogfile =\npidfile =\n",
            server.port,
            rules.display(),
            users.display()
        );
        let ini = dir.write("pgbouncer.ini", ini);
        let mut command = as_postgres(&program);
        command.arg(ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pgbouncer can be run");
        keeper::watch(child.id());
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("process up")), "pgbouncer does not start");
        // Somebody has to read on, or the pipe fills and it stops.
        std::thread::spawn(move || lines.for_each(drop));
        Self { port, _reserved: reserved, child }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let id = self.child.id();
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
        let _ = self.child.wait();
        keeper::forget(id);
    }
}

/// What PostgreSQL would make of the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Postgres {
    /// It would ask for a password, or for nothing.
    Asks,
    /// That depends on names and interfaces.
    Depends,
    /// It has no line, or rejects.
    Refuses,
    /// It would not take the file.
    NotLoaded,
}

struct Row {
    claim: &'static str,
    rules: &'static str,
    user: &'static str,
    /// PgBouncer lets the right password in.
    enters: bool,
    postgres: Postgres,
}

fn rows() -> Vec<Row> {
    let row = |claim, rules, enters, postgres| Row { claim, rules, user: "app", enters, postgres };
    use Postgres::{Asks, Depends, NotLoaded, Refuses};
    vec![
        row("a plain line means the same", "host all all 127.0.0.1/32 scram-sha-256\n", true, Asks),
        row(
            "a reject line means the same",
            "host all app 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n",
            false,
            Refuses,
        ),
        row("no line means the same", "host all all 10.0.0.0/8 scram-sha-256\n", false, Refuses),
        row(
            "a broken line is passed over, and the rest of the file counts",
            "host all all 127.0.0.1/99 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
            true,
            NotLoaded,
        ),
        row("a broken line alone is no line", "host all all 127.0.0.1 trust\n", false, NotLoaded),
        row(
            "groups are not known: the line is passed over",
            "host all +staff,app 127.0.0.1/32 scram-sha-256\n",
            false,
            Asks,
        ),
        row(
            "samerole is not known: the line is passed over",
            "host samerole,all all 127.0.0.1/32 scram-sha-256\n",
            false,
            Asks,
        ),
        row("sameuser is known", "host sameuser all 127.0.0.1/32 scram-sha-256\n", true, Asks),
        row(
            "host names are not known: the line is passed over",
            "host all all localhost scram-sha-256\n",
            false,
            Depends,
        ),
        row(
            "samehost is not known: the line is passed over",
            "host all all samehost scram-sha-256\n",
            false,
            Depends,
        ),
        row(
            "lines for GSSAPI are not known: they are passed over",
            "hostnogssenc all all 127.0.0.1/32 scram-sha-256\n",
            false,
            Asks,
        ),
        row(
            "options are not known: the line is passed over",
            "host all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n",
            false,
            NotLoaded,
        ),
        row(
            "methods that PgBouncer lacks: the line is passed over",
            "host all all 127.0.0.1/32 gss\nhost all all 127.0.0.1/32 trust\n",
            true,
            Asks,
        ),
        row(
            "include is not known: the line is passed over",
            "include more.conf\nhost all all 127.0.0.1/32 scram-sha-256\n",
            true,
            NotLoaded,
        ),
        row(
            "a line is not continued",
            "host all all \\\n127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 reject\n",
            false,
            Asks,
        ),
        row(
            "an address with bits behind its mask never matches",
            "host all all 127.0.0.1/8 scram-sha-256\n",
            false,
            Asks,
        ),
        row("quotes keep a keyword a name", "host all \"all\" 127.0.0.1/32 scram-sha-256\n", false, Refuses),
        Row {
            user: "Mixed",
            ..row(
                "names in quotes keep their case",
                "host all \"Mixed\" 127.0.0.1/32 scram-sha-256\n",
                true,
                Asks,
            )
        },
        row("a regular expression is a name", "host all /^a 127.0.0.1/32 scram-sha-256\n", false, Asks),
        row("keywords in capitals are names", "host ALL all 127.0.0.1/32 scram-sha-256\n", false, Refuses),
    ]
}

/// By pgwhy's reading, which is held against real servers elsewhere.
fn by_postgres(row: &Row) -> Postgres {
    let read = |_: &Path| Ok(row.rules.as_bytes().to_vec());
    let list = |_: &Path| Ok(Vec::new());
    let file = parse(Path::new("rules"), &Files { read: &read, list: &list }, &Reader::of_version(18));
    if !file.would_load {
        return Postgres::NotLoaded;
    }
    let mut world = World::default();
    world.roles.members.entry("staff".into()).or_default().insert("app".into());
    let connection = Connection {
        address: Some([127, 0, 0, 1].into()),
        user: row.user.to_owned(),
        database: row.user.to_owned(),
        ..Connection::default()
    };
    let decision = decide(&file, &connection, &world);
    if !decision.certain {
        return Postgres::Depends;
    }
    match decision.verdict {
        Verdict::Trust | Verdict::Asks(_) => Postgres::Asks,
        Verdict::NoEntry | Verdict::Reject => Postgres::Refuses,
    }
}

fn log_in(upstream: &str, rules: &Path, row: &Row, password: &str) -> (bool, Value) {
    let args = ["--hba".to_owned(), rules.display().to_string()];
    let mut proxy = Proxy::start(upstream, &args);
    let login = Login {
        user: row.user.to_owned(),
        password: Some(password.to_owned()),
        database: Some(row.user.to_owned()),
        ..Login::default()
    };
    let answer = Who::Psql.log_in(proxy.addr, &login);
    let seen = proxy.wait_handshakes(1, DEADLINE);
    proxy.finish();
    (answer.ok, seen.into_iter().next().expect("a report"))
}

fn check(server: &Server, row: &Row) -> Vec<String> {
    let dir = Scratch::new();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let rules = dir.write("rules", row.rules);
    give_to_postgres(&rules);
    let bouncer = Bouncer::start(server, &dir, &rules);
    let mut faults = Vec::new();
    let (ok, seen) = log_in(&format!("127.0.0.1:{}", bouncer.port), &rules, row, "r1ght-pass");
    if ok != row.enters {
        faults.push(format!("PgBouncer lets it in: {ok}"));
    }
    let cause = seen["cause"].as_str().unwrap_or("-");
    let right = match row.enters {
        true => seen["outcome"] == "ok",
        // What PgBouncer says for itself is proven, and its file is never said not to be reloaded.
        false => cause == "middle_refused" && seen["variant"] == "allow_list",
    };
    if !right {
        faults.push(format!("reported as {cause}/{} {}", seen["variant"], seen["evidence"]));
    }
    if by_postgres(row) != row.postgres {
        faults.push(format!("PostgreSQL: {:?}", by_postgres(row)));
    }
    faults.into_iter().map(|fault| format!("{}: {fault}", row.claim)).collect()
}

#[test]
fn pgbouncer_reads_a_file_of_rules_in_its_own_way() {
    let sql =
        "CREATE ROLE app LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE \"Mixed\" LOGIN PASSWORD 'r1ght-pass';
        CREATE DATABASE app; CREATE DATABASE \"Mixed\";";
    let hba = "host all all 127.0.0.1/32 scram-sha-256\n".into();
    let server = Server::start(Version::V15, &Plan { hba, sql: sql.into(), ..Plan::default() });
    let faults: Vec<String> = rows().iter().flat_map(|row| check(&server, row)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_wrong_password_at_pgbouncer_is_not_held_against_the_file() {
    let server = Server::start(Version::V15, &Plan::default());
    let row = Row {
        claim: "",
        // PostgreSQL would reject; PgBouncer passes the line over and asks.
        rules: "host all +nobody,app 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n",
        user: "app",
        enters: false,
        postgres: Postgres::Refuses,
    };
    let dir = Scratch::new();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let rules = dir.write("rules", row.rules);
    give_to_postgres(&rules);
    let bouncer = Bouncer::start(&server, &dir, &rules);
    let upstream = format!("127.0.0.1:{}", bouncer.port);
    let (ok, seen) = log_in(&upstream, &rules, &row, "wr0ng-pass");
    assert!(!ok && seen["confidence"] != "proven" && seen["cause"] != "hba_not_reloaded", "{seen}");
    // What the client sent is known, whoever refused it.
    let upstream = format!("postgres://app:r1ght-pass@127.0.0.1:{}/", bouncer.port);
    let (ok, seen) = log_in(&upstream, &rules, &row, "\"r1ght-pass\"");
    assert!(!ok && seen["cause"] == "password_mismatch" && seen["variant"] == "quotes_kept", "{seen}");
    assert!(!seen["evidence"].to_string().contains("pg_hba.conf"), "{seen}");
}
