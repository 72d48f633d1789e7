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
}

struct Known {
    product: &'static str,
    part: &'static str,
    meaning: Meaning,
}

const fn known(product: &'static str, part: &'static str, meaning: Meaning) -> Known {
    Known { product, part, meaning }
}

use Meaning::{Parameter, Refused, Slow, Sni, UserForm, Waited, WantsTls};

/// Texts by product, from their sources: pgbouncer `client.c`, `objects.c`, `janitor.c`; Supavisor
/// `lib/supavisor/errors`; Neon `proxy/src`; the managed services' own words.
const TEXTS: [Known; 45] = [
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
    known("Neon", "exceeded the compute time quota", Refused("suspended")),
    known("Azure", "SSL connection is required", WantsTls),
    known("Azure", "<username@hostname>", UserForm("azure_at_server")),
    known("RDS Proxy", "has no credentials for the role", Refused("credentials_lookup")),
    known("RDS Proxy", "IAM authentication failed for the role", Refused("credentials_lookup")),
    known("PgDog", "is wrong, or the database does not exist", Refused("no_such_user")),
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
    let Some(found) = found else {
        // A wrong password is judged by what the client sent, whoever refused it.
        if judged && is_about_passwords(error) && context.judgement.is_some_and(Judgement::tells) {
            return None;
        }
        return Some(unknown(step, error));
    };
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
        UserForm(variant) => proven(Cause::UserNameFormat).variant(variant),
        Sni => proven(Cause::SniRequired),
        Slow => {
            Finding::likely(step, Cause::AuthTimeout, said(error)).and(evidence).or(&[Cause::MiddleRefused])
        }
    })
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
    match step {
        Step::Password | Step::Md5 | Step::ScramClientFinal => {
            finding.or(&[Cause::PasswordRejected, Cause::RoleMissing]).ask(&["the expected password"])
        }
        _ => finding,
    }
}
