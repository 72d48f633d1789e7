//! What the relay carries arrives, whole, in order and nothing else, whatever the sockets do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test says so by failing.

mod relay_stage;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use pgwhy::handshake::{Close, Side};
use pgwhy::net::{ClientTls, DialError, Ending, Listen, PeerAddr, UpstreamHost};
use relay_stage::port::Port;
use relay_stage::*;

/// Writes `total` bytes of the stream `seed`, in pieces of changing size.
fn pour(mut to: impl Write, seed: u64, total: usize) {
    let (mut bytes, mut sizes) = (Stream(seed), Stream(seed + 1));
    let mut buffer = vec![0; 300_000];
    let mut left = total;
    while left > 0 {
        let limit = [1, 100, 10_000, 300_000][sizes.next() as usize % 4];
        // Multiples of the generator's word, so that the pieces don't change the stream.
        let size = ((sizes.next() as usize % limit + 8) / 8 * 8).min(left).min(buffer.len());
        bytes.fill(&mut buffer[..size]);
        to.write_all(&buffer[..size]).unwrap();
        left -= size;
    }
}

/// Reads `total` bytes and compares each with the stream `seed`.
#[track_caller]
fn drain(mut from: impl Read, seed: u64, total: usize) {
    let mut stream = Stream(seed);
    let (mut got, mut expected) = (vec![0; 65_536], vec![0; 65_536]);
    let mut left = total;
    while left > 0 {
        let size = left.min(got.len());
        from.read_exact(&mut got[..size]).unwrap();
        stream.fill(&mut expected[..size]);
        assert!(got[..size] == expected[..size], "a byte differs with {left} of {total} left");
        left -= size;
    }
}

#[test]
fn both_directions_at_once_in_pieces_of_any_size() {
    let stage = Stage::new(|_| {});
    let (client, server) = stage.login();
    let total = 24_000_000;
    thread::scope(|scope| {
        scope.spawn(|| pour(&client, 11, total));
        scope.spawn(|| pour(&server, 22, total));
        scope.spawn(|| drain(&server, 11, total));
        drain(&client, 22, total);
    });
    drop((client, server));
    let closed = stage.closed();
    assert_eq!(closed.client_bytes, total as u64 + STARTUP.len() as u64);
    assert_eq!(closed.server_bytes, total as u64 + WELCOME.len() as u64);
}

/// As a driver that pipelines: its requests fill every buffer before the first answer comes, and the server
/// answers before it reads on.
#[test]
fn a_direction_that_is_blocked_does_not_stop_the_other_one() {
    let stage = Stage::new(|_| {});
    let (client, server) = stage.login();
    server.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let total = 16_000_000;
    thread::scope(|scope| {
        scope.spawn(|| pour(&client, 11, total));
        scope.spawn(|| drain(&client, 22, total));
        thread::sleep(Duration::from_millis(300));
        pour(&server, 22, total);
        drain(&server, 11, total);
    });
}

#[test]
fn two_hundred_megabytes_arrive_as_they_were_sent() {
    let stage = Stage::new(|_| {});
    let (client, server) = stage.login();
    let total = 200_000_000;
    thread::scope(|scope| {
        scope.spawn(|| pour(&server, 33, total));
        drain(&client, 33, total);
    });
}

#[test]
fn many_connections_at_once() {
    let stage = Stage::new(|_| {});
    let pairs: Vec<_> = (0..100).map(|_| stage.login()).collect();
    for round in 0..20_u8 {
        for (number, (client, server)) in pairs.iter().enumerate() {
            (&mut &*client).write_all(&[round, number as u8]).unwrap();
            assert_eq!(take(&mut &*server, 2), [round, number as u8]);
            (&mut &*server).write_all(&[number as u8]).unwrap();
        }
        for (number, (client, _)) in pairs.iter().enumerate() {
            assert_eq!(take(&mut &*client, 1), [number as u8]);
        }
    }
    assert_eq!(stage.handle.connections(), 100);
    drop(pairs);
    stage.handle.shutdown(PATIENCE);
    stage.assert_ends();
}

#[test]
fn a_client_that_has_said_all_still_gets_the_answer() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), b"last words");
    let answer = vec![7; 3_000_000];
    thread::scope(|scope| {
        scope.spawn(|| {
            server.write_all(&answer).unwrap();
            server.shutdown(Shutdown::Both).unwrap();
        });
        assert!(rest(&mut client) == answer);
    });
    assert_eq!(stage.closed().first, Some((Side::Client, Close::Eof)));
}

