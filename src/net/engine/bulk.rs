//! Rests of a source that sends in bulk.
//!
//! A server that sends the rows of a COPY is slower than the relay: each of its writes, 8 KiB, would
//! wake us, and waking and being woken costs more than carrying them. So once megabytes have come
//! without a word from the other side, the source is read at intervals: what comes meanwhile is
//! carried together. Who asks and answers is never in bulk, and the last bytes of a bulk come at most
//! one rest later, which is little beside the time that the bulk took before the first one.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

/// How long a source is left alone.
pub(super) const REST: Duration = Duration::from_micros(200);

/// Bytes without an answer from which on a source is in bulk.
const ENTER: usize = 8 * 1024 * 1024;

/// A source that brings as much at a time has no need of rests: its receiver is the slower one.
const LARGE: usize = 64 * 1024;

/// A rest that brought less was not worth its wait: the source goes back to events.
const WORTH: usize = 24 * 1024;

/// One source of bytes.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Bytes since the other side last said something.
    run: usize,
    /// How often there was nothing more in that time.
    pauses: usize,
    /// Bytes since the last rest.
    since: usize,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Events tell of bytes.
    #[default]
    Events,
    /// It is being read between two rests.
    Reading,
    Resting,
}

impl Bulk {
    /// Bytes were read.
    pub(super) const fn took(&mut self, count: usize) {
        self.run = self.run.saturating_add(count);
        self.since = self.since.saturating_add(count);
    }

    /// Nothing more is there now; true when the source rests from now on.
    pub(super) fn emptied(&mut self, source: BorrowedFd<'_>) -> bool {
        let since = std::mem::take(&mut self.since);
        self.pauses += 1;
        let rest = match self.mode {
            Mode::Events if self.run < ENTER => return false,
            Mode::Events => self.run / self.pauses < LARGE && has_room(source),
            Mode::Reading => since >= WORTH,
            Mode::Resting => true,
        };
        if rest {
            self.mode = Mode::Resting;
        } else {
            self.interrupt();
        }
        rest
    }

    /// The other side spoke, or the source hung up: events tell of bytes from now on.
    pub(super) const fn interrupt(&mut self) {
        (self.run, self.pauses) = (0, 0);
        self.mode = Mode::Events;
    }

    /// The rest is over.
    pub(super) fn wake(&mut self) {
        if self.mode == Mode::Resting {
            self.mode = Mode::Reading;
        }
    }

    /// Nothing is to be read now.
    pub(super) fn rests(&self) -> bool {
        self.mode == Mode::Resting
    }

    /// Whether events are to tell of bytes.
    pub(super) fn wants_events(&self) -> bool {
        self.mode == Mode::Events
    }
}

/// Whether a sender can go on during a rest. The buffer of a Unix socket is filled within one, that of TCP grows.
fn has_room(source: BorrowedFd<'_>) -> bool {
    socket_domain(source).is_ok_and(|family| family != AddressFamily::UNIX)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn inet() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    fn bulk() -> Bulk {
        let inet = inet();
        let mut bulk = Bulk::default();
        for _ in 1..ENTER / 8_192 {
            bulk.took(8_192);
            assert!(!bulk.emptied(inet.as_fd()) && bulk.wants_events());
        }
        bulk.took(8_192);
        bulk
    }

    #[test]
    fn only_a_bulk_rests_and_only_while_it_is_worth_it() {
        let (mut bulk, inet) = (bulk(), inet());
        assert!(bulk.emptied(inet.as_fd()) && bulk.rests() && !bulk.wants_events());
        bulk.wake();
        assert!(!bulk.rests() && !bulk.wants_events());
        // A rest's bytes may take more than one read.
        bulk.took(WORTH - 1);
        bulk.took(1);
        assert!(bulk.emptied(inet.as_fd()) && bulk.rests());
        bulk.wake();
        bulk.took(WORTH - 1);
        assert!(!bulk.emptied(inet.as_fd()) && bulk.wants_events());
        bulk.took(WORTH);
        assert!(!bulk.emptied(inet.as_fd()), "it begins anew");
    }

    #[test]
    fn a_word_of_the_other_side_ends_a_bulk() {
        let (mut bulk, inet) = (bulk(), inet());
        assert!(bulk.emptied(inet.as_fd()));
        bulk.interrupt();
        assert!(!bulk.rests() && bulk.wants_events());
        bulk.took(8_192);
        assert!(!bulk.emptied(inet.as_fd()));
    }

    #[test]
    fn large_pieces_need_no_rests() {
        let (mut bulk, inet) = (Bulk::default(), inet());
        for _ in 0..1_000 {
            bulk.took(LARGE);
            assert!(!bulk.emptied(inet.as_fd()));
        }
    }

    #[test]
    fn a_unix_socket_does_not_rest() {
        let (mut bulk, unix) = (bulk(), UnixDatagram::unbound().unwrap());
        assert!(!bulk.emptied(unix.as_fd()) && bulk.wants_events());
    }
}
