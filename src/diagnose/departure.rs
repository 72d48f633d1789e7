//! Nobody said why: one side closed, or was silent until a deadline.

use std::time::Duration;

use crate::handshake::driver::{Driver, WithoutPassword, recognise};
use crate::handshake::ladder::{ending, text};
use crate::handshake::record::Asked;
use crate::handshake::{Close, Record, Side, Step};

use super::{Cause, Confidence, Context, Finding, Leg, demands, encryption};

/// Names what a departure or a silence means; total, so that every record has a diagnosis.
pub(super) fn left(record: &Record, context: &Context<'_>) -> Finding {
    let step = record.step.unwrap_or(Step::Startup);
    match record.first_close() {
        Some((_, Close::Deadline, at)) => silence(record, step, at),
        Some((Side::Server, _, at)) => server_left(record, step, at),
        Some((_, Close::Shutdown, _)) => {
            Finding::proven(step, Cause::ProxyLimit, "pgwhy was told to stop while this login was under way")
                .summary("pgwhy was stopped while this login was under way")
                .fix("connect again when pgwhy runs again; --drain-timeout gives running logins and sessions more time")
        }
        Some((Side::Client, _, at)) => client_left(record, context, step, at),
        None => Finding::possible(step, Cause::ClientLeft, "the watch ended before the handshake did"),
    }
}

/// The client sent Terminate in the middle of the handshake: it left, and said so.
pub(super) fn terminated(record: &Record, context: &Context<'_>) -> Finding {
    let step = record.step.unwrap_or(Step::SaslMechanism);
    client_left(record, context, step, record.ended).and("it sent Terminate first")
}

/// The server let in a client that had closed before: nobody is there to use the session.
pub(super) fn given_up(record: &Record) -> Option<Finding> {
    let (_, how, at) = record.first_close().filter(|(side, ..)| *side == Side::Client)?;
    let ready = record.session.ready.filter(|ready| *ready > at)?;
    // Who sends all it has to say at once and half-closes did not wait for anything.
    let waited = at.saturating_sub(record.client_last.unwrap_or_default());
    if matches!(how, Close::Deadline | Close::Shutdown) || waited < A_WHILE {
        return None;
    }
    let evidence = format!(
        "the client closed {:.1} s after it had connected, and the server was ready for queries {:.0} ms later",
        at.as_secs_f64(),
        (ready - at).as_secs_f64() * 1e3
    );
    Some(
        Finding::possible(Step::SessionSetup, Cause::ClientLeft, evidence)
            .summary("the client gave up waiting, and the server let it in when it was gone")
            .fix("raise the client's connect timeout; or look why the server takes so long to let a client in (a login trigger, a slow directory, load)"),
    )
}

/// The login worked, and the client left at once: it wanted another kind of server.
///
/// Never proven: a monitor that logs in, asks whether this is a standby, and leaves sends the same.
pub(super) fn unwanted(record: &Record) -> Option<Finding> {
    let parting = record.parting.as_ref()?;
    // pg_isready logs in where no password is asked, and leaves.
    if record.startup.as_ref().and_then(|startup| startup.get("application_name")) == Some(b"pg_isready") {
        return None;
    }
    let is_on = |name: &str| record.parameter(name) == Some(b"on");
    let said = |asked| parting.answers.iter().find(|(what, _)| *what == asked).map(|(_, answer)| *answer);
    let standby = is_on("in_hot_standby") || said(Asked::Recovery) == Some(true);
    let read_only = is_on("default_transaction_read_only") || said(Asked::ReadOnly) == Some(true);
    let (kind, wanted) = match (standby, read_only) {
        (true, _) => ("a standby", "a primary or a server that it can write to"),
        (false, true) => ("a server that is read-only by default", "a server that it can write to"),
        (false, false) => ("a primary", "a standby or a read-only server"),
    };
    let told = match parting.answers.as_slice() {
        [] => {
            let told: Vec<&str> = ["in_hot_standby", "default_transaction_read_only"]
                .into_iter()
                .filter(|name| is_on(name))
                .collect();
            if told.is_empty() {
                // Without a setting or a question it is a check of the login.
                return None;
            }
            format!("ParameterStatus said {}=on", told.join("=on, "))
        }
        answers => {
            let answers: Vec<String> = answers
                .iter()
                .map(|(asked, answer)| match asked {
                    Asked::ReadOnly => format!("read-only? {}", if *answer { "on" } else { "off" }),
                    Asked::Recovery => format!("in recovery? {}", if *answer { "yes" } else { "no" }),
                })
                .collect();
            format!("the client asked what kind of server this is, and nothing else: {}", answers.join(", "))
        }
    };
    let since = parting.at.saturating_sub(record.session.ready.unwrap_or_default()).as_secs_f64() * 1e3;
    let left = if parting.terminated { "Terminate was its next message" } else { "then it closed" };
    // A driver leaves a primary much more rarely than a monitor that only looks does.
    let confidence = if standby || read_only { Confidence::Likely } else { Confidence::Possible };
    Some(
        Finding::new(Step::Ready, Cause::TargetSessionMismatch, confidence, told)
            .and(format!("{left}, {since:.1} ms after ReadyForQuery"))
            .and("a health check that logs in and leaves looks the same")
            .or(&[Cause::NotAClient])
            .summary(format!(
                "the login worked and the client left: this is {kind}, and it seems to want {wanted}"
            )),
    )
}

