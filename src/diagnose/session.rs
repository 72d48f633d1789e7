//! Behind AuthenticationOk: the password was right or none was asked for, and the fault is the role,
//! the database, a limit or a parameter.

use crate::handshake::ladder::text;
use crate::handshake::record::ErrorSeen;
use crate::handshake::{Record, Step};

use super::context::Context;
use super::finding::Warning;
use super::postgres::{RoleRefusal, contains, replication, role_refusal};
use super::refusal::{other, said};
use super::{Cause, Finding};

const STEP: Step = Step::SessionSetup;

/// The server refused after it had accepted the login.
pub(super) fn refusal(record: &Record, error: &ErrorSeen) -> Finding {
    let routine = error.routine();
    // What the server does on its own part has no context: a function does, as one of a login event trigger
    // (PostgreSQL 17 and later) that may raise any SQLSTATE.
    if let Some(context) = error.text(b'W') {
        return other(STEP, error).and(format!("it comes from a function: {context}"));
    }
    let by_itself = matches!(routine, "InitPostgres" | "CheckMyDatabase");
    match error.sqlstate() {
        "3D000" if by_itself => database_missing(record, error),
        "55000" if by_itself => not_accepting(error),
        "53300" => limit(record, error),
        "28000" if routine == "InitializeSessionUserId" => role(record, error),
        "42501" if routine == "CheckMyDatabase" => {
            Finding::proven(STEP, Cause::ConnectPrivilegeMissing, said(error))
        }
        "42501" if replication(record).is_some() && routine == "InitPostgres" => {
            Finding::proven(STEP, Cause::ReplicationDenied, said(error))
        }
        "57P01" | "57P03" => Finding::likely(STEP, Cause::ServerNotAccepting, said(error)),
        code @ ("42704" | "22023" | "42501" | "42601" | "55P02" | "08P01" | "22007" | "22008" | "22P02") => {
            parameter(record, error, code).unwrap_or_else(|| other(STEP, error))
        }
        _ => other(STEP, error),
    }
}

fn not_accepting(error: &ErrorSeen) -> Finding {
    let finding = Finding::proven(STEP, Cause::DatabaseNotAccepting, said(error));
    match contains(error.get(b'M').unwrap_or_default(), b"invalid database") {
        true => {
            finding.fix("DROP DATABASE: an earlier one was interrupted, and nothing else can be done with it")
        }
        false => finding,
    }
}

fn database_missing(record: &Record, error: &ErrorSeen) -> Finding {
    // It was there: dropped or renamed this moment, or its directory is gone.
    if let Some(detail) = error.text(b'D') {
        return Finding::likely(STEP, Cause::DatabaseMissing, said(error)).and(detail);
    }
    let name = record.database().unwrap_or_default();
    let given =
        record.startup.as_ref().and_then(|startup| startup.get("database")).filter(|name| !name.is_empty());
    let variant = match given {
        None => "default_is_user_name",
        Some(name) if name.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => "cr_in_name",
        Some(name) if name.contains(&b'%') => "percent_in_name",
        Some(_) => "absent",
    };
    let finding = Finding::proven(STEP, Cause::DatabaseMissing, said(error)).variant(variant);
    let name = text(name);
    match variant {
        "default_is_user_name" => finding
            .summary(format!("the login worked; no database was named, so it is the user's name {name}, which does not exist"))
            .fix("name the database in the connection string: postgresql://user@host/DATABASE"),
        "cr_in_name" => finding
            .summary("the login worked; the database name ends in a line break, so there is no such database")
            .fix("remove the carriage return: save the .env file with Unix line ends (dos2unix)"),
        _ => {
            // libpq sends the user's name where no database is given.
            let own = record.user() == record.database();
            finding
                .summary(format!("the login worked; there is no database {name:?} on this server"))
                .and_maybe(own.then(|| {
                    "the name is the user's own, which libpq takes where no database is named".to_owned()
                }))
        }
    }
}

