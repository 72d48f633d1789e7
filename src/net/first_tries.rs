//! Encrypted connections that are still watched for an early end.
//!
//! A driver may try again in plaintext before the server has got round to closing what failed inside TLS. Its first
//! try is reported first: the second one's verdict rests on it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A client's address and the number of its connection: later ones have higher numbers.
type Key = (Option<IpAddr>, u64);

/// Those that are watched now; the limits on connections bound them.
#[derive(Debug, Default)]
pub(super) struct FirstTries {
    watched: Mutex<BTreeSet<Key>>,
    reported: Notify,
}

/// Held until its connection is reported.
#[derive(Debug)]
pub(super) struct FirstTry {
    tries: Arc<FirstTries>,
    key: Key,
}

impl FirstTries {
    /// Notes a connection of this client that is watched from now on.
    pub(super) fn watch(self: &Arc<Self>, client: Option<IpAddr>, id: u64) -> FirstTry {
        let key = (client, id);
        self.watched().insert(key);
        FirstTry { tries: Arc::clone(self), key }
    }

    /// Waits until what this client began before this connection is reported.
    pub(super) async fn reported(&self, client: Option<IpAddr>, id: u64) {
        loop {
            let told = self.reported.notified();
            if self.watched().range((client, 0)..(client, id)).next().is_none() {
                return;
            }
            told.await;
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FirstTry {
    fn drop(&mut self) {
        self.tries.watched().remove(&self.key);
        self.tries.reported.notify_waiters();
    }
}
