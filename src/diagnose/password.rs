//! The client answered and the server refused: passwords, tokens, SASL messages.

use crate::handshake::driver::recognise;
use crate::handshake::ladder::text;
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Record, Side, Step};
use crate::password::{Fit, Variant, token as cloud_token};

use super::admin::NAME_BYTES;
use super::context::Context;
use super::departure;
use super::middle;
use super::postgres::{contains, without_name};
use super::refusal::{other, said};
use super::{Cause, Confidence, Finding, Leg};

/// Causes that give the very same bytes as a wrong password (auth_failed, auth.c).
const LOOK_ALIKES: [Cause; 4] =
    [Cause::RoleMissing, Cause::RoleWithoutPassword, Cause::PasswordExpired, Cause::VerifierMethodConflict];

/// The server refused a password, an MD5 response or a SCRAM proof.
pub(super) fn refusal(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    let step = record.step.unwrap_or(Step::Password);
    let code = error.sqlstate();
    if matches!(record.stray, Some((TERMINATE, _))) && code == "08P01" {
        return departure::terminated(record, context);
    }
    if !error.is_from_postgres()
        && middle::is_about_passwords(error)
        && let Some(finding) = judged(record, error, context)
    {
        // A pooler's refusal has its own SQLSTATE; what the client sent decides all the same.
        return finding;
    }
    if step == Step::ScramClientFinal && code != "28P01" {
        return sasl(record, error, context);
    }
    if step == Step::Password && code == "28000" {
        return external(record, error, context);
    }
    if step == Step::Password && record.cleartext.as_ref().is_some_and(|sent| sent.expose().is_empty()) {
        let evidence = "the password message holds the empty string";
        return Finding::proven(step, Cause::PasswordEmpty, evidence).and(said(error));
    }
    if !code.starts_with("28") && error.is_from_postgres() {
        return other(step, error);
    }
    judged(record, error, context).unwrap_or_else(|| rejected(record, error, context))
}

/// Under MD5 the client hashes the whole name, and the server what it keeps of it: no password can fit
/// (`ProcessStartupPacket` cuts names, NAMEDATALEN).
pub(super) fn name_too_long(record: &Record, finding: Finding) -> Finding {
    let length = record.user().map_or(0, <[u8]>::len);
    let refused = matches!(
        finding.cause,
        Cause::PasswordRejected | Cause::PasswordMismatch | Cause::PasswordDiffersOnServer
    );
    if finding.step != Step::Md5 || !refused || length <= NAME_BYTES {
        return finding;
    }
    let mut long = Finding::likely(
        Step::Md5,
        Cause::PasswordRejected,
        format!(
            "the user's name has {length} bytes, of which the server keeps {NAME_BYTES}: the client's MD5 response is made with all of them, and the stored hash with what was kept"
        ),
    );
    long.evidence.extend(finding.evidence);
    long.or(&[finding.cause, Cause::RoleMissing])
        .summary("the user's name is too long for MD5: no password can fit")
        .fix("use a role whose name has at most 63 bytes, or SCRAM (password_encryption = scram-sha-256, and set the password again)")
}

/// Whether a variant is the password changed, or something else in its place.
fn is_mutation(variant: Variant) -> bool {
    !variant.is_literal()
        && !matches!(variant.id(), "user_name" | "other_variable" | "previous_password" | "hashed_value")
}

/// Whether pgwhy shows the server a certificate of its own, which `clientcert=verify-full` looks at behind the password.
pub(super) fn shows_certificate(record: &Record) -> bool {
    let server = record.legs.as_ref().and_then(|legs| legs.server.as_ref());
    server.is_some_and(|server| server.certificate_sent)
}

