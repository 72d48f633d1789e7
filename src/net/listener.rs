//! Listening sockets: TCP and Unix, with stale socket files replaced and ours removed.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, UnixListener};

use super::endpoint::{Listen, PeerAddr, Socket};

/// A socket that accepts clients.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    pub(super) fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(addr) => {
                let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.bind(*addr)?;
                Ok(Self::Tcp(socket.listen(BACKLOG)?))
            }
            Listen::Unix(path) => {
                clear_stale(path)?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile { identity: identity(path), path: path.clone() };
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The address really bound.
    pub(super) fn addr(&self) -> io::Result<PeerAddr> {
        Ok(match self {
            Self::Tcp(listener) => PeerAddr::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => PeerAddr::Unix(Some(Arc::from(file.path.as_path()))),
        })
    }

    /// The next client; an error is a moment's trouble of this process and never the end.
    /// `told` is when it was last said: descriptors come and go many times in a second.
    pub(super) async fn accept(&self, told: &mut Option<Instant>) -> (Socket, PeerAddr) {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => {
                    listener.accept().await.map(|(stream, addr)| (Socket::Tcp(stream), PeerAddr::Tcp(addr)))
                }
                Self::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (Socket::Unix(stream), PeerAddr::Unix(None)))
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    stream.tune();
                    return (stream, peer);
                }
                // The client left while it was in the queue: the next one may be there already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > ACCEPT_TOLD) {
                        *told = Some(Instant::now());
                        tracing::warn!(
                            error = %error,
                            "accept failed: clients wait (too many open files: raise ulimit -n, or lower --max-connections)"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A Unix socket's file: removed when we are done with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another socket there meanwhile: that one is not ours to remove.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Removes a socket file that nothing answers on; anything else there is left alone.
fn clear_stale(path: &Path) -> io::Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Clients that may wait for their accept: a pool that reconnects all at once fits in.
const BACKLOG: u32 = 1024;

/// The pause after a failed accept: out of descriptors, for example. Short enough to go unnoticed,
/// long enough not to burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often failed accepts are told.
const ACCEPT_TOLD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_a_live_one_and_a_plain_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.5432");
        let listen = Listen::Unix(path.clone());

        std::fs::write(&path, "not a socket").unwrap();
        assert_eq!(Listener::bind(&listen).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_file(&path).unwrap();

        // Dropping std's listener leaves its file behind: that is how stale ones come about.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = Listener::bind(&listen).unwrap();
        assert_eq!(Listener::bind(&listen).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "our own file is removed");
    }

    #[tokio::test]
    async fn a_file_that_is_another_socket_by_now_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let ours = Listener::bind(&Listen::Unix(path.clone())).unwrap();
        std::fs::remove_file(&path).unwrap();
        // Keep the inode of the first in use, so that the second can't get the same number.
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let kept = identity(&path);
        let Listener::Unix(_, file) = &ours else { panic!("a Unix listener was asked for") };
        if file.identity == kept {
            return; // The file system gave the same inode number again: nothing can be told apart.
        }
        drop(ours);
        assert!(path.exists());
    }
}
