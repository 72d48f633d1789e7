//! Strangers that mean no good or know no better, and the end of the proxy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test says so by failing.

mod relay_stage;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use pgwhy::net::{Ending, Which};
use relay_stage::*;

/// A deadline that is waited for; what must happen before it is done by then on a busy machine, too.
const SOON: Duration = Duration::from_millis(1_500);

#[test]
fn strangers_do_not_reach_the_server() {
    let stage = Stage::new(|_| {});
    let rows: [(&str, &[u8], Ending); 6] = [
        ("a port scan", b"", Ending::Silent),
        ("half a length", b"\0\0", Ending::Closed),
        ("half a startup packet", &STARTUP[..12], Ending::Closed),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ending::Http),
        ("oversize", b"\0\0\x27\x11\0\x03\0\0", Ending::Malformed { length: 10_001 }),
        (
            "a cancel request without a key",
            b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x01",
            Ending::Malformed { length: 12 },
        ),
    ];
    for (row, bytes, ending) in rows {
        let mut client = stage.connect();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&mut client), b"", "{row}");
        assert_eq!(stage.attempt().ending, ending, "{row}");
    }
    stage.assert_not_dialled();
}

#[test]
fn a_slow_sender_is_cut_off_at_the_deadline_and_never_reaches_the_server() {
    let stage = Stage::new(|config| config.limits.login_deadline = SOON);
    for part in [0, 7, STARTUP.len() - 1] {
        let mut client = stage.connect();
        client.write_all(&STARTUP[..part]).unwrap();
        assert_eq!(rest(&mut client), b"", "{part} bytes");
        let attempt = stage.attempt();
        assert_eq!(attempt.ending, Ending::Deadline, "{part} bytes");
        assert!(attempt.elapsed >= SOON, "{part} bytes");
    }
    stage.assert_not_dialled();
}

#[test]
fn a_server_that_says_nothing_is_cut_off_at_the_deadline() {
    let stage = Stage::new(|config| config.limits.login_deadline = SOON);
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    take(&mut server, STARTUP.len());
    assert_eq!(stage.attempt().ending, Ending::Deadline);
    assert_eq!(rest(&mut client), b"");
    assert_eq!(rest(&mut server), b"");
}

/// The deadline is a minute here: who has left is not kept for it, and neither is the place that he took.
#[test]
fn a_client_that_gave_up_on_a_silent_server_is_reported_soon() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    let _server = stage.accept();
    drop(client);
    let attempt = stage.attempt();
    assert_eq!(attempt.ending, Ending::Closed);
    assert!(attempt.elapsed < Duration::from_secs(15), "{:?}", attempt.elapsed);
}

#[test]
fn the_deadline_is_for_logins_only() {
    let stage = Stage::new(|config| config.limits.login_deadline = SOON);
    let (mut client, mut server) = stage.login();
    // A second connection that runs into the deadline shows that the time is over.
    let _silent = stage.connect();
    assert_eq!(stage.attempt().ending, Ending::Deadline);
    client.write_all(b"still here").unwrap();
    assert_eq!(take(&mut server, 10), b"still here");
}

#[track_caller]
fn assert_refused(stage: &Stage, which: Which, value: usize) {
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    let answer = rest(&mut client);
    assert!(String::from_utf8_lossy(&answer).contains("C53300\0"), "{answer:?}");
    assert_eq!(stage.attempt().ending, Ending::Limit { which, value });
}

#[test]
fn unfinished_logins_are_limited_and_finished_ones_make_room() {
    let stage = Stage::new(|config| config.limits.unfinished = 2);
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| stage.connect()).collect();
    assert_refused(&stage, Which::Unfinished, 2);
    let mut client = waiting.pop().unwrap();
    client.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    server.write_all(WELCOME).unwrap();
    assert_eq!(stage.attempt().ending, Ending::Ready);
    take(&mut client, WELCOME.len());
    let _logged_in = stage.login();
}

#[test]
fn unfinished_logins_of_one_address_are_limited() {
    let stage = Stage::new(|config| config.limits.unfinished_per_address = 1);
    let waiting = stage.connect();
    assert_refused(&stage, Which::UnfinishedPerAddress, 1);
    drop(waiting);
    assert_eq!(stage.attempt().ending, Ending::Silent);
}

#[test]
fn connections_are_limited() {
    let stage = Stage::new(|config| config.limits.connections = 2);
    let pair = stage.login();
    let _second = stage.login();
    assert_refused(&stage, Which::Connections, 2);
    drop(pair);
    stage.closed();
}

#[test]
fn a_drain_lets_sessions_finish() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    let unfinished = stage.connect();
    stage.handle.shutdown(PATIENCE);
    // Refused means that the listener is gone; until then a connection may still be taken in.
    while let Ok(stranger) = TcpStream::connect(stage.addr()) {
        drop(stranger);
    }
    client.write_all(b"a query").unwrap();
    assert_eq!(take(&mut server, 7), b"a query");
    drop((client, server, unfinished));
    stage.assert_ends();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    stage.handle.shutdown(SOON);
    assert_eq!(rest(&mut client), b"");
    assert_eq!(rest(&mut server), b"");
    assert_eq!(stage.closed().first, None);
    stage.assert_ends();
}

#[test]
fn a_second_shutdown_ends_everything_at_once() {
    let stage = Stage::new(|_| {});
    let (mut client, _server) = stage.login();
    let mut asking = stage.connect();
    asking.write_all(STARTUP).unwrap();
    let mut half_open = stage.accept();
    take(&mut half_open, STARTUP.len());
    stage.handle.shutdown(PATIENCE);
    stage.handle.shutdown(PATIENCE);
    assert_eq!(rest(&mut client), b"");
    assert_eq!(rest(&mut asking), b"");
    assert_eq!(stage.attempt().ending, Ending::Shutdown);
    stage.assert_ends();
}

#[test]
fn a_flood_of_connects_leaves_nothing_behind() {
    let stage = Stage::new(|config| config.limits.unfinished = 50);
    for _ in 0..500 {
        drop(stage.connect());
    }
    for _ in 0..500 {
        assert!(matches!(stage.attempt().ending, Ending::Silent | Ending::Limit { .. } | Ending::Closed));
    }
    let _logged_in = stage.login();
    stage.handle.shutdown(Duration::ZERO);
    stage.assert_ends();
}
