//! One connection to the server: dialled, logged in, and metered, because the server may lie.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls, config as postgres};

use super::tls::{Encryption, Opened, Socket};
use super::{AdminProblem, NotUsable};
use crate::conninfo::{Conninfo, Host, HostName, SslMode, passfile};
use crate::net::PeerAddr;
use crate::secret::Secret;

/// What one answer may have in all: a large pg_hba.conf has some hundred kilobytes.
const MAX_BYTES: usize = 8 << 20;
/// More PBKDF2 rounds than this are refused before they are computed (PostgreSQL's default is 4096):
/// a server could make the thread count for an hour.
const MAX_ITERATIONS: u64 = 1_000_000;
/// What a login may have in all; a real one has about one kilobyte.
const LOGIN_BYTES: usize = 16 << 10;
/// How long a connection may take to end in peace.
const FAREWELL: Duration = Duration::from_secs(1);
/// A server's words are kept up to this length.
const MAX_WORDS: usize = 400;

/// Where the connection leads.
pub(super) struct Target {
    pub(super) conninfo: Conninfo,
    database: String,
    password: Option<Secret<String>>,
    encryption: Encryption,
    /// Where we listen ourselves.
    pub(super) own: Mutex<Vec<PeerAddr>>,
}

impl Target {
    pub(super) fn new(
        conninfo: Conninfo,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, NotUsable> {
        let encryption = Encryption::of(&conninfo, environment)?;
        let database = conninfo.database.clone().filter(|name| !name.is_empty());
        let database = database.unwrap_or_else(|| "postgres".to_owned());
        let password = conninfo.password.clone().or_else(|| from_passfile(&conninfo, &database));
        Ok(Self { conninfo, database, password, encryption, own: Mutex::default() })
    }

    /// The addresses that need no looking up.
    pub(super) fn literal_addresses(&self) -> Vec<PeerAddr> {
        self.conninfo.hosts.iter().filter_map(literal).collect()
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config.application_name("pgwhy admin").dbname(&self.database);
        config.channel_binding(self.encryption.binding);
        // Without a name tokio-postgres takes the operating system's user, as libpq does.
        if let Some(user) = &self.conninfo.user {
            config.user(user);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }

    /// The first address that can be reached, and the name of its host.
    async fn dial(&self) -> Result<(Dialled, String), AdminProblem> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut said = Vec::new();
        for host in &self.conninfo.hosts {
            let addrs = match addresses(host).await {
                Ok(addrs) => addrs,
                Err(error) => {
                    said.push(format!("{host}: {error}"));
                    continue;
                }
            };
            for addr in addrs {
                if is_ours(&own, &addr) {
                    return Err(AdminProblem::Ourselves(addr.to_string()));
                }
                match self.connect(&addr).await {
                    Ok(socket) => return Ok((socket, name(host))),
                    Err(error) => said.push(format!("{addr}: {error}")),
                }
            }
        }
        Err(AdminProblem::Unreachable(said.join("; ")))
    }

    /// Opens a way to the server, with or without TLS.
    async fn way(&self, encrypted: bool) -> Result<Way, AdminProblem> {
        let (dialled, host) = self.dial().await?;
        let address = match &dialled {
            Dialled::Tcp(socket) => socket.peer_addr().ok().map(|addr| addr.ip()),
            Dialled::Unix(_) => None,
        };
        let plain = |socket: Box<dyn Socket>| Way { socket, hash: None, encrypted: false, address };
        match dialled {
            // libpq asks for no TLS on a Unix socket, whatever sslmode says.
            Dialled::Unix(socket) => Ok(plain(Box::new(socket))),
            Dialled::Tcp(socket) if !encrypted => Ok(plain(Box::new(socket))),
            Dialled::Tcp(socket) => match self.encryption.open(socket, &host).await? {
                Opened::Declined(socket) => Ok(plain(Box::new(socket))),
                Opened::Tls(socket, hash) => Ok(Way { socket, hash, encrypted: true, address }),
            },
        }
    }

    async fn connect(&self, addr: &PeerAddr) -> io::Result<Dialled> {
        let connect = async {
            Ok(match addr {
                PeerAddr::Tcp(addr) => {
                    let stream = TcpStream::connect(addr).await?;
                    stream.set_nodelay(true)?;
                    Dialled::Tcp(stream)
                }
                PeerAddr::Unix(Some(path)) => Dialled::Unix(UnixStream::connect(path).await?),
                PeerAddr::Unix(None) => return Err(io::ErrorKind::NotFound.into()),
            })
        };
        match self.conninfo.connect_timeout {
            Some(limit) => tokio::time::timeout(limit, connect)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            None => connect.await,
        }
    }
}

/// A connection to an address, before anything was sent.
enum Dialled {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A way to the server on which the login may begin.
struct Way {
    socket: Box<dyn Socket>,
    /// What SCRAM binds to.
    hash: Option<Vec<u8>>,
    encrypted: bool,
    address: Option<IpAddr>,
}

/// The name that a certificate is held against.
fn name(host: &Host) -> String {
    match &host.name {
        HostName::Name(name) | HostName::UnixDir(name) => name.clone(),
        HostName::Addr(ip) => ip.to_string(),
    }
}

fn from_passfile(conninfo: &Conninfo, database: &str) -> Option<Secret<String>> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let file = conninfo.passfile.as_ref().map(PathBuf::from).or_else(home)?;
    let (host, user) = (conninfo.hosts.first()?, conninfo.user.as_deref()?);
    let text = Secret::new(std::fs::read_to_string(file).ok()?);
    passfile::lookup(text.expose(), &host.name, host.port, database, user)
}

fn literal(host: &Host) -> Option<PeerAddr> {
    let tcp = |ip| PeerAddr::Tcp(SocketAddr::new(ip, host.port));
    match (&host.hostaddr, &host.name) {
        (Some(ip), _) | (None, HostName::Addr(ip)) => Some(tcp(*ip)),
        (None, HostName::UnixDir(dir)) => {
            Some(PeerAddr::Unix(Some(Path::new(dir).join(format!(".s.PGSQL.{}", host.port)).into())))
        }
        (None, HostName::Name(_)) => None,
    }
}

async fn addresses(host: &Host) -> io::Result<Vec<PeerAddr>> {
    match (literal(host), &host.name) {
        (None, HostName::Name(name)) => {
            Ok(tokio::net::lookup_host((name.as_str(), host.port)).await?.map(PeerAddr::Tcp).collect())
        }
        (literal, _) => Ok(literal.into_iter().collect()),
    }
}

/// Whether dialling `addr` would reach one of our own listeners; one on every address of the machine
/// is taken to be meant by loopback addresses.
pub(super) fn is_ours(own: &[PeerAddr], addr: &PeerAddr) -> bool {
    own.iter().any(|own| match (own, addr) {
        (PeerAddr::Tcp(own), PeerAddr::Tcp(addr)) => {
            let (here, there) = (own.ip().to_canonical(), addr.ip().to_canonical());
            own.port() == addr.port() && (here == there || (here.is_unspecified() && there.is_loopback()))
        }
        (PeerAddr::Unix(Some(own)), PeerAddr::Unix(Some(addr))) => {
            let real = |path: &Path| std::fs::canonicalize(path).ok();
            own == addr || real(own).is_some_and(|own| real(addr) == Some(own))
        }
        _ => false,
    })
}

/// An open connection.
pub(super) struct Link {
    pub(super) client: Client,
    /// Where the server is; none over a Unix socket.
    pub(super) address: Option<IpAddr>,
    driver: Driver,
    meter: Arc<Meter>,
}

/// The task that carries a connection's bytes; it ends with this value.
struct Driver(JoinHandle<()>);

impl Driver {
    fn start<T>(connection: tokio_postgres::Connection<Metered, T>) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the administrator's connection ended");
            }
        }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the server has sent.
