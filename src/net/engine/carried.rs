//! A leg on its way out of the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio_rustls::TlsStream;

use crate::net::endpoint::{Socket, Stream};

/// What the engine carries of a leg. Its socket is nonblocking.
#[derive(Debug)]
pub(super) enum Carried {
    /// The socket's bytes are the protocol's.
    Plain(OwnedFd),
    /// They are TLS records.
    Tls(OwnedFd, Box<rustls::Connection>),
}

impl Carried {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        let stream = match stream {
            Stream::Plain(socket) => return Ok(Self::Plain(descriptor(socket)?)),
            Stream::Tls(stream) => *stream,
        };
        let (ahead, connection) = match stream {
            TlsStream::Client(stream) => {
                let (ahead, connection) = stream.into_inner();
                (ahead, rustls::Connection::Client(connection))
            }
            TlsStream::Server(stream) => {
                let (ahead, connection) = stream.into_inner();
                (ahead, rustls::Connection::Server(connection))
            }
        };
        Ok(Self::Tls(descriptor(ahead.socket)?, Box::new(connection)))
    }
}

fn descriptor(socket: Socket) -> io::Result<OwnedFd> {
    Ok(match socket {
        Socket::Tcp(stream) => stream.into_std()?.into(),
        Socket::Unix(stream) => stream.into_std()?.into(),
    })
}
