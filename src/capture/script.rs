//! The bytes of one login of a capture, to be played again.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use crate::handshake::Side;

use super::read::blocks::{Block, Blocks};
use super::read::ip::Fragments;
use super::read::link::{self, Frame};
use super::read::tcp::{Event, Flow, Segment, Way};
use super::write::walk::{Message, Piece, Walk, What};

/// Bytes of one login that are kept: more than pgwhy captures of any.
const MOST: usize = 1 << 20;

/// Which connection of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    /// The client's address in its packets.
    pub client: SocketAddr,
    /// The server's.
    pub server: SocketAddr,
    /// Its first packet, in nanoseconds from 1970.
    pub began: u64,
}

/// One login, message by message.
#[derive(Debug)]
pub struct Script {
    walk: Walk,
    /// Bytes in the middle of it are not in the capture.
    pub gap: bool,
}

impl Script {
    /// Takes one connection out of a capture.
    pub fn read<R: Read>(blocks: &mut Blocks<R>, which: Which) -> Self {
        let mut reader = Reader { pieces: Vec::new(), sent: (0, 0), gap: false, which };
        let (mut fragments, mut flow, mut opened) = (Fragments::default(), Flow::default(), None);
        while let Some(block) = blocks.next() {
            let Block::Packet(packet) = block else { continue };
            let Frame::Ip(ip) = link::open(packet.link, packet.data) else { continue };
            let cut = packet.original - packet.data.len();
            let Some(datagram) = fragments.open(ip, cut).filter(|datagram| datagram.protocol == TCP) else {
                continue;
            };
            let segment = Segment::read(datagram.source, datagram.target, &datagram.data, datagram.missing);
            let Some(segment) = segment.filter(|_| packet.at >= which.began) else { continue };
            let way = match (segment.source, segment.target) {
                (from, to) if from == which.client && to == which.server => Way::Up,
                (from, to) if from == which.server && to == which.client => Way::Down,
                _ => continue,
            };
            if segment.syn
                && segment.ack.is_none()
                && opened.replace(segment.seq).is_some_and(|seq| seq != segment.seq)
            {
                // The same two ports again: another connection.
                break;
            }
            flow.push(way, packet.at, &segment, &mut |way, at, event| reader.event(way, at, event));
        }
        flow.flush(&mut |way, at, event| reader.event(way, at, event));
        Self { walk: Walk::new(reader.pieces.iter()), gap: reader.gap }
    }

    /// The messages, in the order in which they were whole.
    pub fn messages(&self) -> &[Message] {
        &self.walk.messages
    }

    /// A message's bytes.
    pub fn bytes(&self, message: &Message) -> &[u8] {
        self.walk.bytes(message)
    }

    /// Whether the login passed through encrypted: there is nothing to play.
    pub fn is_sealed(&self) -> bool {
        self.messages().iter().any(|message| matches!(message.what, What::Tls(..) | What::Sealed))
    }
}

struct Reader {
    pieces: Vec<Piece>,
    sent: (u64, u64),
    gap: bool,
    which: Which,
}

impl Reader {
    fn event(&mut self, way: Way, at: u64, event: Event<'_>) {
        let Event::Bytes(bytes) = event else {
            self.gap |= matches!(event, Event::Gap(_));
            return;
        };
        let (from, sent) = match way {
            Way::Up => (Side::Client, &mut self.sent.0),
            Way::Down => (Side::Server, &mut self.sent.1),
        };
        let offset = *sent;
        *sent += u64::try_from(bytes.len()).unwrap_or_default();
        if self.sent.0 + self.sent.1 <= u64::try_from(MOST).unwrap_or(u64::MAX) {
            let at = Duration::from_nanos(at.saturating_sub(self.which.began));
            self.pieces.push(Piece { at, from, offset, bytes: bytes.to_vec() });
        }
    }
}

const TCP: u8 = 6;
