//! Clients that want more than they may: nothing of theirs reaches a server that has let pgwhy in.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::files::files;
use crate::running::{plan, server};
use crate::stalls::hello;
use crate::support::DEADLINE;
use crate::support::peer::{GSS_REQUEST, SSL_REQUEST, V3, message, startup};
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::{Plan, Server, Version};

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// TLS after an SSLRequest.
fn over_tls(proxy: &Proxy) -> Tls {
    let mut stream = connect(proxy);
    stream.write_all(SSL_REQUEST).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    rustls::StreamOwned::new(hello(), stream)
}

/// The next message: its type and body.
fn next(stream: &mut impl std::io::Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

/// Everything that comes until the end.
fn rest(stream: &mut impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    // An end without a close_notify is an end.
    let _ = stream.read_to_end(&mut all);
    all
}

/// A query whose effect can be seen afterwards.
fn query() -> Vec<u8> {
    message(b'Q', b"CREATE TABLE intruder ()\0")
}

/// Asks for a SCRAM login as `app`, up to the server's challenge; gives the nonce.
fn begin(tls: &mut Tls) -> String {
    tls.write_all(&startup(V3, &[("user", "app"), ("database", "app")])).unwrap();
    let (tag, body) = next(tls).unwrap();
    assert_eq!((tag, body[3]), (b'R', 10), "SCRAM is offered");
    let first = b"n,,n=,r=of-an-intruder";
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    tls.write_all(&message(b'p', &[b"SCRAM-SHA-256\0", &length[..], first].concat())).unwrap();
    let (tag, body) = next(tls).unwrap();
    assert_eq!((tag, body[3]), (b'R', 11), "a challenge");
    let text = String::from_utf8(body[4..].to_vec()).unwrap();
    text.split(',').next().unwrap().strip_prefix("r=").unwrap().to_owned()
}

/// pgwhy knows the password and could log in with it: nobody else may, with whatever they send behind.
#[test]
fn a_wrong_proof_gets_nobody_a_session() {
    let server = server();
    let known = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    for ahead in [true, false] {
        let mut proxy = Proxy::start(&known, &[]);
        let mut tls = over_tls(&proxy);
        let nonce = begin(&mut tls);
        let last = format!("c=biws,r={nonce},p={}", BASE64.encode([0; 32]));
        let proof = message(b'p', last.as_bytes());
        let sent = if ahead { [proof, query()].concat() } else { proof };
        tls.write_all(&sent).unwrap();
        let (tag, body) = next(&mut tls).unwrap();
        let said = String::from_utf8_lossy(&body).into_owned();
        assert!(tag == b'E' && said.contains("C28P01\0"), "{said}");
        assert!(said.contains("auth_failed"), "it is the server that refuses: {said}");
        // The answer may overtake this.
        let _ = tls.write_all(&query());
        assert_eq!(rest(&mut tls), b"", "nothing follows a refusal");
        drop(tls);
        let seen = handshakes(&proxy.finish());
        assert_eq!(seen[0]["cause"], "password_mismatch", "{}", seen[0]);
        assert_eq!(seen[0]["server_error"]["sqlstate"], "28P01", "{}", seen[0]);
        assert!(seen[0]["evidence"].to_string().contains("the server accepted it"), "{}", seen[0]);
    }
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'intruder'";
    assert_eq!(server.sql_in("app", tables), "0");
    let log = server.log_lines(0).join("\n");
    assert!(log.contains("password authentication failed for user \"app\""), "the server knows of it: {log}");
}

/// What pgwhy refuses in the server's place is told as its own, for the reason that it has.
#[test]
fn an_exchange_that_pgwhy_ends_is_blamed_on_no_pooler() {
    let server = server();
    let known = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    let mut proxy = Proxy::start(&known, &[]);
    let mut tls = over_tls(&proxy);
    tls.write_all(&startup(V3, &[("user", "app"), ("database", "app")])).unwrap();
    next(&mut tls).unwrap();
    let first = b"y,,n=,r=of-an-intruder";
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    tls.write_all(&message(b'p', &[b"SCRAM-SHA-256\0", &length[..], first].concat())).unwrap();
    let (tag, body) = next(&mut tls).unwrap();
    let said = String::from_utf8_lossy(&body).into_owned();
    assert!(tag == b'E' && said.contains("C28000\0") && said.contains("Fpgwhy\0"), "{said}");
    assert_eq!(rest(&mut tls), b"", "the connection ends");
    drop(tls);
    let seen = handshakes(&proxy.finish());
    assert_eq!(seen[0]["cause"], "channel_binding_downgrade", "{}", seen[0]);
    assert_eq!(seen[0]["server_error"], serde_json::Value::Null, "{}", seen[0]);
    assert!(seen[0]["evidence"].to_string().contains("pgwhy, which holds both ends"), "{}", seen[0]);
}

/// Whoever asks a second time for what was declined, or asks inside TLS, is not carried around what TLS is for.
#[test]
fn a_second_request_for_encryption_leads_around_nothing() {
    let trusting = Plan { hba: "host all all all trust\n".into(), ..plan() };
    let server = Server::start(Version::V15, &trusting);
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    let modes = [
        "--client-tls require",
        "--client-tls require --server-tls require",
        "--client-tls allow --server-tls require",
        "--client-tls open --server-tls require",
        "--server-tls require",
    ];
    for mode in modes {
        let args: Vec<String> = format!("{mode} {own}").split(' ').map(str::to_owned).collect();
        let upstream = format!("127.0.0.1:{}", server.port);
        let proxy = Proxy::start(&upstream, &args);
        let mut stream = connect(&proxy);
        let mut answer = [0];
        stream.write_all(GSS_REQUEST).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"N", "{mode}");
        stream.write_all(GSS_REQUEST).unwrap();
        let said = rest(&mut stream);
        assert!(said.starts_with(b"E"), "{mode}: {}", String::from_utf8_lossy(&said));
        for request in [SSL_REQUEST, GSS_REQUEST] {
            let mut tls = over_tls(&proxy);
            tls.write_all(request).unwrap();
            let said = rest(&mut tls);
            assert!(said.starts_with(b"E"), "{mode}: {}", String::from_utf8_lossy(&said));
        }
        let outcomes: Vec<_> =
            proxy.wait_handshakes(3, DEADLINE).iter().map(|seen| seen["outcome"].clone()).collect();
        assert!(outcomes.len() == 3 && outcomes.iter().all(|outcome| *outcome == "failed"), "{outcomes:?}");
    }
}

