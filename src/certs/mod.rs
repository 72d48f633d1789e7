//! X.509 certificates as PostgreSQL and libpq see them, and why one is not trusted.
//!
//! Nothing here opens a socket or asks a clock: times are seconds since 1970 and come in as
//! parameters. To verify signatures is rustls's business, but for certificates that it does not read
//! ([`is_signed_by`]); this room reads what a certificate says, and puts a verdict into words with
//! what it takes to change it.

mod binding;
mod dn;
mod explain;
pub mod known;
pub mod names;
mod read;
mod signature;
mod signed;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

pub use binding::end_point_hash;
pub use dn::DistinguishedName;
pub use explain::{Explanation, Fault, RootSummary, explain, explain_client};
pub use names::NameMatch;
pub use signed::{is_signed_by, public_key};

/// The longest certificate that is read: as long as the longest TLS handshake message that is read.
pub const MAX_DER: usize = 65_536;
/// Most subject alternative names of one certificate; those of databases have a handful, the widest
/// of content networks a few hundred.
pub const MAX_NAMES: usize = 2_048;
/// Most certificates of a chain that [`explain`] looks at; OpenSSL and rustls give up far earlier.
pub const MAX_CHAIN: usize = 16;

/// Why bytes are no certificate that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertProblem {
    /// More than [`MAX_DER`] bytes.
    #[error("the certificate is longer than 65536 bytes")]
    TooLong,
    /// The bytes are not the DER form of an X.509 certificate, or more follows it.
    #[error("the bytes are not one X.509 certificate in DER form")]
    NotDer,
    /// An extension that matters can't be read.
    #[error("the extension {0} of the certificate can't be read")]
    Extension(&'static str),
    /// An extension comes twice, which RFC 5280 section 4.2 forbids.
    #[error("the extension {0} comes twice in the certificate")]
    Twice(&'static str),
    /// More of something than any real certificate has.
    #[error("the certificate has too many {0}")]
    TooMany(&'static str),
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The version of X.509, from 1; today's are of version 3.
    pub version: u32,
    /// Whom it is about.
    pub subject: DistinguishedName,
    /// Who signed it.
    pub issuer: DistinguishedName,
    /// The subject alternative names that name hosts, in their order.
    pub names: Vec<AltName>,
    /// Subject alternative names of other kinds (URIs, mail addresses), which libpq does not look at.
    pub other_names: usize,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// The last second in which it is valid, in seconds since 1970.
    pub not_after: i64,
    /// The serial number in hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// What kind of key it holds.
    pub key: KeyKind,
    /// How long the key is; 0 where that is not known.
    pub key_bits: u32,
    /// OpenSSL's name of the signature algorithm, or its object identifier.
    pub signature_algorithm: String,
    /// Whether the signature is made with MD5 or SHA-1, which nobody should trust any more.
    pub weak_signature: bool,
    /// `cA` of the basic constraints; false where there are none.
    pub is_ca: bool,
    /// Whether there are basic constraints at all: certificates of version 1 have none.
    pub has_basic_constraints: bool,
    /// Key usage, as RFC 5280 section 4.2.1.3 names the bits; `None` allows everything.
    pub key_usage: Option<Vec<&'static str>>,
    /// Extended key usage; `None` allows everything.
    pub extended_key_usage: Option<Purposes>,
    /// Whether subject and issuer are the same name: self-signed, if the signature fits too.
    pub self_issued: bool,
    /// SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
    /// SHA-256 of the public key (SubjectPublicKeyInfo): the same in a certificate that was renewed
    /// with its key.
    pub key_sha256: [u8; 32],
}

/// A subject alternative name that names a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// A host name, perhaps with a wildcard.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// What claims to be an address and has this many bytes, neither 4 nor 16.
    OddIp(usize),
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
            Self::OddIp(length) => write!(f, "(an address of {length} bytes)"),
        }
    }
}

/// What kind of key a certificate holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// RSA that may only make PSS signatures.
    RsaPss,
    /// An elliptic curve; its OpenSSL name or its object identifier.
    Ec(String),
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
    /// DSA.
    Dsa,
    /// Something else; its object identifier.
    Other(String),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa => f.write_str("RSA"),
            Self::RsaPss => f.write_str("RSA-PSS"),
            Self::Ec(curve) => write!(f, "EC {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Ed448 => f.write_str("Ed448"),
            Self::Dsa => f.write_str("DSA"),
            Self::Other(oid) => write!(f, "of kind {oid}"),
        }
    }
}

/// What a certificate may be used for, as far as TLS asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purposes {
    /// anyExtendedKeyUsage.
    pub any: bool,
    /// TLS server.
    pub server: bool,
    /// TLS client.
    pub client: bool,
    /// How many others.
    pub others: usize,
}

impl Certificate {
    /// Reads a certificate in DER form. Hostile bytes give a problem, never a panic.
    pub fn parse(der: &[u8]) -> Result<Self, CertProblem> {
        read::certificate(der)
    }

    /// Whether it may stand for a TLS server.
    pub fn may_serve(&self) -> bool {
        self.extended_key_usage.is_none_or(|purposes| purposes.any || purposes.server)
    }

    /// Whether it may stand for a TLS client.
    pub fn may_be_client(&self) -> bool {
        self.extended_key_usage.is_none_or(|purposes| purposes.any || purposes.client)
    }

    /// SHA-256 of the whole certificate as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// What people call it: the common name, else the first alternative name, else the whole subject.
    pub fn title(&self) -> String {
        match (&self.subject.common_name, self.names.first()) {
            (Some(name), _) if !name.is_empty() => name.clone(),
            (_, Some(name)) => name.to_string(),
            _ => self.subject.one_line.clone(),
        }
    }
}
