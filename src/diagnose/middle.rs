//! Poolers and gateways: they leave file, line and routine out of an ErrorResponse, and their texts
//! are not translated, so here the text may speak.

use crate::handshake::ladder::text;
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Record, Step};
use crate::password::Judgement;

use super::context::Context;
use super::postgres::contains;
use super::refusal::said;
use super::{Cause, Confidence, Finding};

/// What a known text means.
enum Meaning {
    /// The product refused for this reason of its own.
    Refused(&'static str),
    /// It wants TLS.
    WantsTls,
    /// It does not pass a startup parameter on.
    Parameter,
    /// It wants the user's name in another form.
    UserForm(&'static str),
    /// It wants a server name or a tenant.
    Sni,
    /// The login took too long; whose fault that was, it does not say.
    Slow,
    /// No server connection came free.
    Waited,
    /// Either the password or the database is wrong.
    Password,
    /// A message can't be read: of a protocol version that it does not know, if the client has asked for one.
    Unread,
}

struct Known {
    product: &'static str,
    part: &'static str,
    meaning: Meaning,
}

const fn known(product: &'static str, part: &'static str, meaning: Meaning) -> Known {
    Known { product, part, meaning }
}

use Meaning::{Parameter, Password, Refused, Slow, Sni, Unread, UserForm, Waited, WantsTls};

/// Texts by product, from their sources: pgbouncer `client.c`, `objects.c`, `janitor.c`; Supavisor
/// `lib/supavisor/errors`; Neon `proxy/src`; the managed services' own words.
const TEXTS: [Known; 47] = [
    known("PgBouncer", "no such database", Refused("no_such_database")),
    known("PgBouncer", "\" is disabled", Refused("blocked")),
    known("PgBouncer", "no such user", Refused("no_such_user")),
    known("PgBouncer", "server login has been failing", Refused("server_login_failed")),
    known("PgBouncer", "server login failed", Refused("server_login_failed")),
    known("PgBouncer", "pgbouncer cannot connect to server", Refused("server_login_failed")),
    known("PgBouncer", "client_login_timeout (server down)", Refused("server_login_failed")),
    known("PgBouncer", "client_login_timeout", Slow),
    known("PgBouncer", "no more connections allowed", Refused("limit")),
    known("PgBouncer", "client connections exceeded", Refused("limit")),
    known("PgBouncer", "query_wait_timeout", Waited),
    known("PgBouncer", "bouncer config error", Refused("credentials_lookup")),
    known("PgBouncer", "no authentication method is found", Refused("allow_list")),
    known("PgBouncer", "login rejected", Refused("allow_list")),
    known("PgBouncer", "pgbouncer is shutting down", Refused("shutting_down")),
    known("PgBouncer", "unsupported startup parameter", Parameter),
    known("PgBouncer", "unsupported options startup parameter", Parameter),
    known("PgBouncer", "SSL required", WantsTls),
    known("PgBouncer", "bad packet header", Unread),
    known("Supavisor", "(ESSLREQUIRED)", WantsTls),
    known("Supavisor", "(ENOIDENTIFIER)", Sni),
    known("Supavisor", "(ENOTFOUND)", UserForm("tenant_suffix")),
    known("Supavisor", "Tenant or user not found", UserForm("tenant_suffix")),
    known("Supavisor", "(EADDRNOTALLOWED)", Refused("allow_list")),
    known("Supavisor", "(ECIRCUITBREAKER)", Refused("blocked")),
    known("Supavisor", "(EBANNED)", Refused("blocked")),
    known("Supavisor", "(EAUTHQUERY)", Refused("credentials_lookup")),
    known("Supavisor", "(EMAXCONN", Refused("limit")),
    known("Supavisor", "(ESTARTUP", Parameter),
    known("Neon", "Endpoint ID is not specified", Sni),
    known("Neon", "Inconsistent project name", Sni),
    known("Neon", "connection is insecure", WantsTls),
    known("Neon", "is not allowed to connect to this endpoint", Refused("allow_list")),
    known("Neon", "Too many connections to this endpoint", Refused("limit")),
    known("Neon", "Control plane request failed", Refused("suspended")),
    known("Neon", "endpoint is disabled", Refused("suspended")),
    known("Neon", "endpoint has been disabled", Refused("suspended")),
    known("Neon", "exceeded the compute time quota", Refused("suspended")),
    known("Azure", "SSL connection is required", WantsTls),
    known("Azure", "<username@hostname>", UserForm("azure_at_server")),
    known("RDS Proxy", "has no credentials for the role", Refused("credentials_lookup")),
    known("RDS Proxy", "IAM authentication failed for the role", Refused("credentials_lookup")),
    known("PgDog", "is wrong, or the database does not exist", Password),
    known("Odyssey", "failed to connect to remote server", Refused("server_login_failed")),
    known("pgcat", "AllServersDown", Refused("server_login_failed")),
    known("pgcat", "Pool down", Refused("server_login_failed")),
    known("CockroachDB", "node is running secure mode", WantsTls),
];

/// An error that no PostgreSQL backend wrote.
pub(super) fn refusal(record: &Record, error: &ErrorSeen, context: &Context<'_>) -> Option<Finding> {
    let step = match record.step.unwrap_or(Step::AuthRequest) {
        // PgBouncer accepts the proof and refuses before AuthenticationOk: the login itself was over.
        Step::ScramServerFinal => Step::SessionSetup,
        step => step,
    };
    let message = error.get(b'M').unwrap_or_default();
    if error.is_from_postgres() || error.version_2 {
        return None;
    }
    let judged = matches!(step, Step::Password | Step::Md5 | Step::ScramClientFinal);
    let found = TEXTS.iter().find(|known| contains(message, known.part.as_bytes()));
    let of_password = found.is_none_or(|known| matches!(known.meaning, Password));
    // A wrong password is judged by what the client sent, whoever refused it.
    if of_password && judged && is_about_passwords(error) && context.judgement.is_some_and(Judgement::tells) {
        return None;
    }
    let Some(found) = found else { return Some(unknown(step, error)) };
    let evidence = "the error has no file, line and routine: no PostgreSQL server wrote it";
    let refused = |cause, confidence| {
        Finding::new(step, cause, confidence, said(error)).and(evidence).summary(format!(
            "{} refused: {}",
            found.product,
            text(message)
        ))
    };
    let proven = |cause| refused(cause, Confidence::Proven);
    Some(match found.meaning {
        Refused(variant) => proven(Cause::MiddleRefused).variant(variant),
        Waited => refused(Cause::MiddleRefused, Confidence::Likely)
            .variant("limit")
            .and("no server connection came free in time: the pool is full, or the pooler can't reach its server or log in there")
            .fix("look at SHOW POOLS and SHOW SERVERS in PgBouncer's console, and at its log: end what holds connections, or mend its way to the server"),
        WantsTls => proven(Cause::HbaRequiresTls),
        Parameter => proven(Cause::StartupParameterRefused).variant("pooler_unsupported"),
        UserForm(variant) if has_form(record, variant) => refused(Cause::MiddleRefused, Confidence::Likely)
            .variant("no_such_user")
            .or(&[Cause::UserNameFormat])
            .and("the user's name has the form that is wanted")
            .fix("check that name and host belong together (project, region and pooler as the provider's console shows them), and that the project is not paused"),
        UserForm(variant) => proven(Cause::UserNameFormat).variant(variant),
        Password => refused(Cause::MiddleRefused, Confidence::Likely)
            .or(&[Cause::PasswordRejected, Cause::DatabaseMissing, Cause::RoleMissing])
            .ask(&["the expected password"]),
        Unread if record.startup.as_ref().is_some_and(|startup| startup.version > PROTOCOL_3_0) => {
            refused(Cause::ProtocolVersionUnsupported, Confidence::Likely)
                .variant("too_new")
                .and("the client asked for a newer protocol than 3.0, and releases of before can't read such a startup packet")
                .or(&[Cause::MiddleRefused])
                .fix("set max_protocol_version=3.0 in the client's connection string, or upgrade the pooler")
        }
        Unread => return Some(unknown(step, error)),
        Sni => proven(Cause::SniRequired),
        Slow => {
            Finding::likely(step, Cause::AuthTimeout, said(error)).and(evidence).or(&[Cause::MiddleRefused])
        }
    })
}

/// Whether the user's name has the form that a product asks for.
fn has_form(record: &Record, variant: &str) -> bool {
    let mark = if variant == "tenant_suffix" { b'.' } else { b'@' };
    record.user().is_some_and(|user| user.contains(&mark))
}

/// Whether a pooler refuses what the client sent. PgBouncer has two texts of its own for that (`client.c`), and
/// passes on, under the same SQLSTATE, whatever the server said to its own login.
pub(super) fn is_about_passwords(error: &ErrorSeen) -> bool {
    let message = error.get(b'M').unwrap_or_default();
    match error.sqlstate() {
        "08P01" => matches!(message, b"password authentication failed" | b"SASL authentication failed"),
        code => {
            code.starts_with("28") || contains(message, b"password") || contains(message, b"authentication")
        }
    }
}

/// A text that is in no list: who wrote it is sure, why is not.
fn unknown(step: Step, error: &ErrorSeen) -> Finding {
    // PgBouncer's own refusals of one whose proof it accepted are all in the list.
    let of_server = contains(error.get(b'M').unwrap_or_default(), b"authentication failed for user")
        || step == Step::SessionSetup;
    if error.sqlstate() == "08P01" && of_server {
        let finding = Finding::likely(step, Cause::MiddleRefused, said(error))
            .variant("server_login_failed")
            .and("a pooler passes on what the server said to its own login");
        let finding = finding.ask(&["the pooler's log", "--server-log"]);
        return if step == Step::SessionSetup { finding } else { finding.or(&[Cause::PasswordRejected]) };
    }
    let finding = Finding::likely(step, Cause::MiddleRefused, said(error))
        .and("the error has no file, line and routine: no PostgreSQL server wrote it");
    let finding = match error.sqlstate() {
        "53300" => return finding.variant("limit"),
        "57P01" => return finding.variant("shutting_down"),
        _ => finding,
    };
    match step {
        Step::Password | Step::Md5 | Step::ScramClientFinal => {
            finding.or(&[Cause::PasswordRejected, Cause::RoleMissing]).ask(&["the expected password"])
        }
        _ => finding,
    }
}

const PROTOCOL_3_0: u32 = 3 << 16;