fn silence(record: &Record, step: Step, at: Duration) -> Finding {
    let seconds = at.as_secs_f64();
    if awaits_client(record) {
        if let Some(finding) = lacks_method(record, step) {
            return finding.and(format!("the client was silent until our login deadline ({seconds:.0} s)"));
        }
        let evidence =
            format!("the server asked and the client was silent until our login deadline ({seconds:.0} s)");
        return Finding::proven(step, Cause::AuthTimeout, evidence).on(Leg::Client);
    }
    let evidence = format!("the client's last message was sent and nothing came back in {seconds:.0} s");
    match step {
        Step::Startup | Step::AuthRequest | Step::SslRequest | Step::GssRequest => {
            let step = if step == Step::Startup { Step::AuthRequest } else { step };
            Finding::proven(step, Cause::NoAnswer, evidence)
        }
        Step::ScramServerFinal | Step::SessionSetup => Finding::proven(step, Cause::AuthTimeout, evidence)
            .and("the server had accepted the login before; a pooler waits like this for a server of its own")
            .summary("the server accepted the password, or asked for none, and then said nothing more until our login deadline")
            .fix("look into the log of the server, or of the pooler in front of it: what did it wait for?"),
        // The client's message was whole: it is the server's answer to it that is missing.
        Step::ScramClientFirst => Finding::proven(Step::ScramServerFirst, Cause::AuthTimeout, evidence),
        _ => Finding::proven(step, Cause::AuthTimeout, evidence),
    }
}

/// Whether the last word was the server's request.
fn awaits_client(record: &Record) -> bool {
    // Behind the server's verdict nothing is asked any more.
    if matches!(record.step, Some(Step::ScramServerFinal | Step::SessionSetup)) {
        return false;
    }
    match (record.last_request(), record.answered) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some(answered)) => record.server_last.is_some_and(|last| last > answered),
    }
}

fn server_left(record: &Record, step: Step, at: Duration) -> Finding {
    if step == Step::AuthRequest && speaks_otherwise(record) {
        let evidence = format!(
            "{} after {} bytes that are no message of PostgreSQL's",
            ending(record),
            record.server_bytes
        );
        return Finding::likely(step, Cause::NotPostgres, evidence)
            .variant("unknown")
            .or(&[Cause::ServerLeft]);
    }
    if record.server_bytes == 0 || (step == Step::AuthRequest && record.requests.is_empty()) {
        let ms = at.as_secs_f64() * 1e3;
        let sent = record.startup.as_ref().map_or(Duration::ZERO, |startup| startup.at);
        let waited = at.saturating_sub(sent);
        let evidence = format!("{}, {ms:.1} ms after the connection began", ending(record));
        let finding = Finding::proven(Step::Startup, Cause::ClosedWithoutAnswer, evidence);
        return match is_round(waited) {
            true => finding
                .and(format!("it waited {:.0} s: that is a timeout, not a refusal", waited.as_secs_f64())),
            false => finding,
        };
    }
    let since = record.client_last.max(record.server_last).unwrap_or_default();
    let waited = at.saturating_sub(since);
    let evidence = format!("{} {:.1} s after the last message", ending(record), waited.as_secs_f64());
    // authentication_timeout begins between the startup packet and the first request (PerformAuthentication,
    // postinit.c), which lie apart at a busy server, and the server says nothing to a client that is not
    // logged in yet (ProcessInterrupts, postgres.c).
    let (began, what) = match &record.startup {
        Some(startup) => (startup.at, "the startup packet"),
        None => (Duration::ZERO, "the connection began"),
    };
    let asked = record.requests.first().map_or(began, |request| request.at);
    let since_began = at.saturating_sub(began);
    if record.session.authenticated.is_none()
        && holds_round(at.saturating_sub(asked), since_began)
        && waited >= Duration::from_millis(500)
    {
        if let Some(finding) = lacks_method(record, step).filter(|_| awaits_client(record)) {
            return finding.and(evidence);
        }
        return Finding::likely(step, Cause::AuthTimeout, evidence)
            .and(format!("{:.1} s after {what}: authentication_timeout", since_began.as_secs_f64()));
    }
    Finding::possible(step, Cause::ServerLeft, evidence).or(&[Cause::AuthTimeout]).ask(&["--server-log"])
}

