//! Real clients against real servers through the real binary: a table of logins and what the report
//! of each must say. Row names are claims.
//!
//! `PGWHY_ROWS=text` runs only rows whose claim contains the text; `PGWHY_DIRECT=1` runs the clients
//! without the proxy and prints what they say, to check that a row fails the way its author thinks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

#[path = "../support/mod.rs"]
mod support;

mod row;
mod rows;
mod runner;
mod world;

use row::At;
use support::server::Version;

#[test]
fn every_login_through_postgresql_15_is_explained() {
    runner::run(Version::V15, rows::all(), 3);
}

#[test]
fn every_login_through_postgresql_18_is_explained() {
    runner::run(Version::V18, rows::all(), 3);
}

#[test]
fn the_table_has_sixty_rows_and_no_claim_twice() {
    let rows = rows::all();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let mut claims: Vec<_> = rows.iter().map(|row| row.claim.clone()).collect();
    claims.sort();
    for pair in claims.windows(2) {
        assert_ne!(pair[0], pair[1], "two rows make the same claim");
    }
}

#[test]
fn every_cause_that_needs_no_context_has_a_row() {
    let rows = rows::all();
    let missing: Vec<_> = support::causes::causes()
        .iter()
        .filter(|cause| !ELSEWHERE.contains(&cause.id.as_str()))
        .filter(|cause| !rows.iter().any(|row| row.names(&cause.id)))
        .map(|cause| cause.id.as_str())
        .collect();
    assert!(missing.is_empty(), "no scenario expects {missing:?}");
}

/// Causes that need what this table does not have: `run` and `check`, the URL and .env linter, an
/// hba file or an administrator, opened TLS, our own pool.
const ELSEWHERE: &[&str] = &[
    "never_arrived",
    "url_invalid",
    "wrong_server",
    "hba_not_reloaded",
    "hba_forbids_tls", // inside TLS: seen only when TLS is opened
    "client_cert_missing",
    "client_cert_rejected",
    "verifier_method_conflict",
    "role_without_password",
    "password_expired",
    "channel_binding_downgrade",
    "channel_binding_mismatch",
    "pool_exhausted",
    "pool_credentials",
    "proxy_limit",
    "tls_required_by_proxy",
];
