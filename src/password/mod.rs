//! Does this candidate password explain that exchange?

pub mod saslprep;
pub mod scram;
mod variant;

pub use variant::Variant;
