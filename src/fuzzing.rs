//! What the fuzz targets do, kept in the crate so that `cargo test` replays every corpus on a stable
//! toolchain. A target in `fuzz/` is one line that names a function of [`TARGETS`].
//!
//! Each function takes any bytes and panics when a promise of the core is broken: nothing that a
//! stranger sends makes it panic, messages survive decoding and encoding, cuts do not matter, what
//! is held back is bounded, and every record has a diagnosis with evidence.

use crate::certs::{self, Certificate, Fault, RootSummary};
use crate::conninfo::{Conninfo, env_file as env, passfile};
use crate::password::token;
use crate::wire::backend::Backend;
use crate::wire::error_fields::version_2_text;
use crate::wire::first::{First, classify};
use crate::wire::frame::{Frame, Framer, Kind, MAX_FRAME};
use crate::wire::frontend::{SaslInitialResponse, Untagged, decode_password};
use crate::wire::sasl::{ClientFinal, ClientFirst, OauthInitial, ServerFinal, ServerFirst};
use crate::wire::tls::{Records, Seen};

mod bridge;
pub mod capture;
mod generate;
mod hba;
mod opener;
mod play;
mod serverlog;

pub use bridge::bridge;
pub use generate::Bytes;
pub use hba::{hba, ident as hba_ident, regex as hba_regex};
pub use opener::tls_opener;
pub use play::{Cutting, Event, check, events, play, seed};
pub use serverlog::{control_data, serverlog};

/// A target: its name in `fuzz/fuzz_targets`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target that needs nothing but this crate.
pub const TARGETS: [Target; 22] = [
    ("frontend", frontend),
    ("backend", backend),
    ("values", values),
    ("sasl", sasl),
    ("first", first),
    ("frames", frames),
    ("tls", tls),
    ("observer_bytes", observer_bytes),
    ("observer_moves", observer_moves),
    ("tokens", tokens),
    ("conninfo", conninfo),
    ("env_file", env_file),
    ("certificate", certificate),
    ("bridge", bridge::bridge),
    ("hba", hba::hba),
    ("hba_ident", hba::ident),
    ("hba_regex", hba::regex),
    ("capture_read", capture::capture_read),
    ("capture_packets", capture::capture_packets),
    ("tls_opener", opener::tls_opener),
    ("serverlog", serverlog::serverlog),
    ("control_data", serverlog::control_data),
];

/// The client's messages: what decodes, encodes to something that decodes to the same.
pub fn frontend(data: &[u8]) {
    if let Ok(packet) = Untagged::decode(data) {
        let mut out = Vec::new();
        packet.encode(&mut out);
        assert_eq!(Untagged::decode(out.get(4..).unwrap_or_default()).as_ref(), Ok(&packet));
        // Of versions other than 3 only the version is read.
        let is_foreign = matches!(&packet, Untagged::Startup(startup) if startup.version >> 16 != 3);
        assert!(is_foreign || out.len() == data.len() + 4, "an untagged packet has one encoding");
    }
    if let Ok(initial) = SaslInitialResponse::decode(data) {
        let mut out = Vec::new();
        initial.encode(&mut out);
        assert_eq!(SaslInitialResponse::decode(out.get(5..).unwrap_or_default()).as_ref(), Ok(&initial));
        assert_eq!(out.get(5..), Some(data), "a SASLInitialResponse has one encoding");
    }
    if let Ok(password) = decode_password(data) {
        assert_eq!(password.len() + 1, data.len());
    }
}

/// The server's messages: tag and body; as [`frontend`].
pub fn backend(data: &[u8]) {
    let Some((&tag, body)) = data.split_first() else { return };
    if let Ok(message) = Backend::decode(tag, body) {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(Backend::decode(tag, out.get(5..).unwrap_or_default()).as_ref(), Ok(&message));
        assert_eq!(out.first(), Some(&tag));
        assert_eq!(out.get(5..), Some(body), "a message of the server has one encoding");
    }
    if let Some(text) = version_2_text(data) {
        assert!(tag == b'E' && text.len() + 2 <= data.len() && !text.contains(&0));
    }
}

/// Messages made up field by field: encoded, framed and decoded they are the same.
pub fn values(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    while !bytes.is_empty() {
        let mut out = Vec::new();
        if bytes.flag() {
            let message = bytes.backend();
            message.encode(&mut out);
            let mut framer = Framer::default();
            framer.push(&out);
            let Some(Frame::Tagged { tag, body }) = framer.next(Kind::Tagged) else {
                assert!(out.len() > MAX_FRAME, "{message:?} makes no frame");
                continue;
            };
            assert_eq!(Backend::decode(tag, body).as_ref(), Ok(&message));
        } else {
            let packet = bytes.untagged();
            packet.encode(&mut out);
            let mut framer = Framer::default();
            framer.push(&out);
            let Some(Frame::Untagged { body }) = framer.next(Kind::Untagged) else {
                assert!(out.len() > crate::wire::first::MAX_STARTUP_PACKET, "{packet:?} makes no frame");
                continue;
            };
            assert_eq!(Untagged::decode(body).as_ref(), Ok(&packet));
        }
    }
}

