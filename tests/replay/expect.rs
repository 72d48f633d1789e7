//! What the scenarios of the corpus should come to. Written by hand from what was set up, not from what
//! pgwhy says.

use pgwhy::diagnose::Finding;
use pgwhy::handshake::{Record, Step};
use pgwhy::password::Exchange;

use super::corpus::Conversation;

/// The family that a client's packets can show.
pub(crate) fn family(client: &str) -> &'static str {
    match client {
        "asyncpg" | "sqlalchemy-asyncpg" => "asyncpg",
        "go-pq" => "lib/pq",
        "pg8000" => "pg8000",
        "pgjdbc" => "pgjdbc",
        "postgres.js" => "postgres.js",
        "sqlx" => "sqlx",
        "tokio-postgres" => "tokio-postgres",
        "knex" | "pg" | "pg-url" | "pg-6.4.2-node10" | "pg-7.8.2-node10" => "node-postgres",
        client if client.starts_with("prisma-") => "node-postgres",
        _ => "libpq",
    }
}

/// Clients that know no SCRAM.
fn without_scram(client: &str) -> bool {
    matches!(client, "pg-6.4.2-node10" | "pg-7.8.2-node10")
}

/// Whether the login works; `None` where a client may do either (retries, probing connections).
pub(crate) fn ready(conversation: &Conversation) -> Option<bool> {
    let scenario = conversation.scenario.as_str();
    let asks_scram = scenario.starts_with("scram_") || scenario == "md5_line_scram_secret_ok";
    if asks_scram && without_scram(&conversation.client) {
        return Some(false);
    }
    match scenario {
        _ if disputed(conversation) => None,
        // This build of the client takes any certificate.
        "tls_verify_unknown_ca" if conversation.client == "tokio-postgres" => None,
        "gssenc_prefer_ok" | "gssenc_require_ok" | "gssenc_prefer_then_ldap_ok" => None,
        "oauth_ok" | "oauth_plain_refused" => None,
        "oauth_bad_token" | "oauth_no_flow" | "oauth_wrong_role" | "oauth_password_only_psql" => Some(false),
        _ if scenario.ends_with("_ok") => Some(true),
        _ if scenario.starts_with("x_")
            || scenario.starts_with("hostnossl")
            || scenario.starts_with("gss") =>
        {
            None
        }
        _ => Some(false),
    }
}

/// The SQLSTATE of the refusal and the step it comes in, where the scenario fixes both.
pub(crate) fn refusal(conversation: &Conversation, record: &Record) -> Option<(&'static str, Step)> {
    let scenario = conversation.scenario.as_str();
    // A client that gives up before the server can refuse is judged by its departure.
    record.error.as_ref()?;
    Some(match scenario {
        "scram_wrong_pw"
        | "scram_wrong_pw_tls"
        | "scram_wrong_pw_prefer"
        | "scram_missing_user"
        | "md5_missing_user"
        | "pw_with_newline"
        | "pw_url_encoded"
        | "role_expired"
        | "role_no_secret"
        | "md5_secret_scram_line" => ("28P01", Step::ScramClientFinal),
        "md5_wrong_pw" => ("28P01", Step::Md5),
        "clear_wrong_pw" | "clear_missing_user" => ("28P01", Step::Password),
        "hba_reject"
        | "no_hba_line"
        | "no_hba_line_tls"
        | "hostssl_only_client_plain"
        | "ident_line"
        | "cert_line_no_cert"
        | "hostnossl_only_client_tls" => ("28000", Step::AuthRequest),
        "ldap_wrong_pw" | "ldap_missing_in_directory" => ("28000", Step::Password),
        "missing_db" => ("3D000", Step::SessionSetup),
        "db_no_connections" => ("55000", Step::SessionSetup),
        "db_no_privilege" => ("42501", Step::SessionSetup),
        "role_nologin" => ("28000", Step::SessionSetup),
        "role_conn_limit" => ("53300", Step::SessionSetup),
        "shutting_down" | "standby_refuses" => ("57P03", Step::AuthRequest),
        _ => return None,
    })
}

