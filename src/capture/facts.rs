//! What bytes can't carry: one small JSON document for each login of a capture.
//!
//! The packets hold what passed on the wire, without its secrets. A verdict on a candidate password, a
//! context that was given, or the reason for which pgwhy itself closed can't be had from them again, so
//! the diagnosis and what stands around it is stored beside them. `show` plays the packets for the
//! record, takes the verdict from here, and gives the report that the live run gave.
//!
//! Readers are lenient: unknown fields are ignored, and what is missing or can't be understood is left
//! out. Fields are added, never renamed.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::diagnose::context::{Dial, DialFault, Opaque};
use crate::diagnose::story::Difference;
use crate::diagnose::{Cause, Confidence, Diagnosis, Finding, Leg, Outcome, Warning};
use crate::handshake::ladder::Rung;
use crate::handshake::{Close, Side, Step};

/// The version of the document.
pub const SCHEMA: u64 = 1;

/// The first bytes of every document: they tell it from other things under the same number.
pub const MAGIC: &str = "{\"pgwhy\":\"facts\"";

/// Most elements of a list that are read back: no report has more, and a file may hold anything.
const MOST: usize = 256;

/// Everything about one login that its packets don't tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version of pgwhy that wrote it.
    pub written_by: String,
    /// The login's id in the reports of that run.
    pub id: String,
    /// When the client's connection was accepted. Packets' times less this are the chunks' times.
    pub accepted: SystemTime,
    /// From accept to the verdict.
    pub elapsed: Duration,
    /// Between the client and pgwhy.
    pub client_leg: LegFacts,
    /// Between pgwhy and the server; `None` where none was reached.
    pub server_leg: Option<LegFacts>,
    /// The address that was reached, or the last one that was tried.
    pub server_address: Option<String>,
    /// The server's version, of this login or of an earlier one.
    pub server_version: Option<String>,
    /// What was tried to reach the server, in order.
    pub dials: Vec<Dial>,
    /// pgwhy answered the request for encryption itself; the server never saw it.
    pub ssl_answered_by_us: bool,
    /// The outside of a connection that stayed encrypted.
    pub opaque: Option<Opaque>,
    /// Ends of stream, with who ended it and how.
    pub closes: Vec<(Side, Close, Duration)>,
    /// The ladder as it was reported.
    pub steps: Vec<Rung>,
    /// The verdict; `None` where it can't be read (a newer pgwhy may know more causes).
    pub diagnosis: Option<Diagnosis>,
    /// Other attempts of the same client that belong to this one.
    pub related: Vec<String>,
    /// What differed from the last success.
    pub differs: Vec<Difference>,
    /// That success: its driver, and how long ago it was.
    pub last_success: Option<(String, Duration)>,
    /// The packets hold the secrets as they were sent (`--keep-secrets`).
    pub secrets_kept: bool,
    /// Bytes of this login that the capture had no room for.
    pub bytes_left_out: u64,
}

/// One connection of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegFacts {
    /// Who opened it, as reports show it.
    pub from: String,
    /// Whom it reached.
    pub to: String,
    /// The addresses in its packets: those of TCP connections, with the server's real port; made up for
    /// Unix sockets.
    pub packets_from: String,
    /// As `packets_from`.
    pub packets_to: String,
    /// TLS was asked for.
    pub tls_asked: bool,
    /// The one-byte answer.
    pub tls_answer: Option<char>,
    /// The TLS version, as far as it is known.
    pub tls_version: Option<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            written_by: String::new(),
            id: String::new(),
            accepted: SystemTime::UNIX_EPOCH,
            elapsed: Duration::ZERO,
            client_leg: LegFacts::default(),
            server_leg: None,
            server_address: None,
            server_version: None,
            dials: Vec::new(),
            ssl_answered_by_us: false,
            opaque: None,
            closes: Vec::new(),
            steps: Vec::new(),
            diagnosis: None,
            related: Vec::new(),
            differs: Vec::new(),
            last_success: None,
            secrets_kept: false,
            bytes_left_out: 0,
        }
    }
}