/// The messages inside SASL: as [`frontend`], for every message that the bytes could be.
pub fn sasl(data: &[u8]) {
    let mut out = Vec::new();
    if let Ok(message) = ClientFirst::decode(data) {
        message.encode(&mut out);
        assert_eq!(ClientFirst::decode(&out).as_ref(), Ok(&message));
        assert_eq!(out, data);
        assert!(message.bare.len() < data.len());
    }
    if let Ok(message) = ServerFirst::decode(data) {
        out.clear();
        message.encode(&mut out);
        assert_eq!(ServerFirst::decode(&out).as_ref(), Ok(&message));
    }
    if let Ok(message) = ClientFinal::decode(data) {
        out.clear();
        message.encode(&mut out);
        let again = ClientFinal::decode(&out);
        assert!(again.is_ok_and(|again| again == message), "client-final-message changed");
        assert!(data.starts_with(message.without_proof));
    }
    if let Ok(message) = ServerFinal::decode(data) {
        out.clear();
        message.encode(&mut out);
        assert_eq!(ServerFinal::decode(&out).as_ref(), Ok(&message));
    }
    if let Ok(initial) = OauthInitial::decode(data) {
        assert!(initial.token_length < data.len());
    }
}

/// The first bytes of a client: once they are told, more bytes do not change it.
pub fn first(data: &[u8]) {
    let whole = classify(data);
    for end in 0..data.len() {
        if let Some(early) = classify(data.get(..end).unwrap_or_default()) {
            assert_eq!(Some(early), whole, "told by {end} bytes and taken back");
            assert!(end > 0);
            break;
        }
    }
    assert!(whole.is_some() || data.len() < 8, "eight bytes tell");
    if let Some(First::Startup { length, .. }) = whole {
        assert!((8..=crate::wire::first::MAX_STARTUP_PACKET).contains(&length));
    }
}

/// Any cutting gives the same frames, and what is held is bounded.
pub fn frames(data: &[u8]) {
    let Some((&control, stream)) = data.split_first() else { return };
    let kind = if control & 1 == 0 { Kind::Tagged } else { Kind::Untagged };
    let cut = |cutting: Cutting| {
        let mut framer = Framer::default();
        let mut seen: Vec<String> = Vec::new();
        for piece in cutting.pieces(stream) {
            framer.push(piece);
            while let Some(frame) = framer.next(kind) {
                seen.push(format!("{frame:?}"));
            }
            assert!(framer.ahead().len() <= MAX_FRAME, "more than a frame is held");
        }
        (seen, framer.ahead().to_vec(), framer.is_mid_frame())
    };
    let whole = cut(Cutting::Whole);
    assert_eq!(cut(Cutting::Bytes), whole, "byte by byte");
    assert_eq!(cut(Cutting::Random(u64::from(control))), whole, "random cuts");
}

/// Any cutting of one direction of a TLS connection shows the same, and whatever rustls takes for a ClientHello
/// is one for us, of the same server and protocols.
pub fn tls(data: &[u8]) {
    let Some((&control, stream)) = data.split_first() else { return };
    let cut = |cutting: Cutting| {
        let mut records = Records::default();
        let mut seen: Vec<Seen> = Vec::new();
        for piece in cutting.pieces(stream) {
            records.push(piece, |one| seen.push(one));
        }
        seen
    };
    let whole = cut(Cutting::Whole);
    assert_eq!(cut(Cutting::Bytes), whole, "byte by byte");
    assert_eq!(cut(Cutting::Random(u64::from(control))), whole, "random cuts");
    let given_up = whole.iter().position(|seen| *seen == Seen::NotTls);
    assert!(given_up.is_none_or(|at| at + 1 == whole.len()), "something was seen behind the end");
    let first = whole.iter().find_map(|seen| match seen {
        Seen::ClientHello(hello) => Some(hello),
        _ => None,
    });
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = stream;
    while acceptor.read_tls(&mut rest).is_ok_and(|count| count > 0) {
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                assert!(first.is_some(), "rustls takes it for a ClientHello");
                let Some(ours) = first else { return };
                let same = |name: &str| {
                    ours.server_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
                };
                assert!(theirs.server_name().is_none_or(same), "another server name");
                let protocols: Vec<&[u8]> = theirs.alpn().into_iter().flatten().collect();
                if protocols.iter().all(|protocol| protocol.is_ascii()) {
                    assert!(ours.alpn.iter().map(String::as_bytes).eq(protocols), "other protocols");
                }
                return;
            }
            Err(_) => return,
        }
    }
}

/// The observer and the diagnosis on any bytes from both sides. The input is a list of events, see [`events`].
pub fn observer_bytes(data: &[u8]) {
    let Some((&control, rest)) = data.split_first() else { return };
    check(&events(rest), u64::from(control));
}

