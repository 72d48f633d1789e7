//! The relay of the handshake phase: carries each chunk on, then shows it to the observer.
//!
//! Both directions run in one task and neither waits for the other: a direction reads only when what
//! it read before is written, so a stalled reader stops its own sender and nobody else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::handshake::{Attention, Chunk, Close, Observer, Side};

use super::attempt::{On, Sink};
use super::buffers::Buffers;
use super::endpoint::Stream;
use super::shared::Registry;

/// Both directions of a connection that is watched, and the observer.
pub(super) struct Watch<'a> {
    pub(super) up: Leg<'a>,
    pub(super) down: Leg<'a>,
    /// Who stopped first, how and when.
    pub(super) first: Option<(Side, Close, Duration)>,
    pub(super) observer: Observer,
    accepted: Instant,
    id: u64,
    sink: &'a dyn Sink,
    /// Off while what was read is to be written before the sockets change hands.
    reading: bool,
    told: Told,
    /// Where what is looked at is said.
    on: On,
    /// When the server got the first bytes, where that was before they are looked at.
    first_sent: Option<Duration>,
}

/// Whether the attempt was reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
    /// It was, and the session that follows is shown too.
    Session,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Leg<'a> {
    pool: &'a Buffers,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// So much of the buffer may hold what somebody said.
    used: usize,
    /// Bytes written on.
    pub(super) bytes: u64,
    eof: bool,
    over: bool,
    /// TLS may still hold what was written.
    unflushed: bool,
}

/// Why carrying paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The observer's attention is no longer what it was.
    Attention(Attention),
    /// What was waited for has come.
    Enough,
    /// Both directions came to their end.
    Over,
}

impl<'a> Watch<'a> {
    pub(super) fn new(id: u64, accepted: Instant, registry: &'a Registry) -> Self {
        let (up, down) = (Leg::new(&registry.buffers), Leg::new(&registry.buffers));
        let sink = &*registry.sink;
        let observer = Observer::new();
        Self {
            up,
            down,
            first: None,
            observer,
            accepted,
            id,
            sink,
            reading: true,
            told: Told::No,
            on: On::Both,
            first_sent: None,
        }
    }

    /// Carries both directions until the observer's attention changes or both are over.
    pub(super) async fn carry(&mut self, client: &mut Stream, server: &mut Stream) -> Pause {
        self.carry_until(client, server, |_| false).await
    }

    /// As [`Watch::carry`]; pauses when one of them has ended, too.
    pub(super) async fn carry_login(&mut self, client: &mut Stream, server: &mut Stream) -> Pause {
        self.carry_until(client, server, |watch| watch.up.over != watch.down.over).await
    }

    /// As [`Watch::carry`]; pauses when the server has ended, too.
    pub(super) async fn until_refused(&mut self, client: &mut Stream, server: &mut Stream) {
        self.carry_until(client, server, |watch| watch.down.over).await;
    }

    /// As [`Watch::carry`]; pauses when the server says something or the client has ended, too.
    pub(super) async fn until_answer(&mut self, client: &mut Stream, server: &mut Stream) {
        let said = self.down.bytes;
        self.carry_until(client, server, |watch| watch.down.bytes > said || watch.up.over).await;
    }

    async fn carry_until(
        &mut self,
        client: &mut Stream,
        server: &mut Stream,
        enough: impl Fn(&Self) -> bool,
    ) -> Pause {
        let before = self.observer.attention();
        self.reading = true;
        std::future::poll_fn(|context| match self.poll_carry(context, client, server, before) {
            Poll::Pending if enough(self) => Poll::Ready(Pause::Enough),
            pause => pause,
        })
        .await
    }

    /// Whether the client has said its last word and the server has not.
    pub(super) fn is_left(&self) -> bool {
        self.up.over && !self.down.over
    }

    /// Writes what was read; then nothing is left in our hands.
    pub(super) async fn flush(&mut self, client: &mut Stream, server: &mut Stream) {
        let before = self.observer.attention();
        std::future::poll_fn(|context| {
            self.reading = false;
            self.poll_leg(context, Side::Client, client, server, before);
            self.poll_leg(context, Side::Server, client, server, before);
            let (up, down) = (self.up.is_empty(), self.down.is_empty());
            if up && down {
                return Poll::Ready(());
            }
            // Who writes more before reading takes none of it: what is blocked must not stop the other direction.
            self.reading = true;
            if !up {
                self.poll_leg(context, Side::Server, client, server, before);
            }
            if !down {
                self.poll_leg(context, Side::Client, client, server, before);
            }
            Poll::Pending
        })
        .await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.up.over && self.down.over
    }

