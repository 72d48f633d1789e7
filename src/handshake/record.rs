//! The record: everything that was seen of one handshake, as values. It holds no verdict.

use std::time::Duration;

use crate::secret::Secret;
use crate::wire::error_fields::{ErrorFields, PGWHY};
use crate::wire::first::First;
use crate::wire::reader::WireError;
use crate::wire::tls::{Alert, ClientHello, ServerHello};

use super::opened::{Legs, OpenedTls};
use super::{Close, Side};

/// The steps of a login, in their order; the ids are those of docs/causes.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Name to addresses.
    Resolve,
    /// TCP or Unix socket, until the first byte may flow.
    Connect,
    /// GSSENCRequest and its answer.
    GssRequest,
    /// SSLRequest and its one-byte answer.
    SslRequest,
    /// TLS on either leg.
    TlsHandshake,
    /// StartupMessage and protocol negotiation.
    Startup,
    /// From the StartupMessage to the first authentication request.
    AuthRequest,
    /// The cleartext exchange.
    Password,
    /// The MD5 exchange.
    Md5,
    /// Mechanisms offered, one chosen.
    SaslMechanism,
    /// client-first-message.
    ScramClientFirst,
    /// server-first-message.
    ScramServerFirst,
    /// client-final-message and the server's judgement of it.
    ScramClientFinal,
    /// server-final-message and the client's judgement of it.
    ScramServerFinal,
    /// GSSAPI or SSPI tokens.
    Gss,
    /// OAUTHBEARER.
    Oauth,
    /// Behind AuthenticationOk, before ReadyForQuery.
    SessionSetup,
    /// ReadyForQuery.
    Ready,
    /// Our own pool.
    Pool,
}

impl Step {
    /// Every step, in the order of a login.
    pub const ALL: [Self; 19] = [
        Self::Resolve,
        Self::Connect,
        Self::GssRequest,
        Self::SslRequest,
        Self::TlsHandshake,
        Self::Startup,
        Self::AuthRequest,
        Self::Password,
        Self::Md5,
        Self::SaslMechanism,
        Self::ScramClientFirst,
        Self::ScramServerFirst,
        Self::ScramClientFinal,
        Self::ScramServerFinal,
        Self::Gss,
        Self::Oauth,
        Self::SessionSetup,
        Self::Ready,
        Self::Pool,
    ];

    /// The id used in reports.
    pub fn id(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::GssRequest => "gss_request",
            Self::SslRequest => "ssl_request",
            Self::TlsHandshake => "tls_handshake",
            Self::Startup => "startup",
            Self::AuthRequest => "auth_request",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::SaslMechanism => "sasl_mechanism",
            Self::ScramClientFirst => "scram_client_first",
            Self::ScramServerFirst => "scram_server_first",
            Self::ScramClientFinal => "scram_client_final",
            Self::ScramServerFinal => "scram_server_final",
            Self::Gss => "gss",
            Self::Oauth => "oauth",
            Self::SessionSetup => "session_setup",
            Self::Ready => "ready",
            Self::Pool => "pool",
        }
    }
}

/// A request for encryption and its one-byte answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// When the client asked.
    pub asked: Duration,
    /// The server's answer (`S`, `G`, `N`, `E` or a byte that is none of them) and when it came.
    pub answer: Option<(u8, Duration)>,
}

/// What could be seen of TLS that passed through unopened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The client started with TLS at once, without SSLRequest.
    pub direct: bool,
    /// The client's first ClientHello and when it was complete.
    pub client_hello: Option<(ClientHello, Duration)>,
    /// The ServerHello and when it was complete.
    pub server_hello: Option<(ServerHello, Duration)>,
    /// Certificates the server sent in clear (TLS 1.2).
    pub server_certificates: Option<usize>,
    /// Certificates the client sent in clear (TLS 1.2); 0 is the answer of a client that has none.
    pub client_certificates: Option<usize>,
    /// Whether the server asked for a client certificate, as far as TLS 1.2 shows it.
    pub certificate_requested: bool,
    /// Alerts in clear.
    pub alerts: Vec<(Side, Alert, Duration)>,
    /// The first encrypted records: sender, size, time. At most [`MAX_ENCRYPTED_RECORDS`], half of
    /// them of each side.
    pub encrypted: Vec<(Side, usize, Duration)>,
    /// A side whose bytes are no TLS.
    pub not_tls: Option<Side>,
    /// It was opened with a key log: what follows was seen in clear.
    pub opened: bool,
}

