//! What a connection speaks, by its first bytes.

use crate::handshake::{Record, Side};
use crate::wire::first::{First, classify};

/// What it is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Undecided,
    Postgres,
    /// TLS without a request for it: the hello says for what.
    Tls,
    /// What pgwhy carried on to the server: reported with the client's leg.
    SecondLeg,
    Other,
}

/// What the first bytes of a client say; `None` where they are too few.
pub(super) fn protocol(bytes: &[u8]) -> Option<Protocol> {
    Some(match classify(bytes)? {
        First::SslRequest | First::GssEncRequest | First::CancelRequest => Protocol::Postgres,
        First::Startup { version, length } => {
            // Other protocols begin with a length and two small numbers too; PostgreSQL then names a
            // parameter.
            let named = match bytes.get(8) {
                None => return None,
                Some(byte) => byte.is_ascii_alphabetic() || *byte == b'_' || (*byte == 0 && length == 9),
            };
            let version = (1..=4).contains(&(version >> 16));
            if version && named { Protocol::Postgres } else { Protocol::Other }
        }
        First::Tls => Protocol::Tls,
        First::Http | First::Malformed { .. } => Protocol::Other,
    })
}

/// Whether bytes may be the beginning of a message of a login.
pub(super) fn begins_message(side: Side, bytes: &[u8]) -> bool {
    let length =
        bytes.get(1..).and_then(|rest| rest.first_chunk::<4>()).map(|word| u32::from_be_bytes(*word));
    let tags: &[u8] = match side {
        Side::Client => b"pX",
        Side::Server => b"RSKZENv",
    };
    bytes.first().is_some_and(|tag| tags.contains(tag)) && length.is_some_and(|n| (4..=65_536).contains(&n))
}

/// TLS that begins at once is PostgreSQL's if the hello says so.
pub(super) fn asks_for_postgres(record: &Record) -> bool {
    let hello = record.tls.as_ref().and_then(|tls| tls.client_hello.as_ref());
    hello.is_some_and(|(hello, _)| hello.alpn.iter().any(|name| name == "postgresql"))
}

/// A client's first bytes that are kept until they tell.
pub(super) const FIRST: usize = 16;