/// Whether a scenario may prove this cause: what was set up must be what is named.
pub(crate) fn may_prove(conversation: &Conversation, finding: &Finding) -> bool {
    let scenario = conversation.scenario.as_str();
    if without_scram(&conversation.client) && finding.step == Step::SaslMechanism {
        return finding.cause.id() == "auth_method_unsupported_by_client";
    }
    let causes: &[&str] = match scenario {
        "scram_no_pw" => &["password_missing"],
        "clear_no_pw" => &["password_missing", "password_empty"],
        "md5_no_pw" => &["password_missing", "password_empty"],
        "hba_reject" => &["hba_reject"],
        "ident_line" => &["ident_failed"],
        "cert_line_no_cert" => &["client_cert_missing"],
        "ldap_wrong_pw" | "ldap_missing_in_directory" => &["external_auth_failed"],
        "missing_db" => &["database_missing"],
        "db_no_connections" => &["database_not_accepting"],
        "db_no_privilege" => &["connect_privilege_missing"],
        "role_nologin" => &["role_cannot_login"],
        "role_conn_limit" => &["too_many_connections"],
        "shutting_down" | "standby_refuses" => &["server_not_accepting"],
        "server_has_no_tls" => &["server_has_no_tls"],
        "x_bad_startup_option" => &["startup_parameter_refused"],
        "x_replication" => &["replication_denied"],
        "gss_no_ticket" | "gss_user_name_mismatch" | "gss_host_by_ip_no_principal" => &["gss_failed"],
        "oauth_bad_token" | "oauth_wrong_role" => &["oauth_failed"],
        _ => &[],
    };
    causes.contains(&finding.cause.id())
}

/// Conversations whose verdict is known to be less than a person would say; the golden file shows it.
pub(crate) fn disputed(conversation: &Conversation) -> bool {
    match (conversation.client.as_str(), conversation.scenario.as_str()) {
        // lib/pq 1.10.7 connects, and only then finds that it does not know sslmode=prefer: what it
        // leaves behind looks like a health check.
        ("go-pq", scenario) => scenario.contains("prefer"),
        // pg8000 says Terminate where its password is missing or can't be prepared; the server's 08P01
        // is the echo of that.
        ("pg8000", "scram_no_pw" | "md5_no_pw" | "clear_no_pw" | "pw_with_newline") => true,
        _ => false,
    }
}

/// What a client answered, as far as candidates can be tested against it.
pub(crate) fn exchange(record: &Record) -> Option<Exchange<'_>> {
    if let Some(sent) = &record.cleartext {
        return Some(Exchange::Cleartext { sent: sent.expose() });
    }
    if let Some((md5, response)) = record.md5.as_ref().and_then(|md5| Some((md5, md5.response.as_ref()?))) {
        return Some(Exchange::Md5 { user: record.user()?, salt: md5.salt, response: response.expose() });
    }
    let scram = record.scram.as_ref()?;
    let (first, challenge) = (scram.client_first.as_ref()?, scram.server_first.as_ref()?);
    let last = scram.client_final.as_ref()?;
    Some(Exchange::Scram {
        client_first_bare: &first.bare,
        server_first: &challenge.text,
        client_final_without_proof: &last.without_proof,
        proof: last.proof.expose(),
        salt: &challenge.salt,
        iterations: challenge.iterations,
    })
}

/// What the answer fits, when `correct-pw` was the password that should have been sent.
pub(crate) fn fit(conversation: &Conversation) -> Option<&'static str> {
    Some(match conversation.scenario.as_str() {
        "pw_with_newline" => "trailing_newline",
        "pw_url_encoded" => "percent_encoded_kept",
        // node-postgres hashes its missing password as JavaScript writes it.
        "md5_no_pw" if family(&conversation.client) == "node-postgres" => "literal_null",
        "md5_no_pw" | "clear_no_pw" | "scram_no_pw" => "empty",
        scenario if scenario.contains("_wrong_pw") && !scenario.starts_with("ldap") => "nothing",
        "scram_missing_user" | "role_expired" | "role_no_secret" | "md5_secret_scram_line" => "expected",
        scenario if scenario.ends_with("_ok") && !scenario.contains("ldap") => "expected",
        _ => return None,
    })
}
