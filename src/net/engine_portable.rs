//! The engine where there is no epoll: the same surface over tasks of tokio's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::endpoint::Stream;
use super::guard::{Guard, Totals};
use crate::handshake::{Close, Side};

/// A set of relay tasks on the calling runtime.
#[derive(Debug)]
pub struct Engine {
    pairs: Arc<AtomicUsize>,
    generation: watch::Sender<u64>,
}

impl Engine {
    /// The threads are the runtime's, so their number is not ours to choose here.
    pub fn start(_threads: usize) -> std::io::Result<Self> {
        Ok(Self { pairs: Arc::default(), generation: watch::Sender::new(0) })
    }

    /// Takes over a pair of legs; must be called inside a tokio runtime.
    pub(super) fn add(&self, client: Stream, server: Stream, guard: Box<dyn Guard>) -> std::io::Result<()> {
        let pairs = Arc::clone(&self.pairs);
        let mut generation = self.generation.subscribe();
        pairs.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
            let first = tokio::select! {
                first = both(client, server, (&up, &down)) => Some(first),
                _ = generation.changed() => None,
            };
            pairs.fetch_sub(1, Ordering::Relaxed);
            guard.ended(Totals { client_bytes: up.into_inner(), server_bytes: down.into_inner(), first });
        });
        Ok(())
    }

    /// How many pairs are carried now.
    pub fn pairs(&self) -> usize {
        self.pairs.load(Ordering::Relaxed)
    }

    /// Closes every pair that is carried now.
    pub fn close_all(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    /// The sender has said its last word.
    Whole,
    /// The sender is gone altogether: nothing can be written to it either.
    SenderGone,
    /// The receiver is gone: what it sent before may still be read.
    ReceiverGone,
}

impl Carried {
    /// Who stopped, and how, in the direction that begins at `side`.
    fn stop(self, side: Side) -> (Side, Close) {
        match self {
            Self::Whole => (side, Close::Eof),
            Self::SenderGone => (side, Close::Reset),
            Self::ReceiverGone => (side.other(), Close::Reset),
        }
    }
}

/// Carries both directions until both have ended; says who stopped first.
async fn both(client: Stream, server: Stream, (up, down): (&AtomicU64, &AtomicU64)) -> (Side, Close) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let mut up = std::pin::pin!(carry(from_client, to_server, up));
    let mut down = std::pin::pin!(carry(from_server, to_client, down));
    tokio::select! {
        first = &mut up => {
            if first != Carried::SenderGone {
                down.await;
            }
            first.stop(Side::Client)
        }
        first = &mut down => {
            if first != Carried::SenderGone {
                up.await;
            }
            first.stop(Side::Server)
        }
    }
}

/// Carries what one side says.
async fn carry(mut from: ReadHalf<Stream>, mut to: WriteHalf<Stream>, carried: &AtomicU64) -> Carried {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => {
                // A receiver that is already gone can't be told, and does not need to be.
                let _ = to.shutdown().await;
                return Carried::Whole;
            }
            Ok(count) => count,
            Err(_) => return Carried::SenderGone,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return Carried::ReceiverGone;
        }
        carried.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Read at once in each direction.
const BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::super::endpoint::Socket;
    use super::*;

    /// A leg, and the other end of it.
    fn leg() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::Plain(Socket::Unix(tokio::net::UnixStream::from_std(ours).unwrap())), theirs)
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_went_is_carried_whichever_direction_comes_first() {
        // Which one that is chance decides.
        for _ in 0..50 {
            let ((client, mut user), (server, mut backend)) = (leg(), leg());
            backend.write_all(b"FATAL").unwrap();
            drop(backend);
            user.write_all(b"a query").unwrap();
            let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
            user.shutdown(std::net::Shutdown::Write).unwrap();
            both(client, server, (&up, &down)).await;
            let mut heard = Vec::new();
            user.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, b"FATAL");
        }
    }
}
