//! The reading side of a socket, in clear or with records in it.

use std::os::fd::BorrowedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::bulk::Bulk;

/// What is known of a socket's bytes.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// An edge said that there is something to read, and nothing has answered it yet.
    readable: bool,
    /// The sender has hung up: a short read does not mean that nothing follows.
    hung: bool,
    pub(super) bulk: Bulk,
}

impl Source {
    /// One that may have bytes already of which no event tells.
    pub(super) fn unread() -> Self {
        Self { readable: true, ..Self::default() }
    }

    /// Notes what an event said about the socket.
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.readable |= flags.intersects(EventFlags::IN);
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.hang_up();
        }
    }

    /// The sender will say no more: what it has said is to be read, up to the end.
    pub(super) fn hang_up(&mut self) {
        (self.readable, self.hung) = (true, true);
        self.bulk.interrupt();
    }

    /// Whether reading may bring something now.
    pub(super) fn can_read(&self) -> bool {
        self.readable && !self.bulk.rests()
    }

    /// Reads what is there; `AGAIN` where nothing is, or the source rests.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        if !self.can_read() {
            return Err(Errno::AGAIN);
        }
        loop {
            match recv(socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, count)) => {
                    self.bulk.took(count);
                    // A short read emptied the socket: the next byte brings a new edge. Not so at the end, nor
                    // after a hang-up, which may have come with the edge that brought these bytes.
                    let short = count > 0 && count < buffer.len();
                    self.readable = !short || self.hung || self.bulk.emptied(socket);
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = self.bulk.emptied(socket);
                    return Err(Errno::AGAIN);
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}
