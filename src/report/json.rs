//! The report for programs: one JSON object a line. Its names are a contract; docs/report.schema.json
//! is its schema. Fields are added, never renamed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::handshake::Side;
use crate::handshake::record::ErrorSeen;

use super::{Report, Tls};

/// The version of the contract.
pub const SCHEMA: u32 = 1;

/// The line that says that the proxy accepts connections.
pub fn listening(addr: &str) -> String {
    json!({"event": "listening", "schema": SCHEMA, "addr": addr}).to_string()
}

/// The line for one connection.
pub fn handshake(report: &Report) -> String {
    let finding = report.diagnosis.finding.as_ref();
    let steps: Vec<Value> = report
        .steps
        .iter()
        .map(|rung| {
            json!({
                "step": rung.step.id(),
                "leg": if rung.leg == Side::Client { "client" } else { "server" },
                "ok": rung.ok,
                "ms": rung.took.map(ms),
                "note": rung.note,
            })
        })
        .collect();
    let alternatives: Vec<Value> = finding
        .map(|finding| finding.alternatives.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|(cause, confidence)| json!({"cause": cause.id(), "confidence": confidence.word()}))
        .collect();
    let differs: Vec<Value> = report
        .differs
        .iter()
        .map(|one| json!({"field": one.field, "here": one.here, "there": one.there}))
        .collect();
    let warnings: Vec<Value> = report
        .diagnosis
        .warnings
        .iter()
        .map(|warning| json!({"cause": warning.id, "summary": warning.summary}))
        .collect();
    json!({
        "event": "handshake",
        "schema": SCHEMA,
        "id": report.id,
        "time": humantime::format_rfc3339_millis(report.time).to_string(),
        "outcome": report.diagnosis.outcome.word(),
        "client": {
            "addr": report.client.address,
            "driver": report.client.driver,
            "user": report.client.user,
            "database": report.client.database,
            "application_name": report.client.application_name,
        },
        "server": {"addr": report.server.address, "version": report.server.version},
        "client_tls": tls(&report.client_tls),
        "server_tls": tls(&report.server_tls),
        "auth_method": report.auth_method,
        "steps": steps,
        "failed_step": finding.map(|finding| finding.step.id()),
        "leg": finding.map(|finding| finding.leg.word()),
        "cause": finding.map(|finding| finding.cause.id()),
        "variant": finding.and_then(|finding| finding.variant),
        "confidence": finding.map(|finding| finding.confidence.word()),
        "alternatives": alternatives,
        "summary": finding.map(|finding| finding.summary.as_str()),
        "evidence": finding.map_or(&report.diagnosis.notes, |finding| &finding.evidence),
        "fix": finding.map(|finding| finding.fix.clone()).unwrap_or_default(),
        "ask": finding.map(|finding| finding.ask.clone()).unwrap_or_default(),
        "related": report.related,
        "differs": differs,
        "server_error": report.server_error.as_ref().map(server_error),
        "warnings": warnings,
        "elapsed_ms": ms(report.elapsed),
    })
    .to_string()
}

fn tls(tls: &Tls) -> Value {
    json!({"asked": tls.asked, "answer": tls.answer.map(String::from), "version": tls.version})
}

/// The unlocalized severity where the server sends it (9.6 and later).
fn server_error(error: &ErrorSeen) -> Value {
    json!({
        "severity": error.text(b'V').or_else(|| error.text(b'S')),
        "sqlstate": error.text(b'C'),
        "message": error.text(b'M'),
        "detail": error.text(b'D'),
        "hint": error.text(b'H'),
        "routine": error.text(b'R'),
    })
}

/// Milliseconds with three places.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
