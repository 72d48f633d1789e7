//! From chunks to messages: which bytes of a conversation are which message.
//!
//! The blanking and the packets' comments both need to know it, after the fact and with the bytes at
//! hand. The observer knows it too, but keeps no bytes. Any bytes are accepted; what can't be understood
//! is named as such, so that whoever blanks can be strict about it.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroize as _;

use crate::handshake::{Side, Step};
use crate::wire::first::{First, classify};
use crate::wire::frontend::SaslInitialResponse;

/// Bytes of one direction as they were carried. They may hold secrets: no formatter shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Since the client was accepted.
    pub at: Duration,
    /// Who sent them.
    pub from: Side,
    /// How many bytes that side had sent before.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({:?}, {} bytes at {:?})", self.from, self.bytes.len(), self.at)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// One message, by its place in its direction's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: Side,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What it is.
    pub what: What,
    /// The step that it belongs to.
    pub step: Step,
    /// All of it is there.
    pub whole: bool,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// SSLRequest.
    SslRequest,
    /// GSSENCRequest.
    GssEncRequest,
    /// The one byte that answers either.
    Answer(u8),
    /// CancelRequest.
    Cancel,
    /// StartupMessage.
    Startup,
    /// An HTTP request.
    Http,
    /// A first packet with an impossible length.
    Malformed,
    /// The cleartext password.
    Password,
    /// The MD5 response.
    Md5,
    /// SASLInitialResponse with a SCRAM mechanism.
    ScramFirst,
    /// SASLInitialResponse with OAUTHBEARER.
    Oauth,
    /// SASLInitialResponse with something else, or broken.
    SaslOther,
    /// client-final-message.
    ScramFinal,
    /// What the client answers to the server's OAUTHBEARER error.
    OauthEnd,
    /// A GSSAPI or SSPI token.
    GssToken,
    /// A `p` message that nobody asked for.
    Unasked,
    /// Any other message of the client.
    Frontend(u8),
    /// A message of the server: its type, and of an `R` the code.
    Backend(u8, u32),
    /// A TLS record, by its type and, of a handshake in clear, the message's type.
    Tls(u8, u8),
    /// GSSAPI encryption.
    Sealed,
    /// Behind ReadyForQuery.
    Session,
    /// Nothing that this protocol has.
    Noise,
}

/// Both directions whole, and what is in them.
pub struct Walk {
    /// What the client sent.
    pub client: Vec<u8>,
    /// What the server sent.
    pub server: Vec<u8>,
    /// The messages, in the order in which they were whole.
    pub messages: Vec<Message>,
    client_at: usize,
    server_at: usize,
    phase: Phase,
    asked: Asked,
    oauth: bool,
    step: Step,
}

/// Shows no bytes.
impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A packet without a type byte is expected from the client.
    First,
    /// The one-byte answer is expected.
    Answer,
    /// The server agreed to TLS: a ClientHello follows, or what was inside (TLS opened by pgwhy).
    Behind,
    /// Messages with a type byte.
    Tagged,
    /// TLS that passes through.
    Tunnel,
    /// GSSAPI encryption that passes through.
    Sealed,
    /// The client's bytes are no longer understood.
    Lost,
    /// Logged in.
    Session,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Password,
    Md5,
    Mechanism,
    Response,
    Token,
}

impl Walk {
    /// Walks a conversation.
    pub fn new<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Self {
        let mut walk = Self {
            client: Vec::new(),
            server: Vec::new(),
            messages: Vec::new(),
            client_at: 0,
            server_at: 0,
            phase: Phase::First,
            asked: Asked::Nothing,
            oauth: false,
            step: Step::Startup,
        };
        for piece in pieces {
            match piece.from {
                Side::Client => walk.client.extend_from_slice(&piece.bytes),
                Side::Server => walk.server.extend_from_slice(&piece.bytes),
            }
            while walk.client_message() || walk.server_message() {}
        }
        walk.rest();
        walk
    }

