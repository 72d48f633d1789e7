//! `--capture` through the real binary, real servers and clients, and Wireshark's own tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

#[path = "capture/blanking.rs"]
mod blanking;
#[path = "replay/corpus.rs"]
#[allow(dead_code, reason = "shared with the replay test")]
mod corpus;
#[path = "replay/expect.rs"]
#[allow(dead_code, reason = "the corpus' reader wants it")]
mod expect;
#[path = "capture/files.rs"]
mod files;
#[path = "capture/legs.rs"]
mod legs;
#[path = "capture/secrets.rs"]
mod secrets;
#[path = "capture/stage.rs"]
mod stage;
#[path = "capture/wireshark.rs"]
mod wireshark;

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
