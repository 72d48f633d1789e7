//! TLS that pgwhy is an end of: towards clients, towards the server, or both.

mod client_leg;
mod identity;
mod own;
mod roots;
mod server_leg;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, PeerIncompatible};

pub use identity::{Identity, IdentityError};
pub use own::OwnTls;
pub use roots::{Roots, RootsError};
pub(super) use server_leg::Verify;

use crate::handshake::opened::{CertificateFault, FaultKind, MAX_CHAIN};
use crate::net::trial::Trials;
use crate::password::scram::Key;
use crate::secret::Secret;

/// How clients that ask for encryption are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// Opened where that can't break the login, passed through where it might.
    #[default]
    Auto,
    /// Opened always; the server's answer to the SSLRequest is the client's.
    Open,
    /// Never opened.
    Passthrough,
    /// We answer `N` ourselves; a client that insists on TLS goes away.
    Disable,
    /// Ended here, for clients that ask for it; also called `prefer`.
    Allow,
    /// Ended here; who does not ask for it is turned away.
    Require,
    /// As `Require`, and the client shows a certificate that our CA signed.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the user.
    VerifyFull,
}

/// How the server is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTls {
    /// TLS if and only if the client asked for it.
    #[default]
    Mirror,
    /// libpq's `disable`.
    Disable,
    /// libpq's `allow`: without TLS first.
    Allow,
    /// libpq's `prefer`: with TLS first.
    Prefer,
    /// libpq's `require`.
    Require,
    /// libpq's `verify-ca`.
    VerifyCa,
    /// libpq's `verify-full`.
    VerifyFull,
}

/// What TLS on both legs needs.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// How clients are met.
    pub client: ClientTls,
    /// How the server is met.
    pub server: ServerTls,
    /// Certificate and key that clients are shown.
    pub identity: Option<Identity>,
    /// Who signs the clients' certificates.
    pub client_roots: Option<Arc<Roots>>,
    /// Who signs the server's certificate; without them nothing is verified.
    pub server_roots: Option<Arc<Roots>>,
    /// Certificate and key that the server is shown.
    pub server_identity: Option<Identity>,
    /// The server is met with TLS at once, without SSLRequest (libpq's `sslnegotiation=direct`).
    pub direct: bool,
    /// Clients are known to verify certificates (their connection string says so).
    pub clients_verify: bool,
    /// The password that the connection string gives, and its user.
    pub login: Option<Login>,
    /// Gets the secrets of all TLS sessions, for those who capture beside us.
    pub keylog: Option<Arc<dyn rustls::KeyLog>>,
}

/// A password that we know.
#[derive(Clone, Debug)]
pub struct Login {
    /// Whose it is; anybody's where the connection string names no user.
    pub user: Option<String>,
    /// The database that the connection string names.
    pub database: Option<String>,
    /// The password, or a SCRAM secret in PostgreSQL's form.
    pub password: Secret<String>,
}

impl Login {
    /// Whether it is this user's.
    pub(super) fn is_for(&self, user: &[u8]) -> bool {
        self.user.as_deref().is_none_or(|owner| owner.as_bytes() == user)
    }
}

/// TLS of a running proxy.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: TlsConfig,
    /// What clients are shown now; replaced when the files change.
    server_side: RwLock<Option<Arc<client_leg::ServerSide>>>,
    pub(super) connector: server_leg::Connector,
    /// Addresses of clients whose TLS is not opened any more, as it broke a login of theirs.
    passed: Mutex<BTreeSet<IpAddr>>,
    /// Whether the password that we know works.
    pub(super) trials: Trials,
}

impl Tls {
    pub(super) fn new(config: TlsConfig) -> io::Result<Self> {
        let bad = |error: Error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let server_side = match &config.identity {
            Some(identity) => Some(Arc::new(client_leg::ServerSide::new(identity, &config).map_err(bad)?)),
            None => None,
        };
        let connector = server_leg::Connector::new(&config).map_err(bad)?;
        Ok(Self {
            server_side: RwLock::new(server_side),
            connector,
            passed: Mutex::default(),
            trials: Trials::default(),
            config,
        })
    }

