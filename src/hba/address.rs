//! Addresses of clients, and the ranges that lines name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address field of a `host` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `all`.
    All,
    /// `samehost`: any address of the server's machine.
    SameHost,
    /// `samenet`: any address in a network that the server's machine is in.
    SameNet,
    /// An address with the bits of it that count. A mask may have holes.
    Net {
        /// The address as written: bits outside the mask do not count.
        address: IpAddr,
        /// The mask, of the same family.
        mask: IpAddr,
    },
    /// A host name, or `.example.com` for all names that end so.
    Host(String),
}

impl Address {
    /// The range, if it is one, as `(network, mask)` bits of its family.
    pub(super) fn bits(&self) -> Option<(u128, u128, bool)> {
        match self {
            Self::Net { address: IpAddr::V4(a), mask: IpAddr::V4(m) } => {
                let (a, m) = (u128::from(a.to_bits()), u128::from(m.to_bits()));
                Some((a & m, m, true))
            }
            Self::Net { address: IpAddr::V6(a), mask: IpAddr::V6(m) } => {
                Some((a.to_bits() & m.to_bits(), m.to_bits(), false))
            }
            _ => None,
        }
    }

    /// Only addresses of the machine itself, by their number.
    pub fn is_loopback(&self) -> bool {
        match self.bits() {
            Some((net, mask, true)) => net >> 24 == 127 && mask >> 24 == 255,
            Some((net, mask, false)) => net == 1 && mask == u128::MAX,
            None => false,
        }
    }
}

/// As a file would write it: CIDR where the mask allows.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SameHost => f.write_str("samehost"),
            Self::SameNet => f.write_str("samenet"),
            Self::Host(name) => f.write_str(name),
            Self::Net { address, mask } => {
                let (bits, width) = match mask {
                    IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, 32),
                    IpAddr::V6(mask) => (mask.to_bits(), 128),
                };
                let ones = bits.leading_ones();
                if ones == bits.count_ones() && ones <= width {
                    write!(f, "{address}/{ones}")
                } else {
                    write!(f, "{address} {mask}")
                }
            }
        }
    }
}

/// PostgreSQL: `check_ip`. A client of the other family never matches.
pub(super) fn in_range(client: IpAddr, address: IpAddr, mask: IpAddr) -> bool {
    match (client, address, mask) {
        (IpAddr::V4(c), IpAddr::V4(a), IpAddr::V4(m)) => (c.to_bits() ^ a.to_bits()) & m.to_bits() == 0,
        (IpAddr::V6(c), IpAddr::V6(a), IpAddr::V6(m)) => (c.to_bits() ^ a.to_bits()) & m.to_bits() == 0,
        _ => false,
    }
}

/// What `getaddrinfo` with `AI_NUMERICHOST` takes for an address: IPv6, perhaps with a zone, and IPv4 in
/// every form of `inet_aton` (`127.1`, `0x7f.1`, `017700000001`).
pub(super) fn numeric(text: &str) -> Option<IpAddr> {
    if let Some(address) = inet_aton(text) {
        return Some(IpAddr::V4(address));
    }
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    // An interface's name is only looked up for link-local addresses; everything takes a number.
    let local = address.is_unicast_link_local() || address.octets()[..2] == [0xff, 0x02];
    let known = zone.is_none_or(|zone| !zone.is_empty() && (local || zone.parse::<u32>().is_ok()));
    known.then_some(IpAddr::V6(address))
}

fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, front) = parts.split_last()?;
    if front.len() > 3 {
        return None;
    }
    let mut bits = 0_u32;
    for (index, part) in front.iter().enumerate() {
        let byte = u8::try_from(c_number(part)?).ok()?;
        bits |= u32::from(byte) << (24 - 8 * index);
    }
    let rest = c_number(last)?;
    let room = u32::MAX.checked_shr(8 * u32::try_from(front.len()).ok()?).unwrap_or(0);
    (rest <= room).then(|| Ipv4Addr::from_bits(bits | rest))
}

/// `strtoul` with base 0, digits only.
fn c_number(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    u32::from_str_radix(digits, base).ok()
}

/// The mask of `/bits` (PostgreSQL: `pg_sockaddr_cidr_mask`; `strtol` allows blanks and a sign in front).
pub(super) fn cidr_mask(bits: &str, address: IpAddr) -> Option<IpAddr> {
    let digits = bits.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let number = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = number.trim_start_matches('0');
    let count: u32 = if significant.is_empty() { 0 } else { significant.parse().ok()? };
    match address {
        _ if digits.starts_with('-') && count > 0 => None,
        IpAddr::V4(_) if count <= 32 => {
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - count).unwrap_or(0))))
        }
        IpAddr::V6(_) if count <= 128 => {
            Some(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - count).unwrap_or(0))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_forms() {
        let rows = [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("0x7f.1", Some("127.0.0.1")),
            ("017700000001", Some("127.0.0.1")),
            ("2130706433", Some("127.0.0.1")),
            ("1.2.3", Some("1.2.0.3")),
            ("08.0.0.1", None),
            ("256.0.0.1", None),
            ("1.2.3.4.5", None),
            ("1.2.65536", None),
            ("", None),
            ("1.", None),
            ("::1", Some("::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("2001:db8::1%eth0", None),
            ("2001:db8::1%3", Some("2001:db8::1")),
            ("::ffff:10.0.0.1", Some("::ffff:10.0.0.1")),
            ("localhost", None),
        ];
        for (text, expected) in rows {
            assert_eq!(numeric(text), expected.map(|e| e.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn cidr_bits() {
        let v4: IpAddr = "10.0.0.0".parse().unwrap();
        let v6: IpAddr = "::".parse().unwrap();
        let rows = [
            ("24", v4, Some("255.255.255.0")),
            ("0", v4, Some("0.0.0.0")),
            ("-0", v4, Some("0.0.0.0")),
            ("032", v4, Some("255.255.255.255")),
            (" +8", v4, Some("255.0.0.0")),
            ("33", v4, None),
            ("-1", v4, None),
            ("", v4, None),
            ("8 ", v4, None),
            ("8/9", v4, None),
            ("64", v6, Some("ffff:ffff:ffff:ffff::")),
            ("128", v6, Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            ("129", v6, None),
        ];
        for (bits, address, expected) in rows {
            assert_eq!(cidr_mask(bits, address), expected.map(|e| e.parse().unwrap()), "{bits}");
        }
    }

    #[test]
    fn shown_as_a_file_would_write_it() {
        let net = |a: &str, m: &str| Address::Net { address: a.parse().unwrap(), mask: m.parse().unwrap() };
        assert_eq!(net("10.0.0.0", "255.0.0.0").to_string(), "10.0.0.0/8");
        assert_eq!(net("10.0.0.0", "255.0.255.0").to_string(), "10.0.0.0 255.0.255.0");
        assert_eq!(net("0.0.0.0", "0.0.0.0").to_string(), "0.0.0.0/0");
        assert_eq!(net("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").to_string(), "::1/128");
        assert!(net("127.0.0.5", "255.0.0.0").is_loopback() && !net("127.0.0.1", "128.0.0.0").is_loopback());
    }
}
