//! The hash of a certificate that SCRAM binds to a channel with (tls-server-end-point).

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};

use super::read;
use super::signature::{Hash, signed};

/// tls-server-end-point of this certificate (RFC 5929 section 4.1), as PostgreSQL makes it
/// (`be_tls_get_certificate_hash`, `pgtls_get_peer_certificate_hash`).
///
/// The hash is the one of the certificate's signature; MD5 and SHA-1 become SHA-256. PostgreSQL asks
/// OpenSSL's `X509_get_signature_info` for it, which for RSA-PSS reads the parameters (that is since
/// 15.3 and libpq 15.3; older ones fail, as they know no hash of RSA-PSS). `None` where PostgreSQL 15
/// and 18 fail with «could not find digest for NID»: Ed25519 and Ed448 sign without a hash of their own, so a server with such
/// a certificate offers SCRAM-SHA-256-PLUS and nobody can use it. `None` also for SHA-3, which no
/// public authority signs with, and for bytes that are no certificate.
pub fn end_point_hash(der: &[u8]) -> Option<Vec<u8>> {
    let x509 = read::x509(der).ok()?;
    let hash = signed(&x509.signature_algorithm)?;
    Some(match hash {
        Hash::Md5 | Hash::Sha1 | Hash::Sha256 => Sha256::digest(der).to_vec(),
        Hash::Sha224 => Sha224::digest(der).to_vec(),
        Hash::Sha384 => Sha384::digest(der).to_vec(),
        Hash::Sha512 => Sha512::digest(der).to_vec(),
        Hash::Sha512Short224 => Sha512_224::digest(der).to_vec(),
        Hash::Sha512Short256 => Sha512_256::digest(der).to_vec(),
    })
}
