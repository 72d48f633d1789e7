//! The ladder: the record as the list of steps that a person reads from top to bottom.

use std::time::Duration;

use super::record::{Record, Step};
use super::{Close, Side};

/// One step of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The step.
    pub step: Step,
    /// Whose message it is about.
    pub leg: Side,
    /// Done, failed, or (where nobody asked for it) neither.
    pub ok: Option<bool>,
    /// How long it took, where that was seen.
    pub took: Option<Duration>,
    /// What happened, in words. Text from the wire in it is not escaped yet.
    pub note: String,
}

/// Builds the ladder from the client's first packet on. `failed` is the step that a diagnosis names;
/// it is marked, and added where the record has no rung for it.
pub fn ladder(record: &Record, failed: Option<Step>) -> Vec<Rung> {
    let mut rungs = Rungs { rungs: Vec::with_capacity(8), since: Duration::ZERO };
    negotiation(record, &mut rungs);
    opened(record, &mut rungs);
    if let Some(startup) = &record.startup {
        let note = format!(
            "protocol {}, user={} database={}",
            version(startup.version),
            text(record.user().unwrap_or_default()),
            text(startup.get("database").unwrap_or_default()),
        );
        rungs.push(Step::Startup, Side::Client, startup.at, note);
    }
    authentication(record, &mut rungs);
    if let Some(at) = record.session.authenticated {
        rungs.since = rungs.since.max(at);
    }
    if let Some(at) = record.session.ready {
        let server =
            record.parameter("server_version").map(|version| format!("PostgreSQL {}", text(version)));
        rungs.push(Step::Ready, Side::Server, at, server.unwrap_or_else(|| "ready for queries".into()));
    }
    if let Some(step) = failed {
        mark(record, &mut rungs, step);
    }
    rungs.rungs
}

struct Rungs {
    rungs: Vec<Rung>,
    since: Duration,
}

impl Rungs {
    fn push(&mut self, step: Step, leg: Side, at: Duration, note: String) {
        let took = Some(at.saturating_sub(self.since));
        self.since = self.since.max(at);
        self.rungs.push(Rung { step, leg, ok: Some(true), took, note });
    }

    fn note(&mut self, step: Step, leg: Side, note: &str) {
        self.rungs.push(Rung { step, leg, ok: None, took: None, note: note.into() });
    }
}

fn negotiation(record: &Record, rungs: &mut Rungs) {
    if let Some(request) = &record.gss_request {
        match request.answer {
            Some((answer, at)) => {
                let note = format!("GSSENCRequest, answered {}", char::from(answer).escape_default());
                rungs.push(Step::GssRequest, Side::Server, at, note);
            }
            None => rungs.note(Step::GssRequest, Side::Server, "GSSENCRequest, no answer"),
        }
    }
    match &record.ssl_request {
        Some(request) => match request.answer {
            Some((answer, at)) => {
                let note = format!("SSLRequest, answered {}", char::from(answer).escape_default());
                rungs.push(Step::SslRequest, Side::Server, at, note);
            }
            None => rungs.note(Step::SslRequest, Side::Server, "SSLRequest, no answer"),
        },
        None if record.startup.is_some() => {
            rungs.note(Step::SslRequest, Side::Client, "the client did not ask");
        }
        None => {}
    }
    let Some(tls) = &record.tls else { return };
    if let Some((hello, at)) = &tls.client_hello {
        let name =
            hello.server_name.as_deref().map_or_else(String::new, |name| format!(", server name {name}"));
        rungs.push(Step::TlsHandshake, Side::Client, *at, format!("ClientHello{name}"));
    }
    if let Some((hello, at)) = &tls.server_hello {
        let version = crate::wire::tls::version_name(hello.version);
        rungs.push(Step::TlsHandshake, Side::Server, *at, format!("ServerHello, {version}"));
    }
    for (side, alert, at) in &tls.alerts {
        let note = format!("alert {} ({})", alert.description, alert.name());
        rungs.push(Step::TlsHandshake, *side, *at, note);
    }
}

/// A rung for TLS that we are an end of.
fn opened(record: &Record, rungs: &mut Rungs) {
    let Some(legs) = record.legs.as_deref() else { return };
    for (leg, with, tls) in
        [(Side::Server, "the server", &legs.server), (Side::Client, "the client", &legs.client)]
    {
        let Some(tls) = tls else { continue };
        let Some(version) = tls.version else { continue };
        let version = crate::wire::tls::version_name(version);
        let cipher = tls.cipher.as_deref().map_or_else(String::new, |cipher| format!(", {cipher}"));
        let resumed = if tls.resumed { ", resumed" } else { "" };
        let note = format!("{version} between pgwhy and {with}{cipher}{resumed}");
        rungs.rungs.push(Rung { step: Step::TlsHandshake, leg, ok: Some(true), took: Some(tls.took), note });
        rungs.since = rungs.since.max(tls.at);
    }
}