/// Encrypted records whose size and time are kept: enough for a whole TLS 1.3 handshake and the
/// login behind it.
pub const MAX_ENCRYPTED_RECORDS: usize = 32;

/// The startup packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupSeen {
    /// When it was complete.
    pub at: Duration,
    /// The version word: major in the upper 16 bits.
    pub version: u32,
    /// Names and values in the order sent.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl StartupSeen {
    /// The value of a parameter; the last one counts, as in `ProcessStartupPacket`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.parameters.iter().rev().find(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }
}

/// Why the client's first packet can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupFault {
    /// Its length word is impossible.
    Length(u32),
    /// A field of it is broken.
    Field(WireError),
}

/// An authentication request, as its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The code in the `R` message (3 cleartext, 5 MD5, 10 SASL, …).
    pub code: u32,
    /// When it came.
    pub at: Duration,
}

/// An MD5 exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Md5Seen {
    /// The server's salt.
    pub salt: [u8; 4],
    /// What the client answered: `md5` and 32 hex digits.
    pub response: Option<Secret<Vec<u8>>>,
}

/// A SCRAM exchange, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScramSeen {
    /// client-first-message.
    pub client_first: Option<ClientFirstSeen>,
    /// server-first-message.
    pub server_first: Option<ServerFirstSeen>,
    /// client-final-message.
    pub client_final: Option<ClientFinalSeen>,
    /// server-final-message: the signature, or the error value.
    pub server_final: Option<ServerFinalSeen>,
    /// The first message that breaks its grammar.
    pub fault: Option<(Step, WireError)>,
}

/// client-first-message as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirstSeen {
    /// When it came.
    pub at: Duration,
    /// `n`, `y` or `p`.
    pub flag: u8,
    /// The channel-binding type behind `p=`.
    pub binding_type: Option<Vec<u8>>,
    /// An authorization identity was sent.
    pub has_authzid: bool,
    /// The message behind its gs2 header.
    pub bare: Vec<u8>,
    /// `n=`
    pub user: Vec<u8>,
    /// `r=`
    pub nonce: Vec<u8>,
}

/// server-first-message as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFirstSeen {
    /// When it came.
    pub at: Duration,
    /// The whole message.
    pub text: Vec<u8>,
    /// `s=`, decoded.
    pub salt: Vec<u8>,
    /// `i=`
    pub iterations: u32,
    /// Whether its nonce starts with the client's.
    pub extends_nonce: bool,
}

/// client-final-message as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFinalSeen {
    /// When it came.
    pub at: Duration,
    /// `c=`, decoded.
    pub binding: Vec<u8>,
    /// Whether its nonce is the server's.
    pub keeps_nonce: bool,
    /// The message up to its proof.
    pub without_proof: Vec<u8>,
    /// The proof, decoded.
    pub proof: Secret<Vec<u8>>,
}

/// server-final-message as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFinalSeen {
    /// The server's signature.
    Signature(Secret<Vec<u8>>),
    /// An error value.
    Error(Vec<u8>),
}

/// An OAUTHBEARER exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OauthSeen {
    /// Length of the token that the client sent.
    pub token_length: Option<usize>,
    /// The server's error document (status, scope, where to find the issuer).
    pub discovery: Option<Vec<u8>>,
}

/// An ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorSeen {
    /// When it came.
    pub at: Duration,
    /// Type byte and text of every field, as sent; of a version 2 error only `M`.
    pub fields: Vec<(u8, Vec<u8>)>,
    /// It came in the form of protocol version 2.
    pub version_2: bool,
}

impl ErrorSeen {
    /// Keeps the fields of a message.
    pub fn new(at: Duration, fields: &ErrorFields<'_>) -> Self {
        let fields = fields.iter().map(|(kind, text)| (kind, text.to_vec())).collect();
        Self { at, fields, version_2: false }
    }

    /// A field by its type byte, as bytes.
    pub fn get(&self, kind: u8) -> Option<&[u8]> {
        self.fields.iter().find(|(found, _)| *found == kind).map(|(_, text)| text.as_slice())
    }

    /// A field as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self, kind: u8) -> Option<String> {
        self.get(kind).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The SQLSTATE, or nothing where there is none.
    pub fn sqlstate(&self) -> &str {
        self.get(b'C').and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default()
    }

