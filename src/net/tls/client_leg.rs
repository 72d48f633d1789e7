//! TLS towards clients.

use std::sync::Arc;
use std::time::Instant;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::handshake::Side;
use crate::handshake::opened::{OpenedTls, TlsFault};
use crate::net::endpoint::{Ahead, Socket, Stream};

use super::config::{ClientTls, TlsConfig};
use super::identity::Identity;
use super::roots::Roots;
use super::seen::{ALPN, Shown, facts, fault_of, now_unix, provider};
use super::version_one::{self, Tls};

/// What clients are shown.
#[derive(Debug)]
pub(in crate::net) struct ServerSide {
    config: Arc<ServerConfig>,
    demands: Option<Demands>,
    identity: Identity,
    keylog: Option<Arc<dyn rustls::KeyLog>>,
}

/// Clients have to show a certificate of one of these authorities.
#[derive(Clone, Debug)]
struct Demands {
    roots: Arc<Roots>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerSide {
    pub(super) fn new(identity: &Identity, config: &TlsConfig) -> Result<Self, Error> {
        let demands = matches!(config.client, ClientTls::VerifyCa | ClientTls::VerifyFull);
        let demands = match config.client_roots.as_ref().filter(|_| demands) {
            Some(roots) => {
                let verifier = roots.client_verifier().map_err(|error| Error::General(error.to_string()))?;
                Some(Demands { roots: Arc::clone(roots), verifier })
            }
            None => None,
        };
        let verifier = demands.as_ref().map(|demands| Arc::clone(&demands.verifier));
        let server = build(identity, verifier, config.keylog.clone())?;
        Ok(Self {
            config: Arc::new(server),
            demands,
            identity: identity.clone(),
            keylog: config.keylog.clone(),
        })
    }

    /// The certificate that is shown, in DER.
    pub(in crate::net) fn leaf(&self) -> &[u8] {
        self.identity.leaf()
    }

    /// Whether it was given by the user, rather than made.
    pub(in crate::net) fn is_given(&self) -> bool {
        self.identity.is_given()
    }

    /// Does the handshake with a client whose first records were read already.
    pub(in crate::net) async fn accept(
        &self,
        socket: Socket,
        ahead: Vec<u8>,
        accepted: Instant,
    ) -> Result<(Stream, OpenedTls), (TlsFault, OpenedTls)> {
        let started = Instant::now();
        let mut config = Arc::clone(&self.config);
        let mut shown = None;
        if let Some(demands) = &self.demands {
            let algorithms = provider().signature_verification_algorithms;
            let keeper = Arc::new(Keeper { demands: demands.clone(), algorithms, shown: Shown::default() });
            // It was built like this before, so it can be built again.
            if let Ok(own) = build(&self.identity, Some(keeper.clone()), self.keylog.clone()) {
                config = Arc::new(own);
                shown = Some(keeper);
            }
        }
        match TlsAcceptor::from(config).accept(Ahead::new(ahead, socket)).await {
            Ok(stream) => {
                let mut seen = facts(stream.get_ref().1, accepted, started);
                seen.server_name = stream.get_ref().1.server_name().map(str::to_owned);
                seen.certificate_requested = self.demands.is_some();
                Ok((Stream::Tls(Box::new(TlsStream::Server(stream))), seen))
            }
            Err(error) => {
                let seen = OpenedTls {
                    at: accepted.elapsed(),
                    took: started.elapsed(),
                    certificate_requested: self.demands.is_some(),
                    chain: shown.map(|keeper| keeper.shown.take()).unwrap_or_default(),
                    ..OpenedTls::default()
                };
                let fault = TlsFault {
                    leg: Side::Client,
                    kind: fault_of(&error),
                    host: None,
                    now_unix: now_unix(),
                    roots: self.demands.as_ref().map(|demands| demands.roots.shown()).unwrap_or_default(),
                    system_roots: false,
                };
                Err((fault, seen))
            }
        }
    }
}

fn build(
    identity: &Identity,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    keylog: Option<Arc<dyn rustls::KeyLog>>,
) -> Result<ServerConfig, Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions()?;
    let demands = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let key = SingleCertAndKey::from(identity.key.as_ref().clone());
    let mut server = builder.with_cert_resolver(Arc::new(key));
    server.alpn_protocols = vec![ALPN.to_vec()];
    if demands {
        // A resumed session shows no certificate; who is to show one shows it every time.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Arc::new(NoTickets);
        server.send_tls13_tickets = 0;
    } else {
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        server.send_tls13_tickets = 1;
    }
    if let Some(keylog) = keylog {
        server.key_log = keylog;
    }
    Ok(server)
}

/// Gives out no tickets.
#[derive(Debug)]
struct NoTickets;

impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Keeps the chain that a client showed, to explain a refusal.
#[derive(Debug)]
struct Keeper {
    demands: Demands,
    algorithms: WebPkiSupportedAlgorithms,
    shown: Shown,
}

impl ClientCertVerifier for Keeper {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.demands.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.shown.keep(leaf, intermediates);
        let Demands { roots, verifier } = &self.demands;
        verifier.verify_client_cert(leaf, intermediates, now).or_else(|refused| {
            version_one::verify(leaf, intermediates, roots, now, refused)?;
            Ok(ClientCertVerified::assertion())
        })
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

/// Sessions remembered for TLS 1.2 resumption; TLS 1.3 uses tickets, which we need not remember.
const SESSIONS: usize = 1_024;
