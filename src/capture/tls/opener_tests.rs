//! Real TLS connections in memory, of every suite that rustls has, opened with their key logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::*;

#[derive(Debug, Default)]
struct Lines(Mutex<String>);

impl rustls::KeyLog for Lines {
    fn log(&self, label: &str, random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.lock().unwrap().push_str(&format!("{label} {} {}\n", hex(random), hex(secret)));
    }
}

/// What one side wrote, as it went over the wire.
type Flight = (Side, Vec<u8>);

struct Talk {
    flights: Vec<Flight>,
    keys: KeyLog,
}

/// The ends of one connection with this provider on the client's side.
fn ends(client: CryptoProvider, trusted: bool) -> (Connection, Connection, Arc<Lines>) {
    let made = rcgen::generate_simple_self_signed(vec!["db.example".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    if trusted {
        roots.add(made.cert.der().clone()).unwrap();
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(client)).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    let lines = Arc::new(Lines::default());
    config.key_log = lines.clone();
    let name = ServerName::try_from("db.example").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    (client.into(), ServerConnection::new(Arc::new(server)).unwrap().into(), lines)
}

fn carry(flights: &mut Vec<Flight>, side: Side, from: &mut Connection, to: &mut Connection) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        // What went wrong is an alert, and goes back.
        let _ = to.process_new_packets();
    }
    let mut inside = [0; 4096];
    while to.reader().read(&mut inside).is_ok_and(|count| count > 0) {}
    if !bytes.is_empty() {
        flights.push((side, bytes));
    }
}

/// A handshake, and these words by turns.
fn talk(client: CryptoProvider, trusted: bool, words: &[(Side, &str)], refresh: bool) -> Talk {
    let (mut client, mut server, lines) = ends(client, trusted);
    let mut flights =
        vec![(Side::Client, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()), (Side::Server, b"S".to_vec())];
    for _ in 0..4 {
        carry(&mut flights, Side::Client, &mut client, &mut server);
        carry(&mut flights, Side::Server, &mut server, &mut client);
    }
    for (side, word) in words {
        let (from, to) =
            if *side == Side::Client { (&mut client, &mut server) } else { (&mut server, &mut client) };
        if refresh {
            from.refresh_traffic_keys().unwrap();
        }
        from.writer().write_all(word.as_bytes()).unwrap();
        carry(&mut flights, *side, from, to);
    }
    let mut keys = KeyLog::default();
    keys.read(lines.0.lock().unwrap().as_bytes());
    Talk { flights, keys }
}

/// What an observer would hear of it: words inside, with the mark where they begin, and what came before.
fn hear(talk: &Talk, keys: &KeyLog, size: usize) -> (Vec<Flight>, Vec<Flight>, Opener) {
    let (mut before, mut inside, mut open) = (Vec::<Flight>::new(), Vec::<Flight>::new(), false);
    let mut opener = Opener::default();
    let mut listen = |side, _, heard: Heard<'_>| match heard {
        Heard::Opened => open = true,
        Heard::Lost(count) => inside.push((side, format!("lost {count}").into_bytes())),
        Heard::Bytes(bytes) => {
            let list = if open { &mut inside } else { &mut before };
            match list.last_mut().filter(|(last, _)| *last == side) {
                Some((_, last)) => last.extend_from_slice(bytes),
                None => list.push((side, bytes.to_vec())),
            }
        }
    };
    for (side, bytes) in &talk.flights {
        bytes.chunks(size).for_each(|part| opener.bytes(keys, *side, 7, part, &mut listen));
    }
    opener.closing(8, &mut listen);
    opener.finish(8, &mut listen);
    (before, inside, opener)
}

const WORDS: [(Side, &str); 4] =
    [(Side::Client, "startup"), (Side::Server, "who are you"), (Side::Client, "me"), (Side::Server, "no")];

fn wanted() -> Vec<Flight> {
    WORDS.iter().map(|(side, word)| (*side, word.as_bytes().to_vec())).collect()
}

#[test]
fn every_suite_is_opened_however_it_is_cut() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        // The made-up certificate has an ECDSA key.
        if format!("{suite:?}").contains("_RSA_") {
            continue;
        }
        let provider = CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let talk = talk(provider, true, &WORDS, false);
        for size in [1, 7, 1_000, 100_000] {
            let (before, inside, opener) = hear(&talk, &talk.keys, size);
            assert!(opener.is_open(), "{suite:?}");
            assert_eq!(inside, wanted(), "{suite:?}, in pieces of {size}");
            let hello = before.iter().filter(|(_, bytes)| bytes.starts_with(&[22, 3])).count();
            assert!(hello >= 2, "{suite:?}: both hellos are heard: {before:?}");
        }
    }
}

#[test]
fn keys_that_change_and_hellos_that_are_asked_for_again_do_not_matter() {
    let new = talk(aws_lc_rs::default_provider(), true, &WORDS, true);
    assert_eq!(hear(&new, &new.keys, 11).1, wanted(), "KeyUpdate before every word");
    // The server does not like the first group; the second hello has another.
    let groups = vec![Unliked::leak(), aws_lc_rs::kx_group::SECP256R1];
    let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
    let again = talk(provider, true, &WORDS, false);
    let hellos = again
        .flights
        .iter()
        .filter(|(side, bytes)| *side == Side::Client && bytes.get(..2) == Some(&[22, 3]));
    assert!(hellos.count() > 0);
    assert_eq!(hear(&again, &again.keys, 11).1, wanted(), "HelloRetryRequest");
}

