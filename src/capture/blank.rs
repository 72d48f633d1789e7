//! Takes the secrets out of a conversation and leaves everything else: every byte stays where it is,
//! and the observer reads the blanked conversation to the same record.
//!
//! A SCRAM proof and an MD5 response can be ground offline, a token or a cancel key be used as it is: all
//! of them go. What can't be understood is blanked wherever a secret could be in it. Encrypted bytes
//! stay: whoever has the keys has the secrets anyway.

use crate::handshake::Side;
use crate::handshake::record::FIRST_BYTES;
use crate::wire::sasl::ClientFinal;
use crate::wire::settings;

use super::write::walk::{Message, Piece, Walk, What};

/// What may be kept of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Passwords, proofs, tokens and keys (`--keep-secrets`).
    pub secrets: bool,
    /// What comes behind ReadyForQuery (`--capture-queries`).
    pub queries: bool,
}

/// Blanks a conversation from its first byte on, and cuts off what is no login.
pub fn blank(pieces: &mut Vec<Piece>, keep: Keep) {
    let mut walk = Walk::new(pieces.iter());
    let ends = if keep.queries { (usize::MAX, usize::MAX) } else { walk.session_starts() };
    if !keep.secrets {
        let messages = std::mem::take(&mut walk.messages);
        for message in &messages {
            let stream = match message.from {
                Side::Client => &mut walk.client,
                Side::Server => &mut walk.server,
            };
            if let Some(bytes) = stream.get_mut(message.start..message.end) {
                blank_message(message, bytes, keep.queries);
            }
        }
    }
    let (mut client, mut server) = (0, 0);
    for piece in pieces.iter_mut() {
        let (stream, at, end) = match piece.from {
            Side::Client => (&walk.client, &mut client, ends.0),
            Side::Server => (&walk.server, &mut server, ends.1),
        };
        let blanked = stream.get(*at..*at + piece.bytes.len()).unwrap_or_default();
        piece.bytes.copy_from_slice(blanked);
        let kept = end.saturating_sub(*at).min(piece.bytes.len());
        *at += piece.bytes.len();
        piece.bytes.truncate(kept);
    }
    pieces.retain(|piece| !piece.bytes.is_empty());
}

/// Blanks a word wherever it stands in clear, also where it was sent in two pieces.
pub fn blank_word(pieces: &mut [Piece], word: &[u8]) {
    for side in [Side::Client, Side::Server] {
        let mut ours: Vec<&mut Piece> = pieces.iter_mut().filter(|piece| piece.from == side).collect();
        let mut stream: Vec<u8> = ours.iter().flat_map(|piece| piece.bytes.iter().copied()).collect();
        let mut at = 0;
        while let Some(part) = stream.get_mut(at..).and_then(|rest| rest.get_mut(..word.len())) {
            if part == word {
                star(part);
            }
            at += 1;
        }
        let mut rest = stream.as_slice();
        for piece in &mut ours {
            let (this, next) = rest.split_at_checked(piece.bytes.len()).unwrap_or((rest, &[]));
            piece.bytes.copy_from_slice(this);
            rest = next;
        }
    }
}

fn blank_message(message: &Message, bytes: &mut [u8], queries: bool) {
    if !message.whole {
        return unfinished(message, bytes);
    }
    match message.what {
        What::SslRequest | What::GssEncRequest | What::Answer(_) | What::ScramFirst => {}
        What::Tls(..) | What::Sealed | What::Session => {}
        What::Cancel => zero(from(bytes, CANCEL_KEY)),
        What::Startup => parameters(from(bytes, 8)),
        What::Http => http(bytes),
        What::Malformed => star(from(bytes, 4)),
        What::Password | What::Unasked | What::OauthEnd => star(from(bytes, HEAD)),
        What::Md5 => md5(from(bytes, HEAD)),
        What::Oauth => oauth(from(bytes, HEAD)),
        What::SaslOther => other_mechanism(from(bytes, HEAD)),
        What::ScramFinal => client_final(from(bytes, HEAD)),
        What::GssToken => zero(from(bytes, HEAD)),
        // A client that does not wait for ReadyForQuery sends its query during the login.
        What::Frontend(_) if queries => {}
        What::Frontend(_) => star(from(bytes, HEAD)),
        What::Backend(b'K', _) => zero(from(bytes, HEAD + 4)),
        What::Backend(b'R', 8) => zero(from(bytes, HEAD + 4)),
        What::Backend(b'R', 12) => signature(from(bytes, HEAD + 4)),
        What::Backend(..) => {}
        What::Noise if message.from == Side::Client => star(bytes),
        What::Noise => {}
    }
}

