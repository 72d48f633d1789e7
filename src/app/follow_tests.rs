use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant, SystemTime};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn follow(path: &Path) -> Follower {
    let follower = Follower::start(Source { path: path.to_owned(), prefix: None }).unwrap();
    assert!(follower.wait_ready(soon()));
    follower
}

fn now_ms() -> i64 {
    unix_ms(SystemTime::now())
}

/// A FATAL of the connection from `port`, written now (the epoch form needs no calendar).
fn fatal(port: u16) -> String {
    fatal_at(port, now_ms())
}

fn fatal_at(port: u16, ms: i64) -> String {
    format!("{}.{:03} [{port}] 127.0.0.1({port}) FATAL:  of {port}\n", ms / 1000, ms % 1000)
}

fn question(port: u16) -> Question {
    let ip = Some([127, 0, 0, 1].into());
    Question {
        our_ip: ip,
        our_port: Some(port),
        from_ms: now_ms() - 5_000,
        to_ms: now_ms() + 20_000,
        ..Question::default()
    }
}

#[track_caller]
fn check_found(follower: &Follower, port: u16) {
    let found = follower.wait_for(&question(port), Patience::until(soon()));
    let messages: Vec<_> = found.iter().map(|answer| answer.entry.message.clone()).collect();
    assert_eq!(messages, [format!("of {port}")], "{:?}", follower.status());
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_is_added_is_found_also_in_halves() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, &fatal(1));
    let follower = follow(&log);
    check_found(&follower, 1);
    let line = fatal(2);
    append(&log, &line[..20]);
    let found = follower.wait_for(&question(2), Patience::until(Instant::now() + Duration::from_millis(120)));
    assert!(found.is_empty());
    append(&log, &line[20..]);
    check_found(&follower, 2);
    assert_eq!(follower.status().entries, 2);
}

#[test]
fn details_in_a_later_write_are_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, "");
    let follower = follow(&log);
    let line = fatal(3);
    let path = log.clone();
    let writer = std::thread::spawn(move || {
        append(&path, &line);
        append(&path, &line.replace("FATAL:  of 3", "DETAIL:  Role \"a\" does not exist."));
    });
    let found = follower.wait_for(&question(3), Patience::until(soon()));
    writer.join().unwrap();
    assert_eq!(found[0].entry.detail.as_deref(), Some("Role \"a\" does not exist."));
}

#[test]
fn a_log_that_lags_is_waited_for_and_one_that_has_gone_on_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, &fatal(1));
    let follower = follow(&log);
    let question = |port| Question { to_ms: now_ms(), ..question(port) };
    let patience = || Patience::new(Duration::ZERO, PATIENCE);
    let asking = question(2);
    std::thread::scope(|scope| {
        let line = fatal(2);
        let asked = scope.spawn(|| follower.wait_for(&asking, patience()));
        // The usual time is over before the question is put: it is waited for all the same.
        while follower.shared.lock().waiting == 0 && !asked.is_finished() {
            std::thread::yield_now();
        }
        append(&log, &line);
        assert_eq!(asked.join().unwrap().len(), 1);
    });
    let past = question(3);
    append(&log, &fatal_at(4, now_ms() + 5_000));
    let start = Instant::now();
    assert!(follower.wait_for(&past, patience()).is_empty());
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn a_log_that_never_rests_does_not_hold_up_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, "");
    let follower = follow(&log);
    append(&log, &fatal(8));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| follower.wait_for(&question(8), Patience::until(soon())));
        let start = Instant::now();
        let mut looks = 0;
        while !asked.is_finished() {
            // One line for each look: none of them brings nothing.
            let now = follower.shared.lock().looks;
            if now != looks {
                looks = now;
                append(&log, &fatal(7));
            }
            std::thread::yield_now();
        }
        assert_eq!(asked.join().unwrap().len(), 1);
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    });
}

#[test]
fn rotation_by_rename_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, &fatal(1));
    let follower = follow(&log);
    for port in (10..20).step_by(2) {
        append(&log, &fatal(port));
        fs::rename(&log, dir.path().join(format!("postgresql.log.{port}"))).unwrap();
        append(&log, &fatal(port + 1));
        check_found(&follower, port + 1);
        check_found(&follower, port);
    }
    fs::remove_file(&log).unwrap();
    assert!(follower.wait_for(&question(99), Patience::until(soon())).is_empty());
    assert!(follower.status().error.unwrap().contains("postgresql.log"));
    append(&log, &fatal(30));
    check_found(&follower, 30);
    assert_eq!(follower.status().error, None);
}

#[test]
fn truncation_is_seen_even_when_the_file_is_longer_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, &fatal(1));
    let follower = follow(&log);
    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    append(&log, &fatal(2));
    check_found(&follower, 2);
    let text: String = [fatal(3), "# other\n".repeat(100), fatal(4)].concat();
    fs::write(&log, &text).unwrap();
    check_found(&follower, 3);
    check_found(&follower, 4);
    // A writer that does not append leaves a hole of zero bytes behind a truncation.
    let mut writer = File::options().write(true).open(&log).unwrap();
    writer.set_len(0).unwrap();
    writer.seek(SeekFrom::Start(text.len() as u64 + 5_000)).unwrap();
    writer.write_all(fatal(5).as_bytes()).unwrap();
    check_found(&follower, 5);
}