fn limit(record: &Record, error: &ErrorSeen) -> Finding {
    let variant = match error.routine() {
        "InitializeSessionUserId" => "role",
        "CheckMyDatabase" => "database",
        "InitPostgres" => "reserved",
        _ if replication(record).is_some() => "walsender",
        _ => "server",
    };
    let evidence = "53300 after AuthenticationOk: the login itself was accepted";
    let finding =
        Finding::proven(STEP, Cause::TooManyConnections, said(error)).variant(variant).and(evidence);
    match variant {
        "role" => finding.fix("close the role's idle sessions, or ALTER ROLE … CONNECTION LIMIT"),
        "database" => finding.fix("close idle sessions, or ALTER DATABASE … CONNECTION LIMIT"),
        _ => finding,
    }
}

fn role(record: &Record, error: &ErrorSeen) -> Finding {
    let user = record.user().unwrap_or_default();
    let name = text(user);
    let secret_checked = record.scram.is_some() || record.md5.is_some();
    if secret_checked {
        // The role's own secret was checked, so it exists. LDAP, PAM and others vouch for a name
        // that need not be a role.
        let finding = Finding::proven(STEP, Cause::RoleCannotLogin, said(error));
        return finding.and("its password was accepted before, so the role exists");
    }
    let missing = |finding: Finding| {
        let finding = missing_variant(user).into_iter().fold(finding, Finding::variant);
        finding.summary(format!("there is no role {name:?} on this server"))
    };
    match role_refusal(error) {
        Some((RoleRefusal::Missing, true)) => missing(Finding::proven(STEP, Cause::RoleMissing, said(error))),
        Some((RoleRefusal::NoLogin, true)) => Finding::proven(STEP, Cause::RoleCannotLogin, said(error))
            .summary(format!("the role {name:?} exists, and it has no LOGIN right")),
        Some((RoleRefusal::NoLogin, false)) => Finding::likely(STEP, Cause::RoleCannotLogin, said(error))
            .or(&[Cause::RoleMissing])
            .ask(&["--admin"]),
        Some((RoleRefusal::Missing, false)) | None => {
            missing(Finding::likely(STEP, Cause::RoleMissing, said(error)))
                .or(&[Cause::RoleCannotLogin])
                .ask(&["--admin"])
        }
    }
}

/// The variant of a missing role that its name alone shows. None for a name with capitals: unquoted
/// names are folded, so the role may be there in another case, which only the catalogs know.
pub(super) fn missing_variant(name: &[u8]) -> Option<&'static str> {
    match () {
        () if name.len() > 63 => Some("name_truncated"),
        () if name.trim_ascii() != name => Some("blank_in_name"),
        () if name.iter().any(u8::is_ascii_uppercase) => None,
        () => Some("absent"),
    }
}

/// Whether a name stands there, and not only as a part of a longer one.
fn has_word(text: &[u8], name: &[u8]) -> bool {
    let is_part = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
    };
    let mut places = text.windows(name.len()).enumerate().filter(|(_, part)| *part == name);
    places.any(|(at, _)| {
        !is_part(at.checked_sub(1).and_then(|before| text.get(before))) && !is_part(text.get(at + name.len()))
    })
}

/// A startup parameter became a setting that the server refuses.
fn parameter(record: &Record, error: &ErrorSeen, code: &str) -> Option<Finding> {
    let startup = record.startup.as_ref()?;
    let message = error.get(b'M').unwrap_or_default();
    // The server writes a setting's name in its own case (`TimeZone`), the client in any.
    let message = message.to_ascii_lowercase();
    let variant = match code {
        "42704" => Some("unknown"),
        "42501" => Some("not_permitted"),
        "42601" => Some("bad_options"),
        // Also of settings that a reload changes, or nothing does (`set_config_with_handle`, guc.c).
        "55P02" => AT_START
            .split_whitespace()
            .any(|name| has_word(&message, name.as_bytes()))
            .then_some("needs_restart"),
        _ => Some("invalid_value"),
    };
    let named = |key: &[u8]| !key.is_empty() && has_word(&message, &key.to_ascii_lowercase());
    let own = |key: &[u8]| matches!(key, b"user" | b"database" | b"replication" | b"options");
    let keys = startup.parameters.iter().map(|(key, _)| key.as_slice());
    let key = keys.filter(|key| !own(key) && named(key)).max_by_key(|key| key.len());
    let options = startup.get("options").filter(|options| !options.is_empty());
    let finding = match (key, options) {
        (Some(key), _) => {
            let finding = Finding::proven(STEP, Cause::StartupParameterRefused, said(error));
            let key = text(key);
            finding
                .and(format!("the startup packet carries {key:?}"))
                .summary(format!("the server refuses the startup parameter {key:?}, which came from the connection string or the driver"))
        }
        (None, Some(_)) => Finding::proven(STEP, Cause::StartupParameterRefused, said(error))
            .and("the startup packet carries \"options\"")
            .summary("the server refuses what the startup parameter \"options\" sets"),
        (None, None) if code == "42501" => return None,
        (None, None) => Finding::likely(STEP, Cause::StartupParameterRefused, said(error)),
    };
    Some(match variant {
        Some(variant) => finding.variant(variant),
        None => finding.fix("leave it out of the connection string: a connection can't change this setting"),
    })
}