impl Facts {
    /// The document, on one line.
    pub fn to_json(&self) -> String {
        let closes = self.closes.iter().map(
            |(side, how, at)| json!({"side": side_word(*side), "how": close_word(*how), "at_ns": ns(*at)}),
        );
        let opaque = self.opaque.map(|opaque| {
            json!({
                "client_bytes": opaque.client_bytes,
                "server_bytes": opaque.server_bytes,
                "closed": opaque.closed.map(|(side, how, at)| {
                    json!({"side": side_word(side), "how": close_word(how), "at_ns": ns(at)})
                }),
            })
        });
        let differs =
            self.differs.iter().map(|one| json!({"field": one.field, "here": one.here, "there": one.there}));
        let success = self.last_success.as_ref();
        // The first two fields are the magic.
        json!({
            "pgwhy": "facts",
            "schema": SCHEMA,
            "written_by": self.written_by,
            "id": self.id,
            "accepted": humantime::format_rfc3339_nanos(self.accepted).to_string(),
            "elapsed_ns": ns(self.elapsed),
            "client_leg": leg_to_json(&self.client_leg),
            "server_leg": self.server_leg.as_ref().map(leg_to_json),
            "server_address": self.server_address,
            "server_version": self.server_version,
            "dials": self.dials.iter().map(dial_to_json).collect::<Vec<_>>(),
            "ssl_answered_by_us": self.ssl_answered_by_us,
            "opaque": opaque,
            "closes": closes.collect::<Vec<_>>(),
            "steps": self.steps.iter().map(rung_to_json).collect::<Vec<_>>(),
            "diagnosis": self.diagnosis.as_ref().map(diagnosis_to_json),
            "related": self.related,
            "differs": differs.collect::<Vec<_>>(),
            "last_success": success.map(|(driver, ago)| json!({"driver": driver, "ago_ns": ns(*ago)})),
            "secrets": if self.secrets_kept { "kept" } else { "blanked" },
            "bytes_left_out": self.bytes_left_out,
        })
        .to_string()
    }

    /// Reads a document; `None` if it is none of pgwhy's. Blanks and NULs around it are padding.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let Value::Object(top) = serde_json::from_slice(bytes.get(..end)?).ok()? else { return None };
        if top.get("pgwhy")?.as_str()? != "facts" {
            return None;
        }
        let fields = Fields(&top);
        let success = fields.object("last_success");
        Some(Self {
            written_by: fields.text("written_by").unwrap_or_default(),
            id: fields.text("id").unwrap_or_default(),
            accepted: fields
                .text("accepted")
                .and_then(|text| humantime::parse_rfc3339(&text).ok())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            elapsed: fields.time("elapsed_ns").unwrap_or_default(),
            client_leg: fields.object("client_leg").map(leg_from_json).unwrap_or_default(),
            server_leg: fields.object("server_leg").map(leg_from_json),
            server_address: fields.text("server_address"),
            server_version: fields.text("server_version"),
            dials: fields.objects("dials").map(dial_from_json).collect(),
            ssl_answered_by_us: fields.flag("ssl_answered_by_us"),
            opaque: fields.object("opaque").map(|opaque| Opaque {
                client_bytes: opaque.number("client_bytes").unwrap_or_default(),
                server_bytes: opaque.number("server_bytes").unwrap_or_default(),
                closed: opaque.object("closed").and_then(close_from_json),
            }),
            closes: fields.objects("closes").filter_map(close_from_json).collect(),
            steps: fields.objects("steps").filter_map(rung_from_json).collect(),
            diagnosis: fields.object("diagnosis").and_then(diagnosis_from_json),
            related: fields.texts("related"),
            differs: fields.objects("differs").filter_map(difference_from_json).collect(),
            last_success: success
                .and_then(|success| Some((success.text("driver")?, success.time("ago_ns")?))),
            secrets_kept: fields.text("secrets").as_deref() == Some("kept"),
            bytes_left_out: fields.number("bytes_left_out").unwrap_or_default(),
        })
    }
}

/// An object, read leniently.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn text(self, name: &str) -> Option<String> {
        self.0.get(name)?.as_str().map(str::to_owned)
    }

    fn number(self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    fn time(self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_nanos)
    }

    fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn object(self, name: &str) -> Option<Fields<'a>> {
        self.0.get(name)?.as_object().map(Fields)
    }

    fn list(self, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let list = self.0.get(name).and_then(Value::as_array).map(Vec::as_slice);
        list.unwrap_or_default().iter().take(MOST)
    }

    fn objects(self, name: &str) -> impl Iterator<Item = Fields<'a>> + use<'a> {
        self.list(name).filter_map(|value| value.as_object().map(Fields))
    }

    fn texts(self, name: &str) -> Vec<String> {
        self.list(name).filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }
}

fn leg_to_json(leg: &LegFacts) -> Value {
    json!({
        "from": leg.from,
        "to": leg.to,
        "packets_from": leg.packets_from,
        "packets_to": leg.packets_to,
        "tls": {"asked": leg.tls_asked, "answer": leg.tls_answer.map(String::from), "version": leg.tls_version},
    })
}

