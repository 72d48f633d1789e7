//! Who stalls in a flight of a handshake, client or server, is ended by the login deadline, and told apart.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use crate::files::files;
use crate::running::server;
use crate::support::DEADLINE;
use crate::support::peer::{Behaviour, FakeServer, GSS_REQUEST, SSL_REQUEST, V3, message, startup};
use crate::support::proxy::{Proxy, handshakes};
use crate::support::trusting::Trusting;

/// How far a client goes before it stalls.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Far {
    Asked,
    HalfHello,
    Hello,
    HalfFinished,
    Tls,
    HalfStartup,
    Startup,
}

pub fn hello() -> rustls::ClientConnection {
    hello_for(b"postgresql")
}

/// A TLS client of this protocol (ALPN).
fn hello_for(protocol: &[u8]) -> rustls::ClientConnection {
    let mut config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Goes so far, then says nothing more, and returns when the other end is gone.
fn stall(proxy: &Proxy, far: Far, direct: bool) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(proxy.addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    if !direct {
        stream.write_all(SSL_REQUEST).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut tls = hello();
    let mut first = Vec::new();
    tls.write_tls(&mut first).unwrap();
    match far {
        Far::Asked => {}
        Far::HalfHello => stream.write_all(&first[..first.len() / 2]).unwrap(),
        _ => stream.write_all(&first).unwrap(),
    }
    if far > Far::Hello {
        while tls.is_handshaking() {
            assert_ne!(tls.read_tls(&mut stream).unwrap(), 0, "{far:?}: ended in its handshake");
            tls.process_new_packets().unwrap();
        }
        let mut finished = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut finished).unwrap();
        }
        let count = if far == Far::HalfFinished { finished.len() - 8 } else { finished.len() };
        stream.write_all(&finished[..count]).unwrap();
    }
    if far >= Far::HalfStartup {
        let packet = startup(V3, &[("user", "app"), ("database", "app")]);
        let count = if far == Far::HalfStartup { packet.len() / 2 } else { packet.len() };
        tls.writer().write_all(&packet[..count]).unwrap();
        tls.write_tls(&mut stream).unwrap();
    }
    let mut rest = Vec::new();
    // A reset is an end as well.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{far:?}: nobody ended it");
    }
    began.elapsed()
}

fn ended_in_time(claim: &str, took: Duration) {
    let fits = Duration::from_millis(2900) < took && took < DEADLINE / 2;
    assert!(fits, "{claim}: ended after {took:?}, and the deadline is 3 s");
}

#[test]
fn a_client_that_stalls_in_any_flight_is_ended() {
    let server = server();
    let known = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    for (mode, direct) in [
        ("--client-tls open", false),
        ("--client-tls open", true),
        ("--client-tls require --server-tls require", false),
        ("--client-tls auto", false),
        ("--client-tls passthrough", false),
    ] {
        // Before it all of them have gone as far as they go, on a busy machine, too.
        let args = format!("{mode} {own} --login-timeout 3s");
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        let mut proxy = Proxy::start(&known, &args);
        let mut flights = vec![
            Far::Asked,
            Far::HalfHello,
            Far::Hello,
            Far::HalfFinished,
            Far::Tls,
            Far::HalfStartup,
            Far::Startup,
        ];
        if direct {
            flights.remove(0);
        }
        if mode.contains("passthrough") {
            // Once both sides have sent what is encrypted it is the server's to end it.
            flights.truncate(2);
        }
        let count = flights.len();
        std::thread::scope(|scope| {
            for far in flights {
                let proxy = &proxy;
                scope.spawn(move || {
                    ended_in_time(&format!("{mode}, direct {direct}: {far:?}"), stall(proxy, far, direct));
                });
            }
        });
        let seen = handshakes(&proxy.finish());
        assert_eq!(seen.len(), count, "{mode}: {seen:?}");
        for report in seen {
            assert_eq!(report["outcome"], "failed", "{mode}: {report}");
            assert_eq!(report["leg"], "client", "{mode}: {report}");
            let cause = report["cause"].as_str().unwrap();
            assert!(["startup_timeout", "auth_timeout"].contains(&cause), "{mode}: {report}");
        }
    }
}

/// Begins a login as far as it goes; for an answer to the SSLRequest it waits so long.
fn begin(proxy: &Proxy, mode: &str, patience: Duration) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.addr).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut first = Vec::new();
    if mode.contains("allow") {
        first = startup(V3, &[("user", "app")]);
    } else {
        stream.write_all(SSL_REQUEST).unwrap();
        let mut answer = [0];
        if stream.read(&mut answer).is_ok_and(|count| count == 1) {
            hello().write_tls(&mut first).unwrap();
        }
    }
    // Who is ended already takes nothing more.
    let _ = stream.write_all(&first);
    stream
}

