//! What a server sends until the client is logged in.

use super::error_fields::ErrorFields;
use super::frontend::{MAX_CANCEL_KEY, framed};
use super::reader::{Reader, WireError, invalid};

/// A tagged message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend<'a> {
    /// `R`: asks for authentication, goes on with it, or ends it.
    Authentication(Authentication<'a>),
    /// `E`: the end of a login that fails.
    Error(ErrorFields<'a>),
    /// `N`: a warning.
    Notice(ErrorFields<'a>),
    /// `S`: a setting and its value.
    ParameterStatus {
        /// Name of the setting.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// `K`: what a CancelRequest must carry.
    BackendKeyData {
        /// The backend's process id.
        pid: u32,
        /// 4 bytes, from protocol 3.2 on up to 256.
        secret: &'a [u8],
    },
    /// `Z`: the session is ready; `I`, `T` or `E` for the transaction's state.
    ReadyForQuery(u8),
    /// `v`: the server speaks only an older minor version, or does not know some `_pq_.` options.
    NegotiateProtocolVersion {
        /// The newest version the server speaks, as a version word (PostgreSQL sends major and minor).
        newest: u32,
        /// The options it does not know.
        unrecognized: Vec<&'a [u8]>,
    },
    /// Any other message; carried on, not understood.
    Other {
        /// The type byte.
        tag: u8,
        /// The message behind its length word.
        body: &'a [u8],
    },
}

/// The authentication requests, by their code in the `R` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// 0: logged in.
    Ok,
    /// 2: Kerberos 5 (1 was Kerberos 4); no server since 9.3 asks for it.
    Kerberos(u32),
    /// 3: the password in clear.
    Cleartext,
    /// 4: crypt(3), long gone.
    Crypt([u8; 2]),
    /// 5: the MD5 of password, user and this salt.
    Md5([u8; 4]),
    /// 6: SCM credentials, long gone.
    Scm,
    /// 7: GSSAPI.
    Gss,
    /// 8: a GSSAPI or SSPI token.
    GssContinue(&'a [u8]),
    /// 9: SSPI.
    Sspi,
    /// 10: SASL with one of these mechanisms.
    Sasl(Vec<&'a [u8]>),
    /// 11: the server's SASL challenge.
    SaslContinue(&'a [u8]),
    /// 12: the server's last SASL message.
    SaslFinal(&'a [u8]),
    /// 13: Amazon Redshift's and openGauss's own SHA-256 digests; their parameters are opaque here.
    Digest(&'a [u8]),
    /// A code that is none of these.
    Unknown {
        /// The code.
        code: u32,
        /// What follows it.
        body: &'a [u8],
    },
}

/// Most mechanisms that are kept of AuthenticationSASL; PostgreSQL has three.
const MAX_MECHANISMS: usize = 64;
/// Most unrecognised options that are kept of NegotiateProtocolVersion.
const MAX_UNRECOGNIZED: usize = 512;

impl<'a> Backend<'a> {
    /// Decodes a message from its tag and what follows its length word.
    pub fn decode(tag: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let message = match tag {
            b'R' => return Authentication::decode(body).map(Self::Authentication),
            b'E' => return ErrorFields::decode(body).map(Self::Error),
            b'N' => return ErrorFields::decode(body).map(Self::Notice),
            b'S' => Self::ParameterStatus {
                name: reader.cstr("parameter name")?,
                value: reader.cstr("parameter value")?,
            },
            b'K' => {
                let pid = reader.u32("backend process id")?;
                let secret = reader.take_rest();
                if secret.is_empty() || secret.len() > MAX_CANCEL_KEY {
                    return Err(invalid("backend secret key"));
                }
                Self::BackendKeyData { pid, secret }
            }
            b'Z' => Self::ReadyForQuery(reader.u8("transaction status")?),
            b'v' => negotiation(&mut reader)?,
            tag => Self::Other { tag, body: reader.take_rest() },
        };
        reader.finish("message")?;
        Ok(message)
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, Some(self.tag()), |out| match self {
            Self::Authentication(request) => request.encode(out),
            Self::Error(fields) | Self::Notice(fields) => fields.encode(out),
            Self::ParameterStatus { name, value } => {
                for text in [name, value] {
                    out.extend_from_slice(text);
                    out.push(0);
                }
            }
            Self::BackendKeyData { pid, secret } => {
                out.extend_from_slice(&pid.to_be_bytes());
                out.extend_from_slice(secret);
            }
            Self::ReadyForQuery(status) => out.push(*status),
            Self::NegotiateProtocolVersion { newest, unrecognized } => {
                out.extend_from_slice(&newest.to_be_bytes());
                let count = u32::try_from(unrecognized.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&count.to_be_bytes());
                for option in unrecognized {
                    out.extend_from_slice(option);
                    out.push(0);
                }
            }
            Self::Other { body, .. } => out.extend_from_slice(body),
        });
    }

    /// The type byte.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Authentication(_) => b'R',
            Self::Error(_) => b'E',
            Self::Notice(_) => b'N',
            Self::ParameterStatus { .. } => b'S',
            Self::BackendKeyData { .. } => b'K',
            Self::ReadyForQuery(_) => b'Z',
            Self::NegotiateProtocolVersion { .. } => b'v',
            Self::Other { tag, .. } => *tag,
        }
    }
}

fn negotiation<'a>(reader: &mut Reader<'a>) -> Result<Backend<'a>, WireError> {
    let newest = reader.u32("newest protocol version")?;
    let count = reader.u32("number of unrecognized options")?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_UNRECOGNIZED {
        return Err(invalid("number of unrecognized options"));
    }
    let mut unrecognized = Vec::new();
    for _ in 0..count {
        unrecognized.push(reader.cstr("unrecognized option")?);
    }
    Ok(Backend::NegotiateProtocolVersion { newest, unrecognized })
}

impl<'a> Authentication<'a> {
    /// Decodes the body of an `R` message.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let request = match reader.u32("authentication request code")? {
            0 => Self::Ok,
            code @ (1 | 2) => Self::Kerberos(code),
            3 => Self::Cleartext,
            4 => Self::Crypt(reader.array("crypt salt")?),
            5 => Self::Md5(reader.array("MD5 salt")?),
            6 => Self::Scm,
            7 => Self::Gss,
            8 => Self::GssContinue(reader.take_rest()),
            9 => Self::Sspi,
            10 => Self::Sasl(mechanisms(&mut reader)?),
            11 => Self::SaslContinue(reader.take_rest()),
            12 => Self::SaslFinal(reader.take_rest()),
            13 => Self::Digest(reader.take_rest()),
            code => Self::Unknown { code, body: reader.take_rest() },
        };
        reader.finish("authentication request")?;
        Ok(request)
    }

    /// The code of the request.
    pub fn code(&self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Kerberos(code) | Self::Unknown { code, .. } => *code,
            Self::Cleartext => 3,
            Self::Crypt(_) => 4,
            Self::Md5(_) => 5,
            Self::Scm => 6,
            Self::Gss => 7,
            Self::GssContinue(_) => 8,
            Self::Sspi => 9,
            Self::Sasl(_) => 10,
            Self::SaslContinue(_) => 11,
            Self::SaslFinal(_) => 12,
            Self::Digest(_) => 13,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code().to_be_bytes());
        match self {
            Self::Crypt(salt) => out.extend_from_slice(salt),
            Self::Md5(salt) => out.extend_from_slice(salt),
            Self::GssContinue(body)
            | Self::SaslContinue(body)
            | Self::SaslFinal(body)
            | Self::Digest(body)
            | Self::Unknown { body, .. } => out.extend_from_slice(body),
            Self::Sasl(mechanisms) => {
                for mechanism in mechanisms {
                    out.extend_from_slice(mechanism);
                    out.push(0);
                }
                out.push(0);
            }
            Self::Ok | Self::Kerberos(_) | Self::Cleartext | Self::Scm | Self::Gss | Self::Sspi => {}
        }
    }
}

