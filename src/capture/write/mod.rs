//! One login as packets: two TCP connections, the client's with pgwhy and pgwhy's with the server, with a
//! comment on every packet, and the facts in a block beside them.

pub mod blocks;
mod comments;
mod tcp;
pub mod walk;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::handshake::{Close, Side};

use super::facts::Facts;
use tcp::Connection;
pub use tcp::same_family;
use walk::{Message, Piece, Walk, What};

/// The interface of the connections between clients and pgwhy.
pub const CLIENT_LEG: u32 = 0;
/// The interface of the connections between pgwhy and servers.
pub const SERVER_LEG: u32 = 1;

/// Begins a file: who wrote it, and its two interfaces.
pub fn section(out: &mut Vec<u8>, application: &str, os: &str, comment: &str) {
    blocks::section(out, application, os, comment);
    blocks::interface(out, "client leg", "between clients and pgwhy");
    blocks::interface(out, "server leg", "between pgwhy and servers");
}

/// What becomes packets.
#[derive(Debug)]
pub struct Login<'a> {
    /// The chunks, blanked.
    pub pieces: &'a [Piece],
    /// What stands beside them.
    pub facts: &'a Facts,
    /// What happened, in words that may be shown; of a failed login what is put on the failing packet.
    pub verdict: &'a str,
    /// The connection goes on behind the last piece: no teardown.
    pub goes_on: bool,
}

/// Appends a whole login: the facts, then every packet. Returns what a session's packets need.
pub fn login(out: &mut Vec<u8>, login: &Login<'_>) -> Option<Flow> {
    let facts = login.facts;
    blocks::custom(out, &facts.to_json());
    let walk = Walk::new(login.pieces.iter());
    let mut flow = Flow::new(facts, &walk)?;
    let mark = Mark::find(login, &walk);
    let first = format!("connect: the client connects to pgwhy {} (login {})", facts.written_by, facts.id);
    let alone = login.pieces.is_empty() && mark == Mark::Opening;
    let note = if alone { format!("{first}; {}", login.verdict) } else { first };
    flow.client.open(out, flow.born, flow.born, &note);
    let mut opened = false;
    let (mut client, mut server) = (0, 0);
    for (number, piece) in login.pieces.iter().enumerate() {
        let at = match piece.from {
            Side::Client => &mut client,
            Side::Server => &mut server,
        };
        let (start, end) = (*at, *at + piece.bytes.len());
        *at = end;
        let mut comment = comments::comment(&walk, piece.from, start, end);
        if mark == Mark::Piece(number) {
            comment = format!("{comment}. {}", login.verdict);
        }
        if !opened && flow.reaches_server(piece) {
            flow.open_server(out, facts, piece.at);
            opened = true;
        }
        flow.data(out, piece, &comment);
    }
    if !opened {
        flow.open_server(out, facts, facts.elapsed);
    }
    if !login.goes_on {
        flow.teardown(out, facts, if mark == Mark::Ending { login.verdict } else { "" });
    }
    Some(flow)
}

/// Where the verdict stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// On a piece's packet.
    Piece(usize),
    /// On the packet that ends the connection.
    Ending,
    /// On the first packet: there is nothing else.
    Opening,
}

impl Mark {
    /// The server's refusal, or else who left, or else the last thing that was said.
    fn find(login: &Login<'_>, walk: &Walk) -> Self {
        let is_error = |message: &&Message| {
            message.from == Side::Server && matches!(message.what, What::Backend(b'E', _))
        };
        if let Some(error) = walk.messages.iter().rev().find(is_error) {
            let mut at = 0;
            for (number, piece) in login.pieces.iter().enumerate() {
                at += if piece.from == Side::Server { piece.bytes.len() } else { 0 };
                if at >= error.end {
                    return Self::Piece(number);
                }
            }
        }
        if !login.goes_on && !login.facts.closes.is_empty() {
            return Self::Ending;
        }
        match login.pieces.len() {
            0 => Self::Opening,
            count => Self::Piece(count - 1),
        }
    }
}

/// Both connections of a login, for the packets of its session.
#[derive(Debug)]
pub struct Flow {
    client: Connection,
    server: Option<Connection>,
    /// Bytes of either side that pgwhy kept to itself: a request for encryption that it answered.
    kept_back: (u64, u64),
    /// When the client was accepted, in nanoseconds from 1970.
    born: u64,
}

