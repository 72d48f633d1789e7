//! Captures: any bytes are read, and conversations that were wrapped into packets come out as they went in,
//! however the packets were shuffled, cut and repeated.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::capture::conversation::{Conversation, MAX_CONNECTIONS, Table};
use crate::capture::read::blocks::{Blocks, MAX_BLOCK, Trouble};
use crate::diagnose::{Confidence, Context, diagnose};
use crate::handshake::{Attention, Chunk, Close, Observer, Record, Side};

use super::generate::Bytes;
use super::play::events;
use super::play::{Cutting, Event};

/// One IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since 1970.
    pub at: u64,
    /// From its IP header on.
    pub ip: Vec<u8>,
    /// It carries data or an end, not only SYN or ACK.
    pub tells: bool,
}

/// Both ends of a made-up connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    /// When it begins, in nanoseconds since 1970.
    pub began: u64,
}

impl Default for Ends {
    fn default() -> Self {
        let host = |last, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port);
        Self { client: host(1, 40_001), server: host(2, 5432), began: 1_795_238_700_000_000_000 }
    }
}

/// The packets of a connection, as a network of this kind would carry them.
pub fn packets(list: &[Event], ends: Ends, cutting: Cutting) -> Vec<Packet> {
    let mut maker = Maker { ends, next: [0xffff_ff00, 7_000], packets: Vec::new() };
    maker.add(Duration::ZERO, Side::Client, SYN, &[]);
    maker.add(Duration::ZERO, Side::Server, SYN | ACK, &[]);
    maker.add(Duration::ZERO, Side::Client, ACK, &[]);
    for event in list {
        match &event.what {
            Ok(bytes) => {
                for piece in cutting.pieces(bytes).into_iter().flat_map(|piece| piece.chunks(MOST)) {
                    maker.add(event.at, event.from, ACK, piece);
                }
            }
            Err(Close::Reset) => maker.add(event.at, event.from, RST | ACK, &[]),
            Err(_) => maker.add(event.at, event.from, FIN | ACK, &[]),
        }
    }
    maker.packets
}

/// Ethernet's, as far as IP and TCP leave it.
const MOST: usize = 1_448;

struct Maker {
    ends: Ends,
    next: [u32; 2],
    packets: Vec<Packet>,
}

impl Maker {
    fn add(&mut self, at: Duration, from: Side, flags: u8, data: &[u8]) {
        let (mine, theirs) = (from as usize, 1 - from as usize);
        let (source, target) = match from {
            Side::Client => (self.ends.client, self.ends.server),
            Side::Server => (self.ends.server, self.ends.client),
        };
        let next = |way: usize| self.next.get(way).copied().unwrap_or_default();
        let ack = if flags & ACK == 0 { 0 } else { next(theirs) };
        let mut tcp = Vec::with_capacity(20 + data.len());
        tcp.extend(source.port().to_be_bytes());
        tcp.extend(target.port().to_be_bytes());
        tcp.extend(next(mine).to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(data);
        let length = u32::try_from(data.len()).unwrap_or_default() + u32::from(flags & (SYN | FIN) != 0);
        if let Some(next) = self.next.get_mut(mine) {
            *next = next.wrapping_add(length);
        }
        let tells = !data.is_empty() || flags & (FIN | RST) != 0;
        let at = self.ends.began + u64::try_from(at.as_nanos()).unwrap_or_default();
        self.packets.push(Packet { at, ip: ip(source.ip(), target.ip(), &tcp), tells });
    }
}

fn ip(source: IpAddr, target: IpAddr, tcp: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(tcp.len() + more).unwrap_or_default().to_be_bytes();
    let mut packet = Vec::with_capacity(40 + tcp.len());
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            packet.extend([0x45, 0]);
            packet.extend(length(20));
            packet.extend([0, 1, 0, 0, 64, 6, 0, 0]);
            packet.extend(source.octets());
            packet.extend(target.octets());
        }
        (source, target) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length(0));
            packet.extend([6, 64]);
            packet.extend(octets(source));
            packet.extend(octets(target));
        }
    }
    packet.extend_from_slice(tcp);
    packet
}

/// A pcap file of raw IP packets, with times to the nanosecond.
pub fn pcap(packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_3c4d_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(262_144u32.to_le_bytes());
    file.extend(101u32.to_le_bytes());
    for packet in packets {
        let word = |number: u64| u32::try_from(number).unwrap_or_default().to_le_bytes();
        file.extend(word(packet.at / 1_000_000_000));
        file.extend(word(packet.at % 1_000_000_000));
        file.extend(word(packet.ip.len() as u64));
        file.extend(word(packet.ip.len() as u64));
        file.extend_from_slice(&packet.ip);
    }
    file
}

/// Reads a capture to its end, as far as it can be read.
pub fn read(reader: impl Read) -> (Vec<Conversation>, Option<Trouble>) {
    let mut blocks = match Blocks::open(reader) {
        Ok(blocks) => blocks,
        Err(trouble) => return (Vec::new(), Some(trouble)),
    };
    let mut table = Table::new(&[]);
    let mut found = Vec::new();
    while let Some(block) = blocks.next() {
        table.block(&block);
        let (bytes, connections) = table.held();
        assert!(bytes <= MOST_HELD && connections <= MAX_CONNECTIONS, "{bytes} bytes, {connections}");
        found.extend(std::iter::from_fn(|| table.next_done()));
    }
    table.finish();
    found.extend(std::iter::from_fn(|| table.next_done()));
    assert_eq!(table.held().0, 0, "something is held behind the end");
    (found, blocks.trouble().cloned())
}

