//! `pgwhy replay`: what a capture holds of a login is played to a real server and to real drivers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

#[path = "capture/stage.rs"]
#[allow(dead_code, reason = "shared with the tests of captures")]
mod stage;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use stage::{PASSWORD, log_in, proxy, reports, server};
use support::client::{Answer, Login, Who};
use support::keeper::{self, Scratch};
use support::server::{Server, Version};

/// A capture of one login.
fn capture(server: &Server, dir: &Scratch, who: Who, user: &str, password: &str) -> PathBuf {
    let file = dir.path().join(format!("{user}-{}.pcapng", password.len()));
    let mut proxy = proxy(server, &file, &[]);
    log_in(&proxy, who, user, password);
    reports(&mut proxy, 1);
    file
}

fn password_file(dir: &Scratch, password: &str) -> String {
    let file = dir.path().join(format!("password-{}", password.len()));
    std::fs::write(&file, format!("{password}\n")).unwrap();
    file.display().to_string()
}

/// Plays the client; the exit code and the lines.
fn to(file: &Path, addr: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_pgwhy"))
        .arg("replay")
        .arg(file)
        .args(["--to", addr, "--format", "json"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), lines)
}

#[test]
fn the_client_is_played_to_a_real_server() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let right = password_file(&dir, PASSWORD);
    let addr = server.addr().to_string();
    // user, password sent then, options, exit code, outcome, step
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], i32, &'a str, &'a str);
    let rows: [Row<'_>; 9] = [
        ("rejected", PASSWORD, &[], 0, "same", "auth_request"),
        ("trusted", "", &[], 0, "same", "ready"),
        ("scram", PASSWORD, &[], 0, "stopped", "scram_client_final"),
        ("md5", PASSWORD, &[], 0, "stopped", "md5"),
        ("password", PASSWORD, &[], 0, "stopped", "password"),
        ("scram", PASSWORD, &["--password-file", &right], 0, "same", "ready"),
        ("md5", PASSWORD, &["--password-file", &right], 0, "same", "ready"),
        ("password", PASSWORD, &["--password-file", &right], 0, "same", "ready"),
        ("scram", "wrong", &["--password-file", &right], 1, "differs", "scram_client_final"),
    ];
    for (user, sent, more, code, outcome, step) in rows {
        let row = format!("{user} {sent} {more:?}");
        let file = capture(&server, &dir, Who::Psql, user, sent);
        let (exit, lines) = to(&file, &addr, more);
        let last = lines.last().unwrap();
        assert_eq!(
            (exit, &last["outcome"], &last["step"]),
            (Some(code), &outcome.into(), &step.into()),
            "{row}: {lines:?}"
        );
        // A capture of pgwhy's may be played again and again.
        std::fs::remove_file(file).unwrap();
    }
    let file = capture(&server, &dir, Who::Psql, "rejected", PASSWORD);
    std::fs::write(server.data().join("pg_hba.conf"), "local all postgres trust\nhost all all all trust\n")
        .unwrap();
    server.sql("select pg_reload_conf()");
    assert!(server.wait_log(|line| line.contains("received SIGHUP")));
    // The reload is done by the postmaster when its next connection comes.
    let (exit, lines) = to(&file, &addr, &[]);
    assert_eq!((exit, &lines[1]["outcome"]), (Some(1), &"differs".into()), "mended since: {lines:?}");
    assert!(
        lines[1]["text"].as_str().unwrap().contains("then the server refused with 28000; now it accepted"),
        "{lines:?}"
    );
}

/// Plays the server to one driver.
fn listen(file: &Path, more: &[&str], who: Who, user: &str, password: &str) -> (Answer, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgwhy"))
        .arg("replay")
        .arg(file)
        .args(["--listen", "127.0.0.1:0", "--once", "--format", "json"])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    keeper::watch(child.id());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let addr = line()["addr"].as_str().unwrap().parse().unwrap();
    let login = Login {
        user: user.into(),
        password: Some(password.into()),
        database: Some("postgres".into()),
        ..Login::default()
    };
    let answer = who.log_in(addr, &login);
    let report = line();
    assert!(child.wait().unwrap().success());
    keeper::forget(child.id());
    (answer, report)
}