    /// Shows another certificate from now on; connections that are open keep theirs.
    pub(super) fn replace(&self, identity: &Identity) -> Result<(), Error> {
        let side = Arc::new(client_leg::ServerSide::new(identity, &self.config)?);
        *self.server_side.write().unwrap_or_else(PoisonError::into_inner) = Some(side);
        Ok(())
    }

    pub(super) fn server_side(&self) -> Option<Arc<client_leg::ServerSide>> {
        self.server_side.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a client's TLS is opened.
    pub(super) fn opens(&self, client: Option<IpAddr>) -> bool {
        match self.config.client {
            ClientTls::Passthrough | ClientTls::Disable => false,
            ClientTls::Auto => self.may_open() && !self.has_passed(client),
            _ => true,
        }
    }

    /// `auto`: with the server's own key nothing breaks; with a user's password we log in ourselves.
    fn may_open(&self) -> bool {
        let Some(identity) = &self.config.identity else { return false };
        let known = self.config.login.as_ref().is_some_and(|login| login.user.is_some());
        identity.is_given() || (known && !self.config.clients_verify)
    }

    /// Whether TLS of clients ends here whatever the server says.
    pub(super) fn terminates(&self) -> bool {
        matches!(
            self.config.client,
            ClientTls::Allow | ClientTls::Require | ClientTls::VerifyCa | ClientTls::VerifyFull
        )
    }

    pub(super) fn requires_client_tls(&self) -> bool {
        self.terminates() && self.config.client != ClientTls::Allow
    }

    pub(super) fn has_passed(&self, client: Option<IpAddr>) -> bool {
        let client = client.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).contains(&client)
    }

    /// From now on clients of this address are passed through. In `auto` alone: elsewhere TLS was
    /// opened because somebody said so.
    pub(super) fn pass_from_now_on(&self, client: Option<IpAddr>) -> bool {
        if self.config.client != ClientTls::Auto {
            return false;
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= PASSED {
            passed.pop_first();
        }
        passed.insert(client.unwrap_or(IpAddr::from([127, 0, 0, 1])));
        true
    }
}

/// SaltedPasswords of the password that we know: PBKDF2 is most of a login's work, and a server
/// shows the same salt every time.
#[derive(Debug, Default)]
pub(super) struct SaltedKeys {
    kept: Mutex<Vec<(Vec<u8>, u32, Key)>>,
}

impl SaltedKeys {
    pub(super) fn get(&self, salt: &[u8], iterations: u32) -> Option<Key> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(with, count, _)| with == salt && *count == iterations);
        found.map(|(_, _, key)| key.clone())
    }

    pub(super) fn put(&self, salt: Vec<u8>, iterations: u32, key: Key) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEYS_KEPT {
            kept.remove(0);
        }
        kept.push((salt, iterations, key));
    }
}

/// What a failed handshake says about itself.
pub(super) fn fault_of(error: &io::Error) -> FaultKind {
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
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            CertificateFault::CaAsEndEntity
        }
        _ => CertificateFault::Other,
    }
}

/// The chain as values, within bounds.
fn chain<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<Vec<u8>> {
    certificates.into_iter().take(MAX_CHAIN).map(|der| der.as_ref().to_vec()).collect()
}

/// The chain that a peer showed, kept by a verifier to explain a refusal.
#[derive(Debug, Default)]
struct Shown(Mutex<Vec<Vec<u8>>>);

impl Shown {
    fn keep(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let shown = chain(std::iter::once(leaf).chain(intermediates));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What both legs note of a finished handshake.
fn facts(
    common: &rustls::CommonState,
    accepted: Instant,
    started: Instant,
) -> crate::handshake::opened::OpenedTls {
    crate::handshake::opened::OpenedTls {
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

/// Seconds since 1970.
fn now_unix() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// PostgreSQL's name in ALPN.
pub(super) const ALPN: &[u8] = b"postgresql";

/// Addresses remembered as needing passthrough: as many as an office has, 20 bytes each.
const PASSED: usize = 1_024;

/// A server that has agreed to TLS and then says nothing is given this long before `auto` passes its
/// client through instead; the login deadline ends everything else.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A server shows one salt for each role, and a made-up one for one that is not there.
const KEYS_KEPT: usize = 16;
