//! What passes on the wire: messages of startup, negotiation and authentication, both ways.
//!
//! Everything here works on slices and borrows from them. Lengths and counts are checked before
//! anything is allocated, bytes that are left over are an error, and an error names the field.
//! The grammar follows "Frontend/Backend Protocol" of PostgreSQL 18's documentation.

pub mod backend;
pub mod error_fields;
pub mod first;
pub mod frame;
pub mod frontend;
pub mod reader;
pub mod sasl;
pub mod settings;
pub mod tls;
