//! Cutting a byte stream into frames: however the bytes arrive, the frames are the same.

use std::fmt;

use zeroize::Zeroize;

use super::first::MAX_STARTUP_PACKET;

/// The largest frame that is kept whole. PostgreSQL's own limit for authentication tokens is
/// 65,535 bytes (`PG_MAX_AUTH_TOKEN_LENGTH`, auth.c), libpq's for errors 30,000 (`MAX_ERRLEN`,
/// fe-connect.c). Anything larger is stepped over without being stored, because a stranger
/// chooses the length word.
pub const MAX_FRAME: usize = 65_540;

/// One frame off the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A packet without a tag: length and body. Only the first packets of a client are like this.
    Untagged {
        /// The packet behind its length word.
        body: &'a [u8],
    },
    /// A tagged message.
    Tagged {
        /// The type byte.
        tag: u8,
        /// The message behind its length word.
        body: &'a [u8],
    },
    /// A tagged message larger than [`MAX_FRAME`]; its body is stepped over.
    Oversize {
        /// The type byte.
        tag: u8,
        /// The length word as sent.
        length: u32,
    },
    /// A length word that can't be one. Nothing behind it can be trusted.
    Broken {
        /// The type byte, where the message has one.
        tag: Option<u8>,
        /// The length word as sent.
        length: u32,
    },
}

/// Which kind of frame comes next; the conversation knows, the bytes do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Length and body (startup packets and requests).
    Untagged,
    /// Tag, length, body (everything else).
    Tagged,
}

/// Bytes of one direction that have not been cut into frames yet.
#[derive(Clone, Default)]
pub struct Framer {
    pending: Vec<u8>,
    read: usize,
    skip: usize,
    broken: bool,
    full: bool,
}

/// Most bytes that wait to be cut: a whole frame and a slice of what follows it. More can pile up
/// only when a side speaks out of turn, for ever; what is beyond this is not kept.
pub const MAX_PENDING: usize = MAX_FRAME + 1 + MAX_SLICE;
/// Most bytes that may be given to [`Framer::push`] between two rounds of [`Framer::next`]: with
/// these, [`MAX_PENDING`] cuts off nothing that is in turn.
pub const MAX_SLICE: usize = 16_384;

/// The bytes may be a password: only their number is shown.
impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer").field("pending", &self.ahead().len()).finish_non_exhaustive()
    }
}

impl Framer {
    /// Adds bytes as they came. What is to be stepped over is never stored.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken || self.full {
            return;
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.read > 0 {
            self.pending.drain(..self.read);
            self.read = 0;
        }
        let room = MAX_PENDING - self.pending.len().min(MAX_PENDING);
        let bytes = bytes.get(skipped..).unwrap_or_default();
        self.full = bytes.len() > room;
        self.pending.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The next whole frame, if all of it is there.
    pub fn next(&mut self, kind: Kind) -> Option<Frame<'_>> {
        if self.broken || self.skip > 0 {
            return None;
        }
        let ahead = self.pending.get(self.read..)?;
        let (tag, rest) = match kind {
            Kind::Untagged => (None, ahead),
            Kind::Tagged => {
                let (tag, rest) = ahead.split_first()?;
                (Some(*tag), rest)
            }
        };
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let smallest = if tag.is_some() { 4 } else { 8 };
        let largest = if tag.is_some() { LONGEST_LENGTH_WORD } else { MAX_STARTUP_PACKET };
        if !(smallest..=largest).contains(&size) {
            self.abandon();
            return Some(Frame::Broken { tag, length });
        }
        let total = size + usize::from(tag.is_some());
        if let Some(tag) = tag
            && size > MAX_FRAME
        {
            let there = ahead.len().min(total);
            self.skip = total - there;
            self.read += there;
            return Some(Frame::Oversize { tag, length });
        }
        if ahead.len() < total {
            return None;
        }
        let body = self.read + total - (size - 4)..self.read + total;
        self.read += total;
        let body = self.pending.get(body)?;
        Some(match tag {
            Some(tag) => Frame::Tagged { tag, body },
            None => Frame::Untagged { body },
        })
    }

    /// Bytes that are there and not cut yet.
    pub fn ahead(&self) -> &[u8] {
        self.pending.get(self.read..).unwrap_or_default()
    }

    /// Takes `count` bytes that are not frames (the one-byte answers to SSLRequest and
    /// GSSENCRequest).
    pub fn step(&mut self, count: usize) {
        self.read = (self.read + count).min(self.pending.len());
    }

    /// Gives up the stream: nothing behind this point is framed. Frees the buffer.
    pub fn abandon(&mut self) {
        self.broken = true;
        self.pending.zeroize();
        self.pending = Vec::new();
        self.read = 0;
    }

    /// Whether a frame was begun and is not whole.
    pub fn is_mid_frame(&self) -> bool {
        self.skip > 0 || !self.ahead().is_empty()
    }
}

