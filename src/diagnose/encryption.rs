//! SSLRequest, GSSENCRequest and the outside of a TLS handshake.

use std::time::Duration;

use crate::handshake::record::Tls;
use crate::handshake::{Close, Record, Side, Step};
use crate::wire::tls::{Alert, version_name};

use super::opening::PATIENT;
use super::{Cause, Confidence, Context, Finding, Leg};

/// What came of the requests for encryption.
pub(super) fn negotiation(record: &Record, context: &Context<'_>) -> Option<Finding> {
    gss(record).or_else(|| gss_cut(record, context)).or_else(|| ssl(record, context))
}

fn gss(record: &Record) -> Option<Finding> {
    let request = record.gss_request?;
    if record.ssl_request.is_some() || record.startup.is_some() || record.gss_encrypted {
        return None;
    }
    match (request.answer, record.first_close()?) {
        (None, (Side::Server, how, _)) if how != Close::Deadline => {
            let evidence = "the server closed right after the GSSENCRequest";
            Some(Finding::proven(Step::GssRequest, Cause::GssRequestUnhandled, evidence))
        }
        (None, (_, Close::Deadline, at)) => {
            Some(silence(Step::GssRequest, "GSSENCRequest", at.as_secs_f64()))
        }
        (None, (Side::Client, _, at)) => gave_up(Step::GssRequest, "GSSENCRequest", at, request.asked),
        (Some((b'N', _)), (_, Close::Deadline, at)) => Some(no_startup(at)),
        _ => None,
    }
}

/// GSSAPI encryption was agreed on, and one side left before there was any.
fn gss_cut(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let (side, ..) = context.opaque.filter(|_| record.gss_encrypted)?.closed?;
    let (asked, said) = (record.client_bytes > GSS_REQUEST, record.server_bytes > 1);
    let finding = |evidence| Finding::likely(Step::Gss, Cause::GssFailed, evidence).or(&[Cause::ClientLeft]);
    match (side, asked, said) {
        (Side::Client, false, false) => {
            Some(finding("GSSENCRequest, G, and the client closed before its first token").on(Leg::Client))
        }
        (Side::Server, true, false) => Some(
            finding("GSSENCRequest, G, a token of the client, and the server closed without one of its own")
                .variant("rejected"),
        ),
        _ => None,
    }
}

/// The length of a GSSENCRequest.
const GSS_REQUEST: u64 = 8;

/// The deadline passed while the client was to speak, before its startup packet.
pub(super) fn no_startup(at: Duration) -> Finding {
    let seconds = at.as_secs_f64();
    let evidence = format!(
        "it was the client's turn, and no startup packet came until our login deadline ({seconds:.0} s)"
    );
    Finding::proven(Step::Startup, Cause::StartupTimeout, evidence)
}

fn silence(step: Step, request: &str, seconds: f64) -> Finding {
    let evidence = format!("nothing came back on the {request} in {seconds:.0} s");
    Finding::proven(step, Cause::NoAnswer, evidence)
}

/// The client waited for an answer, and then no longer.
pub(super) fn gave_up(step: Step, request: &str, at: Duration, asked: Duration) -> Option<Finding> {
    let waited = at.saturating_sub(asked);
    let evidence = format!("nothing came back on the {request} in {:.1} s", waited.as_secs_f64());
    (waited >= PATIENT).then(|| {
        Finding::likely(step, Cause::NoAnswer, evidence)
            .and("then the client gave up")
            .or(&[Cause::ClientLeft])
    })
}

fn ssl(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let request = record.ssl_request?;
    if record.startup.is_some() {
        return None;
    }
    if record.hello_after_no {
        let evidence = "SSLRequest, N, and then a ClientHello all the same";
        let finding = Finding::proven(Step::SslRequest, Cause::ServerHasNoTls, evidence);
        return Some(declined(finding.variant("hello_after_n"), context));
    }
    if let (Some(error), None) = (&record.error, record.tls.as_ref()) {
        let said = error.text(b'M').unwrap_or_default();
        let evidence = format!("the answer to the SSLRequest is an error: {said}");
        return Some(Finding::proven(Step::SslRequest, Cause::SslRequestError, evidence));
    }
    let (side, how, at) = record.first_close()?;
    if answered_with_error(record) {
        let evidence = "the answer to the SSLRequest begins an error (E), and its text did not come whole";
        return Some(Finding::proven(Step::SslRequest, Cause::SslRequestError, evidence));
    }
    match (request.answer, side, how) {
        (None, _, Close::Deadline) => Some(silence(Step::SslRequest, "SSLRequest", at.as_secs_f64())),
        (Some((b'N' | b'S', _)), _, Close::Deadline) if !has_hello(record) => Some(no_startup(at)),
        (None, Side::Client, _) => gave_up(Step::SslRequest, "SSLRequest", at, request.asked),
        (None, Side::Server, _) => {
            let waited = at.saturating_sub(request.asked).as_secs_f64();
            let evidence = format!("the server closed {waited:.1} s after the SSLRequest, without a byte");
            Some(Finding::proven(Step::SslRequest, Cause::ClosedWithoutAnswer, evidence))
        }
        (Some((b'N', _)), Side::Client, Close::Eof | Close::Reset) => {
            let evidence = "SSLRequest, N, and the client closed without a startup packet";
            let finding = Finding::proven(Step::SslRequest, Cause::ServerHasNoTls, evidence);
            Some(declined(finding.variant("client_gave_up"), context))
        }
        (Some((b'S', _)), Side::Client, Close::Eof | Close::Reset) if !has_hello(record) => {
            let evidence = "SSLRequest, S, and the client closed before its ClientHello";
            Some(Finding::proven(Step::TlsHandshake, Cause::TlsAbandonedByClient, evidence))
        }
        _ => None,
    }
}

