//! Which server a cancel request is for.
//!
//! A key is process id and secret as BackendKeyData gave them. Only a hash of it is kept: it is
//! smaller than the 260 bytes that a key may have, and no secret.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::endpoint::PeerAddr;

/// The keys of the live connections. One entry per connection, so the limit of connections is its bound.
#[derive(Debug, Default)]
pub(super) struct CancelKeys {
    hasher: RandomState,
    servers: Mutex<HashMap<u64, Target>>,
}

/// Where a key leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) addr: PeerAddr,
    /// The host that the address is of, as configured.
    pub(super) host: String,
}

impl CancelKeys {
    /// Remembers where `key` leads; the answer is what [`Self::forget`] wants.
    pub(super) fn learn(&self, key: &[u8], server: Target) -> u64 {
        let hash = self.hasher.hash_one(key);
        self.servers().insert(hash, server);
        hash
    }

    pub(super) fn forget(&self, hash: u64) {
        self.servers().remove(&hash);
    }

    /// The server that gave out `key`.
    pub(super) fn server(&self, key: &[u8]) -> Option<Target> {
        self.servers().get(&self.hasher.hash_one(key)).cloned()
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<u64, Target>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_leads_to_its_server_until_it_is_forgotten() {
        let keys = CancelKeys::default();
        let addr = PeerAddr::Tcp("127.0.0.1:5432".parse().unwrap());
        let server = Target { addr, host: "localhost".into() };
        for length in [8, 36, 260] {
            let key = vec![7; length];
            let hash = keys.learn(&key, server.clone());
            assert_eq!(keys.server(&key), Some(server.clone()), "{length}");
            assert_eq!(keys.server(&key[1..]), None, "{length}");
            keys.forget(hash);
            assert_eq!(keys.server(&key), None, "{length}");
        }
    }
}
