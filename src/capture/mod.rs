//! Captures: what pgwhy saw of logins, on disk, in the one format that Wireshark and tshark open too.
//!
//! Pure like everything below `net`: bytes in, bytes out. Files, clocks and threads are the program's.

pub mod blank;
pub mod facts;
pub mod write;