fn leg_from_json(fields: Fields<'_>) -> LegFacts {
    let text = |name| fields.text(name).unwrap_or_default();
    let tls = fields.object("tls");
    LegFacts {
        from: text("from"),
        to: text("to"),
        packets_from: text("packets_from"),
        packets_to: text("packets_to"),
        tls_asked: tls.is_some_and(|tls| tls.flag("asked")),
        tls_answer: tls.and_then(|tls| tls.text("answer")?.chars().next()),
        tls_version: tls.and_then(|tls| tls.text("version")),
    }
}

fn dial_to_json(dial: &Dial) -> Value {
    let (fault, words) = match &dial.result {
        Ok(()) => (None, None),
        Err(DialFault::NameNotFound) => (Some("name_not_found"), None),
        Err(DialFault::NameTemporary) => (Some("name_temporary"), None),
        Err(DialFault::Refused) => (Some("refused"), None),
        Err(DialFault::Timeout) => (Some("timeout"), None),
        Err(DialFault::Unreachable) => (Some("unreachable"), None),
        Err(DialFault::HostUnreachable) => (Some("host_unreachable"), None),
        Err(DialFault::SocketMissing) => (Some("socket_missing"), None),
        Err(DialFault::Loop) => (Some("loop"), None),
        Err(DialFault::Other(words)) => (Some("other"), Some(words)),
    };
    json!({"host": dial.host, "address": dial.address, "took_ns": ns(dial.took), "fault": fault, "words": words})
}

fn dial_from_json(fields: Fields<'_>) -> Dial {
    let result = match fields.text("fault").as_deref() {
        None => Ok(()),
        Some("name_not_found") => Err(DialFault::NameNotFound),
        Some("name_temporary") => Err(DialFault::NameTemporary),
        Some("refused") => Err(DialFault::Refused),
        Some("timeout") => Err(DialFault::Timeout),
        Some("unreachable") => Err(DialFault::Unreachable),
        Some("host_unreachable") => Err(DialFault::HostUnreachable),
        Some("socket_missing") => Err(DialFault::SocketMissing),
        Some("loop") => Err(DialFault::Loop),
        Some(other) => Err(DialFault::Other(fields.text("words").unwrap_or_else(|| other.to_owned()))),
    };
    Dial {
        host: fields.text("host").unwrap_or_default(),
        address: fields.text("address"),
        took: fields.time("took_ns").unwrap_or_default(),
        result,
    }
}

fn rung_to_json(rung: &Rung) -> Value {
    json!({
        "step": rung.step.id(),
        "leg": side_word(rung.leg),
        "ok": rung.ok,
        "took_ns": rung.took.map(ns),
        "note": rung.note,
    })
}

fn rung_from_json(fields: Fields<'_>) -> Option<Rung> {
    Some(Rung {
        step: step(&fields.text("step")?)?,
        leg: side(&fields.text("leg")?)?,
        ok: fields.0.get("ok").and_then(Value::as_bool),
        took: fields.time("took_ns"),
        note: fields.text("note").unwrap_or_default(),
    })
}

fn diagnosis_to_json(diagnosis: &Diagnosis) -> Value {
    let warnings =
        diagnosis.warnings.iter().map(|warning| json!({"cause": warning.id, "summary": warning.summary}));
    json!({
        "outcome": diagnosis.outcome.word(),
        "finding": diagnosis.finding.as_ref().map(finding_to_json),
        "warnings": warnings.collect::<Vec<_>>(),
        "notes": diagnosis.notes,
    })
}

fn diagnosis_from_json(fields: Fields<'_>) -> Option<Diagnosis> {
    let outcome = fields.text("outcome")?;
    let outcome = [Outcome::Ok, Outcome::Failed, Outcome::Cancel, Outcome::Probe, Outcome::Opaque]
        .into_iter()
        .find(|known| known.word() == outcome)?;
    let finding = match fields.object("finding") {
        // A verdict without its cause would be another verdict.
        Some(finding) => Some(finding_from_json(finding)?),
        None if outcome == Outcome::Failed => return None,
        None => None,
    };
    let warning = |fields: Fields<'_>| {
        Some(Warning {
            id: fields.text("cause")?.into(),
            summary: fields.text("summary").unwrap_or_default(),
        })
    };
    Some(Diagnosis {
        outcome,
        finding,
        warnings: fields.objects("warnings").filter_map(warning).collect(),
        notes: fields.texts("notes"),
    })
}

