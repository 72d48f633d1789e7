//! `pgwhy hba` as a user meets it: whole outputs and exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Gives `file` to `pgwhy hba -` and returns its exit code, output and errors.
fn run(file: &str, args: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgwhy"))
        .args(["hba", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It does not read the file when it does not understand what it is asked.
    let _ = child.stdin.take().unwrap().write_all(file.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const FILE: &str = "\
local all postgres peer map=admins
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
host all bad 10.0.0.0/8 reject
hostssl all +staff 10.0.0.0/8 scram-sha-256
host all all samenet md5
";

#[test]
fn the_deciding_line_and_why_not_the_others() {
    let (code, out, err) =
        run(FILE, &["--addr", "10.0.0.7", "--user", "joe", "--database", "shop", "--format", "human"]);
    let expected = "\
joe@shop from 10.0.0.7, no encryption
  · line 1  local all postgres peer map=admins
      it is for Unix sockets, the client came over TCP
  · line 2  host all all 127.0.0.1/32 scram-sha-256
      10.0.0.7 is not in 127.0.0.1/32
  · line 3  host all all ::1/128 scram-sha-256
      10.0.0.7 is an IPv4 address, ::1/128 holds IPv6 addresses only
  · line 4  host all bad 10.0.0.0/8 reject
      the user joe is not in: bad
  · line 5  hostssl all +staff 10.0.0.0/8 scram-sha-256
      it wants TLS, the client uses none
  ? line 6  host all all samenet md5
      not known: the addresses of the server's interfaces
  ✗ no line matches: the server answers «no pg_hba.conf entry»
not certain. To be certain, this must be known:
  - the addresses of the server's interfaces  (--interface ADDR/BITS)
";
    assert_eq!((code, out.as_str(), err.as_str()), (1, expected, ""));
}

#[test]
fn what_is_given_makes_it_certain() {
    let tls = ["--addr", "10.0.0.7", "--user", "joe", "--tls", "--member", "staff=ann,joe"];
    let (code, out, _) = run(FILE, &tls);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!((&value["event"], &value["schema"]), (&"lint".into(), &1.into()));
    let decision = &value["decision"];
    assert_eq!(decision["line"], 5);
    assert_eq!((&decision["verdict"], &decision["method"]), (&"asks".into(), &"scram-sha-256".into()));
    assert_eq!((&decision["certain"], decision["passed_over"].as_array().unwrap().len()), (&true.into(), 4));
    let (code, out, _) = run(FILE, &["--addr", "10.9.0.7", "--user", "joe", "--interface", "10.0.0.1/24"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["decision"]["verdict"]), (1, &"no_entry".into()));
    assert_eq!(
        (&value["decision"]["line"], &value["decision"]["certain"]),
        (&serde_json::Value::Null, &true.into())
    );
}

#[test]
fn mistakes_are_shown_with_a_caret() {
    let (code, out, _) = run("host all all 10.0.0.1 trust\n", &["--format", "human"]);
    let expected = "\
error[mask_missing]: a netmask is expected here, because 10.0.0.1 has no /length
 --> -:1:23
  |
1 | host all all 10.0.0.1 trust
  |                       ^^^^^
  |
  = help: for this one address, write 10.0.0.1/32

-: 0 lines that count, 1 error, 0 warnings, 0 notes. PostgreSQL 18 would refuse the whole file, and keep the rules it has.
";
    assert_eq!((code, out.as_str()), (1, expected));
    let (code, out, _) = run("local all /x peer\n", &["--pg-version", "15"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, value["would_load"] == true), (0, true));
    let finding = &value["findings"][0];
    assert_eq!(
        (&finding["id"], &finding["severity"]),
        (&"next_version_reads_otherwise".into(), &"warning".into())
    );
    assert_eq!((&finding["line"], &finding["column"]), (&1.into(), &11.into()));
}

#[test]
fn what_it_is_asked_wrongly() {
    for args in [
        &["--addr", "10.0.0.1"][..],
        &["--user", "joe"],
        &["--tls"],
        &["--pg-version", "11"],
        &["--addr", "here", "--user", "joe"],
        &["--addr", "local", "--user", "joe", "--tls", "--gss"],
        &["--member", "staff"],
    ] {
        let (code, out, err) = run(FILE, args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_pgwhy")).args(["hba", "/nonexistent"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn secrets_and_escapes_stay_inside() {
    let file = "host all all all ldap ldapbasedn=x ldapbindpasswd=hunter2 oops\nlocal \x1b[2Jdb all pear\n";
    for args in [
        &["--format", "human"][..],
        &["--format", "json"],
        &["--addr", "local", "--user", "joe", "--format", "human"],
    ] {
        let (_, out, err) = run(file, args);
        assert!(!out.contains("hunter2") && !out.contains('\x1b'), "{out}");
        assert_eq!(err, "");
    }
}

#[test]
fn a_byte_order_mark_is_named_as_the_mistake() {
    let (code, out, _) = run("\u{feff}local all all trust\n", &["--format", "human"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("byte order mark") && out.contains("1 error, 0 warnings"), "{out}");
}
