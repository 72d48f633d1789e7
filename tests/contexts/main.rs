//! The same failed login without context and with it: what is `possible` or `likely` on the bytes alone
//! becomes `proven` with the context that can tell, and context that can't tell, lies or is missing
//! makes nothing `proven`. Row names are claims; `PGWHY_ROWS=text` runs only those that contain it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

#[path = "../support/mod.rs"]
mod support;

mod adversarial;
mod case;
mod catalogs;
mod limits;
mod logs;
mod rules;
mod stage;
mod stories;

use support::server::Version;

#[test]
fn context_settles_what_postgresql_15_hides() {
    catalogs::run(Version::V15);
}

#[test]
fn context_settles_what_postgresql_18_hides() {
    catalogs::run(Version::V18);
}

#[test]
fn pg_hba_conf_settles_refusals_of_postgresql_15() {
    rules::run(Version::V15);
}

#[test]
fn pg_hba_conf_settles_refusals_of_postgresql_18() {
    rules::run(Version::V18);
}

#[test]
fn limits_of_postgresql_15_are_told_apart() {
    limits::run(Version::V15);
}

#[test]
fn limits_of_postgresql_18_are_told_apart() {
    limits::run(Version::V18);
}

#[test]
fn the_log_of_postgresql_15_is_followed_whatever_becomes_of_it() {
    logs::run(Version::V15);
}

#[test]
fn the_log_of_postgresql_18_is_followed_whatever_becomes_of_it() {
    logs::run(Version::V18);
}

#[test]
fn what_changes_between_two_logins_at_postgresql_15_is_told() {
    stories::run(Version::V15);
}

#[test]
fn what_changes_between_two_logins_at_postgresql_18_is_told() {
    stories::run(Version::V18);
}

#[test]
fn the_table_has_sixty_rows_and_no_claim_twice() {
    let mut claims: Vec<_> = catalogs::cases().into_iter().map(|case| case.claim).collect();
    claims.extend(rules::phases().into_iter().flat_map(|phase| phase.cases).map(|case| case.claim));
    claims.extend(limits::rows(Version::V18).into_iter().map(|row| row.case.claim));
    assert!(claims.len() >= 60, "{} rows", claims.len());
    claims.sort();
    assert!(claims.windows(2).all(|pair| pair[0] != pair[1]), "two rows make the same claim: {claims:#?}");
}