/// Whether bytes came that are no message, beside the answer to an SSLRequest.
fn speaks_otherwise(record: &Record) -> bool {
    let answer = record.ssl_request.and_then(|request| request.answer).map_or(0, |_| 1);
    let understood = !record.requests.is_empty() || !record.negotiations.is_empty();
    record.server_bytes > answer && !understood && record.tls.is_none() && record.legs.is_none()
}

/// Timeouts are whole seconds; a crash is not.
fn is_round(time: Duration) -> bool {
    let ms = time.as_millis();
    ms >= 900 && (ms % 1000 < 250 || ms % 1000 > 950)
}

/// Whether a whole number of seconds lies between these, but for a little.
fn holds_round(least: Duration, most: Duration) -> bool {
    let whole = Duration::from_secs((most + Duration::from_millis(50)).as_secs());
    !whole.is_zero() && least < whole + Duration::from_millis(250)
}

fn client_left(record: &Record, context: &Context<'_>, step: Step, at: Duration) -> Finding {
    let waited = at.saturating_sub(record.server_last.unwrap_or_default());
    let since = match record.server_last {
        Some(_) => "the server's last message",
        None => "the connection began",
    };
    let evidence = format!("{} {:.1} ms after {since}", ending(record), waited.as_secs_f64() * 1e3);
    if let Some(finding) = version_not_shared(record, step) {
        return finding.and(evidence);
    }
    let finding = match step {
        Step::Password | Step::Md5 | Step::SaslMechanism if record.answered.is_none() => {
            demands::forbidden(record, context, step).unwrap_or_else(|| after_request(record, step))
        }
        Step::ScramServerFirst => after_server_first(record, waited),
        Step::ScramServerFinal => {
            return after_server_final(context, evidence, waited);
        }
        Step::Gss => {
            let finding = Finding::likely(step, Cause::GssFailed, evidence).or(&[Cause::ClientLeft]);
            return match recognise(record) {
                Some(driver) if driver.name == "libpq" => {
                    finding.and("libpq leaves like this when it has no ticket")
                }
                _ => finding
                    .variant("unsupported_by_client")
                    .fix("use a driver that knows GSSAPI (libpq and what is made of it, pgjdbc, Npgsql), or a line with another method"),
            };
        }
        Step::AuthRequest if !record.requests.is_empty() => obsolete_method(record),
        _ => return plain(record, step, evidence, at),
    };
    finding.and(evidence)
}

/// The client got the server's signature, and left before AuthenticationOk: it does not like the one, or waited too
/// long for the other.
fn after_server_final(context: &Context<'_>, evidence: String, waited: Duration) -> Finding {
    let right = context.server_signature_fits == Some(true);
    if right || waited >= A_WHILE {
        let seconds = waited.as_secs_f64();
        return Finding::possible(Step::SessionSetup, Cause::ClientLeft, evidence)
            .and_maybe(
                right.then(|| "the server's signature is right: it fits the expected password".to_owned()),
            )
            .or(if right { &[] } else { &[Cause::ServerSignatureInvalid] })
            .summary(format!(
                "the client gave up waiting for the server {seconds:.1} s after the password was accepted"
            ));
    }
    Finding::likely(Step::ScramServerFinal, Cause::ServerSignatureInvalid, evidence)
        .or(&[Cause::ClientLeft])
        .ask(&["the expected password"])
}

