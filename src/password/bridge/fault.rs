//! What can go wrong in a bridge, and how PostgreSQL says so to a client.

use crate::wire::backend::Backend;
use crate::wire::error_fields::ErrorFields;
use crate::wire::reader::WireError;

use super::MAX_ITERATIONS;

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
    /// pgwhy: what it was given does not do.
    Ours,
}

/// Why a conversation can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A message came that has no place here.
    #[error("{0} came where it has no place")]
    Unexpected(&'static str),
    /// A message can't be read.
    #[error("a message can't be read: {0}")]
    Wire(WireError),
    /// A message is longer than any that is right.
    #[error("a SASL message is too long")]
    TooLong,
    /// The server offers no mechanism that we can speak on this leg.
    #[error("the server offers no SCRAM mechanism that is possible on this connection")]
    NoMechanism,
    /// The client chose a mechanism that was not offered.
    #[error("the client selected a mechanism that was not offered")]
    MechanismNotOffered,
    /// The server asks for no or too many PBKDF2 rounds.
    #[error("the server asks for {0} SCRAM iterations")]
    Iterations(u32),
    /// A nonce is not the other's with something behind it.
    #[error("the nonce does not match")]
    Nonce,
    /// The server did not prove that it knows the password.
    #[error("the server's signature does not fit the password")]
    ServerSignature,
    /// The server ended SCRAM with an error value of RFC 5802.
    #[error("the server ended SCRAM with an error value")]
    ServerErrorValue,
    /// The client could bind to the channel and thinks that the server can't.
    #[error("the client thinks that channel binding is not supported, and it was offered")]
    Downgrade,
    /// The client's gs2 flag does not go with the mechanism that it chose.
    #[error("the channel binding flag does not go with the mechanism")]
    Flag {
        /// Whether it chose SCRAM-SHA-256-PLUS.
        plus: bool,
    },
    /// The client binds in a way that is not tls-server-end-point.
    #[error("the client uses an unsupported type of channel binding")]
    BindingType,
    /// The client bound to another certificate.
    #[error("the client bound to another certificate than ours")]
    Binding,
    /// The client repeats another gs2 header than it began with.
    #[error("the client's channel binding attribute does not repeat its gs2 header")]
    BindingHeader,
    /// The client names an authorization identity.
    #[error("the client uses an authorization identity")]
    AuthorizationIdentity,
    /// The client requires an extension of SCRAM.
    #[error("the client requires an extension of SCRAM")]
    Extension,
    /// The SCRAM secret that we have is not the one that the server has.
    #[error("the SCRAM secret has another salt or iteration count than the server's")]
    AnotherSecret,
}

const CHANNEL: &str = "The client supports SCRAM channel binding but thinks the server does not.  However, this \
                       server does support channel binding.";
const WITHOUT_DATA: &str = "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel \
                            binding data.";
const WITH_DATA: &str = "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes \
                         channel binding data.";
const FIRST: &str = "read_client_first_message";
const FINAL: &str = "read_client_final_message";

impl Fault {
    /// The ErrorResponse for the client: PostgreSQL's own where PostgreSQL has one.
    pub(super) fn tell(&self, user: &[u8]) -> Refusal {
        let scram = |sqlstate, message: &str, detail: &str, routine| Refusal {
            sqlstate,
            message: message.as_bytes().to_vec(),
            detail: detail.to_owned(),
            origin: Some(("auth-scram.c", None, routine)),
        };
        let ours = |message: String| Refusal {
            sqlstate: "08P01",
            message: format!("pgwhy: {message}").into_bytes(),
            detail: String::new(),
            origin: None,
        };
        match self {
            Self::Downgrade => scram("28000", "SCRAM channel binding negotiation error", CHANNEL, FIRST),
            Self::Flag { plus: true } => scram("08P01", "malformed SCRAM message", WITHOUT_DATA, FIRST),
            Self::Flag { plus: false } => scram("08P01", "malformed SCRAM message", WITH_DATA, FIRST),
            Self::BindingType => scram("08P01", "unsupported SCRAM channel-binding type", "", FIRST),
            Self::AuthorizationIdentity => {
                scram("0A000", "client uses authorization identity, but it is not supported", "", FIRST)
            }
            Self::Extension => scram("0A000", "client requires an unsupported SCRAM extension", "", FIRST),
            Self::Binding => scram("28000", "SCRAM channel binding check failed", "", FINAL),
            Self::BindingHeader => {
                let message = "unexpected SCRAM channel-binding attribute in client-final-message";
                scram("08P01", message, "", FINAL)
            }
            Self::Nonce => {
                scram("08P01", "invalid SCRAM response", "Nonce does not match.", "scram_exchange")
            }
            Self::MechanismNotOffered => {
                let message = "client selected an invalid SASL authentication mechanism";
                scram("08P01", message, "", "scram_init")
            }
            Self::Wire(_) | Self::TooLong => {
                scram("08P01", "malformed SCRAM message", &self.to_string(), FIRST)
            }
            Self::AnotherSecret => Refusal {
                sqlstate: "28000",
                message: [
                    &b"pgwhy: can't log in for user \""[..],
                    user,
                    b"\": the SCRAM secret that it was given is not the server's",
                ]
                .concat(),
                detail: self.to_string(),
                origin: None,
            },
            Self::Iterations(count) => {
                ours(format!("the server asks for {count} SCRAM iterations, the limit is {MAX_ITERATIONS}"))
            }
            Self::Unexpected(_) | Self::NoMechanism | Self::ServerSignature | Self::ServerErrorValue => {
                ours(self.to_string())
            }
        }
    }
}

/// `auth_failed` of auth.c, as PostgreSQL 15 sends it.
pub(super) fn password_wrong(user: &[u8]) -> Refusal {
    Refusal {
        sqlstate: "28P01",
        message: [&b"password authentication failed for user \""[..], user, b"\""].concat(),
        detail: String::new(),
        origin: Some(("auth.c", Some("334"), "auth_failed")),
    }
}

/// An ErrorResponse in the making.
#[derive(Debug)]
pub(super) struct Refusal {
    sqlstate: &'static str,
    message: Vec<u8>,
    detail: String,
    /// File, line and routine of PostgreSQL's source; what has none is ours.
    origin: Option<(&'static str, Option<&'static str>, &'static str)>,
}

impl Refusal {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // A user name can't hold a zero byte: the startup packet ends it there.
        let message = self.message.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut fields: Vec<(u8, &[u8])> =
            vec![(b'S', b"FATAL"), (b'V', b"FATAL"), (b'C', self.sqlstate.as_bytes()), (b'M', message)];
        if !self.detail.is_empty() {
            fields.push((b'D', self.detail.as_bytes()));
        }
        if let Some((file, line, routine)) = self.origin {
            fields.push((b'F', file.as_bytes()));
            fields.extend(line.map(|line| (b'L', line.as_bytes())));
            fields.push((b'R', routine.as_bytes()));
        }
        Backend::Error(ErrorFields::new(fields)).encode(out);
    }
}