/// Servers that fall silent, and where.
const STALLS: [(&str, Behaviour); 4] = [
    ("no answer to the SSLRequest", |wire| {
        wire.read(SSL_REQUEST.len())?;
        wire.read_to_end().map(drop)
    }),
    ("no ServerHello", |wire| {
        wire.read(SSL_REQUEST.len())?;
        wire.send(b"S")?;
        wire.read_to_end().map(drop)
    }),
    ("half a record", |wire| {
        wire.read(SSL_REQUEST.len())?;
        wire.send(b"S")?;
        wire.read(5)?;
        wire.send(b"\x16\x03\x03\x10\0\x02\0")?;
        wire.read_to_end().map(drop)
    }),
    ("a warning and nothing else", |wire| {
        wire.read(SSL_REQUEST.len())?;
        wire.send(b"S")?;
        wire.read(5)?;
        wire.send(b"\x15\x03\x03\0\x02\x01\x70")?;
        wire.read_to_end().map(drop)
    }),
];

#[test]
fn a_client_that_gives_a_silent_server_up_is_reported_soon() {
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    std::thread::scope(|scope| {
        let modes = ["--client-tls open", "--client-tls allow --server-tls require"];
        let mut cases: Vec<_> = STALLS
            .iter()
            .flat_map(|(claim, behaviour)| modes.map(|mode| (*claim, *behaviour, mode)))
            .collect();
        // Where the startup packet goes first it is pgwhy who waits for its answer.
        cases.push((
            "no answer to the startup",
            |wire| wire.read_to_end().map(drop),
            "--client-tls allow --server-tls allow",
        ));
        for (claim, behaviour, mode) in cases {
            let own = &own;
            scope.spawn(move || {
                let fake = FakeServer::start(behaviour);
                let args: Vec<String> = format!("{mode} {own}").split(' ').map(str::to_owned).collect();
                let proxy = Proxy::start(&fake.addr.to_string(), &args);
                drop(begin(&proxy, mode, Duration::from_secs(1)));
                let seen = proxy.wait_handshakes(1, DEADLINE);
                assert_eq!(seen.len(), 1, "{claim}, {mode}: it waits for the login deadline");
                let cause = if claim.starts_with("no answer") { "no_answer" } else { "tls_cut" };
                let expected = (cause, "server", "likely");
                let word = |field: &str| seen[0][field].as_str().unwrap_or_default();
                assert_eq!((word("cause"), word("leg"), word("confidence")), expected, "{claim}, {mode}");
            });
        }
    });
}

#[test]
fn a_server_that_closes_is_reported_soon_although_its_client_stays() {
    std::thread::scope(|scope| {
        for (claim, first) in
            [("startup", startup(V3, &[("user", "app")])), ("SSLRequest", SSL_REQUEST.to_vec())]
        {
            scope.spawn(move || {
                let fake = FakeServer::start(|wire| wire.read(8).map(drop));
                let proxy = Proxy::start(&fake.addr.to_string(), &[]);
                let mut stream = TcpStream::connect(proxy.addr).unwrap();
                stream.write_all(&first).unwrap();
                let seen = proxy.wait_handshakes(1, DEADLINE);
                assert_eq!(seen.len(), 1, "{claim}: it waits for the login deadline");
                assert_eq!(seen[0]["cause"], "closed_without_answer", "{claim}: {}", seen[0]);
            });
        }
    });
}

#[test]
fn a_server_that_stalls_in_any_flight_is_ended() {
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    for (claim, behaviour) in STALLS {
        for mode in ["--client-tls open", "--client-tls allow --server-tls require", "--client-tls auto"] {
            let fake = FakeServer::start(behaviour);
            let args = format!("{mode} {own} --login-timeout 1500ms");
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            let proxy = Proxy::start(&fake.addr.to_string(), &args);
            let began = Instant::now();
            let mut stream = begin(&proxy, mode, DEADLINE);
            let _ = stream.read_to_end(&mut Vec::new());
            let took = began.elapsed();
            let seen = proxy.wait_handshakes(1, DEADLINE);
            assert!(took < DEADLINE / 2, "{claim}, {mode}: ended after {took:?}");
            assert_eq!(seen.len(), 1, "{claim}, {mode}");
            let cause = if claim.contains("SSLRequest") { "no_answer" } else { "tls_cut" };
            assert_eq!(seen[0]["cause"], cause, "{claim}, {mode}: {}", seen[0]);
            assert_eq!(seen[0]["leg"], "server", "{claim}, {mode}: {}", seen[0]);
        }
    }
}

