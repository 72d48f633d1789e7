//! TLS that pgwhy itself is an end of, and what it did on its own part between the legs.

use crate::certs::{self, Certificate, RootSummary};
use crate::handshake::ladder::text;
use crate::handshake::opened::{
    Awaits, CertificateFault, FaultKind, Legs, OpenedTls, PassedThrough, TlsFault,
};
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Close, Record, Side, Step};
use crate::password::bridge::{ITERATIONS, NONCE, SECRET, SIGNATURE};
use crate::wire::tls::{Alert, version_name};

use super::context::Context;
use super::encryption;
use super::password::NAME_THE_ROLE;
use super::refusal::said;
use super::{Cause, Confidence, Finding, Leg, Warning};

/// Why TLS of ours did not come about, or what our presence broke.
pub(super) fn finding(record: &Record) -> Option<Finding> {
    let legs = record.legs.as_deref()?;
    if legs.binding_refused {
        return Some(binding_refused(record));
    }
    match &legs.fault {
        Some(fault) if fault.leg == Side::Server => Some(server(legs, fault)),
        Some(fault) => Some(client(record, legs, fault)),
        None => silent_refusal(record, legs)
            .or_else(|| another_names_certificate(record, legs))
            .or_else(|| certificate_without_answer(record, legs)),
    }
}

/// Whether the handshake was ended here, so that what it shows from outside says nothing more.
pub(super) fn has_opened(record: &Record) -> bool {
    record.legs.as_deref().is_some_and(|legs| legs.client.is_some() || legs.fault.is_some())
}

fn binding_refused(record: &Record) -> Finding {
    let user = text(record.user().unwrap_or_default());
    let evidence = "the client binds its login to the server's certificate, and TLS ends at pgwhy, which has another one and does not know this user's password";
    Finding::proven(Step::ScramClientFirst, Cause::ChannelBindingMismatch, evidence)
        .variant("terminated_in_between")
        .on(Leg::Proxy)
        .summary(format!("{user:?} needs channel binding, and --client-tls auto had opened its TLS for another user's sake; from now on this client is passed through"))
        .fix("connect again; or use --client-tls passthrough, or give pgwhy the server's own certificate and key (--tls-cert, --tls-key)")
}

/// Towards the server.
fn server(legs: &Legs, fault: &TlsFault) -> Finding {
    let host = fault.host.as_deref().unwrap_or("the server");
    match &fault.kind {
        FaultKind::Certificate(kind) => untrusted_server(legs.server.as_ref(), fault, *kind),
        FaultKind::Alert(code) => server_alert(legs.server.as_ref(), *code),
        FaultKind::Version => {
            let evidence = "the server has neither TLS 1.2 nor 1.3, and pgwhy nothing older";
            tls(Cause::TlsVersionMismatch, evidence)
                .on(Leg::Server)
                .fix("on the server: ssl_max_protocol_version TLSv1.2 or later")
        }
        FaultKind::Cipher => tls(Cause::TlsCipherMismatch, "the server and pgwhy have no cipher suite, group or signature in common")
            .on(Leg::Server)
            .fix("on the server: a certificate with an RSA key of 2,048 bits or more, or ECDSA, and ssl_ciphers at its default"),
        FaultKind::Alpn => tls(Cause::AlpnMissing, "the server and pgwhy have no application protocol in common"),
        FaultKind::Declined(b'E') => {
            let evidence = "the answer to pgwhy's SSLRequest is an error";
            Finding::proven(Step::SslRequest, Cause::SslRequestError, evidence)
        }
        FaultKind::Declined(byte) => {
            let byte = char::from(*byte).escape_default();
            let evidence = format!("pgwhy asked {host} for TLS, and the server answered {byte}");
            Finding::proven(Step::SslRequest, Cause::ServerHasNoTls, evidence)
                .on(Leg::Proxy)
                .summary("TLS to the server is required (--server-tls), and the server has none")
                .fix("on the server: ssl=on with a certificate; or use --server-tls mirror or prefer where the network is trusted")
        }
        FaultKind::Injected(count) => {
            let evidence =
                format!("{count} bytes came in clear behind the server's answer to the SSLRequest");
            Finding::proven(Step::SslRequest, Cause::PlaintextInjected, evidence).on(Leg::Server)
        }
        FaultKind::Closed if legs.server.as_ref().is_some_and(|server| server.direct) => {
            let evidence = "pgwhy began TLS with the server without an SSLRequest (sslnegotiation=direct), and the server closed without an answer";
            Finding::likely(Step::TlsHandshake, Cause::DirectTlsUnsupported, evidence)
                .or(&[Cause::TlsCut])
                .on(Leg::Server)
                .fix("remove sslnegotiation=direct from pgwhy's connection string: PostgreSQL knows it from 17 on")
        }
        FaultKind::Closed => tls(Cause::TlsCut, "the server closed in the TLS handshake with pgwhy, without an alert"),
        FaultKind::NotTls(byte) => {
            tls(Cause::TlsCut, format!("the server's answer to the ClientHello begins with {byte:#04x}, which is no TLS"))
        }
        FaultKind::NoCertificate | FaultKind::Required | FaultKind::UserMismatch { .. } => {
            tls(Cause::TlsCut, "the server showed no certificate")
        }
        FaultKind::Other(words) => {
            let evidence = format!("TLS between pgwhy and {host} failed: {words}");
            Finding::new(Step::TlsHandshake, Cause::TlsCut, Confidence::Possible, evidence)
                .or(&[Cause::TlsCipherMismatch, Cause::TlsVersionMismatch])
        }
    }
}