#[test]
fn the_server_is_played_to_real_drivers() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let right = password_file(&dir, PASSWORD);
    let refused = capture(&server, &dir, Who::Psql, "scram", "wrong");
    let accepted = capture(&server, &dir, Who::Psql, "scram", PASSWORD);
    let md5 = capture(&server, &dir, Who::Psql, "md5", "wrong");
    let rejected = capture(&server, &dir, Who::Psql, "rejected", PASSWORD);
    let with: &[&str] = &["--password-file", &right];
    let drivers = [Who::Psql, Who::Pg, Who::Asyncpg, Who::PostgresJs, Who::TokioPostgres];
    for who in drivers {
        // Which capture, options, password, and what the driver then says (or the outcome of its login).
        let rows: [(&Path, &str, &[&str], &str, &str); 5] = [
            (&refused, "scram", &[], PASSWORD, "password authentication failed"),
            (&md5, "md5", &[], PASSWORD, "password authentication failed"),
            (&rejected, "rejected", &[], PASSWORD, "pg_hba.conf rejects connection"),
            (&accepted, "scram", with, "wrong", "does not fit the given password"),
            // The login works; what its driver asks next is answered with an error.
            (&accepted, "scram", with, PASSWORD, "no database behind a replay"),
        ];
        for (file, user, more, password, words) in rows {
            let (answer, report) = listen(file, more, who, user, password);
            // tokio-postgres shows only the class of an error.
            let shown = answer.error.contains(words) || matches!(who, Who::TokioPostgres);
            assert!(!answer.ok && shown, "{who:?} {words}: {answer:?}");
            let outcome = if words.contains("no database") { "ok" } else { "failed" };
            assert_eq!(report["outcome"], outcome, "{who:?} {words}: {report:#}");
        }
    }
}

#[test]
fn a_capture_may_come_from_standard_input() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let file = capture(&server, &dir, Who::Psql, "rejected", PASSWORD);
    let addr = server.addr().to_string();
    let rows: [(&[&str], &str); 4] = [
        (&["replay", "-", "--to", &addr, "--format", "json"], "\"outcome\":\"same\""),
        (&["show", "-", "--format", "json"], "hba_reject"),
        (&["report", "-", "--format", "md"], "hba_reject"),
        (&["diff", "-", &file.display().to_string()], "no difference"),
    ];
    for (args, words) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
        command.args(args).stdin(std::fs::File::open(&file).unwrap());
        command.args(if args[0] == "diff" { &["--format", "human"][..] } else { &[] });
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(words), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_cannot_be_played_is_said() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let file = dir.path().join("tls.pcapng");
    let mut proxy = proxy(&server, &file, &[]);
    let login = Login {
        user: "trusted".into(),
        sslmode: "require",
        database: Some("postgres".into()),
        ..Login::default()
    };
    Who::Psql.log_in(proxy.addr, &login);
    reports(&mut proxy, 1);
    let name = file.display().to_string();
    let rows: [(&[&str], i32, &str); 5] = [
        (&[&name, "--to", "127.0.0.1:1"], 1, "was encrypted"),
        (&[&name, "--login", "nobody", "--to", "127.0.0.1:1"], 2, "no such login"),
        (&[&name], 2, "--to"),
        (&["/nonexistent", "--to", "127.0.0.1:1"], 2, "No such file"),
        (&["/dev/null", "--to", "127.0.0.1:1"], 2, "empty"),
    ];
    for (args, code, words) in rows {
        let output = Command::new(env!("CARGO_BIN_EXE_pgwhy")).arg("replay").args(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(words), "{args:?}: {error}");
    }
}
