//! TLS that pgwhy is an end of: towards clients, towards the server, or both.

mod client_leg;
mod config;
mod identity;
mod own;
mod roots;
mod seen;
mod server_leg;
mod version_one;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::Error;

pub use config::{ClientTls, Login, ServerTls, TlsConfig};
pub use identity::{Identity, IdentityError};
pub use own::OwnTls;
pub use roots::{Roots, RootsError};
pub(super) use seen::{ALPN, fault_of};
pub(super) use server_leg::Verify;

/// TLS of a running proxy.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: TlsConfig,
    /// What clients are shown now; replaced when the files change.
    server_side: RwLock<Option<Arc<client_leg::ServerSide>>>,
    pub(super) connector: server_leg::Connector,
    /// Addresses of clients whose TLS is not opened any more, as it broke a login of theirs.
    passed: Mutex<Vec<(Option<IpAddr>, Instant)>>,
}

impl Tls {
    pub(super) fn new(config: TlsConfig) -> io::Result<Self> {
        let bad = |error: Error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let clients = matches!(config.client, ClientTls::VerifyCa | ClientTls::VerifyFull);
        let servers = matches!(config.server, ServerTls::VerifyCa | ServerTls::VerifyFull);
        // Nobody is taken for verified whom nothing was held against.
        if (clients && config.client_roots.is_none()) || (servers && config.server_roots.is_none()) {
            return Err(bad(Error::General("to verify certificates takes trusted roots".into())));
        }
        let server_side = match &config.identity {
            Some(identity) => Some(Arc::new(client_leg::ServerSide::new(identity, &config).map_err(bad)?)),
            None => None,
        };
        let connector = server_leg::Connector::new(&config).map_err(bad)?;
        Ok(Self { server_side: RwLock::new(server_side), connector, passed: Mutex::default(), config })
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

    /// What is verified of the server's certificate. Public authorities sign for anybody, so that their word is worth
    /// nothing without the host's name.
    pub(super) fn verify(&self) -> Verify {
        let public = self.config.server_roots.as_ref().is_some_and(|roots| roots.are_systems());
        if public || self.config.server == ServerTls::VerifyFull { Verify::Full } else { Verify::Chain }
    }

    /// Whether every login goes over TLS whose server was verified here: then nothing passes through that began with us.
    pub(super) fn insists(&self) -> bool {
        matches!(self.config.server, ServerTls::VerifyCa | ServerTls::VerifyFull)
    }

    /// Whether a cancel request goes to the server over TLS, too.
    pub(super) fn shelters_cancels(&self, client_is_tls: bool) -> bool {
        match self.config.server {
            ServerTls::Mirror => client_is_tls,
            ServerTls::Disable | ServerTls::Allow | ServerTls::Prefer => false,
            ServerTls::Require | ServerTls::VerifyCa | ServerTls::VerifyFull => true,
        }
    }

    fn has_passed(&self, client: Option<IpAddr>) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = passed.iter_mut().find(|(address, at)| *address == client && at.elapsed() < PASSED_KEPT);
        known.map(|(_, at)| *at = Instant::now()).is_some()
    }

    /// From now on clients of this address are passed through. In `auto` alone: elsewhere TLS was
    /// opened because somebody said so.
    pub(super) fn pass_from_now_on(&self, client: Option<IpAddr>) -> bool {
        if self.config.client != ClientTls::Auto || self.insists() {
            return false;
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.retain(|(address, at)| *address != client && at.elapsed() < PASSED_KEPT);
        if passed.len() >= PASSED {
            let oldest = passed.iter().enumerate().min_by_key(|(_, (_, at))| *at).map(|(place, _)| place);
            passed.swap_remove(oldest.unwrap_or_default());
        }
        passed.push((client, Instant::now()));
        true
    }
}

/// Addresses remembered as needing passthrough: as many as an office has, 40 bytes each.
const PASSED: usize = 1_024;

/// How long after its last login an address is remembered: the next one that TLS of ours breaks is one too many, and what
/// was broken may have been mended.
const PASSED_KEPT: Duration = Duration::from_secs(3_600);

/// A server that has agreed to TLS and then says nothing is given this long before `auto` passes its
/// client through instead; the login deadline ends everything else.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
