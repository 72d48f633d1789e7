//! Captures: what pgwhy saw of logins, on disk, in the one format that Wireshark and tshark open too; and
//! what other programs captured, read again.
//!
//! Pure like everything below `net`: bytes in, bytes out. Files, clocks and threads are the program's.
//! Readers take any bytes: a file that is cut off, damaged or made to do harm gives what could be read of
//! it and a message that says where reading stopped.

pub mod blank;
pub mod conversation;
pub mod facts;
pub mod read;
pub mod script;
pub mod tls;
pub mod write;
