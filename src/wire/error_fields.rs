//! ErrorResponse and NoticeResponse: a list of tagged fields, or the one text of protocol 2.

use super::reader::{Reader, WireError, invalid};

/// The fields of an ErrorResponse or NoticeResponse, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    fields: Vec<(u8, &'a [u8])>,
}

/// What stands for the source file in errors that pgwhy makes itself.
pub const PGWHY: &[u8] = b"pgwhy";

/// Most fields that are kept: PostgreSQL has 18 kinds and sends each at most once.
const MAX_FIELDS: usize = 64;

impl<'a> ErrorFields<'a> {
    /// Builds the message from its fields.
    pub fn new(fields: Vec<(u8, &'a [u8])>) -> Self {
        Self { fields }
    }

    /// An error that pgwhy makes itself, in the server's place. Its file is [`PGWHY`], so that nobody takes it for the
    /// server's, neither here nor in a capture.
    pub fn of_pgwhy(sqlstate: &'a str, message: &'a [u8], detail: Option<&'a str>, routine: &'a str) -> Self {
        let mut fields: Vec<(u8, &[u8])> =
            vec![(b'S', b"FATAL"), (b'V', b"FATAL"), (b'C', sqlstate.as_bytes()), (b'M', message)];
        fields.extend(detail.map(|detail| (b'D', detail.as_bytes())));
        fields.extend([(b'F', PGWHY), (b'L', b"0"), (b'R', routine.as_bytes())]);
        Self { fields }
    }

    /// Decodes the body of an `E` or `N` message.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mut fields = Vec::new();
        loop {
            match reader.u8("error field type")? {
                0 => break,
                kind if fields.len() < MAX_FIELDS => fields.push((kind, reader.cstr("error field")?)),
                _ => return Err(invalid("number of error fields")),
            }
        }
        reader.finish("error fields")?;
        Ok(Self { fields })
    }

    /// Appends the body of the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (kind, text) in &self.fields {
            out.push(*kind);
            out.extend_from_slice(text);
            out.push(0);
        }
        out.push(0);
    }

    /// All fields: type byte and text.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + '_ {
        self.fields.iter().copied()
    }

    /// The first field of this type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, text)| text)
    }
}

/// The longest version 2 error that is waited for; PostgreSQL's own fit into 1,000 bytes.
pub const MAX_VERSION_2: usize = 8_192;

/// Reads the error of protocol version 2, which servers up to 13 send before they know the
/// client's version and any server sends when it can't start a backend
/// (`report_fork_failure_to_client`, postmaster.c): `E`, a text, a zero byte, no length.
///
/// `bytes` starts at the `E`. `None` when this is a message of version 3, or while the text has
/// no end within [`MAX_VERSION_2`] bytes. libpq tells them apart in the same way: a length word that no error has (`PQconnectPoll`).
pub fn version_2_text(bytes: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    if *tag != b'E' || (8..=30_000).contains(&length) {
        return None;
    }
    let end = rest.iter().take(MAX_VERSION_2).position(|&byte| byte == 0)?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_sent() {
        let body = b"SFATAL\0VFATAL\0C28P01\0Mno\0RClientAuthentication\0\0";
        let fields = ErrorFields::decode(body).unwrap();
        assert_eq!(fields.get(b'C'), Some(&b"28P01"[..]));
        assert_eq!(fields.get(b'D'), None);
        let mut out = Vec::new();
        fields.encode(&mut out);
        assert_eq!(out, body);
    }

    #[test]
    fn broken_fields_are_errors() {
        for body in [&b""[..], b"SFATAL\0", b"SFATAL", b"\0x"] {
            assert!(ErrorFields::decode(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn version_2_errors_are_told_by_their_length_word() {
        assert_eq!(
            version_2_text(b"Ecould not fork new process\n\0"),
            Some(&b"could not fork new process\n"[..])
        );
        assert_eq!(version_2_text(b"E\0\0\0\x20SFATAL\0"), None);
        assert_eq!(version_2_text(b"Ecould not"), None);
        let endless = [vec![b'E'; MAX_VERSION_2 + 1], vec![0]].concat();
        assert_eq!(version_2_text(&endless), None);
    }
}
