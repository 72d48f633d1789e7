//! The mock salt: what the server sends as the salt of a role that has no usable SCRAM secret.
//!
//! So that nobody can tell whether a role exists, PostgreSQL makes up a salt. It is a hash of the
//! user's name and of a nonce that `initdb` draws once for the cluster, so it is the same each
//! time: whoever has the nonce (`pg_controldata` prints it) can tell a made-up salt from a real one.
//! `scram_mock_salt` in auth-scram.c (`scram_MockSalt` up to 13); the same in 10 to 18.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Length of the salts that PostgreSQL makes (`SCRAM_DEFAULT_SALT_LEN`).
pub const MOCK_SALT_LEN: usize = 16;

/// Bytes of a name that the server keeps (`NAMEDATALEN - 1`).
const NAME_LEN: usize = 63;

/// SHA-256(user ‖ nonce), cut to 16 bytes (`scram_mock_salt`).
///
/// `user` is the name of the startup packet, byte for byte: the name inside the SCRAM messages is
/// ignored by the server, and nothing is normalised. A longer name than 63 bytes is cut first, as
/// `ProcessStartupPacket` does.
pub fn mock_salt(user: &[u8], nonce: &[u8; 32]) -> [u8; MOCK_SALT_LEN] {
    salt_of(user.get(..NAME_LEN).unwrap_or(user), nonce)
}

/// Whether `salt` is the mock salt of this user, also on 17.0 to 17.2, which do not cut the name.
pub fn is_mock_salt(salt: &[u8], user: &[u8], nonce: &[u8; 32]) -> bool {
    let cut = mock_salt(user, nonce).as_slice().ct_eq(salt);
    let whole = salt_of(user, nonce).as_slice().ct_eq(salt);
    (cut | whole).into()
}

fn salt_of(user: &[u8], nonce: &[u8; 32]) -> [u8; MOCK_SALT_LEN] {
    let digest: [u8; 32] = Sha256::new().chain_update(user).chain_update(nonce).finalize().into();
    let mut salt = [0; MOCK_SALT_LEN];
    salt.copy_from_slice(&digest[..MOCK_SALT_LEN]);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256_of_name_and_nonce() {
        // Python: hashlib.sha256(b'ghost' + bytes(range(32))).hexdigest()[:32]
        let nonce = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hex: String = mock_salt(b"ghost", &nonce).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "04154c3ea48c1cd84d3d523cf48aab1d");
        assert!(is_mock_salt(&mock_salt(b"ghost", &nonce), b"ghost", &nonce));
        assert!(!is_mock_salt(&mock_salt(b"ghost", &nonce), b"Ghost", &nonce));
        assert!(!is_mock_salt(&mock_salt(b"ghost", &nonce)[..15], b"ghost", &nonce));
    }

    #[test]
    fn a_long_name_is_cut_or_not() {
        let (nonce, long) = ([7; 32], [b'a'; 70]);
        assert_eq!(mock_salt(&long, &nonce), mock_salt(&long[..63], &nonce));
        assert!(is_mock_salt(&mock_salt(&long, &nonce), &long, &nonce));
        assert!(is_mock_salt(&salt_of(&long, &nonce), &long, &nonce));
    }
}
