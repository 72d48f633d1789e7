//! An ErrorResponse before any authentication request: capacity, protocol version, pg_hba.conf.

use std::net::IpAddr;

use crate::handshake::ladder::{text, version};
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Record, Step};
use crate::serverlog::{self, State};

use super::context::Context;
use super::postgres::{HbaRefusal, Replication, contains, hba_refusal, replication, without_name};
use super::{Cause, Confidence, Finding, Leg};

/// The server refused before it asked for anything: no password was looked at.
pub(super) fn before_request(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    let code = error.sqlstate();
    if record.startup.as_ref().is_some_and(|startup| startup.version >> 16 != 3) {
        return version_refused(record, error);
    }
    match (code, error.routine()) {
        ("57P03", _) => not_accepting(error),
        ("53300", _) => too_many(record, error),
        ("0A000", _) => version_refused(record, error),
        ("28000", "ClientAuthentication") => hba(record, error, context),
        ("28000", "auth_failed") => ident(record, error),
        ("28000", _) if record.startup.is_some() && record.user().is_none() => {
            let evidence = "the startup packet has no user, and the server refused with 28000";
            Finding::proven(Step::AuthRequest, Cause::UserMissingInStartup, evidence)
        }
        ("22023", _)
            if record.startup.as_ref().is_some_and(|startup| startup.get("replication").is_some()) =>
        {
            Finding::proven(Step::AuthRequest, Cause::StartupParameterRefused, said(error))
                .variant("invalid_value")
                .summary("the value of the startup parameter \"replication\" is not valid")
        }
        ("08P01", _) if record.startup.is_some() => {
            Finding::proven(Step::Startup, Cause::StartupMalformed, said(error))
        }
        _ => other(Step::AuthRequest, error),
    }
}

/// What the server said, as evidence.
pub(super) fn said(error: &ErrorSeen) -> String {
    let message = error.text(b'M').unwrap_or_default();
    match error.sqlstate() {
        code if error.is_ours() => {
            format!("pgwhy, which holds both ends of the exchange, refused with {code}: {message}")
        }
        "" => format!("the server said: {message}"),
        code => match error.routine() {
            "" => format!("the server said {code}: {message}"),
            routine => format!("the server said {code} in {routine}: {message}"),
        },
    }
}

/// An error that none of the causes covers.
pub(super) fn other(step: Step, error: &ErrorSeen) -> Finding {
    let message = error.text(b'M').unwrap_or_default();
    Finding::likely(step, Cause::ServerError, said(error)).summary(format!("the server refused: {message}"))
}

fn not_accepting(error: &ErrorSeen) -> Finding {
    let state = error.text(b'M').and_then(|message| serverlog::state(&message));
    let variant = state.map(|state| match state {
        State::StartingUp => "starting_up",
        State::ShuttingDown => "shutting_down",
        State::InRecovery | State::NotYetAccepting => "recovery",
        State::NotAccepting => "standby",
    });
    let finding = Finding::proven(Step::AuthRequest, Cause::ServerNotAccepting, said(error));
    match variant {
        Some(variant) => finding.variant(variant),
        None => finding,
    }
}

fn too_many(record: &Record, error: &ErrorSeen) -> Finding {
    let finding = Finding::proven(Step::AuthRequest, Cause::TooManyConnections, said(error));
    // A replication connection, too, is turned away where no process at all may be started
    // (ProcessStartupPacket); only InitProcess counts WAL senders.
    let walsender = replication(record).is_some() && error.routine() == "InitProcess";
    if walsender {
        return finding
            .variant("walsender")
            .and("53300 for a replication connection: all WAL senders are taken, no password was looked at")
            .fix("end replication clients that are not needed (pg_stat_replication), or raise max_wal_senders and restart the server");
    }
    finding
        .variant("server")
        .and("53300 before any authentication request: all slots are taken, no password was looked at")
}