#[test]
fn a_server_that_has_closed_is_not_in_the_way_of_what_it_said() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    let answer = vec![8; 3_000_000];
    thread::scope(|scope| {
        scope.spawn(|| {
            server.write_all(&answer).unwrap();
            server.shutdown(Shutdown::Both).unwrap();
        });
        assert!(rest(&mut client) == answer);
    });
    drop(client);
    assert_eq!(stage.closed().first, Some((Side::Server, Close::Eof)));
}

#[test]
fn a_stalled_reader_stops_its_sender_and_nobody_else() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    // The timeout is the event: it fires when every buffer on the way is full.
    server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    let piece = [9; 65_536];
    while let Ok(count) = server.write(&piece) {
        sent += count;
        assert!(sent < 100_000_000, "the relay buffers without bound");
    }
    client.write_all(b"and the other way?").unwrap();
    assert_eq!(take(&mut server, 18), b"and the other way?");
    let (mut other_client, mut other_server) = stage.login();
    other_client.write_all(b"hello").unwrap();
    assert_eq!(take(&mut other_server, 5), b"hello");
    server.shutdown(Shutdown::Write).unwrap();
    let got = rest(&mut client);
    assert_eq!(got.len(), sent);
    assert!(got.iter().all(|byte| *byte == 9));
}

#[test]
fn a_reset_is_passed_on_as_an_end() {
    let stage = Stage::new(|_| {});
    for side in [Side::Client, Side::Server] {
        let (client, server) = stage.login();
        let mut left = if side == Side::Client {
            reset(client);
            server
        } else {
            reset(server);
            client
        };
        assert_eq!(rest(&mut left), b"");
        assert_eq!(stage.closed().first, Some((side, Close::Reset)));
    }
}

// Elsewhere it is found out with the server's next word: nothing else tells of a reset that nobody reads.
#[cfg(not(feature = "portable-engine"))]
#[test]
fn a_client_that_dies_after_its_last_word_is_not_kept_for() {
    let stage = Stage::new(|_| {});
    let (client, mut server) = stage.login();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), b"");
    // The server works on a long query; nobody will want the answer.
    reset(client);
    assert_eq!(stage.closed().first, Some((Side::Client, Close::Eof)));
}

#[test]
fn what_the_server_said_before_it_went_arrives_although_the_client_still_sends() {
    let stage = Stage::new(|_| {});
    let (mut client, mut server) = stage.login();
    server.write_all(b"terminating connection").unwrap();
    drop(server);
    // These find nobody: the first brings a reset, and later ones find the socket broken.
    for _ in 0..10 {
        if client.write_all(b"a query").is_err() {
            break;
        }
    }
    assert_eq!(take(&mut client, 22), b"terminating connection");
}

#[test]
fn bytes_behind_the_startup_packet_go_on_with_it() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.write_all(&[STARTUP, b"Q\0\0\0\x05\0"].concat()).unwrap();
    let mut server = stage.accept();
    assert_eq!(take(&mut server, STARTUP.len() + 6), [STARTUP, b"Q\0\0\0\x05\0"].concat());
}

#[test]
fn a_startup_packet_byte_by_byte_is_one_to_the_server() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.set_nodelay(true).unwrap();
    for byte in STARTUP {
        client.write_all(&[*byte]).unwrap();
    }
    let mut server = stage.accept();
    assert_eq!(take(&mut server, STARTUP.len()), STARTUP);
}

#[test]
fn a_refused_login_is_reported_before_the_connection_ends() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    take(&mut server, STARTUP.len());
    let error = b"E\0\0\0\x1cSFATAL\0VFATAL\0C28000\0\0";
    let length = (error.len() - 1) as u8;
    let error = [&b"E\0\0\0"[..], &[length], &error[5..]].concat();
    server.write_all(&error).unwrap();
    let attempt = stage.attempt();
    assert_eq!(attempt.ending, Ending::Failed);
    assert_eq!(attempt.record.error.map(|error| error.sqlstate().to_owned()).as_deref(), Some("28000"));
    drop(server);
    assert_eq!(rest(&mut client), error);
}

#[test]
fn a_cancel_request_finds_the_server_of_its_key() {
    let port = Port::reserve();
    let dead = port.addr();
    let stage = Stage::new(|config| config.upstream.hosts.insert(0, host(dead)));
    let _pair = stage.login();
    // Now the first host is alive: a cancel request that did not know its server would go there.
    let revived = std::net::TcpListener::bind(dead).unwrap();
    let mut client = stage.connect();
    client.write_all(CANCEL).unwrap();
    let mut server = stage.accept();
    assert_eq!(take(&mut server, CANCEL.len()), CANCEL);
    drop(server);
    assert_eq!(rest(&mut client), b"");
    drop((client, revived));
    assert_eq!(stage.attempt().ending, Ending::Cancel { known: true, delivered: true });
}

