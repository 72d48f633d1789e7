//! TLS for a connection that pgwhy makes for itself, with the connector of the server's leg.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::handshake::opened::{OpenedTls, TlsFault};
use crate::net::endpoint::Socket;

use super::config::TlsConfig;
use super::identity::Identity;
use super::roots::Roots;
use super::server_leg::{Connector, Verify};

/// Begins TLS with a server as libpq does.
#[derive(Debug)]
pub struct OwnTls {
    connector: Connector,
    verify: Verify,
}

impl OwnTls {
    /// With roots the chain is verified, with `names` the host's name, too; `identity` is shown to a server that
    /// asks for it.
    ///
    /// # Errors
    /// When the roots can't be used.
    pub fn new(roots: Option<Arc<Roots>>, identity: Option<Identity>, names: bool) -> io::Result<Self> {
        let config = TlsConfig { server_roots: roots, server_identity: identity, ..TlsConfig::default() };
        let connector =
            Connector::new(&config).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Self { connector, verify: if names { Verify::Full } else { Verify::Chain } })
    }

    /// Does the handshake with the server that `host` names.
    ///
    /// # Errors
    /// What was wrong, and what was seen of the server until then.
    pub async fn connect(
        &self,
        socket: TcpStream,
        host: &str,
    ) -> Result<(impl AsyncRead + AsyncWrite + Unpin + Send + use<>, OpenedTls), Box<(TlsFault, OpenedTls)>>
    {
        let connected =
            self.connector.connect(Socket::Tcp(socket), host, None, self.verify, Instant::now()).await;
        connected.map_err(|refused| Box::new((refused.fault, refused.seen)))
    }
}
