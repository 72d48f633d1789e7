//! tokio-postgres with TLS by rustls, which binds to the channel as its documentation asks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::client::TlsStream as Rustls;

use crate::support::client::{Answer, Login};
use crate::support::trusting::Trusting as Unverified;

/// Logs in once, with TLS where the server has it.
pub fn log_in(addr: SocketAddr, login: &Login, binding: tokio_postgres::config::ChannelBinding) -> Answer {
    let mut config = tokio_postgres::Config::new();
    config.user(&login.user).ssl_mode(SslMode::Prefer).channel_binding(binding);
    config.password(login.password.as_deref().unwrap_or_default());
    config.dbname(login.database.as_deref().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result: Result<(), Box<dyn std::error::Error>> = runtime.block_on(async {
        let socket = TcpStream::connect(addr).await?;
        let (client, connection) = config.connect_raw(socket, Trusting).await?;
        let driver = tokio::spawn(connection);
        client.simple_query("select 1").await?;
        drop(client);
        Ok(driver.await??)
    });
    match result {
        Ok(()) => Answer { ok: true, error: String::new() },
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}"));
            Answer { ok: false, error: format!("{error}{}", cause.unwrap_or_default()) }
        }
    }
}

/// Takes any certificate, as libpq's sslmode=prefer does.
struct Trusting;

impl TlsConnect<TcpStream> for Trusting {
    type Stream = Bound;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Bound>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let mut config = rustls::ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified))
                .with_no_client_auth();
            config.alpn_protocols = vec![b"postgresql".to_vec()];
            let name = ServerName::try_from("localhost").expect("a name");
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Bound)
        })
    }
}

/// A stream that knows the hash of its server's certificate.
struct Bound(Rustls<TcpStream>);

impl TlsStream for Bound {
    fn channel_binding(&self) -> ChannelBinding {
        let leaf = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        match leaf.and_then(|leaf| pgwhy::certs::end_point_hash(leaf)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Bound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