#[test]
fn a_gigabyte_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    let file = File::create(&log).unwrap();
    file.set_len(1 << 30).unwrap();
    append(&log, &format!("\n{}", fatal(1)));
    let start = Instant::now();
    let follower = follow(&log);
    check_found(&follower, 1);
    // It grows by another gigabyte at once.
    file.set_len(1 << 31).unwrap();
    append(&log, &format!("\n{}", fatal(2)));
    check_found(&follower, 2);
    assert!(follower.status().skipped_bytes > 1 << 29, "{:?}", follower.status());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn what_cannot_be_read_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.log");
    let pipe = dir.path().join("pipe");
    let status = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(status.success());
    let broken = dir.path().join("loop.log");
    std::os::unix::fs::symlink(&broken, &broken).unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for path in [missing, pipe, broken, empty.clone(), empty.join("*.log")] {
        let follower = follow(&path);
        let start = Instant::now();
        assert!(follower.wait_for(&question(1), Patience::until(soon())).is_empty());
        assert!(start.elapsed() < PATIENCE / 2, "{}", path.display());
        assert!(follower.status().error.is_some(), "{}", path.display());
    }
}

#[test]
fn the_newest_file_of_a_directory_or_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("postgresql-1.log"), &fatal(1));
    append(&path("other.txt.gz"), "x");
    let by_dir = follow(dir.path());
    let by_pattern = follow(&path("postgresql-*.log"));
    for follower in [&by_dir, &by_pattern] {
        check_found(follower, 1);
    }
    append(&path("postgresql-2.log"), &fatal(2));
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().append(true).open(path("postgresql-2.log")).unwrap().set_modified(later).unwrap();
    for follower in [&by_dir, &by_pattern] {
        check_found(follower, 2);
        assert_eq!(follower.status().file, Some(path("postgresql-2.log")));
    }
    // The collector's own list wins in a data directory.
    fs::write(path("current_logfiles"), "stderr postgresql-1.log\n").unwrap();
    assert_eq!(resolve(dir.path()), Ok(path("postgresql-1.log")));
}

#[test]
fn the_richer_of_siblings_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    append(&path("a.log"), "x");
    assert_eq!(resolve(&path("a.log")), Ok(path("a.log")));
    append(&path("a.csv"), "x");
    assert_eq!(resolve(&path("a.log")), Ok(path("a.csv")));
    append(&path("a.json"), "x");
    assert_eq!(resolve(&path("a.log")), Ok(path("a.json")));
    assert_eq!(resolve(&path("a.csv")), Ok(path("a.json")));
    let old = SystemTime::now() - Duration::from_secs(3_600);
    for name in ["a.json", "a.csv"] {
        File::options().append(true).open(path(name)).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(resolve(&path("a.log")), Ok(path("a.log")));
}

#[test]
fn a_sibling_that_comes_later_tells_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("a.log");
    append(&log, &fatal(1));
    append(&log, &fatal(2));
    let follower = follow(&log);
    check_found(&follower, 2);
    let json = |port: u16| {
        let ms = now_ms();
        format!(
            "{{\"timestamp\":\"{}.{:03}\",\"pid\":{port},\"remote_host\":\"127.0.0.1\",\"remote_port\":{port},\
             \"error_severity\":\"FATAL\",\"state_code\":\"28P01\",\"message\":\"of {port}\"}}\n",
            ms / 1000,
            ms % 1000
        )
    };
    append(&dir.path().join("a.json"), &(json(1) + &json(2) + &json(3)));
    check_found(&follower, 3);
    for port in 1..=3 {
        check_found(&follower, port);
        let found = follower.wait_for(&question(port), Patience::until(soon()));
        assert!(found.iter().all(|answer| answer.certainty == Certainty::Strong), "{found:?}");
    }
}

#[test]
fn writers_and_askers_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    append(&log, "");
    let follower = follow(&log);
    std::thread::scope(|scope| {
        for writer in 0..4_u16 {
            let log = &log;
            let follower = &follower;
            scope.spawn(move || {
                for port in 0..25 {
                    let port = 1_000 + writer * 100 + port;
                    append(log, &fatal(port));
                    if port % 5 == 0 {
                        check_found(follower, port);
                    }
                }
            });
        }
    });
    append(&log, &fatal(9));
    check_found(&follower, 9);
    assert_eq!(follower.status().entries, 101);
    assert_eq!(follower.status().not_understood, 0);
}

#[test]
fn patterns() {
    let table = [
        ("*.log", "a.log", true),
        ("a*b*c", "aXbXbYc", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*", "", true),
        ("a*", "b", false),
    ];
    for (pattern, name, fits) in table {
        assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
    }
}
