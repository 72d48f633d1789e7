//! Who signed a certificate, where rustls does not say: it reads version 3 only.
//!
//! `openssl x509 -req` makes version 1 where it is given no extensions (OpenSSL 3.0; newer ones add some), and
//! PostgreSQL's manual makes servers' certificates with it. OpenSSL, and so libpq, takes such ones for a server's
//! or a client's own.

use super::{CertProblem, Certificate, read};

/// The public key of a certificate: its SubjectPublicKeyInfo, in DER.
pub fn public_key(der: &[u8]) -> Result<Vec<u8>, CertProblem> {
    Ok(read::x509(der)?.public_key().raw.to_vec())
}

/// Whether this authority signed the certificate, with nothing that anybody should distrust: names and signature
/// fit, the signature is not made with MD5 or SHA-1, and the authority may sign and is not bound to certain names.
///
/// Neither dates nor revocations are looked at.
pub fn is_signed_by(der: &[u8], authority: &[u8]) -> bool {
    let (Ok(one), Ok(other)) = (read::x509(der), read::x509(authority)) else { return false };
    if one.issuer().as_raw() != other.subject().as_raw() {
        return false;
    }
    let (Ok(certificate), Ok(signer)) = (Certificate::parse(der), Certificate::parse(authority)) else {
        return false;
    };
    // Version 1 can't say who is an authority (OpenSSL's `check_ca` believes one that signed itself).
    let may_sign = signer.is_ca || (signer.version == 1 && signer.self_issued);
    let allowed = signer.key_usage.is_none_or(|usages| usages.contains(&"keyCertSign"));
    let bound = other.extensions().iter().any(|extension| extension.oid.to_id_string() == NAME_CONSTRAINTS);
    may_sign
        && allowed
        && !bound
        && !certificate.weak_signature
        && one.verify_signature(Some(other.public_key())).is_ok()
}

const NAME_CONSTRAINTS: &str = "2.5.29.30";