fn finding_to_json(finding: &Finding) -> Value {
    let alternatives = finding
        .alternatives
        .iter()
        .map(|(cause, confidence)| json!({"cause": cause.id(), "confidence": confidence.word()}));
    json!({
        "failed_step": finding.step.id(),
        "leg": finding.leg.word(),
        "cause": finding.cause.id(),
        "variant": finding.variant,
        "confidence": finding.confidence.word(),
        "alternatives": alternatives.collect::<Vec<_>>(),
        "summary": finding.summary,
        "evidence": finding.evidence,
        "fix": finding.fix,
        "ask": finding.ask,
    })
}

fn finding_from_json(fields: Fields<'_>) -> Option<Finding> {
    let cause = Cause::from_id(&fields.text("cause")?)?;
    let step = step(&fields.text("failed_step")?)?;
    let confidence = confidence_of(&fields.text("confidence")?)?;
    let mut evidence = fields.texts("evidence").into_iter();
    // No finding without evidence.
    let mut finding = Finding::new(step, cause, confidence, evidence.next()?);
    finding.evidence.extend(evidence);
    if let Some(leg) = fields.text("leg") {
        let known = [Leg::Client, Leg::Server, Leg::Proxy].into_iter().find(|known| known.word() == leg);
        finding.leg = known.unwrap_or(finding.leg);
    }
    let variant = fields.text("variant");
    finding.variant = variant.and_then(|id| cause.variants().iter().copied().find(|known| *known == id));
    if let Some(summary) = fields.text("summary") {
        finding.summary = summary;
    }
    finding.alternatives = fields
        .objects("alternatives")
        .filter_map(|other| {
            Some((Cause::from_id(&other.text("cause")?)?, confidence_of(&other.text("confidence")?)?))
        })
        .collect();
    finding.fix = fields.texts("fix");
    finding.ask = fields.texts("ask").into_iter().map(Cow::Owned).collect();
    Some(finding)
}

fn difference_from_json(fields: Fields<'_>) -> Option<Difference> {
    let (field, here, there) = (fields.text("field")?, fields.text("here")?, fields.text("there")?);
    Some(Difference { field: field.into(), here, there })
}

fn close_from_json(fields: Fields<'_>) -> Option<(Side, Close, Duration)> {
    let how = fields.text("how")?;
    let how = [Close::Eof, Close::Reset, Close::Deadline, Close::Shutdown]
        .into_iter()
        .find(|known| close_word(*known) == how)?;
    Some((side(&fields.text("side")?)?, how, fields.time("at_ns")?))
}

fn confidence_of(word: &str) -> Option<Confidence> {
    let all = [Confidence::Possible, Confidence::Likely, Confidence::Proven];
    all.into_iter().find(|known| known.word() == word)
}

fn step(id: &str) -> Option<Step> {
    Step::ALL.into_iter().find(|known| known.id() == id)
}

fn side(word: &str) -> Option<Side> {
    [Side::Client, Side::Server].into_iter().find(|known| side_word(*known) == word)
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

fn close_word(how: Close) -> &'static str {
    match how {
        Close::Eof => "eof",
        Close::Reset => "reset",
        Close::Deadline => "deadline",
        Close::Shutdown => "shutdown",
    }
}

