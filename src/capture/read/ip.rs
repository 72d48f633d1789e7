//! IP: versions 4 and 6, extension headers, fragments. Checksums are not looked at: network cards fill them
//! in behind the place where packets are captured.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{be16, be32};

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// From.
    pub source: IpAddr,
    /// To.
    pub target: IpAddr,
    /// The protocol behind IP: 6 is TCP.
    pub protocol: u8,
    /// What was captured of it.
    pub data: Cow<'a, [u8]>,
    /// Bytes at its end that were sent and not captured.
    pub missing: usize,
}

/// Puts fragments together.
#[derive(Debug, Default)]
pub struct Fragments {
    partial: BTreeMap<Id, Partial>,
    held: usize,
    arrived: u64,
}

/// Bytes of fragments that wait for others; beyond it the oldest datagrams are given up.
const MAX_HELD: usize = 4 << 20;
/// Datagrams that wait.
const MAX_PARTIAL: usize = 1_024;
/// A datagram's length.
const MAX_DATAGRAM: usize = 65_535;
/// Pieces of one datagram: 65,535 bytes in the smallest packets that IP promises to carry.
const MAX_PIECES: usize = 128;
/// Extension headers of one packet.
const MAX_EXTENSIONS: usize = 16;

type Id = (IpAddr, IpAddr, u8, u32);

#[derive(Debug, Default)]
struct Partial {
    pieces: BTreeMap<usize, Vec<u8>>,
    /// Known when the last fragment has come.
    total: Option<usize>,
    arrived: u64,
}

/// One packet's place in a fragmented datagram.
struct Piece<'a> {
    id: Id,
    offset: usize,
    more: bool,
    data: &'a [u8],
}

impl Fragments {
    /// Reads a packet; `None` where it is broken, or a piece of a datagram that is not whole yet. `cut` is
    /// how much of the frame was not captured.
    pub fn open<'a>(&mut self, packet: &'a [u8], cut: usize) -> Option<Datagram<'a>> {
        match packet.first()? >> 4 {
            4 => self.version_4(packet, cut),
            6 => self.version_6(packet, cut),
            _ => None,
        }
    }

    /// Bytes that wait for others.
    pub fn held(&self) -> usize {
        self.held
    }

    fn version_4<'a>(&mut self, packet: &'a [u8], cut: usize) -> Option<Datagram<'a>> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let total = match usize::from(be16(packet, 2)?) {
            // A card that segments by itself leaves the length to be filled in.
            0 => packet.len() + cut,
            total => total,
        };
        let body = packet.get(header..).filter(|_| header >= 20 && total >= header)?;
        let (data, missing) = within(body, total - header);
        let flags = be16(packet, 6)?;
        let source = IpAddr::V4(Ipv4Addr::from_bits(be32(packet, 12)?));
        let target = IpAddr::V4(Ipv4Addr::from_bits(be32(packet, 16)?));
        let protocol = *packet.get(9)?;
        let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
        if offset == 0 && !more {
            return Some(Datagram { source, target, protocol, data: Cow::Borrowed(data), missing });
        }
        let id = (source, target, protocol, u32::from(be16(packet, 4)?));
        if missing > 0 {
            return None;
        }
        self.collect(&Piece { id, offset, more, data })
    }

    fn version_6<'a>(&mut self, packet: &'a [u8], cut: usize) -> Option<Datagram<'a>> {
        let body = packet.get(40..)?;
        let (mut data, missing) = match usize::from(be16(packet, 4)?) {
            // A jumbogram, or a card that segments by itself.
            0 => (body, cut),
            length => within(body, length),
        };
        let address = |at: usize| {
            let bytes = packet.get(at..)?.first_chunk::<16>()?;
            Some(IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(*bytes))))
        };
        let (source, target) = (address(8)?, address(24)?);
        let mut protocol = *packet.get(6)?;
        for _ in 0..MAX_EXTENSIONS {
            let length = match protocol {
                // Hop-by-hop, routing, destination, mobility, HIP, shim6.
                0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*data.get(1)?) + 1) * 8,
                51 => (usize::from(*data.get(1)?) + 2) * 4,
                44 => {
                    let (inner, word, number) = (*data.first()?, be16(data, 2)?, be32(data, 4)?);
                    let (offset, more) = (usize::from(word & 0xfff8), word & 1 != 0);
                    data = data.get(8..)?;
                    protocol = inner;
                    if offset == 0 && !more {
                        continue;
                    }
                    if missing > 0 {
                        return None;
                    }
                    return self.collect(&Piece { id: (source, target, inner, number), offset, more, data });
                }
                _ => return Some(Datagram { source, target, protocol, data: Cow::Borrowed(data), missing }),
            };
            protocol = *data.first()?;
            data = data.get(length..)?;
        }
        None
    }

    /// Keeps a piece; gives the datagram when it is the last that was missing.
    fn collect(&mut self, piece: &Piece<'_>) -> Option<Datagram<'static>> {
        let end = piece.offset + piece.data.len();
        if end > MAX_DATAGRAM || piece.data.is_empty() || (piece.more && !piece.data.len().is_multiple_of(8))
        {
            return None;
        }
        self.arrived += 1;
        let arrived = self.arrived;
        let partial =
            self.partial.entry(piece.id).or_insert_with(|| Partial { arrived, ..Partial::default() });
        let before = partial.pieces.range(..end).next_back();
        if let Some((&start, bytes)) = before
            && start + bytes.len() > piece.offset
        {
            // The same piece again changes nothing. Pieces that overlap otherwise are nobody's honest
            // traffic (RFC 5722): the datagram is given up.
            if start != piece.offset || bytes.len() != piece.data.len() {
                self.give_up(piece.id);
            }
            return None;
        }
        if !piece.more {
            partial.total.get_or_insert(end);
        }
        if partial.pieces.len() == MAX_PIECES || partial.total.is_some_and(|total| end > total) {
            self.give_up(piece.id);
            return None;
        }
        partial.pieces.insert(piece.offset, piece.data.to_vec());
        self.held += piece.data.len();
        let whole = partial.total.filter(|total| partial.reaches(*total));
        if whole.is_some() {
            let partial = self.give_up(piece.id)?;
            let data: Vec<u8> = partial.pieces.into_values().flatten().collect();
            let (source, target, protocol, _) = piece.id;
            return Some(Datagram { source, target, protocol, data: Cow::Owned(data), missing: 0 });
        }
        while self.held > MAX_HELD || self.partial.len() > MAX_PARTIAL {
            let oldest = self.partial.iter().min_by_key(|(_, partial)| partial.arrived);
            let id = *oldest?.0;
            self.give_up(id);
        }
        None
    }

    fn give_up(&mut self, id: Id) -> Option<Partial> {
        let partial = self.partial.remove(&id)?;
        self.held -= partial.pieces.values().map(Vec::len).sum::<usize>();
        Some(partial)
    }
}