fn authentication(record: &Record, rungs: &mut Rungs) {
    if let Some(request) = record.requests.first() {
        let note = match request.code {
            3 => "the server asks for the password in clear".into(),
            5 => "the server asks for an MD5 response".into(),
            7 => "the server asks for GSSAPI".into(),
            9 => "the server asks for SSPI".into(),
            10 => {
                let names: Vec<String> = record.mechanisms.iter().map(|name| text(name)).collect();
                format!("the server offers {}", names.join(", "))
            }
            code => format!("the server asks for authentication method {code}"),
        };
        rungs.push(Step::AuthRequest, Side::Server, request.at, note);
    } else if let Some(at) = record.session.authenticated {
        rungs.push(Step::AuthRequest, Side::Server, at, "the server asks for no password".into());
    }
    if let (Some(_), Some(at)) = (&record.cleartext, record.answered) {
        rungs.push(Step::Password, Side::Client, at, "the client sent a password".into());
    }
    if let (Some(_), Some(at)) = (record.md5.as_ref().and_then(|md5| md5.response.as_ref()), record.answered)
    {
        rungs.push(Step::Md5, Side::Client, at, "the client sent an MD5 response".into());
    }
    let Some(scram) = &record.scram else { return };
    if let Some(first) = &scram.client_first {
        let mechanism = text(record.mechanism.as_deref().unwrap_or_default());
        let note = format!("{mechanism}, channel binding flag {}", char::from(first.flag));
        rungs.push(Step::ScramClientFirst, Side::Client, first.at, note);
    }
    if let Some(first) = &scram.server_first {
        let note = format!("salt of {} bytes, {} iterations", first.salt.len(), first.iterations);
        rungs.push(Step::ScramServerFirst, Side::Server, first.at, note);
    }
    if let Some(last) = &scram.client_final {
        rungs.push(Step::ScramClientFinal, Side::Client, last.at, "the client sent its proof".into());
    }
    if let (Some(_), Some(at)) = (&scram.server_final, record.session.authenticated) {
        rungs.push(Step::ScramServerFinal, Side::Server, at, "the server accepted it and signed".into());
    }
}

/// Marks the failed step: the last rung of that step, or a new one.
fn mark(record: &Record, rungs: &mut Rungs, step: Step) {
    let note = ending(record);
    let since = rungs.since;
    if let Some(rung) = rungs.rungs.iter_mut().rev().find(|rung| rung.step == step) {
        let judged = record.ended.saturating_sub(since);
        rung.ok = Some(false);
        rung.took = Some(rung.took.unwrap_or_default() + judged);
        rung.note = format!("{}; {note}", rung.note);
        return;
    }
    let took = Some(record.ended.saturating_sub(since));
    rungs.rungs.push(Rung { step, leg: awaited(step), ok: Some(false), took, note });
}

/// Whose word was missing where a step has no rung of its own.
fn awaited(step: Step) -> Side {
    match step {
        Step::Startup
        | Step::Password
        | Step::Md5
        | Step::SaslMechanism
        | Step::ScramClientFirst
        | Step::ScramClientFinal => Side::Client,
        _ => Side::Server,
    }
}

/// How the handshake ended, in words.
pub fn ending(record: &Record) -> String {
    if let Some(error) = &record.error {
        let who = if error.is_ours() { "pgwhy" } else { "the server" };
        return match error.sqlstate() {
            "" => format!("{who} refused"),
            code => format!("{who} refused: {code}"),
        };
    }
    if record.parting.is_some() {
        return "the client left at once".into();
    }
    match record.first_close() {
        Some((Side::Client, Close::Eof, _)) => "the client closed".into(),
        Some((Side::Client, Close::Reset, _)) => "the client reset the connection".into(),
        Some((Side::Server, Close::Eof, _)) => "the server closed without a word".into(),
        Some((Side::Server, Close::Reset, _)) => "the server reset the connection".into(),
        Some((_, Close::Deadline, _)) => "nothing more came before the login deadline".into(),
        Some((_, Close::Shutdown, _)) => "pgwhy was told to stop".into(),
        None => "it went no further".into(),
    }
}

/// A protocol version word as people write it.
pub fn version(word: u32) -> String {
    format!("{}.{}", word >> 16, word & 0xffff)
}

/// Bytes from the wire as text; what is no UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
