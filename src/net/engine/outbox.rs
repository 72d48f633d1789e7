//! The messages of one batch of events, sent in one system call.
//!
//! Where many pairs are busy, an `epoll_wait` brings many events, and a `send` for each costs more
//! than the call: whoever it wakes takes the processor from us, in the middle of our work. So short
//! messages wait here until all events are read, and `io_uring` then sends them together. It serves
//! as a list of nonblocking sends and as nothing more: each of them is over when the call returns.
//! Where the kernel or the container does not offer it, every message is sent as it comes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::{IoUring, Probe, opcode, types};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::handshake::Side;

/// The outbox of one relay thread.
pub(super) struct Outbox {
    ring: Option<IoUring>,
    /// The bytes of the letters, one after another.
    bytes: Box<[u8]>,
    used: usize,
    letters: Vec<Letter>,
    /// The pair that may post now.
    open_for: Option<usize>,
}

/// One message that waits.
#[derive(Debug)]
struct Letter {
    slot: usize,
    from: Side,
    to: RawFd,
    start: usize,
    end: usize,
    /// What `send` would have said, once it is known.
    sent: Option<Result<usize, Errno>>,
}

/// A message that was not sent, or not all of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Returned {
    pub(super) slot: usize,
    /// Whose message it is.
    pub(super) from: Side,
    /// What is left to be sent; `None` where nobody knows how much was sent.
    pub(super) rest: Option<Box<[u8]>>,
}

impl Outbox {
    /// An outbox, which never opens where there is no `io_uring`.
    pub(super) fn new() -> Self {
        let ring = ring();
        let size = if ring.is_some() { LETTERS * LONGEST } else { 0 };
        let bytes = vec![0; size].into_boxed_slice();
        Self { ring, bytes, used: 0, letters: Vec::new(), open_for: None }
    }

    /// From now on this pair may post, or none.
    pub(super) fn open_for(&mut self, slot: Option<usize>) {
        self.open_for = slot.filter(|_| self.ring.is_some());
    }

    /// Whether a message of this pair waits here: until it is sent the pair must have no turn and stay open.
    pub(super) fn holds(&self, slot: usize) -> bool {
        self.letters.iter().any(|letter| letter.slot == slot)
    }

    /// Takes a message for the socket `to`, which must stay open until the round ends; false when it is
    /// for the caller to send.
    pub(super) fn post(&mut self, from: Side, to: BorrowedFd<'_>, message: &[u8]) -> bool {
        let Some(slot) = self.open_for else { return false };
        if message.len() > LONGEST || self.letters.len() == LETTERS {
            return false;
        }
        let (start, end) = (self.used, self.used + message.len());
        let Some(place) = self.bytes.get_mut(start..end) else { return false };
        place.copy_from_slice(message);
        self.used = end;
        self.letters.push(Letter { slot, from, to: to.as_raw_fd(), start, end, sent: None });
        true
    }

    /// Ends the round: sends what waits, and says what is left of it, in the order of posting.
    pub(super) fn send(&mut self) -> Vec<Returned> {
        if self.letters.is_empty() {
            return Vec::new();
        }
        // A single letter is cheaper by `send`, which is its owner's.
        if self.letters.len() > 1 {
            self.send_together();
        }
        let returned = self.letters.iter().filter_map(|letter| letter.returned(&self.bytes)).collect();
        self.letters.clear();
        self.used = 0;
        returned
    }

    fn send_together(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits() as i32;
        let mut owed = 0;
        for (letter, number) in self.letters.iter().zip(0_u64..) {
            let message = self.bytes.get(letter.start..letter.end).unwrap_or_default();
            // A letter is no longer than LONGEST.
            let entry = opcode::Send::new(types::Fd(letter.to), message.as_ptr(), message.len() as u32)
                .flags(flags)
                .build()
                .user_data(number);
            // SAFETY: the kernel reads `message`, a part of `self.bytes`, until it says what became of it. Nobody
            // writes to these bytes or frees them before that: all of it is awaited below, and where that
            // fails, `give_up_ring` never frees them.
            #[expect(unsafe_code, reason = "there is no other way to give io_uring an address")]
            let pushed = unsafe { ring.submission().push(&entry) };
            if pushed.is_err() {
                break;
            }
            owed += 1;
        }
        while owed > 0 {
            let entered = ring.submit_and_wait(owed);
            for completion in ring.completion() {
                owed -= 1;
                let number = usize::try_from(completion.user_data());
                if let Some(letter) = number.ok().and_then(|number| self.letters.get_mut(number)) {
                    letter.sent = Some(outcome(completion.result()));
                }
            }
            let failed = entered.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
            if failed && owed > 0 {
                return self.give_up_ring();
            }
        }
    }

    /// The kernel broke off, which it does when it has no memory left: from now on messages go one by one.
    fn give_up_ring(&mut self) {
        let Some(mut ring) = self.ring.take() else { return };
        let left = ring.submission().len();
        let taken = self.letters.len().saturating_sub(left);
        for letter in self.letters.iter_mut().take(taken) {
            letter.sent.get_or_insert(Err(UNKNOWN));
        }
        let copy = self.bytes.clone();
        std::mem::forget(std::mem::replace(&mut self.bytes, copy));
    }
}

