//! The file formats: pcap and pcapng, as packets with times.
//!
//! Read from front to back through one buffer that never grows beyond [`MAX_BLOCK`]. Formats as in
//! draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use std::io::{ErrorKind, Read};
use std::ops::Range;

/// The longest block or packet that is looked at; longer ones are stepped over. libpcap's longest snapshot
/// is 262,144 bytes.
pub const MAX_BLOCK: usize = 1 << 20;
/// Interfaces of one section that are kept: packets of others can't be read. Real files have a dozen.
pub const MAX_INTERFACES: usize = 4_096;
/// Bytes asked for at a time.
const READ: usize = 1 << 18;

/// A capture file, block by block.
#[derive(Debug)]
pub struct Blocks<R> {
    input: Input<R>,
    format: Format,
    interfaces: Vec<Interface>,
    /// The newest time: a simple packet block has none of its own.
    last: u64,
    trouble: Option<Trouble>,
    over: bool,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// A custom block: who defined it, and all that follows.
    Custom {
        /// The private enterprise number.
        enterprise: u32,
        /// Its data, padding and options with it.
        data: &'a [u8],
    },
    /// Keys of TLS connections, as lines of a key log (a Decryption Secrets Block).
    Secrets(&'a [u8]),
    /// Packets that the capturing program lost, by its own count.
    Dropped(u64),
    /// A block that can't be used: an unknown interface, or one that is too long.
    Unreadable,
}

/// A packet as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which interface of its section.
    pub interface: u32,
    /// The link type (LINKTYPE_…).
    pub link: u16,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// Its length on the wire.
    pub original: usize,
    /// What was captured of it.
    pub data: &'a [u8],
    /// The options of its block, undecoded.
    options: &'a [u8],
    big: bool,
}

impl<'a> Packet<'a> {
    /// The comments that belong to it.
    pub fn comments(&self) -> impl Iterator<Item = &'a [u8]> {
        let big = self.big;
        options(self.options, big).filter(|(code, _)| *code == OPT_COMMENT).map(|(_, text)| text)
    }
}

/// Why a file could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The offset in the file.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Pcap { big: bool, nanoseconds: bool, link: u16, header: usize },
    PcapNg { big: bool },
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    snapshot: u32,
    /// Units of its times in a second.
    units: u128,
    /// Seconds to add.
    offset: i64,
}

/// A block as places in the buffer, so that the search for it can go on while none is found.
enum Found {
    Packet { interface: u32, link: u16, at: u64, original: usize, data: Range<usize>, options: Range<usize> },
    Custom { enterprise: u32, data: Range<usize> },
    Secrets(Range<usize>),
    Dropped(u64),
    Unreadable,
}

