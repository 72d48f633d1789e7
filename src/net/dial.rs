//! Reaching the server as libpq does: every host, every address of it, in order.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};

use super::cancel::Target;
use super::endpoint::{PeerAddr, Socket, Upstream, UpstreamHost};

/// One attempt to reach one address (or to find a host's addresses).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialAttempt {
    /// The host as configured.
    pub host: String,
    /// The address; `None` where the look-up of the host failed.
    pub addr: Option<PeerAddr>,
    /// When it began, counted from the client's accept.
    pub started: Duration,
    /// How long it took.
    pub elapsed: Duration,
    /// What came of it.
    pub result: Result<(), DialError>,
}

/// Why an address could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the host name was not found")]
    NameNotFound,
    /// The name server did not answer: it may work later.
    #[error("the name server did not answer")]
    NameTemporary,
    /// Nothing listens there (ECONNREFUSED).
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No route (ENETUNREACH).
    #[error("no route to the host")]
    Unreachable,
    /// The host can't be reached (EHOSTUNREACH).
    #[error("the host is unreachable")]
    HostUnreachable,
    /// There is no such Unix socket file.
    #[error("the Unix socket does not exist")]
    SocketMissing,
    /// The Unix socket (or a firewall) does not let us in.
    #[error("permission denied")]
    Permission,
    /// The address is one that we listen on ourselves.
    #[error("the address is pgwhy's own")]
    Loop,
    /// The upstream names no host at all.
    #[error("no host to connect to")]
    NoHost,
    /// Anything else.
    #[error("{0}")]
    Other(io::ErrorKind),
}

impl DialError {
    fn from_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::HostUnreachable => Self::HostUnreachable,
            io::ErrorKind::NotFound => Self::SocketMissing,
            io::ErrorKind::PermissionDenied => Self::Permission,
            other => Self::Other(other),
        }
    }

    fn from_lookup(error: &io::Error) -> Self {
        // std keeps getaddrinfo's code to itself; its text is English, as we never set a locale.
        if error.to_string().contains("Temporary failure") { Self::NameTemporary } else { Self::NameNotFound }
    }
}

/// A server that was reached.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) socket: Socket,
    /// The host that the address is of, as configured.
    pub(super) host: String,
    pub(super) addr: PeerAddr,
}

/// Dials one upstream; keeps the addresses of names for a moment.
#[derive(Debug)]
pub(super) struct Dialer {
    upstream: Upstream,
    /// What we listen on: dialling it would make a loop that eats every descriptor.
    own: Vec<PeerAddr>,
    names: Mutex<HashMap<String, Found>>,
}

/// The addresses of a name, and when they were found.
type Found = (Instant, Arc<[IpAddr]>);

impl Dialer {
    pub(super) fn new(upstream: Upstream, own: Vec<PeerAddr>) -> Self {
        Self { upstream, own, names: Mutex::default() }
    }

    /// Tries every address of every host; `attempts` tells the story even if the caller gives up.
    pub(super) async fn dial(&self, accepted: Instant, attempts: &mut Vec<DialAttempt>) -> Option<Reached> {
        for host in &self.upstream.hosts {
            let trying = Trying::new(attempts, host, None, accepted);
            let addrs = match self.addresses(host).await {
                Ok(addrs) => trying.found(addrs),
                Err(error) => {
                    trying.end(Err(error));
                    continue;
                }
            };
            for addr in addrs {
                let trying = Trying::new(attempts, host, Some(addr.clone()), accepted);
                let result = self.connect(&addr).await;
                trying.end(result.as_ref().map(|_| ()).map_err(|error| *error));
                if let Ok(socket) = result {
                    return Some(Reached { socket, addr, host: host.name.clone() });
                }
            }
        }
        if self.upstream.hosts.is_empty() {
            let nobody = UpstreamHost { name: String::new(), hostaddr: None, port: 0 };
            attempts.push(attempt(&nobody, None, accepted, Instant::now(), Err(DialError::NoHost)));
        }
        None
    }

    /// Dials exactly one address: where a cancel request has to go.
    pub(super) async fn dial_target(
        &self,
        Target { addr, host }: Target,
        accepted: Instant,
        attempts: &mut Vec<DialAttempt>,
    ) -> Option<Reached> {
        let started = Instant::now();
        let result = self.connect(&addr).await;
        attempts.push(DialAttempt {
            host: addr.to_string(),
            addr: Some(addr.clone()),
            started: started.saturating_duration_since(accepted),
            elapsed: started.elapsed(),
            result: result.as_ref().map(|_| ()).map_err(|error| *error),
        });
        result.ok().map(|socket| Reached { socket, host, addr })
    }

