//! A pair in the engine of which at least one leg is TLS of ours.
//!
//! ```text
//! recv ─ records ─▶ decrypt ─▶ the other leg's records (or its bytes) ─▶ send
//!                                   └─ would block ─▶ kept; nothing is read until it went out
//! ```

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustls::Connection;

use super::carried::Carried;
use super::pair::{BUFFER, READABLE, Turn};
use super::source::Source;
use crate::handshake::{Close, Side};
use crate::net::guard::{Guard, Totals};

/// Two legs and the flows between them.
pub(super) struct TlsPair {
    client: End,
    server: End,
    up: Flow,
    down: Flow,
    first: Option<(Side, Close)>,
    guard: Box<dyn Guard>,
}

/// One leg.
struct End {
    socket: OwnedFd,
    tls: Option<Box<Connection>>,
    /// Bytes of the protocol that a leg in clear has not taken yet.
    waiting: Vec<u8>,
    sent: usize,
    source: Source,
    /// What the socket is watched for.
    watched: EventFlags,
    /// A record could not be read, which is told when what came before it was carried.
    broken: Option<io::ErrorKind>,
    /// Nothing more comes.
    ended: bool,
    /// The socket is closed both ways.
    hung: bool,
    /// It can't be written to.
    gone: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    bytes: u64,
    done: bool,
}

impl std::fmt::Debug for TlsPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsPair").field("up", &self.up).field("down", &self.down).finish_non_exhaustive()
    }
}

/// How a flow's step ended.
enum Moved {
    /// Something was carried.
    Some,
    /// Nothing to carry, or no room.
    Nothing,
}

impl TlsPair {
    pub(super) fn new(client: Carried, server: Carried, guard: Box<dyn Guard>) -> Self {
        let (up, down) = (Flow::default(), Flow::default());
        let (client, server) = (End::new(client), End::new(server));
        Self { client, server, up, down, first: None, guard }
    }

    pub(super) fn sockets(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.client.socket.as_fd(), self.server.socket.as_fd())
    }

    /// Notes what an event said about one of the sockets.
    pub(super) fn note(&mut self, side: Side, flags: EventFlags) {
        let end = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        end.hung |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
        end.source.note(flags);
        end.gone |= end.ended && end.hung;
    }

    /// Carries what can be carried now, within bounds.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> Turn {
        for _ in 0..ROUNDS {
            let up = self.step(Side::Client, buffer);
            let down = self.step(Side::Server, buffer);
            if self.up.done && self.down.done {
                return Turn::Ended;
            }
            if matches!((up, down), (Moved::Nothing, Moved::Nothing)) {
                return Turn::Idle;
            }
        }
        Turn::Again
    }

    /// The next socket that has to be watched for something else from now on, for which side it is, and for what.
    pub(super) fn next_change(&mut self) -> Option<(Side, BorrowedFd<'_>, EventFlags)> {
        for (side, end) in [(Side::Client, &mut self.client), (Side::Server, &mut self.server)] {
            let flags = if end.source.bulk.wants_events() { WATCHED } else { WATCHED - EventFlags::IN };
            if std::mem::replace(&mut end.watched, flags) != flags {
                return Some((side, end.socket.as_fd(), flags));
            }
        }
        None
    }

    /// Whether a leg rests.
    pub(super) fn rests(&self) -> bool {
        self.client.source.bulk.rests() || self.server.source.bulk.rests()
    }

    /// The rest is over.
    pub(super) fn wake(&mut self) {
        self.client.source.bulk.wake();
        self.server.source.bulk.wake();
    }

    fn step(&mut self, side: Side, buffer: &mut [u8]) -> Moved {
        let (flow, from, to) = match side {
            Side::Client => (&mut self.up, &mut self.client, &mut self.server),
            Side::Server => (&mut self.down, &mut self.server, &mut self.client),
        };
        if flow.done {
            return Moved::Nothing;
        }
        match to.flush() {
            Ok(true) => {}
            Ok(false) => return Moved::Nothing,
            Err(_) => to.gone = true,
        }
        if to.gone {
            flow.done = true;
            self.first.get_or_insert((side.other(), Close::Reset));
            return Moved::Some;
        }
        let count = match from.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Nothing,
            Err(_) => {
                // Broken records, or a reset: neither direction can go on.
                from.alert();
                self.first.get_or_insert((side, Close::Reset));
                (self.up.done, self.down.done) = (true, true);
                return Moved::Some;
            }
        };
        if count == 0 && !from.ended {
            return Moved::Some;
        }
        if count == 0 {
            // Reading finds no error where the last word came before the reset: it finds the end.
            from.gone |= from.hung;
            flow.done = true;
            to.finish();
            self.first.get_or_insert((side, Close::Eof));
            return Moved::Some;
        }
        flow.bytes += count as u64;
        to.source.bulk.interrupt();
        // A failure shows itself at the next flush.
        to.write(buffer.get(..count).unwrap_or_default());
        Moved::Some
    }

    /// Closes both sockets and tells the guard.
    pub(super) fn end(self) {
        let totals = Totals { client_bytes: self.up.bytes, server_bytes: self.down.bytes, first: self.first };
        drop((self.client, self.server));
        self.guard.ended(totals);
    }
}