fn version_refused(record: &Record, error: &ErrorSeen) -> Finding {
    let word = record.startup.as_ref().map_or(0, |startup| startup.version);
    let finding = Finding::proven(Step::AuthRequest, Cause::ProtocolVersionUnsupported, said(error));
    let finding = finding.and(format!("the startup packet asks for protocol {}", version(word)));
    match word >> 16 {
        0 => finding,
        major if major < 3 => finding.variant("too_old").fix(
            "upgrade the client: it speaks a protocol that PostgreSQL left behind with 7.4 (version 2)",
        ),
        major if major > 3 => finding.variant("too_new").fix(
            "upgrade the server or the pooler, or find out what sends this: no protocol beyond 3 is in use yet",
        ),
        _ => finding.variant("too_new"),
    }
}

fn ident(record: &Record, error: &ErrorSeen) -> Finding {
    let message = error.get(b'M').unwrap_or_default();
    // The method's name is not translated. PAM asks for a password only when a module does (pam_passwd_conv_proc).
    if contains(&without_name(message, record.user().unwrap_or_default()), b"PAM") {
        return Finding::proven(Step::AuthRequest, Cause::ExternalAuthFailed, said(error))
            .variant("pam")
            .summary("PAM refused the login before it asked for a password");
    }
    let evidence = "28000 in auth_failed before any authentication request: the matching line asks for none";
    Finding::proven(Step::AuthRequest, Cause::IdentFailed, evidence).and(said(error))
}

fn hba(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    match hba_refusal(error) {
        Some(HbaRefusal::CertificateWanted) => {
            let finding = Finding::proven(Step::AuthRequest, Cause::ClientCertMissing, said(error));
            if record.legs.as_ref().is_none_or(|legs| legs.server.is_none()) {
                return finding;
            }
            // The client may have one: TLS to the server is ours.
            finding
                .on(Leg::Proxy)
                .summary("the server wants a client certificate, and TLS to the server is pgwhy's, which shows none")
                .fix("give pgwhy the certificate that the server wants (--server-cert and --server-key), or use --client-tls passthrough, so that the client's own one arrives")
        }
        Some(HbaRefusal::Reject) => {
            let finding = super::story::masked(record, context).map(|finding| finding.and(said(error)));
            finding.unwrap_or_else(|| {
                Finding::proven(Step::AuthRequest, Cause::HbaReject, said(error))
                    .ask(&["--hba", "--server-log"])
            })
        }
        Some(HbaRefusal::NoEntry) => no_entry(record, error, context),
        None => Finding::likely(Step::AuthRequest, Cause::HbaNoEntry, said(error))
            .or(&[Cause::HbaReject, Cause::HbaRequiresTls])
            .ask(&["--hba", "--admin"]),
    }
}

