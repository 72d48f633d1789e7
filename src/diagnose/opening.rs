//! The client's first bytes: probes, scanners, and startup packets that can't be used.

use std::time::Duration;

use crate::handshake::record::StartupFault;
use crate::handshake::{Close, Record, Side, Step};
use crate::wire::first::{First, MAX_STARTUP_PACKET};

use super::{Cause, Context, Finding, Leg};

/// Who waits so long and leaves wanted the answer: a driver's timeout is a second or more.
pub(super) const PATIENT: Duration = Duration::from_millis(900);

/// A packet longer than this is not a startup packet that grew, it is another protocol.
const ABSURD_LENGTH: u32 = 1 << 20;

/// A health check, a port scan, another protocol.
pub(super) fn not_a_client(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let left = |side, how| record.first_close().is_some_and(|(by, close, _)| by == side && close == how);
    let client_left = left(Side::Client, Close::Eof) || left(Side::Client, Close::Reset);
    let probe = |step, variant, evidence: String| {
        let finding = Finding::proven(step, Cause::NotAClient, evidence);
        Some(finding.variant(variant))
    };
    match record.first {
        None if record.client_bytes == 0 && client_left => {
            // Real clients do so, too: lib/pq's first connection with `sslmode=prefer`, the slower of two
            // that were dialled at once (RFC 8305), one that gave up.
            let evidence = "it connected and closed without sending a byte";
            Some(Finding::likely(Step::Startup, Cause::NotAClient, evidence).variant("tcp_probe"))
        }
        None if client_left => {
            let count = record.client_bytes;
            probe(
                Step::Startup,
                "garbage",
                format!("it sent {count} bytes, too few for any packet, and closed"),
            )
        }
        Some(First::Http) => probe(Step::Startup, "http", "its first bytes are an HTTP request".into()),
        Some(First::Malformed { length }) if length > ABSURD_LENGTH && !is_proxy_protocol(record, length) => {
            let evidence = format!("its first four bytes would be the length of a packet of {length} bytes");
            probe(Step::Startup, "garbage", evidence)
        }
        Some(First::SslRequest) if client_left && context.dials.iter().all(|dial| dial.result.is_ok()) => {
            let request = record.ssl_request?;
            let (_, _, closed) = record.first_close()?;
            let unanswered = request.answer.is_none_or(|(_, answered)| closed < answered);
            (unanswered
                && closed.saturating_sub(request.asked) < PATIENT
                && record.startup.is_none()
                && record.tls.as_ref().is_none_or(|tls| tls.client_hello.is_none()))
            .then(|| {
                let evidence = "it sent an SSLRequest and closed without waiting for the answer";
                Finding::proven(Step::SslRequest, Cause::NotAClient, evidence).variant("ssl_probe")
            })
        }
        _ => https(record).or_else(|| health_check(record).filter(|_| client_left)),
    }
}

/// An HTTPS client at a server that says nothing to it. One that knows direct TLS answers with an alert, and that
/// shows as a mistake of the client's (`alpn_missing`).
fn https(record: &Record) -> Option<Finding> {
    let no_fault = record.legs.as_ref().is_none_or(|legs| legs.fault.is_none());
    let tls = record.tls.as_ref().filter(|tls| tls.direct && tls.alerts.is_empty() && no_fault)?;
    let offered = &tls.client_hello.as_ref()?.0.alpn;
    let is_http = |name: &String| name == "h2" || name.starts_with("http/");
    if offered.is_empty() || !offered.iter().all(is_http) {
        return None;
    }
    let evidence = format!("it begins with TLS, and offers {} but not postgresql (ALPN)", offered.join(", "));
    Some(Finding::proven(Step::Startup, Cause::NotAClient, evidence).variant("tls_probe"))
}

/// What logs in only to see whether a server answers: it leaves on the authentication request.
fn health_check(record: &Record) -> Option<Finding> {
    let startup = record.startup.as_ref()?;
    if record.requests.is_empty() || record.answered.is_some() || record.session.authenticated.is_some() {
        return None;
    }
    let alone = matches!(startup.parameters.as_slice(), [(name, _)] if name == b"user");
    let evidence = match startup.get("application_name") {
        Some(b"pg_isready") => "it calls itself pg_isready, and left when the server asked for a password",
        // Drivers that leave for want of a password say more of themselves.
        None if alone => {
            "its startup packet holds nothing but a user, and it left when the server asked for a password: HAProxy's pgsql-check does that"
        }
        _ => return None,
    };
    let finding = Finding::likely(Step::Startup, Cause::NotAClient, evidence);
    Some(finding.or(&[Cause::PasswordMissing, Cause::ClientLeft]))
}

/// How the PROXY protocol begins, in its versions 1 and 2. Behind it comes a client; scanners send no more than
/// two empty lines.
fn is_proxy_protocol(record: &Record, length: u32) -> bool {
    record.client_bytes > 4 && [*b"PROX", *b"\r\n\r\n"].contains(&length.to_be_bytes())
}

/// No startup packet, or one that can't be used.
pub(super) fn broken_start(record: &Record, context: &Context<'_>) -> Option<Finding> {
    if matches!(record.first, Some(First::Malformed { length }) if is_proxy_protocol(record, length)) {
        let evidence = "its first four bytes are a PROXY protocol header's, which PostgreSQL does not know";
        let finding =
            Finding::likely(Step::Startup, Cause::StartupMalformed, evidence).or(&[Cause::NotAClient]);
        return Some(
            finding
                .summary("what stands in front of pgwhy sends a PROXY protocol header before the client's bytes")
                .fix("turn the PROXY protocol off for this target in the load balancer (haproxy: no send-proxy)"),
        );
    }
    if let Some((Side::Client, count)) = record.injected {
        let evidence =
            format!("{count} bytes came in clear behind the request for encryption, before its answer");
        return Some(Finding::proven(Step::SslRequest, Cause::PlaintextInjected, evidence).on(Leg::Client));
    }
    if let Some(StartupFault::Length(length)) = record.startup_fault {
        let evidence =
            format!("its length word says {length} bytes; PostgreSQL takes 8 to {MAX_STARTUP_PACKET}");
        let finding = Finding::proven(Step::Startup, Cause::StartupMalformed, evidence);
        let is_long = usize::try_from(length).is_ok_and(|length| length > MAX_STARTUP_PACKET);
        return Some(if is_long { finding } else { finding.fix(NO_DRIVER) });
    }
    let ended_by_deadline = matches!(record.first_close(), Some((_, Close::Deadline, _)));
    let nothing_yet = record.startup.is_none() && record.startup_fault.is_none();
    if ended_by_deadline && nothing_yet && record.ssl_request.is_none() && record.gss_request.is_none() {
        let count = record.client_bytes;
        let evidence =
            format!("{count} bytes in {:.0} s, no complete startup packet", record.ended.as_secs_f64());
        return Some(Finding::proven(Step::Startup, Cause::StartupTimeout, evidence));
    }
    if let Some(StartupFault::Field(fault)) = record.startup_fault
        && (context.dials.iter().any(|dial| dial.result.is_ok())
            || record.first == Some(First::CancelRequest))
        && record.requests.is_empty()
    {
        let evidence = format!("the startup packet breaks off at \"{}\": {}", fault.field, fault.fault);
        return Some(Finding::proven(Step::Startup, Cause::StartupMalformed, evidence).fix(NO_DRIVER));
    }
    None
}

/// What to do where no driver would have sent this.
const NO_DRIVER: &str =
    "no PostgreSQL driver sends this: look at what connects, and at what stands between it and pgwhy";
