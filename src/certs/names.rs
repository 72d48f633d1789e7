//! Whether a certificate names the host that was dialled, by libpq's rules.
//!
//! `pq_verify_peer_name_matches_certificate` (fe-secure-common.c) and
//! `pgtls_verify_peer_name_matches_certificate_guts` (fe-secure-openssl.c) of libpq 15 and newer.
//! They differ from what rustls and browsers do: the common name counts where no alternative name
//! is of the kind of the host, and an address in a DNS name counts too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{AltName, Certificate};

/// What libpq's `sslmode=verify-full` would say of the host's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// The certificate names the host; by this name.
    Fits(String),
    /// It names others: the first of them, and how many more were looked at.
    Others {
        /// The first name that was looked at.
        first: String,
        /// How many more were looked at.
        more: usize,
    },
    /// It names no host at all.
    Nameless,
    /// libpq gives up on it, with this reason.
    Broken(String),
    /// There is no host name to compare with.
    NoHost,
}

impl NameMatch {
    /// Whether `verify-full` is content.
    pub fn fits(&self) -> bool {
        matches!(self, Self::Fits(_))
    }
}

/// Compares the certificate with `host`, the `host` of the connection string (never `hostaddr`).
pub fn matches(host: &str, certificate: &Certificate) -> NameMatch {
    if host.is_empty() {
        return NameMatch::NoHost;
    }
    let is_address = aton(host).is_some() || host.parse::<Ipv6Addr>().is_ok();
    let mut common_name_counts = true;
    let mut examined: Vec<String> = Vec::new();
    for name in &certificate.names {
        // A name of the host's own kind forbids the fall-back, whether it fits or not.
        if is_address != matches!(name, AltName::Dns(_)) {
            common_name_counts = false;
        }
        let fits = match name {
            AltName::Dns(name) => fits_name(name, host),
            AltName::Ip(IpAddr::V4(address)) => Ok(aton(host) == Some(*address)),
            AltName::Ip(IpAddr::V6(address)) => Ok(host.parse() == Ok(*address)),
            AltName::OddIp(length) => {
                Err(format!("certificate contains IP address with invalid length {length}"))
            }
        };
        match fits {
            Ok(true) => return NameMatch::Fits(name.to_string()),
            Ok(false) => examined.push(name.to_string()),
            Err(reason) => return NameMatch::Broken(reason),
        }
    }
    if let Some(name) = certificate.subject.common_name.as_ref().filter(|_| common_name_counts) {
        match fits_name(name, host) {
            Ok(true) => return NameMatch::Fits(name.clone()),
            Ok(false) => examined.push(name.clone()),
            Err(reason) => return NameMatch::Broken(reason),
        }
    }
    match examined.split_first() {
        Some((first, others)) => NameMatch::Others { first: first.clone(), more: others.len() },
        None => NameMatch::Nameless,
    }
}

/// `pq_verify_peer_name_matches_certificate_name`.
fn fits_name(name: &str, host: &str) -> Result<bool, String> {
    if name.contains('\0') {
        return Err("SSL certificate's name contains embedded null".to_owned());
    }
    Ok(name.eq_ignore_ascii_case(host) || fits_wildcard(name.as_bytes(), host.as_bytes()))
}

/// `wildcard_certificate_match`: only `*.` at the start, and only for one label.
fn fits_wildcard(pattern: &[u8], host: &[u8]) -> bool {
    let Some(suffix) = pattern.strip_prefix(b"*").filter(|suffix| suffix.len() >= 2) else { return false };
    let Some(ahead) = host.len().checked_sub(pattern.len()) else { return false };
    let Some((label, end)) = host.split_at_checked(ahead + 1) else { return false };
    // A dot in the last byte of the label is not looked at, as there.
    suffix.starts_with(b".")
        && end.eq_ignore_ascii_case(suffix)
        && !label.get(..ahead).unwrap_or_default().contains(&b'.')
}

/// `inet_aton`: also `127.1`, `0x7f000001`, `0177.0.0.1`, and anything behind white space.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).next()?;
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * u32::try_from(leading.len()).ok()?;
    if u64::from(*last) >= 1_u64 << room {
        return None;
    }
    let ahead = leading.iter().zip([24, 16, 8]).fold(0, |sum, (part, shift)| sum | (part << shift));
    Some(Ipv4Addr::from(ahead | last))
}

/// A number as C writes it: `0x` for hexadecimal, `0` for octal digits.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text.strip_prefix('0')?, 8),
        None => (text, 10),
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