/// The server names the connection that no line matches; whether TLS would have matched one, it does
/// not say.
fn no_entry(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Finding {
    if let Some(finding) = super::story::masked(record, context) {
        return finding.and(said(error));
    }
    let seen_address = addresses(error);
    let nat = context.our_address.filter(|ours| {
        let ours = ours.rsplit_once(':').map_or(*ours, |(host, _)| host).trim_matches(['[', ']']);
        !seen_address.is_empty() && seen_address.iter().all(|seen| seen != ours)
    });
    let declined = record.ssl_request.is_some_and(|request| matches!(request.answer, Some((b'N', _))));
    let server_declined = declined && !context.ssl_answered_by_us;
    let managed = context.server_host.and_then(managed_service);
    let encrypted = record.is_server_encrypted();
    if let (Some(service), false, false) = (managed, server_declined, encrypted) {
        return Finding::likely(Step::AuthRequest, Cause::HbaRequiresTls, said(error))
            .and(format!("the connection was not encrypted, and {service} accepts no other by default"))
            .variant("client_never_asks")
            .or(&[Cause::HbaNoEntry])
            .ask(&["--hba", "--admin"]);
    }
    let finding = Finding::likely(Step::AuthRequest, Cause::HbaNoEntry, said(error));
    let over_tls = context.earlier.filter(|earlier| {
        earlier.encrypted
            && earlier.user == record.user().map(text)
            && matches!(earlier.cause, Some((Cause::HbaNoEntry, _)))
    });
    let finding = match over_tls {
        Some(earlier) => Finding { confidence: Confidence::Proven, ..finding }
            .and(format!("over TLS no line matched either ({})", earlier.id)),
        None => finding,
    };
    // pg_getnameinfo_all's name for a Unix socket, in every language.
    let socket = context.server_is_local && contains(error.get(b'M').unwrap_or_default(), b"[local]");
    let finding = if server_declined {
        finding.and("the server declined TLS on this connection, so no hostssl line could match either")
    } else if socket {
        finding
            .and("pgwhy reached the server over its Unix socket, where only local lines match")
            .fix("add a local line for this user and database to pg_hba.conf, then SELECT pg_reload_conf()")
    } else if over_tls.is_some() {
        finding
    } else {
        finding.or(&[if encrypted { Cause::HbaForbidsTls } else { Cause::HbaRequiresTls }])
    };
    let finding = if replication(record) == Some(Replication::Physical) {
        finding
            .variant("replication")
            .fix("add a line with the keyword `replication`: `all` does not match it")
    } else if let Some(ours) = nat {
        finding
            .variant("nat_address")
            .and(format!("pgwhy dialled from {ours}; the server saw {}", seen_address.join(", ")))
    } else {
        finding
    };
    let user = text(record.user().unwrap_or_default());
    let database = text(record.database().unwrap_or_default());
    let place = if socket { "over the Unix socket" } else { "from this address" };
    let finding =
        finding.summary(format!("no pg_hba.conf line matches user {user}, database {database} {place}"));
    match context.our_address {
        Some(ours) if context.client_is_remote => {
            finding.and(format!("the server sees pgwhy's address ({ours}), not the client's")).ask(&["--hba"])
        }
        _ => finding.ask(&["--hba", "--admin"]),
    }
}

/// Addresses that the message names; the words around them are in the server's language.
fn addresses(error: &ErrorSeen) -> Vec<String> {
    let message = error.text(b'M').unwrap_or_default();
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
    let words = message.split(|c: char| !is_part(c));
    words
        .filter_map(|word| word.parse::<std::net::IpAddr>().ok())
        .map(|address| address.to_string())
        .collect()
}

/// The client's address as the server saw it: the first that its refusal names, or ours where that is
/// among them (a user's name may look like an address).
pub(super) fn seen_address(error: &ErrorSeen, ours: Option<IpAddr>) -> Option<IpAddr> {
    let all: Vec<IpAddr> = addresses(error).iter().filter_map(|address| address.parse().ok()).collect();
    ours.filter(|ours| all.contains(ours)).or(all.first().copied())
}

/// Services that refuse plaintext unless they were told otherwise, by their host names.
fn managed_service(host: &str) -> Option<&'static str> {
    const SERVICES: [(&str, &str); 10] = [
        (".rds.amazonaws.com", "Amazon RDS"),
        (".postgres.database.azure.com", "Azure Database for PostgreSQL"),
        (".supabase.co", "Supabase"),
        (".supabase.com", "Supabase"),
        (".neon.tech", "Neon"),
        (".db.ondigitalocean.com", "DigitalOcean"),
        (".aivencloud.com", "Aiven"),
        (".compute-1.amazonaws.com", "Heroku Postgres"),
        (".render.com", "Render"),
        (".timescale.com", "Timescale"),
    ];
    SERVICES.iter().find(|(suffix, _)| host.trim_end_matches('.').ends_with(suffix)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_unix_socket_tls_would_not_have_helped() {
        let no_entry = |host: &str, server_is_local| {
            let message = format!(
                "no pg_hba.conf entry for host \"{host}\", user \"a\", database \"b\", no encryption"
            );
            let fields = vec![(b'M', message.into_bytes())];
            let error = ErrorSeen { fields, ..ErrorSeen::default() };
            let context = Context { server_is_local, ..Context::default() };
            no_entry(&Record::default(), &error, &context)
        };
        let causes =
            |finding: Finding| finding.alternatives.iter().map(|(cause, _)| *cause).collect::<Vec<_>>();
        let socket = no_entry("[local]", true);
        assert!(socket.fix[0].contains("local line"), "{socket:?}");
        assert_eq!(causes(socket), []);
        // A pooler behind the socket has gone on over TCP.
        assert_eq!(causes(no_entry("10.0.0.1", true)), [Cause::HbaRequiresTls]);
        assert_eq!(causes(no_entry("10.0.0.1", false)), [Cause::HbaRequiresTls]);
    }
}
