//! What passes on the wire: messages of startup, negotiation and authentication, both ways.

pub mod first;