fn tls(cause: Cause, evidence: impl Into<String>) -> Finding {
    Finding::proven(Step::TlsHandshake, cause, evidence)
}

/// The server ended it with an alert.
fn server_alert(seen: Option<&OpenedTls>, code: u8) -> Finding {
    let name = Alert { level: 2, description: code }.name();
    let evidence = format!("the server sent pgwhy alert {code} ({name})");
    let sent = seen.is_some_and(|seen| seen.certificate_sent);
    match code {
        70 => tls(Cause::TlsVersionMismatch, evidence).on(Leg::Server),
        40 | 47 | 71 => tls(Cause::TlsCipherMismatch, evidence).on(Leg::Server),
        116 => tls(Cause::ClientCertMissing, evidence)
            .on(Leg::Proxy)
            .fix("give pgwhy the certificate that the server wants: --server-cert and --server-key"),
        42..=46 | 48 if sent => {
            let finding = Finding::proven(Step::TlsHandshake, Cause::ClientCertRejected, evidence)
                .on(Leg::Proxy)
                .fix("--server-cert must be signed by an authority of the server's ssl_ca_file, and be valid now");
            match code {
                48 => finding.variant("unknown_ca"),
                45 => finding.variant("expired"),
                _ => finding,
            }
        }
        112 => Finding::likely(Step::TlsHandshake, Cause::SniRequired, evidence),
        120 => tls(Cause::AlpnMissing, evidence),
        _ => Finding::possible(Step::TlsHandshake, Cause::TlsCut, evidence),
    }
}

/// Our own verification of the server's chain.
pub(crate) fn untrusted_server(
    seen: Option<&OpenedTls>,
    fault: &TlsFault,
    kind: CertificateFault,
) -> Finding {
    let chain = seen.map(|seen| seen.chain.as_slice()).unwrap_or_default();
    let now = i64::try_from(fault.now_unix).unwrap_or(i64::MAX);
    let told =
        certs::explain(chain, fault.host.as_deref(), &summaries(&fault.roots), now, &kind_of(kind, chain));
    let ours = matches!(told.variant, Some("unknown_ca" | "self_signed") | None);
    let finding = explained(Cause::ServerCertUntrusted, &told);
    finding.on(if ours { Leg::Proxy } else { Leg::Server }).summary(match told.variant {
        Some("expired") => "the server's certificate has expired",
        Some("not_yet_valid") => "the server's certificate is not valid yet, by pgwhy's clock",
        Some("hostname_mismatch") => "the server's certificate does not name the host that pgwhy connects to",
        Some("self_signed") => "the server's certificate is signed by nobody else, and pgwhy was not given it as trusted",
        _ => "pgwhy does not trust the server's certificate (--server-tls verify-ca or verify-full, or --server-ca)",
    })
}

fn summaries(roots: &[Vec<u8>]) -> Vec<RootSummary> {
    roots.iter().filter_map(|root| Certificate::parse(root).ok()).map(|root| RootSummary::of(&root)).collect()
}

