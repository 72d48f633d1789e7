//! Conversations: packets become TCP connections, and those that speak PostgreSQL become records.
//!
//! A connection is PostgreSQL's by its first bytes, whatever its port. It is watched until its login is
//! over and then only remembered by name, so a capture of any size is read in bounded memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::diagnose::context::Lack;
use crate::handshake::{Attention, Chunk, Close, Observer, Record, Side};

use super::facts::{Facts, LegFacts, MAGIC};
use super::read::blocks::{Block, Packet};
use super::read::ip::Fragments;
use super::read::link::{self, Frame};
use super::read::tcp::{Event, Flow, Segment, Way};
use super::tls::KeyLog;
use super::tls::opener::{Heard, Opener};

mod protocol;

use protocol::{FIRST, Protocol, asks_for_postgres, begins_message, protocol};

/// Connections that are remembered; beyond it the longest silent quarter is forgotten.
pub const MAX_CONNECTIONS: usize = 65_536;
/// Connections whose login is under way; a record takes a few kilobytes.
pub const MAX_OPEN: usize = 12_288;
/// Bytes of all connections that wait for bytes before them.
pub const MAX_WAITING: usize = 32 << 20;
/// Servers that are remembered for connections of theirs that say nothing.
const MAX_SERVERS: usize = 1_024;
/// PostgreSQL's port: what happens there is reported even if it is not PostgreSQL's protocol.
const POSTGRES_PORT: u16 = 5432;
/// How long an unopened TLS connection is watched for an early end, as the proxy does.
const OPAQUE_WATCH: u64 = 2_000_000_000;
/// A read-only server's client may find within this that it wants another one (`record::MOMENT`).
const SETTLING: u64 = 250_000_000;
/// How long both sides have for their goodbyes after a refusal, as the proxy gives them.
const LINGER: u64 = 10_000_000_000;
/// A login that is silent for so long when the capture ends has stalled.
const STALLED: Duration = Duration::from_secs(10);
/// A SYN without answer for so long at the end of the capture was not answered.
const UNANSWERED: Duration = Duration::from_secs(3);

/// One connection of a capture, up to its verdict.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Counts connections from 1, in the order in which they were first seen.
    pub number: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The server's.
    pub server: SocketAddr,
    /// The first packet, in nanoseconds since 1970.
    pub began: u64,
    /// From there to the verdict.
    pub elapsed: Duration,
    /// How the connection was made.
    pub dial: Dialled,
    /// Its first packet and the one with the verdict, as Wireshark numbers them.
    pub frames: (u64, u64),
    /// What was seen.
    pub record: Record,
    /// What the observer thought of it in the end.
    pub attention: Attention,
    /// What can be told of an encrypted connection.
    pub outside: Option<Outside>,
    /// What is not in the capture.
    pub lack: Lack,
    /// What pgwhy wrote beside it, if the capture is its own.
    pub facts: Option<Box<Facts>>,
    /// TLS was opened with a key log.
    pub opened: bool,
}

/// How a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    /// Before the capture began.
    Unseen,
    /// SYN and its answer, so long apart.
    Reached(Duration),
    /// The SYN was answered by a reset.
    Refused(Duration),
    /// The SYN was not answered.
    Unanswered(Duration),
}

/// An encrypted connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Bytes of the client so far.
    pub client_bytes: u64,
    /// Bytes of the server so far.
    pub server_bytes: u64,
    /// Who closed first, how and when.
    pub closed: Option<(Side, Close, Duration)>,
}

/// What was read, for the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Packets that could not be read: another link type, an unknown interface, broken headers.
    pub unreadable: u64,
    /// The first link type that is not known here.
    pub unknown_link: Option<u16>,
    /// TCP connections.
    pub connections: u64,
    /// Connections of other protocols.
    pub ignored: u64,
    /// Connections that began before the capture did.
    pub without_start: u64,
    /// Connections that were forgotten because there were too many at a time.
    pub forgotten: u64,
    /// Bytes missing in logins.
    pub lost_bytes: u64,
    /// Packets that the capturing program says it lost.
    pub dropped: u64,
}

/// The connections of a capture.
#[derive(Debug, Default)]
pub struct Table {
    connections: BTreeMap<Key, Connection>,
    open: usize,
    waiting: usize,
    fragments: Fragments,
    done: VecDeque<Conversation>,
    ports: BTreeSet<u16>,
    servers: BTreeSet<SocketAddr>,
    noted: VecDeque<(Key, Note)>,
    clock: u64,
    number: u64,
    keys: KeyLog,
    /// The packet at hand, as Wireshark counts: it counts also what can't be read.
    frame: u64,
    tally: Tally,
}

