//! Reports are one thing, logins another: an output that is full, stalled or gone delays nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::keeper;
use support::peer::Wire;
use support::port::Port;
use support::server::{Plan, Server, Version};

/// A login that waits for an output waits for ever; one on a busy machine takes less than this.
const PROMPT: Duration = Duration::from_secs(20);

fn server() -> Server {
    let hba = "host all app 127.0.0.1/32 trust\n".to_owned();
    Server::start(Version::V15, &Plan { hba, sql: "CREATE ROLE app LOGIN;".into(), ..Plan::default() })
}

/// The proxy with a standard output of the test's choice, on a port of the test's choice: its first
/// line may never arrive.
fn proxy(server: &Server, stdout: Stdio) -> (Child, SocketAddr) {
    proxy_with(server, &[], stdout, Stdio::piped())
}

fn proxy_with(server: &Server, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> (Child, SocketAddr) {
    // Nobody else may get it as long as these tests run.
    let addr = Box::leak(Box::new(Port::reserve())).addr();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    command.args(["proxy", "--format", "json", "--listen", &addr.to_string()]);
    command.args(["--upstream", &format!("127.0.0.1:{}", server.port)]);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let child = command.spawn().expect("pgwhy can be run");
    keeper::watch(child.id());
    let until = Instant::now() + support::DEADLINE;
    while Wire::connect(addr).is_err() {
        assert!(Instant::now() < until, "pgwhy does not listen");
        std::thread::yield_now();
    }
    (child, addr)
}

fn end(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    keeper::forget(child.id());
}

/// Waits until its log has this word.
#[track_caller]
fn says(child: &mut Child, word: &'static str) {
    let log = BufReader::new(child.stderr.take().expect("a pipe"));
    let (line, lines) = channel();
    // It reads to the end: a log that nobody reads stalls.
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|one| drop(line.send(one))));
    let mut all = String::new();
    while !all.contains(word) {
        match lines.recv_timeout(support::DEADLINE) {
            Ok(line) => all.push_str(&line),
            Err(_) => panic!("the log does not say {word:?}: {all}"),
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("it runs");
}

/// Whether it ends by itself.
fn ended(mut child: Child) -> bool {
    keeper::forget(child.id());
    let (told, seen) = channel();
    std::thread::spawn(move || told.send(child.wait().expect("its child").success()));
    seen.recv_timeout(support::DEADLINE).unwrap_or_default()
}

fn log_in(addr: SocketAddr) -> Duration {
    let start = Instant::now();
    Wire::log_in_by_trust(addr, "app", "postgres").expect("a login that works directly works here");
    start.elapsed()
}

#[test]
fn a_full_disk_costs_the_reports_and_nothing_else() {
    let server = server();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let (mut child, addr) = proxy(&server, Stdio::from(full));
    for _ in 0..20 {
        log_in(addr);
    }
    says(&mut child, "could not be written");
    end(child);
}

#[test]
fn a_stalled_output_costs_reports_and_nothing_else() {
    let server = server();
    let (mut child, addr) = proxy(&server, Stdio::piped());
    // Nobody reads the pipe. It holds 64 KiB, the queue a few thousand reports: probes fill both.
    for _ in 0..8_000 {
        drop(Wire::connect(addr).expect("pgwhy accepts"));
    }
    let slowest = (0..20).map(|_| log_in(addr)).max().expect("twenty");
    assert!(slowest < PROMPT, "a login took {slowest:?}");
    // What was written is whole lines; what was dropped is counted in the log.
    let stdout = child.stdout.take().expect("a pipe");
    let first = BufReader::new(stdout).lines().next().expect("a line").expect("text");
    assert!(first.contains("\"listening\""), "{first}");
    says(&mut child, "dropped");
    end(child);
}

#[test]
fn a_closed_output_costs_the_reports_and_nothing_else() {
    let server = server();
    let (mut child, addr) = proxy(&server, Stdio::piped());
    drop(child.stdout.take());
    for _ in 0..20 {
        log_in(addr);
    }
    assert!(child.try_wait().expect("a state").is_none(), "pgwhy goes on");
    end(child);
}

#[test]
fn a_stalled_pipe_for_both_outputs_delays_no_login_and_no_end() {
    let server = server();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (child, addr) =
        proxy_with(&server, &[], Stdio::from(writer.try_clone().expect("a copy")), writer.into());
    // More than pipe and queue hold: what is dropped is told on the same stalled pipe.
    for _ in 0..8_000 {
        drop(TcpStream::connect_timeout(&addr, support::DEADLINE).expect("pgwhy accepts"));
    }
    let slowest = (0..20).map(|_| log_in(addr)).max().expect("twenty");
    assert!(slowest < PROMPT, "a login took {slowest:?}");
    signal(&child, Signal::TERM);
    assert!(ended(child), "pgwhy ends when it is told to");
    drop(reader);
}

#[test]
fn a_closed_standard_error_costs_neither_the_capture_nor_a_session() {
    let server = server();
    let dir = tempfile::tempdir().expect("a directory");
    let capture = dir.path().join("logins.pcapng");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // `2>&1 | head -1`: the first report can't be written, and that can't be told either.
    drop(reader);
    let arguments = ["--capture", capture.to_str().expect("text"), "--capture-what", "all"];
    let (child, addr) =
        proxy_with(&server, &arguments, Stdio::from(writer.try_clone().expect("a copy")), writer.into());
    for _ in 0..20 {
        log_in(addr);
    }
    let mut session = Wire::log_in_by_trust(addr, "app", "postgres").expect("a login");
    signal(&child, Signal::INT);
    while Wire::connect(addr).is_ok() {
        std::thread::yield_now();
    }
    session.message(b'Q', b"SELECT 1\0").expect("the session goes on");
    session.read_until(b'Z').expect("the session goes on");
    session.message(b'X', b"").expect("the session goes on");
    session.end().expect("an end");
    drop(session);
    assert!(ended(child), "pgwhy ends when the last session does");
    let mut show = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    let shown = show.args(["show", "--format", "json"]).arg(&capture).output().expect("pgwhy can be run");
    let shown = String::from_utf8_lossy(&shown.stdout).matches("\"outcome\":\"ok\"").count();
    assert_eq!(shown, 21, "every login is in the capture");
}