/// What waits in all connections, fragments, and what one packet may add.
const MOST_HELD: usize = crate::capture::conversation::MAX_WAITING + (4 << 20) + MAX_BLOCK;

/// Any bytes as a capture file; read in one go and byte by byte they give the same.
pub fn capture_read(data: &[u8]) {
    let (found, trouble) = read(data);
    let (again, same_trouble) = read(OneByOne(data));
    assert_eq!(format!("{found:?}"), format!("{again:?}"), "what is read depends on how it is read");
    assert_eq!(trouble, same_trouble);
    for conversation in &found {
        diagnosed(conversation);
    }
}

/// Moves of both sides, in packets: the first byte says what happens to those.
pub fn capture_packets(data: &[u8]) {
    let Some((&control, rest)) = data.split_first() else { return };
    let list = if control & 1 == 0 { Bytes::new(rest).moves() } else { events(rest) };
    // Only what a capture can show: ends by pgwhy itself are none of that.
    let mut list: Vec<Event> = list
        .into_iter()
        .filter(|event| !matches!(event.what, Err(Close::Deadline | Close::Shutdown)))
        .map(|event| Event { at: Duration::ZERO, ..event })
        .collect();
    // Nothing acknowledges a reset, so what came behind it can't be told from what came before.
    let reset = list.iter().position(|event| event.what == Err(Close::Reset));
    if let Some(reset) = reset {
        list.truncate(reset + 1);
    }
    let seed = u64::from(control) << 32 | rest.len() as u64;
    let whole = packets(&list, Ends::default(), Cutting::Random(seed));
    if whole.iter().map(|packet| packet.ip.len()).sum::<usize>() > LARGEST {
        return;
    }
    let mut random = Random(seed);
    // Each of the packets that open a connection waits for the one before it to arrive, so they keep their order.
    let (opening, others) = whole.split_at(whole.len().min(3));
    let shuffled = [opening.to_vec(), shuffle(others, &mut random)].concat();
    let one = read(pcap(&whole).as_slice()).0;
    let other = read(pcap(&shuffled).as_slice()).0;
    if reset.is_none() {
        assert_eq!(told(&one), told(&other), "the order of packets matters");
    }
    if let [conversation] = one.as_slice() {
        let direct = played(&list, Cutting::Random(seed));
        assert_eq!(essence(&conversation.record), essence(&direct), "packets tell something else");
    }
    let lossy: Vec<Packet> = shuffled.into_iter().filter(|_| !random.one_in(6)).collect();
    for conversation in read(pcap(&lossy).as_slice()).0 {
        let lack = conversation.lack;
        let finding = diagnosed(&conversation);
        let lost = lack.client_bytes + lack.server_bytes > 0;
        assert!(!lost || finding != Some(Confidence::Proven), "proven across a gap");
    }
}

/// More would not fit into what may wait for a lost packet.
const LARGEST: usize = 64 << 10;

/// Moves packets by a few places and repeats some.
pub fn shuffle(packets: &[Packet], random: &mut Random) -> Vec<Packet> {
    let mut placed: Vec<(usize, Packet)> = Vec::new();
    for (place, packet) in packets.iter().enumerate() {
        placed.push((place + random.below(6), packet.clone()));
        if random.one_in(5) {
            placed.push((place + random.below(10), packet.clone()));
        }
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, packet)| packet).collect()
}

/// Numbers that follow from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % end.max(1)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

fn diagnosed(conversation: &Conversation) -> Option<Confidence> {
    let context = Context { lack: Some(conversation.lack), ..Context::default() };
    diagnose(&conversation.record, &context).finding.map(|finding| finding.confidence)
}

/// What the packets' order must not change.
fn told(list: &[Conversation]) -> Vec<String> {
    list.iter().map(|one| format!("{:?} {:?} {}", one.attention, one.lack, essence(&one.record))).collect()
}

/// A record without what goes on behind the verdict.
fn essence(record: &Record) -> String {
    let mut record = record.clone();
    record.client_bytes = 0;
    record.server_bytes = 0;
    record.client_start.clear();
    record.server_start.clear();
    record.client_last = None;
    record.server_last = None;
    record.closes.truncate(1);
    if record.session.ready.is_some() || record.cancel.is_some() {
        record.closes.clear();
    }
    format!("{record:?}")
}

/// The same events without packets, as far as a connection is watched.
fn played(list: &[Event], cutting: Cutting) -> Record {
    let mut observer = Observer::new();
    let mut gone = [false; 2];
    for event in list {
        if matches!(observer.attention(), Attention::Ready | Attention::Cancel) {
            break;
        }
        let over = gone.get_mut(event.from as usize);
        if over.as_ref().is_some_and(|gone| **gone) {
            continue;
        }
        match &event.what {
            Ok(bytes) => {
                for piece in cutting.pieces(bytes) {
                    observer.eat(Chunk { at: event.at, from: event.from, bytes: piece });
                }
            }
            Err(how) => {
                over.into_iter().for_each(|gone| *gone = true);
                observer.closed(event.at, event.from, *how);
                if *how == Close::Reset || gone == [true, true] {
                    break;
                }
            }
        }
    }
    observer.finish()
}

/// A reader that is never in a hurry.
struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (Some((first, rest)), Some(place)) = (self.0.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        *place = *first;
        self.0 = rest;
        Ok(1)
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