/// What testing candidates against the client's answer showed.
fn judged(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Option<Finding> {
    let step = record.step.unwrap_or(Step::Password);
    let judgement = context.judgement.filter(|judgement| judgement.tells())?;
    let source = context.expected.map_or("the connection string", |expected| expected.source);
    let finding = match &judgement.fit {
        Fit::Empty => Finding::proven(step, Cause::PasswordEmpty, &judgement.explanation),
        Fit::Expected => {
            let unexpanded =
                judgement.alternatives.iter().any(|variant| variant.id() == "variable_unexpanded");
            let differs = Cause::PasswordDiffersOnServer;
            // `clientcert=verify-full` looks at the certificate behind the password, and refuses in its name.
            let finding = match (shows_certificate(record), unexpanded) {
                (true, _) => {
                    Finding::likely(step, differs, &judgement.explanation).or(&[Cause::ClientCertRejected])
                }
                (false, true) => Finding::likely(step, differs, &judgement.explanation)
                    .or(&[Cause::PasswordMismatch])
                    .and("the password holds the name of another variable of the same file: its value may have been meant"),
                (false, false) => Finding::proven(step, differs, &judgement.explanation),
            };
            finding
                .summary(format!("the client sent exactly the password of {source}; the server has another one for this role, or none that it takes (no password, an expired one, no such role)"))
                .ask(&["--admin", "--server-log"])
        }
        Fit::Variant(variant, detail) => {
            // In clear, a server that stores a SCRAM secret prepares either form to the same, and leaves U+FEFF out
            // (`scram_verify_plain_password`).
            let alike = record.cleartext.is_some() && ["unicode_form", "bom"].contains(&variant.id());
            let confidence = match judgement.against_expected && !alike {
                true => Confidence::Proven,
                false => Confidence::Likely,
            };
            let finding = Finding::new(step, Cause::PasswordMismatch, confidence, &judgement.explanation);
            let finding = finding.variant(variant.id());
            let finding = if alike {
                finding.or(&[Cause::PasswordDiffersOnServer]).ask(&["--admin", "--server-log"])
            } else {
                finding
            };
            let finding = finding.summary(match judgement.against_expected {
                true if is_mutation(*variant) => {
                    format!("the client sent the password of {source}: {detail}")
                }
                true => format!("instead of the password of {source} the client sent {detail}"),
                false => format!("the client sent {detail} as its password"),
            });
            match super::fixes::of_password(variant.id()) {
                Some(fix) => finding.fix(fix),
                None => finding,
            }
        }
        Fit::Nothing => {
            let variants = match judgement.untested {
                0 => "nor any known variant of it",
                _ => "nor any variant of it that there was time to test",
            };
            Finding::proven(step, Cause::PasswordMismatch, &judgement.explanation)
                .variant("unknown")
                .summary(format!("the client did not send the password of {source}, {variants}"))
        }
        Fit::NotTested(_) => return None,
    };
    let others: Vec<&str> = judgement.alternatives.iter().map(|variant| variant.id()).collect();
    let also =
        (!others.is_empty()).then(|| format!("the same bytes would also come of: {}", others.join(", ")));
    Some(finding.and_maybe(also).and(said(error)))
}

/// The honest answer without context.
fn rejected(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    let step = record.step.unwrap_or(Step::Password);
    let finding = Finding::possible(step, Cause::PasswordRejected, said(error))
        .or(&[Cause::PasswordMismatch, Cause::PasswordDiffersOnServer])
        .or(&LOOK_ALIKES);
    // Of SCRAM, the server's signature shows that the proof was accepted before.
    let finding = match shows_certificate(record) && step != Step::ScramClientFinal {
        true => finding.or(&[Cause::ClientCertRejected]),
        false => finding,
    };
    match context.expected {
        Some(expected) if !expected.for_this_user => {
            let owner = expected.user.unwrap_or_default();
            finding
                .and(format!("the password of {} is for user {owner}, so it was not tested", expected.source))
                .ask(&["--admin", "--server-log"])
        }
        _ => finding.ask(&[
            "the expected password (in --upstream, PGPASSWORD or --password-file)",
            "--admin",
            "--server-log",
        ]),
    }
}

/// 28000 behind a cleartext password: the server asked somebody else.
fn external(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    let message = error.get(b'M').unwrap_or_default();
    let message = without_name(message, record.user().unwrap_or_default());
    // The methods' names are not translated.
    const METHODS: [(&[u8], &str); 4] =
        [(b"LDAP", "ldap"), (b"PAM", "pam"), (b"RADIUS", "radius"), (b"BSD", "bsd")];
    let method = METHODS.iter().find(|(name, _)| contains(&message, name)).map(|(_, variant)| *variant);
    let finding = Finding::proven(Step::Password, Cause::ExternalAuthFailed, said(error));
    match method {
        Some("pam") if context.server_host.is_some_and(|host| host.ends_with(".rds.amazonaws.com")) => {
            Finding::likely(Step::Password, Cause::CloudTokenInvalid, said(error))
                .variant("not_a_token")
                .and("PAM on Amazon RDS is IAM: it wants a token, and what was sent is none")
        }
        Some(method) => finding.variant(method),
        None => Finding::likely(Step::Password, Cause::ExternalAuthFailed, said(error))
            .or(&[Cause::PasswordRejected]),
    }
}

/// A cloud access token whose own claims show that it can't be valid.
pub(super) fn token(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let sent = record.cleartext.as_ref()?;
    let error = record.error.as_ref().filter(|_| record.step == Some(Step::Password))?;
    let claims = cloud_token::read(sent.expose())?;
    let user = text(record.user().unwrap_or_default());
    let address = context.dials.last().and_then(|dial| dial.address.as_deref());
    let port = address.and_then(|address| address.parse::<std::net::SocketAddr>().ok()).map(|at| at.port());
    let verdict = cloud_token::verdict(&claims, context.now_unix, &user, context.server_host, port)?;
    let confidence = if verdict.certain { Confidence::Proven } else { Confidence::Likely };
    let finding = Finding::new(Step::Password, Cause::CloudTokenInvalid, confidence, verdict.evidence);
    Some(finding.variant(verdict.variant).and(said(error)))
}

/// The server accepted a proof made from the expected password and could not show that it knows that
/// password too.
pub(super) fn impostor(record: &Record, context: &Context<'_>) -> Option<Finding> {
    if context.server_signature_fits? {
        return None;
    }
    let source = context.expected.map_or("the connection string", |expected| expected.source);
    let evidence = format!(
        "the client's proof fits the password of {source}, the server accepted it, and the server's signature does not fit"
    );
    let left = record.session.ready.is_some().then(|| "a client that checks it leaves now".to_owned());
    Some(Finding::proven(Step::ScramServerFinal, Cause::ServerSignatureInvalid, evidence).and_maybe(left))
}

/// The server refused a SASL message, not a password.
pub(super) fn sasl(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    let step = record.step.unwrap_or(Step::SaslMechanism);
    let scram = record.scram.as_ref();
    let first = scram.and_then(|scram| scram.client_first.as_ref());
    let flag = first.map(|first| first.flag);
    match (error.sqlstate(), flag) {
        ("28000", Some(b'y')) => {
            let evidence =
                "the client sent the channel-binding flag y (\"I could, you can't\") to a server that can";
            Finding::proven(step, Cause::ChannelBindingDowngrade, evidence).and(said(error))
        }
        ("28000", Some(b'p')) => {
            let evidence = "the client bound its proof to a certificate, and the server has another";
            let finding = Finding::proven(step, Cause::ChannelBindingMismatch, evidence).and(said(error));
            finding.variant("terminated_in_between")
        }
        ("08P01", _) if matches!(record.stray, Some((TERMINATE, _))) => {
            departure::terminated(record, context)
        }
        ("08P01" | "0A000", _) => malformed(record, step, error),
        // The proof was accepted; what is looked at then is the certificate's name (`ClientAuthentication`).
        ("28P01", _) if step == Step::ScramServerFinal && error.routine() == "auth_failed" => {
            let finding = Finding::proven(step, Cause::ClientCertRejected, said(error))
                .variant("user_mismatch")
                .and("the server accepted the client's proof before");
            names_another(record, finding)
        }
        ("28P01", _) => judged(record, error, context).unwrap_or_else(|| rejected(record, error, context)),
        ("28000", _) if step == Step::ScramClientFinal => rejected(record, error, context),
        _ => other(step, error),
    }
}

/// `clientcert=verify-full`: the password was right, and the certificate is another role's.
pub(super) fn names_another(record: &Record, finding: Finding) -> Finding {
    if shows_certificate(record) {
        return finding
            .on(Leg::Proxy)
            .summary(
                "clientcert=verify-full: the certificate that pgwhy shows the server does not name this user",
            )
            .fix(NAME_THE_ROLE);
    }
    finding.summary("clientcert=verify-full: the client's certificate does not name this user")
}

/// What mends a certificate that is another role's.
pub(super) const NAME_THE_ROLE: &str = "give pgwhy a certificate whose common name is the role's (--server-cert), or map the name in pg_ident.conf";

/// The tag of Terminate: a client that leaves says so, and the server complains that it is no answer.
const TERMINATE: u8 = b'X';

fn malformed(record: &Record, step: Step, error: &ErrorSeen) -> Finding {
    let scram = record.scram.as_ref();
    if scram.and_then(|scram| scram.client_final.as_ref()).is_some_and(|last| !last.keeps_nonce) {
        let evidence = "the nonce in client-final-message is not the one in server-first-message";
        return Finding::proven(step, Cause::ScramNonceMismatch, evidence).and(said(error)).on(Leg::Client);
    }
    let finding = Finding::proven(step, Cause::SaslResponseInvalid, said(error));
    let fault = scram.and_then(|scram| scram.fault).map(|(_, fault)| fault).or(record.sasl_fault);
    let finding = finding.and_maybe(fault.map(|fault| format!("{}: {}", fault.field, fault.fault)));
    let stray = record.stray.map(|(tag, _)| {
        format!("instead of its SASL message the client sent '{}'", char::from(tag).escape_default())
    });
    finding.and_maybe(stray)
}

/// OAUTHBEARER was refused.
pub(super) fn oauth(record: &Record, error: &ErrorSeen) -> Finding {
    let oauth = record.oauth.as_ref();
    if !matches!(error.sqlstate(), "28000" | "28P01") {
        let message = error.text(b'M').unwrap_or_default();
        return Finding::likely(Step::Oauth, Cause::OauthFailed, said(error))
            .on(Leg::Server)
            .or(&[Cause::ServerError])
            .and("this SQLSTATE is no verdict on a token: it was not judged")
            .summary(format!("the server could not check the token: {message}"))
            .fix("correct the server's oauth_validator_libraries and the lines `oauth` of pg_hba.conf; its log may say more");
    }
    let discovery = oauth.and_then(|oauth| oauth.discovery.as_deref()).map(|document| {
        let document: String = text(document).chars().take(300).collect();
        format!("the server's answer: {document}")
    });
    if oauth.and_then(|oauth| oauth.token_length) == Some(0) {
        return Finding::likely(Step::Oauth, Cause::OauthFailed, said(error))
            .and_maybe(discovery)
            .summary("the client sent no token: libpq's first connection only asks where to get one, and the next should follow");
    }
    // `oauth_exchange` sends the document before it refuses a token; a refusal without it has another
    // reason (a malformed message, the end of a timeout).
    match discovery {
        Some(document) => Finding::proven(Step::Oauth, Cause::OauthFailed, said(error)).and(document),
        None => Finding::likely(Step::Oauth, Cause::OauthFailed, said(error)),
    }
}

/// GSSAPI or SSPI was refused.
pub(super) fn gss(record: &Record, error: &ErrorSeen) -> Finding {
    let (client, server) = record.gss_tokens;
    if client == 0 && matches!(record.first_close(), Some((Side::Client, ..))) {
        let evidence = "the client closed on the request for GSSAPI without sending a token";
        let finding = Finding::likely(Step::Gss, Cause::GssFailed, evidence).on(Leg::Client);
        let finding = finding.or(&[Cause::ClientLeft]).and(said(error));
        return match recognise(record) {
            // libpq knows GSSAPI in most builds; then it was the ticket that was missing.
            Some(driver) if driver.name == "libpq" => {
                finding.and("libpq leaves like this when it has no ticket")
            }
            _ => finding.variant("unsupported_by_client"),
        };
    }
    Finding::proven(Step::Gss, Cause::GssFailed, said(error))
        .variant("rejected")
        .and(format!("after {client} tokens of the client and {server} of the server"))
}