    async fn addresses(&self, host: &UpstreamHost) -> Result<Vec<PeerAddr>, DialError> {
        if let Some(path) = host.socket_path() {
            return Ok(vec![PeerAddr::Unix(Some(path.into()))]);
        }
        let literal = host.hostaddr.or_else(|| host.name.parse().ok());
        let ips = match literal {
            Some(ip) => Arc::from([ip]),
            None => self.look_up(&host.name).await?,
        };
        Ok(ips.iter().map(|ip| PeerAddr::Tcp(SocketAddr::new(*ip, host.port))).collect())
    }

    async fn look_up(&self, name: &str) -> Result<Arc<[IpAddr]>, DialError> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((_, ips)) = known.filter(|(at, _)| at.elapsed() < NAME_KEPT) {
            return Ok(ips);
        }
        let found =
            tokio::net::lookup_host((name, 0)).await.map_err(|error| DialError::from_lookup(&error))?;
        let mut ips: Vec<IpAddr> = Vec::new();
        for addr in found {
            if !ips.contains(&addr.ip()) {
                ips.push(addr.ip());
            }
        }
        if ips.is_empty() {
            return Err(DialError::NameNotFound);
        }
        let ips: Arc<[IpAddr]> = ips.into();
        // Names come from the configuration only, so the map is as small as that.
        let entry = (Instant::now(), Arc::clone(&ips));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), entry);
        Ok(ips)
    }

    async fn connect(&self, addr: &PeerAddr) -> Result<Socket, DialError> {
        if self.own.iter().any(|own| is_same(own, addr)) {
            return Err(DialError::Loop);
        }
        let dialled = async {
            Ok(match addr {
                PeerAddr::Tcp(addr) => Socket::Tcp(TcpStream::connect(addr).await?),
                PeerAddr::Unix(Some(path)) => Socket::Unix(UnixStream::connect(in_kernel(path)).await?),
                PeerAddr::Unix(None) => return Err(io::ErrorKind::NotFound.into()),
            })
        };
        let dialled = tokio::select! {
            biased;
            dialled = dialled => dialled,
            () = expired(self.upstream.connect_timeout) => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = dialled.map_err(|error: io::Error| DialError::from_connect(&error))?;
        if self.reached_ourselves(&stream, addr) {
            return Err(DialError::Loop);
        }
        stream.tune();
        Ok(stream)
    }

    /// A wildcard listener has every address of the machine: then both ends have the same one.
    fn reached_ourselves(&self, stream: &Socket, addr: &PeerAddr) -> bool {
        let PeerAddr::Tcp(addr) = addr else { return false };
        let on_wildcard = |own: &PeerAddr| matches!(own, PeerAddr::Tcp(own) if own.ip().is_unspecified() && own.port() == addr.port());
        self.own.iter().any(on_wildcard)
            && stream.local().and_then(|local| local.ip()) == Some(addr.ip().to_canonical())
    }
}

/// An attempt under way. A caller who gives up in the middle of it leaves one that had no answer in time.
struct Trying<'a> {
    attempts: &'a mut Vec<DialAttempt>,
    host: &'a UpstreamHost,
    addr: Option<PeerAddr>,
    accepted: Instant,
    started: Instant,
    outcome: Option<Result<(), DialError>>,
}

impl<'a> Trying<'a> {
    fn new(
        attempts: &'a mut Vec<DialAttempt>,
        host: &'a UpstreamHost,
        addr: Option<PeerAddr>,
        accepted: Instant,
    ) -> Self {
        let unanswered = if addr.is_some() { DialError::Timeout } else { DialError::NameTemporary };
        Self { attempts, host, addr, accepted, started: Instant::now(), outcome: Some(Err(unanswered)) }
    }

    fn end(mut self, outcome: Result<(), DialError>) {
        self.outcome = Some(outcome);
    }

    /// A look-up that worked is no attempt.
    fn found<T>(mut self, found: T) -> T {
        self.outcome = None;
        found
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let attempt = attempt(self.host, self.addr.take(), self.accepted, self.started, outcome);
            self.attempts.push(attempt);
        }
    }
}

