//! The observer: chunks of bytes from both sides become a ladder of steps and one record.
//!
//! It has no socket and no clock: time is data that comes with every chunk. It accepts any bytes,
//! never panics and never fails; broken input is what it is there to see. However the same bytes
//! are cut into chunks, the record is the same.

use std::time::Duration;

pub mod driver;
pub mod ladder;
mod observer;
pub mod opened;
pub mod record;

pub use observer::Observer;
pub use record::{Record, Step};

/// Which end of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The application (or its driver).
    Client,
    /// The database (or the pooler in front of it).
    Server,
}

impl Side {
    /// The one at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Bytes as they came: the one value that sockets, captures, tests and fuzzers all produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Time since the client's connection was accepted.
    pub at: Duration,
    /// Who sent the bytes.
    pub from: Side,
    /// The bytes themselves; any cutting is fine.
    pub bytes: &'a [u8],
}

/// How one direction of the connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// An orderly end of stream (FIN).
    Eof,
    /// The connection was reset, or a read or write on it failed.
    Reset,
    /// We ended it: the login deadline passed.
    Deadline,
    /// We ended it: the proxy is shutting down.
    Shutdown,
}

/// Whether the observer still needs to see bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attention {
    /// The handshake goes on: feed every chunk.
    Watching,
    /// The login failed visibly; what follows is only the teardown.
    Failed,
    /// ReadyForQuery was seen: the login succeeded, bytes need not be looked at any more.
    Ready,
    /// ReadyForQuery was seen, from a server that may not be of the kind that the client wants: its
    /// next message tells, if it comes within [`record::MOMENT`].
    Settling,
    /// The rest is encrypted (TLS or GSS passed through) and both sides have sent encrypted data:
    /// nothing but size, timing and who closes can still be seen.
    Opaque,
    /// A CancelRequest was sent; there is no login here.
    Cancel,
}
