//! The SCRAM bridge between real servers and clients: postgres-protocol's own SCRAM, with and without
//! channel binding, and psql.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use pgwhy::certs;
use pgwhy::password::bridge::{
    Bridge, Credential, ENTROPY, Event, Fault, Leg, Moves, Need, Outcome, SCRAM_PLUS, Side,
};
use pgwhy::secret::Secret;
use pgwhy::wire::backend::{Authentication, Backend};
use pgwhy::wire::frame::{Frame, Framer, Kind};
use pgwhy::wire::frontend::{SaslInitialResponse, Startup, Untagged, encode_tagged};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::pki_types::{CertificateDer, ServerName};
use support::certs::{Authority, Issued, Wish};
use support::client::{Login, Who};
use support::server::{Plan, Server, Version};
use support::trusting::Trusting;

const VERSIONS: [Version; 2] = [Version::V15, Version::V18];

const SQL: &str = "
CREATE ROLE app LOGIN PASSWORD 'correct-pw';
CREATE ROLE odd LOGIN PASSWORD U&'a\\00adb\\00a0\\00e9';
CREATE ROLE expired LOGIN PASSWORD 'correct-pw' VALID UNTIL '2020-01-01';
CREATE ROLE nologin PASSWORD 'correct-pw';
CREATE DATABASE app;
";

const HBA: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

fn plain_server(version: Version) -> Server {
    Server::start(version, &Plan { hba: HBA.into(), sql: SQL.into(), ..Plan::default() })
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text.to_owned()))
}

