//! The report for programs: one JSON object a line. Its names are a contract; docs/report.schema.json
//! is its schema. Fields are added, never renamed.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::handshake::Side;
use crate::handshake::ladder::Rung;
use crate::handshake::record::ErrorSeen;

use super::Report;

/// The version of the contract.
pub const SCHEMA: u32 = 1;

/// The line that says that the proxy accepts connections.
pub fn listening(addr: &str) -> String {
    json!({"event": "listening", "schema": SCHEMA, "addr": addr}).to_string()
}

/// The line for one connection.
pub fn handshake(report: &Report) -> String {
    // Nothing in it can fail: no map with odd keys, and a string to write to.
    serde_json::to_string(&Handshake::new(report)).unwrap_or_default()
}

/// The contract: names and order. Written without a tree of values in between, since a busy proxy writes
/// one for every login.
#[derive(Serialize)]
struct Handshake<'a> {
    event: &'static str,
    schema: u32,
    id: &'a str,
    time: String,
    outcome: &'static str,
    client: Client<'a>,
    server: Server<'a>,
    client_tls: Tls<'a>,
    server_tls: Tls<'a>,
    auth_method: Option<&'a str>,
    steps: Vec<Step<'a>>,
    failed_step: Option<&'a str>,
    leg: Option<&'a str>,
    cause: Option<&'a str>,
    variant: Option<&'a str>,
    confidence: Option<&'a str>,
    alternatives: Vec<Alternative>,
    summary: Option<&'a str>,
    evidence: &'a [String],
    fix: &'a [String],
    ask: &'a [Cow<'static, str>],
    related: &'a [String],
    differs: Vec<Differs<'a>>,
    server_error: Option<ServerError>,
    warnings: Vec<Warning<'a>>,
    elapsed_ms: f64,
}

#[derive(Serialize)]
struct Client<'a> {
    addr: &'a str,
    driver: Option<&'a str>,
    user: Option<&'a str>,
    database: Option<&'a str>,
    application_name: Option<&'a str>,
}

#[derive(Serialize)]
struct Server<'a> {
    addr: Option<&'a str>,
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct Tls<'a> {
    asked: bool,
    answer: Option<char>,
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct Step<'a> {
    step: &'static str,
    leg: &'static str,
    ok: Option<bool>,
    ms: Option<f64>,
    note: &'a str,
}

#[derive(Serialize)]
struct Alternative {
    cause: &'static str,
    confidence: &'static str,
}

#[derive(Serialize)]
struct Differs<'a> {
    field: &'a str,
    here: &'a str,
    there: &'a str,
}

#[derive(Serialize)]
struct ServerError {
    severity: Option<String>,
    sqlstate: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    routine: Option<String>,
}

#[derive(Serialize)]
struct Warning<'a> {
    cause: &'a str,
    summary: &'a str,
}

impl<'a> Handshake<'a> {
    fn new(report: &'a Report) -> Self {
        let diagnosis = &report.diagnosis;
        let finding = diagnosis.finding.as_ref();
        let alternatives = finding.map(|finding| finding.alternatives.as_slice()).unwrap_or_default();
        Self {
            event: "handshake",
            schema: SCHEMA,
            id: &report.id,
            time: humantime::format_rfc3339_millis(report.time).to_string(),
            outcome: diagnosis.outcome.word(),
            client: Client {
                addr: &report.client.address,
                driver: report.client.driver,
                user: report.client.user.as_deref(),
                database: report.client.database.as_deref(),
                application_name: report.client.application_name.as_deref(),
            },
            server: Server {
                addr: report.server.address.as_deref(),
                version: report.server.version.as_deref(),
            },
            client_tls: tls(&report.client_tls),
            server_tls: tls(&report.server_tls),
            auth_method: report.auth_method,
            steps: report.steps.iter().map(step).collect(),
            failed_step: finding.map(|finding| finding.step.id()),
            leg: finding.map(|finding| finding.leg.word()),
            cause: finding.map(|finding| finding.cause.id()),
            variant: finding.and_then(|finding| finding.variant),
            confidence: finding.map(|finding| finding.confidence.word()),
            alternatives: alternatives
                .iter()
                .map(|(cause, sure)| Alternative { cause: cause.id(), confidence: sure.word() })
                .collect(),
            summary: finding.map(|finding| finding.summary.as_str()),
            evidence: finding.map_or(&diagnosis.notes, |finding| &finding.evidence),
            fix: finding.map(|finding| finding.fix.as_slice()).unwrap_or_default(),
            ask: finding.map(|finding| finding.ask.as_slice()).unwrap_or_default(),
            related: &report.related,
            differs: report
                .differs
                .iter()
                .map(|one| Differs { field: &one.field, here: &one.here, there: &one.there })
                .collect(),
            server_error: report.server_error.as_ref().map(server_error),
            warnings: diagnosis
                .warnings
                .iter()
                .map(|warning| Warning { cause: &warning.id, summary: &warning.summary })
                .collect(),
            elapsed_ms: ms(report.elapsed),
        }
    }
}

fn tls(tls: &super::Tls) -> Tls<'_> {
    Tls { asked: tls.asked, answer: tls.answer, version: tls.version.as_deref() }
}

fn step(rung: &Rung) -> Step<'_> {
    Step {
        step: rung.step.id(),
        leg: if rung.leg == Side::Client { "client" } else { "server" },
        ok: rung.ok,
        ms: rung.took.map(ms),
        note: &rung.note,
    }
}

/// The unlocalized severity where the server sends it (9.6 and later).
fn server_error(error: &ErrorSeen) -> ServerError {
    ServerError {
        severity: error.text(b'V').or_else(|| error.text(b'S')),
        sqlstate: error.text(b'C'),
        message: error.text(b'M'),
        detail: error.text(b'D'),
        hint: error.text(b'H'),
        routine: error.text(b'R'),
    }
}

/// Milliseconds with three places.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
