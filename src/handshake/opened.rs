//! What is known of TLS that the proxy itself ended, as values: the observer is told, and keeps them
//! in the record beside what it saw in clear.

use std::time::Duration;

use super::Side;

/// TLS on one leg that pgwhy is an end of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedTls {
    /// When the handshake was over, or failed.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The version word: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3.
    pub version: Option<u16>,
    /// The cipher suite, by its name in the standard.
    pub cipher: Option<String>,
    /// The session was resumed: no certificate was sent.
    pub resumed: bool,
    /// The server name (SNI) in the ClientHello.
    pub server_name: Option<String>,
    /// ALPN agreed on `postgresql`.
    pub alpn: bool,
    /// TLS began without an SSLRequest.
    pub direct: bool,
    /// The certificate chain that the other end showed, leaf first, in DER; at most [`MAX_CHAIN`].
    pub chain: Vec<Vec<u8>>,
    /// On the client's leg: the certificate that we showed is the server's own.
    pub has_servers_certificate: bool,
    /// The peer asked for a certificate (as servers do that know a client CA).
    pub certificate_requested: bool,
    /// We have sent a certificate of our own as a client.
    pub certificate_sent: bool,
    /// The certificate that we showed this peer, in DER.
    pub shown: Option<Vec<u8>>,
}

/// Certificates kept of a chain; real ones have two to four.
pub const MAX_CHAIN: usize = 10;

/// Why TLS with one of the ends did not come about. Its side is the leg's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// The end that we were talking to.
    pub leg: Side,
    /// What went wrong.
    pub kind: FaultKind,
    /// The host name that a certificate was held against.
    pub host: Option<String>,
    /// Seconds since 1970, by our clock: what a certificate's dates were held against.
    pub now_unix: u64,
    /// The root certificates that a chain was held against, in DER.
    pub roots: Vec<Vec<u8>>,
    /// They are the system's, not a file's.
    pub system_roots: bool,
}

/// What went wrong in TLS with one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// We do not accept the other end's certificate.
    Certificate(CertificateFault),
    /// The other end had to show a certificate and has none.
    NoCertificate,
    /// The other end ended it with this alert.
    Alert(u8),
    /// No TLS version in common.
    Version,
    /// No cipher suite, group or signature scheme in common.
    Cipher,
    /// No application protocol in common, or none named where one must be.
    Alpn,
    /// What came is not TLS; its first byte.
    NotTls(u8),
    /// The other end closed or reset the connection in the handshake.
    Closed,
    /// The server declined the SSLRequest with this byte, and TLS is required.
    Declined(u8),
    /// Bytes in clear arrived behind the SSLRequest or its answer.
    Injected(usize),
    /// TLS is required of clients here, and this one began without.
    Required,
    /// The certificate is good, and does not name the user of the startup packet.
    UserMismatch {
        /// The common name of the certificate.
        common_name: Option<String>,
    },
    /// Anything else, in the TLS library's words.
    Other(String),
}

impl FaultKind {
    /// What it is, as a part of a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::Certificate(_) | Self::NoCertificate => "the server's certificate is not accepted".into(),
            Self::Alert(code) => format!("the server sent alert {code}"),
            Self::Version => "there is no TLS version in common".into(),
            Self::Cipher => "there is no cipher suite in common".into(),
            Self::Alpn => "there is no application protocol in common".into(),
            Self::Declined(byte) => format!("the server answered {}", char::from(*byte).escape_default()),
            Self::Injected(_) => "bytes came in clear behind the server's answer".into(),
            Self::Closed => "the server closed in the handshake".into(),
            Self::NotTls(_) => "what the server answered is no TLS".into(),
            Self::Required | Self::UserMismatch { .. } => "the client was refused".into(),
            Self::Other(words) => words.clone(),
        }
    }
}

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// No chain to a root that we have.
    UnknownIssuer,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It does not name the host.
    BadName,
    /// A signature of the chain does not fit.
    BadSignature,
    /// It is on the list of revoked certificates.
    Revoked,
    /// It is not for this use.
    WrongPurpose,
    /// A certificate that may sign others is used as a server's.
    CaAsEndEntity,
    /// It can't be read.
    Malformed,
    /// It is of X.509 version 1, which rustls does not read.
    VersionOne,
    /// Something else.
    Other,
}

/// What is known of a login that pgwhy did itself towards the server (SCRAM on both legs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Whether the client proved to us that it knows the expected password.
    pub client_fits: Option<bool>,
    /// Whether the server accepted the expected password.
    pub server_accepts: Option<bool>,
}

/// What the proxy did on its own part on the way between the legs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legs {
    /// TLS between the client and us.
    pub client: Option<OpenedTls>,
    /// TLS between us and the server.
    pub server: Option<OpenedTls>,
    /// The server's answer to an SSLRequest of our own.
    pub server_answer: Option<u8>,
    /// Why one of the two did not come about.
    pub fault: Option<TlsFault>,
    /// A way to the server that was tried first and given up, as libpq's `prefer` and `allow` do.
    pub fell_back: Option<FellBack>,
    /// SCRAM on both legs.
    pub bridged: Option<Bridged>,
    /// SCRAM-SHA-256-PLUS was taken out of the server's offer, as the client's leg has no TLS.
    pub plus_removed: bool,
    /// TLS was to be opened and was passed through after all, because of this.
    pub passed_through: Option<PassedThrough>,
    /// What we are waiting for, where the bytes don't show it.
    pub awaits: Option<Awaits>,
    /// The client needs channel binding, and pgwhy does not know its password.
    pub binding_refused: bool,
}

/// Whose turn it is in a handshake of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The client's next flight of TLS.
    Client,
    /// The server's answer to our SSLRequest.
    ServerAnswer,
    /// The server's next flight of TLS.
    ServerTls,
}

/// What the first way to the server ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FellBack {
    /// The way that was given up was the one with TLS.
    pub from_tls: bool,
    /// Why, in words.
    pub why: String,
}

/// Why TLS was not opened although it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedThrough {
    /// The server asks for a client certificate, and we have none.
    CertificateRequested,
    /// The certificate given is not the server's, and no password is known.
    OtherCertificate,
    /// TLS between us and the server did not come about.
    ServerFailed,
    /// The server refuses the password that we know, and the client's may be another.
    PasswordRefused,
    /// A client of this address needed it before.
    ClientNeeds,
}
