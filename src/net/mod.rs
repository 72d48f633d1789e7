//! The net room: listens, dials, carries bytes, and shows the handshake to the observer.
//!
//! ```text
//! listener ─▶ session (tokio): first bytes ─▶ dial ─▶ watch: carry, then look ─▶ Attempt ─▶ Sink
//!                                                      │ logged in, or opaque
//!                                                      ▼
//!                                             engine: one epoll a thread
//! ```
//!
//! It interprets no more than the first packet's kind and what the observer says. Carry first, look
//! second: no observer, sink or limit delays a byte that was accepted.

mod buffers;
mod cancel;
mod dial;
mod endpoint;
#[cfg_attr(any(not(target_os = "linux"), feature = "portable-engine"), path = "engine_portable.rs")]
pub mod engine;
mod first_tries;
mod legs;
mod limits;
mod listener;
mod proxy;
mod sasl;
mod session;
mod tls;
mod trial;
mod watch;

use std::time::{Duration, SystemTime};

pub use dial::{DialAttempt, DialError};
pub use endpoint::{Listen, PeerAddr, Upstream, UpstreamHost};
pub use limits::{Limits, Which, open_files};
pub use proxy::{Config, Proxy, ProxyHandle, StartError};
pub use tls::{ClientTls, Identity, IdentityError, Login, OwnTls, Roots, RootsError, ServerTls, TlsConfig};

use crate::handshake::{Chunk, Close, Record, Side};

/// Where a chunk was said. The legs differ where pgwhy logs in to the server on its own part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// On both.
    Both,
    /// Between the client and us.
    Client,
    /// Between us and the server.
    Server,
}

/// Gets what the proxy saw. Called from the threads that carry bytes: it must never wait.
pub trait Sink: Send + Sync + 'static {
    /// A client's connection came to its verdict; called once for each.
    fn attempt(&self, attempt: Attempt);

    /// TLS was opened: the chunks so far were its outside, and the conversation begins anew.
    fn opened(&self, id: u64) {
        let _ = id;
    }

    /// A connection that had logged in (or become opaque), or failed to, has ended.
    fn closed(&self, closed: Closed) {
        let _ = closed;
    }

    /// A chunk that was just carried on, before the observer sees it: for captures. It may hold
    /// secrets. Chunks end with the attempt, unless the sink wants sessions. The observer sees what is
    /// said on the client's leg; what is on the server's alone comes only here.
    fn chunk(&self, id: u64, chunk: Chunk<'_>, on: On) {
        let _ = (id, chunk, on);
    }

    /// Whether the chunks of sessions that are logged in are wanted too. They are then carried where
    /// their bytes can be seen, which is slower.
    fn wants_sessions(&self) -> bool {
        false
    }
}

/// One client connection, from accept to verdict.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Unique in this process, counting up from 1.
    pub id: u64,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The listener it came to.
    pub listener: PeerAddr,
    /// The client.
    pub client: PeerAddr,
    /// The server that was reached.
    pub server: Option<PeerAddr>,
    /// Our own end of the connection to the server: its log and pg_hba know the client by this.
    pub our_outgoing: Option<PeerAddr>,
    /// What was tried to reach the server, in order.
    pub dials: Vec<DialAttempt>,
    /// What the observer saw.
    pub record: Record,
    /// How the attempt ended.
    pub ending: Ending,
    /// The client's SSLRequest or GSSENCRequest was answered by us ([`ClientTls::Disable`]).
    pub ssl_answered_by_us: bool,
    /// From accept to this report.
    pub elapsed: Duration,
    /// Set with [`Ending::Opaque`].
    pub opaque: Option<OpaqueFacts>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// ReadyForQuery was seen.
    Ready,
    /// The login failed visibly.
    Failed,
    /// The rest is encrypted and passes through.
    Opaque,
    /// A side closed before there was a verdict; the record says which and where.
    Closed,
    /// The client closed without having sent a byte.
    Silent,
    /// An HTTP request.
    Http,
    /// The first packet has a length that no such packet may have.
    Malformed {
        /// The length word as sent.
        length: u32,
    },
    /// The client began TLS although it was (or would have been) told that there is none.
    TlsRefused,
    /// Bytes came in clear behind an SSLRequest or GSSENCRequest that we answered.
    PlaintextInjected {
        /// How many.
        bytes: usize,
    },
    /// No server could be reached; `dials` says why.
    NoServer,
    /// A limit was reached; the client was told so.
    Limit {
        /// Which.
        which: Which,
        /// Its value.
        value: usize,
    },
    /// The login deadline passed.
    Deadline,
    /// The proxy was stopped.
    Shutdown,
    /// A cancel request.
    Cancel {
        /// Its key is one that passed through here.
        known: bool,
        /// A server got it.
        delivered: bool,
    },
}

/// What can be seen of a connection whose bytes are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueFacts {
    /// Bytes from the client up to now.
    pub client_bytes: u64,
    /// Bytes from the server up to now.
    pub server_bytes: u64,
    /// Who closed first, how, and when after accept; `None` while the connection is up.
    pub closed: Option<(Side, Close, Duration)>,
}

/// The end of a connection whose attempt was reported as [`Ending::Ready`], [`Ending::Opaque`] or
/// [`Ending::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The attempt's id.
    pub id: u64,
    /// Bytes from the client over the whole connection.
    pub client_bytes: u64,
    /// Bytes from the server over the whole connection.
    pub server_bytes: u64,
    /// Who stopped first, and how; `None` if we closed it.
    pub first: Option<(Side, Close)>,
    /// From accept to the end; of a login that failed, to the first close.
    pub elapsed: Duration,
    /// The login failed: this is the end of its goodbyes.
    pub failed: bool,
}

/// Is told when a pair of sockets in the engine ended.
pub trait Guard: Send + 'static {
    /// The pair is over; both sockets are already closed.
    fn ended(self: Box<Self>, totals: Totals);
}

/// What the engine carried between one pair of sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes from the client to the server.
    pub client_bytes: u64,
    /// Bytes from the server to the client.
    pub server_bytes: u64,
    /// Who stopped first, and how; `None` if we closed the pair.
    pub first: Option<(Side, Close)>,
}