/// The beginning of a message: there is no telling what it would have become.
fn unfinished(message: &Message, bytes: &mut [u8]) {
    match message.what {
        What::Tls(..) | What::Sealed | What::Session => {}
        What::Backend(b'R' | b'K', _) => zero(from(bytes, HEAD + 4)),
        What::Backend(..) => {}
        What::Noise if message.from == Side::Client => star(from(bytes, 4)),
        What::Noise => {}
        _ => star(from(bytes, HEAD)),
    }
}

/// A message's type and length.
const HEAD: usize = 5;
/// Where a cancel request's secret begins: behind length, code and process id.
const CANCEL_KEY: usize = 12;

fn from(bytes: &mut [u8], start: usize) -> &mut [u8] {
    bytes.get_mut(start..).unwrap_or_default()
}

fn zero(bytes: &mut [u8]) {
    bytes.fill(0);
}

/// Text stays text of that length: NULs stay.
fn star(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = b'*');
}

/// Names and values by turns.
fn parameters(bytes: &mut [u8]) {
    let mut name = Vec::new();
    for (at, text) in bytes.split_mut(|byte| *byte == 0).enumerate() {
        if at % 2 == 0 {
            name = text.to_vec();
        } else {
            settings::blank(&name, text);
        }
    }
}

/// Of an HTTP request the beginning of its first line: its headers may hold credentials.
fn http(bytes: &mut [u8]) {
    let line = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n' | b'?')).unwrap_or(bytes.len());
    for byte in from(bytes, line.min(FIRST_BYTES)) {
        if !matches!(byte, b'\r' | b'\n' | b' ' | b':' | 0) {
            *byte = b'*';
        }
    }
}

fn md5(body: &mut [u8]) {
    let prefix = if body.starts_with(b"md5") { 3 } else { 0 };
    for byte in from(body, prefix).iter_mut().filter(|byte| **byte != 0) {
        *byte = b'0';
    }
}

/// Everything but the header, `host` and `port`; the token keeps its length and its blanks.
fn oauth(body: &mut [u8]) {
    // The mechanism's name and a length word come before.
    let start = body.iter().position(|byte| *byte == 0).map_or(0, |nul| nul + 5);
    for (at, pair) in from(body, start).split_mut(|byte| *byte == 1).enumerate() {
        if at == 0 || pair.starts_with(b"host=") || pair.starts_with(b"port=") {
            continue;
        }
        let value = if pair.starts_with(b"auth=") { from(pair, 5) } else { pair };
        let scheme = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        for byte in from(value, if scheme { 7 } else { 0 }) {
            if !byte.is_ascii_whitespace() && *byte != 0 {
                *byte = b'*';
            }
        }
    }
}

fn other_mechanism(body: &mut [u8]) {
    // The name of a mechanism is printable and short; anything else may be a password.
    let name = body.iter().position(|byte| *byte == 0).unwrap_or(0);
    let is_name = name <= 32 && body.iter().take(name).all(|byte| byte.is_ascii_graphic());
    let known = [b"SCRAM-", b"OAUTHB"].iter().any(|known| body.starts_with(known.as_slice()));
    star(from(body, if is_name && known { name + 5 } else { 0 }));
}

/// The proof becomes one of zeros. A message that breaks its grammar keeps breaking it at the same place.
fn client_final(body: &mut [u8]) {
    let proof = body.windows(3).position(|three| three == b",p=").map(|at| at + 3);
    match ClientFinal::decode(body) {
        Ok(_) => base64(from(body, proof.unwrap_or(0))),
        Err(fault) => {
            let attribute = |number: usize| {
                let commas = body.iter().enumerate().filter(|(_, byte)| **byte == b',');
                commas.map(|(at, _)| at + 1).nth(number - 1).unwrap_or(body.len())
            };
            let start = match fault.field {
                "SCRAM channel binding" => 0,
                "SCRAM final nonce" => attribute(1),
                _ => proof.unwrap_or_else(|| attribute(2)),
            };
            star(from(body, start));
        }
    }
}

fn signature(text: &mut [u8]) {
    if text.starts_with(b"v=") {
        let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
        base64(text.get_mut(2..end).unwrap_or_default());
        star(from(text, (end + 1).min(text.len())));
    }
}

/// Base64 of zeros, padded as it was; what is no base64 stays none.
fn base64(text: &mut [u8]) {
    for byte in text {
        *byte = match *byte {
            b'=' => b'=',
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => b'A',
            _ => b'*',
        };
    }
}