fn mechanisms<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, WireError> {
    let mut mechanisms = Vec::with_capacity(2);
    loop {
        let mechanism = reader.cstr("SASL mechanism")?;
        if mechanism.is_empty() {
            return Ok(mechanisms);
        }
        if mechanisms.len() == MAX_MECHANISMS {
            return Err(invalid("number of SASL mechanisms"));
        }
        mechanisms.push(mechanism);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_sent() {
        use Authentication as A;
        let requests = [
            A::Ok,
            A::Kerberos(2),
            A::Cleartext,
            A::Crypt(*b"ab"),
            A::Md5(*b"salt"),
            A::Scm,
            A::Gss,
            A::GssContinue(b"token"),
            A::Sspi,
            A::Sasl(vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]),
            A::SaslContinue(b"r=1,s=2,i=3"),
            A::SaslFinal(b"v=4"),
            A::Digest(b"\0\0\0\x02"),
            A::Unknown { code: 99, body: b"?" },
        ];
        let others = [
            Backend::Error(ErrorFields::new(vec![(b'C', b"28P01")])),
            Backend::Notice(ErrorFields::new(vec![])),
            Backend::ParameterStatus { name: b"server_version", value: b"18.4" },
            Backend::BackendKeyData { pid: 1, secret: &[2; 32] },
            Backend::ReadyForQuery(b'I'),
            Backend::NegotiateProtocolVersion { newest: 0x3_0000, unrecognized: vec![b"_pq_.x"] },
            Backend::Other { tag: b'T', body: b"rows" },
        ];
        for message in requests.into_iter().map(Backend::Authentication).chain(others) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Backend::decode(bytes[0], &bytes[5..]).as_ref(), Ok(&message));
        }
    }

    #[test]
    fn a_count_is_checked_before_anything_is_allocated() {
        assert!(Backend::decode(b'v', b"\0\x03\0\0\xff\xff\xff\xff").is_err());
        assert!(Backend::decode(b'K', &[0; 300]).is_err());
        assert!(Backend::decode(b'R', b"\0\0\0\x05\x01").is_err());
    }
}