#[test]
fn gss_encryption_is_declined_where_tls_ends_and_asked_of_the_server_elsewhere() {
    let server = server();
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    for mode in ["allow", "require", "open", "auto", "passthrough", "disable"] {
        let args: Vec<String> = format!("--client-tls {mode} {own}").split(' ').map(str::to_owned).collect();
        let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
        let mut stream = TcpStream::connect(proxy.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = [0];
        stream.write_all(GSS_REQUEST).unwrap();
        stream.read_exact(&mut answer).unwrap();
        if !["allow", "require", "disable"].contains(&mode) && answer == *b"G" {
            // The server's own answer; what follows is Kerberos.
            continue;
        }
        assert_eq!(answer, *b"N", "{mode}");
        stream.write_all(SSL_REQUEST).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, if mode == "disable" { *b"N" } else { *b"S" }, "{mode}: TLS after that");
    }
}

#[test]
fn a_client_that_says_nothing_after_the_answer_is_not_the_servers_fault() {
    let server = server();
    for (request, mode) in [
        (SSL_REQUEST, "passthrough"),
        (SSL_REQUEST, "disable"),
        (GSS_REQUEST, "disable"),
        (GSS_REQUEST, "require"),
    ] {
        let args = format!("--client-tls {mode} --login-timeout 1s");
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
        let mut stream = TcpStream::connect(proxy.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        let seen = proxy.wait_handshakes(1, DEADLINE);
        assert_eq!(seen[0]["cause"], "startup_timeout", "{mode}: {}", seen[0]);
        assert_eq!(seen[0]["leg"], "client", "{mode}: {}", seen[0]);
    }
}

#[test]
fn a_client_of_another_protocol_over_tls_is_a_probe() {
    let server = server();
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    for mode in ["--client-tls passthrough", "--client-tls auto", "--client-tls disable"] {
        let args: Vec<String> = format!("{mode} {own}").split(' ').map(str::to_owned).collect();
        let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
        let mut stream = TcpStream::connect(proxy.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        hello_for(b"http/1.1").write_tls(&mut stream).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        drop(stream);
        let seen = proxy.wait_handshakes(1, DEADLINE);
        let word = |field: &str| seen[0][field].as_str().unwrap_or_default();
        let expected = ("probe", "not_a_client", "tls_probe");
        assert_eq!((word("outcome"), word("cause"), word("variant")), expected, "{mode}: {}", seen[0]);
    }
}

#[test]
fn a_hello_is_read_as_rustls_reads_it() {
    let mut input = vec![0];
    hello().write_tls(&mut input).unwrap();
    // Every beginning of it, too: more may come later.
    for length in [input.len(), 1, 2, 6, 7, 60, input.len() - 1] {
        pgwhy::fuzzing::tls(&input[..length]);
    }
}

/// What a client says behind its close_notify is not read, and its relay thread has other things to do.
#[test]
fn what_comes_behind_a_goodbye_holds_up_nobody() {
    let echo = FakeServer::start(|wire| {
        wire.read_packet()?;
        wire.send(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat())?;
        loop {
            let byte = wire.read(1)?;
            wire.send(&byte)?;
        }
    });
    let (cert, key) = (files().fill("{shown.crt}"), files().fill("{shown.key}"));
    let args = ["--client-tls", "require", "--server-tls", "disable", "--tls-cert", &cert, "--tls-key", &key];
    let args = [&args[..], &["--threads", "1"]].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let proxy = Proxy::start(&echo.addr.to_string(), &args);
    let open = || {
        let mut stream = TcpStream::connect(proxy.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(SSL_REQUEST).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let mut session = rustls::StreamOwned::new(hello(), stream);
        session.write_all(&startup(V3, &[("user", "app")])).unwrap();
        session.read_exact(&mut [0; 15]).unwrap();
        // With the answer to its first request the session moves to the relay thread.
        session.write_all(b"1").unwrap();
        session.read_exact(&mut [0]).unwrap();
        session
    };
    let mut other = open();
    for goodbye in [true, false] {
        let mut session = open();
        if goodbye {
            session.conn.send_close_notify();
        }
        let mut last = Vec::new();
        session.conn.write_tls(&mut last).unwrap();
        last.resize(last.len() + 9_000, 0);
        session.sock.write_all(&last).unwrap();
        // Gone, or told that these are no records; the other one never notices.
        let _ = session.sock.read_to_end(&mut Vec::new());
        other.write_all(b"2").unwrap();
        let mut answer = [0];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"2");
    }
}