fn entropy() -> [u8; ENTROPY] {
    let mut bytes = [0; ENTROPY];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// Tags and bodies of whole messages.
fn messages(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut framer = Framer::default();
    framer.push(bytes);
    let mut list = Vec::new();
    while let Some(Frame::Tagged { tag, body }) = framer.next(Kind::Tagged) {
        list.push((tag, body.to_vec()));
    }
    list
}

/// A connection to a real server.
struct Peer {
    stream: Box<dyn Stream>,
    framer: Framer,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Peer {
    fn new(stream: impl Read + Write + 'static) -> Self {
        Self { stream: Box::new(stream), framer: Framer::default() }
    }

    fn start(&mut self, user: &str) {
        let mut out = Vec::new();
        let parameters: Vec<(&[u8], &[u8])> = vec![(b"user", user.as_bytes()), (b"database", b"app")];
        Untagged::Startup(Startup { version: 0x3_0000, parameters }).encode(&mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The next message; `None` when the server has closed.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.framer.next(Kind::Tagged) {
                let Frame::Tagged { tag, body } = frame else { panic!("{frame:?}") };
                return Some((tag, body.to_vec()));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.framer.push(&buffer[..length]),
            }
        }
    }
}

/// A client made of postgres-protocol's SCRAM.
struct Client {
    scram: ScramSha256,
    plus: bool,
    error: Option<(String, String)>,
    /// The server's signature was there and right.
    satisfied: bool,
}

impl Client {
    fn new(password: &str, end_point: Option<&[u8]>) -> Self {
        let binding = match end_point {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
            None => ChannelBinding::unsupported(),
        };
        let scram = ScramSha256::new(password.as_bytes(), binding);
        Self { scram, plus: end_point.is_some(), error: None, satisfied: false }
    }

    fn answer(&mut self, tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match Backend::decode(tag, body).unwrap() {
            Backend::Authentication(Authentication::Sasl(offered)) => {
                let mechanism: &[u8] = if self.plus { SCRAM_PLUS } else { b"SCRAM-SHA-256" };
                assert!(offered.contains(&mechanism), "{offered:?}");
                SaslInitialResponse { mechanism, response: Some(self.scram.message()) }.encode(&mut out);
            }
            Backend::Authentication(Authentication::SaslContinue(text)) => {
                self.scram.update(text).unwrap();
                encode_tagged(&mut out, b'p', self.scram.message());
            }
            Backend::Authentication(Authentication::SaslFinal(text)) => {
                self.scram.finish(text).unwrap();
                self.satisfied = true;
            }
            Backend::Error(fields) => {
                let text = |kind| String::from_utf8_lossy(fields.get(kind).unwrap()).into_owned();
                self.error = Some((text(b'C'), text(b'M')));
            }
            other => panic!("{other:?}"),
        }
        out
    }
}

/// Makes a key as the relay will: aside.
fn with_key(bridge: &mut Bridge, moves: Moves) -> Vec<Moves> {
    let Some(Need::Key { salt, iterations }) = moves.need.clone() else { return vec![moves] };
    let key = bridge.credential().salted_password(&salt, iterations).unwrap();
    vec![moves, bridge.on(&Event::KeyReady(key))]
}

/// A login through the bridge: the outcome, and whether the session then came up.
fn log_in(bridge: &mut Bridge, server: &mut Peer, client: &mut Client) -> (Outcome, bool) {
    while bridge.outcome().is_none() {
        let (tag, body) = server.next().expect("the server does not just close");
        let mut pending = with_key(bridge, Moves::default());
        let first = bridge.on(&Event::Server { tag, body: &body });
        pending.extend(with_key(bridge, first));
        while let Some(moves) = pending.pop() {
            server.stream.write_all(&moves.to_server).unwrap();
            for (tag, body) in messages(&moves.to_client) {
                for (tag, body) in messages(&client.answer(tag, &body)) {
                    let next = bridge.on(&Event::Client { tag, body: &body });
                    pending.extend(with_key(bridge, next));
                }
            }
        }
    }
    let outcome = bridge.outcome().unwrap().clone();
    let mut ready = false;
    while outcome == Outcome::Both && !ready {
        let Some((tag, _)) = server.next() else { break };
        ready = tag == b'Z';
    }
    (outcome, ready)
}

/// Ours goes to the server only behind a right one of the client.
fn refused(proof_fits: bool) -> Outcome {
    Outcome::ServerRefused { proof_fits: Some(proof_fits), after_our_proof: proof_fits }
}

#[test]
fn real_servers_and_a_second_opinion_agree_with_the_bridge() {
    for version in VERSIONS {
        let server = plain_server(version);
        let stored = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
        let secret = || Credential::secret(&stored).unwrap();
        server.sql("ALTER ROLE app PASSWORD 'correct-pw'");
        let stale = secret();
        let stored = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
        let secret = || Credential::secret(&stored).unwrap();
        let another = Outcome::Fault { side: Side::Ours, fault: Fault::AnotherSecret };
        let odd = "a\u{ad}b\u{a0}\u{e9}";
        let wrong = |user: &str| {
            Some(("28P01".to_owned(), format!("password authentication failed for user \"{user}\"")))
        };
        let rows = [
            ("right", "app", password("correct-pw"), "correct-pw", Outcome::Both, None),
            ("wrong client, right expectation", "app", password("correct-pw"), "correct-pw ", refused(false), wrong("app")),
            ("right client, wrong expectation", "app", password("old-pw"), "correct-pw", refused(false), wrong("app")),
            ("wrong alike", "app", password("old-pw"), "old-pw", refused(true), wrong("app")),
            ("wrong in two ways", "app", password("old-pw"), "older-pw", refused(false), wrong("app")),
            ("a secret, right client", "app", secret(), "correct-pw", Outcome::Both, None),
            ("a secret, wrong client", "app", secret(), "wrong-pw", refused(false), wrong("app")),
            ("a secret of before", "app", stale, "correct-pw", another.clone(),
             Some(("28000".to_owned(), "pgwhy: can't log in for user \"app\": the SCRAM secret that it was given is not the server's".to_owned()))),
            ("no such role", "nobody", password("correct-pw"), "correct-pw", refused(true), wrong("nobody")),
            ("expired", "expired", password("correct-pw"), "correct-pw", refused(true), wrong("expired")),
            ("prepared by SASLprep on all sides", "odd", password(odd), odd, Outcome::Both, None),
        ];
        for (claim, user, credential, sent, outcome, error) in rows {
            for bound in [false, true] {
                let end_point = b"any hash will do".to_vec();
                let (leg, hash) = match bound {
                    true => (Leg::Tls { end_point: Some(end_point.clone()) }, Some(end_point.as_slice())),
                    false => (Leg::Plain, None),
                };
                let mut peer = Peer::new(TcpStream::connect(server.addr()).unwrap());
                peer.start(user);
                let mut bridge =
                    Bridge::new(credential.clone(), user.as_bytes(), leg, Leg::Plain, &entropy());
                let mut client = Client::new(sent, hash);
                let (found, ready) = log_in(&mut bridge, &mut peer, &mut client);
                assert_eq!(found, outcome, "{claim}, {version:?}, bound: {bound}");
                assert_eq!(ready, outcome == Outcome::Both, "{claim}: a session");
                assert_eq!(client.satisfied, outcome == Outcome::Both, "{claim}: the server's signature");
                assert_eq!(client.error, error, "{claim}, {version:?}");
                assert_eq!(bridge.binds_client(), Some(bound), "{claim}");
            }
        }
    }
}

#[test]
fn a_role_without_the_right_to_log_in_is_refused_behind_the_bridge() {
    let server = plain_server(Version::V18);
    server.sql("SET scram_iterations = 20000; ALTER ROLE nologin PASSWORD 'correct-pw'");
    let mut peer = Peer::new(TcpStream::connect(server.addr()).unwrap());
    peer.start("nologin");
    let mut bridge = Bridge::new(password("correct-pw"), b"nologin", Leg::Plain, Leg::Plain, &entropy());
    let mut client = Client::new("correct-pw", None);
    // SCRAM is over when PostgreSQL looks at the role's rights: that error is the caller's to carry.
    assert_eq!(log_in(&mut bridge, &mut peer, &mut client), (Outcome::Both, false));
    assert!(client.satisfied);
}

/// A plaintext leg to psql on a port of its own, for one connection.
fn bridge_for_psql(
    server: std::net::SocketAddr,
    credential: Credential,
) -> (u16, std::thread::JoinHandle<Outcome>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(server).unwrap();
        // The startup packet goes on as it is: psql with sslmode=disable begins with it.
        let mut packet = [0; 1024];
        let length = (&near).read(&mut packet).unwrap();
        (&far).write_all(&packet[..length]).unwrap();
        let mut bridge = Bridge::new(credential, b"app", Leg::Plain, Leg::Plain, &entropy());
        let (mut client, mut server) =
            (Peer::new(near.try_clone().unwrap()), Peer::new(far.try_clone().unwrap()));
        // Both sides were asked at once, so the order of reading is free: the server's offer and challenge first.
        for ask_client in [false, false, true, true, false] {
            let from = if ask_client { client.next() } else { server.next() };
            let (tag, body) = from.expect("nobody leaves");
            let moves = match ask_client {
                true => bridge.on(&Event::Client { tag, body: &body }),
                false => bridge.on(&Event::Server { tag, body: &body }),
            };
            for moves in with_key(&mut bridge, moves) {
                client.stream.write_all(&moves.to_client).unwrap();
                server.stream.write_all(&moves.to_server).unwrap();
            }
        }
        let outcome = bridge.outcome().unwrap().clone();
        if outcome == Outcome::Both {
            near.try_clone().unwrap().write_all(server.framer.ahead()).unwrap();
            let (mut a, mut b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let back = std::thread::spawn(move || drop(std::io::copy(&mut b, &mut a)));
            drop(std::io::copy(&mut &near, &mut &far));
            far.shutdown(std::net::Shutdown::Both).ok();
            back.join().unwrap();
        }
        outcome
    });
    (port, thread)
}

#[test]
fn psql_logs_in_through_the_bridge() {
    for version in VERSIONS {
        let server = plain_server(version);
        let rows = [
            ("correct-pw", Outcome::Both, ""),
            ("wrong-pw", refused(false), "password authentication failed for user \"app\""),
        ];
        for (sent, outcome, error) in rows {
            let (port, bridge) = bridge_for_psql(server.addr(), password("correct-pw"));
            let login = Login {
                user: "app".into(),
                database: Some("app".into()),
                password: Some(sent.into()),
                ..Login::default()
            };
            let answer = Who::Psql.log_in(([127, 0, 0, 1], port).into(), &login);
            assert_eq!(bridge.join().unwrap(), outcome, "{version:?} {answer:?}");
            assert!(answer.ok == error.is_empty() && answer.error.contains(error), "{version:?} {answer:?}");
        }
    }
}

/// TLS to a real server, and the certificate that it showed.
fn over_tls(server: &Server) -> (Peer, CertificateDer<'static>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let mut request = Vec::new();
    Untagged::SslRequest.encode(&mut request);
    stream.write_all(&request).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let mut tls =
        rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    let certificate = tls.peer_certificates().unwrap()[0].clone().into_owned();
    (Peer::new(rustls::StreamOwned::new(tls, stream)), certificate)
}

/// One that rcgen can't make.
fn by_openssl(options: &str) -> Issued {
    let dir = support::keeper::Scratch::new();
    let openssl = support::install::need("openssl", "apt-get install openssl");
    let script =
        format!("\"$0\" req -x509 -nodes -days 30 -subj /CN=localhost -keyout key -out crt {options}");
    let output =
        std::process::Command::new("sh").args(["-ec", &script]).arg(openssl).current_dir(dir.path()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    Issued { pem: read("crt"), key: read("key"), der: Vec::new() }
}

/// What PostgreSQL binds to is what [`certs::end_point_hash`] says: SCRAM-SHA-256-PLUS on the server leg, for every
/// signature that servers have.
#[test]
fn the_server_leg_is_bound_as_postgresql_binds_it() {
    let ca = Authority::root("Test CA");
    let issued = |key| ca.issue(&Wish::server(&["localhost"]).keyed(key));
    let rsa = |options: &str| by_openssl(&format!("-newkey rsa:2048 {options}"));
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1";
    let self_signed = |key| Wish::server(&["localhost"]).keyed(key).self_signed();
    let rows = [
        ("signed by an authority with ECDSA and SHA-256", issued(&rcgen::PKCS_ECDSA_P384_SHA384), true),
        ("ECDSA and SHA-384", self_signed(&rcgen::PKCS_ECDSA_P384_SHA384), true),
        ("ECDSA and SHA-512", self_signed(&rcgen::PKCS_ECDSA_P521_SHA512), true),
        ("ECDSA and SHA-224", by_openssl("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha224"), true),
        ("RSA and SHA-256", rsa("-sha256"), true),
        ("RSA and SHA-512", rsa("-sha512"), true),
        ("RSA-PSS and SHA-256", rsa(&format!("-sha256 {pss}")), true),
        ("RSA-PSS and SHA-384", rsa(&format!("-sha384 {pss}")), true),
        // rcgen writes such a key in a form that OpenSSL 3.0 does not read.
        ("Ed25519 can't be bound to", by_openssl("-newkey ed25519"), false),
    ];
    for version in VERSIONS {
        for (claim, certificate, bound) in &rows {
            let plan = Plan {
                hba: HBA.into(),
                sql: SQL.into(),
                tls: true,
                files: certificate.files(&ca.pem()),
                ..Plan::default()
            };
            let server = Server::start(version, &plan);
            let (mut peer, shown) = over_tls(&server);
            let end_point = certs::end_point_hash(&shown);
            assert_eq!(end_point.is_some(), *bound, "{claim}");
            peer.start("app");
            let mut bridge =
                Bridge::new(password("correct-pw"), b"app", Leg::Plain, Leg::Tls { end_point }, &entropy());
            let mut client = Client::new("correct-pw", None);
            let found = log_in(&mut bridge, &mut peer, &mut client);
            assert_eq!(found, (Outcome::Both, true), "{claim}, {version:?}: {}", server.log_text());
            assert_eq!(bridge.binds_server(), Some(*bound), "{claim}, {version:?}");
        }
    }
}
