//! SaltedPasswords of the password that we know.

use std::sync::{Arc, Mutex, PoisonError};

use crate::password::bridge::Credential;
use crate::password::scram::Key;

/// Kept, as PBKDF2 is most of a login's work, and a server
/// shows the same salt every time.
#[derive(Debug, Default)]
pub(super) struct SaltedKeys {
    kept: Mutex<Vec<(Vec<u8>, u32, Key)>>,
}

impl SaltedKeys {
    /// The one for this salt: of before, or made off the I/O threads.
    pub(super) async fn made(
        &self,
        credential: &Arc<Credential>,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Option<Key> {
        if let Some(key) = self.get(&salt, iterations) {
            return Some(key);
        }
        let credential = Arc::clone(credential);
        let wanted = salt.clone();
        let made = tokio::task::spawn_blocking(move || credential.salted_password(&wanted, iterations));
        let key = made.await.ok()??;
        self.put(salt, iterations, key.clone());
        Some(key)
    }

    fn get(&self, salt: &[u8], iterations: u32) -> Option<Key> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(with, count, _)| with == salt && *count == iterations);
        found.map(|(_, _, key)| key.clone())
    }

    fn put(&self, salt: Vec<u8>, iterations: u32, key: Key) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Logins that came together have made it together.
        kept.retain(|(with, count, _)| *with != salt || *count != iterations);
        if kept.len() >= KEYS_KEPT {
            kept.remove(0);
        }
        kept.push((salt, iterations, key));
    }
}

/// A server shows one salt for each role, and a made-up one for one that is not there.
const KEYS_KEPT: usize = 16;