/// What is worth knowing about a login that worked.
pub(super) fn warnings(record: &Record, context: &Context<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn =
        |id: &'static str, summary: &str| warnings.push(Warning { id: id.into(), summary: summary.into() });
    let method = record.auth_method();
    if method == Some("md5") {
        warn(
            "md5_in_use",
            "md5 authentication is deprecated and goes in a later major version: use scram-sha-256",
        );
    }
    let plaintext = !record.is_client_encrypted();
    if method == Some("password") && plaintext {
        warn("cleartext_password", "the password crossed the network unencrypted");
    }
    let refused = context.earlier.and_then(|earlier| earlier.cause.as_ref());
    if plaintext && refused.is_some_and(|(cause, _)| *cause == Cause::ChannelBindingMismatch) {
        // libpq's sslmode=prefer, which tries again without TLS after any error.
        warn(
            "tls_given_up",
            "this client's login over TLS failed moments ago, because TLS ends at pgwhy and it binds to the channel, and now it is in clear: use --client-tls passthrough, or give pgwhy this user's password",
        );
    }
    if plaintext && context.client_is_remote {
        warn("plaintext_remote", "the client is on another machine and the connection is not encrypted");
    }
    if context.dials.iter().any(|dial| dial.result.is_err()) {
        warn("address_failed", "an address of the server could not be reached; a later one answered");
    }
    if !record.negotiations.is_empty() {
        warn(
            "protocol_negotiated",
            "the server speaks only an older protocol version than the client asked for",
        );
    }
    warnings
}

/// Settings that only a start of the server changes (PGC_POSTMASTER, guc_tables.c), in PostgreSQL 15 to 18.
const AT_START: &str = "\
    archive_mode autovacuum_freeze_max_age autovacuum_multixact_freeze_max_age autovacuum_worker_slots \
    bonjour bonjour_name cluster_name commit_timestamp_buffers data_directory data_sync_retry \
    dynamic_shared_memory_type event_source external_pid_file hba_file hot_standby huge_page_size \
    huge_pages ident_file io_max_combine_limit io_max_concurrency io_method jit_provider \
    listen_addresses logging_collector max_active_replication_origins max_connections \
    max_files_per_process max_locks_per_transaction max_logical_replication_workers \
    max_notify_queue_pages max_pred_locks_per_transaction max_prepared_transactions \
    max_replication_slots max_wal_senders max_worker_processes min_dynamic_shared_memory \
    multixact_member_buffers multixact_offset_buffers notify_buffers old_snapshot_threshold port \
    recovery_target recovery_target_action recovery_target_inclusive recovery_target_lsn \
    recovery_target_name recovery_target_time recovery_target_timeline recovery_target_xid \
    reserved_connections serializable_buffers shared_buffers shared_memory_type shared_preload_libraries \
    subtransaction_buffers superuser_reserved_connections track_activity_query_size \
    track_commit_timestamp transaction_buffers unix_socket_directories unix_socket_group \
    unix_socket_permissions wal_buffers wal_decode_buffer_size wal_level wal_log_hints";