async fn expired(limit: Option<Duration>) {
    // A server nearby has answered when the runtime next looks at its sockets. Only for one that has
    // not is it worth to set a timer, which wakes the runtime.
    tokio::task::yield_now().await;
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn attempt(
    host: &UpstreamHost,
    addr: Option<PeerAddr>,
    accepted: Instant,
    started: Instant,
    result: Result<(), DialError>,
) -> DialAttempt {
    DialAttempt {
        host: host.to_string(),
        addr,
        started: started.saturating_duration_since(accepted),
        elapsed: started.elapsed(),
        result,
    }
}

/// Whether dialling `addr` would reach the listener at `own`, as far as the addresses tell.
fn is_same(own: &PeerAddr, addr: &PeerAddr) -> bool {
    match (own, addr) {
        (PeerAddr::Tcp(own), PeerAddr::Tcp(addr)) => own.port() == addr.port() && own.ip() == addr.ip(),
        (PeerAddr::Unix(Some(own)), PeerAddr::Unix(Some(addr))) => {
            let real = |path: &Path| std::fs::canonicalize(path).ok();
            own == addr || real(own).is_some_and(|own| real(addr) == Some(own))
        }
        _ => false,
    }
}

/// How long the addresses of a name are used again. libpq asks every time; a second saves a burst of
/// logins the look-ups and is still over before anybody has waited for a DNS change.
const NAME_KEPT: Duration = Duration::from_secs(1);

/// A socket's path as the kernel has it: what libpq writes with `@` begins with a zero byte there
/// (`UNIXSOCK_PATH`, `is_unixsock_path`).
fn in_kernel(path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => PathBuf::from(OsString::from_vec([b"\0", name].concat())),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, port: u16) -> Upstream {
        let host = UpstreamHost { name: name.into(), hostaddr: None, port };
        Upstream { hosts: vec![host], connect_timeout: Some(Duration::from_secs(5)) }
    }

    /// A port where nobody listens, as long as the socket is held that it is bound to.
    fn closed() -> (tokio::net::TcpSocket, u16) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    #[tokio::test]
    async fn every_failure_has_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().to_str().unwrap().to_owned();
        let (_held, closed) = closed();
        let own = vec![PeerAddr::Tcp("127.0.0.1:5432".parse().unwrap())];
        let rows: [(&str, Upstream, DialError); 4] = [
            ("a closed port is refused", one("127.0.0.1", closed), DialError::Refused),
            ("a missing socket file", one(&missing, 5432), DialError::SocketMissing),
            ("our own address", one("127.0.0.1", 5432), DialError::Loop),
            ("no host", Upstream { hosts: vec![], connect_timeout: None }, DialError::NoHost),
        ];
        for (row, upstream, expected) in rows {
            let mut attempts = Vec::new();
            let reached = Dialer::new(upstream, own.clone()).dial(Instant::now(), &mut attempts).await;
            assert!(reached.is_none(), "{row}");
            assert_eq!(attempts.last().map(|attempt| attempt.result), Some(Err(expected)), "{row}");
        }
    }

    #[tokio::test]
    async fn a_wildcard_listener_is_known_by_any_address() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let own = listener.local_addr().unwrap();
        let mut attempts = Vec::new();
        let dialer = Dialer::new(one("127.0.0.1", own.port()), vec![PeerAddr::Tcp(own)]);
        assert!(dialer.dial(Instant::now(), &mut attempts).await.is_none());
        assert_eq!(attempts[0].result, Err(DialError::Loop));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_without_a_file_is_reached() {
        use std::os::linux::net::SocketAddrExt as _;
        let directory = format!("@pgwhy-test-{}", std::process::id());
        let name = format!("{}/.s.PGSQL.5432", &directory[1..]);
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        let dialer = Dialer::new(one(&directory, 5432), Vec::new());
        assert!(dialer.dial(Instant::now(), &mut Vec::new()).await.is_some());
        let mut attempts = Vec::new();
        let dialer = Dialer::new(one(&directory, 5433), Vec::new());
        assert!(dialer.dial(Instant::now(), &mut attempts).await.is_none());
        assert_eq!(attempts[0].result, Err(DialError::Refused));
    }

    #[tokio::test]
    async fn the_second_host_is_tried_when_the_first_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (_held, closed) = closed();
        let mut upstream = one("127.0.0.1", closed);
        upstream.hosts.extend(one("127.0.0.1", listener.local_addr().unwrap().port()).hosts);
        let mut attempts = Vec::new();
        let reached = Dialer::new(upstream, Vec::new()).dial(Instant::now(), &mut attempts).await;
        assert_eq!(reached.unwrap().addr, PeerAddr::Tcp(listener.local_addr().unwrap()));
        let results: Vec<_> = attempts.iter().map(|attempt| attempt.result).collect();
        assert_eq!(results, [Err(DialError::Refused), Ok(())]);
    }
}
