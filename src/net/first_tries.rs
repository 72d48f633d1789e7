//! Encrypted connections that are still watched for an early end.
//!
//! A driver may try again in plaintext before the server has got round to closing what failed inside TLS. Its first
//! try is reported first: the second one's verdict rests on it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Those that are watched now; the limits on connections bound them.
#[derive(Debug, Default)]
pub(super) struct FirstTries {
    watched: Mutex<Vec<(Option<IpAddr>, u64)>>,
    reported: Notify,
}

/// Held until its connection is reported.
#[derive(Debug)]
pub(super) struct FirstTry {
    tries: Arc<FirstTries>,
    id: u64,
}

impl FirstTries {
    /// Notes a connection of this client that is watched from now on.
    pub(super) fn watch(self: &Arc<Self>, client: Option<IpAddr>, id: u64) -> FirstTry {
        self.watched().push((client, id));
        FirstTry { tries: Arc::clone(self), id }
    }

    /// Waits until what this client began before this connection is reported.
    pub(super) async fn reported(&self, client: Option<IpAddr>, id: u64) {
        loop {
            let told = self.reported.notified();
            if !self.watched().iter().any(|(ip, earlier)| *ip == client && *earlier < id) {
                return;
            }
            told.await;
        }
    }

    fn watched(&self) -> MutexGuard<'_, Vec<(Option<IpAddr>, u64)>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FirstTry {
    fn drop(&mut self) {
        self.tries.watched().retain(|(_, id)| *id != self.id);
        self.tries.reported.notify_waiters();
    }
}
