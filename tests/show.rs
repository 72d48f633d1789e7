//! Captures read again: what tcpdump saw between the proxy and the server must give the verdict that the
//! proxy gave, and no damage to a capture may make a verdict wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, dead_code, reason = "a test has no public face, and shares modules with others")]

#[path = "support/mod.rs"]
mod support;

#[path = "show/command.rs"]
mod command;
#[path = "replay/corpus.rs"]
mod corpus;
#[path = "replay/expect.rs"]
mod expect;
#[path = "show/keylog.rs"]
mod keylog;
#[path = "show/packets.rs"]
mod packets;
#[path = "scenarios/row.rs"]
mod row;
#[path = "scenarios/rows/mod.rs"]
mod rows;
#[path = "show/tcpdump.rs"]
mod tcpdump;
#[path = "scenarios/world.rs"]
mod world;

use row::At;

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