/// Where logins go over TLS, so do the keys that end their queries.
#[test]
fn a_cancel_request_goes_no_less_sheltered_than_its_login() {
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let args: Vec<String> =
        format!("--client-tls allow --server-tls require {own}").split(' ').map(str::to_owned).collect();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string(), &args);
    // Behind the packet, of 16 bytes as it says, comes what is no part of the key.
    let request = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x08and more";
    let mut client = connect(&proxy);
    client.write_all(request).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut asked = [0; 8];
    server.read_exact(&mut asked).unwrap();
    assert_eq!(asked, SSL_REQUEST);
    server.write_all(b"N").unwrap();
    assert_eq!(rest(&mut server), b"", "the key is not sent in clear");
}

/// Somebody between pgwhy and the server can break TLS with pgwhy, but not have it with the client instead.
#[test]
fn who_breaks_a_verified_handshake_is_not_given_the_client() {
    let ca = files().fill("{ca}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let known = format!("postgres://app:correct-pw-1@{}/app", listener.local_addr().unwrap());
    let args = ["--server-tls", "verify-full", "--server-ca", &ca].map(str::to_owned);
    let proxy = Proxy::start(&known, &args);
    let between = std::thread::spawn(move || {
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        server.read_exact(&mut [0; 8]).unwrap();
        server.write_all(b"S").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        // A fatal alert: handshake_failure.
        server.write_all(b"\x15\x03\x03\0\x02\x02\x28").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let mut tls = over_tls(&proxy);
    tls.write_all(&startup(V3, &[("user", "app")])).unwrap();
    let said = String::from_utf8_lossy(&rest(&mut tls)).into_owned();
    assert!(said.contains("C08006\0"), "{said}");
    assert!(between.join().unwrap().accept().is_err(), "a second connection that nobody verifies");
    let seen = proxy.wait_handshakes(1, DEADLINE);
    assert_eq!((&seen[0]["outcome"], &seen[0]["failed_step"]), (&"failed".into(), &"tls_handshake".into()));
}

/// Some clients take every answer but `S` for a refusal, and go on in clear.
#[test]
fn an_odd_answer_to_the_ssl_request_is_the_last_word() {
    let own = files().fill("--tls-cert {good.crt} --tls-key {good.key}");
    for mode in ["--client-tls require", "--server-tls require"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let args: Vec<String> = format!("{mode} {own}").split(' ').map(str::to_owned).collect();
        let proxy = Proxy::start(&listener.local_addr().unwrap().to_string(), &args);
        let mut client = connect(&proxy);
        client.write_all(SSL_REQUEST).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        server.read_exact(&mut [0; 8]).unwrap();
        server.write_all(b"G").unwrap();
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"G", "{mode}");
        let _ = client.write_all(&startup(V3, &[("user", "app")]));
        assert_eq!(rest(&mut server), b"", "{mode}: nothing follows in clear");
        assert_eq!(rest(&mut client), b"", "{mode}");
    }
}
