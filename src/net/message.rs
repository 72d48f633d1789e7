//! Whole messages of a login, out of bytes as they come.

use zeroize::Zeroizing;

/// A message, its type apart. A proof may be in it.
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Where a message ends.
pub(super) enum Cut {
    /// Later.
    Partial,
    /// Here, type and length word included.
    Whole(usize),
    /// Nowhere: the length is impossible, or longer than a login's messages are.
    Nonsense,
}

/// Finds the end of the first message.
pub(super) fn cut(bytes: &[u8]) -> Cut {
    let Some(word) = bytes.get(1..).and_then(|rest| rest.first_chunk::<4>()) else { return Cut::Partial };
    match usize::try_from(u32::from_be_bytes(*word)) {
        Ok(length) if (4..=MAX_AHEAD).contains(&length) => {
            if bytes.len() > length {
                Cut::Whole(length + 1)
            } else {
                Cut::Partial
            }
        }
        _ => Cut::Nonsense,
    }
}

/// Takes the first message out where it is whole.
pub(super) fn take_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let Cut::Whole(length) = cut(bytes) else { return None };
    let tag = bytes.first().copied()?;
    let body = bytes.get(5..length)?.to_vec().into();
    bytes.drain(..length);
    Some(Message { tag, body })
}

/// Appends a message.
pub(super) fn put_message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    crate::wire::frontend::encode_tagged(out, tag, body);
}

/// The longest message of a login, and what a client may send ahead: PostgreSQL's longest token is 65,535 bytes.
pub(super) const MAX_AHEAD: usize = 65_536;
