//! What a handshake shows, whether it came about or not.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, PeerIncompatible};

use crate::handshake::opened::{CertificateFault, FaultKind, MAX_CHAIN, OpenedTls};

/// What a failed handshake says about itself.
pub(in crate::net) fn fault_of(error: &io::Error) -> FaultKind {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => FaultKind::Closed,
            _ => FaultKind::Other(error.to_string()),
        };
    };
    match tls {
        Error::InvalidCertificate(fault) => FaultKind::Certificate(certificate_fault(fault)),
        Error::NoCertificatesPresented => FaultKind::NoCertificate,
        Error::AlertReceived(alert) => FaultKind::Alert(u8::from(*alert)),
        Error::NoApplicationProtocol => FaultKind::Alpn,
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => FaultKind::Version,
            _ => FaultKind::Cipher,
        },
        Error::PeerMisbehaved(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => {
            FaultKind::Cipher
        }
        Error::InvalidMessage(_) => FaultKind::Other("what came is no TLS message".into()),
        other => FaultKind::Other(other.to_string()),
    }
}

fn certificate_fault(error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::BadSignature => CertificateFault::BadSignature,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::BadName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::WrongPurpose
        }
        CertificateError::BadEncoding => CertificateFault::Malformed,
        CertificateError::Other(other) => match other.to_string() {
            text if text.contains("CaUsedAsEndEntity") => CertificateFault::CaAsEndEntity,
            text if text.contains("UnsupportedCertVersion") => CertificateFault::VersionOne,
            _ => CertificateFault::Other,
        },
        _ => CertificateFault::Other,
    }
}

/// The chain as values, within bounds.
pub(super) fn chain<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<Vec<u8>> {
    certificates.into_iter().take(MAX_CHAIN).map(|der| der.as_ref().to_vec()).collect()
}

/// The chain that a peer showed, kept by a verifier to explain a refusal.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Vec<Vec<u8>>>);

impl Shown {
    pub(super) fn keep(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let shown = chain(std::iter::once(leaf).chain(intermediates));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What both legs note of a finished handshake.
pub(super) fn facts(common: &rustls::CommonState, accepted: Instant, started: Instant) -> OpenedTls {
    OpenedTls {
        at: accepted.elapsed(),
        took: started.elapsed(),
        version: common.protocol_version().map(u16::from),
        cipher: common
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .map(|name| name.replace("TLS13_", "TLS_")),
        resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        alpn: common.alpn_protocol() == Some(ALPN),
        chain: common.peer_certificates().map(chain).unwrap_or_default(),
        ..Default::default()
    }
}

/// The cryptography of both legs.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// Seconds since 1970.
pub(super) fn now_unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// PostgreSQL's name in ALPN.
pub(in crate::net) const ALPN: &[u8] = b"postgresql";