    /// Shows a chunk to the observer (and to whoever keeps captures).
    pub(super) fn look(&mut self, from: Side, bytes: &[u8]) {
        self.look_as_of(self.elapsed(), from, bytes);
    }

    fn elapsed(&self) -> Duration {
        self.accepted.elapsed()
    }

    fn look_as_of(&mut self, at: Duration, from: Side, bytes: &[u8]) {
        let chunk = Chunk { at, from, bytes };
        if self.told != Told::Yes {
            self.sink.chunk(self.id, chunk, self.on);
        }
        if self.told == Told::No {
            self.observer.eat(chunk);
        }
    }

    /// From here on what is looked at is said on both legs, or on the client's alone.
    pub(super) fn part_legs(&mut self, apart: bool) {
        self.on = if apart { On::Client } else { On::Both };
    }

    /// Shows whoever keeps captures what was said on the server's leg alone.
    pub(super) fn note_server_leg(&mut self, from: Side, bytes: &[u8]) {
        self.sink.chunk(self.id, Chunk { at: self.accepted.elapsed(), from, bytes }, On::Server);
    }

    /// Gives up what was seen, to be reported; a session goes on being shown to the sink.
    pub(super) fn tell(&mut self, session: bool) -> Observer {
        self.told = if session { Told::Session } else { Told::Yes };
        std::mem::take(&mut self.observer)
    }

    /// TLS was opened: from here on both sides' bytes are in clear.
    pub(super) fn opened(&mut self) {
        self.observer.opened(self.accepted.elapsed());
        self.sink.opened(self.id);
    }

    pub(super) fn note_close(&mut self, side: Side, how: Close) {
        let at = self.accepted.elapsed();
        self.first.get_or_insert((side, how, at));
        self.observer.closed(at, side, how);
    }

    /// Reads once from a client that has no server yet; `Ok(0)` when it has hung up.
    pub(super) async fn read_first(&mut self, client: &mut Stream) -> std::io::Result<usize> {
        let leg = &mut self.up;
        let count = std::future::poll_fn(|context| {
            leg.make_room();
            let mut buffer = ReadBuf::new(leg.buffer.get_mut(leg.end..).unwrap_or_default());
            match Pin::new(&mut *client).poll_read(context, &mut buffer) {
                Poll::Ready(read) => Poll::Ready(read.map(|()| buffer.filled().len())),
                Poll::Pending => {
                    leg.leave_room();
                    Poll::Pending
                }
            }
        })
        .await?;
        leg.end += count;
        leg.used = leg.used.max(leg.end);
        Ok(count)
    }

    /// What was read from the client and is neither written nor looked at.
    pub(super) fn first_bytes(&self) -> &[u8] {
        self.up.waiting()
    }

    /// The server gets the first bytes now, and they are kept for a second try; or that try is next.
    pub(super) fn first_bytes_sent(&mut self, sent: bool) {
        self.first_sent = sent.then(|| self.elapsed());
    }

    /// Looks at the first bytes although nobody gets them (again), and drops them.
    pub(super) fn look_at_first_bytes(&mut self) {
        let at = self.first_sent.take().unwrap_or_else(|| self.elapsed());
        let buffer = std::mem::take(&mut self.up.buffer);
        self.look_as_of(at, Side::Client, buffer.get(self.up.start..self.up.end).unwrap_or_default());
        (self.up.start, self.up.end) = (0, 0);
        self.up.buffer = buffer;
    }

    /// Puts bytes of `from` into our hands: they are carried on, and looked at, before what is read next.
    pub(super) fn put(&mut self, from: Side, bytes: &[u8]) {
        let leg = self.leg(from);
        leg.make_room();
        leg.buffer.copy_within(leg.start..leg.end, 0);
        let kept = leg.end - leg.start;
        (leg.start, leg.end) = (0, kept + bytes.len());
        if leg.buffer.len() < leg.end {
            leg.buffer.resize(leg.end, 0);
        }
        if let Some(room) = leg.buffer.get_mut(kept..leg.end) {
            room.copy_from_slice(bytes);
        }
        leg.used = leg.used.max(leg.end);
    }

    /// Takes what was put (or read) of `from` out of our hands again, unseen.
    pub(super) fn drop_put(&mut self, from: Side) -> Vec<u8> {
        let leg = self.leg(from);
        let bytes = leg.waiting().to_vec();
        (leg.start, leg.end) = (0, 0);
        bytes
    }