/// What pgwhy noted of a connection whose packets are still to come.
#[derive(Debug)]
enum Note {
    /// The client's leg of a login.
    Facts(Box<Facts>),
    /// The same login again, between pgwhy and the server.
    SecondLeg,
}

/// Both ends, the lower one first: addresses as IPv6 has them, and ports.
type Key = ((u128, u16), (u128, u16));

#[derive(Debug)]
enum Connection {
    Open(Box<Open>),
    /// Reported or not PostgreSQL's; kept to tell its later packets from a new connection.
    Done {
        syn: Option<u32>,
        last: u64,
    },
}

#[derive(Debug)]
struct Open {
    flow: Flow,
    watch: Watch,
}

#[derive(Debug)]
struct Watch {
    number: u64,
    /// The ends of [`Way::Up`] and [`Way::Down`]: who sends there.
    ends: [SocketAddr; 2],
    client: Option<Way>,
    /// Everything to this server is of interest.
    known: bool,
    protocol: Protocol,
    first: Vec<u8>,
    observer: Option<Observer>,
    began: u64,
    last: u64,
    syn: Option<(u32, u32)>,
    answered: Option<u64>,
    refused: Option<u64>,
    bytes: [u64; 2],
    lack: Lack,
    /// The next bytes of a side come behind a gap.
    torn: [bool; 2],
    /// Messages can't be told apart any more.
    deaf: bool,
    closes: Vec<(Side, Close, Duration)>,
    reset: bool,
    settled: Option<u64>,
    /// Its first packet, and the one that settled it or else the last one.
    frames: (u64, u64),
    facts: Option<Box<Facts>>,
    opener: Option<Box<Opener>>,
}

impl Table {
    /// An empty table. Everything to one of these ports is reported, and to PostgreSQL's.
    pub fn new(ports: &[u16]) -> Self {
        let ports = ports.iter().copied().chain([POSTGRES_PORT]).collect();
        Self { ports, ..Self::default() }
    }

    /// TLS is opened with these keys.
    pub fn with_keys(mut self, keys: KeyLog) -> Self {
        self.keys = keys;
        self
    }

    /// Takes one block of a file.
    pub fn block(&mut self, block: &Block<'_>) {
        match block {
            Block::Packet(packet) => {
                self.frame += 1;
                self.packet(packet);
            }
            Block::Dropped(count) => self.tally.dropped = self.tally.dropped.saturating_add(*count),
            Block::Unreadable => {
                self.frame += 1;
                self.tally.unreadable += 1;
            }
            Block::Custom { enterprise: ENTERPRISE, data } if data.starts_with(MAGIC.as_bytes()) => {
                if let Some(facts) = Facts::from_json(data) {
                    self.note(facts);
                }
            }
            Block::Custom { .. } => {}
            Block::Secrets(lines) => self.keys.read(lines),
        }
    }

    /// Facts stand before their packets, unless another program has put the file in another order.
    fn note(&mut self, facts: Facts) {
        let place =
            |leg: &LegFacts| Some(key(leg.packets_from.parse().ok()?, leg.packets_to.parse().ok()?).0);
        let second = facts.server_leg.as_ref().and_then(place).map(|key| (key, Note::SecondLeg));
        let first = place(&facts.client_leg).map(|key| (key, Note::Facts(Box::new(facts))));
        for (key, note) in [first, second].into_iter().flatten() {
            self.noted.retain(|(noted, _)| *noted != key);
            match (self.connections.get_mut(&key), note) {
                (Some(Connection::Open(open)), Note::Facts(facts))
                    if open.watch.began == since_1970(&facts) =>
                {
                    open.watch.known = true;
                    open.watch.facts = Some(facts);
                }
                (_, note) => self.noted.push_back((key, note)),
            }
        }
        while self.noted.len() > MAX_NOTED {
            self.noted.pop_front();
        }
    }

