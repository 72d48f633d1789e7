//! What no real driver or server does: clients that speak bytes of our own, and listeners that are no
//! PostgreSQL, or break off.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::DEADLINE;

/// A connection on which a test speaks the protocol by hand.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

/// Protocol 3.0's version word.
pub const V3: u32 = 196_608;

impl Wire {
    /// Connects.
    pub fn connect(addr: SocketAddr) -> Result<Self> {
        Ok(Self::over(TcpStream::connect(addr)?))
    }

    /// Speaks over a connection that was accepted.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a startup packet.
    pub fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) -> Result<()> {
        self.send(&startup(version, parameters))
    }

    /// Sends a typed message.
    pub fn message(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        self.send(&message(kind, body))
    }

    /// Reads exactly so many bytes.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one typed message.
    pub fn read_message(&mut self) -> Result<(u8, Vec<u8>)> {
        let head = self.read(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        Ok((head[0], self.read(length.saturating_sub(4))?))
    }

    /// Reads messages until one of this kind; an ErrorResponse on the way is an error.
    pub fn read_until(&mut self, kind: u8) -> Result<Vec<u8>> {
        loop {
            let (seen, body) = self.read_message()?;
            if seen == kind {
                return Ok(body);
            }
            if seen == b'E' {
                return Err(Error::new(
                    ErrorKind::PermissionDenied,
                    String::from_utf8_lossy(&body).replace('\0', " "),
                ));
            }
        }
    }

    /// Reads a packet that has no type byte: the first ones of a client.
    pub fn read_packet(&mut self) -> Result<Vec<u8>> {
        let length = u32::from_be_bytes(self.read(4)?.try_into().expect("four bytes")) as usize;
        self.read(length.saturating_sub(4))
    }

    /// Waits for the other side to close; errors other than a reset are errors.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Ok(_) => Ok(all),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(all),
            Err(error) => Err(error),
        }
    }

    /// Ends our direction only.
    pub fn half_close(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends our direction and waits for the other's end: closing with unread bytes would reset the
    /// connection and could lose what was sent.
    pub fn end(&mut self) -> Result<()> {
        self.half_close()?;
        self.read_to_end().map(drop)
    }

    /// Logs in without a password and waits for ReadyForQuery.
    pub fn log_in_by_trust(addr: SocketAddr, user: &str, database: &str) -> Result<Self> {
        let mut wire = Self::connect(addr)?;
        wire.startup(V3, &[("user", user), ("database", database)])?;
        wire.read_until(b'Z')?;
        Ok(wire)
    }
}

/// The bytes of a startup packet.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (key, value) in parameters {
        for text in [key, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    packet(&body)
}

/// The bytes of a packet without a type byte.
pub fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a small packet");
    [&length.to_be_bytes(), body].concat()
}

/// The bytes of a typed message.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], packet(body).as_slice()].concat()
}

/// SSLRequest.
pub const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
/// GSSENCRequest.
pub const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

/// The body of an ErrorResponse as a PostgreSQL backend writes it.
pub fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0Fauth.c\0L1\0Rrow\0\0");
    message(b'E', fields.as_bytes())
}

/// What an upstream that is no real server does with one connection.
pub type Behaviour = fn(&mut Wire) -> Result<()>;

/// A listener on loopback that treats every connection alike.
#[derive(Debug)]
pub struct FakeServer {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl FakeServer {
    /// Starts listening.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // Whether the peer still listens at the end is the row's business, not ours.
                std::thread::spawn(move || behaviour(&mut Wire::over(stream)));
            }
        });
        Self { addr, stop }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept so that it sees the flag.
        let _ = TcpStream::connect(self.addr);
    }
}

/// A port that leads to a server's, from another address: what NAT and containers' published ports do.
#[derive(Debug)]
pub struct Forwarder {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Forwarder {
    /// Connections go on to `port` on 127.0.0.1 and come from `source`.
    pub fn start(port: u16, source: [u8; 4]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let far = connect_from(source.into(), SocketAddr::from(([127, 0, 0, 1], port)));
                for (mut from, mut to) in [
                    (near.try_clone().expect("a descriptor"), far.try_clone().expect("a descriptor")),
                    (far, near),
                ] {
                    std::thread::spawn(move || {
                        // Either side may be gone; the other is told by the end of the stream.
                        let _ = std::io::copy(&mut from, &mut to);
                        to.shutdown(Shutdown::Write)
                    });
                }
            }
        });
        Self { addr, stop }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept so that it sees the flag.
        let _ = TcpStream::connect(self.addr);
    }
}

fn connect_from(source: std::net::Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&fd, &SocketAddr::from((source, 0))).expect("an address of loopback");
    connect(&fd, &to).expect("the server listens");
    fd.into()
}
