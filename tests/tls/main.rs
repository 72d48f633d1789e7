//! TLS on both legs: real servers with good and bad certificates, real clients, the real binary between
//! them, and what its report of each login must say. Row names are claims.
//!
//! `PGWHY_ROWS=text` runs only rows whose claim contains the text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

#[path = "../support/mod.rs"]
mod support;

mod bulk;
mod files;
mod intruders;
mod keys;
mod listener;
mod row;
mod rows;
mod runner;
mod running;
mod stage;
mod stalls;

use support::server::Version;

#[test]
fn tls_at_postgresql_15_is_explained() {
    runner::run(Version::V15, rows::all(), 3);
}

#[test]
fn tls_at_postgresql_18_is_explained() {
    runner::run(Version::V18, rows::all(), 3);
}

#[test]
fn no_claim_is_made_twice() {
    let mut claims: Vec<_> = rows::all().into_iter().map(|row| row.claim).collect();
    claims.sort_unstable();
    for pair in claims.windows(2) {
        assert_ne!(pair[0], pair[1], "two rows make the same claim");
    }
}
