//! TLS towards the server, verified as libpq's sslmode says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::certs::{Certificate, names};
use crate::handshake::Side;
use crate::handshake::opened::{FaultKind, OpenedTls, TlsFault};
use crate::net::endpoint::{Ahead, Socket, Stream};

use super::config::TlsConfig;
use super::roots::Roots;
use super::seen::{ALPN, Shown, facts, fault_of, now_unix, provider};
use super::version_one::{self, Tls};

/// What is verified of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Verify {
    /// The chain, where authorities are given (libpq verifies it then in every mode).
    Chain,
    /// The chain and the host's name.
    Full,
}

/// Begins TLS with servers.
#[derive(Debug)]
pub(in crate::net) struct Connector {
    base: ClientConfig,
    roots: Option<Arc<Roots>>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    key: Option<Arc<CertifiedKey>>,
}

/// A handshake with a server that did not come about.
#[derive(Debug)]
pub(in crate::net) struct Refused {
    pub(in crate::net) fault: TlsFault,
    pub(in crate::net) seen: OpenedTls,
}

impl Connector {
    pub(super) fn new(config: &TlsConfig) -> Result<Self, Error> {
        let roots = config.server_roots.clone();
        let verifier = match &roots {
            Some(roots) => Some(roots.server_verifier().map_err(|error| Error::General(error.to_string()))?),
            None => None,
        };
        let provider = Arc::new(provider());
        let nobody = Arc::new(Check::new(None, None, Verify::Chain, String::new()));
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(nobody)
            .with_no_client_auth();
        base.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL resumes no sessions (SSL_OP_NO_TICKET, no cache), and every login of ours is verified by itself.
        base.resumption = Resumption::disabled();
        if let Some(keylog) = &config.keylog {
            base.key_log = Arc::clone(keylog);
        }
        let key = config.server_identity.as_ref().map(|identity| Arc::clone(&identity.key));
        Ok(Self { base, roots, verifier, key })
    }

    /// Whether we have a certificate for servers that ask for one.
    pub(in crate::net) fn has_certificate(&self) -> bool {
        self.key.is_some()
    }

    /// Does the handshake; `host` is the name that the configuration gives the server.
    pub(in crate::net) async fn connect(
        &self,
        socket: Socket,
        host: &str,
        client_sni: Option<&str>,
        verify: Verify,
        accepted: Instant,
    ) -> Result<(Stream, OpenedTls), Box<Refused>> {
        let started = Instant::now();
        let check = Arc::new(Check::new(self.roots.clone(), self.verifier.clone(), verify, host.to_owned()));
        let resolver = Arc::new(Asked { asked: AtomicBool::new(false), key: self.key.clone() });
        let mut config = self.base.clone();
        config.dangerous().set_certificate_verifier(Arc::clone(&check) as Arc<dyn ServerCertVerifier>);
        config.client_auth_cert_resolver = Arc::clone(&resolver) as Arc<dyn ResolvesClientCert>;
        let (name, sni) = server_name(host, client_sni);
        let connected =
            TlsConnector::from(Arc::new(config)).connect(name, Ahead::new(Vec::new(), socket)).await;
        let certificate_requested = resolver.asked.load(Ordering::Relaxed);
        let shown = self.key.as_ref().filter(|_| certificate_requested);
        let shown = shown.and_then(|key| key.cert.first()).map(|leaf| leaf.as_ref().to_vec());
        let certificate_sent = shown.is_some();
        match connected {
            Ok(stream) => {
                let mut seen = facts(stream.get_ref().1, accepted, started);
                seen.server_name = sni;
                (seen.certificate_requested, seen.certificate_sent) =
                    (certificate_requested, certificate_sent);
                seen.shown = shown;
                Ok((Stream::Tls(Box::new(TlsStream::Client(stream))), seen))
            }
            Err(error) => {
                let seen = OpenedTls {
                    at: accepted.elapsed(),
                    took: started.elapsed(),
                    server_name: sni,
                    chain: check.shown.take(),
                    certificate_requested,
                    certificate_sent,
                    shown,
                    ..OpenedTls::default()
                };
                Err(Box::new(Refused { fault: self.fault(fault_of(&error), host), seen }))
            }
        }
    }

    /// A fault of this leg, with what it was judged by.
    pub(in crate::net) fn fault(&self, kind: FaultKind, host: &str) -> TlsFault {
        TlsFault {
            leg: Side::Server,
            kind,
            host: Some(host.to_owned()),
            now_unix: now_unix(),
            roots: self.roots.as_ref().map(|roots| roots.shown()).unwrap_or_default(),
            system_roots: self.roots.as_ref().is_some_and(|roots| roots.are_systems()),
        }
    }
}

/// The name for SNI: the configured host's, as libpq sends it, or what the client asked for where the
/// configuration has only an address.
fn server_name(host: &str, client_sni: Option<&str>) -> (ServerName<'static>, Option<String>) {
    let is_name = |text: &&str| text.parse::<std::net::IpAddr>().is_err();
    let name = Some(host).filter(is_name).or(client_sni.filter(is_name));
    if let Some(name) = name
        && let Ok(server_name) = ServerName::try_from(name.trim_end_matches('.').to_owned())
    {
        return (server_name, Some(name.to_owned()));
    }
    let nowhere = std::net::IpAddr::from([127, 0, 0, 1]);
    (ServerName::IpAddress(host.parse().unwrap_or(nowhere).into()), None)
}

/// Says no certificate, or ours, and remembers that it was asked.
#[derive(Debug)]
struct Asked {
    asked: AtomicBool,
    key: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // Said always, so that we are asked and see that the server wants one.
        true
    }
}

/// Verifies as libpq does, and keeps the chain to explain a refusal.
#[derive(Debug)]
struct Check {
    roots: Option<Arc<Roots>>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    verify: Verify,
    host: String,
    algorithms: WebPkiSupportedAlgorithms,
    shown: Shown,
}

impl Check {
    fn new(
        roots: Option<Arc<Roots>>,
        verifier: Option<Arc<WebPkiServerVerifier>>,
        verify: Verify,
        host: String,
    ) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { roots, verifier, verify, host, algorithms, shown: Shown::default() }
    }

    /// The chain alone: names are libpq's business below.
    fn chain_holds(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let (Some(roots), Some(verifier)) = (&self.roots, &self.verifier) else { return Ok(()) };
        // OpenSSL trusts a certificate that is among the roots only where it signed itself (no X509_V_FLAG_PARTIAL_CHAIN).
        let signed_itself = |leaf: Certificate| leaf.self_issued;
        if roots.has(leaf) && Certificate::parse(leaf.as_ref()).is_ok_and(signed_itself) {
            return version_one::within_time(leaf, now);
        }
        match verifier.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => version_one::verify(leaf, intermediates, roots, now, error),
        }
    }
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.shown.keep(leaf, intermediates);
        self.chain_holds(leaf, intermediates, name, ocsp, now)?;
        if self.verify == Verify::Full {
            let named =
                Certificate::parse(leaf.as_ref()).is_ok_and(|leaf| names::matches(&self.host, &leaf).fits());
            if !named {
                return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_signature(Tls::OneTwo, message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_signature(Tls::OneThree, message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
