//! What the sessions of a proxy share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, watch};

use crate::password::bridge::Worth;

use super::attempt::Sink;
use super::buffers::Buffers;
use super::cancel::CancelKeys;
use super::dial::Dialer;
use super::engine::Engine;
use super::first_tries::FirstTries;
use super::limits::{Gate, Limits};
use super::salted::SaltedKeys;
use super::tls::{Login, Tls};
use super::trial::{JUST_NOW, SUCCESS_KEPT, Trials, Way};

/// What every session needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tls: Tls,
    pub(super) keys: SaltedKeys,
    /// Whether the password that we know works.
    pub(super) trials: Trials,
    pub(super) limits: Limits,
    pub(super) dialer: Dialer,
    pub(super) engine: Engine,
    pub(super) registry: Arc<Registry>,
    pub(super) gate: Arc<Gate>,
    pub(super) next_id: AtomicU64,
    pub(super) phase: watch::Sender<Phase>,
    /// Refused clients that are given time to read why.
    pub(super) lingering: Arc<Semaphore>,
    /// Sessions whose first request may be waited for before they move to the engine.
    pub(super) first_words: Semaphore,
}

impl Shared {
    /// Ends every connection.
    pub(super) fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.engine.close_all();
    }

    /// Whether the login that we know works on the server.
    pub(super) async fn worth(&self, login: &Login, over_tls: bool) -> Worth {
        self.trials.worth(login, self.way(over_tls), SUCCESS_KEPT).await
    }

    /// As [`Shared::worth`], and a success of before does not count.
    pub(super) async fn worth_now(&self, login: &Login, over_tls: bool) -> Worth {
        self.trials.worth(login, self.way(over_tls), JUST_NOW).await
    }

    /// How connections of our own get to the server.
    pub(super) fn way(&self, over_tls: bool) -> Way<'_> {
        Way { dialer: &self.dialer, tls: &self.tls, keys: &self.keys, over_tls }
    }

    /// Waits until every connection is to end.
    pub(super) async fn stopped(&self) {
        let mut phase = self.phase.subscribe();
        // The sender is in `self`, so waiting can't fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }
}

/// What outlives the session of a connection in the engine. It must not hold the engine: the engine's
/// own threads may drop the last reference, and they can't join themselves.
pub(super) struct Registry {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) keys: CancelKeys,
    pub(super) buffers: Buffers,
    pub(super) first_tries: Arc<FirstTries>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The life of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// No new connections.
    Draining,
    /// No connections at all.
    Stopped,
}
