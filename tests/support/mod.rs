//! What the integration tests share: real servers, real clients, the real binary between them.
//!
//! Everything here is started by the test that needs it and is gone when that test is, however it ends.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this module")]

pub mod causes;
pub mod certs;
pub mod client;
pub mod install;
pub mod keeper;
pub mod peer;
pub mod port;
pub mod proxy;
pub mod schema;
pub mod server;
pub mod trusting;
pub mod verdict;

use std::time::Duration;

/// How long anything that should happen may take on a busy machine before the test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// The path of a file in `tests/`.
pub fn in_tests(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}
