//! TCP: segments of both directions become two streams, in the order in which both sides saw them.
//!
//! A capture may hold packets out of order, twice, or not at all. Two rules put them right: a direction's
//! bytes go by sequence numbers, and what a side sent goes behind everything that it had acknowledged by
//! then. What never came is a [`Event::Gap`], said only when waiting for it makes no sense any more.

use std::net::{IpAddr, SocketAddr};

use super::{be16, be32};

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// From.
    pub source: SocketAddr,
    /// To.
    pub target: SocketAddr,
    /// Its first byte's number.
    pub seq: u32,
    /// The next byte that its sender expects.
    pub ack: Option<u32>,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// What was captured of its data.
    pub data: &'a [u8],
    /// Data behind it that was sent and not captured.
    pub missing: usize,
}

impl<'a> Segment<'a> {
    /// Reads a segment; `None` where it is too short to be one.
    pub fn read(source: IpAddr, target: IpAddr, bytes: &'a [u8], missing: usize) -> Option<Self> {
        let header = usize::from(bytes.get(12)? >> 4) * 4;
        let flags = *bytes.get(13)?;
        let data = bytes.get(header..).filter(|_| header >= 20);
        // A snapshot may end inside the options; then all of the data is missing, and how much is not known.
        let data = if header >= 20 && missing > 0 { data.or(Some(&[])) } else { data }?;
        Some(Self {
            source: SocketAddr::new(source, be16(bytes, 0)?),
            target: SocketAddr::new(target, be16(bytes, 2)?),
            seq: be32(bytes, 4)?,
            ack: if flags & ACK == 0 { None } else { be32(bytes, 8) },
            syn: flags & SYN != 0,
            fin: flags & FIN != 0,
            rst: flags & RST != 0,
            data,
            missing,
        })
    }