fn plain(record: &Record, step: Step, evidence: String, at: Duration) -> Finding {
    let startup = record.startup.as_ref().filter(|_| step == Step::AuthRequest && record.requests.is_empty());
    let unanswered = startup.filter(|_| record.negotiations.is_empty() && !speaks_otherwise(record));
    if let Some(startup) = unanswered
        && let Some(finding) = encryption::gave_up(step, "startup packet", at, startup.at)
    {
        return finding;
    }
    if step == Step::Startup && record.startup.is_none() {
        return Finding::likely(step, Cause::StartupMalformed, evidence)
            .and(format!("{} bytes came, and no whole startup packet", record.client_bytes))
            .or(&[Cause::ClientLeft])
            .summary("the client closed before its startup packet was whole")
            .fix("look at the client's own error and log: it ended in the middle of its first message");
    }
    let finding = Finding::possible(step, Cause::ClientLeft, evidence);
    match step {
        Step::AuthRequest | Step::ScramClientFinal | Step::SessionSetup | Step::Password | Step::Md5 => {
            let told = record.client_last.unwrap_or_default();
            let waited = at.saturating_sub(told).as_secs_f64();
            finding.summary(format!("the client gave up waiting for the server after {waited:.1} s"))
        }
        _ => finding,
    }
}

/// NegotiateProtocolVersion, and then the client left: it insists on a newer minor version. Or it
/// asked for a version that does not exist, and something accepted it.
fn version_not_shared(record: &Record, step: Step) -> Option<Finding> {
    let asked = record.startup.as_ref()?.version;
    if !matches!(step, Step::AuthRequest | Step::SaslMechanism | Step::Password | Step::Md5) {
        return None;
    }
    if record.answered.is_some() {
        return None;
    }
    if asked == GREASE && record.negotiations.is_empty() {
        let evidence =
            "the client asked for protocol 3.9999, which nobody speaks, and no NegotiateProtocolVersion came";
        let finding = Finding::proven(Step::Startup, Cause::ProtocolVersionUnsupported, evidence);
        return Some(finding.variant("grease_not_negotiated").on(Leg::Server));
    }
    if record.negotiations.len() > 1 {
        let evidence =
            "NegotiateProtocolVersion came more than once, which clients take for a broken protocol";
        let finding = Finding::likely(Step::Startup, Cause::ProtocolVersionUnsupported, evidence);
        return Some(finding.on(Leg::Server).fix("upgrade the pooler, or set max_protocol_version=3.0"));
    }
    let (newest, _) = record.negotiations.first()?;
    let newest = if *newest < 0x1_0000 { 0x3_0000 + newest } else { *newest };
    // Nobody insists on a version that does not exist.
    (newest < asked && asked != GREASE).then(|| {
        let version = crate::handshake::ladder::version;
        let evidence = format!(
            "the client asked for protocol {}, the server speaks at most {} (NegotiateProtocolVersion)",
            version(asked),
            version(newest)
        );
        Finding::likely(Step::Startup, Cause::ProtocolVersionUnsupported, evidence)
            .variant("minimum_not_met")
            .or(&[Cause::PasswordMissing])
    })
}

/// libpq 19 asks for 3.9999 to keep servers and proxies honest about negotiation.
const GREASE: u32 = (3 << 16) | 9999;

/// The client closed right after the authentication request, without any answer.
fn after_request(record: &Record, step: Step) -> Finding {
    if let Some(finding) = lacks_method(record, step) {
        return finding;
    }
    if step == Step::SaslMechanism && record.offers(b"SCRAM-SHA-256-PLUS") && record.tls.is_none() {
        let evidence = "SCRAM-SHA-256-PLUS was offered on a connection without TLS, and the client left";
        let proven = Finding::proven(step, Cause::PlusOverPlaintext, evidence);
        match recognise(record) {
            Some(driver) if driver.name == "libpq" => return proven,
            // Others don't mind the offer, and leave for want of a password.
            Some(_) => {}
            None => {
                return Finding { confidence: Confidence::Likely, ..proven }
                    .or(&[Cause::PasswordMissing, Cause::ClientLeft]);
            }
        }
    }
    let scram = record.offers(b"SCRAM-SHA-256") || record.offers(b"SCRAM-SHA-256-PLUS");
    if !record.mechanisms.is_empty() && !scram {
        // A driver looks for a mechanism that it knows before it looks for a password.
        let offered: Vec<String> = record.mechanisms.iter().map(|name| text(name)).collect();
        let evidence = format!("the server offers only {}, and the client left", offered.join(", "));
        let finding = Finding::likely(step, Cause::AuthMethodUnsupportedByClient, evidence);
        return if record.offers(b"OAUTHBEARER") { finding.variant("oauth") } else { finding };
    }
    let unsupported = if step == Step::Md5 { "it can't do MD5 (FIPS)" } else { "it can't do this method" };
    let finding = match recognise(record) {
        Some(Driver { name, without_password: WithoutPassword::LeavesAfterRequest, .. }) => {
            let evidence = format!("{name} closes right after the request when it has no password");
            Finding::likely(step, Cause::PasswordMissing, evidence)
        }
        Some(driver) => {
            let evidence = format!("{} does not close here for want of a password", driver.name);
            return Finding::possible(step, Cause::ClientLeft, evidence)
                .or(&[Cause::AuthMethodUnsupportedByClient, Cause::MethodRejectedByClient]);
        }
        None => {
            let evidence = "most drivers close right after the request when they have no password";
            Finding::possible(step, Cause::PasswordMissing, evidence)
        }
    };
    finding
        .and(format!("but a client leaves like this too when {unsupported} or its settings forbid it"))
        .or(&[Cause::AuthMethodUnsupportedByClient, Cause::MethodRejectedByClient, Cause::ClientLeft])
}

