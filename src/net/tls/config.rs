//! How TLS is to be on both legs.

use std::sync::Arc;

use crate::secret::Secret;

use super::identity::Identity;
use super::roots::Roots;

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
    pub(in crate::net) fn is_for(&self, user: &[u8]) -> bool {
        self.user.as_deref().is_none_or(|owner| owner.as_bytes() == user)
    }
}