#[test]
fn a_cancel_request_with_an_unknown_key_goes_to_the_first_server_that_answers() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.write_all(CANCEL).unwrap();
    let mut server = stage.accept();
    assert_eq!(take(&mut server, CANCEL.len()), CANCEL);
    drop((server, client));
    assert_eq!(stage.attempt().ending, Ending::Cancel { known: false, delivered: true });
}

#[test]
fn a_key_is_forgotten_with_its_connection() {
    let stage = Stage::new(|_| {});
    drop(stage.login());
    stage.closed();
    let mut client = stage.connect();
    client.write_all(CANCEL).unwrap();
    drop(stage.accept());
    drop(client);
    assert_eq!(stage.attempt().ending, Ending::Cancel { known: false, delivered: true });
}

#[test]
fn nobody_home_is_said_to_the_client_and_reported_with_every_address() {
    let port = Port::reserve();
    let dead = port.addr();
    let stage = Stage::new(|config| config.upstream.hosts = vec![host(dead)]);
    for hello in [STARTUP, SSL_REQUEST] {
        let mut client = stage.connect();
        client.write_all(hello).unwrap();
        let answer = rest(&mut client);
        assert_eq!(answer.first(), Some(&b'E'));
        assert!(String::from_utf8_lossy(&answer).contains("C08001\0"));
        let attempt = stage.attempt();
        assert_eq!(attempt.ending, Ending::NoServer);
        let dials: Vec<_> = attempt.dials.iter().map(|dial| (dial.addr.clone(), dial.result)).collect();
        assert_eq!(dials, [(Some(PeerAddr::Tcp(dead)), Err(DialError::Refused))]);
    }
}

#[test]
fn a_proxy_in_front_of_itself_says_so() {
    let port = Port::reserve();
    let own = port.addr();
    let stage = Stage::new(|config| {
        config.listen = vec![Listen::Tcp(own)];
        config.upstream.hosts = vec![host(own)];
    });
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    assert_eq!(rest(&mut client).first(), Some(&b'E'));
    assert_eq!(stage.attempt().dials[0].result, Err(DialError::Loop));
}

#[test]
fn the_attempt_names_every_end() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    take(&mut server, STARTUP.len());
    server.write_all(WELCOME).unwrap();
    let attempt = stage.attempt();
    assert_eq!(attempt.client, PeerAddr::Tcp(client.local_addr().unwrap()));
    assert_eq!(attempt.listener, PeerAddr::Tcp(stage.addr()));
    assert_eq!(attempt.server, Some(PeerAddr::Tcp(server.local_addr().unwrap())));
    assert_eq!(attempt.our_outgoing, Some(PeerAddr::Tcp(server.peer_addr().unwrap())));
    assert!(!attempt.ssl_answered_by_us);
}

#[test]
fn unix_sockets_on_both_legs() {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let back = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let stage = Stage::new(|config| {
        config.listen = vec![Listen::Unix(front.clone())];
        let name = folder.path().to_str().unwrap().to_owned();
        config.upstream.hosts = vec![UpstreamHost { name, hostaddr: None, port: 5432 }];
    });
    let mut client = UnixStream::connect(&front).unwrap();
    client.write_all(STARTUP).unwrap();
    let mut server = back.accept().unwrap().0;
    assert_eq!(take(&mut server, STARTUP.len()), STARTUP);
    server.write_all(WELCOME).unwrap();
    assert_eq!(take(&mut client, WELCOME.len()), WELCOME);
    assert_eq!(stage.attempt().ending, Ending::Ready);
    thread::scope(|scope| {
        scope.spawn(|| pour(&server, 44, 5_000_000));
        scope.spawn(|| pour(&client, 55, 5_000_000));
        scope.spawn(|| drain(&server, 55, 5_000_000));
        drain(&client, 44, 5_000_000);
    });
    drop((client, server));
    stage.handle.shutdown(PATIENCE);
    stage.assert_ends();
    assert!(!front.exists(), "the socket file is removed");
}