/// A driver of a kind that lacks SCRAM in old versions, and that never leaves here otherwise.
fn lacks_method(record: &Record, step: Step) -> Option<Finding> {
    let driver = recognise(record).filter(|driver| driver.may_lack_scram)?;
    (step == Step::SaslMechanism && record.answered.is_none()).then(|| {
        let evidence = format!(
            "this is {} by its startup packet, in a version that quotes client_encoding; it did not answer the offer of SCRAM, which releases before 7.9.0 do not know",
            driver.name
        );
        Finding::proven(step, Cause::AuthMethodUnsupportedByClient, evidence)
            .variant("scram")
            .fix("upgrade the driver: node-postgres knows SCRAM since 7.9.0 (`npm install pg@latest`)")
    })
}

/// A client that dislikes a signature leaves within milliseconds.
const A_WHILE: Duration = Duration::from_millis(900);

/// What a program needs to find that it has no password, and its goodbye to arrive here.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Rounds of PBKDF2 that take a driver some milliseconds; 4,096 is PostgreSQL's default.
const CHEAP: u32 = 10_000;

fn after_server_first(record: &Record, waited: Duration) -> Finding {
    let step = Step::ScramServerFirst;
    let Some(first) = record.scram.as_ref().and_then(|scram| scram.server_first.as_ref()) else {
        let evidence = "server-first-message breaks its grammar, and the client left";
        return Finding::likely(step, Cause::SaslResponseInvalid, evidence).on(Leg::Server);
    };
    if !first.extends_nonce {
        let evidence = "the nonce in server-first-message does not begin with the client's";
        return Finding::proven(step, Cause::ScramNonceMismatch, evidence);
    }
    if first.iterations == 0 {
        return Finding::proven(step, Cause::ScramIterationsRefused, "the server's iteration count is 0");
    }
    // node-postgres and pgjdbc refuse more than 100,000 iterations unless told otherwise.
    if first.iterations > 100_000 {
        let evidence = format!("the server asks for {} iterations", first.iterations);
        return Finding::likely(step, Cause::ScramIterationsRefused, evidence).or(&[Cause::PasswordMissing]);
    }
    match recognise(record) {
        Some(Driver { name: "node-postgres", .. }) => {
            let evidence = "node-postgres leaves after a valid server-first-message when its password is missing, empty or not a string";
            // It does so at once, and a proof takes it milliseconds; whoever is ended while it works on a costly
            // one looks the same.
            if waited <= AT_ONCE && first.iterations <= CHEAP {
                return Finding::proven(step, Cause::PasswordMissing, evidence);
            }
            Finding::likely(step, Cause::PasswordMissing, evidence).or(&[Cause::ClientLeft])
        }
        Some(driver) if driver.without_password == WithoutPassword::LeavesAfterServerFirst => {
            let evidence =
                format!("{} leaves after server-first-message when it has no password", driver.name);
            Finding::likely(step, Cause::PasswordMissing, evidence).or(&[Cause::ClientLeft])
        }
        _ => Finding::possible(step, Cause::ClientLeft, "the server's message was valid")
            .or(&[Cause::PasswordMissing, Cause::ScramIterationsRefused]),
    }
}

fn obsolete_method(record: &Record) -> Finding {
    let code = record.last_request().map_or(0, |request| request.code);
    let variant = if code == 13 { "sha256_redshift" } else { "obsolete" };
    let evidence = format!("the server asked for authentication method {code}, and the client left");
    Finding::likely(Step::AuthRequest, Cause::AuthMethodUnsupportedByClient, evidence).variant(variant)
}