/// Nanoseconds; five hundred years fit.
fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        Finding::new(Step::ScramClientFinal, Cause::PasswordMismatch, Confidence::Proven, "one")
            .and("two «\u{202e}»\r\n")
            .on(Leg::Server)
            .variant("quotes_kept")
            .summary("said for this login")
            .or(&[Cause::RoleMissing])
            .fix("mend it")
            .ask(&["--admin"])
    }

    fn leg(n: u16) -> LegFacts {
        LegFacts {
            from: format!("[local]{n}"),
            to: format!("127.0.0.1:{n}"),
            packets_from: format!("127.0.0.1:1{n}"),
            packets_to: format!("127.0.0.1:2{n}"),
            tls_asked: true,
            tls_answer: Some('S'),
            tls_version: Some("TLSv1.3".into()),
        }
    }

    fn dial(result: Result<(), DialFault>) -> Dial {
        Dial { host: "db".into(), address: Some("[::1]:5432".into()), took: Duration::from_nanos(7), result }
    }

    fn full() -> Facts {
        let at = Duration::from_nanos(1_234_567_891);
        Facts {
            written_by: "0.1.0".into(),
            id: "1a-2".into(),
            accepted: SystemTime::UNIX_EPOCH + Duration::new(1_795_238_700, 123_456_789),
            elapsed: at,
            client_leg: leg(1),
            server_leg: Some(leg(2)),
            server_address: Some("127.0.0.1:5432".into()),
            server_version: Some("16.10".into()),
            dials: [
                Err(DialFault::NameNotFound),
                Err(DialFault::NameTemporary),
                Err(DialFault::Refused),
                Err(DialFault::Timeout),
                Err(DialFault::Unreachable),
                Err(DialFault::SocketMissing),
                Err(DialFault::Loop),
                Err(DialFault::Other("permission denied".into())),
                Ok(()),
            ]
            .map(dial)
            .into(),
            ssl_answered_by_us: true,
            opaque: Some(Opaque {
                client_bytes: 1,
                server_bytes: 2,
                closed: Some((Side::Client, Close::Reset, at)),
            }),
            closes: [Close::Eof, Close::Reset, Close::Deadline, Close::Shutdown]
                .map(|how| (Side::Server, how, at))
                .into(),
            steps: vec![
                Rung {
                    step: Step::Connect,
                    leg: Side::Server,
                    ok: Some(true),
                    took: Some(at),
                    note: "x".into(),
                },
                Rung { step: Step::SslRequest, leg: Side::Client, ok: None, took: None, note: String::new() },
            ],
            diagnosis: Some(Diagnosis {
                outcome: Outcome::Failed,
                finding: Some(finding()),
                warnings: vec![Warning { id: "hba_not_reloaded".into(), summary: "s".into() }],
                notes: vec!["note".into()],
            }),
            related: vec!["1a-1".into()],
            differs: vec![Difference { field: "driver".into(), here: "a".into(), there: "b".into() }],
            last_success: Some(("libpq".into(), Duration::from_secs(12))),
            secrets_kept: true,
            bytes_left_out: 9,
        }
    }

    #[test]
    fn every_field_survives() {
        for facts in [full(), Facts::default()] {
            let text = facts.to_json();
            assert!(text.starts_with(MAGIC), "{text}");
            assert_eq!(Facts::from_json(text.as_bytes()), Some(facts));
        }
        for outcome in [Outcome::Ok, Outcome::Cancel, Outcome::Probe, Outcome::Opaque] {
            let diagnosis = Diagnosis { outcome, finding: None, warnings: Vec::new(), notes: Vec::new() };
            let facts = Facts { diagnosis: Some(diagnosis), ..Facts::default() };
            assert_eq!(Facts::from_json(facts.to_json().as_bytes()), Some(facts));
        }
    }

    #[test]
    fn no_field_of_the_full_document_is_a_default() {
        let (full, empty) = (full().to_json(), Facts::default().to_json());
        let (full, empty): (Value, Value) =
            (serde_json::from_str(&full).unwrap(), serde_json::from_str(&empty).unwrap());
        for (name, value) in full.as_object().unwrap() {
            assert!(["pgwhy", "schema"].contains(&name.as_str()) || empty[name] != *value, "{name}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_degrades() {
        let read = |text: &str| Facts::from_json(text.as_bytes());
        assert_eq!(read(r#"{"pgwhy":"facts","news":[1]}"#), Some(Facts::default()));
        assert_eq!(read("{\"pgwhy\":\"facts\"}\n\0\0"), Some(Facts::default()), "padding");
        for not_ours in ["", "[]", "{}", r#"{"pgwhy":"other"}"#, r#"{"pgwhy":"facts""#] {
            assert_eq!(read(not_ours), None, "{not_ours}");
        }
        let wrong = r#"{"pgwhy":"facts","elapsed_ns":-1,"accepted":"now","dials":7,"steps":[{"step":"x"}]}"#;
        assert_eq!(read(wrong), Some(Facts::default()));
        let newer = full().to_json().replace("password_mismatch", "a_cause_of_next_year");
        assert_eq!(Facts::from_json(newer.as_bytes()).unwrap().diagnosis, None, "diagnose anew");
        let bare = full().to_json().replace(r#"["one","two «"#, r#"[7,"two «"#);
        assert!(Facts::from_json(bare.as_bytes()).unwrap().diagnosis.is_some(), "evidence is left");
    }

    #[test]
    fn nobody_fills_the_memory_with_a_list() {
        let related = vec!["x".to_owned(); 10_000];
        let read = Facts::from_json(Facts { related, ..Facts::default() }.to_json().as_bytes());
        assert_eq!(read.map(|facts| facts.related.len()), Some(MOST));
    }
}
