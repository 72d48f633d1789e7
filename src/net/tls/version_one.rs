//! Certificates that rustls can't read, above all those of X.509 version 1 (see [`certs::public_key`]).

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error};

use crate::certs::{self, Certificate};

use super::roots::Roots;

/// The handshake's signature in TLS 1.2 or 1.3.
#[derive(Clone, Copy)]
pub(super) enum Tls {
    OneTwo,
    OneThree,
}

/// Whether the key of this certificate made the handshake's signature, also where rustls can't read the
/// certificate: nothing but its key matters here.
pub(super) fn verify_signature(
    tls: Tls,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let verify = match tls {
        Tls::OneTwo => verify_tls12_signature,
        Tls::OneThree => verify_tls13_signature,
    };
    match verify(message, certificate, signed, algorithms) {
        Err(Error::InvalidCertificate(fault)) if fault != CertificateError::BadSignature => {
            let key =
                certs::public_key(certificate.as_ref()).map_err(|_| Error::InvalidCertificate(fault))?;
            // Servers prefer schemes that TLS 1.3 has, too: this refuses the others.
            verify_tls13_signature_with_raw_key(
                message,
                &SubjectPublicKeyInfoDer::from(key),
                signed,
                algorithms,
            )
        }
        verified => verified,
    }
}

/// The verdict on a chain whose own certificate is of version 1, where rustls has refused to read it: whether one of
/// these authorities signed it and it is within its time. Of longer chains, and of revocations, rustls' refusal stays.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &Roots,
    now: UnixTime,
    refused: Error,
) -> Result<(), Error> {
    let is_old = Certificate::parse(leaf.as_ref()).is_ok_and(|leaf| leaf.version == 1);
    if !is_old || roots.has_revocations() {
        return Err(refused);
    }
    let signed_by = |other: &CertificateDer<'_>| certs::is_signed_by(leaf.as_ref(), other.as_ref());
    if roots.certificates.iter().any(signed_by) {
        within_time(leaf, now)
    } else if intermediates.iter().any(signed_by) {
        Err(refused)
    } else {
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

/// Whether a certificate is within its time.
pub(super) fn within_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |fault| Err(Error::InvalidCertificate(fault));
    let Ok(certificate) = Certificate::parse(certificate.as_ref()) else {
        return bad(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > certificate.not_after {
        bad(CertificateError::Expired)
    } else if now < certificate.not_before {
        bad(CertificateError::NotValidYet)
    } else {
        Ok(())
    }
}
