//! `--baseline`: a login that worked, in a capture of an earlier run, as the other side of a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, dead_code, reason = "a test has no public face, and shares its workshop")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use support::client::{Login, Who};
use support::keeper::Scratch;
use support::proxy::{Proxy, handshakes};
use support::server::{Plan, Server, Version};
use support::{DEADLINE, install, schema};

const HBA: &str =
    "local all all trust\nhost all clear 127.0.0.1/32 password\nhost all all 127.0.0.1/32 scram-sha-256\n";
const SQL: &str = "
CREATE ROLE changed LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE dropped LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE expired LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE emptied LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE hashed LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE kept LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE clear LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE other LOGIN PASSWORD 'r1ght-pass';
CREATE DATABASE shop;
";
/// What happens between the two runs.
const CHANGES: &str = "
ALTER ROLE changed PASSWORD 'n3w-pass'; DROP ROLE dropped; ALTER ROLE expired VALID UNTIL '2001-01-01';
ALTER ROLE emptied PASSWORD NULL; SET password_encryption = 'md5'; ALTER ROLE hashed PASSWORD 'r1ght-pass';
ALTER ROLE clear PASSWORD 'n3w-pass';
";

fn login(user: &str, password: &str, database: &str) -> Login {
    Login {
        user: user.to_owned(),
        password: Some(password.to_owned()),
        database: Some(database.to_owned()),
        ..Login::default()
    }
}

/// Logs in through a proxy of its own; the report.
fn through(upstream: &str, args: &[&str], who: Who, login: &Login) -> Value {
    let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    let mut proxy = Proxy::start(upstream, &args);
    who.log_in(proxy.addr, login);
    let seen = proxy.wait_handshakes(1, DEADLINE);
    for line in proxy.finish() {
        assert_eq!(schema::faults(&line), Vec::<String>::new(), "{line}");
        assert!(!line.contains("r1ght-pass") && !line.contains("n3w-pass"), "{line}");
    }
    seen.into_iter().next().expect("a report")
}

/// Everybody logs in once, written down in one file.
fn capture(upstream: &str, scratch: &Scratch) -> PathBuf {
    let file = scratch.path().join("good.pcapng");
    let args = ["--capture".to_owned(), file.display().to_string()];
    let mut proxy = Proxy::start(upstream, &args);
    let users = ["other", "changed", "dropped", "expired", "emptied", "hashed", "clear", "kept"];
    for user in users {
        assert!(Who::Psql.log_in(proxy.addr, &login(user, "r1ght-pass", "postgres")).ok, "{user}");
    }
    proxy.wait_handshakes(users.len(), DEADLINE);
    proxy.finish();
    file
}

/// The packets between the proxy and the server as tcpdump would have written them, without anything of
/// pgwhy's own.
fn plain(file: &Path) -> PathBuf {
    let to = file.with_extension("pcap");
    let output = Command::new(install::need("tshark", "apt-get install tshark"))
        .args(["-n", "-Y", "frame.interface_id == 1", "-F", "pcap", "-r"])
        .arg(file)
        .arg("-w")
        .arg(&to)
        .output()
        .expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to
}

struct Row {
    claim: &'static str,
    who: Who,
    login: Login,
    knows: Option<&'static str>,
    /// Cause and confidence.
    wants: &'static str,
    /// The fields that differ, beside the client's and server's own.
    differs: &'static [&'static str],
    says: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |claim, login, wants, differs, says| Row {
        claim,
        who: Who::Psql,
        login,
        knows: None,
        wants,
        differs,
        says,
    };
    let old = |user| login(user, "r1ght-pass", "postgres");
    const CHANGED: &str = "the salt changed since the last success";
    const REJECTED: &str = "password_rejected possible";
    vec![
        row("the password was set anew", old("changed"), REJECTED, &["scram_salt"], CHANGED),
        row("the role was dropped", old("dropped"), REJECTED, &["scram_salt"], CHANGED),
        row("the password has expired", old("expired"), REJECTED, &["scram_salt"], CHANGED),
        row("the password was taken away", old("emptied"), REJECTED, &["scram_salt"], CHANGED),
        row("the secret is an MD5 hash now", old("hashed"), REJECTED, &["scram_salt"], CHANGED),
        Row {
            knows: Some("r1ght-pass"),
            ..row(
                "the password was set anew, and the old one is expected",
                old("changed"),
                "password_differs_on_server proven",
                &["scram_salt"],
                CHANGED,
            )
        },
        row(
            "nothing changed, and the password is another one",
            login("kept", "wr0ng-pass", "postgres"),
            "password_mismatch proven",
            &[],
            "the salt is that of the last success",
        ),
        Row {
            who: Who::Pg,
            ..row(
                "another driver sends another password",
                login("kept", "wr0ng-pass", "postgres"),
                "password_mismatch proven",
                &["driver"],
                "libpq, in good.",
            )
        },
        row(
            "in another database the last success of the same user counts",
            login("kept", "wr0ng-pass", "shop"),
            "password_mismatch proven",
            &["database"],
            "the salt is that of the last success",
        ),
        row(
            "a user who never logged in is compared with the last one who did",
            login("nobody", "wr0ng-pass", "postgres"),
            REJECTED,
            &["user"],
            "",
        ),
        row(
            "a parameter is not what it was",
            Login { env: vec![("PGTZ", "Asia/Nowhere".into())], ..login("kept", "r1ght-pass", "postgres") },
            "startup_parameter_refused proven",
            &["startup.timezone"],
            "",
        ),
        row("in clear there is no salt to tell", old("clear"), REJECTED, &[], ""),
        row("a login that works is compared with nothing", old("other"), "- -", &[], ""),
    ]
}

