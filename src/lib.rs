//! pgwhy stands between an application and PostgreSQL and says why a login failed.
//!
//! The library is laid out in floors: a room imports only from floors below it, and
//! `tests/tidy.rs` reads the `use` lines to keep that true. ARCHITECTURE.md is the map.

// `println!` panics where nobody reads: `app::print` does not.
#![warn(clippy::print_stdout)]

pub mod app;
pub mod capture;
pub mod certs;
pub mod conninfo;
pub mod diagnose;
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
pub mod hba;
pub mod net;
pub mod password;
pub mod report;
pub mod secret;
pub mod serverlog;
pub mod severity;
pub mod wire;
