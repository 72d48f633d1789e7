//! Channel binding through pgwhy: every client in every mode, what happens without pgwhy and what with it. The table
//! that comes of it is docs/channel-binding.md; the test holds one against the other.
//!
//! `PGWHY_WRITE=1 cargo test --test binding` writes the page anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod exceptions;
mod page;
mod rust_client;
mod table;

use support::in_tests;

/// Where the table stands.
fn page_file() -> std::path::PathBuf {
    in_tests("../docs/channel-binding.md")
}

#[test]
fn channel_binding_is_as_the_page_says() {
    let stage = table::Stage::start();
    let table = table::fill(&stage);
    let exceptions = exceptions::try_all(&stage);
    let page = page::render(&table, &exceptions);
    if std::env::var_os("PGWHY_WRITE").is_some() {
        std::fs::write(page_file(), &page).unwrap();
    }
    let broken = table.broken_by_auto();
    assert!(broken.is_empty(), "auto breaks logins that work, or takes their TLS:\n{}", broken.join("\n"));
    let known = std::fs::read_to_string(page_file()).unwrap_or_default();
    let differences = page::differences(&known, &page);
    assert!(differences.is_empty(), "docs/channel-binding.md says otherwise:\n{}", differences.join("\n"));
}
