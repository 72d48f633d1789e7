//! Every conversation of `tests/corpus` is played into the observer in every way, its verdict is held
//! against the scenario's name and against `tests/corpus/verdicts.txt`, and every fuzz target gets it.
//!
//! `UPDATE_VERDICTS=1 cargo test --test replay` writes the verdicts anew;
//! `FUZZ_SEEDS=fuzz/corpus cargo test --test replay seeds` writes the fuzzers' first inputs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may, and so may what they share"
)]

#[path = "replay/corpus.rs"]
mod corpus;
#[path = "replay/expect.rs"]
mod expect;
#[path = "../fuzz/second_opinion.rs"]
mod second_opinion;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use corpus::{Conversation, conversations};
use pgwhy::diagnose::{Confidence, Context, Diagnosis, Outcome, diagnose};
use pgwhy::fuzzing::{self, Cutting, Event, TARGETS};
use pgwhy::handshake::driver::recognise;
use pgwhy::handshake::{Close, Record, Side, Step};
use pgwhy::password::{Budget, Expected, Fit, judge};
use pgwhy::secret::Secret;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn cuts_do_not_matter() {
    for (number, conversation) in conversations().iter().enumerate() {
        fuzzing::check(&conversation.events, number as u64);
        let outside = fuzzing::check(&conversation.outside, number as u64);
        assert_eq!(outside.tls.is_some_and(|tls| tls.client_hello.is_some()), conversation.inside_tls);
    }
}

#[test]
fn every_prefix_of_a_conversation_has_a_diagnosis() {
    for conversation in conversations().iter().filter(|c| matches!(c.client.as_str(), "psql-15" | "pg")) {
        for end in 0..conversation.events.len() {
            let mut events = conversation.events[..end].to_vec();
            fuzzing::check(&events, end as u64);
            for how in [Close::Eof, Close::Reset, Close::Deadline] {
                for from in [Side::Client, Side::Server] {
                    let at = events.last().map_or_else(Default::default, |event| event.at);
                    events.push(Event { at, from, what: Err(how) });
                    fuzzing::check(&events, 7);
                    events.pop();
                }
            }
        }
    }
}

fn verdict(conversation: &Conversation) -> (Record, Diagnosis) {
    let record = fuzzing::play(&conversation.events, Cutting::Whole);
    let diagnosis = diagnose(&record, &Context::default());
    (record, diagnosis)
}

/// One line a conversation: what became of it and why.
fn line(conversation: &Conversation, record: &Record, diagnosis: &Diagnosis) -> String {
    let driver = recognise(record).map_or("-", |driver| driver.name);
    let mut line = format!("{conversation}: {} driver={driver}", diagnosis.outcome.word());
    if let Some(finding) = &diagnosis.finding {
        let variant = finding.variant.map_or_else(String::new, |variant| format!("/{variant}"));
        let (step, cause, word) = (finding.step.id(), finding.cause.id(), finding.confidence.word());
        write!(line, " {step} {cause}{variant} {word}").unwrap();
    }
    line
}