#[derive(Default)]
struct Meter {
    received: AtomicUsize,
    logged_in: AtomicBool,
}

impl Link {
    /// Dials and logs in, with TLS or without, in libpq's order.
    pub(super) async fn open(target: &Target) -> Result<Self, AdminProblem> {
        let (first, second) = match target.encryption.mode {
            SslMode::Disable => (false, None),
            SslMode::Allow => (false, Some(true)),
            SslMode::Prefer => (true, Some(false)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (true, None),
        };
        let problem = match Self::log_in(target, first).await {
            Err((problem, encrypted)) if second == Some(!encrypted) && may_be_encryption(&problem) => problem,
            done => return done.map_err(|(problem, _)| problem),
        };
        match Self::log_in(target, !first).await {
            Ok(link) => Ok(link),
            // TLS that failed is the reason, whatever the server says to a login without it.
            Err(_) if matches!(problem, AdminProblem::Tls(_)) => Err(problem),
            Err((last, _)) => Err(last),
        }
    }

    /// The problem, and whether the way was encrypted.
    async fn log_in(target: &Target, encrypted: bool) -> Result<Self, (AdminProblem, bool)> {
        let way = target.way(encrypted).await.map_err(|problem| (problem, encrypted))?;
        let meter = Arc::new(Meter::default());
        let metered = Metered { socket: way.socket, meter: Arc::clone(&meter), login: Vec::new() };
        let mut config = target.config();
        let fault = |error| (problem(&error), way.encrypted);
        let driver = if way.encrypted {
            // The handshake is behind us: tokio-postgres is told so, and what to bind to.
            config.ssl_mode(postgres::SslMode::Require).ssl_negotiation(postgres::SslNegotiation::Direct);
            let (client, connection) =
                config.connect_raw(metered, Given { hash: way.hash }).await.map_err(fault)?;
            (client, Driver::start(connection))
        } else {
            config.ssl_mode(postgres::SslMode::Disable);
            let (client, connection) = config.connect_raw(metered, NoTls).await.map_err(fault)?;
            (client, Driver::start(connection))
        };
        meter.logged_in.store(true, Ordering::Relaxed);
        Ok(Self { client: driver.0, address: way.address, driver: driver.1, meter })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// A new question: what the server may send starts anew.
    pub(super) fn reset_meter(&self) {
        self.meter.received.store(0, Ordering::Relaxed);
    }

    /// Ends it as the protocol wants (Terminate).
    pub(super) async fn close(self) {
        let Self { client, mut driver, .. } = self;
        drop(client);
        // Who does not answer a farewell in time is left without one.
        let _ = tokio::time::timeout(FAREWELL, &mut driver.0).await;
    }
}

/// Whether the other way, with TLS or without, may help: libpq tries it then.
fn may_be_encryption(problem: &AdminProblem) -> bool {
    match problem {
        // No line of pg_hba.conf for this kind of connection.
        AdminProblem::Refused { sqlstate, .. } => sqlstate == "28000",
        AdminProblem::Tls(_) => true,
        _ => false,
    }
}

/// A connection whose TLS was begun already, for tokio-postgres.
struct Given {
    hash: Option<Vec<u8>>,
}

/// The same, with what SCRAM binds to.
struct Bound {
    stream: Metered,
    hash: Option<Vec<u8>>,
}

impl TlsConnect<Metered> for Given {
    type Stream = Bound;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Bound>>;

    fn connect(self, stream: Metered) -> Self::Future {
        std::future::ready(Ok(Bound { stream, hash: self.hash }))
    }
}

impl TlsStream for Bound {
    fn channel_binding(&self) -> ChannelBinding {
        self.hash.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Bound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An error without an ErrorResponse behind it is the connection's.
pub(super) fn problem(error: &tokio_postgres::Error) -> AdminProblem {
    match error.as_db_error() {
        Some(refusal) => AdminProblem::Refused {
            sqlstate: words(refusal.code().code()),
            message: words(refusal.message()),
        },
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            AdminProblem::Broken(words(&format!("{error}{}", cause.unwrap_or_default())))
        }
    }
}

/// A server's words, cut where they are too many.
pub(super) fn words(text: &str) -> String {
    let end = (0..=MAX_WORDS).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if text.len() > MAX_WORDS { format!("{}…", &text[..end]) } else { text.to_owned() }
}

/// A socket that breaks when the server sends more than [`MAX_BYTES`] for one question, or wants more
/// than [`MAX_ITERATIONS`] of us.
struct Metered {
    socket: Box<dyn Socket>,
    meter: Arc<Meter>,
    /// The bytes of the login, while it lasts.
    login: Vec<u8>,
}

impl Metered {
    fn check(&mut self, fresh: &[u8]) -> io::Result<()> {
        let all = self.meter.received.fetch_add(fresh.len(), Ordering::Relaxed) + fresh.len();
        if all > MAX_BYTES {
            return Err(io::Error::other(format!("more than {MAX_BYTES} bytes for one answer")));
        }
        if self.meter.logged_in.load(Ordering::Relaxed) {
            self.login = Vec::new();
            return Ok(());
        }
        self.login.extend_from_slice(fresh);
        if self.login.len() > LOGIN_BYTES {
            return Err(io::Error::other(format!("more than {LOGIN_BYTES} bytes in the login")));
        }
        match iterations(&self.login) {
            Some(count) if count > MAX_ITERATIONS => {
                Err(io::Error::other(format!("it asks for more than {MAX_ITERATIONS} iterations of SCRAM")))
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = polled
            && let Err(error) = self.check(buffer.filled().get(before..).unwrap_or_default())
        {
            return Poll::Ready(Err(error));
        }
        polled
    }
}

/// The largest `i=` that follows a comma: in a login only the server-first-message has one.
fn iterations(login: &[u8]) -> Option<u64> {
    let digits = login.windows(3).enumerate().filter(|(_, window)| *window == b",i=");
    let counts = digits.map(|(at, _)| {
        let digits = login[at + 3..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    });
    counts.max()
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_iteration_count_is_seen_in_a_login() {
        assert_eq!(iterations(b"R\0\0\0\x40\0\0\0\x0br=abc,s=AAAA,i=4096"), Some(4096));
        assert_eq!(iterations(b"r=abc,s=AAAA,i=99999999999999999999999"), Some(u64::MAX));
        assert_eq!(iterations(b"r=abc,s=AAAA,i"), None);
    }

    #[test]
    fn a_servers_words_are_cut_between_characters() {
        assert_eq!(words("short"), "short");
        assert!(words(&"ä".repeat(1_000)).len() <= MAX_WORDS + 3);
        assert!(words(&format!("x{}", "ä".repeat(1_000))).len() <= MAX_WORDS + 3);
    }
}
