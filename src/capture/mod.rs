//! Conversations on disk: captures are read ([`read`], [`conversation`]) over `std::io` traits.
//!
//! Everything here takes any bytes: a file that is cut off, damaged or made to do harm gives what could
//! be read of it and a message that says where reading stopped.

pub mod conversation;
pub mod read;