impl<R: Read> Blocks<R> {
    /// Reads the beginning of a file.
    pub fn open(reader: R) -> Result<Self, Trouble> {
        let mut input = Input { reader, buffer: Vec::new(), start: 0, end: 0, passed: 0 };
        let magic = match input.need(4) {
            Ok(true) => *input.ahead().first_chunk::<4>().unwrap_or(&[0; 4]),
            Ok(false) if input.ahead().is_empty() => return Err(input.trouble("the file is empty")),
            Ok(false) => return Err(input.trouble("this is no capture: it has fewer than 4 bytes")),
            Err(error) => return Err(input.trouble(error.to_string())),
        };
        let format = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::PcapNg { big: false },
            [0x1f, 0x8b, ..] => return Err(input.trouble(packed("gzip -dc"))),
            [0x28, 0xb5, 0x2f, 0xfd] => return Err(input.trouble(packed("zstd -dc"))),
            [0xfd, b'7', b'z', b'X'] => return Err(input.trouble(packed("xz -dc"))),
            _ => pcap_header(&mut input, magic)?,
        };
        Ok(Self { input, format, interfaces: Vec::new(), last: 0, trouble: None, over: false })
    }

    /// The next block that matters; `None` at the end, or where reading on makes no sense.
    #[allow(clippy::should_implement_trait, reason = "what it gives borrows from it")]
    pub fn next(&mut self) -> Option<Block<'_>> {
        let found = loop {
            if self.over {
                return None;
            }
            let found = match self.format {
                Format::Pcap { big, nanoseconds, link, header } => {
                    self.pcap_packet(big, nanoseconds, link, header)
                }
                Format::PcapNg { big } => self.pcapng_block(big),
            };
            if let Some(found) = found {
                break found;
            }
        };
        let buffer = self.input.buffer.as_slice();
        let part = |range: Range<usize>| buffer.get(range).unwrap_or_default();
        let big = matches!(self.format, Format::PcapNg { big: true });
        Some(match found {
            Found::Packet { interface, link, at, original, data, options } => {
                let (data, options) = (part(data), part(options));
                Block::Packet(Packet { interface, link, at, original, data, options, big })
            }
            Found::Custom { enterprise, data } => Block::Custom { enterprise, data: part(data) },
            Found::Secrets(data) => Block::Secrets(part(data)),
            Found::Dropped(count) => Block::Dropped(count),
            Found::Unreadable => Block::Unreadable,
        })
    }

    /// Why the file ended before its end.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Bytes of the file that were read over.
    pub fn position(&self) -> u64 {
        self.input.passed
    }

    fn stop(&mut self, what: impl Into<String>) -> Option<Found> {
        self.trouble = Some(self.input.trouble(what));
        self.over = true;
        None
    }

    /// Makes `count` bytes available; `false`, and the end noted, where there are none. An end between two
    /// blocks is the file's.
    fn has(&mut self, count: usize, what: &str) -> bool {
        match self.input.need(count) {
            Ok(true) => true,
            Ok(false) if self.input.ahead().is_empty() && what.is_empty() => {
                self.over = true;
                false
            }
            Ok(false) => {
                let (have, what) = (self.input.ahead().len(), if what.is_empty() { "a block" } else { what });
                self.stop(format!("the file is cut off inside {what} ({have} of {count} bytes are there)"));
                false
            }
            Err(error) => {
                self.stop(error.to_string());
                false
            }
        }
    }

    fn pcap_packet(&mut self, big: bool, nanoseconds: bool, link: u16, header: usize) -> Option<Found> {
        if !self.has(header, "") {
            return None;
        }
        let word = |at: usize| word(self.input.ahead(), at, big);
        let (seconds, fraction, captured, original) = (word(0), word(4), word(8), word(12));
        let captured = captured as usize;
        if captured > MAX_BLOCK {
            return self.stop(format!("a packet of {captured} bytes: the file is damaged from here on"));
        }
        if !self.has(header + captured, "a packet") {
            return None;
        }
        let fraction = u64::from(fraction) * if nanoseconds { 1 } else { 1_000 };
        let at = u64::from(seconds) * 1_000_000_000 + fraction;
        let start = self.input.start + header;
        self.input.skip(header + captured);
        let (data, original) = (start..start + captured, (original as usize).max(captured));
        Some(Found::Packet { interface: 0, link, at, original, data, options: 0..0 })
    }

    fn pcapng_block(&mut self, mut big: bool) -> Option<Found> {
        if !self.has(12, "") {
            return None;
        }
        let ahead = self.input.ahead();
        // The section header's type reads the same in both orders, and what follows names the order.
        let section = ahead.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
        if section {
            big = match ahead.get(8..12) {
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                _ => return self.stop("a section header without its byte-order mark"),
            };
            self.format = Format::PcapNg { big };
            self.interfaces.clear();
        }
        let (kind, length) = (word(self.input.ahead(), 0, big), word(self.input.ahead(), 4, big) as usize);
        if length < 12 || !length.is_multiple_of(4) {
            return self.stop(format!("a block of {length} bytes: the file is damaged from here on"));
        }
        if length > MAX_BLOCK {
            return match self.input.pass(length as u64) {
                Ok(true) => Some(Found::Unreadable),
                Ok(false) => self.stop(format!("the file is cut off inside a block of {length} bytes")),
                Err(error) => self.stop(error.to_string()),
            };
        }
        if !self.has(length, "a block") {
            return None;
        }
        let repeated = word(self.input.ahead(), length - 4, big) as usize;
        if repeated != length {
            return self.stop(format!(
                "a block's two lengths differ ({length} and {repeated}): the file is damaged from here on"
            ));
        }
        let start = self.input.start;
        let body = start + 8..start + length - 4;
        self.input.skip(length);
        if section {
            return None;
        }
        self.block(kind, body, big)
    }

    fn block(&mut self, kind: u32, body: Range<usize>, big: bool) -> Option<Found> {
        let bytes = self.input.buffer.get(body.clone()).unwrap_or_default();
        match kind {
            INTERFACE => {
                let interface = interface(bytes, big);
                if self.interfaces.len() < MAX_INTERFACES {
                    self.interfaces.push(interface);
                }
                None
            }
            ENHANCED if bytes.len() >= 20 => {
                let word = |at| word(bytes, at, big);
                let ticks = u64::from(word(4)) << 32 | u64::from(word(8));
                let place = Place { interface: word(0), ticks, data: 20 };
                self.timed(&place, word(12) as usize, word(16) as usize, body)
            }
            OBSOLETE if bytes.len() >= 20 => {
                let word = |at| word(bytes, at, big);
                let ticks = u64::from(word(4)) << 32 | u64::from(word(8));
                // The interface and a count of drops share the first word.
                let interface = if big { word(0) >> 16 } else { word(0) & 0xffff };
                let place = Place { interface, ticks, data: 20 };
                self.timed(&place, word(12) as usize, word(16) as usize, body)
            }
            SIMPLE if bytes.len() >= 4 => {
                let original = word(bytes, 0, big) as usize;
                let Some(interface) = self.interfaces.first() else { return Some(Found::Unreadable) };
                let limit = if interface.snapshot == 0 { usize::MAX } else { interface.snapshot as usize };
                let captured = original.min(limit).min(bytes.len() - 4);
                let (link, data) = (interface.link, body.start + 4..body.start + 4 + captured);
                let at = self.last;
                Some(Found::Packet { interface: 0, link, at, original, data, options: 0..0 })
            }
            STATISTICS if bytes.len() >= 12 => {
                let count = options(bytes.get(12..).unwrap_or_default(), big)
                    .filter(|(code, value)| matches!(*code, ISB_IFDROP | ISB_OSDROP) && value.len() == 8)
                    .map(|(_, value)| long(value, big))
                    .fold(0u64, u64::saturating_add);
                (count > 0).then_some(Found::Dropped(count))
            }
            CUSTOM | CUSTOM_NO_COPY if bytes.len() >= 4 => {
                let enterprise = word(bytes, 0, big);
                Some(Found::Custom { enterprise, data: body.start + 4..body.end })
            }
            SECRETS if bytes.len() >= 8 && word(bytes, 0, big) == TLS_KEY_LOG => {
                let length = (word(bytes, 4, big) as usize).min(bytes.len() - 8);
                Some(Found::Secrets(body.start + 8..body.start + 8 + length))
            }
            ENHANCED | OBSOLETE | SIMPLE => Some(Found::Unreadable),
            _ => None,
        }
    }

    fn timed(
        &mut self,
        place: &Place,
        captured: usize,
        original: usize,
        body: Range<usize>,
    ) -> Option<Found> {
        let interface = usize::try_from(place.interface).ok().and_then(|at| self.interfaces.get(at));
        let data = body.start + place.data;
        let Some(interface) = interface.filter(|_| captured <= body.end.saturating_sub(data)) else {
            return Some(Found::Unreadable);
        };
        let at = interface.nanoseconds(place.ticks);
        self.last = at;
        let options = (data + captured.next_multiple_of(4)).min(body.end)..body.end;
        let (data, original) = (data..data + captured, original.max(captured));
        Some(Found::Packet { interface: place.interface, link: interface.link, at, original, data, options })
    }
}