#[test]
fn verdicts_are_those_that_were_read_by_people() {
    let verdicts: Vec<String> = conversations()
        .iter()
        .map(|conversation| {
            let (record, diagnosis) = verdict(conversation);
            line(conversation, &record, &diagnosis)
        })
        .collect();
    let path = root().join("tests/corpus/verdicts.txt");
    let now = verdicts.join("\n") + "\n";
    if std::env::var_os("UPDATE_VERDICTS").is_some() {
        return std::fs::write(&path, now).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<String> = before
        .lines()
        .filter(|line| !verdicts.iter().any(|now| now == line))
        .map(|line| format!("- {line}"))
        .chain(
            verdicts
                .iter()
                .filter(|now| !before.lines().any(|line| line == *now))
                .map(|now| format!("+ {now}")),
        )
        .collect();
    assert!(changed.is_empty(), "read these; UPDATE_VERDICTS=1 accepts them:\n{}", changed.join("\n"));
}

#[test]
fn the_scenario_decides_outcome_step_and_cause() {
    let mut wrong = Vec::new();
    for conversation in conversations() {
        let (record, diagnosis) = verdict(&conversation);
        let mut complain = |what: String| {
            wrong.push(format!("{}\n    {what}", line(&conversation, &record, &diagnosis)));
        };
        let ready = record.session.ready.is_some();
        if let Some(expected) = expect::ready(&conversation)
            && ready != expected
        {
            complain(format!("ready: expected {expected}"));
        }
        if ready != (diagnosis.outcome == Outcome::Ok) {
            complain("a login that failed is no success, and the reverse".into());
        }
        if expect::disputed(&conversation) {
            continue;
        }
        if let Some((code, step)) = expect::refusal(&conversation, &record) {
            let seen = record.error.as_ref().map(|error| error.sqlstate().to_owned());
            if seen.as_deref() != Some(code) || record.step != Some(step) {
                complain(format!("expected {code} in {}, saw {seen:?} in {:?}", step.id(), record.step));
            }
        }
        let Some(finding) = &diagnosis.finding else { continue };
        if !finding.cause.steps().contains(&finding.step) {
            complain(format!("{} is no step of {}", finding.step.id(), finding.cause.id()));
        }
        if finding.confidence == Confidence::Proven && !expect::may_prove(&conversation, finding) {
            complain("proven: not in the list of what this scenario may prove".into());
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_driver_is_named_rightly_or_not_at_all() {
    let mut wrong = Vec::new();
    for conversation in conversations() {
        let (record, diagnosis) = verdict(&conversation);
        let family = expect::family(&conversation.client);
        let seen = recognise(&record).map(|driver| driver.name);
        let scram = record.scram.as_ref().is_some_and(|scram| scram.client_first.is_some());
        if seen.is_some_and(|name| name != family) || (scram && seen.is_none()) {
            wrong.push(format!("{} (expected {family})", line(&conversation, &record, &diagnosis)));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_that_is_printed_holds_a_secret_of_the_corpus() {
    let list = conversations();
    let passwords: Vec<Vec<u8>> = list
        .iter()
        .filter_map(|conversation| verdict(conversation).0.cleartext)
        .map(|password| password.expose().clone())
        .filter(|password| password.len() > 3)
        .collect();
    assert!(passwords.len() > 30, "the cleartext scenarios hold passwords");
    for conversation in &list {
        let (record, diagnosis) = verdict(conversation);
        let mut secrets = passwords.clone();
        secrets.extend(record.md5.iter().filter_map(|md5| md5.response.as_ref()).map(|r| r.expose().clone()));
        let mut printed = format!("{record:?}\n{diagnosis:?}\n");
        for rung in pgwhy::handshake::ladder::ladder(&record, record.step) {
            writeln!(printed, "{rung:?}").unwrap();
        }
        if let Some(proof) = record.scram.and_then(|scram| scram.client_final).map(|last| last.proof) {
            use base64::Engine as _;
            let numbers = format!("{:?}", proof.expose());
            assert!(!printed.contains(&numbers), "{conversation}");
            secrets.push(base64::engine::general_purpose::STANDARD.encode(proof.expose()).into_bytes());
        }
        for secret in secrets {
            let text = String::from_utf8_lossy(&secret).into_owned();
            assert!(!printed.contains(&text), "{conversation}: {printed}");
            assert!(!printed.contains(&format!("{secret:?}")), "{conversation}, as numbers");
            assert!(!printed.contains(text.trim()), "{conversation}, trimmed");
        }
    }
}

/// What the roles' password is, and what it was mutilated to, stands in how the corpus was made.
#[test]
fn the_expected_password_explains_what_real_clients_sent() {
    let expected = Expected {
        password: Secret::new("correct-pw".into()),
        source: "the test".into(),
        ..Expected::default()
    };
    let mut tested = std::collections::HashSet::new();
    for conversation in conversations() {
        let (record, _) = verdict(&conversation);
        let (Some(exchange), Some(user)) = (expect::exchange(&record), record.user()) else { continue };
        let Some(fits) = expect::fit(&conversation) else { continue };
        // A proof that fits nothing costs a few hundred hashes: one client shows it for all.
        let known = !tested.insert((fits, expect::family(&conversation.client)));
        if record.scram.is_some() && (known || (fits == "nothing" && conversation.client != "asyncpg")) {
            continue;
        }
        let judgement = judge(Some(&expected), user, &exchange, Budget::default());
        let fit = match &judgement.fit {
            Fit::Variant(variant, _) => variant.id(),
            Fit::Expected => "expected",
            Fit::Empty => "empty",
            Fit::Nothing => "nothing",
            Fit::NotTested(_) => "not tested",
        };
        assert_eq!(fit, fits, "{conversation}: {}", judgement.explanation);
        let context = Context { judgement: Some(&judgement), ..Context::default() };
        let printed = format!("{:?} {judgement:?}", diagnose(&record, &context));
        assert!(
            !printed.contains("correct-pw") && !printed.contains("wrong-pw"),
            "{conversation}: {printed}"
        );
    }
}

#[test]
fn every_fuzz_target_takes_the_corpus() {
    for (name, target) in TARGETS {
        for seed in corpus::seeds(name) {
            target(&seed);
        }
    }
    for seed in corpus::seeds("backend") {
        second_opinion::check(&seed);
    }
}

/// Inputs that once broke something, and inputs that the fuzzers found worth keeping.
#[test]
fn every_fuzz_target_takes_its_regressions() {
    let folder = root().join("tests/corpus/fuzz");
    let targets = TARGETS.into_iter().chain([("second_opinion", second_opinion::check as fn(&[u8]))]);
    for (name, target) in targets {
        let Ok(files) = std::fs::read_dir(folder.join(name)) else { continue };
        for file in files {
            target(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn seeds() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    let targets = TARGETS.iter().map(|(name, _)| *name).chain(["second_opinion"]);
    for name in targets {
        let folder = root().join(&folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in corpus::seeds(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), seed).unwrap();
        }
    }
}

/// What a server or a client makes grow has a limit, also where nobody reads it.
#[test]
fn a_stranger_makes_nothing_grow_without_end() {
    let chunk = |from, bytes: &[u8]| Event { at: Default::default(), from, what: Ok(bytes.to_vec()) };
    let startup = b"\0\0\0\x11\0\x03\0\0user\0x\0\0";
    let ssl = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let long = [b"S\0\0\x40\x06a\0".as_slice(), &[b'v'; 0x4000 - 1], b"\0"].concat();
    let cases: [(&str, Vec<Event>); 6] = [
        (
            "requests",
            vec![chunk(Side::Client, startup), chunk(Side::Server, &b"R\0\0\0\x08\0\0\0\x03".repeat(50_000))],
        ),
        ("settings", vec![chunk(Side::Client, startup), chunk(Side::Server, &long.repeat(50))]),
        ("bytes behind SSLRequest", vec![chunk(Side::Client, ssl), chunk(Side::Client, &vec![0; 1 << 20])]),
        ("an unasked server", vec![chunk(Side::Server, &vec![b'R'; 1 << 20])]),
        ("an endless error", vec![chunk(Side::Client, ssl), chunk(Side::Server, &vec![b'E'; 1 << 20])]),
        (
            "an endless error in TLS",
            vec![chunk(Side::Client, b"\x16\x03\x01\0\x01\x01"), chunk(Side::Server, &vec![b'E'; 1 << 20])],
        ),
    ];
    for (name, events) in cases {
        let record = fuzzing::check(&events, 1);
        let printed = format!("{record:?}").len();
        assert!(printed < 200_000, "{name}: {printed} bytes");
        assert_ne!(record.step, Some(Step::Ready));
    }
}
