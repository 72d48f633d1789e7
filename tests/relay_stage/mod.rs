//! A proxy, a listener that plays the server, and what was reported, for the relay's tests.
#![allow(dead_code)] // Each test binary uses its own part.

#[allow(unreachable_pub)] // It belongs to the other tests' support.
#[path = "../support/port.rs"]
pub(crate) mod port;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use pgwhy::net::{
    Attempt, ClientTls, Closed, Config, Ending, Limits, Listen, PeerAddr, Proxy, ProxyHandle, Sink,
    TlsConfig, Upstream, UpstreamHost,
};

/// Longer than any event here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A startup packet for user `u`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";

/// AuthenticationOk, a ParameterStatus that says what kind of server this is, BackendKeyData, ReadyForQuery.
pub(crate) const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x17in_hot_standby\0off\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";

/// The CancelRequest for the key in [`WELCOME`].
pub(crate) const CANCEL: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09";

pub(crate) const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

struct Channels(Sender<Attempt>, Sender<Closed>);

impl Sink for Channels {
    fn attempt(&self, attempt: Attempt) {
        let _ = self.0.send(attempt);
    }

    fn closed(&self, closed: Closed) {
        let _ = self.1.send(closed);
    }
}

pub(crate) struct Stage {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) handle: ProxyHandle,
    pub(crate) server: TcpListener,
    attempts: Receiver<Attempt>,
    closes: Receiver<Closed>,
}

pub(crate) fn host(addr: SocketAddr) -> UpstreamHost {
    UpstreamHost { name: addr.ip().to_string(), hostaddr: None, port: addr.port() }
}

impl Stage {
    pub(crate) fn new(tune: impl FnOnce(&mut Config)) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config {
            listen: vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())],
            upstream: Upstream {
                hosts: vec![host(server.local_addr().unwrap())],
                connect_timeout: Some(PATIENCE),
            },
            tls: TlsConfig { client: ClientTls::Passthrough, ..TlsConfig::default() },
            limits: Limits {
                connections: 1_000,
                unfinished: 1_000,
                unfinished_per_address: 1_000,
                login_deadline: PATIENCE,
            },
            relay_threads: 2,
        };
        tune(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ((attempt, attempts), (closed, closes)) = (channel(), channel());
        let inside = runtime.enter();
        let handle = Proxy::run(config, Arc::new(Channels(attempt, closed))).unwrap();
        drop(inside);
        Self { runtime, handle, server, attempts, closes }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.handle.addrs()[0] {
            PeerAddr::Tcp(addr) => *addr,
            other => panic!("{other} is not TCP"),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.addr()).unwrap())
    }

    #[track_caller]
    pub(crate) fn accept(&self) -> TcpStream {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut watched = [PollFd::new(&self.server, PollFlags::IN)];
        assert_eq!(poll(&mut watched, Some(&limit)).unwrap(), 1, "the server is dialled");
        patient(self.server.accept().unwrap().0)
    }

    /// A logged-in pair: what the client holds and what the server holds.
    #[track_caller]
    pub(crate) fn login(&self) -> (TcpStream, TcpStream) {
        let mut client = self.connect();
        client.write_all(STARTUP).unwrap();
        let mut server = self.accept();
        assert_eq!(take(&mut server, STARTUP.len()), STARTUP);
        server.write_all(WELCOME).unwrap();
        assert_eq!(take(&mut client, WELCOME.len()), WELCOME);
        assert_eq!(self.attempt().ending, Ending::Ready);
        (client, server)
    }

    #[track_caller]
    pub(crate) fn attempt(&self) -> Attempt {
        self.attempts.recv_timeout(PATIENCE).expect("an attempt is reported")
    }

    #[track_caller]
    pub(crate) fn closed(&self) -> Closed {
        self.closes.recv_timeout(PATIENCE).expect("the end is reported")
    }

    /// Nothing has reached the server.
    #[track_caller]
    pub(crate) fn assert_not_dialled(&self) {
        self.server.set_nonblocking(true).unwrap();
        assert_eq!(self.server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        self.server.set_nonblocking(false).unwrap();
    }

    #[track_caller]
    pub(crate) fn assert_ends(&self) {
        let ended = async { tokio::time::timeout(PATIENCE, self.handle.ended()).await };
        self.runtime.block_on(ended).expect("the proxy ends");
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
pub(crate) fn take(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Everything up to the end of the stream; a reset counts as an end.
#[track_caller]
pub(crate) fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("{error}"),
    }
}

/// The next close of this socket resets the connection.
pub(crate) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// A small generator: the same bytes on every run, and no two positions alike.
pub(crate) struct Stream(pub(crate) u64);

impl Stream {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