#[test]
fn encryption_is_declined_by_us_where_it_is_disabled() {
    let stage = Stage::new(|config| config.tls.client = ClientTls::Disable);
    let mut client = stage.connect();
    for code in [0x2f, 0x30] {
        client.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, code]).unwrap();
        assert_eq!(take(&mut client, 1), b"N");
    }
    stage.assert_not_dialled();
    client.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    assert_eq!(take(&mut server, STARTUP.len()), STARTUP);
    server.write_all(WELCOME).unwrap();
    let attempt = stage.attempt();
    assert_eq!(attempt.ending, Ending::Ready);
    assert!(attempt.ssl_answered_by_us && attempt.record.ssl_request.is_some());
}

#[test]
fn a_client_that_leaves_when_encryption_is_declined_has_spoken() {
    let stage = Stage::new(|config| config.tls.client = ClientTls::Disable);
    let mut client = stage.connect();
    client.write_all(SSL_REQUEST).unwrap();
    assert_eq!(take(&mut client, 1), b"N");
    drop(client);
    assert_eq!(stage.attempt().ending, Ending::Closed);
}

#[test]
fn where_encryption_is_disabled_neither_injected_bytes_nor_tls_get_through() {
    let stage = Stage::new(|config| config.tls.client = ClientTls::Disable);
    let rows: [(&[u8], Ending); 2] = [
        (&[SSL_REQUEST, STARTUP].concat(), Ending::PlaintextInjected { bytes: STARTUP.len() }),
        (b"\x16\x03\x01\x00\x05hello", Ending::TlsRefused),
    ];
    for (bytes, ending) in rows {
        let mut client = stage.connect();
        client.write_all(bytes).unwrap();
        assert_eq!(rest(&mut client), b"");
        assert_eq!(stage.attempt().ending, ending);
    }
    stage.assert_not_dialled();
}

/// Goes through SSLRequest and something that looks like a TLS handshake, up to encrypted data.
fn opaque_login(stage: &Stage) -> (TcpStream, TcpStream) {
    let mut client = stage.connect();
    client.write_all(SSL_REQUEST).unwrap();
    let mut server = stage.accept();
    take(&mut server, 8);
    server.write_all(b"S").unwrap();
    take(&mut client, 1);
    let record = |kind: u8| [kind, 3, 3, 0, 4, 1, 0, 0, 0];
    for kind in [0x16, 0x14, 0x17] {
        client.write_all(&record(kind)).unwrap();
        take(&mut server, 9);
        server.write_all(&record(kind)).unwrap();
        take(&mut client, 9);
    }
    (client, server)
}

#[test]
fn an_opaque_connection_that_ends_early_says_who_ended_it() {
    let stage = Stage::new(|_| {});
    let (client, server) = opaque_login(&stage);
    drop(server);
    assert_eq!(rest(&mut &client), b"");
    drop(client);
    let attempt = stage.attempt();
    assert_eq!(attempt.ending, Ending::Opaque);
    let facts = attempt.opaque.unwrap();
    assert_eq!((facts.client_bytes, facts.server_bytes), (8 + 27, 1 + 27));
    assert!(matches!(facts.closed, Some((Side::Server, Close::Eof, _))), "{facts:?}");
    assert_eq!(stage.closed().first, Some((Side::Server, Close::Eof)));
}

/// As a driver that tries again in plaintext while the server has not closed what failed inside TLS.
#[test]
fn a_second_try_is_reported_behind_the_first_one() {
    let stage = Stage::new(|_| {});
    let (_client, first) = opaque_login(&stage);
    let mut second = stage.connect();
    second.write_all(STARTUP).unwrap();
    let mut server = stage.accept();
    take(&mut server, STARTUP.len());
    server.write_all(b"E\0\0\0\x1aSFATAL\0VFATAL\0C28000\0\0").unwrap();
    drop(server);
    // It is told at once, and so are the ends of both connections.
    assert_eq!(rest(&mut second).len(), 27);
    drop(first);
    let (first, second) = (stage.attempt(), stage.attempt());
    assert_eq!((first.ending, second.ending), (Ending::Opaque, Ending::Failed));
}

#[test]
fn an_opaque_connection_that_stays_is_carried_on() {
    let stage = Stage::new(|_| {});
    let (client, server) = opaque_login(&stage);
    thread::scope(|scope| {
        scope.spawn(|| pour(&server, 66, 3_000_000));
        drain(&client, 66, 3_000_000);
    });
    let attempt = stage.attempt();
    assert_eq!((attempt.ending, attempt.opaque.and_then(|facts| facts.closed)), (Ending::Opaque, None));
    thread::scope(|scope| {
        scope.spawn(|| pour(&client, 77, 3_000_000));
        drain(&server, 77, 3_000_000);
    });
}
