//! From the bytes of a capture file to TCP segments, and from those to the two streams of a connection.
//!
//! ```text
//! blocks (pcap, pcapng) ─▶ link (Ethernet, cooked, loopback, raw) ─▶ ip (fragments) ─▶ tcp (order)
//! ```
//!
//! The crates that read captures were looked at and not taken: one ignores the unit of pcapng's times and
//! keeps every interface that a file names, and both give up on what a snapshot length cut off.

pub mod blocks;
pub mod ip;
pub mod link;
pub mod tcp;

/// Big-endian words at an offset; `None` beyond the end.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
