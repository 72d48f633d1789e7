//! Bytes as TCP packets: one connection whose sequence numbers fit together.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};

use crate::handshake::Side;

use super::blocks;

/// Most bytes in one packet: with its headers it stays below IP's 65,535.
const SEGMENT: usize = 32_768;

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    interface: u32,
    client: SocketAddr,
    server: SocketAddr,
    /// The side that is no pgwhy.
    outside: Side,
    client_isn: u32,
    server_isn: u32,
    /// Bytes sent so far by either side, the end of its stream counted as one.
    client_sent: u64,
    server_sent: u64,
}

/// What a packet is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
    Rst,
}

impl Connection {
    /// A connection that is still to be opened. `birth` tells connections with the same addresses apart.
    pub(super) fn new(
        interface: u32,
        client: SocketAddr,
        server: SocketAddr,
        outside: Side,
        birth: u32,
    ) -> Self {
        let (client, server) = same_family(client, server);
        Self {
            interface,
            client,
            server,
            outside,
            client_isn: birth,
            server_isn: birth.wrapping_add(1 << 30),
            client_sent: 0,
            server_sent: 0,
        }
    }

    /// The three packets that open it.
    pub(super) fn open(&mut self, out: &mut Vec<u8>, from: u64, to: u64, comment: &str) {
        self.packet(out, Side::Client, from, Flag::Syn, 0, &[], comment);
        self.packet(out, Side::Server, to, Flag::SynAck, 0, &[], "connect: accepted");
        self.packet(out, Side::Client, to, Flag::Ack, 0, &[], "connect: bytes may flow");
    }

    /// Bytes, at their place in the side's stream.
    pub(super) fn data(
        &mut self,
        out: &mut Vec<u8>,
        from: Side,
        at: u64,
        offset: u64,
        bytes: &[u8],
        comment: &str,
    ) {
        let mut offset = offset;
        for (number, segment) in bytes.chunks(SEGMENT).enumerate() {
            let comment = if number == 0 { comment } else { "" };
            self.packet(out, from, at, Flag::Data, offset, segment, comment);
            offset += u64::try_from(segment.len()).unwrap_or_default();
        }
        let sent = self.sent(from);
        *sent = offset.max(*sent);
    }

    /// The end of a side's stream.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, from: Side, at: u64, reset: bool, comment: &str) {
        let offset = *self.sent(from);
        self.packet(out, from, at, if reset { Flag::Rst } else { Flag::Fin }, offset, &[], comment);
        *self.sent(from) += 1;
    }

    /// The last word of a connection that both sides have ended.
    pub(super) fn acknowledge(&mut self, out: &mut Vec<u8>, from: Side, at: u64) {
        let offset = *self.sent(from);
        self.packet(out, from, at, Flag::Ack, offset, &[], "the connection is over");
    }

    fn sent(&mut self, side: Side) -> &mut u64 {
        match side {
            Side::Client => &mut self.client_sent,
            Side::Server => &mut self.server_sent,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a packet is made of that much, in one place")]
    fn packet(
        &self,
        out: &mut Vec<u8>,
        from: Side,
        at: u64,
        flag: Flag,
        offset: u64,
        bytes: &[u8],
        comment: &str,
    ) {
        let (source, target) = match from {
            Side::Client => (self.client, self.server),
            Side::Server => (self.server, self.client),
        };
        // The numbers are 32 bits wide and wrap.
        let place = |isn: u32, offset: u64| {
            let low = u32::try_from(offset & 0xffff_ffff).unwrap_or_default();
            isn.wrapping_add(1).wrapping_add(low)
        };
        let (sequence, acknowledged) = match from {
            Side::Client => (place(self.client_isn, offset), place(self.server_isn, self.server_sent)),
            Side::Server => (place(self.server_isn, offset), place(self.client_isn, self.client_sent)),
        };
        let opening = matches!(flag, Flag::Syn | Flag::SynAck);
        let sequence = if opening { sequence.wrapping_sub(1) } else { sequence };
        let Some(ip) = addresses(source.ip(), target.ip()) else { return };
        let step = ip.tcp(source.port(), target.port(), sequence, WINDOW);
        let step = match flag {
            Flag::Syn => step.syn(),
            Flag::SynAck => step.syn().ack(acknowledged),
            Flag::Ack => step.ack(acknowledged),
            Flag::Data => step.psh().ack(acknowledged),
            Flag::Fin => step.fin().ack(acknowledged),
            Flag::Rst => step.rst().ack(acknowledged),
        };
        let mut packet = Vec::with_capacity(step.size(bytes.len()));
        // A Vec takes everything, and a segment is never too long for its header.
        if step.write(&mut packet, bytes).is_ok() {
            blocks::packet(out, self.interface, at, from == self.outside, &packet, comment);
        }
    }
}

fn addresses(source: IpAddr, target: IpAddr) -> Option<PacketBuilderStep<IpHeaders>> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            Some(PacketBuilder::ipv4(source.octets(), target.octets(), HOPS))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            Some(PacketBuilder::ipv6(source.octets(), target.octets(), HOPS))
        }
        _ => None,
    }
}

/// One packet has one version of IP: a mapped address is what it stands for, and where that does not
/// help, the other is mapped.
pub fn same_family(one: SocketAddr, other: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let (one, other) = (canonical(one), canonical(other));
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), addr.port()),
        IpAddr::V6(_) => addr,
    };
    if one.is_ipv4() == other.is_ipv4() { (one, other) } else { (mapped(one), mapped(other)) }
}

/// What Linux starts with.
const HOPS: u8 = 64;
const WINDOW: u16 = 65_535;