    /// Whether it says nothing but what was received.
    pub fn is_bare(&self) -> bool {
        self.data.is_empty() && self.missing == 0 && !self.syn && !self.fin && !self.rst
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the end with the lower address.
    Up,
    /// From the other.
    Down,
}

impl Way {
    /// The opposite direction.
    pub fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// What happens on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The next bytes of a direction.
    Bytes(&'a [u8]),
    /// Bytes that were sent and are not in the capture.
    Gap(u32),
    /// The direction's orderly end.
    Fin,
    /// The connection was reset by the sender of this direction.
    Reset,
}

/// Takes events in order: direction, time, what.
pub type Sink<'a> = &'a mut dyn FnMut(Way, u64, Event<'_>);

/// Both directions of one connection.
#[derive(Debug, Default)]
pub struct Flow {
    up: Stream,
    down: Stream,
    /// Neither SYN nor its answer was seen, and nothing was given out yet.
    started: bool,
    arrivals: u32,
    held: usize,
}

/// Bytes that wait for others, both directions of one connection; beyond it they are taken for lost. A login's
/// messages are a few kilobytes, and the longest token has 64.
pub const MAX_WAITING_BYTES: usize = 128 << 10;
/// Segments that wait.
const MAX_WAITING: usize = 256;
/// Segments of a connection without a beginning that wait for it: captures are out of order by a few
/// packets, not by many.
const WITHOUT_START: usize = 16;

#[derive(Debug, Default)]
struct Stream {
    /// The number of the next byte to be given out.
    next: Option<u32>,
    waiting: Vec<Waiting>,
    over: bool,
    begun: bool,
}

#[derive(Debug)]
struct Waiting {
    seq: u32,
    ack: Option<u32>,
    at: u64,
    data: Vec<u8>,
    missing: usize,
    fin: bool,
    rst: bool,
    arrival: u32,
}

impl Flow {
    /// Takes a segment and gives out what is now in order.
    pub fn push(&mut self, way: Way, at: u64, segment: &Segment<'_>, sink: Sink<'_>) {
        if segment.syn {
            self.synchronise(way, segment);
        }
        let first = if segment.syn { segment.seq.wrapping_add(1) } else { segment.seq };
        if (segment.is_bare() && self.started) || (segment.syn && segment.data.is_empty()) {
            return self.deliver(sink);
        }
        if self.stream(way).over {
            // A reset behind a FIN says that the other side's last bytes came to nobody.
            if segment.rst && !self.stream(way.other()).over {
                sink(way, at, Event::Reset);
            }
            return;
        }
        let arrival = self.arrivals;
        self.arrivals = self.arrivals.wrapping_add(1);
        // Nearly every segment is the next one: it is given out without being kept.
        let idle = self.up.waiting.is_empty() && self.down.waiting.is_empty();
        let ready = self.stream(way).next == Some(first) && self.heard(way, segment.ack);
        if self.started && idle && ready && segment.missing == 0 && !segment.rst {
            self.learn(way, segment.ack);
            return self.give(way, at, segment.data, segment.fin, sink);
        }
        if self.stale(way, first, segment) {
            return;
        }
        self.held += segment.data.len();
        self.stream(way).waiting.push(Waiting {
            seq: first,
            ack: segment.ack,
            at,
            data: segment.data.to_vec(),
            missing: segment.missing,
            fin: segment.fin,
            rst: segment.rst,
            arrival,
        });
        if !self.started && self.waiting() >= WITHOUT_START {
            self.start();
        }
        self.deliver(sink);
        while self.held > MAX_WAITING_BYTES || self.waiting() > MAX_WAITING {
            self.wait_no_longer(sink);
        }
    }

    /// Gives out everything that waits: nothing more will come.
    pub fn flush(&mut self, sink: Sink<'_>) {
        self.start();
        self.deliver(sink);
        while self.waiting() > 0 {
            self.wait_no_longer(sink);
        }
    }

    /// Bytes that wait for others.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether the connection's beginning is known, or was given up.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The first bytes that wait in a direction without a beginning.
    pub fn first_waiting(&self, way: Way) -> &[u8] {
        let stream = if way == Way::Up { &self.up } else { &self.down };
        let with_data = stream.waiting.iter().filter(|waiting| !waiting.data.is_empty());
        let first = with_data.reduce(|one, other| if before(other.seq, one.seq) { other } else { one });
        first.map(|waiting| waiting.data.as_slice()).unwrap_or_default()
    }

    fn waiting(&self) -> usize {
        self.up.waiting.len() + self.down.waiting.len()
    }

    fn stream(&mut self, way: Way) -> &mut Stream {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn synchronise(&mut self, way: Way, segment: &Segment<'_>) {
        self.started = true;
        let first = segment.seq.wrapping_add(1);
        let stream = self.stream(way);
        if !stream.begun {
            stream.next = Some(first);
        }
        if let Some(ack) = segment.ack {
            let other = self.stream(way.other());
            if !other.begun {
                other.next = Some(ack);
            }
        }
        self.discard();
    }

    /// Begins without a beginning: with the lowest number that either side has named.
    fn start(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        for way in [Way::Up, Way::Down] {
            let acked: Vec<u32> =
                self.stream(way.other()).waiting.iter().filter_map(|waiting| waiting.ack).collect();
            let stream = self.stream(way);
            let sent = stream.waiting.iter().filter(|waiting| !waiting.rst).map(|waiting| waiting.seq);
            let lowest = sent.chain(acked).reduce(|one, other| if before(other, one) { other } else { one });
            stream.next = stream.next.or(lowest);
        }
        self.discard();
    }

    /// Drops segments that only said what was received: they told where the streams begin.
    fn discard(&mut self) {
        for stream in [&mut self.up, &mut self.down] {
            stream.waiting.retain(|waiting| {
                !waiting.data.is_empty() || waiting.missing > 0 || waiting.fin || waiting.rst
            });
        }
    }

    /// Whether all of it was given out before.
    fn stale(&mut self, way: Way, first: u32, segment: &Segment<'_>) -> bool {
        let length = u32::try_from(segment.data.len() + segment.missing).unwrap_or(u32::MAX);
        let end = first.wrapping_add(length).wrapping_add(u32::from(segment.fin));
        let Some(next) = self.stream(way).next.filter(|_| self.started && !segment.rst) else { return false };
        !before(next, end)
    }

    /// Whether the other direction was given out as far as the sender had received it.
    fn heard(&mut self, way: Way, ack: Option<u32>) -> bool {
        match (ack, self.stream(way.other()).next) {
            (Some(ack), Some(next)) => !before(next, ack) || self.stream(way.other()).over,
            _ => true,
        }
    }

    /// The first thing that a side acknowledges says where the other one begins, if its SYN was not seen.
    fn learn(&mut self, way: Way, ack: Option<u32>) {
        let other = self.stream(way.other());
        other.next = other.next.or(ack);
    }

    fn give(&mut self, way: Way, at: u64, data: &[u8], fin: bool, sink: Sink<'_>) {
        let length = u32::try_from(data.len()).unwrap_or_default();
        let stream = self.stream(way);
        stream.begun = true;
        stream.next = stream.next.map(|next| next.wrapping_add(length).wrapping_add(u32::from(fin)));
        if !data.is_empty() {
            sink(way, at, Event::Bytes(data));
        }
        if fin {
            self.end(way);
            sink(way, at, Event::Fin);
        }
    }

    fn deliver(&mut self, sink: Sink<'_>) {
        if !self.started {
            return;
        }
        while let Some((way, place)) = self.ready() {
            let waiting = self.stream(way).waiting.swap_remove(place);
            self.held -= waiting.data.len();
            self.learn(way, waiting.ack);
            let next = self.stream(way).next.unwrap_or(waiting.seq);
            let known = usize::try_from(next.wrapping_sub(waiting.seq)).unwrap_or(usize::MAX);
            if waiting.rst {
                self.end(way);
                sink(way, waiting.at, Event::Reset);
                continue;
            }
            let fresh = waiting.data.get(known..).unwrap_or_default();
            let end = waiting.seq.wrapping_add(u32::try_from(waiting.data.len()).unwrap_or(u32::MAX));
            let fin = waiting.fin && waiting.missing == 0 && !before(end, next);
            self.give(way, waiting.at, fresh, fin, sink);
            if waiting.missing > 0 {
                // What the snapshot cut off won't come again.
                let lost = u32::try_from(waiting.missing).unwrap_or(u32::MAX);
                self.skip(way, waiting.at, end.wrapping_add(lost), sink);
            }
        }
    }

    /// The earliest segment whose turn it is.
    fn ready(&mut self) -> Option<(Way, usize)> {
        let mut best: Option<(u32, Way, usize)> = None;
        for way in [Way::Up, Way::Down] {
            let Some(next) = self.stream(way).next else { continue };
            let other = self.stream(way.other());
            let (heard, over) = (other.next, other.over);
            for (place, waiting) in self.stream(way).waiting.iter().enumerate() {
                let caught_up = match (waiting.ack, heard) {
                    (Some(ack), Some(heard)) => !before(heard, ack) || over,
                    _ => true,
                };
                let first = best.is_none_or(|(arrival, ..)| waiting.arrival < arrival);
                if caught_up && first && !before(next, waiting.seq) {
                    best = Some((waiting.arrival, way, place));
                }
            }
        }
        best.map(|(_, way, place)| (way, place))
    }

    /// What the earliest waiting segment waits for will not come.
    fn wait_no_longer(&mut self, sink: Sink<'_>) {
        self.start();
        let ways = [Way::Up, Way::Down];
        let all = ways.into_iter().flat_map(|way| {
            let stream = if way == Way::Up { &self.up } else { &self.down };
            stream.waiting.iter().map(move |waiting| (waiting.arrival, way, waiting.ack, waiting.at))
        });
        let Some((_, way, ack, at)) = all.min_by_key(|(arrival, ..)| *arrival) else { return };
        let other = self.stream(way.other());
        let behind = ack.zip(other.next).filter(|(ack, next)| before(*next, *ack) && !other.over);
        match (behind, other.lowest()) {
            (Some((ack, _)), Some(lowest)) if before(lowest, ack) => self.close_gap(way.other(), at, sink),
            (Some((ack, _)), _) => self.skip(way.other(), at, ack, sink),
            (None, _) => self.close_gap(way, at, sink),
        }
        self.deliver(sink);
    }

    /// Goes on with the lowest number that waits in this direction.
    fn close_gap(&mut self, way: Way, at: u64, sink: Sink<'_>) {
        let stream = self.stream(way);
        let Some(lowest) = stream.lowest() else { return };
        match stream.next {
            Some(next) if before(next, lowest) => {
                // A reset's number is often wrong, and nothing follows it.
                let only_resets = stream.waiting.iter().all(|waiting| waiting.rst);
                if only_resets {
                    stream.next = Some(lowest);
                } else {
                    self.skip(way, at, lowest, sink);
                }
            }
            // It is this direction's turn, and still it was not given out: nothing may wait for ever.
            Some(_) => {
                if let Some(place) = stream.waiting.iter().position(|waiting| waiting.seq == lowest) {
                    stream.waiting.get_mut(place).into_iter().for_each(|waiting| waiting.ack = None);
                }
            }
            None => stream.next = Some(lowest),
        }
    }

    fn skip(&mut self, way: Way, at: u64, to: u32, sink: Sink<'_>) {
        let stream = self.stream(way);
        let from = stream.next.unwrap_or(to);
        if before(from, to) {
            stream.next = Some(to);
            stream.begun = true;
            sink(way, at, Event::Gap(to.wrapping_sub(from)));
        }
    }

    /// Nothing follows a FIN or a reset.
    fn end(&mut self, way: Way) {
        let stream = self.stream(way);
        stream.over = true;
        let dropped: usize = stream.waiting.drain(..).map(|waiting| waiting.data.len()).sum();
        self.held -= dropped;
    }
}

impl Stream {
    fn lowest(&self) -> Option<u32> {
        let all = self.waiting.iter().map(|waiting| waiting.seq);
        all.reduce(|one, other| if before(other, one) { other } else { one })
    }
}

/// Whether one sequence number comes before another; they wrap around.
fn before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
