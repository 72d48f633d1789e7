//! A diagnosis in clothes: one report, for programs ([`json`]), for people ([`human`]), and
//! as a page of its own ([`page`]).
//!
//! A report is a value without secrets: everything in it may be shown. Text from the wire is kept as
//! it came and escaped once, where it is shown.

pub mod diff;
pub mod escape;
pub mod human;
pub mod json;
pub mod page;

use std::time::{Duration, SystemTime};

use crate::diagnose::story::Difference;
use crate::diagnose::story::tls_version;
use crate::diagnose::{Diagnosis, Outcome};
use crate::handshake::driver::recognise;
use crate::handshake::ladder::{Rung, ladder, text};
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Record, Side, Step};
use crate::wire::tls::version_name;

/// One connection, ready to be shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// Unique in this run.
    pub id: String,
    /// When the connection was accepted.
    pub time: SystemTime,
    /// The client's side.
    pub client: Client,
    /// The server's side.
    pub server: Server,
    /// TLS between the client and pgwhy.
    pub client_tls: Tls,
    /// TLS between pgwhy and the server.
    pub server_tls: Tls,
    /// The method by the words of pg_hba.conf.
    pub auth_method: Option<&'static str>,
    /// The ladder.
    pub steps: Vec<Rung>,
    /// The verdict.
    pub diagnosis: Diagnosis,
    /// Other attempts of the same client that belong to this one.
    pub related: Vec<String>,
    /// What differs from the last success.
    pub differs: Vec<Difference>,
    /// That success: its driver, and how long ago it was.
    pub last_success: Option<(String, Duration)>,
    /// What the server said.
    pub server_error: Option<ErrorSeen>,
    /// From accept to the verdict.
    pub elapsed: Duration,
}

/// The client's side.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its address.
    pub address: String,
    /// Its driver, where recognised.
    pub driver: Option<&'static str>,
    /// From the startup packet.
    pub user: Option<String>,
    /// From the startup packet; where it names none, the user's name, as the server takes it.
    pub database: Option<String>,
    /// From the startup packet.
    pub application_name: Option<String>,
}

/// The server's side.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The address that was reached, or the last one that was tried.
    pub address: Option<String>,
    /// `server_version` of this login, or of an earlier one on the same address.
    pub version: Option<String>,
}

/// TLS on one leg.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether TLS was asked for.
    pub asked: bool,
    /// The one-byte answer.
    pub answer: Option<char>,
    /// The version, as far as the hellos show it.
    pub version: Option<String>,
}

/// How the way to the server went, for the first rung of the ladder.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// The address that was reached, or the last one tried.
    pub address: Option<String>,
    /// Whether it was reached; `None` when nobody tried.
    pub reached: Option<bool>,
    /// How long it took.
    pub took: Duration,
    /// The step that failed where it was not reached.
    pub step: Option<Step>,
}

impl Report {
    /// Builds a report from what was seen. The fields that need history (`related`, `differs`,
    /// `last_success`, an earlier version of the server) are left to the caller.
    pub fn new(record: &Record, diagnosis: Diagnosis, way: &Way, ssl_answered_by_us: bool) -> Self {
        let parameter = |name: &str| record.startup.as_ref().and_then(|startup| startup.get(name));
        let shown = |bytes: Option<&[u8]>| bytes.filter(|bytes| !bytes.is_empty()).map(text);
        let client_tls = tls(record);
        let server_tls = server_tls(record, ssl_answered_by_us, &client_tls);
        let failed = diagnosis.finding.as_ref().map(|finding| finding.step);
        let mut steps = Vec::with_capacity(8);
        if let Some(reached) = way.reached {
            steps.push(Rung {
                step: if reached { Step::Connect } else { way.step.unwrap_or(Step::Connect) },
                leg: Side::Server,
                ok: Some(reached),
                took: Some(way.took),
                note: way.address.clone().unwrap_or_default(),
            });
        }
        let failed_here =
            failed.filter(|_| diagnosis.outcome == Outcome::Failed && way.reached != Some(false));
        steps.extend(ladder(record, failed_here));
        Self {
            id: String::new(),
            time: SystemTime::UNIX_EPOCH,
            client: Client {
                address: String::new(),
                driver: recognise(record).map(|driver| driver.name),
                user: shown(record.user()),
                database: shown(record.database()),
                application_name: shown(parameter("application_name")),
            },
            server: Server {
                address: way.address.clone(),
                version: record.parameter("server_version").map(text),
            },
            client_tls,
            server_tls,
            auth_method: record.auth_method(),
            steps,
            diagnosis,
            related: Vec::new(),
            differs: Vec::new(),
            last_success: None,
            server_error: record.error.clone().filter(|error| !error.is_ours()),
            elapsed: record.ended,
        }
    }
}

/// TLS on the server's leg: our own where we are an end of it, the client's where it passes through.
fn server_tls(record: &Record, ssl_answered_by_us: bool, client: &Tls) -> Tls {
    let Some(legs) = record
        .legs
        .as_deref()
        .filter(|legs| legs.client.is_some() || legs.server.is_some() || legs.server_answer.is_some())
    else {
        return if ssl_answered_by_us { Tls::default() } else { client.clone() };
    };
    let answer = legs.server_answer.map(char::from);
    let Some(server) = &legs.server else { return Tls { asked: answer.is_some(), answer, version: None } };
    let answer = answer.or_else(|| (!server.direct).then_some('S'));
    Tls { asked: true, answer, version: server.version.map(version_name) }
}

fn tls(record: &Record) -> Tls {
    let direct = record.tls.as_ref().is_some_and(|tls| tls.direct);
    Tls {
        asked: record.ssl_request.is_some() || direct,
        answer: record.ssl_request.and_then(|request| request.answer).map(|(byte, _)| char::from(byte)),
        version: tls_version(record).filter(|version| version != "TLS"),
    }
}
