//! TLS in captures, opened with the keys that one of its ends wrote down.
//!
//! Only reading: records are decrypted and what they carried is handed on. A key that does not fit opens
//! nothing, as every record is authenticated; then the connection stays as it is, seen from outside.

pub mod keylog;
mod keys;
pub mod opener;

pub use keylog::KeyLog;