    /// Takes a packet.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        self.tally.packets += 1;
        self.clock = self.clock.max(packet.at);
        let ip = match link::open(packet.link, packet.data) {
            Frame::Ip(ip) => ip,
            Frame::Other => return,
            Frame::UnknownLink => {
                self.tally.unreadable += 1;
                self.tally.unknown_link.get_or_insert(packet.link);
                return;
            }
        };
        let cut = packet.original - packet.data.len();
        let Some(datagram) = self.fragments.open(ip, cut) else { return };
        if datagram.protocol != TCP {
            return;
        }
        match Segment::read(datagram.source, datagram.target, &datagram.data, datagram.missing) {
            Some(segment) => self.segment(packet.at, &segment),
            None => self.tally.unreadable += 1,
        }
    }

    /// The next connection that came to its verdict.
    pub fn next_done(&mut self) -> Option<Conversation> {
        self.done.pop_front()
    }

    /// The capture is over: what is still open is reported as far as it went.
    pub fn finish(&mut self) {
        let mut open: Vec<(u64, Key)> = self
            .connections
            .iter()
            .filter_map(|(key, connection)| match connection {
                Connection::Open(open) => Some((open.watch.number, *key)),
                Connection::Done { .. } => None,
            })
            .collect();
        open.sort_unstable();
        for (_, key) in open {
            self.close(key);
        }
        self.connections.clear();
        self.fragments = Fragments::default();
    }

    /// What was read so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Bytes and connections that are held, for tests of the limits.
    pub fn held(&self) -> (usize, usize) {
        (self.waiting + self.fragments.held(), self.connections.len())
    }

    fn segment(&mut self, at: u64, segment: &Segment<'_>) {
        let (key, way) = key(segment.source, segment.target);
        let opening = segment.syn && segment.ack.is_none();
        match self.connections.get_mut(&key) {
            Some(Connection::Done { syn, last }) => {
                *last = at;
                if !opening || *syn == Some(segment.seq) {
                    return;
                }
            }
            // The same two ports again: a new connection.
            Some(Connection::Open(open))
                if opening && open.watch.syn.is_some_and(|(seen, _)| seen != segment.seq) =>
            {
                self.close(key);
            }
            Some(Connection::Open(_)) => {}
            None if segment.is_bare() || (segment.rst && !segment.syn) => return,
            None => {}
        }
        if !matches!(self.connections.get(&key), Some(Connection::Open(_))) {
            self.make_room();
            self.begin(key, way, at, segment);
        }
        let Some(Connection::Open(open)) = self.connections.get_mut(&key) else { return };
        let before = open.held();
        if open.watch.settled.is_none() {
            open.watch.frames.1 = self.frame;
        }
        open.take(&self.keys, way, at, segment);
        if self.waiting + open.held() - before > MAX_WAITING {
            open.flush(&self.keys);
            open.watch.stop_opening(at);
        }
        self.waiting = self.waiting + open.held() - before;
        let over = open.watch.is_over(at);
        if open.watch.protocol == Protocol::Postgres && self.servers.len() < MAX_SERVERS {
            self.servers.extend(open.watch.server());
        }
        if over {
            self.close(key);
        }
    }

    fn begin(&mut self, key: Key, way: Way, at: u64, segment: &Segment<'_>) {
        let (up, down) = match way {
            Way::Up => (segment.source, segment.target),
            Way::Down => (segment.target, segment.source),
        };
        self.number += 1;
        self.open += 1;
        self.tally.connections += 1;
        let known = |end: &SocketAddr| self.ports.contains(&end.port()) || self.servers.contains(end);
        let mut watch = Watch::new(self.number, [up, down], known(&up) || known(&down), at, self.frame);
        let noted = self.noted.iter().position(|(noted, _)| *noted == key).filter(|_| segment.syn);
        match noted.and_then(|place| self.noted.remove(place)) {
            Some((_, Note::Facts(facts))) => {
                watch.known = true;
                watch.facts = Some(facts);
            }
            Some((_, Note::SecondLeg)) => {
                watch.protocol = Protocol::SecondLeg;
                self.tally.connections -= 1;
            }
            None => {}
        }
        let open = Box::new(Open { flow: Flow::default(), watch });
        self.connections.insert(key, Connection::Open(open));
    }

    /// Ends the watch of a connection, and reports it if it is PostgreSQL's.
    fn close(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Connection::Open(open) = connection else { return };
        let held = open.held();
        // Its last packet may wait for one that was lost.
        open.flush(&self.keys);
        let done = Connection::Done { syn: open.watch.syn.map(|(seq, _)| seq), last: open.watch.last };
        let Connection::Open(open) = std::mem::replace(connection, done) else { return };
        self.waiting -= held;
        self.open -= 1;
        let had_start = open.watch.has_start();
        let spoke = open.watch.bytes != [0, 0];
        match open.watch.conversation(self.clock) {
            Some(conversation) => {
                let lack = conversation.lack;
                self.tally.lost_bytes += lack.client_bytes + lack.server_bytes;
                self.done.push_back(conversation);
            }
            None if !had_start => self.tally.without_start += 1,
            None if spoke => self.tally.ignored += 1,
            None => {}
        }
    }

    fn make_room(&mut self) {
        if self.connections.len() < MAX_CONNECTIONS && self.open < MAX_OPEN {
            return;
        }
        let too_many_open = self.open >= MAX_OPEN;
        let mut by_age: Vec<(u64, Key)> = self
            .connections
            .iter()
            .filter_map(|(key, connection)| match connection {
                Connection::Open(open) => Some((open.watch.last, *key)),
                Connection::Done { last, .. } => (!too_many_open).then_some((*last, *key)),
            })
            .collect();
        by_age.sort_unstable();
        for (_, key) in by_age.iter().take(by_age.len() / 4 + 1) {
            if matches!(self.connections.get(key), Some(Connection::Open(_))) {
                self.tally.forgotten += 1;
                self.close(*key);
            }
            self.connections.remove(key);
        }
    }
}

