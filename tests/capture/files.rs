//! The capture's files: which logins are in them, and what a crash, a full disk and a full file do.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::stage::{PASSWORD, blocks, facts, log_in, proxy, reports, server, tool};
use super::support::DEADLINE;
use super::support::client::Who;
use super::support::keeper::{self, Scratch};
use super::support::peer::Wire;
use super::support::server::Version;

#[test]
fn only_the_wanted_logins_are_captured() {
    let server = server(Version::V15);
    for (what, failed, all) in [("failed", 2, 2), ("all", 2, 8), ("sample=3", 2, 4)] {
        let dir = Scratch::new();
        let file = dir.path().join("x.pcapng");
        let mut proxy = proxy(&server, &file, &["--capture-what", what]);
        for number in 0..8 {
            let password = if number % 4 == 3 { "wrong" } else { PASSWORD };
            log_in(&proxy, Who::TokioPostgres, "password", password);
        }
        reports(&mut proxy, 8);
        let facts = facts(&file);
        let outcomes: Vec<_> =
            facts.iter().map(|facts| facts.diagnosis.as_ref().unwrap().outcome.word()).collect();
        let count = outcomes.iter().filter(|outcome| **outcome == "failed").count();
        assert_eq!((count, outcomes.len()), (failed, all), "{what}: {outcomes:?}");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    }
}

#[test]
fn a_killed_proxy_leaves_whole_blocks_and_the_next_one_goes_on_behind_them() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let mut logins = 0;
    for round in 0..3_usize {
        let proxy = proxy(&server, &file, &[]);
        let addr = proxy.addr;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    while let Ok(mut wire) = Wire::log_in_by_trust(addr, "trusted", "postgres") {
                        // It may be killed at this very moment.
                        let _ = wire.end();
                    }
                })
            })
            .collect();
        proxy.wait_handshakes(40 + 17 * round, DEADLINE);
        let pid = Pid::from_raw(i32::try_from(proxy.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(proxy);
        // Whole blocks, and more of them each time.
        let now = facts(&file).len();
        assert!(now > logins, "{now} after {logins}");
        logins = now;
    }
    let sections =
        blocks(&std::fs::read(&file).unwrap()).iter().filter(|(kind, _)| *kind == 0x0a0d_0d0a).count();
    assert_eq!(sections, 3);
    tool("capinfos", &[&file.display().to_string()]);

    // A block that was cut all the same (the machine lost power) is taken off.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 7]).unwrap();
    let mut proxy = proxy(&server, &file, &[]);
    log_in(&proxy, Who::TokioPostgres, "trusted", "");
    reports(&mut proxy, 1);
    assert!(proxy.stderr().contains("cut short"), "{}", proxy.stderr());
    assert!(facts(&file).len() >= logins, "blocks are whole again");
}

#[test]
fn a_full_disk_costs_the_capture_and_no_login() {
    let server = server(Version::V15);
    let mut proxy = proxy(&server, std::path::Path::new("/dev/full"), &[]);
    for _ in 0..5 {
        let wire = Wire::log_in_by_trust(proxy.addr, "trusted", "postgres");
        assert!(wire.is_ok(), "{wire:?}");
    }
    reports(&mut proxy, 5);
    let log = proxy.stderr();
    assert_eq!(log.matches("No space left").count(), 1, "said once: {log}");
    assert!(log.contains("5 parts of the capture were not written"), "{log}");
}

/// A limit of the file's size says the same to the program as a disk that is nearly full.
#[test]
fn what_a_full_disk_took_of_a_login_is_taken_back() {
    let server = server(Version::V15);
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let mut command = std::process::Command::new("sh");
    // The signal that goes with that limit must not end the program.
    command.args(["-c", "ulimit -f 60; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pgwhy")]);
    command.args(["proxy", "--format", "json", "-l", "127.0.0.1:0", "-u", &server.addr().to_string()]);
    command.arg("--capture").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    keeper::watch(child.id());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
    let addr = line()["addr"].as_str().unwrap().parse().unwrap();
    for _ in 0..12 {
        Wire::log_in_by_trust(addr, "trusted", "postgres").unwrap();
        assert_eq!(line()["outcome"], "ok");
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    keeper::forget(pid.as_raw_nonzero().get().unsigned_abs());
    let count = facts(&file).len();
    assert!((1..12).contains(&count), "{count} of 12 logins fit, each of them whole");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.matches("--capture: ").count(), 1, "said once: {error}");
    assert!(error.contains(&format!("{} parts of the capture", 12 - count)), "{error}");
}