/// Whether the answer to the SSLRequest begins as an error does.
pub(super) fn answered_with_error(record: &Record) -> bool {
    record.ssl_request.is_some_and(|request| matches!(request.answer, Some((b'E', _))))
}

/// The `N` may have been ours.
fn declined(finding: Finding, context: &Context<'_>) -> Finding {
    if !context.ssl_answered_by_us {
        return finding;
    }
    finding
        .on(Leg::Proxy)
        .summary("the client insists on TLS, and pgwhy declined it (--client-tls disable)")
        .and("pgwhy answered N itself: --client-tls disable")
        .fix("use --client-tls passthrough (or auto), so that the server's own answer reaches the client")
}

fn has_hello(record: &Record) -> bool {
    record.tls.as_ref().is_some_and(|tls| tls.client_hello.is_some())
}

/// Whether encryption passed through and nothing failed visibly.
pub(super) fn is_opaque(record: &Record) -> bool {
    let both = |tls: &Tls| {
        [Side::Client, Side::Server].iter().all(|side| tls.encrypted.iter().any(|(from, ..)| from == side))
    };
    record.gss_encrypted || record.tls.as_ref().is_some_and(both)
}

/// What can be said of a connection that was encrypted from end to end.
pub(super) fn outside(record: &Record, context: &Context<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some((hello, _)) = record.tls.as_ref().and_then(|tls| tls.server_hello.as_ref()) {
        notes.push(format!(
            "{} from end to end: a login inside it can't be seen",
            version_name(hello.version)
        ));
    }
    if let Some(opaque) = context.opaque {
        let (client, server) = (opaque.client_bytes, opaque.server_bytes);
        notes.push(match opaque.closed {
            Some((side, _, at)) => {
                let who = if side == Side::Client { "client" } else { "server" };
                let ms = at.as_secs_f64() * 1e3;
                format!("the {who} closed after {ms:.0} ms, {client} bytes of the client and {server} of the server: a login that fails looks like this, and so does a short session")
            }
            None => format!("still open after {client} bytes of the client and {server} of the server, as after a login"),
        });
    }
    notes.push(
        "to see inside: sslmode=disable in the client's connection string, or --client-tls disable".into(),
    );
    notes
}