/// A group that no server has.
#[derive(Debug)]
struct Unliked;

impl Unliked {
    fn leak() -> &'static Self {
        &Self
    }
}

impl rustls::crypto::SupportedKxGroup for Unliked {
    fn start(&self) -> Result<Box<dyn rustls::crypto::ActiveKeyExchange>, rustls::Error> {
        let real = aws_lc_rs::kx_group::X25519.start()?;
        Ok(Box::new(Started(real)))
    }

    fn name(&self) -> rustls::NamedGroup {
        rustls::NamedGroup::Unknown(0x4242)
    }
}

struct Started(Box<dyn rustls::crypto::ActiveKeyExchange>);

impl rustls::crypto::ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<rustls::crypto::SharedSecret, rustls::Error> {
        self.0.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        self.0.pub_key()
    }

    fn group(&self) -> rustls::NamedGroup {
        rustls::NamedGroup::Unknown(0x4242)
    }
}

#[test]
fn what_can_not_be_opened_is_as_it_was_sent() {
    let talk = talk(aws_lc_rs::default_provider(), true, &WORDS, false);
    let sent = |side| {
        let bytes = talk.flights.iter().filter(|(from, _)| *from == side).map(|(_, bytes)| bytes.clone());
        bytes.collect::<Vec<_>>().concat()
    };
    let mut wrong = KeyLog::default();
    let random = &talk.flights[2].1[11..43];
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        wrong.read(format!("{label} {random} {}\n", "ab".repeat(48)).as_bytes());
    }
    for (claim, keys) in [("no keys", KeyLog::default()), ("keys that do not fit", wrong)] {
        for size in [1, 100_000] {
            let (before, inside, opener) = hear(&talk, &keys, size);
            assert!(!opener.is_open() && inside.is_empty(), "{claim}");
            for side in [Side::Client, Side::Server] {
                let heard = before.iter().filter(|(from, _)| *from == side).map(|(_, bytes)| bytes.clone());
                assert_eq!(heard.collect::<Vec<_>>().concat(), sent(side), "{claim}");
            }
            assert_eq!(opener.held(), 0, "{claim}");
        }
    }
}

#[test]
fn a_record_that_is_damaged_later_loses_what_follows_and_invents_nothing() {
    let mut talk = talk(aws_lc_rs::default_provider(), true, &WORDS, false);
    let last = talk.flights.len() - 3;
    *talk.flights[last].1.last_mut().unwrap() ^= 1;
    let (_, inside, _) = hear(&talk, &talk.keys, 100_000);
    assert_eq!(inside[0], (Side::Client, b"startup".to_vec()));
    assert!(inside[1..].iter().all(|(_, bytes)| bytes.starts_with(b"lost ")), "{inside:?}");
    let lost =
        inside[1..].iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes[5..]).parse::<usize>().unwrap());
    let behind = talk.flights[last..].iter().map(|(_, bytes)| bytes.len());
    assert_eq!(lost.sum::<usize>(), behind.sum::<usize>(), "the damaged record, too");
}

#[test]
fn why_a_handshake_failed_is_heard_although_it_is_encrypted() {
    let talk = talk(aws_lc_rs::default_provider(), false, &[], false);
    let (before, inside, opener) = hear(&talk, &talk.keys, 9);
    assert!(opener.is_open() && inside.is_empty(), "{inside:?}");
    let (side, bytes) = before.last().unwrap();
    assert_eq!(
        (*side, &bytes[bytes.len() - 7..]),
        (Side::Client, [21, 3, 3, 0, 2, 2, 48].as_slice()),
        "unknown_ca"
    );
}

#[test]
fn what_is_no_request_for_tls_is_left_alone() {
    let cases: [&[(Side, &[u8])]; 5] = [
        &[(Side::Client, b"\0\0\0\x09\0\x03\0\0\0"), (Side::Server, b"E")],
        &[
            (Side::Client, b"\0\0\0\x08\x04\xd2\x16\x2f"),
            (Side::Server, b"N"),
            (Side::Client, b"\0\0\0\x09\0\x03\0\0\0"),
        ],
        &[(Side::Client, b"\0\0\0\x08\x04\xd2\x16\x2f"), (Side::Server, b"S!")],
        &[(Side::Client, b"\x16\x03\x01\xff\xff\xff"), (Side::Server, b"HTTP")],
        &[(Side::Server, b"hello"), (Side::Client, b"\x16\x03\x01\0\x02ab")],
    ];
    for case in cases {
        let flights = case.iter().map(|(side, bytes)| (*side, bytes.to_vec())).collect();
        let mut keys = KeyLog::default();
        keys.read(format!("CLIENT_RANDOM {} {}", "00".repeat(32), "00".repeat(48)).as_bytes());
        for size in [1, 100] {
            let talk = Talk { flights: Vec::clone(&flights), keys: KeyLog::default() };
            let (before, inside, _) = hear(&talk, &keys, size);
            let all = |list: &[Flight]| list.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            assert_eq!((all(&before), inside.len()), (all(&flights), 0), "{case:?}");
        }
    }
}
