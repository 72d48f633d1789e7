//! What an engine tells of a pair of sockets.

use crate::handshake::{Close, Side};

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
