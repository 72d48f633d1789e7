//! One pair of sockets in the engine: two flows, each with its own half-close and back-pressure.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::outbox::Outbox;
use super::source::Source;
use crate::handshake::{Close, Side};
use crate::net::guard::{Guard, Totals};

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing to do until the next event.
    Idle,
    /// More is waiting to be read.
    Again,
    /// Both directions are over.
    Ended,
}

/// What the pairs of one thread share.
pub(super) struct Scratch {
    pub(super) outbox: Outbox,
    buffer: Box<[u8]>,
    /// Buffers given back by flows that were blocked.
    spare: Vec<Box<[u8]>>,
    /// How many whole buffers blocked flows hold.
    lent: usize,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { outbox: Outbox::new(), buffer: fresh_buffer(), spare: Vec::new(), lent: 0 }
    }

    /// The thread's buffer, for whoever leaves nothing in it.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Leaves the first `count` bytes of the buffer in the outbox, where it takes them.
    fn post(&mut self, from: Side, to: BorrowedFd<'_>, count: usize) -> bool {
        self.buffer.get(..count).is_some_and(|message| self.outbox.post(from, to, message))
    }

    /// Keeps `start..end` of the buffer for a blocked flow.
    ///
    /// The first few blocked flows keep the buffer itself, which saves the copy; beyond that a
    /// crowd of stalled readers would cost a whole buffer each, so they get just what they need.
    fn keep(&mut self, start: usize, end: usize) -> Pending {
        if end - start < SMALL || self.lent >= LENDABLE {
            let bytes = self.buffer.get(start..end).unwrap_or_default().into();
            return Pending { bytes, start: 0, end: end - start, lent: false };
        }
        self.lent += 1;
        let next = self.spare.pop().unwrap_or_else(fresh_buffer);
        let bytes = std::mem::replace(&mut self.buffer, next);
        Pending { bytes, start, end, lent: true }
    }

    fn give_back(&mut self, pending: Pending) {
        if pending.lent {
            self.lent -= 1;
            if self.spare.len() < SPARE {
                self.spare.push(pending.bytes);
            }
        }
    }
}

fn fresh_buffer() -> Box<[u8]> {
    vec![0; BUFFER].into_boxed_slice()
}

/// Bytes that were read and could not be written yet.
#[derive(Debug)]
struct Pending {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    lent: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    pending: Option<Box<Pending>>,
    bytes: u64,
    source: Source,
    /// The sender's socket is closed both ways: nothing can be written to it.
    gone: bool,
    /// The receiver is known to be gone.
    doomed: bool,
    /// Nothing more will be carried in this direction.
    done: bool,
}

/// How a pump of one flow ended.
enum Pumped {
    Idle,
    Again,
    /// The sender is gone altogether: nothing can be written to it either.
    SenderGone,
    /// The receiver is gone: what it sent before may still be read.
    ReceiverGone,
}

/// Two sockets and the two flows between them.
pub(super) struct Pair {
    client: OwnedFd,
    server: OwnedFd,
    up: Flow,
    down: Flow,
    /// What the two sockets are watched for.
    watched: [EventFlags; 2],
    first: Option<(Side, Close)>,
    guard: Box<dyn Guard>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("up", &self.up).field("down", &self.down).finish_non_exhaustive()
    }
}

impl Pair {
    pub(super) fn new(client: OwnedFd, server: OwnedFd, guard: Box<dyn Guard>) -> Self {
        let (up, down) = (Flow::default(), Flow::default());
        Self { client, server, up, down, watched: [READABLE; 2], first: None, guard }
    }