    /// The C function that raised it; PostgreSQL always says, poolers and gateways do not.
    pub fn routine(&self) -> &str {
        self.get(b'R').and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// Whether a PostgreSQL backend wrote it: only they fill in file, line and routine (and so do we, where we
    /// stand in for one).
    pub fn is_from_postgres(&self) -> bool {
        [b'F', b'L', b'R'].iter().all(|kind| self.get(*kind).is_some())
    }

    /// Whether pgwhy wrote it, in the server's place.
    pub fn is_ours(&self) -> bool {
        self.get(b'F') == Some(PGWHY)
    }
}

/// The session's data behind AuthenticationOk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSeen {
    /// When AuthenticationOk came.
    pub authenticated: Option<Duration>,
    /// ParameterStatus messages; at most [`MAX_PARAMETER_STATUS`].
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// Process id of BackendKeyData.
    pub pid: Option<u32>,
    /// Length of its secret in bytes.
    pub secret_length: Option<usize>,
    /// When ReadyForQuery came.
    pub ready: Option<Duration>,
}

/// A client that logged in, looked at what kind of server it has reached, and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parting {
    /// When it left.
    pub at: Duration,
    /// It said so (Terminate); otherwise it just closed.
    pub terminated: bool,
    /// What it asked first, and what the server answered; empty where ParameterStatus had told it.
    pub answers: Vec<(Asked, bool)>,
}

/// What drivers ask to learn the kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// `SHOW transaction_read_only`, or the default of it.
    ReadOnly,
    /// `SELECT pg_is_in_recovery()`.
    Recovery,
}

/// How long behind ReadyForQuery a client's departure still belongs to its login: a driver decides at
/// once, so this is a round trip to it, and the time that a program takes on a busy machine.
pub const MOMENT: Duration = Duration::from_millis(250);

/// PostgreSQL 18 reports 15 settings; CockroachDB and poolers a few more.
pub const MAX_PARAMETER_STATUS: usize = 128;
/// Bytes of ParameterStatus that are kept; PostgreSQL 18 reports some 500.
pub const MAX_PARAMETER_BYTES: usize = 16_384;
/// Authentication requests kept; a real server asks once, a GSSAPI one a few times. The last
/// place is for the newest.
pub const MAX_REQUESTS: usize = 16;
/// Notices kept of one handshake.
pub const MAX_NOTICES: usize = 8;
/// First bytes of each side that are kept to recognise other protocols. They are kept only when
/// they can't hold a secret: a client's from its first packet (of a CancelRequest without the key,
/// of what is no packet the length word alone), a server's at any time.
pub const FIRST_BYTES: usize = 64;

