//! The administrator's connection against real servers and against servers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

#[path = "admin/tls.rs"]
mod encrypted;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgwhy::app::admin::{Admin, AdminProblem};
use pgwhy::diagnose::admin::{AdminFacts, Answer, Salt, SecretKind, ValidUntil};
use support::peer::{FakeServer, Wire, error};
use support::server::{Plan, Server, Version};

const VERSIONS: [Version; 2] = [Version::V15, Version::V18];

/// Long enough for a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(20);

const SQL: &str = r#"
CREATE ROLE normal LOGIN PASSWORD 'right' CONNECTION LIMIT 3;
CREATE ROLE nologin PASSWORD 'right';
CREATE ROLE nopassword LOGIN;
CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01 00:00:00Z';
CREATE ROLE forever LOGIN PASSWORD 'right' VALID UNTIL 'infinity';
CREATE ROLE never LOGIN PASSWORD 'right' VALID UNTIL '-infinity';
CREATE ROLE "CamelCase" LOGIN PASSWORD 'right';
CREATE ROLE "with blank " LOGIN;
CREATE ROLE "a23456789012345678901234567890123456789012345678901234567890123" LOGIN;
CREATE ROLE grand; CREATE ROLE parent IN ROLE grand; CREATE ROLE child LOGIN IN ROLE parent;
SET password_encryption = 'md5'; CREATE ROLE md5role LOGIN PASSWORD 'right'; RESET password_encryption;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE plain LOGIN;
CREATE DATABASE "Shop" CONNECTION LIMIT 7; REVOKE CONNECT ON DATABASE "Shop" FROM PUBLIC;
GRANT CONNECT ON DATABASE "Shop" TO normal;
CREATE DATABASE closed ALLOW_CONNECTIONS false;
CREATE SCHEMA lie; CREATE TABLE lie.pg_authid (rolname text);
ALTER DATABASE postgres SET search_path = lie, public;
"#;

fn server(version: Version) -> Server {
    let hba = "host all normal,child 127.0.0.1/32 scram-sha-256\n\
               host Shop +grand 10.0.0.0 255.0.0.0 ident map=\"m\"\n\
               host all all ::1/128 nonsense\n";
    // The broken line goes in after the start: a server does not start with it.
    let server = Server::start(version, &Plan { sql: SQL.into(), ..Plan::default() });
    let text = format!("local all all trust\n{hba}");
    std::fs::write(server.data().join("pg_hba.conf"), text).unwrap();
    server
}

fn trusting(version: Version) -> Server {
    let hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n".into();
    Server::start(version, &Plan { hba, sql: SQL.into(), ..Plan::default() })
}

fn admin_as(server: &Server, user: &str) -> Admin {
    let dir = server.socket_dir().display();
    Admin::new(&format!("host='{dir}' port={} user={user} dbname=postgres", server.port)).unwrap()
}

#[track_caller]
fn ask(admin: &Admin, user: &str, database: &str) -> Arc<AdminFacts> {
    admin.ask(user, database, PATIENT).unwrap()
}