    fn poll_carry(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Stream,
        server: &mut Stream,
        before: Attention,
    ) -> Poll<Pause> {
        for side in [Side::Client, Side::Server] {
            self.poll_leg(context, side, client, server, before);
            let now = self.observer.attention();
            if now != before {
                return Poll::Ready(Pause::Attention(now));
            }
        }
        // Each leg that is not over has left its waker with the socket it waits for.
        if self.is_over() { Poll::Ready(Pause::Over) } else { Poll::Pending }
    }

    /// Carries what `side` sends until a socket is not ready, the leg is over, or the attention changes.
    fn poll_leg(
        &mut self,
        context: &mut Context<'_>,
        side: Side,
        client: &mut Stream,
        server: &mut Stream,
        before: Attention,
    ) {
        let (from, to) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        while !self.leg(side).over && self.observer.attention() == before {
            let leg = self.leg(side);
            let step = if leg.start < leg.end {
                self.poll_write(context, side, to)
            } else if leg.unflushed {
                // An error shows itself at the next write or read.
                let step = Pin::new(&mut *to).poll_flush(context).map(|_| ());
                leg.unflushed = step.is_pending();
                step
            } else if leg.eof {
                self.poll_end(context, side, to)
            } else if self.reading {
                self.poll_read(context, side, from)
            } else {
                return;
            };
            if step.is_pending() {
                return;
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, side: Side, to: &mut Stream) -> Poll<()> {
        let to_tls = to.is_tls();
        let leg = self.leg(side);
        match ready!(Pin::new(to).poll_write(context, leg.waiting())) {
            Ok(count) if count > 0 => {
                // The buffer is lent out for the look, so that the observer can have the rest of us.
                let buffer = std::mem::take(&mut leg.buffer);
                let start = leg.start;
                leg.start += count;
                leg.bytes += count as u64;
                leg.unflushed = to_tls;
                self.look(side, buffer.get(start..start + count).unwrap_or_default());
                self.leg(side).put_back(buffer);
            }
            _ => {
                // The receiver is gone; what it sent before can still be read, so only this
                // direction is over.
                self.leg(side).over = true;
                self.note_close(side.other(), Close::Reset);
            }
        }
        Poll::Ready(())
    }

    /// Passes the sender's end on, unless both sockets are closed next anyway.
    fn poll_end(&mut self, context: &mut Context<'_>, side: Side, to: &mut Stream) -> Poll<()> {
        if to.is_tls() || !self.leg(side.other()).over {
            // A receiver that is already gone can't be told, and does not need to be.
            let _ = ready!(Pin::new(to).poll_shutdown(context));
        }
        self.leg(side).over = true;
        Poll::Ready(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>, side: Side, from: &mut Stream) -> Poll<()> {
        let leg = self.leg(side);
        leg.make_room();
        let mut buffer = ReadBuf::new(&mut leg.buffer);
        let read = Pin::new(from).poll_read(context, &mut buffer);
        let count = buffer.filled().len();
        let Poll::Ready(read) = read else {
            leg.leave_room();
            return Poll::Pending;
        };
        match read {
            Ok(()) if count > 0 => {
                (leg.start, leg.end) = (0, count);
                leg.used = leg.used.max(count);
            }
            Ok(()) => {
                leg.eof = true;
                self.note_close(side, Close::Eof);
            }
            Err(_) => {
                // Nothing can be written to a socket that was reset, so both directions are over.
                (self.up.over, self.down.over) = (true, true);
                self.note_close(side, Close::Reset);
            }
        }
        Poll::Ready(())
    }

    fn leg(&mut self, side: Side) -> &mut Leg<'a> {
        match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }
}

impl<'a> Leg<'a> {
    fn new(pool: &'a Buffers) -> Self {
        let buffer = Vec::new();
        Self { pool, buffer, start: 0, end: 0, used: 0, bytes: 0, eof: false, over: false, unflushed: false }
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Nothing that was read is left to write.
    fn is_empty(&self) -> bool {
        self.over || (self.start == self.end && !self.unflushed)
    }

    /// The buffer comes with the bytes and goes with them: who waits holds none.
    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = self.pool.take();
        }
    }

    fn leave_room(&mut self) {
        if self.start == self.end {
            self.pool.give(std::mem::take(&mut self.buffer), self.used);
            self.used = 0;
        }
    }

    fn put_back(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Drop for Leg<'_> {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer), self.used);
    }
}
