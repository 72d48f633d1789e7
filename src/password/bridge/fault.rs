//! What can go wrong in a bridge, and how PostgreSQL says so to a client.

use std::borrow::Cow;

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
    /// The server's nonce is not ours with something behind it.
    #[error("the server's nonce does not begin with the client's")]
    Nonce,
    /// The client's last nonce is not the server's.
    #[error("the nonce does not match")]
    ClientNonce,
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
    /// The server accepted a proof that proves nothing, in the place of the client's wrong one.
    #[error("the server accepted a wrong proof")]
    WrongProofAccepted,
    /// The SCRAM secret that we have is not the one that the server has.
    #[error("the SCRAM secret has another salt or iteration count than the server's")]
    AnotherSecret,
}

const MALFORMED: &str = "malformed SCRAM message";
const CHANNEL: &str = "The client supports SCRAM channel binding but thinks the server does not.  However, this \
                       server does support channel binding.";
const WITHOUT_DATA: &str = "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel \
                            binding data.";
const WITH_DATA: &str = "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes \
                         channel binding data.";
const FIRST: &str = "read_client_first_message";
const FINAL: &str = "read_client_final_message";

impl Fault {
    /// Appends the ErrorResponse for the client: in PostgreSQL's words, and with the name of its routine, where
    /// PostgreSQL has one.
    pub(super) fn tell(&self, user: &[u8], out: &mut Vec<u8>) {
        let (sqlstate, message, detail, routine): (_, Cow<'_, str>, Option<Cow<'_, str>>, _) = match self {
            Self::Downgrade => {
                ("28000", "SCRAM channel binding negotiation error".into(), Some(CHANNEL.into()), FIRST)
            }
            Self::Flag { plus } => {
                let detail = if *plus { WITHOUT_DATA } else { WITH_DATA };
                ("08P01", MALFORMED.into(), Some(detail.into()), FIRST)
            }
            Self::BindingType => ("08P01", "unsupported SCRAM channel-binding type".into(), None, FIRST),
            Self::AuthorizationIdentity => {
                ("0A000", "client uses authorization identity, but it is not supported".into(), None, FIRST)
            }
            Self::Extension => {
                ("0A000", "client requires an unsupported SCRAM extension".into(), None, FIRST)
            }
            Self::Binding => ("28000", "SCRAM channel binding check failed".into(), None, FINAL),
            Self::BindingHeader => {
                let message = "unexpected SCRAM channel-binding attribute in client-final-message";
                ("08P01", message.into(), None, FINAL)
            }
            Self::ClientNonce => {
                let detail = "Nonce does not match.";
                ("08P01", "invalid SCRAM response".into(), Some(detail.into()), "scram_exchange")
            }
            Self::MechanismNotOffered => {
                let message = "client selected an invalid SASL authentication mechanism";
                ("08P01", message.into(), None, "scram_init")
            }
            Self::Wire(_) | Self::TooLong => {
                ("08P01", MALFORMED.into(), Some(self.to_string().into()), FIRST)
            }
            Self::AnotherSecret => {
                let user = String::from_utf8_lossy(user);
                let message = format!(
                    "pgwhy: can't log in for user \"{user}\": the SCRAM secret that it was given is not the server's"
                );
                ("28000", message.into(), Some(self.to_string().into()), SECRET)
            }
            Self::Iterations(count) => {
                let message = format!(
                    "pgwhy: the server asks for {count} SCRAM iterations, the limit is {MAX_ITERATIONS}"
                );
                ("08P01", message.into(), None, ITERATIONS)
            }
            Self::Nonce => ("08P01", format!("pgwhy: {self}").into(), None, NONCE),
            Self::ServerSignature | Self::ServerErrorValue => {
                ("08P01", format!("pgwhy: {self}").into(), None, SIGNATURE)
            }
            Self::Unexpected(_) | Self::NoMechanism | Self::WrongProofAccepted => {
                ("08P01", format!("pgwhy: {self}").into(), None, "bridge")
            }
        };
        let fields = ErrorFields::of_pgwhy(sqlstate, message.as_bytes(), detail.as_deref(), routine);
        Backend::Error(fields).encode(out);
    }
}

/// What stands for the routine in errors of which PostgreSQL has no like: the SCRAM secret is not the server's.
pub const SECRET: &str = "bridge_secret";
/// The server asked for no or too many iterations.
pub const ITERATIONS: &str = "bridge_iterations";
/// The server's nonce does not begin with ours.
pub const NONCE: &str = "bridge_nonce";
/// The server did not prove that it knows the password.
pub const SIGNATURE: &str = "bridge_signature";