fn check(row: &Row, seen: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let text = |key: &str| seen[key].as_str().unwrap_or("-").to_owned();
    let got = format!("{} {}", text("cause"), text("confidence"));
    if got != row.wants {
        faults.push(format!("{got}, and not {}", row.wants));
    }
    let fields = seen["differs"].as_array().cloned().unwrap_or_default();
    let fields: Vec<&str> = fields
        .iter()
        .filter_map(|one| one["field"].as_str())
        // Drivers name themselves and set what they like.
        .filter(|field| !["client", "application_name", "protocol"].contains(field))
        .filter(|field| matches!(row.who, Who::Psql) || !field.starts_with("startup."))
        .collect();
    let wanted: Vec<&str> = row.differs.to_vec();
    let salts = |list: &[&str]| list.iter().filter(|name| **name != "scram_salt").count();
    // The salt of another user is another one.
    let same = if wanted == ["user"] { salts(&fields) == 1 && fields[0] == "user" } else { fields == wanted };
    if !same {
        faults.push(format!("differs in {fields:?}, and not in {wanted:?}"));
    }
    let evidence = seen["evidence"].to_string();
    if !evidence.contains(row.says) {
        faults.push(format!("{:?} is not said: {evidence}", row.says));
    }
    if row.says.is_empty() && evidence.contains("salt") {
        faults.push(format!("a salt is judged: {evidence}"));
    }
    faults.into_iter().map(|fault| format!("{}: {fault}", row.claim)).collect()
}

fn run(version: Version) {
    let server = Server::start(version, &Plan { hba: HBA.into(), sql: SQL.into(), ..Plan::default() });
    let scratch = Scratch::new();
    let upstream = format!("127.0.0.1:{}", server.port);
    let own = capture(&upstream, &scratch);
    let of_others = plain(&own);
    server.sql(CHANGES);
    let mut faults = Vec::new();
    for file in [&own, &of_others] {
        let file = file.display().to_string();
        for row in rows() {
            let upstream = match row.knows {
                Some(password) => format!("postgres://{}:{password}@{upstream}/", row.login.user),
                None => upstream.clone(),
            };
            let seen = through(&upstream, &["--baseline", &file], row.who, &row.login);
            faults.extend(check(&row, &seen).into_iter().map(|fault| format!("{file}: {fault}")));
        }
    }
    // The same failure, written down and read later.
    let failed = scratch.path().join("failed.pcapng").display().to_string();
    through(&upstream, &["--capture", &failed], Who::Psql, &login("changed", "r1ght-pass", "postgres"));
    let failed = [failed.clone(), plain(Path::new(&failed)).display().to_string()];
    for capture in &failed {
        for file in [&own, &of_others] {
            let seen = show(&["--baseline", &file.display().to_string(), capture]).0;
            let row = &rows()[0];
            assert_eq!(seen.len(), 1, "{capture}");
            faults.extend(check(row, &seen[0]).into_iter().map(|fault| format!("show {capture}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{version:?}:\n{}", faults.join("\n"));
}

fn show(args: &[&str]) -> (Vec<Value>, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    command.env_clear().env("HOME", "/nonexistent").args(["show", "--format", "json"]).args(args);
    let output = command.stdin(Stdio::null()).output().expect("pgwhy can be run");
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (handshakes(&lines), String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[test]
fn the_other_side_comes_from_a_capture_at_postgresql_15() {
    run(Version::V15);
}

#[test]
fn the_other_side_comes_from_a_capture_at_postgresql_18() {
    run(Version::V18);
}

#[test]
fn a_file_that_can_be_no_baseline_is_named() {
    let scratch = Scratch::new();
    let whole = scratch.write("text", "Sat Nov 21 12:00:00").display().to_string();
    let empty = scratch.write("empty", "").display().to_string();
    let missing = scratch.path().join("missing.pcap").display().to_string();
    // A pcap header without packets.
    let header = [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 0, 4, 0, 1, 0, 0, 0]].concat();
    let nothing = scratch.write("nothing.pcap", header).display().to_string();
    for (file, said) in [
        (&whole, "neither pcap nor pcapng"),
        (&empty, "the file is empty"),
        (&missing, "No such file"),
        (&nothing, "it holds no login"),
    ] {
        for command in
            [&["proxy", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0"][..], &["show", "x"]]
        {
            let mut program = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
            program.env_clear().args(command).args(["--baseline", file]).stdin(Stdio::null());
            let output = program.output().expect("pgwhy can be run");
            let log = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?} {log}");
            assert!(log.contains("--baseline") && log.contains(file) && log.contains(said), "{log}");
        }
    }
}