fn kind_of(kind: CertificateFault, chain: &[Vec<u8>]) -> certs::Fault {
    let leaf = chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
    match kind {
        CertificateFault::UnknownIssuer | CertificateFault::CaAsEndEntity
            if leaf.as_ref().is_some_and(|leaf| leaf.self_issued) =>
        {
            certs::Fault::SelfSigned
        }
        CertificateFault::UnknownIssuer => certs::Fault::UnknownIssuer,
        CertificateFault::Expired => certs::Fault::Expired,
        CertificateFault::NotYetValid => certs::Fault::NotYetValid,
        CertificateFault::BadName => certs::Fault::BadName,
        CertificateFault::BadSignature => certs::Fault::BadSignature,
        CertificateFault::Revoked => certs::Fault::Revoked,
        CertificateFault::WrongPurpose => certs::Fault::WrongPurpose,
        CertificateFault::CaAsEndEntity => certs::Fault::CaAsEndEntity,
        CertificateFault::Malformed => certs::Fault::Malformed,
        CertificateFault::VersionOne => certs::Fault::VersionOne,
        CertificateFault::Other => certs::Fault::Other("it can't be used".into()),
    }
}

fn explained(cause: Cause, told: &certs::Explanation) -> Finding {
    let mut evidence = told.evidence.iter().cloned();
    let first = evidence.next().unwrap_or_else(|| "the certificate is not accepted".into());
    let mut finding = Finding::proven(Step::TlsHandshake, cause, first);
    finding.evidence.extend(evidence);
    if !told.fix.is_empty() {
        finding.fix.clone_from(&told.fix);
    }
    match told.variant.filter(|variant| cause.variants().contains(variant)) {
        Some(variant) => finding.variant(variant),
        None => finding,
    }
}

/// Towards the client.
fn client(record: &Record, legs: &Legs, fault: &TlsFault) -> Finding {
    match &fault.kind {
        FaultKind::Alert(code) => client_alert(legs, fault, *code),
        FaultKind::Certificate(kind) => {
            let chain = legs.client.as_ref().map(|seen| seen.chain.as_slice()).unwrap_or_default();
            let now = i64::try_from(fault.now_unix).unwrap_or(i64::MAX);
            let told = certs::explain_client(chain, &summaries(&fault.roots), now, &kind_of(*kind, chain));
            explained(Cause::ClientCertRejected, &told)
        }
        FaultKind::NoCertificate => tls(
            Cause::ClientCertMissing,
            "pgwhy asked for a client certificate (--client-tls verify-ca or verify-full), and the client sent none",
        ),
        FaultKind::Version => tls(Cause::TlsVersionMismatch, offered(record)),
        FaultKind::Cipher => {
            tls(Cause::TlsCipherMismatch, "the client offers no cipher suite, group or signature that pgwhy has")
        }
        FaultKind::Alpn => tls(
            Cause::AlpnMissing,
            "the client began TLS without SSLRequest, and its ClientHello does not name the protocol postgresql",
        )
        .on(Leg::Client),
        FaultKind::Declined(byte) => {
            let byte = char::from(*byte).escape_default();
            let evidence = format!("the client began TLS at once, and the server answered pgwhy's SSLRequest with {byte}");
            Finding::proven(Step::SslRequest, Cause::ServerHasNoTls, evidence)
        }
        FaultKind::Required => {
            let evidence = "the client's startup packet came in clear, and --client-tls asks for TLS";
            Finding::proven(Step::SslRequest, Cause::TlsRequiredByProxy, evidence)
        }
        FaultKind::UserMismatch { common_name } => {
            let name = common_name.as_deref().map_or("no common name".into(), |name| format!("the common name {name:?}"));
            let user = text(record.user().unwrap_or_default());
            let evidence = format!("the client's certificate has {name}, and the startup packet the user {user:?}");
            Finding::proven(Step::AuthRequest, Cause::ClientCertRejected, evidence)
                .variant("user_mismatch")
                .fix("use the certificate made for this user, or --client-tls verify-ca")
        }
        FaultKind::NotTls(_) | FaultKind::Injected(_) => {
            let evidence = "what the client sent behind the S is no TLS";
            Finding::proven(Step::SslRequest, Cause::PlaintextInjected, evidence)
        }
        FaultKind::Closed => distrust(legs, "the client closed in the TLS handshake, after pgwhy's certificate came"),
        FaultKind::Other(words) => {
            let evidence = format!("TLS between the client and pgwhy failed: {words}");
            Finding::possible(Step::TlsHandshake, Cause::TlsCut, evidence).on(Leg::Client)
        }
    }
}