/// What the outside of a TLS handshake shows of its failure.
pub(super) fn tls(record: &Record, context: &Context<'_>) -> Option<Finding> {
    // Of TLS that was opened with a key log the inside tells.
    let tls = record.tls.as_ref().filter(|tls| !tls.opened)?;
    if context.tls_refused_by_us {
        let evidence = "the client began with TLS at once, and pgwhy runs with --client-tls disable";
        return Some(
            Finding::proven(Step::TlsHandshake, Cause::DirectTlsUnsupported, evidence)
                .on(Leg::Proxy)
                .fix("use --client-tls passthrough (or auto), or remove sslnegotiation=direct"),
        );
    }
    if let Some((Side::Server, count)) = record.injected {
        let evidence = format!("{count} bytes came in clear behind the server's answer to the SSLRequest");
        return Some(Finding::proven(Step::SslRequest, Cause::PlaintextInjected, evidence).on(Leg::Server));
    }
    let server_left = matches!(record.first_close(), Some((Side::Server, Close::Eof | Close::Reset, _)));
    if tls.direct && record.server_bytes == 0 && server_left {
        // The client's alert, if there is one, is its complaint about that.
        let evidence = "the client's first byte is 0x16 (TLS without SSLRequest), and the server closed";
        return Some(Finding::proven(Step::TlsHandshake, Cause::DirectTlsUnsupported, evidence));
    }
    if let Some((side, alert, _)) =
        tls.alerts.iter().find(|(_, alert, _)| alert.level == 2 || alert.description != 0)
    {
        return Some(alerted(tls, *side, *alert));
    }
    if is_opaque(record) {
        return rejected_certificate(tls, context);
    }
    let (side, how, at) = record.first_close()?;
    let who = if side == Side::Client { "client" } else { "server" };
    let after_certificate =
        tls.encrypted.iter().any(|(from, ..)| *from == Side::Server) || tls.server_certificates.is_some();
    if how == Close::Deadline {
        if tls.client_hello.is_none() || after_certificate {
            return Some(no_startup(at));
        }
        let seconds = at.as_secs_f64();
        let evidence = format!("nothing came back on the ClientHello in {seconds:.0} s");
        return Some(Finding::proven(Step::TlsHandshake, Cause::TlsCut, evidence).on(Leg::Server));
    }
    let (_, hello) = tls.client_hello.as_ref()?;
    let waited = at.saturating_sub(*hello);
    if side == Side::Client && tls.server_hello.is_none() && waited >= PATIENT {
        let seconds = waited.as_secs_f64();
        let evidence =
            format!("nothing came back on the ClientHello in {seconds:.1} s, and the client gave up");
        return Some(Finding::likely(Step::TlsHandshake, Cause::TlsCut, evidence).on(Leg::Server));
    }
    let evidence = format!("the {who} closed in the TLS handshake, without an alert in clear");
    if side == Side::Client && after_certificate {
        return Some(
            Finding::likely(Step::TlsHandshake, Cause::ServerCertUntrusted, evidence)
                .and("it closed after the server's certificate came, before its own Finished message")
                .or(&[Cause::TlsCut]),
        );
    }
    let finding = Finding::proven(Step::TlsHandshake, Cause::TlsCut, evidence);
    Some(if side == Side::Client { finding.on(Leg::Client) } else { finding })
}

/// An alert in clear names the reason; whose it is names the side.
fn alerted(tls: &Tls, side: Side, alert: Alert) -> Finding {
    let who = if side == Side::Client { "client" } else { "server" };
    let evidence = format!("the {who} sent alert {} ({})", alert.description, alert.name());
    let (cause, confidence, variant) = match (side, alert.description) {
        (_, 70) => (Cause::TlsVersionMismatch, Confidence::Proven, None),
        (_, 120) => (Cause::AlpnMissing, Confidence::Proven, None),
        (_, 40 | 71) => (Cause::TlsCipherMismatch, Confidence::Proven, None),
        (Side::Client, 48) => (Cause::ServerCertUntrusted, Confidence::Likely, Some("unknown_ca")),
        (Side::Client, 45) => (Cause::ServerCertUntrusted, Confidence::Likely, Some("expired")),
        (Side::Client, 42..=46) => (Cause::ServerCertUntrusted, Confidence::Likely, None),
        (Side::Server, 116) => (Cause::ClientCertMissing, Confidence::Proven, None),
        (Side::Server, 48) => (Cause::ClientCertRejected, Confidence::Likely, Some("unknown_ca")),
        (Side::Server, 45) => (Cause::ClientCertRejected, Confidence::Likely, Some("expired")),
        (Side::Server, 42..=46) => (Cause::ClientCertRejected, Confidence::Likely, None),
        (Side::Server, 112) => (Cause::SniRequired, Confidence::Likely, None),
        _ => (Cause::TlsCut, Confidence::Possible, None),
    };
    let mut finding = Finding::new(Step::TlsHandshake, cause, confidence, evidence);
    if let Some((hello, _)) = &tls.client_hello {
        let versions: Vec<String> = hello.versions.iter().map(|word| version_name(*word)).collect();
        finding = finding.and(format!("the client offers {}", versions.join(", ")));
    }
    match variant {
        Some(variant) => finding.variant(variant),
        None => finding,
    }
}

/// A TLS 1.3 client that does not accept the certificate answers with one encrypted record that is
/// just large enough for an alert: 2 bytes, the content type and a tag of 16. A Finished message is
/// 53 or 69 bytes.
fn rejected_certificate(tls: &Tls, context: &Context<'_>) -> Option<Finding> {
    const ENCRYPTED_ALERT: usize = 19;
    let mut sent = tls.encrypted.iter().filter(|(from, ..)| *from == Side::Client);
    let (_, size, _) = sent.next()?;
    let closed = context.opaque?.closed?;
    if *size != ENCRYPTED_ALERT || sent.next().is_some() {
        return None;
    }
    let evidence =
        "the client answered the server's certificate with an encrypted record of the size of an alert";
    let finding = Finding::likely(Step::TlsHandshake, Cause::ServerCertUntrusted, evidence);
    Some(
        finding
            .and(format!("and the connection ended {:.1} ms after it began", closed.2.as_secs_f64() * 1e3)),
    )
}