impl Open {
    fn take(&mut self, keys: &KeyLog, way: Way, at: u64, segment: &Segment<'_>) {
        self.watch.meet(way, at, segment);
        let watch = &mut self.watch;
        self.flow.push(way, at, segment, &mut |way, at, event| watch.event(keys, way, at, event));
    }

    fn flush(&mut self, keys: &KeyLog) {
        let watch = &mut self.watch;
        self.flow.flush(&mut |way, at, event| watch.event(keys, way, at, event));
    }

    fn held(&self) -> usize {
        self.flow.held() + self.watch.opener.as_ref().map_or(0, |opener| opener.held())
    }
}

impl Watch {
    fn new(number: u64, ends: [SocketAddr; 2], known: bool, at: u64, frame: u64) -> Self {
        Self {
            number,
            ends,
            client: None,
            known,
            protocol: Protocol::Undecided,
            first: Vec::new(),
            observer: None,
            began: at,
            last: at,
            syn: None,
            answered: None,
            refused: None,
            bytes: [0, 0],
            lack: Lack::default(),
            torn: [false; 2],
            deaf: false,
            closes: Vec::new(),
            reset: false,
            settled: None,
            frames: (frame, frame),
            facts: None,
            opener: None,
        }
    }

    /// What a segment says of how the connection was made.
    fn meet(&mut self, way: Way, at: u64, segment: &Segment<'_>) {
        self.last = self.last.max(at);
        match (segment.syn, segment.ack) {
            (true, None) => {
                self.client = Some(way);
                let tries = self.syn.map_or(1, |(_, tries)| tries.saturating_add(1));
                self.syn = Some((segment.seq, tries));
                // Packets are not always captured in their order.
                self.began = self.began.min(at);
            }
            (true, Some(_)) => {
                self.client = Some(way.other());
                self.answered.get_or_insert(at);
            }
            (false, Some(ack)) if segment.rst && self.client == Some(way.other()) => {
                let to_syn = self.syn.is_some_and(|(seq, _)| ack == seq.wrapping_add(1));
                if to_syn && self.answered.is_none() && self.bytes == [0, 0] {
                    self.refused = Some(at);
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, keys: &KeyLog, way: Way, at: u64, event: Event<'_>) {
        if matches!(self.protocol, Protocol::Other | Protocol::SecondLeg) {
            return;
        }
        if let (None, Event::Bytes(bytes)) = (self.client, event) {
            let client = |first| matches!(first, Some(Protocol::Postgres));
            let way = if client(protocol(bytes)) { way } else { way.other() };
            self.client = Some(way);
        }
        let side = if self.client == Some(way) { Side::Client } else { Side::Server };
        let since = Duration::from_nanos(at.saturating_sub(self.began));
        match event {
            Event::Bytes(bytes) => self.bytes(keys, side, at, bytes),
            Event::Gap(count) => {
                self.stop_opening(at);
                self.gap(side, count);
            }
            Event::Fin => self.closed(side, Close::Eof, since),
            Event::Reset => {
                self.reset = true;
                self.closed(side, Close::Reset, since);
            }
        }
        let attention = self.observer.as_ref().map_or(Attention::Watching, Observer::attention);
        if attention != Attention::Watching {
            self.settled.get_or_insert(at);
        }
    }

    fn bytes(&mut self, keys: &KeyLog, side: Side, at: u64, bytes: &[u8]) {
        if let Some(count) = self.bytes.get_mut(side as usize) {
            *count += bytes.len() as u64;
        }
        if side == Side::Client && self.protocol == Protocol::Undecided {
            let room = FIRST.saturating_sub(self.first.len());
            self.first.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            self.protocol = match protocol(&self.first) {
                // What began before the capture may be in the middle of anything.
                Some(_) if self.known && self.has_start() => Protocol::Postgres,
                Some(protocol) => protocol,
                None => Protocol::Undecided,
            };
            if self.protocol == Protocol::Other {
                self.observer = None;
                return;
            }
        }
        if self.opener.is_none() && !keys.is_empty() && self.bytes.iter().sum::<u64>() == bytes.len() as u64 {
            self.opener = Some(Box::default());
        }
        let Some(mut opener) = self.opener.take() else { return self.say(side, at, bytes) };
        opener.bytes(keys, side, at, bytes, &mut |side, at, heard| self.heard(side, at, heard));
        self.opener = Some(opener);
    }

    /// What is inside of TLS, and everything else as it is.
    fn heard(&mut self, side: Side, at: u64, heard: Heard<'_>) {
        match heard {
            Heard::Bytes(bytes) => self.say(side, at, bytes),
            Heard::Opened => {
                let at = Duration::from_nanos(at.saturating_sub(self.began));
                self.observer.get_or_insert_default().unsealed(at);
            }
            Heard::Lost(count) => self.gap(side, u32::try_from(count).unwrap_or(u32::MAX)),
        }
    }

    /// Behind a gap no record can be opened.
    fn stop_opening(&mut self, at: u64) {
        let Some(mut opener) = self.opener.take() else { return };
        opener.gap(at, &mut |side, at, heard| self.heard(side, at, heard));
        self.deaf |= opener.is_open();
        self.opener = Some(opener);
    }

    /// Hands bytes to the observer.
    fn say(&mut self, side: Side, at: u64, bytes: &[u8]) {
        let at = Duration::from_nanos(at.saturating_sub(self.began));
        let behind_gap = self.torn.get_mut(side as usize).map(std::mem::take);
        // Behind a gap only a whole message makes sense.
        self.deaf |= behind_gap == Some(true) && !begins_message(side, bytes);
        if !self.deaf {
            self.observer.get_or_insert_default().eat(Chunk { at, from: side, bytes });
        }
    }

    fn gap(&mut self, side: Side, count: u32) {
        let Some(observer) = &self.observer else {
            // Its first bytes are lost: nobody can tell what it is.
            self.protocol = Protocol::Other;
            return;
        };
        if observer.attention() != Attention::Watching {
            return;
        }
        match side {
            Side::Client => self.lack.client_bytes += u64::from(count),
            Side::Server => self.lack.server_bytes += u64::from(count),
        }
        // A message that was begun will never be whole.
        self.deaf |= observer.held() > 0;
        self.torn.get_mut(side as usize).into_iter().for_each(|torn| *torn = true);
    }

    fn closed(&mut self, side: Side, how: Close, at: Duration) {
        if self.closes.len() < 4 {
            self.closes.push((side, how, at));
        }
        if self.facts.is_some() {
            // pgwhy wrote down who ended it; packets for that were made up.
            return;
        }
        if let Some(mut opener) = self.opener.take() {
            let when = self.began + u64::try_from(at.as_nanos()).unwrap_or_default();
            opener.closing(when, &mut |side, at, heard| self.heard(side, at, heard));
            self.opener = Some(opener);
        }
        self.observer.get_or_insert_default().closed(at, side, how);
    }

    /// Whether the login is over, as far as it is of interest.
    fn is_over(&self, now: u64) -> bool {
        let gone = |side| self.closes.iter().any(|(by, ..)| *by == side);
        let closed = self.reset || (gone(Side::Client) && gone(Side::Server));
        if closed || self.refused.is_some() || matches!(self.protocol, Protocol::Other | Protocol::SecondLeg)
        {
            return true;
        }
        let since = self.settled.map(|at| now.saturating_sub(at));
        match self.observer.as_ref().map_or(Attention::Watching, Observer::attention) {
            Attention::Watching => false,
            Attention::Ready | Attention::Cancel => true,
            Attention::Settling => since.is_some_and(|since| since > SETTLING),
            Attention::Failed => since.is_some_and(|since| since > LINGER),
            Attention::Opaque => since.is_some_and(|since| since > OPAQUE_WATCH),
        }
    }

    fn has_start(&self) -> bool {
        self.syn.is_some() || self.answered.is_some()
    }

    fn server(&self) -> Option<SocketAddr> {
        let client = self.client?;
        self.ends.get(client.other() as usize).copied()
    }

    /// The record of it; `None` if it is not PostgreSQL's.
    fn conversation(mut self, clock: u64) -> Option<Conversation> {
        let client = self.client?;
        let server = self.server()?;
        let of_interest = match self.protocol {
            Protocol::Postgres => true,
            // Nothing that tells: of interest only where PostgreSQL is.
            Protocol::Undecided => self.known,
            Protocol::Tls => true,
            Protocol::Other | Protocol::SecondLeg => false,
        };
        let silent = Duration::from_nanos(clock.saturating_sub(self.last));
        let dial = self.dialled(silent);
        let unmade = matches!(dial, Dialled::Unanswered(waited) if waited < UNANSWERED);
        if !of_interest || unmade || (dial == Dialled::Unseen && self.protocol == Protocol::Undecided) {
            return None;
        }
        let mut opened = false;
        if let Some(mut opener) = self.opener.take() {
            opener.finish(self.last, &mut |side, at, heard| self.heard(side, at, heard));
            opened = opener.is_open();
        }
        let mut observer = self.observer.unwrap_or_default();
        let attention = observer.attention();
        let mut lack = self.lack;
        let mut elapsed = Duration::from_nanos(self.last.saturating_sub(self.began));
        if self.closes.is_empty() && matches!(attention, Attention::Watching) && self.refused.is_none() {
            lack.cut_off = Some(silent);
            if silent >= STALLED && !matches!(dial, Dialled::Unanswered(_)) {
                elapsed += silent;
                observer.closed(elapsed, Side::Client, Close::Deadline);
            }
        }
        if let Some(facts) = &self.facts {
            lack = Lack { client_bytes: facts.bytes_left_out, ..Lack::default() };
            facts.closes.iter().for_each(|(side, how, at)| observer.closed(*at, *side, *how));
        }
        let record = observer.finish();
        if self.protocol == Protocol::Tls && !asks_for_postgres(&record) {
            return None;
        }
        let outside = (attention == Attention::Opaque).then(|| {
            let [client_bytes, server_bytes] = self.bytes;
            Outside { client_bytes, server_bytes, closed: self.closes.first().copied() }
        });
        if matches!(attention, Attention::Ready | Attention::Settling) {
            elapsed = record.ended;
        }
        let client = self.ends.get(client as usize).copied()?;
        let (number, began, facts, frames) = (self.number, self.began, self.facts, self.frames);
        Some(Conversation {
            number,
            frames,
            client,
            server,
            began,
            elapsed,
            dial,
            record,
            attention,
            outside,
            lack,
            facts,
            opened,
        })
    }

    fn dialled(&self, silent: Duration) -> Dialled {
        let since = |at: u64| Duration::from_nanos(at.saturating_sub(self.began));
        match (self.syn, self.answered, self.refused) {
            (Some(_), _, Some(at)) => Dialled::Refused(since(at)),
            (Some(_), Some(at), None) => Dialled::Reached(since(at)),
            (Some(_), None, None) if self.bytes == [0, 0] && self.closes.is_empty() => {
                Dialled::Unanswered(since(self.last) + silent)
            }
            (Some(_), None, None) => Dialled::Reached(Duration::ZERO),
            (None, ..) => Dialled::Unseen,
        }
    }
}

fn key(source: SocketAddr, target: SocketAddr) -> (Key, Way) {
    let place = |end: SocketAddr| {
        let bits = match end {
            SocketAddr::V4(end) => u128::from(end.ip().to_ipv6_mapped()),
            SocketAddr::V6(end) => u128::from(*end.ip()),
        };
        (bits, end.port())
    };
    let (source, target) = (place(source), place(target));
    if source <= target { ((source, target), Way::Up) } else { ((target, source), Way::Down) }
}

/// When a login began by its facts, as packets' times count.
fn since_1970(facts: &Facts) -> u64 {
    let since = facts.accepted.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

const TCP: u8 = 6;
/// The number under which pgwhy writes its blocks: RFC 5612's, for examples.
const ENTERPRISE: u32 = 32_473;
/// Connections that are noted before their packets; those follow at once.
const MAX_NOTED: usize = 64;

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