#[test]
fn the_hba_command_asks_for_memberships() {
    let server = trusting(Version::V15);
    let file = support::keeper::Scratch::new();
    let path = file.path().join("pg_hba.conf");
    std::fs::write(&path, "host all +grand 10.0.0.0/8 reject\nhost samerole all 10.0.0.0/8 md5\n").unwrap();
    let admin = format!("host='{}' port={} user=postgres", server.socket_dir().display(), server.port);
    let decide = |user: &str, database: &str, admin: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pgwhy"));
        command.arg("hba").arg(&path).args(["--addr", "10.0.0.1", "--user", user, "--database", database]);
        let output = command.args(["--format", "json", "--admin", admin]).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let decision = &value["decision"];
        (
            decision["verdict"].as_str().unwrap().to_owned(),
            decision["certain"].as_bool().unwrap(),
            output.stderr,
        )
    };
    for (user, database, verdict) in [
        ("child", "postgres", "reject"),
        ("normal", "grand", "no_entry"),
        ("monitor", "pg_monitor", "asks"),
        ("monitor", "monitor", "asks"),
        ("missing", "missing", "no_entry"),
    ] {
        assert_eq!(
            decide(user, database, &admin),
            (verdict.into(), true, Vec::new()),
            "{user} to {database}"
        );
    }
    let (_, certain, told) = decide("child", "postgres", "postgres://a:hunter2@127.0.0.1:1/d");
    let told = String::from_utf8(told).unwrap();
    assert!(!certain && told.contains("--admin") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_superuser_sees_every_kind_of_role() {
    for version in VERSIONS {
        let server = trusting(version);
        let admin = admin_as(&server, "postgres");
        let facts = ask(&admin, "normal", "Shop");
        assert_eq!(facts.unseen, Vec::<String>::new());
        assert_eq!(facts.connected_as, "postgres");
        let wanted = if version == Version::V15 { 150_000 } else { 180_000 };
        assert_eq!(facts.server_version_num / 10_000 * 10_000, wanted);
        let role = facts.known_role().expect("it is there");
        assert!(role.can_login && !role.superuser && !role.replication && !role.expired);
        assert_eq!((role.connection_limit, role.valid_until), (Some(3), ValidUntil::Always));
        assert_eq!((role.fits("right"), role.fits("wrong")), (Some(true), Some(false)));
        let Some(SecretKind::Scram { iterations: 4096, salt }) = role.secret_kind() else {
            panic!("{role:?}")
        };
        assert_eq!(role.salt_on_wire(salt), Some(Salt::Real));
        assert_eq!(role.salt_on_wire(b"other"), Some(Salt::Other));
        let stored = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'normal'");
        let shown = format!("{facts:?}");
        assert!(stored.split(['$', ':']).all(|piece| piece.len() < 20 || !shown.contains(piece)), "{shown}");

        let role = |name: &str| ask(&admin, name, "postgres").known_role().cloned();
        assert!(role("missing").is_none());
        assert!(!role("nologin").unwrap().can_login);
        assert!(role("nopassword").unwrap().has_no_password());
        let expired = role("expired").unwrap();
        assert!(expired.expired);
        assert_eq!(expired.valid_until, ValidUntil::Until(1_577_836_800_000));
        let forever = role("forever").unwrap();
        assert_eq!((forever.expired, forever.valid_until), (false, ValidUntil::Always));
        let never = role("never").unwrap();
        assert_eq!((never.expired, never.valid_until), (true, ValidUntil::Never));
        let md5 = role("md5role").unwrap();
        assert_eq!(md5.secret_kind(), Some(&SecretKind::Md5));
        assert_eq!((md5.fits("right"), md5.fits("wrong")), (Some(true), Some(false)));
        let member_of = role("child").unwrap().member_of;
        assert_eq!(member_of, Answer::Known(vec!["grand".into(), "parent".into()]));
    }
}

#[test]
fn names_that_are_almost_right_are_found() {
    let long = format!("a2345678901234567890123456789012345678901234567890123456789012{}", "3456");
    for version in VERSIONS {
        let server = trusting(version);
        let admin = admin_as(&server, "postgres");
        for (asked, similar) in [
            ("camelcase", "CamelCase"),
            ("normal\r", "normal"),
            (" normal", "normal"),
            ("\"normal\"", "normal"),
            ("with blank", "with blank "),
            (&long, &long[..63]),
        ] {
            let facts = ask(&admin, asked, "shop");
            assert_eq!(facts.similar_roles, [similar], "{asked:?}");
            assert_eq!(facts.similar_databases, ["Shop"]);
            assert!(facts.database == Answer::Known(None));
            // The server itself cuts a name that is too long.
            assert_eq!(facts.known_role().is_some(), asked == long, "{asked:?}");
        }
        let quoting = ask(&admin, "x'; DROP ROLE normal; --", "\"; $1 %s");
        assert!(quoting.known_role().is_none() && quoting.unseen.is_empty());
    }
}

#[test]
fn databases_settings_and_counts() {
    for version in VERSIONS {
        let server = trusting(version);
        let admin = admin_as(&server, "postgres");
        let _held = Wire::log_in_by_trust(server.addr(), "normal", "Shop").unwrap();
        let facts = ask(&admin, "normal", "Shop");
        let database = facts.known_database().unwrap();
        assert!(database.allows_connections && !database.invalid && !database.is_template);
        assert_eq!((database.connection_limit, database.can_connect), (Some(7), Some(true)));
        let backends = facts.backends.known().unwrap();
        assert!(backends.exact);
        assert_eq!((backends.by_role, backends.by_database, backends.wal_senders), (1, 1, 0));
        assert_eq!(facts.slots_left(), Some(100 - 3 - backends.total));
        let other = ask(&admin, "plain", "Shop");
        assert_eq!(other.known_database().unwrap().can_connect, Some(false));
        let missing = ask(&admin, "missing", "closed");
        let closed = missing.known_database().unwrap();
        assert_eq!((closed.allows_connections, closed.can_connect), (false, None));
        let settings = &facts.settings;
        assert_eq!(settings.ssl, Some(false));
        assert_eq!(settings.password_encryption.as_deref(), Some("scram-sha-256"));
        assert_eq!((settings.scram_iterations, settings.max_connections), (Some(4096), Some(100)));
        assert_eq!(settings.reserved_connections, Some(0));
        assert_eq!(settings.port, Some(i64::from(server.port)));
        let hba = server.data().join("pg_hba.conf");
        assert_eq!(settings.hba_file.as_deref(), hba.to_str());
        assert!(settings.now > settings.conf_load_time.unwrap());
        assert_ne!(settings.hba_changed_after_load(), Some(true));
    }
}

#[test]
fn the_hba_file_with_its_errors_and_that_it_was_not_reloaded() {
    for version in VERSIONS {
        let server = server(version);
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        let file = std::fs::File::options().write(true).open(server.data().join("pg_hba.conf")).unwrap();
        file.set_modified(later).unwrap();
        let facts = ask(&admin_as(&server, "postgres"), "normal", "Shop");
        assert_eq!(facts.settings.hba_changed_after_load(), Some(true));
        let rules = facts.hba_rules.known().unwrap();
        let lines: Vec<_> = rules.iter().map(|rule| (rule.line.unwrap(), rule.method.as_deref())).collect();
        assert_eq!(lines[..3], [(1, Some("trust")), (2, Some("scram-sha-256")), (3, Some("ident"))]);
        assert_eq!(rules[1].users, ["normal", "child"]);
        assert_eq!(
            (rules[2].databases.as_slice(), rules[2].users.as_slice()),
            (&["Shop".into()][..], &["+grand".into()][..])
        );
        assert_eq!(
            (rules[2].address.as_deref(), rules[2].netmask.as_deref()),
            (Some("10.0.0.0"), Some("255.0.0.0"))
        );
        assert!(rules[2].options.contains(&"map=m".to_owned()));
        let errors: Vec<_> = facts.hba_errors().map(|row| (row.line, row.error.clone().unwrap())).collect();
        assert!(
            errors.len() == 1 && errors[0].0 == Some(4) && errors[0].1.contains("nonsense"),
            "{errors:?}"
        );
        let new = version == Version::V18;
        assert_eq!((rules[0].file.is_some(), rules[0].rule_number), (new, new.then_some(1)));
    }
}

#[test]
fn less_than_a_superuser_sees_less_and_says_so() {
    for version in VERSIONS {
        let server = trusting(version);
        for user in ["monitor", "plain"] {
            let facts = ask(&admin_as(&server, user), "expired", "Shop");
            let role = facts.known_role().expect("pg_roles is for everybody");
            assert!(role.expired && role.can_login);
            assert_eq!((role.fits("right"), role.salt_on_wire(b"x")), (None, None));
            let Answer::Hidden(reason) = &role.secret else { panic!("{role:?}") };
            assert!(reason.contains(user) && reason.contains("pg_authid"), "{reason}");
            assert!(facts.hba_rules.known().is_none());
            assert_eq!(facts.known_database().unwrap().can_connect, Some(false));
            assert!(facts.unseen.iter().any(|text| text.contains("pg_hba_file_rules")), "{:?}", facts.unseen);
            let monitors = user == "monitor";
            assert_eq!(facts.settings.hba_file.is_some(), monitors, "{:?}", facts.unseen);
            assert_eq!(facts.backends.known().unwrap().exact, monitors);
            assert_eq!(facts.settings.max_connections, Some(100));
        }
        let log = server.log_text();
        assert!(!log.contains("permission denied"), "no refusal was provoked:\n{log}");
        server.sql(
            "GRANT SELECT ON pg_authid, pg_hba_file_rules TO plain; \
                    GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO plain",
        );
        let facts = ask(&admin_as(&server, "plain"), "normal", "Shop");
        assert_eq!(facts.known_role().unwrap().fits("right"), Some(true));
        assert!(facts.hba_rules.known().is_some());
    }
}

#[test]
fn the_connection_is_one_read_only_and_made_anew_when_it_breaks() {
    let server = trusting(Version::V15);
    let admin = admin_as(&server, "postgres");
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgwhy admin'";
    assert_eq!(server.sql(ours), "0", "not before it is needed");
    for _ in 0..3 {
        ask(&admin, "normal", "Shop");
    }
    assert_eq!(server.sql(ours), "1");
    server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgwhy admin'");
    ask(&admin, "normal", "Shop");
    server.sql("DROP ROLE nopassword");
    assert!(
        ask(&admin, "nopassword", "Shop").known_role().is_none(),
        "facts are not older than the question"
    );
    assert_eq!(server.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'"), "0");
}

#[test]
fn a_storm_of_questions_is_answered_from_memory() {
    let server = trusting(Version::V15);
    let admin = admin_as(&server, "postgres");
    let first = ask(&admin, "normal", "Shop");
    let answers: Vec<_> = (0..60).map(|_| admin.ask("normal", "Shop", PATIENT).unwrap()).collect();
    let repeated = answers.windows(2).filter(|pair| Arc::ptr_eq(&pair[0], &pair[1])).count();
    assert!(repeated > 0, "20 at once and 10 a second are asked");
    assert!(answers.iter().all(|facts| facts.gathered >= first.gathered));
}

#[test]
fn a_refused_administrator_is_told_why() {
    let hba = "host all normal 127.0.0.1/32 scram-sha-256\n".into();
    let server = Server::start(Version::V15, &Plan { hba, sql: SQL.into(), ..Plan::default() });
    let refused = |url: String| Admin::new(&url).unwrap().ask("a", "b", PATIENT).unwrap_err();
    let port = server.port;
    let wrong = refused(format!("postgres://normal:hunter2@127.0.0.1:{port}/postgres"));
    assert!(matches!(&wrong, AdminProblem::Refused { sqlstate, .. } if sqlstate == "28P01"), "{wrong}");
    assert!(!wrong.to_string().contains("hunter2"));
    let nobody = refused(format!("postgres://plain:hunter2@127.0.0.1:{port}/postgres"));
    assert!(matches!(&nobody, AdminProblem::Refused { sqlstate, .. } if sqlstate == "28000"), "{nobody}");
    let admin = Admin::new(&format!("postgres://normal:right@127.0.0.1:{port}/postgres")).unwrap();
    assert_eq!(ask(&admin, "normal", "postgres").connected_as, "normal");
}

/// Asks a server that is none; the answer comes within the deadline and a little.
#[track_caller]
fn peer(behaviour: fn(&mut Wire) -> std::io::Result<()>) -> AdminProblem {
    let fake = FakeServer::start(behaviour);
    let admin = Admin::new(&format!("postgres://a:hunter2@{}/d?sslmode=disable", fake.addr)).unwrap();
    let deadline = Duration::from_secs(2);
    let start = Instant::now();
    let problem = admin.ask("u", "d", deadline).unwrap_err();
    assert!(start.elapsed() < deadline + PATIENT, "{problem}: {:?}", start.elapsed());
    let again = Instant::now();
    assert_eq!(admin.ask("v", "d", deadline).unwrap_err(), problem, "a pause follows");
    assert!(again.elapsed() < deadline / 2);
    assert!(!format!("{problem} {problem:?} {admin:?}").contains("hunter2"));
    problem
}

/// Asks, with TLS as it is preferred, a server that is none.
fn peer_says(behaviour: fn(&mut Wire) -> std::io::Result<()>) -> AdminProblem {
    let fake = FakeServer::start(behaviour);
    let admin = Admin::new(&format!("postgres://a:hunter2@{}/d", fake.addr)).unwrap();
    admin.ask("u", "d", Duration::from_secs(5)).unwrap_err()
}

/// The messages that log a client in.
fn welcome(wire: &mut Wire) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.message(b'R', &[0, 0, 0, 0])?;
    wire.message(b'K', &[0; 8])?;
    wire.message(b'Z', b"I")
}

/// A row of one value that never ends.
fn endless(wire: &mut Wire) -> std::io::Result<()> {
    let row = [&[0, 1, 0, 0, 0x40, 0][..], &[b'x'; 0x4000]].concat();
    loop {
        wire.message(b'D', &row)?;
    }
}

#[test]
fn a_server_that_stalls_costs_the_deadline() {
    let stalled = |problem: AdminProblem| assert!(matches!(problem, AdminProblem::Deadline(_)), "{problem}");
    stalled(peer(|wire| wire.read_to_end().map(drop)));
    stalled(peer(|wire| {
        welcome(wire)?;
        wire.read_to_end().map(drop)
    }));
    // A message that promises two gigabytes and sends one byte.
    stalled(peer(|wire| {
        welcome(wire)?;
        wire.send(b"D\x7f\xff\xff\xffx")?;
        wire.read_to_end().map(drop)
    }));
}

#[test]
fn a_server_that_lies_is_cut_short() {
    let broken = |problem: AdminProblem| {
        assert!(matches!(problem, AdminProblem::Broken(_) | AdminProblem::Deadline(_)), "{problem}");
        problem.to_string()
    };
    broken(peer(|wire| wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\nabcdefgh")));
    broken(peer(|_| Ok(())));
    broken(peer(|wire| {
        welcome(wire)?;
        wire.send(&[0xff; 4096])
    }));
    broken(peer(|wire| {
        welcome(wire)?;
        endless(wire)
    }));
    // A login that never ends.
    broken(peer(|wire| {
        wire.read_packet()?;
        wire.message(b'R', &[0, 0, 0, 0])?;
        loop {
            wire.message(b'S', b"a\0b\0")?;
        }
    }));
    // Two thousand million rounds of PBKDF2.
    let dear = broken(peer(|wire| {
        wire.read_packet()?;
        wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")?;
        let (_, first) = wire.read_message()?;
        let at = first.windows(2).position(|pair| pair == b"r=").unwrap_or_default();
        let nonce = String::from_utf8_lossy(&first[at..]).into_owned();
        let challenge = format!("{nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=2000000000");
        wire.message(b'R', &[b"\0\0\0\x0b", challenge.as_bytes()].concat())?;
        wire.read_to_end().map(drop)
    }));
    assert!(dear.contains("iterations"), "{dear}");
}

#[test]
fn a_refusal_of_a_peer_keeps_its_sqlstate() {
    let full = peer(|wire| {
        wire.read_packet()?;
        wire.send(&error("53300", "sorry, too many clients already"))
    });
    assert!(matches!(&full, AdminProblem::Refused { sqlstate, .. } if sqlstate == "53300"), "{full}");
    let long = peer(|wire| {
        wire.read_packet()?;
        wire.send(&error("XX000", &"x".repeat(9_000)))
    });
    assert!(long.to_string().len() < 600, "{long}");
    let dead = Admin::new("postgres://a@127.0.0.1:1/d").unwrap().ask("u", "d", PATIENT).unwrap_err();
    assert!(matches!(dead, AdminProblem::Unreachable(_)), "{dead}");
}
