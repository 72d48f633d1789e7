//! What is known around a record: how the server was reached, which password was expected, what the
//! proxy itself did. All of it is data; nothing here asks a clock or a file.

use std::net::IpAddr;
use std::time::Duration;

use crate::handshake::{Close, Side};
use crate::hba::{HbaFile, World};
use crate::password::{Exchange, Judgement};
use crate::serverlog::{Certainty, Fact};

use super::admin::AdminFacts;
use super::causes::Cause;
use super::finding::Outcome;

/// Everything around one record.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// The attempts to reach the server, in order.
    pub dials: &'a [Dial],
    /// What the proxy itself ended the connection for.
    pub limit: Option<&'a Limit>,
    /// The proxy answered the SSLRequest itself (`--client-tls disable`).
    pub ssl_answered_by_us: bool,
    /// The proxy turned TLS without SSLRequest away (`--client-tls disable`).
    pub tls_refused_by_us: bool,
    /// What testing the password showed; `None` where there was nothing to test.
    pub judgement: Option<&'a Judgement>,
    /// Whether the server's SCRAM signature fits the expected password, where the client's proof does.
    pub server_signature_fits: Option<bool>,
    /// The password that was expected.
    pub expected: Option<Expectation<'a>>,
    /// What the connection string makes clients insist on.
    pub demands: Option<&'a Demands>,
    /// Seconds since 1970: what tokens' expiry is held against.
    pub now_unix: i64,
    /// The host name that leads to the server, as the user wrote it.
    pub server_host: Option<&'a str>,
    /// Our own address towards the server: what it takes for the client's.
    pub our_address: Option<&'a str>,
    /// The client is on another machine.
    pub client_is_remote: bool,
    /// What the outside of an encrypted connection showed.
    pub opaque: Option<Opaque>,
    /// What the server's log says.
    pub log: Option<&'a LogFacts>,
    /// Whether the salt on the wire is the mock salt of the given control data.
    pub mock_salt: Option<bool>,
    /// What an administrator's connection saw.
    pub admin: Option<&'a AdminFacts>,
    /// What the client sent, to be held against the stored secret.
    pub exchange: Option<Exchange<'a>>,
    /// Whether the expected password fits the stored secret.
    pub expected_fits_stored: Option<bool>,
    /// pg_hba.conf.
    pub rules: Option<&'a Rules>,
    /// Our own IP address towards the server.
    pub our_ip: Option<IpAddr>,
    /// The client's IP address.
    pub client_ip: Option<IpAddr>,
    /// We reach the server through its Unix socket.
    pub server_is_local: bool,
    /// Context that was asked for and could not be had.
    pub unseen: &'a [String],
    /// An earlier attempt of the same client, moments before.
    pub earlier: Option<&'a Earlier>,
    /// The salt of the same role's last success.
    pub last_salt: Option<&'a LastSalt>,
    /// What is not in the capture that the record was read from.
    pub lack: Option<Lack>,
}

/// What a capture lacks of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Bytes of the client that were sent and not captured while the login went on.
    pub client_bytes: u64,
    /// Bytes of the server.
    pub server_bytes: u64,
    /// The capture ends (or the connection was given up) before the connection does; so long after its last
    /// packet.
    pub cut_off: Option<Duration>,
}

/// Where the expected password came from.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Its place in words (`DATABASE_URL`, `--password-file`).
    pub source: &'a str,
    /// The user whom it is for; `None` when it is for any.
    pub user: Option<&'a str>,
    /// Whether that is the user of this login.
    pub for_this_user: bool,
}

/// One attempt to reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The host as configured: a name, an address or a socket path.
    pub host: String,
    /// The address tried, with its port; `None` when the name gave none.
    pub address: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: Result<(), DialFault>,
}

/// Why an attempt to reach the server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFault {
    /// The resolver knows no such name.
    NameNotFound,
    /// The resolver could not say (EAI_AGAIN).
    NameTemporary,
    /// RST to SYN, or ECONNREFUSED on a Unix socket.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route for the address (ENETUNREACH).
    Unreachable,
    /// The host's network is there and the host is not, or a firewall says so (EHOSTUNREACH).
    HostUnreachable,
    /// No such Unix socket.
    SocketMissing,
    /// The address is our own listener.
    Loop,
    /// Something else, in the system's words.
    Other(String),
}

/// What the proxy itself ended a connection for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name, as the option is called.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// The outside of an encrypted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Bytes the client sent in all.
    pub client_bytes: u64,
    /// Bytes the server sent in all.
    pub server_bytes: u64,
    /// Who closed, how and when, if it closed while it was still watched.
    pub closed: Option<(Side, Close, Duration)>,
}

/// The settings that forbid methods, as the connection string (or the environment) gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Where they stand, in words.
    pub source: String,
    /// `channel_binding=require`.
    pub channel_binding: bool,
    /// `require_auth`: methods that are allowed, or with `!` those that are not.
    pub require_auth: Option<String>,
}

/// What the server's log says about one login.
#[derive(Clone, Debug)]
pub struct LogFacts {
    /// What its entries say, in their order.
    pub facts: Vec<Fact>,
    /// How sure it is that they are about this login.
    pub certainty: Certainty,
    /// How they were joined to it, in words.
    pub joined_by: &'static str,
}

/// pg_hba.conf and what is known beside it.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The file, parsed.
    pub file: HbaFile,
    /// As older servers read it, where the server's version is not known.
    pub older: Vec<HbaFile>,
    /// Facts that lines may depend on.
    pub world: World,
    /// The file was changed behind the login: what it said at that time is not certain.
    pub changed_since: bool,
}

/// An earlier attempt of the same client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Its id in the reports.
    pub id: String,
    /// How long before this attempt it ended.
    pub before: Duration,
    /// How long it lasted.
    pub lasted: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// Whom it was for, where that was seen.
    pub user: Option<String>,
    /// It was encrypted.
    pub encrypted: bool,
    /// It ended on its own (an opaque connection may still be open).
    pub ended: bool,
    /// Its cause, where one was seen, and the summary that went with it.
    pub cause: Option<(Cause, String)>,
}

/// The salt that the same role was shown when its login last worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSalt {
    /// The salt.
    pub salt: Vec<u8>,
    /// The count that went with it.
    pub iterations: u32,
    /// That login went to the same address.
    pub same_server: bool,
    /// Who it was, in words.
    pub of: String,
}