/// `rm`, or a log rotation that moves the file away.
#[test]
fn a_capture_that_is_taken_away_is_begun_anew() {
    let server = server(Version::V15);
    for directory in [true, false] {
        let dir = Scratch::new();
        let place = dir.path().join("captures");
        std::fs::create_dir(&place).unwrap();
        let target = if directory { place.clone() } else { place.join("x.pcapng") };
        let proxy = proxy(&server, &target, &[]);
        let mut reported = 0;
        // The id of one more login.
        let mut log_in = || {
            Wire::log_in_by_trust(proxy.addr, "trusted", "postgres").unwrap();
            reported += 1;
            let last = proxy.wait_handshakes(reported, DEADLINE).pop().unwrap();
            last["id"].as_str().unwrap().to_owned()
        };
        let wait = |what: &str, done: &dyn Fn() -> bool| {
            let until = Instant::now() + DEADLINE;
            while !done() {
                assert!(Instant::now() < until, "{what}: {}", proxy.stderr());
                std::thread::yield_now();
            }
        };
        let holds = |id: &str| {
            let files = std::fs::read_dir(&place).into_iter().flatten().map(|entry| entry.unwrap().path());
            let word = format!("\"{id}\"");
            let has = |bytes: Vec<u8>| bytes.windows(word.len()).any(|part| part == word.as_bytes());
            files.filter_map(|file| std::fs::read(file).ok()).any(has)
        };
        let first = log_in();
        wait("it is captured", &|| holds(&first));
        std::fs::remove_dir_all(&place).unwrap();
        log_in();
        wait("it is told", &|| proxy.stderr().contains("not captured"));
        std::fs::create_dir(&place).unwrap();
        let third = log_in();
        wait("it is captured again", &|| holds(&third));
    }
}

fn sizes(files: &[PathBuf]) -> Vec<u64> {
    files.iter().map(|file| std::fs::metadata(file).unwrap().len()).collect()
}

#[test]
fn full_files_make_room_for_the_next_and_the_oldest_go() {
    let server = server(Version::V15);
    for directory in [true, false] {
        let dir = Scratch::new();
        let target = if directory { dir.path().join("captures/") } else { dir.path().join("x.pcapng") };
        let rotation = ["--capture-size", "20kB", "--capture-files", "3"];
        let mut proxy = proxy(&server, &target, &rotation);
        for _ in 0..30 {
            Wire::log_in_by_trust(proxy.addr, "trusted", "postgres").unwrap();
        }
        let last = reports(&mut proxy, 30).pop().unwrap();
        let place = if directory { target.clone() } else { dir.path().to_owned() };
        let mut files: Vec<PathBuf> = std::fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.display().to_string().contains(".pcapng"))
            .collect();
        files.sort();
        let sizes = sizes(&files);
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(sizes.iter().all(|size| *size <= 20_000), "{sizes:?}");
        let ids: Vec<String> = files.iter().flat_map(|file| facts(file)).map(|facts| facts.id).collect();
        assert!(ids.len() >= 6 && ids.contains(&last["id"].as_str().unwrap().to_owned()), "{ids:?}");
        for file in &files {
            tool("capinfos", &[&file.display().to_string()]);
        }
    }
}

#[test]
fn a_file_that_is_no_capture_is_left_alone() {
    let dir = Scratch::new();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let pgwhy = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pgwhy"))
            .args(["proxy", "-l", "127.0.0.1:0", "-u", "127.0.0.1:1"])
            .args(args)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let name = file.display().to_string();
    let rows: [(&[&str], &str); 5] = [
        (&["--capture", &name], "is no capture of pgwhy's"),
        (&["--capture", "/nonexistent/x.pcapng"], "No such file"),
        (&["--capture-what", "failed"], "--capture"),
        (&["--capture", "/tmp/x", "--capture-what", "sample=0"], "sample=100"),
        (&["--capture", "/tmp/x", "--capture-what", "failed", "--capture-queries"], "has nothing to write"),
    ];
    for (args, words) in rows {
        let (code, error) = pgwhy(args);
        assert_eq!(code, Some(2), "{args:?}: {error}");
        assert!(error.contains(words), "{args:?}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}