/// The observer and the diagnosis on messages that are well formed and come in odd orders.
pub fn observer_moves(data: &[u8]) {
    let Some((&control, rest)) = data.split_first() else { return };
    check(&Bytes::new(rest).moves(), u64::from(control));
}

/// Certificates: any bytes are read or refused, and every fault of a chain has a cause and evidence.
pub fn certificate(data: &[u8]) {
    let chain: Vec<Vec<u8>> = match data.split_first_chunk::<2>() {
        Some((length, rest)) if data.first() != Some(&0x30) => {
            let at = usize::from(u16::from_be_bytes(*length)).min(rest.len());
            let (first, second) = rest.split_at(at);
            vec![first.to_vec(), second.to_vec()]
        }
        _ => vec![data.to_vec()],
    };
    let read: Vec<_> = chain.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    for certificate in &read {
        assert!(certificate.names.len() <= certs::MAX_NAMES);
        let shown = certificate.subject.one_line.len() + certificate.subject.rfc2253.len();
        assert!(shown <= 16 * data.len() + 64, "a name grows when it is printed");
        for host in ["db.example", "10.5", "::1", ""] {
            certs::names::matches(host, certificate);
        }
        certs::known::authority(certificate);
    }
    assert!(chain.iter().filter_map(|der| certs::end_point_hash(der)).all(|hash| hash.len() >= 28));
    for one in &chain {
        let _ = chain.iter().any(|other| certs::is_signed_by(one, other));
    }
    let roots: Vec<_> = read.iter().rev().map(RootSummary::of).collect();
    let faults = [Fault::UnknownIssuer, Fault::Expired, Fault::NotYetValid, Fault::BadName, Fault::WeakKey];
    let others =
        [Fault::BadSignature, Fault::WrongPurpose, Fault::CaAsEndEntity, Fault::Malformed, Fault::VersionOne];
    for fault in faults.iter().chain(&others) {
        let server = certs::explain(&chain, Some("db.example"), &roots, 1 << 30, fault);
        for found in [server, certs::explain_client(&chain, &[], 1 << 31, fault)] {
            let cause = crate::diagnose::Cause::ALL.iter().find(|cause| cause.id() == found.cause);
            let known =
                cause.is_some_and(|cause| found.variant.is_none_or(|v| cause.variants().contains(&v)));
            assert!(known, "{} {:?} is in no table", found.cause, found.variant);
            assert!(!found.evidence.is_empty() && !found.fix.is_empty());
        }
    }
}

/// Cloud tokens: the reader takes any bytes, and what it says is never certain without a reason.
pub fn tokens(data: &[u8]) {
    let Some((&control, sent)) = data.split_first() else { return };
    let Some(claims) = token::read(sent) else { return };
    let host = (control & 1 == 0).then_some("db.example.us-east-1.rds.amazonaws.com");
    if let Some(verdict) = token::verdict(&claims, i64::from(control) << 24, "app", host, Some(5432)) {
        assert!(!verdict.evidence.is_empty() && !verdict.variant.is_empty());
        let known = crate::diagnose::Cause::CloudTokenInvalid.variants();
        assert!(known.contains(&verdict.variant), "{} is in no table", verdict.variant);
    }
}

/// Connection strings: any text is read or refused, and neither shows its password.
pub fn conninfo(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let environment = |name: &str| (name == "PGPASSWORD").then(|| "environment-secret".to_owned());
    let shown = match Conninfo::parse(&text, &environment) {
        Ok(info) => {
            assert!(!info.hosts.is_empty(), "a connection string without a host");
            for host in &info.hosts {
                let (user, database) = (info.user.as_deref(), info.database.as_deref());
                passfile::lookup(&text, &host.name, host.port, database.unwrap_or(""), user.unwrap_or(""));
            }
            format!("{info:?} {}", info.display_redacted())
        }
        Err(error) => format!("{error:?} {error}"),
    };
    assert!(!shown.contains("environment-secret"), "the password of the environment is shown");
    // A password that the fuzzer knows: whatever stands around it, it must not come out.
    if let Some((before, after)) = text.split_once('\u{1}') {
        let planted = format!("postgres://{before}:planted7Secret@{after}");
        let shown = match Conninfo::parse(&planted, &|_| None) {
            Ok(info) => format!("{info:?} {}", info.display_redacted()),
            Err(error) => format!("{error:?} {error}"),
        };
        // What stands before the first `:` or behind the last `@` is no password, by anybody's rules.
        if !before.contains(|c: char| !c.is_ascii_alphanumeric()) {
            assert!(!shown.contains("planted7Secret"), "a planted password is shown: {shown}");
        }
    }
}

/// `.env` files: any text is read, and names are found again.
pub fn env_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let file = env::parse(&text);
    for entry in &file.entries {
        assert!(file.get(&entry.key).is_some(), "an entry is not found by its key");
    }
    assert!(file.entries.len() <= text.len(), "more entries than bytes");
}