    /// The bytes of a message.
    pub fn bytes(&self, message: &Message) -> &[u8] {
        let stream = match message.from {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        stream.get(message.start..message.end).unwrap_or_default()
    }

    /// Where each direction's login ends: nothing behind it belongs to a login.
    pub fn session_starts(&self) -> (usize, usize) {
        let start = |side, length| {
            let session = |message: &&Message| message.from == side && message.what == What::Session;
            self.messages.iter().find(session).map_or(length, |message| message.start)
        };
        (start(Side::Client, self.client.len()), start(Side::Server, self.server.len()))
    }

    fn ahead(&self, from: Side) -> &[u8] {
        let (stream, at) = match from {
            Side::Client => (&self.client, self.client_at),
            Side::Server => (&self.server, self.server_at),
        };
        stream.get(at..).unwrap_or_default()
    }

    /// Names the next `length` bytes.
    fn name(&mut self, from: Side, length: usize, what: What, step: Step) -> bool {
        self.step = step;
        let at = match from {
            Side::Client => &mut self.client_at,
            Side::Server => &mut self.server_at,
        };
        let start = *at;
        *at += length;
        self.messages.push(Message { from, start, end: start + length, what, step, whole: true });
        true
    }

    /// Names everything that is ahead.
    fn name_all(&mut self, from: Side, what: What) -> bool {
        let length = self.ahead(from).len();
        length > 0 && self.name(from, length, what, self.step)
    }

    /// What is left at the end: messages that were begun.
    fn rest(&mut self) {
        for from in [Side::Client, Side::Server] {
            let what = match (self.phase, from, self.ahead(from)) {
                (_, _, []) => continue,
                (Phase::Tunnel, _, [kind, ..]) => What::Tls(*kind, 0),
                (Phase::Tagged, Side::Client, [b'p', ..]) => What::Unasked,
                (Phase::Tagged, Side::Client, [tag, ..]) => What::Frontend(*tag),
                (Phase::Tagged | Phase::Lost, Side::Server, ahead @ [tag, ..]) => {
                    What::Backend(*tag, code(ahead))
                }
                _ => What::Noise,
            };
            self.name_all(from, what);
            if let Some(last) = self.messages.last_mut() {
                last.whole = false;
            }
        }
    }

    fn client_message(&mut self) -> bool {
        match self.phase {
            Phase::Answer => false,
            Phase::First | Phase::Behind => self.first_packet(),
            Phase::Tagged => self.frontend(),
            Phase::Tunnel => self.record(Side::Client),
            Phase::Sealed => self.name_all(Side::Client, What::Sealed),
            Phase::Lost => self.name_all(Side::Client, What::Noise),
            Phase::Session => self.name_all(Side::Client, What::Session),
        }
    }

    fn first_packet(&mut self) -> bool {
        let ahead = self.ahead(Side::Client);
        let (Some(first), here) = (classify(ahead), ahead.len()) else { return false };
        let word = ahead.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word));
        let length = usize::try_from(word).unwrap_or(usize::MAX);
        match first {
            First::Tls => {
                self.phase = Phase::Tunnel;
                true
            }
            First::Http => {
                self.phase = Phase::Lost;
                self.name(Side::Client, here, What::Http, Step::Startup)
            }
            First::Malformed { .. } => {
                self.phase = Phase::Lost;
                self.name(Side::Client, here, What::Malformed, Step::Startup)
            }
            _ if here < length => false,
            First::SslRequest => {
                self.phase = Phase::Answer;
                self.name(Side::Client, length, What::SslRequest, Step::SslRequest)
            }
            First::GssEncRequest => {
                self.phase = Phase::Answer;
                self.name(Side::Client, length, What::GssEncRequest, Step::GssRequest)
            }
            First::CancelRequest => {
                self.phase = Phase::Lost;
                self.name(Side::Client, length, What::Cancel, Step::Startup)
            }
            First::Startup { .. } => {
                self.phase = Phase::Tagged;
                self.name(Side::Client, length, What::Startup, Step::Startup);
                self.step = Step::AuthRequest;
                true
            }
        }
    }

    fn frontend(&mut self) -> bool {
        let Some((tag, length)) = frame(self.ahead(Side::Client)) else { return false };
        let Some(length) = length else {
            self.phase = Phase::Lost;
            return true;
        };
        let Some(message) = self.ahead(Side::Client).get(..length) else { return false };
        if tag != b'p' {
            return self.name(Side::Client, length, What::Frontend(tag), self.step);
        }
        let mechanism = SaslInitialResponse::decode(message.get(5..).unwrap_or_default());
        let mechanism = mechanism.ok().map(|initial| initial.mechanism);
        let (what, step) = match self.asked {
            Asked::Nothing => (What::Unasked, self.step),
            Asked::Password => (What::Password, Step::Password),
            Asked::Md5 => (What::Md5, Step::Md5),
            Asked::Mechanism => match mechanism {
                Some(b"OAUTHBEARER") => (What::Oauth, Step::Oauth),
                Some(name) if name.starts_with(b"SCRAM-SHA-256") => {
                    (What::ScramFirst, Step::ScramClientFirst)
                }
                _ => (What::SaslOther, Step::SaslMechanism),
            },
            Asked::Response if self.oauth => (What::OauthEnd, Step::Oauth),
            Asked::Response => (What::ScramFinal, Step::ScramClientFinal),
            Asked::Token => (What::GssToken, Step::Gss),
        };
        self.oauth |= what == What::Oauth;
        self.asked = Asked::Nothing;
        self.name(Side::Client, length, what, step)
    }

    fn server_message(&mut self) -> bool {
        match self.phase {
            Phase::First | Phase::Behind => false,
            Phase::Answer => self.answer(),
            Phase::Tagged | Phase::Lost => self.backend(),
            Phase::Tunnel => self.record(Side::Server),
            Phase::Sealed => self.name_all(Side::Server, What::Sealed),
            Phase::Session => self.name_all(Side::Server, What::Session),
        }
    }

    fn answer(&mut self) -> bool {
        let Some(byte) = self.ahead(Side::Server).first().copied() else { return false };
        self.phase = match (byte, self.step) {
            (b'N', _) => Phase::First,
            (b'S', Step::SslRequest) => Phase::Behind,
            (b'G', Step::GssRequest) => Phase::Sealed,
            _ => {
                self.phase = Phase::Lost;
                return true;
            }
        };
        self.name(Side::Server, 1, What::Answer(byte), self.step)
    }

    fn backend(&mut self) -> bool {
        let Some((tag, length)) = frame(self.ahead(Side::Server)) else { return false };
        let Some(length) = length else { return self.name_all(Side::Server, What::Noise) };
        let Some(message) = self.ahead(Side::Server).get(..length) else { return false };
        let code = code(message);
        let step = match (tag, code) {
            (b'R', 0) => {
                self.asked = Asked::Nothing;
                self.step
            }
            (b'R', 11) if self.oauth => Step::Oauth,
            (b'R', 11) => Step::ScramServerFirst,
            (b'R', 12) => Step::ScramServerFinal,
            (b'R', 8) => Step::Gss,
            (b'R', _) => Step::AuthRequest,
            (b'v', _) => Step::Startup,
            (b'S' | b'K', _) => Step::SessionSetup,
            (b'Z', _) => Step::Ready,
            _ => self.step,
        };
        if tag == b'R' {
            self.asked = match code {
                3 => Asked::Password,
                5 => Asked::Md5,
                10 => Asked::Mechanism,
                11 => Asked::Response,
                7..=9 => Asked::Token,
                _ => Asked::Nothing,
            };
        }
        if tag == b'Z' {
            self.phase = Phase::Session;
        }
        let before = self.step;
        self.name(Side::Server, length, What::Backend(tag, code), step);
        self.step = match (tag, code) {
            (b'R', 0) => Step::SessionSetup,
            // A notice or a negotiation leaves the login where it was.
            (b'v' | b'N', _) => before,
            _ => step,
        };
        true
    }

    /// A TLS record; what is none ends the tunnel.
    fn record(&mut self, from: Side) -> bool {
        let ahead = self.ahead(from);
        let Some(head) = ahead.first_chunk::<5>() else { return false };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if !(20..=24).contains(&head[0]) || head[1] != 3 || length > MAX_RECORD {
            return self.name_all(from, What::Noise);
        }
        if ahead.len() < 5 + length {
            return false;
        }
        let handshake = ahead.get(5).copied().filter(|_| head[0] == 22).unwrap_or_default();
        self.name(from, 5 + length, What::Tls(head[0], handshake), Step::TlsHandshake)
    }
}

/// A record's payload: 2^14 bytes and what TLS 1.2 may add.
const MAX_RECORD: usize = 16_384 + 2_048;

/// The type and the whole length of the message at the start; no length where it can't be one.
fn frame(bytes: &[u8]) -> Option<(u8, Option<usize>)> {
    let (tag, rest) = bytes.split_first()?;
    let word = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    let size = usize::try_from(word).unwrap_or(usize::MAX);
    Some((*tag, (4..=1 << 30).contains(&size).then(|| size + 1)))
}

/// The code of an `R` message.
fn code(message: &[u8]) -> u32 {
    let word = message.get(5..).and_then(|rest| rest.first_chunk::<4>());
    word.filter(|_| message.first() == Some(&b'R')).map_or(0, |word| u32::from_be_bytes(*word))
}