/// A PasswordMessage may have passed through the buffer.
impl Drop for Framer {
    fn drop(&mut self) {
        self.pending.zeroize();
    }
}

/// PostgreSQL messages are at most 1 GiB; a length word beyond that is not one.
const LONGEST_LENGTH_WORD: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(cuts: &[&[u8]], kind: Kind) -> Vec<String> {
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        for cut in cuts {
            framer.push(cut);
            while let Some(frame) = framer.next(kind) {
                seen.push(format!("{frame:?}"));
            }
        }
        seen
    }

    #[test]
    fn any_cutting_gives_the_same_frames() {
        let mut stream = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec();
        stream.extend_from_slice(b"D\0\x02\0\0");
        stream.extend(std::iter::repeat_n(7, 0x2_0000 - 4));
        stream.extend_from_slice(b"C\0\0\0\x04");
        let whole = frames(&stream.chunks(10_000).collect::<Vec<_>>(), Kind::Tagged);
        assert_eq!(whole.len(), 4, "{whole:?}");
        for size in [1, 2, 3, 7, 4096, MAX_SLICE] {
            let cuts: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(frames(&cuts, Kind::Tagged), whole, "cut every {size} bytes");
        }
    }

    #[test]
    fn a_hostile_length_allocates_nothing() {
        let mut framer = Framer::default();
        framer.push(b"p\x3f\xff\xff\xff");
        assert_eq!(framer.next(Kind::Tagged), Some(Frame::Oversize { tag: b'p', length: 0x3fff_ffff }));
        framer.push(&[0; 4096]);
        assert!(framer.ahead().is_empty() && framer.is_mid_frame());
        framer.abandon();
        framer.push(b"\0\0\0\0\0");
        assert_eq!(framer.next(Kind::Tagged), None);
    }

    #[test]
    fn what_piles_up_out_of_turn_is_bounded() {
        let mut framer = Framer::default();
        for _ in 0..100 {
            framer.push(&[0; 10_000]);
        }
        assert_eq!(framer.ahead().len(), MAX_PENDING);
        assert_eq!(format!("{framer:?}"), format!("Framer {{ pending: {MAX_PENDING}, .. }}"));
    }

    #[test]
    fn a_length_word_that_cannot_be_one_is_broken() {
        for (row, kind, bytes) in [
            ("tagged, shorter than itself", Kind::Tagged, &b"R\0\0\0\x03"[..]),
            ("tagged, beyond a gigabyte", Kind::Tagged, b"H\x54\x54\x50\x2f"),
            ("startup, shorter than its version", Kind::Untagged, b"\0\0\0\x07"),
            ("startup, 10,001 bytes", Kind::Untagged, b"\0\0\x27\x11"),
        ] {
            let mut framer = Framer::default();
            framer.push(bytes);
            assert!(matches!(framer.next(kind), Some(Frame::Broken { .. })), "{row}");
            assert_eq!(framer.next(kind), None, "{row}: nothing behind it");
            assert!(framer.ahead().is_empty(), "{row}: nothing is kept, however much came with it");
        }
    }
}