/// Where a packet's fields are.
struct Place {
    interface: u32,
    ticks: u64,
    /// Its data's offset in the body.
    data: usize,
}

impl Interface {
    fn nanoseconds(&self, ticks: u64) -> u64 {
        let since = u128::from(ticks) * 1_000_000_000 / self.units.max(1);
        let since = i128::try_from(since).unwrap_or(i128::MAX);
        let moved = since.saturating_add(i128::from(self.offset) * 1_000_000_000);
        // Times before 1970 and behind 2554 are a broken clock's.
        u64::try_from(moved.max(0)).unwrap_or(u64::MAX)
    }
}

fn interface(bytes: &[u8], big: bool) -> Interface {
    let link = (if big { word(bytes, 0, big) >> 16 } else { word(bytes, 0, big) & 0xffff }) as u16;
    let mut found = Interface { link, snapshot: word(bytes, 4, big), units: 1_000_000, offset: 0 };
    for (code, value) in options(bytes.get(8..).unwrap_or_default(), big) {
        match (code, value) {
            (IF_TSRESOL, [power, ..]) => {
                let exponent = u32::from(power & 0x7f);
                let base: u128 = if power & 0x80 == 0 { 10 } else { 2 };
                found.units = base.checked_pow(exponent).unwrap_or(u128::MAX);
            }
            (IF_TSOFFSET, value) if value.len() == 8 => found.offset = long(value, big).cast_signed(),
            _ => {}
        }
    }
    found
}