impl End {
    fn new(carried: Carried) -> Self {
        let (socket, tls) = match carried {
            Carried::Plain(socket) => (socket, None),
            Carried::Tls(socket, mut tls) => {
                // What is given to it at once is bounded by our own buffer.
                tls.set_buffer_limit(None);
                (socket, Some(tls))
            }
        };
        Self {
            socket,
            tls,
            waiting: Vec::new(),
            sent: 0,
            source: Source::unread(),
            watched: WATCHED,
            broken: None,
            ended: false,
            hung: false,
            gone: false,
        }
    }

    /// Puts what came, in clear, at the front of `buffer`: as much as is here already, within bounds. `Ok(0)` at
    /// the end, or where records carried nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let count = self.source.receive(self.socket.as_fd(), buffer)?;
            self.ended |= count == 0;
            return Ok(count);
        };
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        let (plain, records) = buffer.split_at_mut(buffer.len().saturating_sub(RECORDS));
        let mut got = 0;
        // What the handshake has left comes first.
        let mut opened = drain(tls, plain, &mut got);
        if got == 0 && matches!(opened, Ok(Reader::Open)) {
            let count = self.source.receive(self.socket.as_fd(), records)?;
            opened = open(tls, records.get(..count).unwrap_or_default(), plain, &mut got);
        }
        match opened {
            Err(error) if got == 0 => return Err(error),
            // What came before it is carried first.
            Err(error) => self.broken = Some(error.kind()),
            // The end is there again when what came before it was carried.
            Ok(reader) => self.ended = got == 0 && matches!(reader, Reader::Ended),
        }
        if tls.wants_write() {
            // TLS has an answer of its own to what came: no_renegotiation, or new keys.
            let _ = self.flush();
        }
        Ok(got)
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => {
                if tls.writer().write_all(bytes).is_err() {
                    self.gone = true;
                }
            }
            None => match send(self.socket.as_fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) if count == bytes.len() => return,
                Ok(count) => self.waiting.extend_from_slice(bytes.get(count..).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => self.waiting.extend_from_slice(bytes),
                Err(_) => self.gone = true,
            },
        }
        if self.flush().is_err() {
            self.gone = true;
        }
    }

    /// Sends what waits; true when nothing does any more.
    fn flush(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                match tls.write_tls(&mut Out(self.socket.as_fd())) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(self.socket.as_fd(), rest, SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.sent > 0 {
            // A leg that caught up holds no buffer.
            self.waiting = Vec::new();
            self.sent = 0;
        }
        Ok(true)
    }

    /// The other end says no more: so do we.
    fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        // A receiver that is already gone can't be told, and does not need to be.
        let _ = self.flush();
        let _ = shutdown(self.socket.as_fd(), Shutdown::Write);
    }

    /// Sends the alert that a broken record has caused.
    fn alert(&mut self) {
        let _ = self.flush();
    }
}

/// What more there is to read of a TLS session.
enum Reader {
    Open,
    Ended,
}

/// Decrypts records, or the end where there are none, and puts what was in them behind what was `got`.
fn open(tls: &mut Connection, mut records: &[u8], plain: &mut [u8], got: &mut usize) -> io::Result<Reader> {
    loop {
        // rustls takes no more records while it holds 16 KiB of what was in them.
        tls.read_tls(&mut records)?;
        let processed = tls.process_new_packets().map_err(io::Error::other);
        let reader = drain(tls, plain, got)?;
        processed?;
        // What comes behind a close_notify is not read (RFC 8446, 6.1).
        if records.is_empty() || matches!(reader, Reader::Ended) {
            return Ok(reader);
        }
    }
}

/// Takes what was decrypted.
fn drain(tls: &mut Connection, plain: &mut [u8], got: &mut usize) -> io::Result<Reader> {
    loop {
        match tls.reader().read(plain.get_mut(*got..).unwrap_or_default()) {
            Ok(0) => return Ok(Reader::Ended),
            Ok(count) => *got += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Reader::Open),
            // An end without close_notify: PostgreSQL's clients leave like that, and the protocol
            // inside has its own Terminate.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Reader::Ended),
            Err(error) => return Err(error),
        }
    }
}

/// A socket to write records to.
struct Out<'a>(BorrowedFd<'a>);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        // Rust's runtime ignores SIGPIPE, so this fails as `send` does.
        Ok(rustix::io::writev(self.0, records)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS may hold bytes that no event of a socket will tell of: writability wakes us once, at the beginning.
pub(super) const WATCHED: EventFlags = READABLE.union(EventFlags::OUT);

/// Steps in one turn before the other pairs of the thread get theirs.
const ROUNDS: usize = 8;

/// Received at once under TLS: four full records.
const RECORDS: usize = 64 * 1024;

// What is decrypted has room: all records that came, and the part of one that was there.
const _: () = assert!(BUFFER >= 3 * RECORDS);