    pub(super) fn sockets(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.client.as_fd(), self.server.as_fd())
    }

    /// Notes what an event said about one of the sockets.
    pub(super) fn note(&mut self, side: Side, flags: EventFlags) {
        let (from, back) = match side {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Server => (&mut self.down, &mut self.up),
        };
        from.gone |= flags.intersects(EventFlags::HUP | EventFlags::ERR);
        // A side that had only said its last word is gone altogether now: reading would not tell us any more.
        back.doomed |= from.done && from.gone;
        from.source.note(flags);
    }

    /// The outbox could not send what `side` said, or not all of it; a turn is due.
    pub(super) fn take_back(&mut self, side: Side, rest: Option<Box<[u8]>>) {
        let flow = match side {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        };
        match rest {
            Some(bytes) => {
                let end = bytes.len();
                flow.pending = Some(Box::new(Pending { bytes, start: 0, end, lent: false }));
            }
            None => flow.doomed = true,
        }
    }

    /// Carries what can be carried now, within bounds.
    pub(super) fn turn(&mut self, scratch: &mut Scratch) -> Turn {
        let up = self.flow(Side::Client, scratch);
        let down = self.flow(Side::Server, scratch);
        // The server's side may have been found gone only after the client's side was looked at.
        let up = up
            || (!self.up.done
                && (self.up.doomed || (self.up.source.can_read() && self.up.pending.is_none())));
        if self.up.done && self.down.done {
            Turn::Ended
        } else if up || down {
            Turn::Again
        } else {
            Turn::Idle
        }
    }

    /// Pumps what `side` sends; true when more is waiting.
    fn flow(&mut self, side: Side, scratch: &mut Scratch) -> bool {
        let (flow, back, from, to) = match side {
            Side::Client => (&mut self.up, &mut self.down, self.client.as_fd(), self.server.as_fd()),
            Side::Server => (&mut self.down, &mut self.up, self.server.as_fd(), self.client.as_fd()),
        };
        if flow.doomed {
            flow.finish(scratch);
        }
        if flow.done || (flow.pending.is_none() && !flow.source.can_read()) {
            return false;
        }
        let before = flow.bytes;
        let pumped = flow.pump((side, from), to, !back.done, scratch);
        if flow.bytes != before {
            back.source.bulk.interrupt();
        }
        if flow.done && self.first.is_none() {
            self.first = Some(match pumped {
                Pumped::SenderGone => (side, Close::Reset),
                Pumped::ReceiverGone => (side.other(), Close::Reset),
                Pumped::Idle | Pumped::Again => (side, Close::Eof),
            });
        }
        // Reading finds no error where the last word came before the reset: it finds the end.
        back.doomed |= flow.done && flow.gone;
        match pumped {
            Pumped::Idle => false,
            Pumped::Again => true,
            Pumped::SenderGone => {
                back.finish(scratch);
                false
            }
            Pumped::ReceiverGone => {
                back.source.hang_up();
                false
            }
        }
    }

    /// The next socket that has to be watched for something else from now on, for which side it is, and for what.
    pub(super) fn next_change(&mut self) -> Option<(Side, BorrowedFd<'_>, EventFlags)> {
        let sides = [
            (Side::Client, &self.client, &self.up, &self.down),
            (Side::Server, &self.server, &self.down, &self.up),
        ];
        for ((side, socket, from, to), watched) in sides.into_iter().zip(&mut self.watched) {
            // Room is asked for when a write first blocks, and kept then.
            let mut flags = *watched & EventFlags::OUT | READABLE;
            if to.pending.is_some() {
                flags |= EventFlags::OUT;
            }
            if !from.source.bulk.wants_events() {
                flags -= EventFlags::IN;
            }
            if flags != *watched {
                *watched = flags;
                return Some((side, socket.as_fd(), flags));
            }
        }
        None
    }

    /// Whether a flow rests.
    pub(super) fn rests(&self) -> bool {
        self.up.source.bulk.rests() || self.down.source.bulk.rests()
    }

    /// The rest is over.
    pub(super) fn wake(&mut self) {
        self.up.source.bulk.wake();
        self.down.source.bulk.wake();
    }

    /// Closes both sockets and tells the guard.
    pub(super) fn end(self) {
        let totals = Totals { client_bytes: self.up.bytes, server_bytes: self.down.bytes, first: self.first };
        drop((self.client, self.server));
        self.guard.ended(totals);
    }
}

impl Flow {
    /// Carries from one socket to the other; `pass_eof` is off when both sockets are closed next.
    fn pump(
        &mut self,
        (side, from): (Side, BorrowedFd<'_>),
        to: BorrowedFd<'_>,
        pass_eof: bool,
        scratch: &mut Scratch,
    ) -> Pumped {
        if let Some(pending) = &mut self.pending {
            match write_out(to, &pending.bytes, &mut pending.start, pending.end) {
                Wrote::All => {}
                Wrote::Some => return Pumped::Idle,
                Wrote::Gone => return self.receiver_gone(scratch),
            }
            if let Some(pending) = self.pending.take() {
                scratch.give_back(*pending);
            }
        }
        for _ in 0..ROUNDS {
            let count = match self.source.receive(from, &mut scratch.buffer) {
                Ok(0) => {
                    self.done = true;
                    if pass_eof {
                        // A receiver that is already gone can't be told, and does not need to be.
                        let _ = shutdown(to, Shutdown::Write);
                    }
                    return Pumped::Idle;
                }
                Ok(count) => count,
                Err(Errno::AGAIN) => return Pumped::Idle,
                Err(_) => {
                    self.finish(scratch);
                    return Pumped::SenderGone;
                }
            };
            self.bytes += count as u64;
            if !self.source.can_read() && scratch.post(side, to, count) {
                return Pumped::Idle;
            }
            let mut start = 0;
            match write_out(to, &scratch.buffer, &mut start, count) {
                Wrote::All => {}
                Wrote::Some => {
                    self.pending = Some(Box::new(scratch.keep(start, count)));
                    return Pumped::Idle;
                }
                Wrote::Gone => return self.receiver_gone(scratch),
            }
        }
        if self.source.can_read() { Pumped::Again } else { Pumped::Idle }
    }

    fn receiver_gone(&mut self, scratch: &mut Scratch) -> Pumped {
        self.finish(scratch);
        Pumped::ReceiverGone
    }

    fn finish(&mut self, scratch: &mut Scratch) {
        self.done = true;
        if let Some(pending) = self.pending.take() {
            scratch.give_back(*pending);
        }
    }
}

enum Wrote {
    All,
    Some,
    Gone,
}

/// Writes `bytes[*start..end]` as far as the socket takes it.
fn write_out(to: BorrowedFd<'_>, bytes: &[u8], start: &mut usize, end: usize) -> Wrote {
    while let Some(rest) = bytes.get(*start..end).filter(|rest| !rest.is_empty()) {
        match send(to, rest, SendFlags::NOSIGNAL) {
            Ok(count) => *start += count,
            Err(Errno::AGAIN) => return Wrote::Some,
            Err(Errno::INTR) => {}
            Err(_) => return Wrote::Gone,
        }
    }
    Wrote::All
}

/// What is watched from the beginning. Not writability: it would wake us for every new pair.
pub(super) const READABLE: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// Size of a thread's buffer.
pub(super) const BUFFER: usize = 256 * 1024;

/// Full reads in one turn before the other pairs of the thread get theirs.
const ROUNDS: usize = 8;

/// Whole buffers that blocked flows of one thread may keep (8 MiB in all).
const LENDABLE: usize = 32;

/// A rest shorter than this is copied: that is cheaper than taking the buffer out of the cache.
const SMALL: usize = 4 * 1024;

/// Whole buffers that stay allocated for the next blocked flow.
const SPARE: usize = 2;
