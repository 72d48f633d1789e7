//! `pgwhy show` and `pgwhy diff` as somebody meets them: exit codes, filters, messages.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pgwhy::fuzzing::Cutting;
use pgwhy::fuzzing::capture::{Ends, Packet, packets, pcap};
use serde_json::Value;

use crate::corpus::conversations;
use crate::support::keeper::Scratch;
use crate::tcpdump::show;

/// What the roles of the corpus have.
const EXPECT: &str = "postgres://scram_user:correct-pw@db/";

/// A file with logins of the corpus, by client and scenario.
pub fn file(scratch: &Scratch, name: &str, wanted: &[(&str, &str)]) -> PathBuf {
    let all = conversations();
    let mut list: Vec<Packet> = Vec::new();
    for (number, (client, scenario)) in wanted.iter().enumerate() {
        let one = all.iter().find(|one| one.client == *client && one.scenario == *scenario);
        let mut ends = Ends::default();
        ends.client.set_port(40_000 + u16::try_from(number).unwrap());
        ends.began += number as u64 * 60_000_000_000;
        list.extend(packets(&one.expect("it is in the corpus").events, ends, Cutting::Whole));
    }
    scratch.write(name, pcap(&list))
}

const BOTH: [(&str, &str); 3] =
    [("pg", "scram_plain_ok"), ("pg", "scram_wrong_pw"), ("psql-15", "missing_db")];

#[test]
fn filters_and_exit_codes() {
    let scratch = Scratch::new();
    let path = file(&scratch, "three.pcap", &BOTH).display().to_string();
    let good = file(&scratch, "good.pcap", &BOTH[..1]).display().to_string();
    let missing = scratch.path().join("missing.pcap").display().to_string();
    let rows: [(&str, &[&str], usize, i32); 8] = [
        ("everything is shown", &[&path], 3, 1),
        ("only failed ones", &["--failed", &path], 2, 1),
        ("only one cause", &["--cause", "database_missing", &path], 1, 1),
        ("a cause that nothing has", &["--cause", "hba_reject", &path], 0, 0),
        ("a user that nobody is", &["--user", "nobody-else", &path], 0, 0),
        ("nothing failed", &[&good], 1, 0),
        ("two files", &[&path, &good], 4, 1),
        ("one of them is missing", &[&good, &missing], 1, 2),
    ];
    for (claim, arguments, count, code) in rows {
        let (found, log, exit) = show(arguments);
        assert_eq!((found.len(), exit), (count, Some(code)), "{claim}: {log}");
        assert!(log.contains(" packet") && log.contains(" login"), "{claim}: {log}");
    }
    let (_, log, _) = show(&[&path]);
    assert!(log.contains("3 connections: 3 logins, 2 failed"), "{log}");
}

#[test]
fn what_is_no_capture_is_said_and_what_was_read_is_shown() {
    let scratch = Scratch::new();
    let whole = std::fs::read(file(&scratch, "whole.pcap", &BOTH)).unwrap();
    let rows: [(&str, &[u8], &str, usize, i32); 5] = [
        ("empty", b"", "the file is empty", 0, 2),
        ("text", b"Sat Nov 21 12:00:00", "neither pcap nor pcapng", 0, 2),
        ("compressed", b"\x1f\x8b\x08\0\0\0\0\0", "gzip -dc", 0, 2),
        ("half a header", &whole[..20], "cut off inside its header", 0, 2),
        ("cut off in the last login", &whole[..whole.len() - 5], "cut off inside a packet", 3, 1),
    ];
    for (claim, bytes, said, count, code) in rows {
        let path = scratch.write("file", bytes).display().to_string();
        let (found, log, exit) = show(&[&path]);
        assert_eq!((found.len(), exit), (count, Some(code)), "{claim}: {log}");
        assert!(log.contains(said) && log.contains(&path), "{claim}: {log}");
    }
}

fn run(arguments: &[&str], input: &[u8]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    command.env_clear().env("HOME", "/nonexistent").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may stop reading before everything is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn standard_input_and_text_for_people() {
    let scratch = Scratch::new();
    let bytes = std::fs::read(file(&scratch, "three.pcap", &BOTH)).unwrap();
    let (text, log, code) = run(&["show", "--format", "human", "-"], &bytes);
    assert_eq!(code, Some(1), "{log}");
    for said in ["✗", "✓", "28P01", "why", "--expect"] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    assert!(!text.contains("--upstream"), "that is no option of show:\n{text}");
}

#[test]
fn the_password_that_was_expected_is_held_against_what_was_sent_and_not_shown() {
    let scratch = Scratch::new();
    let wanted = [("pg", "pw_with_newline"), ("pg", "scram_plain_ok")];
    let path = file(&scratch, "newline.pcap", &wanted).display().to_string();
    let user = show(&[&path]).0[0]["client"]["user"].as_str().unwrap().to_owned();
    let expect = EXPECT.replace("scram_user", &user);
    let (text, log, _) = run(&["show", "--format", "json", "--expect", &expect, &path], b"");
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["variant"], "trailing_newline", "{text}");
    assert_eq!(first["confidence"], "proven", "{text}");
    assert!(!text.contains("correct-pw") && !log.contains("correct-pw"), "{text}{log}");
}

#[test]
fn diff_puts_a_success_beside_a_failure() {
    let scratch = Scratch::new();
    let works = file(&scratch, "works.pcap", &[("psql-15", "scram_plain_ok")]).display().to_string();
    let fails = file(&scratch, "fails.pcap", &[("pg", "scram_wrong_pw")]).display().to_string();
    let both = file(&scratch, "both.pcap", &BOTH).display().to_string();
    let nothing = file(&scratch, "nothing.pcap", &[]).display().to_string();
    let rows: [(&str, &[&str], i32, &[&str]); 6] = [
        ("two files", &[&works, &fails], 1, &["driver", "libpq", "node-postgres", "first difference"]),
        ("the other way round", &[&fails, &works], 1, &["driver", "first difference"]),
        ("one file", &[&both], 1, &["startup.database", "which explains"]),
        ("the same login", &[&works, &works], 0, &["no difference can be seen"]),
        ("a file without a failure", &[&works], 2, &["no login that works and one that fails"]),
        ("a file without a login", &[&nothing, &works], 2, &["hold no logins"]),
    ];
    for (claim, arguments, code, said) in rows {
        let (text, log, exit) = run(&[&["diff", "--format", "human"], arguments].concat(), b"");
        assert_eq!(exit, Some(code), "{claim}: {text}{log}");
        for word in said {
            assert!(format!("{text}{log}").contains(word), "{claim}: {word}\n{text}{log}");
        }
        let rows = || text.lines().skip(3).take_while(|line| !line.is_empty());
        let long = rows().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{claim}: a row is too wide");
    }
    let (text, _, _) = run(&["diff", "--format", "json", &both], b"");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["event"], &line["explains"]["field"]), (&"diff".into(), &"startup.database".into()));
}
