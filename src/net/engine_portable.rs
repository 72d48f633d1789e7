//! The engine where there is no epoll: the same surface over tokio's own copy loop.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::endpoint::Stream;
use super::{Guard, Totals};

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

    /// Takes over a pair of nonblocking sockets; must be called inside a tokio runtime.
    pub fn add(&self, client: OwnedFd, server: OwnedFd, guard: Box<dyn Guard>) -> std::io::Result<()> {
        let (mut client, mut server) = (adopt(client)?, adopt(server)?);
        let pairs = Arc::clone(&self.pairs);
        let mut generation = self.generation.subscribe();
        pairs.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let copied = tokio::select! {
                copied = tokio::io::copy_bidirectional(&mut client, &mut server) => copied.unwrap_or_default(),
                _ = generation.changed() => (0, 0),
            };
            drop((client, server));
            pairs.fetch_sub(1, Ordering::Relaxed);
            guard.ended(Totals { client_bytes: copied.0, server_bytes: copied.1, first: None });
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

fn adopt(fd: OwnedFd) -> std::io::Result<Stream> {
    let is_unix = rustix::net::getsockname(&fd)?.address_family() == rustix::net::AddressFamily::UNIX;
    Ok(if is_unix {
        Stream::Unix(UnixStream::from_std(fd.into())?)
    } else {
        Stream::Tcp(TcpStream::from_std(fd.into())?)
    })
}
