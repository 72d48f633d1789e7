//! A cursor over a slice: every length is checked against what is there before it is used.

use std::fmt;

/// Why bytes are not the message they claim to be. Names the field and never quotes bytes, which
/// may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct WireError {
    /// The field at fault, in the protocol documentation's words.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The message ends before the field does.
    Short,
    /// A string lacks its terminating zero byte.
    Unterminated,
    /// Bytes are left after the last field.
    Trailing,
    /// The field holds a value that its grammar does not allow.
    Invalid,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the message ends too early",
            Self::Unterminated => "no terminating zero byte",
            Self::Trailing => "bytes are left over",
            Self::Invalid => "not a valid value",
        })
    }
}

/// Reads fields off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(WireError { field, fault: Fault::Short })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Takes an array of a fixed size.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or(WireError { field, fault: Fault::Short })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Takes a big-endian 16-bit number.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Takes a big-endian 24-bit number (TLS handshake lengths).
    pub fn u24(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Takes a big-endian 32-bit number.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Takes a string that ends with a zero byte, without that byte.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(WireError { field, fault: Fault::Unterminated })?;
        let text = self.take(end, field)?;
        self.take(1, field)?;
        Ok(text)
    }

    /// Fails when anything is left.
    pub fn finish(self, field: &'static str) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError { field, fault: Fault::Trailing }) }
    }
}

/// Shorthand for a field whose value its grammar does not allow.
pub(crate) fn invalid(field: &'static str) -> WireError {
    WireError { field, fault: Fault::Invalid }
}
