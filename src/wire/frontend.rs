//! What a client sends until it is logged in.

use std::fmt;

use super::reader::{Reader, WireError, invalid};

/// Version words of the packets that are no StartupMessage (`pqcomm.h`).
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// See [`CANCEL_REQUEST`].
pub const SSL_REQUEST: u32 = 80_877_103;
/// See [`CANCEL_REQUEST`].
pub const GSSENC_REQUEST: u32 = 80_877_104;

/// Most parameters that are kept of a startup packet; 10,000 bytes could hold 3,300 empty ones.
pub const MAX_PARAMETERS: usize = 512;
/// The longest secret of a cancel key, from protocol 3.2 on.
pub const MAX_CANCEL_KEY: usize = 256;

/// A packet without a tag: the first of a client, or one of the first few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untagged<'a> {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Cancels the query of another connection.
    CancelRequest {
        /// The backend's process id.
        pid: u32,
        /// The secret that BackendKeyData gave: 4 bytes, from 3.2 on up to 256.
        secret: &'a [u8],
    },
    /// Starts a session.
    Startup(Startup<'a>),
}

/// A StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    /// The version word: major in the upper 16 bits, minor in the lower.
    pub version: u32,
    /// Names and values in the order sent.
    pub parameters: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Untagged<'a> {
    /// Decodes the packet behind its length word.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let code = reader.u32("protocol version")?;
        match code {
            SSL_REQUEST => reader.finish("SSLRequest").map(|()| Self::SslRequest),
            GSSENC_REQUEST => reader.finish("GSSENCRequest").map(|()| Self::GssEncRequest),
            CANCEL_REQUEST => {
                let pid = reader.u32("cancel process id")?;
                let secret = reader.take_rest();
                if secret.is_empty() || secret.len() > MAX_CANCEL_KEY {
                    return Err(invalid("cancel secret key"));
                }
                Ok(Self::CancelRequest { pid, secret })
            }
            version => Startup::decode(version, reader).map(Self::Startup),
        }
    }

    /// Appends the whole packet, length word included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, None, |out| match self {
            Self::SslRequest => out.extend_from_slice(&SSL_REQUEST.to_be_bytes()),
            Self::GssEncRequest => out.extend_from_slice(&GSSENC_REQUEST.to_be_bytes()),
            Self::CancelRequest { pid, secret } => {
                out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
                out.extend_from_slice(&pid.to_be_bytes());
                out.extend_from_slice(secret);
            }
            Self::Startup(startup) => {
                out.extend_from_slice(&startup.version.to_be_bytes());
                for (name, value) in &startup.parameters {
                    for text in [name, value] {
                        out.extend_from_slice(text);
                        out.push(0);
                    }
                }
                out.push(0);
            }
        });
    }
}

impl<'a> Startup<'a> {
    /// Decodes the name and value pairs behind the version word (`ProcessStartupPacket`).
    ///
    /// Of a version that is not 3 only the version is read: its packets look otherwise.
    fn decode(version: u32, mut reader: Reader<'a>) -> Result<Self, WireError> {
        if version >> 16 != 3 {
            return Ok(Self { version, parameters: Vec::new() });
        }
        let mut parameters = Vec::with_capacity(8);
        loop {
            let name = reader.cstr("startup parameter name")?;
            if name.is_empty() {
                break;
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(invalid("number of startup parameters"));
            }
            parameters.push((name, reader.cstr("startup parameter value")?));
        }
        reader.finish("startup packet")?;
        Ok(Self { version, parameters })
    }
}

/// The first answer to AuthenticationSASL.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a [u8],
    /// Its first message; `None` where the client sends none (length -1).
    pub response: Option<&'a [u8]>,
}

/// OAUTHBEARER's first message holds the token: only lengths are shown.
impl fmt::Debug for SaslInitialResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslInitialResponse")
            .field("mechanism", &self.mechanism.len())
            .field("response", &self.response.map(<[u8]>::len))
            .finish()
    }
}

impl<'a> SaslInitialResponse<'a> {
    /// Decodes the body of a `p` message that answers AuthenticationSASL.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mechanism = reader.cstr("SASL mechanism")?;
        let length = reader.u32("SASL response length")?;
        let response = if length == u32::MAX {
            None
        } else {
            let length = usize::try_from(length).map_err(|_| invalid("SASL response length"))?;
            Some(reader.take(length, "SASL response")?)
        };
        reader.finish("SASLInitialResponse")?;
        Ok(Self { mechanism, response })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, Some(b'p'), |out| {
            out.extend_from_slice(self.mechanism);
            out.push(0);
            match self.response {
                None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
                Some(response) => {
                    let length = u32::try_from(response.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(response);
                }
            }
        });
    }
}

/// Decodes the body of a PasswordMessage: the text without its terminating zero byte.
pub fn decode_password(body: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(body);
    let password = reader.cstr("password")?;
    reader.finish("PasswordMessage")?;
    Ok(password)
}

/// Appends a tagged message whose body is `body`: SASLResponse, GSSResponse, Terminate, or a
/// PasswordMessage with its zero byte.
pub fn encode_tagged(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    framed(out, Some(tag), |out| out.extend_from_slice(body));
}

/// Writes a tag and a body, and the length word between them once the body's size is known.
pub(super) fn framed(out: &mut Vec<u8>, tag: Option<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(word) = out.get_mut(start..start + 4) {
        word.copy_from_slice(&length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_sent() {
        let packets = [
            Untagged::SslRequest,
            Untagged::GssEncRequest,
            Untagged::CancelRequest { pid: 7, secret: &[9; 32] },
            Untagged::Startup(Startup { version: 0x3_0000, parameters: vec![(b"user", b"x"), (b"a", b"")] }),
            Untagged::Startup(Startup { version: 0x3_270f, parameters: Vec::new() }),
        ];
        for packet in packets {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            assert_eq!(Untagged::decode(&bytes[4..]).as_ref(), Ok(&packet));
            if !matches!(packet, Untagged::CancelRequest { .. }) {
                assert!(Untagged::decode(&bytes[4..bytes.len() - 1]).is_err(), "cut short: {packet:?}");
            }
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let response = Some(&b"n,,\x01auth=Bearer hunter2\x01\x01"[..]);
        let shown = format!("{:?}", SaslInitialResponse { mechanism: b"OAUTHBEARER", response });
        assert_eq!(shown, "SaslInitialResponse { mechanism: 11, response: Some(25) }");
    }

    #[test]
    fn faults_name_their_field() {
        let rows: [(&[u8], &str); 5] = [
            (b"\0\x03", "protocol version"),
            (b"\0\x03\0\0user\0x", "startup parameter value"),
            (b"\0\x03\0\0user\0x\0", "startup parameter name"),
            (b"\0\x03\0\0user\0x\0\0more", "startup packet"),
            (b"\x04\xd2\x16\x2e\0\0\0\x01", "cancel secret key"),
        ];
        for (body, field) in rows {
            assert_eq!(Untagged::decode(body).map_err(|error| error.field), Err(field));
        }
    }
}