impl Partial {
    fn reaches(&self, total: usize) -> bool {
        let mut end = 0;
        for (start, bytes) in &self.pieces {
            if *start != end {
                return false;
            }
            end += bytes.len();
        }
        end == total
    }
}

/// The first `length` bytes, and how many of them were not captured.
fn within(body: &[u8], length: usize) -> (&[u8], usize) {
    let captured = body.get(..length).unwrap_or(body);
    (captured, length - captured.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of version 4 around `data`, cut into pieces of `size` bytes.
    fn fragments(data: &[u8], size: usize) -> Vec<Vec<u8>> {
        let last = data.len().div_ceil(size) - 1;
        let piece = |(number, piece): (usize, &[u8])| {
            let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            let length = u16::try_from(20 + piece.len()).unwrap();
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            let flags = u16::try_from(number * size / 8).unwrap() | if number < last { 0x2000 } else { 0 };
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            packet.extend_from_slice(piece);
            packet
        };
        data.chunks(size).enumerate().map(piece).collect()
    }

    fn whole(packets: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut fragments = Fragments::default();
        let mut found = None;
        for packet in packets {
            found = fragments.open(packet, 0).map(|datagram| datagram.data.into_owned()).or(found);
        }
        assert!(found.is_none() || fragments.held() == 0, "what was given out is not kept");
        found
    }

    #[test]
    fn fragments_come_in_any_order_and_more_than_once() {
        let data: Vec<u8> = (0..100).collect();
        let mut packets = fragments(&data, 24);
        assert_eq!(packets.len(), 5);
        assert_eq!(whole(&packets), Some(data.clone()), "in order");
        packets.reverse();
        assert_eq!(whole(&packets), Some(data.clone()), "the last one first");
        packets.insert(2, packets[1].clone());
        assert_eq!(whole(&packets), Some(data.clone()), "one twice");
        packets.truncate(4);
        assert_eq!(whole(&packets), None, "one lost");
        assert_eq!(whole(&fragments(&data, 200)), Some(data), "not cut at all");
    }

    #[test]
    fn overlapping_fragments_are_given_up() {
        let data: Vec<u8> = (0..64).collect();
        let mut packets = fragments(&data, 16);
        packets[2][7] -= 1;
        assert_eq!(whole(&packets), None);
    }

    #[test]
    fn what_waits_for_fragments_is_bounded() {
        let mut waiting = Fragments::default();
        for number in 0..20_000u16 {
            let mut packet = fragments(&[0; 8_000], 4_000).remove(0);
            packet[4..6].copy_from_slice(&number.to_be_bytes());
            assert_eq!(waiting.open(&packet, 0), None);
            assert!(waiting.held() <= MAX_HELD && waiting.partial.len() <= MAX_PARTIAL);
        }
    }

    #[test]
    fn extension_headers_are_stepped_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend([1; 32]);
        // Hop-by-hop, then destination options, then an atomic fragment, then TCP.
        packet.extend([60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 9]);
        packet.extend(*b"data and padding");
        packet[5] = 24 + 4;
        let datagram = Fragments::default().open(&packet, 0).unwrap();
        assert_eq!((datagram.protocol, &*datagram.data, datagram.missing), (6, &b"data"[..], 0));
        packet.truncate(40 + 24 + 3);
        let datagram = Fragments::default().open(&packet, 0).unwrap();
        assert_eq!((&*datagram.data, datagram.missing), (&b"dat"[..], 1), "a snapshot cut the end off");
    }
}