fn offered(record: &Record) -> String {
    let hello = record.tls.as_ref().and_then(|tls| tls.client_hello.as_ref());
    let versions: Vec<String> = hello
        .map(|(hello, _)| hello.versions.iter().map(|word| version_name(*word)).collect())
        .unwrap_or_default();
    format!("the client offers {}, and pgwhy TLS 1.2 and 1.3", versions.join(", "))
}

/// The client said what it does not like.
fn client_alert(legs: &Legs, fault: &TlsFault, code: u8) -> Finding {
    let name = Alert { level: 2, description: code }.name();
    let evidence = format!("the client sent pgwhy alert {code} ({name})");
    match code {
        45 => expired(legs, evidence),
        70 => tls(Cause::TlsVersionMismatch, evidence),
        40 | 47 | 71 => tls(Cause::TlsCipherMismatch, evidence),
        120 => tls(Cause::AlpnMissing, evidence),
        42..=46 | 48 => {
            let finding = Finding::proven(Step::TlsHandshake, Cause::ServerCertUntrusted, evidence);
            let finding = refused_ours(legs, finding);
            if finding.variant.is_none() && code == 48 { finding.variant("unknown_ca") } else { finding }
        }
        // Given up by the client's program, or closed in good order.
        0 | 90 => distrust(legs, &evidence),
        _ => Finding::possible(Step::TlsHandshake, Cause::TlsCut, evidence)
            .on(Leg::Client)
            .and_maybe(fault.host.as_ref().map(|host| format!("the server's name is {host}"))),
    }
}

/// The client's clock says so; whose certificate it is does not matter then.
fn expired(legs: &Legs, evidence: String) -> Finding {
    let finding =
        Finding::proven(Step::TlsHandshake, Cause::ServerCertUntrusted, evidence).variant("expired");
    if legs.client.as_ref().is_some_and(|client| client.has_servers_certificate) {
        return finding;
    }
    finding
        .on(Leg::Proxy)
        .and("the certificate is pgwhy's (--tls-cert), not the server's")
        .summary("the client says that the certificate which pgwhy shows it has expired")
        .fix("renew the file of --tls-cert (pgwhy shows it without a restart); if its dates are right, set the client's clock")
}

/// A certificate of ours was refused: if it is not the server's, that is our doing.
fn refused_ours(legs: &Legs, finding: Finding) -> Finding {
    if legs.client.as_ref().is_some_and(|client| client.has_servers_certificate) {
        return finding;
    }
    let finding = finding
        .variant("intercepted")
        .on(Leg::Proxy)
        .and("the certificate is pgwhy's, not the server's: TLS ends at pgwhy (--client-tls)")
        .summary("the client does not trust the certificate that pgwhy shows in the server's place")
        .fix("use --client-tls passthrough; or let the client trust it: pgwhy ca makes an authority, --tls-cert and --tls-key show another certificate");
    match legs.passed_through {
        Some(PassedThrough::ClientNeeds) => {
            finding.and("clients of this address are passed through unopened from now on")
        }
        _ => finding,
    }
}

fn distrust(legs: &Legs, evidence: &str) -> Finding {
    refused_ours(legs, Finding::likely(Step::TlsHandshake, Cause::ServerCertUntrusted, evidence))
        .or(&[Cause::TlsCut, Cause::ClientLeft])
}

/// The login deadline passed, or the client left, while a handshake of ours waited for one of the ends.
pub(super) fn stalled(record: &Record) -> Option<Finding> {
    let legs = record.legs.as_deref()?;
    let (side, how, at) = record.first_close()?;
    let seconds = at.as_secs_f64();
    match (side, how) {
        (_, Close::Deadline) => {}
        (Side::Client, Close::Eof | Close::Reset) => return server_awaited(legs, seconds),
        _ => return None,
    }
    match legs.awaits {
        Some(Awaits::Client) => Some(encryption::no_startup(at)),
        Some(Awaits::ServerAnswer) => {
            let evidence = format!("pgwhy asked the server for TLS, and nothing came back in {seconds:.0} s");
            Some(Finding::proven(Step::SslRequest, Cause::NoAnswer, evidence))
        }
        Some(Awaits::ServerTls) => {
            let evidence = format!(
                "the server was silent in the TLS handshake with pgwhy until our login deadline ({seconds:.0} s)"
            );
            Some(
                tls(Cause::TlsCut, evidence)
                    .on(Leg::Server)
                    .summary("the server began TLS with pgwhy and went silent"),
            )
        }
        None => {
            let opened = legs.client.as_ref().is_some_and(|client| client.version.is_some());
            (opened && record.startup.is_none()).then(|| encryption::no_startup(at))
        }
    }
}

