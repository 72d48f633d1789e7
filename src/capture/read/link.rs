//! The link layer: where in a frame the IP packet begins. Link types as listed by tcpdump.org.

use super::{be16, be32};

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An IPv4 or IPv6 packet, and perhaps padding behind it.
    Ip(&'a [u8]),
    /// Something else: ARP, a bridge's chatter, or too short to tell.
    Other,
    /// A link type that is not known here.
    UnknownLink,
}

/// Takes the link layer off.
pub fn open(link: u16, frame: &[u8]) -> Frame<'_> {
    let inner = match link {
        NULL | LOOP => loopback(frame),
        ETHERNET => be16(frame, 12).and_then(|kind| behind(kind, frame.get(14..)?)),
        RAW | RAW_BSD | RAW_OPENBSD | IPV4 | IPV6 => Some(frame),
        SLL => be16(frame, 14).and_then(|kind| behind(kind, frame.get(16..)?)),
        SLL2 => be16(frame, 0).and_then(|kind| behind(kind, frame.get(20..)?)),
        PPP => ppp(frame),
        _ => return Frame::UnknownLink,
    };
    match inner {
        Some(packet) if matches!(packet.first().map(|byte| byte >> 4), Some(4 | 6)) => Frame::Ip(packet),
        _ => Frame::Other,
    }
}

/// The name of a link type that can't be read, for people.
pub fn name(link: u16) -> &'static str {
    match link {
        105 | 127 => "IEEE 802.11",
        189 | 220 | 249 => "USB",
        201 | 187 => "Bluetooth",
        239 => "NFLOG",
        253 => "netlink",
        258 => "Apple PKTAP",
        _ => "unknown",
    }
}

/// Steps over VLAN tags and PPPoE.
fn behind(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..MAX_TAGS {
        match kind {
            0x0800 | 0x86dd => return Some(rest),
            // 802.1Q, 802.1ad and what came before it.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                kind = be16(rest, 2)?;
                rest = rest.get(4..)?;
            }
            0x8864 => return ppp(rest.get(6..)?),
            _ => return None,
        }
    }
    None
}

fn ppp(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(&[0xff, 0x03]).unwrap_or(rest);
    matches!(be16(rest, 0)?, 0x0021 | 0x0057).then(|| rest.get(2..)).flatten()
}

/// BSD loopback: the address family in the order of the machine that captured (NULL) or the network's
/// (LOOP). Every system has another number for IPv6.
fn loopback(frame: &[u8]) -> Option<&[u8]> {
    let family = be32(frame, 0)?;
    let family = family.min(family.swap_bytes());
    matches!(family, 2 | 10 | 24 | 28 | 30).then(|| frame.get(4..)).flatten()
}

/// More tags than this on one frame is nonsense: double tagging is the most that is seen.
const MAX_TAGS: usize = 4;

const NULL: u16 = 0;
const ETHERNET: u16 = 1;
const PPP: u16 = 9;
const RAW_BSD: u16 = 12;
const RAW_OPENBSD: u16 = 14;
const RAW: u16 = 101;
const LOOP: u16 = 108;
const SLL: u16 = 113;
const IPV4: u16 = 228;
const IPV6: u16 = 229;
const SLL2: u16 = 276;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_found_behind_every_kind_of_frame() {
        let ethernet = |tags: &[u8]| [&[0; 12], tags, &[0x45, 9]].concat();
        let rows: [(&str, u16, Vec<u8>, bool); 14] = [
            ("Ethernet", ETHERNET, ethernet(&[8, 0]), true),
            ("Ethernet with a VLAN", ETHERNET, ethernet(&[0x81, 0, 0, 7, 8, 0]), true),
            ("two VLANs", ETHERNET, ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0]), true),
            ("five VLANs are nonsense", ETHERNET, ethernet(&[0x81, 0, 0, 7].repeat(5)), false),
            ("ARP", ETHERNET, ethernet(&[8, 6]), false),
            ("cooked", SLL, [&[0; 14][..], &[8, 0, 0x45, 9]].concat(), true),
            ("cooked, version 2", SLL2, [&[8, 0][..], &[0; 18], &[0x45, 9]].concat(), true),
            ("NULL, little-endian", NULL, vec![2, 0, 0, 0, 0x45, 9], true),
            ("NULL, big-endian", NULL, vec![0, 0, 0, 2, 0x45, 9], true),
            ("LOOP", LOOP, vec![0, 0, 0, 2, 0x45, 9], true),
            ("NULL with IPv6 of macOS", NULL, vec![30, 0, 0, 0, 0x60, 9], true),
            ("raw", RAW, vec![0x45, 9], true),
            ("raw nonsense", RAW, vec![0x15, 9], false),
            ("PPPoE", ETHERNET, ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21]), true),
        ];
        for (row, link, frame, found) in rows {
            assert_eq!(matches!(open(link, &frame), Frame::Ip([_, 9])), found, "{row}");
            for end in 0..frame.len() {
                open(link, &frame[..end]);
            }
        }
        assert_eq!(open(105, b"any"), Frame::UnknownLink);
    }
}
