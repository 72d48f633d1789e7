//! One login as packets: two TCP connections, the client's with pgwhy and pgwhy's with the server, with a
//! comment on every packet, and the facts in a block beside them.

pub mod blocks;
mod comments;
mod tcp;
pub mod walk;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::handshake::{Close, Side};

use super::facts::{Facts, LegFacts};
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
    /// What was said between pgwhy and the server, where that is not the same; blanked.
    pub server_leg: Option<&'a [Piece]>,
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
    flow.client.open(out, flow.born, flow.born, &with_tls(note, &facts.client_leg, &walk));
    match login.server_leg {
        None => flow.together(out, login, &walk, mark),
        Some(pieces) => flow.apart(out, login, &walk, mark, pieces),
    }
    if !login.goes_on {
        flow.teardown(out, facts, if mark == Mark::Ending { login.verdict } else { "" });
    }
    Some(flow)
}

/// Says of a leg with TLS that pgwhy is an end of that its packets show the inside.
fn with_tls(note: String, leg: &LegFacts, walk: &Walk) -> String {
    let sealed = walk.messages.iter().any(|message| matches!(message.what, What::Tls(..) | What::Sealed));
    match &leg.tls_version {
        Some(version) if !sealed => format!("{note}; what follows was said inside of {version}"),
        _ => note,
    }
}

/// The pieces of a direction, and where they stand in it.
fn places(pieces: &[Piece]) -> impl Iterator<Item = (usize, &Piece, usize, usize)> {
    let (mut client, mut server) = (0, 0);
    pieces.iter().enumerate().map(move |(number, piece)| {
        let at = match piece.from {
            Side::Client => &mut client,
            Side::Server => &mut server,
        };
        let start = *at;
        *at += piece.bytes.len();
        (number, piece, start, *at)
    })
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
        if let Some(refusal) = Self::refusal(login.pieces, walk) {
            return refusal;
        }
        if !login.goes_on && !login.facts.closes.is_empty() {
            return Self::Ending;
        }
        match login.pieces.len() {
            0 => Self::Opening,
            count => Self::Piece(count - 1),
        }
    }

    /// Where the server refuses.
    fn refusal(pieces: &[Piece], walk: &Walk) -> Option<Self> {
        let is_error = |message: &&Message| {
            message.from == Side::Server && matches!(message.what, What::Backend(b'E', _))
        };
        let error = walk.messages.iter().rev().find(is_error)?;
        let mut server = places(pieces).filter(|(_, piece, ..)| piece.from == Side::Server);
        server.find(|(.., end)| *end >= error.end).map(|(number, ..)| Self::Piece(number))
    }
}

/// What stands beside a piece's packet.
fn commented(login: &Login<'_>, walk: &Walk, mark: Mark, place: (usize, &Piece, usize, usize)) -> String {
    let (number, piece, start, end) = place;
    let comment = comments::comment(walk, piece.from, start, end);
    if mark == Mark::Piece(number) { format!("{comment}. {}", login.verdict) } else { comment }
}

/// The smallest difference of two times.
const TICK: Duration = Duration::from_nanos(1);