fn pcap_header<R: Read>(input: &mut Input<R>, magic: [u8; 4]) -> Result<Format, Trouble> {
    // The modified format of Alexey Kuznetsov has 8 more bytes before each packet.
    let (big, nanoseconds, header) = match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => (false, false, 16),
        [0xa1, 0xb2, 0xc3, 0xd4] => (true, false, 16),
        [0x4d, 0x3c, 0xb2, 0xa1] => (false, true, 16),
        [0xa1, 0xb2, 0x3c, 0x4d] => (true, true, 16),
        [0x34, 0xcd, 0xb2, 0xa1] => (false, false, 24),
        [0xa1, 0xb2, 0xcd, 0x34] => (true, false, 24),
        _ => return Err(input.trouble("this is no capture: neither pcap nor pcapng begins like that")),
    };
    match input.need(24) {
        Ok(true) => {}
        Ok(false) => return Err(input.trouble("the file is cut off inside its header")),
        Err(error) => return Err(input.trouble(error.to_string())),
    }
    // The upper bits say whether packets end with a checksum of the frame.
    let link = (word(input.ahead(), 20, big) & 0xffff) as u16;
    input.skip(24);
    Ok(Format::Pcap { big, nanoseconds, link, header })
}

fn packed(program: &str) -> String {
    format!("this is a compressed file; unpack it first: {program} FILE | pgwhy show -")
}

/// The options at the end of a block: code and value.
fn options(mut bytes: &[u8], big: bool) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let half = |pair: [u8; 2]| if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
        let (code, length) = (half([head[0], head[1]]), usize::from(half([head[2], head[3]])));
        let value = rest.get(..length).filter(|_| code != 0)?;
        bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    })
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
}

fn long(bytes: &[u8], big: bool) -> u64 {
    let eight = bytes.first_chunk::<8>().copied().unwrap_or_default();
    if big { u64::from_be_bytes(eight) } else { u64::from_le_bytes(eight) }
}

/// The bytes of the file, a window at a time.
#[derive(Debug)]
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `start` in the file.
    passed: u64,
}

impl<R: Read> Input<R> {
    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Makes `count` bytes available, at most [`MAX_BLOCK`] and a header; `false` where the file ends before.
    fn need(&mut self, count: usize) -> std::io::Result<bool> {
        while self.end - self.start < count {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let wanted = count.max(READ);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            match self.reader.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => return Ok(false),
                Ok(more) => self.end += more.min(self.buffer.len() - self.end),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn skip(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.passed += count as u64;
    }

    /// Steps over more than the buffer holds.
    fn pass(&mut self, mut count: u64) -> std::io::Result<bool> {
        while count > 0 {
            if self.start == self.end && !self.need(1)? {
                return Ok(false);
            }
            let step = count.min((self.end - self.start) as u64);
            self.skip(usize::try_from(step).unwrap_or(usize::MAX));
            count -= step;
        }
        Ok(true)
    }

    fn trouble(&self, what: impl Into<String>) -> Trouble {
        Trouble { at: self.passed, what: what.into() }
    }
}

const INTERFACE: u32 = 1;
const OBSOLETE: u32 = 2;
const SIMPLE: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED: u32 = 6;
const CUSTOM: u32 = 0x0000_0bad;
const CUSTOM_NO_COPY: u32 = 0x4000_0bad;
const SECRETS: u32 = 0x0a;
const TLS_KEY_LOG: u32 = 0x544c_534b;

const OPT_COMMENT: u16 = 1;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
