//! Addresses and streams: TCP and Unix sockets behind one face.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket (the file itself, not its directory).
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where the servers are, as a connection string names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The hosts in the order in which they are tried.
    pub hosts: Vec<UpstreamHost>,
    /// The longest time for one address (libpq's `connect_timeout`); `None` waits as the kernel does.
    pub connect_timeout: Option<Duration>,
}

/// One host of an [`Upstream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHost {
    /// A host name, an IP address, or the directory of a Unix socket: it begins with `/`, or with `@` in Linux's abstract
    /// name space.
    pub name: String,
    /// Saves the look-up of the name, as libpq's `hostaddr` does.
    pub hostaddr: Option<IpAddr>,
    /// The port, also of a Unix socket.
    pub port: u16,
}

impl UpstreamHost {
    /// The socket file, if the host is a Unix socket's directory.
    pub fn socket_path(&self) -> Option<PathBuf> {
        let is_path = self.hostaddr.is_none() && self.name.starts_with(['/', '@']);
        is_path.then(|| Path::new(&self.name).join(format!(".s.PGSQL.{}", self.port)))
    }
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_path() {
            Some(path) => write!(f, "{}", path.display()),
            None if self.name.contains(':') => write!(f, "[{}]:{}", self.name, self.port),
            None => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket: its path, where it has one (a client's has none).
    Unix(Option<Arc<Path>>),
}

impl PeerAddr {
    /// The IP address; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(addr) => Some(addr.ip().to_canonical()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(Some(path)) => write!(f, "{}", path.display()),
            Self::Unix(None) => f.write_str("[local]"),
        }
    }
}

/// A stream socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One leg's way to its other end.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    /// TLS that we are an end of.
    Tls(Box<TlsStream<Ahead>>),
}

/// A socket some of whose bytes were read before: they come first.
///
/// Who refuses a handshake sends an alert and closes, while we may be writing still. The write fails then, and the
/// alert waits to be read: so a failed write is told by the next read that finds nothing more.
#[derive(Debug)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    start: usize,
    pub(super) socket: Socket,
    /// The other end takes nothing more; what is written is lost.
    broken: Option<io::ErrorKind>,
}

impl Ahead {
    pub(super) fn new(bytes: Vec<u8>, socket: Socket) -> Self {
        Self { bytes, start: 0, socket, broken: None }
    }

    /// Takes a failure of writing for a success, to be told by a read.
    fn put_off(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error) if is_lost(error.kind()) => {
                self.broken = Some(error.kind());
                Ok(length)
            }
            written => written,
        }
    }
}

/// Whether the other end is gone, so that reading ends as well.
fn is_lost(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl Socket {
    /// Sets what both legs want: no delay for small messages, and dead peers are noticed.
    pub(super) fn tune(&self) {
        // A socket that died a moment ago refuses options; its next read says so better.
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
        }
        let _ = rustix::net::sockopt::set_socket_keepalive(self.as_fd(), true);
    }

    pub(super) fn local(&self) -> Option<PeerAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(PeerAddr::Tcp),
            Self::Unix(_) => Some(PeerAddr::Unix(None)),
        }
    }
}

impl Stream {
    /// The plain socket; `None` under TLS.
    pub(super) fn into_socket(self) -> Option<Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Waits until the other end has said its last word; for ever where something else is still to be read.
    pub(super) async fn ended(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.get_ref().0.socket,
        };
        let ready = match socket {
            Socket::Tcp(stream) => stream.ready(Interest::READABLE).await,
            Socket::Unix(stream) => stream.ready(Interest::READABLE).await,
        };
        if ready.is_ok_and(|ready| !ready.is_read_closed()) {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a read may not block; allocates nothing meanwhile.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(Socket::Tcp(stream)) => stream.readable().await,
            Self::Plain(Socket::Unix(stream)) => stream.readable().await,
            // What it has decrypted already can't be asked for without reading.
            Self::Tls(_) => Ok(()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets keep nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.bytes.get(this.start..).unwrap_or_default();
        if rest.is_empty() {
            let before = buffer.filled().len();
            let read = ready!(Pin::new(&mut this.socket).poll_read(context, buffer));
            return Poll::Ready(match this.broken {
                // The kernel tells an error once, and the write has had it.
                Some(kind) if read.is_ok() && buffer.filled().len() == before => Err(kind.into()),
                _ => read,
            });
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        this.start += count;
        if this.start == this.bytes.len() {
            this.bytes = Vec::new();
            this.start = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write(context, bytes));
        Poll::Ready(this.put_off(written, bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if this.broken.is_some() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(context, slices));
        Poll::Ready(this.put_off(written, length))
    }

    fn is_write_vectored(&self) -> bool {
        // A flight of a handshake is several records: one packet is enough for them.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => match Pin::new(&mut **stream).poll_read(context, buffer) {
                // An end without close_notify: PostgreSQL's clients leave like that, and the protocol inside has
                // its own Terminate.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                // TLS has an answer of its own to what came: no_renegotiation, or new keys. What goes wrong with
                // it shows itself when something else is written.
                Poll::Pending if stream.get_ref().1.wants_write() => {
                    let _ = Pin::new(&mut **stream).poll_flush(context);
                    Poll::Pending
                }
                read => read,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
