//! The real binary, started as a user would, with its JSON lines collected.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::server::as_postgres;
use super::{DEADLINE, keeper};

/// A running `pgwhy proxy`.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    seen: Arc<Seen>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Seen {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    stderr: String,
    /// Standard output has ended.
    ended: bool,
    /// Standard error has.
    silent: bool,
}

impl Proxy {
    /// Starts `pgwhy proxy --format json --listen 127.0.0.1:0 --upstream UPSTREAM ARGS…`.
    pub fn start(upstream: &str, args: &[String]) -> Self {
        Self::start_listening("127.0.0.1:0", upstream, args)
    }

    /// As [`Proxy::start`] with another `--listen`.
    pub fn start_listening(listen: &str, upstream: &str, args: &[String]) -> Self {
        let mut all = vec!["--format".to_owned(), "json".to_owned()];
        all.extend(args.iter().cloned());
        Self::launch(listen, upstream, &all, "warn")
    }

    /// Without `--format`, which is among the arguments, and with a log of this level.
    pub fn start_logging(upstream: &str, args: &[String], level: &str) -> Self {
        Self::launch("127.0.0.1:0", upstream, args, level)
    }

    /// As [`Proxy::start`], by a user who is not root: `dir` gets a copy of the program that it can run.
    pub fn start_unprivileged(dir: &Path, upstream: &str, args: &[String]) -> Self {
        let program = dir.join("pgwhy");
        std::fs::copy(env!("CARGO_BIN_EXE_pgwhy"), &program).expect("a copy of the program");
        let args = ["--format", "json"].map(String::from).into_iter().chain(args.iter().cloned());
        let args: Vec<String> = args.collect();
        Self::launch_as(as_postgres(&program), "127.0.0.1:0", upstream, &args, "warn")
    }

    fn launch(listen: &str, upstream: &str, args: &[String], level: &str) -> Self {
        Self::launch_as(Command::new(env!("CARGO_BIN_EXE_pgwhy")), listen, upstream, args, level)
    }

    fn launch_as(mut command: Command, listen: &str, upstream: &str, args: &[String], level: &str) -> Self {
        command.args(["proxy", "--listen", listen, "--upstream", upstream]).args(args);
        // Neither DATABASE_URL nor a PG* variable of whoever runs the tests may reach it, nor a ~/.pgpass.
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("PGWHY_LOG", level);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pgwhy can be run");
        keeper::watch(child.id());
        let seen = Arc::new(Seen::default());
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let for_lines = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                for_lines.change(|inner| inner.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            for_lines.change(|inner| inner.ended = true);
        });
        let for_log = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                for_log.change(|inner| inner.stderr.push_str(&String::from_utf8_lossy(&buffer[..count])));
            }
            for_log.change(|inner| inner.silent = true);
        });
        let mut proxy = Self { addr: SocketAddr::from(([127, 0, 0, 1], 0)), child, seen, ended: false };
        let first = proxy.wait(DEADLINE, |inner| inner.lines.first().cloned());
        let Some(first) = first else { panic!("pgwhy printed no line; its log:\n{}", proxy.stderr()) };
        let addr = match serde_json::from_str::<Value>(&first) {
            Ok(listening) => listening["addr"].as_str().unwrap_or_default().to_owned(),
            // `--format human`: "listening on ADDR, in front of …"
            Err(_) => {
                first.trim_start_matches("listening on ").split(',').next().unwrap_or_default().to_owned()
            }
        };
        assert!(first.contains("listening"), "the first line: {first}");
        // A Unix socket's path is no such address: then there is none to use.
        proxy.addr = addr.parse().unwrap_or(proxy.addr);
        proxy
    }

    /// The handshakes reported so far.
    pub fn handshakes(&self) -> Vec<Value> {
        handshakes(&self.seen.inner.lock().unwrap().lines)
    }

    /// Waits until at least `count` handshakes were reported; returns what there is at the deadline.
    pub fn wait_handshakes(&self, count: usize, deadline: Duration) -> Vec<Value> {
        let _ = self.wait(deadline, |inner| (handshakes(&inner.lines).len() >= count).then_some(()));
        self.handshakes()
    }

    /// Waits until its standard output is as it should be.
    pub fn wait_lines(&self, ready: impl Fn(&[String]) -> bool) -> bool {
        self.wait(DEADLINE, |inner| ready(&inner.lines).then_some(())).is_some()
    }

    /// All lines of its standard output so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen.inner.lock().unwrap().lines.clone()
    }

    /// Its log so far.
    pub fn stderr(&self) -> String {
        self.seen.inner.lock().unwrap().stderr.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, waits until both its outputs have ended, and returns all its lines.
    pub fn finish(&mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        if self.wait(DEADLINE, |inner| inner.ended.then_some(())).is_none() {
            self.signal(Signal::KILL);
        }
        self.reap();
        // The pipes close with the process; what is in them is read by threads of ours, in their own time.
        let _ = self.wait_unless(|_| false, DEADLINE, |inner| (inner.ended && inner.silent).then_some(()));
        self.lines()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        // It may have ended by itself: then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }

    fn reap(&mut self) {
        if !self.ended {
            self.child.wait().expect("pgwhy ends");
            keeper::forget(self.child.id());
            self.ended = true;
        }
    }

    fn wait<T>(&self, deadline: Duration, ready: impl FnMut(&Inner) -> Option<T>) -> Option<T> {
        self.wait_unless(|inner| inner.ended, deadline, ready)
    }

    fn wait_unless<T>(
        &self,
        in_vain: impl Fn(&Inner) -> bool,
        deadline: Duration,
        mut ready: impl FnMut(&Inner) -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        let mut inner = self.seen.inner.lock().unwrap();
        loop {
            if let Some(value) = ready(&inner) {
                return Some(value);
            }
            if in_vain(&inner) {
                return None;
            }
            let left = deadline.checked_sub(start.elapsed())?;
            inner = self.seen.changed.wait_timeout(inner, left).unwrap().0;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
            self.reap();
        }
    }
}

impl Seen {
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap());
        self.changed.notify_all();
    }
}

/// The handshake objects among lines of JSON.
pub fn handshakes(lines: &[String]) -> Vec<Value> {
    let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|value| value["event"] == "handshake").collect()
}
