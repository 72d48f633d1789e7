//! Listener, dial, relay.

pub mod engine;
mod pair;

pub use pair::{Guard, Totals};
