//! What becomes of a log while it is followed: rotation, truncation, a size that nobody reads whole, a
//! prefix of its own, no right to read it. One proxy for each, and a login before and after.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::DEADLINE;
use crate::support::client::{Login, Who};
use crate::support::keeper::Scratch;
use crate::support::proxy::Proxy;
use crate::support::server::{Plan, Server, Version};

/// How long a report may take, with a log and a busy machine: the program waits 2 s for a log at most.
const PROMPT: Duration = Duration::from_secs(5);
/// What a proxy may have in memory at most: a debug build needs some 15 MB without a log.
const MEMORY_KB: u64 = 64 * 1024;

pub fn run(version: Version) {
    let conf =
        "logging_collector = on\nlog_directory = 'log'\nlog_filename = 'pg.log'\nlog_rotation_size = 0\n";
    let plan = Plan {
        hba: "host all all 127.0.0.1/32 scram-sha-256\n".into(),
        sql: "CREATE ROLE nopw LOGIN;".into(),
        late_conf: conf.into(),
        late_wait: "collector process",
        ..Plan::default()
    };
    let server = Server::start(version, &plan);
    server.wait_for_sql();
    let file = server.data().join("log/pg.log");
    let mut bench = Bench { server, file, failed: Vec::new() };
    bench.rotation();
    bench.truncation();
    bench.prefix();
    bench.without_rights();
    bench.large();
    assert!(bench.failed.is_empty(), "{version:?}: {}", bench.failed.join("\n"));
}

struct Bench {
    server: Server,
    file: PathBuf,
    failed: Vec<String>,
}

impl Bench {
    /// As logrotate does it: another name, and a signal.
    fn rotation(&mut self) {
        let mut proxy = self.proxy(&[], &self.file);
        self.proven("before a rotation", &proxy);
        fs::rename(&self.file, self.file.with_extension("log.1")).unwrap();
        self.proven("the log has another name, and the server still writes to it", &proxy);
        self.server.sql("select pg_rotate_logfile()");
        let file = self.file.clone();
        wait("the server opens a new log", || file.exists());
        self.proven("behind a rotation", &proxy);
        proxy.finish();
        let mut proxy = self.proxy(&[], &self.server.data().join("log"));
        self.proven("the directory of a log that was rotated", &proxy);
        proxy.finish();
        let mut proxy = self.proxy(&[], &self.server.data());
        self.proven("the data directory names the log", &proxy);
        proxy.finish();
    }

    /// As logrotate's `copytruncate`.
    fn truncation(&mut self) {
        let mut proxy = self.proxy(&[], &self.file);
        self.proven("before a truncation", &proxy);
        OpenOptions::new().write(true).open(&self.file).unwrap().set_len(0).unwrap();
        self.proven("behind a truncation", &proxy);
        proxy.finish();
    }

    /// Nothing in it is where one would look for it.
    fn prefix(&mut self) {
        const PREFIX: &str = "%e/%p %h(%r) at %n: ";
        self.reload("log_line_prefix", PREFIX);
        let mut proxy = self.proxy(&["--log-line-prefix", PREFIX], &self.file);
        self.proven("a prefix that was given", &proxy);
        proxy.finish();
        let mut proxy = self.proxy(&["--log-line-prefix", "%m [%p] %u@%d "], &self.file);
        // The port alone is found under any prefix, and it joins the lines.
        self.proven("a prefix that was given wrongly", &proxy);
        proxy.finish();
        self.reload("log_line_prefix", "%m [%p] ");
    }

    fn without_rights(&mut self) {
        let scratch = Scratch::new();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let log = scratch.write("pg.log", "2026-01-01 00:00:00.000 UTC [1] LOG:  x\n");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o000)).unwrap();
        let upstream = format!("127.0.0.1:{}", self.server.port);
        let args = ["--server-log".to_owned(), log.display().to_string()];
        let mut proxy = Proxy::start_unprivileged(scratch.path(), &upstream, &args);
        let seen = self.report(&proxy);
        self.check(
            "a log without the right to read it",
            &seen,
            seen["confidence"] != "proven" && seen["evidence"].to_string().contains("ermission denied"),
        );
        proxy.finish();
    }

    /// A gigabyte that is there already, and another one that comes between two logins.
    fn large(&mut self) {
        self.grow();
        let mut proxy = self.proxy(&[], &self.file);
        self.proven("a log of a gigabyte", &proxy);
        self.grow();
        self.proven("a log that grew by a gigabyte", &proxy);
        let peak = peak_kb(proxy.pid());
        self.check(&format!("{peak} kB at most for a large log"), &Value::Null, peak < MEMORY_KB);
        proxy.finish();
    }

    /// The server appends behind what is added here, which ends in a line's end.
    fn grow(&self) {
        let mut file = OpenOptions::new().append(true).open(&self.file).unwrap();
        file.set_len(file.metadata().unwrap().len() + (1 << 30)).unwrap();
        file.write_all(b"\n").unwrap();
    }

    fn reload(&self, setting: &str, value: &str) {
        self.server.sql(&format!("alter system set {setting} = '{value}'"));
        self.server.sql("select pg_reload_conf()");
        wait("the server reloads", || self.server.sql(&format!("show {setting}")).trim() == value.trim());
    }

    fn proxy(&self, args: &[&str], log: &Path) -> Proxy {
        let upstream = format!("127.0.0.1:{}", self.server.port);
        let log = log.display().to_string();
        let args: Vec<String> =
            args.iter().copied().chain(["--server-log", &log]).map(String::from).collect();
        Proxy::start(&upstream, &args)
    }

    fn proven(&mut self, claim: &str, proxy: &Proxy) {
        let seen = self.report(proxy);
        self.check(claim, &seen, seen["cause"] == "role_without_password" && seen["confidence"] == "proven");
    }

    /// The report of one more login.
    fn report(&mut self, proxy: &Proxy) -> Value {
        let before = proxy.handshakes().len();
        let login = Login {
            user: "nopw".into(),
            password: Some("wr0ng-pass".into()),
            database: Some("postgres".into()),
            ..Login::default()
        };
        Who::Psql.log_in(proxy.addr, &login);
        let began = Instant::now();
        let seen = proxy.wait_handshakes(before + 1, DEADLINE);
        let took = began.elapsed();
        if took > PROMPT {
            self.failed.push(format!("a report came {took:?} after the login"));
        }
        seen.into_iter().nth(before).unwrap_or_default()
    }

    fn check(&mut self, claim: &str, seen: &Value, right: bool) {
        println!("{} {claim}", if right { "ok    " } else { "FAILED" });
        if !right {
            let parts = ["cause", "confidence", "evidence"].map(|key| seen[key].to_string());
            self.failed.push(format!("{claim}: got {}", parts.join(" ")));
        }
    }
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !ready() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The most memory that a process ever had.
fn peak_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
