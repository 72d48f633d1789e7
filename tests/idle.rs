//! Many idle sessions, and a server that dies: what the real binary keeps, and what it loses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::peer::{Wire, message, startup};
use support::proxy::Proxy;
use support::server::{Plan, Server, Version};

const SESSIONS: usize = 5_000;
/// Sessions between two looks at the memory.
const WINDOW: usize = 490;

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<usize>().ok()).expect("a number") * 1024
}

/// A server that lets everybody in and then repeats what it hears: 5,000 backends of a real one would
/// measure that one's memory.
fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut sessions = Vec::new();
        for stream in listener.incoming().take(SESSIONS) {
            let mut stream = stream.expect("a connection");
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("a startup packet");
            let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut rest).expect("a startup packet");
            // It says what kind of server it is, as those since version 14 do: no session is watched for longer.
            let kind = message(b'S', b"in_hot_standby\0off\0");
            let answer = [message(b'R', &[0; 4]), kind, message(b'Z', b"I")].concat();
            stream.write_all(&answer).expect("a client");
            sessions.push(stream);
        }
        // One round over all of them: each session says one byte and gets it back.
        for stream in &mut sessions {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a byte");
            stream.write_all(&byte).expect("a client");
        }
    });
    addr
}

#[test]
fn five_thousand_idle_sessions_cost_little_and_all_still_work() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).expect("allowed");
    let server = echo_server();
    let proxy = Proxy::start(&server.to_string(), &["--show".to_owned(), "failed".to_owned()]);
    let log_in = || {
        let mut stream = TcpStream::connect(proxy.addr).expect("pgwhy accepts");
        stream.set_read_timeout(Some(support::DEADLINE)).expect("a socket");
        stream.write_all(&startup(0x3_0000, &[("user", "app")])).expect("pgwhy reads");
        let mut answer = [0; 39];
        stream.read_exact(&mut answer).expect("a login");
        stream
    };
    // The first hundred bring what does not grow: threads, buffers, the allocator's arenas.
    let mut sessions: Vec<TcpStream> = (0..100).map(|_| log_in()).collect();
    let mut sizes = vec![resident(proxy.pid())];
    while sessions.len() < SESSIONS {
        sessions.extend((0..WINDOW).map(|_| log_in()));
        sizes.push(resident(proxy.pid()));
    }
    let mut grown: Vec<usize> =
        sizes.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) / WINDOW).collect();
    grown.sort_unstable();
    let (each, all) = (grown[grown.len() / 2], (sizes[sizes.len() - 1] - sizes[0]) / (SESSIONS - 100));
    for (number, session) in sessions.iter_mut().enumerate() {
        let byte = [number.to_le_bytes()[0]];
        session.write_all(&byte).expect("a session that is open");
        let mut back = [0];
        session.read_exact(&mut back).expect("a session that is open");
        assert_eq!(back, byte, "session {number}");
    }
    println!(
        "{each} bytes for each of {SESSIONS} idle sessions, {all} with the reports that waited meanwhile"
    );
    // HAProxy's is 3.4 kB. A busy machine lets reports wait, whose room the heap keeps: once, not for
    // each session, so it shows in a few windows and not in the one in the middle.
    assert!(each < 2_500, "{each} bytes for each idle session: {grown:?}");
    assert!(all < 2_500, "{all} bytes for each session, with waiting reports: {grown:?}");
    assert_eq!(proxy.handshakes().len(), 0, "nothing failed");
}

#[test]
fn a_server_that_is_killed_takes_its_sessions_and_nothing_else() {
    let hba = "host all app 127.0.0.1/32 trust\n".to_owned();
    let plan = Plan { hba, sql: "CREATE ROLE app LOGIN;".into(), ..Plan::default() };
    let server = Server::start(Version::V15, &plan);
    let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &[]);
    let mut session = Wire::log_in_by_trust(proxy.addr, "app", "postgres").expect("a login");
    // The postmaster is killed; its children notice and end by themselves.
    server.signal(Signal::KILL);
    // The session ends, in order or by a reset: what matters is that the read returns.
    let _ = session.read_to_end();
    // The first report is that of the session; from then on there is one for each attempt.
    let mut attempts = 1;
    loop {
        let refused = Wire::log_in_by_trust(proxy.addr, "app", "postgres").is_err();
        attempts += 1;
        let handshakes = proxy.wait_handshakes(attempts, support::DEADLINE);
        assert_eq!(handshakes.len(), attempts, "every attempt is reported");
        let last = handshakes.last().expect("a report");
        assert_eq!(last["outcome"] == "failed", refused, "{last}");
        if last["cause"] == "connection_refused" {
            break;
        }
    }
}