/// The client has waited for the server in vain, and nobody knows how much longer it would have taken.
fn server_awaited(legs: &Legs, seconds: f64) -> Option<Finding> {
    let finding = match legs.awaits? {
        Awaits::Client => return None,
        Awaits::ServerAnswer => {
            let evidence = format!(
                "pgwhy asked the server for TLS, and nothing had come back when the client left ({seconds:.0} s)"
            );
            Finding::likely(Step::SslRequest, Cause::NoAnswer, evidence)
        }
        Awaits::ServerTls => {
            let evidence = format!(
                "the server was silent in the TLS handshake with pgwhy until the client left ({seconds:.0} s)"
            );
            Finding::likely(Step::TlsHandshake, Cause::TlsCut, evidence).on(Leg::Server)
        }
    };
    Some(finding.summary("the server went silent, and the client gave up"))
}

/// TLS came about, and the client left before its startup packet: drivers that look at the
/// certificate's names afterwards leave like that (libpq's verify-full, Node).
fn silent_refusal(record: &Record, legs: &Legs) -> Option<Finding> {
    let opened = legs.client.as_ref().is_some_and(|client| client.version.is_some());
    if !opened || record.startup.is_some() || record.startup_fault.is_some() {
        return None;
    }
    let left = matches!(record.first_close(), Some((Side::Client, Close::Eof | Close::Reset, _)));
    left.then(|| {
        distrust(legs, "the TLS handshake was complete, and the client closed before its startup packet")
    })
}

/// The server's line asks for nothing and refuses: `cert` where the certificate names another role, `ident` and
/// `peer` where the system does (auth.c, auth_failed). The words alone tell them apart.
fn another_names_certificate(record: &Record, legs: &Legs) -> Option<Finding> {
    let server = legs.server.as_ref().filter(|server| server.certificate_sent)?;
    let error = record.error.as_ref().filter(|error| error.sqlstate() == "28000")?;
    if error.routine() != "auth_failed" || !record.requests.is_empty() {
        return None;
    }
    let said = text(error.get(b'M').unwrap_or_default());
    let user = text(record.user().unwrap_or_default());
    let evidence = format!("the server said 28000 in auth_failed before any authentication request: {said}");
    let finding = if said.starts_with("certificate authentication failed") {
        Finding::proven(Step::AuthRequest, Cause::ClientCertRejected, evidence)
    } else if said.starts_with("Ident authentication") || said.starts_with("Peer authentication") {
        return None;
    } else {
        Finding::likely(Step::AuthRequest, Cause::ClientCertRejected, evidence).or(&[Cause::IdentFailed])
    };
    let finding = finding.variant("user_mismatch").on(Leg::Proxy);
    let finding = finding
        .summary(format!("the certificate that pgwhy shows the server does not name the role {user:?}"));
    let shown = server.shown.as_deref().and_then(|leaf| Certificate::parse(leaf).ok());
    let finding = match shown.and_then(|leaf| leaf.subject.common_name) {
        Some(name) => {
            finding.and(format!("the common name of --server-cert is {name:?}, and the role {user:?}"))
        }
        None => finding,
    };
    Some(finding.fix(NAME_THE_ROLE))
}

/// In TLS 1.3 the server judges a client's certificate after the handshake is over for the client; a reset can
/// overtake its alert.
fn certificate_without_answer(record: &Record, legs: &Legs) -> Option<Finding> {
    let server = legs.server.as_ref()?;
    let judged_late = server.certificate_sent && server.version == Some(TLS_1_3);
    let unanswered = record.startup.is_some() && record.requests.is_empty() && record.error.is_none();
    let unanswered = unanswered && record.session.authenticated.is_none();
    let left = matches!(record.first_close(), Some((Side::Server, Close::Eof | Close::Reset, _)));
    (judged_late && unanswered && left).then(|| {
        let evidence = "pgwhy showed the server a certificate (--server-cert), and the server closed without an answer to the startup packet: in TLS 1.3 that is where it refuses one";
        Finding::likely(Step::TlsHandshake, Cause::ClientCertRejected, evidence)
            .or(&[Cause::ClosedWithoutAnswer, Cause::TlsCut])
            .on(Leg::Proxy)
            .fix("--server-cert must be signed by an authority of the server's ssl_ca_file, and be valid now; the server's log has the reason")
    })
}