impl Letter {
    /// What is left of it, if anything is.
    fn returned(&self, bytes: &[u8]) -> Option<Returned> {
        let message = bytes.get(self.start..self.end).unwrap_or_default();
        let rest = match self.sent {
            Some(Ok(count)) if count >= message.len() => return None,
            Some(Ok(count)) => message.get(count..).map(Into::into),
            Some(Err(UNKNOWN)) => None,
            // Whatever the reason is, its owner's own `send` says it again.
            Some(Err(_)) | None => Some(message.into()),
        };
        Some(Returned { slot: self.slot, from: self.from, rest })
    }
}

/// A ring, where the kernel has one that can send (Linux 5.6).
fn ring() -> Option<IoUring> {
    let ring = IoUring::new(LETTERS as u32).ok()?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).ok()?;
    probe.is_supported(opcode::Send::CODE).then_some(ring)
}

fn outcome(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}

/// No socket ever says this one.
const UNKNOWN: Errno = Errno::BADR;

/// Letters of one round.
const LETTERS: usize = 64;

/// Bytes of a letter at most: copying more costs as much as the call that is saved.
const LONGEST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn fill(socket: &mut UnixStream) {
        while socket.write(&[0; 4_096]).is_ok() {}
        while socket.write(&[0]).is_ok() {}
    }

    /// An open outbox; none where these tests run without `io_uring`.
    fn outbox() -> Option<Outbox> {
        let mut outbox = Outbox::new();
        outbox.open_for(Some(7));
        outbox.ring.is_some().then_some(outbox)
    }

    #[test]
    fn what_is_sent_is_gone_and_the_rest_comes_back_in_order() {
        let Some(mut outbox) = outbox() else { return };
        let ((well, mut reader), (mut full, _idle), (broken, gone)) = (pair(), pair(), pair());
        fill(&mut full);
        drop(gone);
        assert!(outbox.post(Side::Client, full.as_fd(), b"one"));
        assert!(outbox.post(Side::Server, well.as_fd(), b"two"));
        assert!(outbox.post(Side::Server, broken.as_fd(), b"three"));
        assert!(outbox.holds(7));
        let rest = |from, bytes: &[u8]| Returned { slot: 7, from, rest: Some(bytes.into()) };
        assert_eq!(outbox.send(), [rest(Side::Client, b"one"), rest(Side::Server, b"three")]);
        assert!(!outbox.holds(7) && outbox.send().is_empty());
        let mut got = [0; 3];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"two");
    }

    #[test]
    fn a_part_that_found_room_is_not_sent_again() {
        let Some(mut outbox) = outbox() else { return };
        let ((mut narrow, mut reader), (other, _reader)) = (pair(), pair());
        rustix::net::sockopt::set_socket_send_buffer_size(&narrow, 4_096).unwrap();
        fill(&mut narrow);
        let letter: Vec<u8> = (0..LONGEST).map(|at| (at % 251) as u8).collect();
        // Whatever room the reader makes, what arrives and what comes back are the letter.
        for room in [1, 700, 4_000] {
            let mut taken = vec![0; room];
            reader.read_exact(&mut taken).unwrap();
            assert!(outbox.post(Side::Client, narrow.as_fd(), &letter));
            assert!(outbox.post(Side::Client, other.as_fd(), b"x"));
            let returned = outbox.send();
            let rest = returned.first().and_then(|returned| returned.rest.clone()).unwrap_or_default();
            reader.set_nonblocking(true).unwrap();
            let mut got = Vec::new();
            let _ = reader.read_to_end(&mut got);
            reader.set_nonblocking(false).unwrap();
            let sent = letter.len() - rest.len();
            assert!(letter.ends_with(&rest) && got.ends_with(&letter[..sent]));
            fill(&mut narrow);
        }
    }

    #[test]
    fn a_single_letter_is_left_to_its_owner() {
        let Some(mut outbox) = outbox() else { return };
        let (near, _far) = pair();
        assert!(outbox.post(Side::Client, near.as_fd(), b"one"));
        assert_eq!(outbox.send(), [Returned { slot: 7, from: Side::Client, rest: Some(b"one"[..].into()) }]);
    }

    #[test]
    fn it_takes_no_more_than_it_holds_and_nothing_while_it_is_closed() {
        let Some(mut outbox) = outbox() else { return };
        let (near, mut far) = pair();
        assert!(!outbox.post(Side::Client, near.as_fd(), &[0; LONGEST + 1]));
        for _ in 0..LETTERS {
            assert!(outbox.post(Side::Client, near.as_fd(), b"12345678"));
        }
        assert!(!outbox.post(Side::Client, near.as_fd(), b"one too many"));
        assert!(outbox.send().is_empty());
        let mut got = [0; LETTERS * 8];
        far.read_exact(&mut got).unwrap();
        outbox.open_for(None);
        assert!(!outbox.post(Side::Client, near.as_fd(), b"closed"));
    }

    #[test]
    fn after_a_failure_nothing_is_sent_twice() {
        let Some(mut outbox) = outbox() else { return };
        let (near, _far) = pair();
        for _ in 0..2 {
            assert!(outbox.post(Side::Client, near.as_fd(), b"one"));
        }
        outbox.letters[0].sent = Some(Ok(3));
        // The kernel has taken both, and told of one.
        outbox.give_up_ring();
        assert_eq!(outbox.send(), [Returned { slot: 7, from: Side::Client, rest: None }]);
        outbox.open_for(Some(7));
        assert!(!outbox.post(Side::Client, near.as_fd(), b"by send from now on"));
    }
}
