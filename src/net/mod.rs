//! The net room: listens, dials, carries bytes, and shows the handshake to the observer.
//!
//! ```text
//! listener ─▶ session (tokio): first bytes ─▶ dial ─▶ watch: carry, then look ─▶ Attempt ─▶ Sink
//!                                                      │ logged in, or opaque
//!                                                      ▼
//!                                             engine: one epoll a thread
//! ```
//!
//! It interprets no more than the first packet's kind and what the observer says. Carry first, look
//! second: no observer, sink or limit delays a byte that was accepted.

mod attempt;
mod buffers;
mod cancel;
mod dial;
mod endpoint;
#[cfg_attr(any(not(target_os = "linux"), feature = "portable-engine"), path = "engine_portable.rs")]
pub mod engine;
mod first_tries;
mod greeting;
mod guard;
mod legs;
mod limits;
mod listener;
mod login;
mod message;
mod proxy;
mod salted;
mod sasl;
mod session;
mod shared;
mod tls;
mod trial;
mod watch;

pub use attempt::{Attempt, Closed, Ending, On, OpaqueFacts, Sink};
pub use dial::{DialAttempt, DialError};
pub use endpoint::{Listen, PeerAddr, Upstream, UpstreamHost};
pub use guard::{Guard, Totals};
pub use limits::{Limits, Which, open_files};
pub use proxy::{Config, Proxy, ProxyHandle, StartError, default_relay_threads};
pub use tls::{ClientTls, Identity, IdentityError, Login, OwnTls, Roots, RootsError, ServerTls, TlsConfig};