/// Both connections of a login, for the packets of its session.
#[derive(Debug)]
pub struct Flow {
    client: Connection,
    server: Option<Connection>,
    /// Bytes of either side that pgwhy kept to itself: a request for encryption that it answered.
    kept_back: (u64, u64),
    /// How many bytes more either side has sent on the server's leg, where the legs differed.
    ahead: (i64, i64),
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
        Some(Self { client, server, kept_back, ahead: (0, 0), born })
    }

    /// Both legs carry the same.
    fn together(&mut self, out: &mut Vec<u8>, login: &Login<'_>, walk: &Walk, mark: Mark) {
        let mut opened = false;
        for (number, piece, start, end) in places(login.pieces) {
            let comment = commented(login, walk, mark, (number, piece, start, end));
            if !opened && self.reaches_server(piece) {
                self.open_server(out, login.facts, walk, piece.at);
                opened = true;
            }
            self.data(out, piece, &comment);
        }
        if !opened {
            self.open_server(out, login.facts, walk, login.facts.elapsed);
        }
    }

    /// The legs differ: each has its own packets, in the order of their times.
    fn apart(&mut self, out: &mut Vec<u8>, login: &Login<'_>, walk: &Walk, mark: Mark, server_leg: &[Piece]) {
        let other_walk = Walk::new(server_leg.iter());
        // The refusal is marked where it was said; on the other leg nothing has to have failed.
        let refused = Mark::refusal(server_leg, &other_walk).unwrap_or(Mark::Opening);
        let mut others = places(server_leg).peekable();
        let mut opened = false;
        let mut next_other = |flow: &mut Self, out: &mut Vec<u8>, until: Option<Duration>| {
            while let Some(place) =
                others.next_if(|(_, piece, ..)| until.is_none_or(|until| piece.at <= until))
            {
                let comment = commented(login, &other_walk, refused, place);
                if !opened && flow.reaches_server(place.1) {
                    flow.open_server(out, login.facts, &other_walk, place.1.at);
                    opened = true;
                }
                flow.data_to_server(out, place.1, &comment);
            }
        };
        for place in places(login.pieces) {
            // What the server says comes before what the client is told of it, and the other way round.
            let before = place.1.from == Side::Server;
            next_other(self, out, if before { Some(place.1.at) } else { place.1.at.checked_sub(TICK) });
            let comment = commented(login, walk, mark, place);
            self.data_to_client(out, place.1, &comment);
        }
        next_other(self, out, None);
        let length = |pieces: &[Piece], side| {
            let of_side = pieces.iter().filter(|piece| piece.from == side).map(|piece| piece.bytes.len());
            u64::try_from(of_side.sum::<usize>()).unwrap_or_default()
        };
        let ahead = |side| length(server_leg, side).cast_signed() - length(login.pieces, side).cast_signed();
        self.ahead = (ahead(Side::Client), ahead(Side::Server));
        if !opened {
            self.open_server(out, login.facts, &other_walk, login.facts.elapsed);
        }
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
    fn open_server(&mut self, out: &mut Vec<u8>, facts: &Facts, walk: &Walk, first: Duration) {
        let took = facts.dials.last().map_or(Duration::ZERO, |dial| dial.took);
        let (from, to) = (self.time(first.saturating_sub(took)), self.time(first));
        let note = format!("connect: pgwhy connects to the server (login {})", facts.id);
        let note = facts.server_leg.as_ref().map_or_else(String::new, |leg| with_tls(note, leg, walk));
        if let Some(server) = &mut self.server {
            server.open(out, from, to, &note);
        }
    }

    /// The packets of a piece, in the order in which the bytes travel.
    pub fn data(&mut self, out: &mut Vec<u8>, piece: &Piece, comment: &str) {
        if piece.from == Side::Client {
            self.data_to_client(out, piece, comment);
        }
        self.data_to_server(out, piece, comment);
        if piece.from == Side::Server {
            self.data_to_client(out, piece, comment);
        }
    }

    /// The packets of the client's leg.
    fn data_to_client(&mut self, out: &mut Vec<u8>, piece: &Piece, comment: &str) {
        let at = self.time(piece.at);
        self.client.data(out, piece.from, at, piece.offset, &piece.bytes, comment);
    }

    /// The packets of the server's leg.
    fn data_to_server(&mut self, out: &mut Vec<u8>, piece: &Piece, comment: &str) {
        if !self.reaches_server(piece) {
            return;
        }
        let (at, kept_back) = (self.time(piece.at), self.kept_back(piece.from));
        let skipped = usize::try_from(kept_back.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
        let rest = piece.bytes.get(skipped..).unwrap_or_default();
        let ahead = if piece.from == Side::Client { self.ahead.0 } else { self.ahead.1 };
        let offset = piece.offset.saturating_sub(kept_back).saturating_add_signed(ahead);
        if let Some(server) = &mut self.server {
            server.data(out, piece.from, at, offset, rest, comment);
        }
    }

    /// The end of a session, or of a refused login.
    pub fn end(&mut self, out: &mut Vec<u8>, first: Side, reset: bool, at: Duration, comment: &str) {
        let at = self.time(at);
        self.close(out, first, reset, at, comment);
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