/// Everything that was seen of one handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What the client's first bytes are.
    pub first: Option<First>,
    /// The first bytes of the client.
    pub client_start: Vec<u8>,
    /// The first bytes of the server.
    pub server_start: Vec<u8>,
    /// Bytes the client sent while it was watched.
    pub client_bytes: u64,
    /// Bytes the server sent while it was watched.
    pub server_bytes: u64,
    /// GSSENCRequest.
    pub gss_request: Option<Negotiation>,
    /// SSLRequest.
    pub ssl_request: Option<Negotiation>,
    /// Bytes a side sent in clear where only TLS may follow (behind SSLRequest or its `S`).
    pub injected: Option<(Side, usize)>,
    /// The server declined TLS and the client sent a ClientHello all the same.
    pub hello_after_no: bool,
    /// TLS that passed through, and what was in clear of TLS that we opened.
    pub tls: Option<Tls>,
    /// What we did on our own part: TLS that we are an end of, and SCRAM on both legs.
    pub legs: Option<Box<Legs>>,
    /// GSSAPI encryption that passed through.
    pub gss_encrypted: bool,
    /// A CancelRequest: the process id it names.
    pub cancel: Option<u32>,
    /// The startup packet.
    pub startup: Option<StartupSeen>,
    /// Why the first packet can't be used.
    pub startup_fault: Option<StartupFault>,
    /// NegotiateProtocolVersion: newest version word and options not known.
    pub negotiations: Vec<(u32, Vec<Vec<u8>>)>,
    /// The server's authentication requests up to AuthenticationOk.
    pub requests: Vec<Request>,
    /// Mechanisms offered by AuthenticationSASL.
    pub mechanisms: Vec<Vec<u8>>,
    /// The mechanism the client chose.
    pub mechanism: Option<Vec<u8>>,
    /// The answer to AuthenticationSASL breaks its grammar.
    pub sasl_fault: Option<WireError>,
    /// The password the client sent in clear.
    pub cleartext: Option<Secret<Vec<u8>>>,
    /// When the client last answered an authentication request.
    pub answered: Option<Duration>,
    /// The MD5 exchange.
    pub md5: Option<Md5Seen>,
    /// The SCRAM exchange.
    pub scram: Option<ScramSeen>,
    /// The OAUTHBEARER exchange.
    pub oauth: Option<OauthSeen>,
    /// GSSAPI tokens: how many the client and the server sent.
    pub gss_tokens: (u32, u32),
    /// The session's data.
    pub session: SessionSeen,
    /// It left as soon as it was logged in, as a client does that wants another kind of server.
    pub parting: Option<Parting>,
    /// The ErrorResponse that ended the login.
    pub error: Option<ErrorSeen>,
    /// Notices.
    pub notices: Vec<ErrorSeen>,
    /// A message of the client that has no place in a handshake: its tag and the step.
    pub stray: Option<(u8, Step)>,
    /// A message of the server that is broken: the step and what is wrong.
    pub server_fault: Option<(Step, WireError)>,
    /// What the server sent is no message of this protocol.
    pub server_not_postgres: bool,
    /// Ends of stream in the order they came.
    pub closes: Vec<(Side, Close, Duration)>,
    /// When the client last sent bytes.
    pub client_last: Option<Duration>,
    /// When the server last sent bytes.
    pub server_last: Option<Duration>,
    /// When the login was refused or the watch ended.
    pub ended: Duration,
    /// The step that the handshake was in when it ended.
    pub step: Option<Step>,
}

impl Record {
    /// Whether the client's way to us is encrypted (through to the server, where nothing is opened).
    pub fn is_client_encrypted(&self) -> bool {
        self.tls.is_some() || self.gss_encrypted
    }

    /// Whether the way to the server is encrypted: what its pg_hba.conf goes by.
    pub fn is_server_encrypted(&self) -> bool {
        let is_up = |tls: &OpenedTls| tls.version.is_some();
        match self.legs.as_deref() {
            Some(legs) if legs.server.as_ref().is_some_and(is_up) => true,
            Some(legs) if legs.client.as_ref().is_some_and(is_up) => self.gss_encrypted,
            _ => self.is_client_encrypted(),
        }
    }

    /// The user of the startup packet.
    pub fn user(&self) -> Option<&[u8]> {
        self.startup.as_ref()?.get("user").filter(|user| !user.is_empty())
    }

    /// The database that the session is for: PostgreSQL takes the user's name where none is given.
    pub fn database(&self) -> Option<&[u8]> {
        let startup = self.startup.as_ref()?;
        startup.get("database").filter(|name| !name.is_empty()).or_else(|| self.user())
    }

    /// A ParameterStatus value.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        let found = self.session.parameters.iter().find(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// Who closed first, and how.
    pub fn first_close(&self) -> Option<(Side, Close, Duration)> {
        self.closes.first().copied()
    }

    /// The last authentication request before AuthenticationOk.
    pub fn last_request(&self) -> Option<Request> {
        self.requests.last().copied()
    }

    /// The authentication method by the words of pg_hba.conf, as far as the wire tells it.
    pub fn auth_method(&self) -> Option<&'static str> {
        let first = match self.requests.first() {
            Some(request) => request.code,
            None => return self.session.authenticated.map(|_| "trust"),
        };
        Some(match first {
            3 => "password",
            5 => "md5",
            7 => "gss",
            9 => "sspi",
            10 if self.mechanism.as_deref() == Some(b"OAUTHBEARER") || self.offers(b"OAUTHBEARER") => "oauth",
            10 => "scram-sha-256",
            13 => "sha256",
            1 | 2 => "krb5",
            4 => "crypt",
            6 => "scm",
            _ => "unknown",
        })
    }

    /// Whether AuthenticationSASL offered this mechanism.
    pub fn offers(&self, mechanism: &[u8]) -> bool {
        self.mechanisms.iter().any(|offered| offered == mechanism)
    }
}