impl Flow {
    fn new(facts: &Facts, walk: &Walk) -> Option<Self> {
        let since = facts.accepted.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let born = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        // As RFC 9293 would have it: a clock of 4 microseconds.
        let birth = u32::try_from((born / 4_000) & 0xffff_ffff).unwrap_or_default();
        let address = |text: &str| text.parse::<SocketAddr>().ok();
        let leg = &facts.client_leg;
        let (from, to) = (address(&leg.packets_from)?, address(&leg.packets_to)?);
        let client = Connection::new(CLIENT_LEG, from, to, Side::Client, birth);
        let server = facts.server_leg.as_ref().and_then(|leg| {
            let (from, to) = (address(&leg.packets_from)?, address(&leg.packets_to)?);
            Some(Connection::new(SERVER_LEG, from, to, Side::Server, birth ^ 0x5555_0000))
        });
        let mut kept_back = (0, 0);
        if facts.ssl_answered_by_us {
            for message in &walk.messages {
                let length = u64::try_from(message.end - message.start).unwrap_or_default();
                match message.what {
                    What::SslRequest | What::GssEncRequest => kept_back.0 += length,
                    What::Answer(_) => kept_back.1 += length,
                    _ => {}
                }
            }
        }
        Some(Self { client, server, kept_back, born })
    }

    fn time(&self, at: Duration) -> u64 {
        self.born.saturating_add(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
    }

    fn kept_back(&self, from: Side) -> u64 {
        match from {
            Side::Client => self.kept_back.0,
            Side::Server => self.kept_back.1,
        }
    }

    fn reaches_server(&self, piece: &Piece) -> bool {
        let length = u64::try_from(piece.bytes.len()).unwrap_or_default();
        piece.offset + length > self.kept_back(piece.from)
    }

    /// pgwhy dials when it knows what the client wants, and is through just before it writes on.
    fn open_server(&mut self, out: &mut Vec<u8>, facts: &Facts, first: Duration) {
        let took = facts.dials.last().map_or(Duration::ZERO, |dial| dial.took);
        let (from, to) = (self.time(first.saturating_sub(took)), self.time(first));
        let note = format!("connect: pgwhy connects to the server (login {})", facts.id);
        if let Some(server) = &mut self.server {
            server.open(out, from, to, &note);
        }
    }

    /// The packets of a piece, in the order in which the bytes travel.
    pub fn data(&mut self, out: &mut Vec<u8>, piece: &Piece, comment: &str) {
        let (at, kept_back) = (self.time(piece.at), self.kept_back(piece.from));
        let reaches = self.reaches_server(piece);
        let skipped = usize::try_from(kept_back.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
        let rest = piece.bytes.get(skipped..).unwrap_or_default();
        let offset = piece.offset.saturating_sub(kept_back);
        if piece.from == Side::Client {
            self.client.data(out, piece.from, at, piece.offset, &piece.bytes, comment);
        }
        if let Some(server) = self.server.as_mut().filter(|_| reaches) {
            server.data(out, piece.from, at, offset, rest, comment);
        }
        if piece.from == Side::Server {
            self.client.data(out, piece.from, at, piece.offset, &piece.bytes, comment);
        }
    }

    /// The end of a session.
    pub fn end(&mut self, out: &mut Vec<u8>, first: Side, reset: bool, at: Duration) {
        let at = self.time(at);
        self.close(out, first, reset, at, "the session ends");
    }

    /// The end of a login. Where it was not watched, a refusal is taken to be followed by the server's
    /// close, and anything else by pgwhy's.
    fn teardown(&mut self, out: &mut Vec<u8>, facts: &Facts, verdict: &str) {
        let (first, reset, at) = match facts.closes.first() {
            Some((side, how, at)) => (*side, *how == Close::Reset, (*at).max(facts.elapsed)),
            None => (Side::Server, false, facts.elapsed),
        };
        let words = match facts.closes.first().map(|(_, how, _)| *how) {
            Some(Close::Deadline) => "pgwhy closes: the login deadline passed",
            Some(Close::Shutdown) => "pgwhy closes: it was told to stop",
            Some(_) if first == Side::Client => "the client closes",
            Some(_) => "the server closes",
            None => "the end (not watched)",
        };
        let comment = if verdict.is_empty() { words.to_owned() } else { format!("{words}. {verdict}") };
        let at = self.time(at);
        self.close(out, first, reset, at, &comment);
    }

    fn close(&mut self, out: &mut Vec<u8>, first: Side, reset: bool, at: u64, comment: &str) {
        let second = if first == Side::Client { Side::Server } else { Side::Client };
        for leg in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
            leg.end(out, first, at, reset, comment);
            if !reset {
                leg.end(out, second, at, false, "the other side closes too");
                leg.acknowledge(out, first, at);
            }
        }
    }
}
