//! What a login under way carries along: its facts, its two ends, and what became of it.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::sleep;

use crate::handshake::{Attention, Observer};
use crate::wire::first::First;

use super::attempt::{Attempt, Ending, OpaqueFacts};
use super::cancel::Target;
use super::dial::{DialAttempt, Reached};
use super::endpoint::{PeerAddr, Stream};

/// What is known about the connection beside its bytes.
pub(super) struct Facts {
    pub(super) id: u64,
    pub(super) accepted: Instant,
    pub(super) time: SystemTime,
    pub(super) listener: PeerAddr,
    pub(super) peer: PeerAddr,
    pub(super) server: Option<PeerAddr>,
    pub(super) our_outgoing: Option<PeerAddr>,
    pub(super) dials: Vec<DialAttempt>,
    pub(super) ssl_answered_by_us: bool,
    /// Requests for encryption that we have answered with `N`.
    pub(super) declined: Vec<First>,
    /// The client has asked for encryption.
    pub(super) asked: bool,
    /// The server's host name, as configured.
    pub(super) host: String,
}

impl Facts {
    /// Notes the server that was reached.
    pub(super) fn reached(&mut self, reached: &Reached) {
        self.server = Some(reached.addr.clone());
        self.our_outgoing = reached.socket.local();
        self.host.clone_from(&reached.host);
    }

    /// Where a cancel request for this session has to go.
    pub(super) fn target(&self) -> Option<Target> {
        self.server.clone().map(|addr| Target { addr, host: self.host.clone() })
    }

    pub(super) fn attempt(self, observer: Observer, ending: Ending, opaque: Option<OpaqueFacts>) -> Attempt {
        let record = observer.finish();
        // A login that works is over with ReadyForQuery, whatever was looked at behind it.
        let elapsed = if ending == Ending::Ready { record.ended } else { self.accepted.elapsed() };
        Attempt {
            id: self.id,
            accepted: self.time,
            listener: self.listener,
            client: self.peer,
            server: self.server,
            our_outgoing: self.our_outgoing,
            dials: self.dials,
            record,
            ending,
            ssl_answered_by_us: self.ssl_answered_by_us,
            elapsed,
            opaque,
        }
    }
}

/// How the time until the verdict ended.
pub(super) enum Verdict {
    /// Over, without two ends to go on with.
    Ending(Ending),
    /// The same, and the client is to be told: SQLSTATE and message.
    Refused(Ending, &'static str, &'static str),
    /// The same, and the client has been told.
    Told(Ending),
    /// The observer has made up its mind.
    Settled(Attention),
}

/// Both ends of a connection. An end that failed in its TLS handshake is gone.
pub(super) struct Ends {
    pub(super) client: Option<Stream>,
    pub(super) server: Option<Stream>,
}

/// Does what a client waits for, unless it leaves and does not get it within [`LEFT`].
pub(super) async fn while_awaited<T>(client: Option<&Stream>, work: impl Future<Output = T>) -> Option<T> {
    let left = async {
        match client {
            Some(client) => client.ended().await,
            None => std::future::pending().await,
        }
        sleep(LEFT).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = left => None,
    }
}

/// How long a login goes on whose client has closed: it may be half-closed, and a server that says nothing
/// would keep it until the deadline.
pub(super) const LEFT: Duration = Duration::from_secs(5);

/// A step on the way to the verdict, or the verdict that it has met.
pub(super) type Step<T> = Result<T, Box<Verdict>>;

/// A step that ends the login.
pub(super) fn over<T>(ending: Ending) -> Step<T> {
    Err(Box::new(Verdict::Ending(ending)))
}

/// What a client is told when the server's leg has no TLS that will do.
pub(super) const NO_SERVER_TLS: &str =
    "pgwhy could not establish TLS with the database server (see pgwhy's report)";