/// What is worth knowing about a login that worked.
pub(super) fn warnings(record: &Record) -> Vec<Warning> {
    let Some(legs) = record.legs.as_deref() else { return Vec::new() };
    let mut warnings = Vec::new();
    let mut warn = |id: &'static str, summary: String| warnings.push(Warning { id: id.into(), summary });
    if let Some(back) = &legs.fell_back {
        let (from, to) = if back.from_tls { ("with TLS", "in clear") } else { ("in clear", "with TLS") };
        warn(
            "server_tls_fallback",
            format!("the server was reached {to} after it failed {from}: {}", back.why),
        );
    }
    let server_clear = legs.client.is_some() && legs.server.is_none();
    if server_clear {
        warn(
            "server_leg_plaintext",
            "the client uses TLS, and from pgwhy to the server the login went in clear".into(),
        );
    }
    let binds = record.scram.as_ref().and_then(|scram| scram.client_first.as_ref());
    let lost =
        legs.bridged.is_none() && legs.client.as_ref().is_some_and(|client| !client.has_servers_certificate);
    if lost && binds.is_some_and(|first| first.flag == b'n') && record.offers(b"SCRAM-SHA-256-PLUS") {
        warn(
            "channel_binding_lost",
            "TLS ends at pgwhy: a client that binds to the channel would be refused (give the password, or the server's own certificate and key)".into(),
        );
    }
    if legs.plus_removed {
        warn(
            "channel_binding_lost",
            "the client's leg has no TLS, so SCRAM-SHA-256-PLUS was taken out of the server's offer".into(),
        );
    }
    warnings
}

/// A login was passed through unopened since the server refuses the expected password, and ended where a refusal
/// ends it: most likely the client sent that password too.
pub(super) fn refused_unseen(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let why = record.legs.as_deref()?.passed_through?;
    let (_, how, _) = context.opaque?.closed?;
    let ended = matches!(how, Close::Eof | Close::Reset);
    if why != PassedThrough::PasswordRefused || !ended || !ends_as_refused(record) {
        return None;
    }
    let evidence = "the server refused the expected password when pgwhy tried it, which is why this login was not opened";
    Some(
        Finding::likely(Step::ScramClientFinal, Cause::PasswordDiffersOnServer, evidence)
            .or(&[Cause::PasswordMismatch, Cause::RoleMissing])
            .and("the client's encrypted login ended after an answer that is as short as an error message")
            .summary("the server refuses the expected password, and it seems this login too, whose inside was not seen")
            .fix("set the password at the server (ALTER ROLE … PASSWORD), or give client and pgwhy the one that is in force there; --client-tls open shows what the client sends"),
    )
}

/// After its last message, goodbyes aside, the client got something as short as an error message: who is let in gets
/// the server's parameters.
fn ends_as_refused(record: &Record) -> bool {
    let records = record.tls.as_ref().map(|tls| tls.encrypted.as_slice()).unwrap_or_default();
    let last = records.iter().rposition(|(from, size, _)| *from == Side::Client && *size > GOODBYE);
    let answer = records.iter().skip(last.map_or(records.len(), |last| last + 1));
    let answer: usize = answer
        .filter(|(from, size, _)| *from == Side::Server && *size > GOODBYE)
        .map(|(_, size, _)| size)
        .sum();
    (1..=SHORT_ANSWER).contains(&answer)
}

/// What is worth knowing of a connection that was passed through although it might have been opened.
pub(super) fn note(record: &Record) -> Option<String> {
    let why = match record.legs.as_deref()?.passed_through? {
        PassedThrough::CertificateRequested => {
            "the server asks for a client certificate, and pgwhy has none to show (--server-cert)"
        }
        PassedThrough::OtherCertificate => {
            "--tls-cert is not the server's certificate, and no password is known"
        }
        PassedThrough::ServerFailed => "TLS between pgwhy and the server did not come about",
        PassedThrough::PasswordRefused => {
            "the server refused the expected password when pgwhy tried it, and the client may have another"
        }
        PassedThrough::ClientNeeds => "an earlier login of this client failed on pgwhy's certificate",
    };
    Some(format!("passed through unopened: {why}"))
}

