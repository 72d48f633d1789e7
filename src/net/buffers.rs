//! Buffers of the handshake phase, lent out and given back.
//!
//! Beside their zeroing it is the heap that they are kept for: a large block freed between the small
//! ones that a session keeps leaves a hole that the next session's small ones make too small.

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize as _;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of [`BUFFER`] zeroes.
    pub(super) fn take(&self) -> Vec<u8> {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; BUFFER])
    }

    /// Takes one back of which the first `used` bytes were written: what a client said, its password
    /// above all, does not wait in it for the next.
    pub(super) fn give(&self, mut buffer: Vec<u8>, used: usize) {
        if let Some(used) = buffer.get_mut(..used) {
            used.zeroize();
        }
        if buffer.len() != BUFFER {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

/// Holds the longest startup packet, and any login's messages.
pub(super) const BUFFER: usize = 16 * 1024;

/// Kept for 32 logins at a time: a mebibyte.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_no_more_are_kept_than_are_worth_it() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        let place = buffer.as_ptr();
        buffer[..6].copy_from_slice(b"secret");
        buffers.give(buffer, 6);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), place);
        assert_eq!(again, vec![0; BUFFER]);
        let many: Vec<_> = (0..KEPT + 5).map(|_| buffers.take()).collect();
        many.into_iter().for_each(|buffer| buffers.give(buffer, 0));
        buffers.give(vec![0; 3 * BUFFER], 0);
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT);
    }
}