/// pgwhy held both ends of the exchange and ended it for a reason that PostgreSQL does not have. What it refuses as
/// PostgreSQL would is told as PostgreSQL's refusals are.
pub(super) fn own_refusal(error: &ErrorSeen) -> Option<Finding> {
    if !error.is_ours() {
        return None;
    }
    let proven = |step, cause| Finding::proven(step, cause, said(error));
    Some(match error.routine() {
        SECRET => proven(Step::ScramClientFinal, Cause::PasswordDiffersOnServer)
            .on(Leg::Proxy)
            .and("the SCRAM secret that pgwhy was given has another salt or iteration count than the server's")
            .summary("the SCRAM secret that pgwhy was given is not the one that the server stores")
            .fix("give pgwhy what the server stores now (SELECT rolpassword FROM pg_authid), or the password itself"),
        ITERATIONS => proven(Step::ScramServerFirst, Cause::ScramIterationsRefused)
            .on(Leg::Proxy)
            .summary("the server asks for more SCRAM iterations than pgwhy does for a login")
            .fix("lower scram_iterations at the server and set the password again; or use --client-tls passthrough"),
        NONCE => proven(Step::ScramServerFirst, Cause::ScramNonceMismatch).on(Leg::Server),
        SIGNATURE => proven(Step::ScramServerFinal, Cause::ServerSignatureInvalid),
        "bridge" => Finding::likely(Step::AuthRequest, Cause::ServerError, said(error))
            .summary("the server's part of the SCRAM exchange with pgwhy can't be used")
            .fix("use --client-tls passthrough, where the client and the server talk to each other"),
        _ => return None,
    })
}

/// The client's proof is not of the expected password, and pgwhy gave the server none in its place: whether the
/// server would have taken the client's own, nobody knows.
fn unjudged(mut finding: Finding, server_accepts: Option<bool>) -> Finding {
    finding.confidence = Confidence::Likely;
    let evidence = match server_accepts {
        Some(_) => "pgwhy logged in to the server with the expected password, and the server refused it",
        None => {
            "the server has not judged the client's password, and whether the expected one works is not known"
        }
    };
    if server_accepts.is_some() {
        finding.summary = "the server refuses the expected password, with which pgwhy logs in for a client that binds to its TLS; the client sent another one, which the server never saw".into();
    }
    finding = finding.on(Leg::Proxy).and(evidence);
    finding.fix = vec!["give pgwhy the password that the server has, or none; or use --client-tls auto or passthrough, so that the server judges the client's own".into()];
    finding
}

/// What our own login on the server's leg adds to a refusal of the client's password.
pub(super) fn bridged(record: &Record, finding: Finding) -> Finding {
    let Some(bridged) = record.legs.as_deref().and_then(|legs| legs.bridged) else { return finding };
    match bridged.server_accepts {
        Some(true) => finding
            .and("pgwhy logged in to the server with the expected password, and the server accepted it"),
        accepts if bridged.client_fits == Some(false) => unjudged(finding, accepts),
        _ => finding,
    }
}

/// The server's rules want TLS or refuse it, and it was pgwhy that decided about it, not the client.
pub(super) fn between(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let encrypted = record.is_client_encrypted();
    let (summary, fix) = match finding.cause {
        Cause::HbaForbidsTls if !encrypted => (
            "only lines without TLS match, and pgwhy uses TLS towards the server (--server-tls)",
            "use --server-tls mirror or disable, or turn hostnossl into host",
        ),
        Cause::HbaRequiresTls if encrypted => (
            "the server accepts this login only over TLS, and pgwhy reaches it without (--server-tls)",
            "use --server-tls mirror or require",
        ),
        Cause::HbaRequiresTls if context.ssl_answered_by_us && record.ssl_request.is_some() => (
            "the server accepts this login only over TLS, and pgwhy declined the client's (--client-tls disable)",
            "use --client-tls passthrough (or auto), or --server-tls require",
        ),
        _ => return finding,
    };
    Finding { variant: None, ..finding }.on(Leg::Proxy).summary(summary).fix(fix)
}

/// TLS 1.3 on the wire.
const TLS_1_3: u16 = 0x0304;

/// A close_notify has 19 bytes in TLS 1.3; a Terminate has 22, and is no goodbye here: who was
/// refused says none.
const GOODBYE: usize = 19;

/// An error message has 100 to 200 bytes; the parameters of a session more than 400.
const SHORT_ANSWER: usize = 300;
