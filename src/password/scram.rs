//! The arithmetic of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677), as PostgreSQL does it
//! (`src/common/scram-common.c`, `src/backend/libpq/auth-scram.c`).
//!
//! PBKDF2 runs on SHA-256's compression function directly: an HMAC whose key stays the same costs
//! two compressions a round when its two padded key blocks are compressed once and then reused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::saslprep;
use crate::secret::Secret;

/// Length of SHA-256's output and so of every SCRAM-SHA-256 key (`SCRAM_SHA_256_KEY_LEN`).
pub const KEY_LEN: usize = 32;

/// A key of the SCRAM computation; who has one can do harm, so it is a secret.
pub type Key = Secret<[u8; KEY_LEN]>;

/// SHA-256 works on blocks of this many bytes (FIPS 180-4).
const BLOCK_LEN: usize = 64;

/// SHA-256's initial hash value (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SaltedPassword := Hi(password, salt, iterations) (RFC 5802 section 2.2; `scram_SaltedPassword`).
///
/// `password` is what the client puts in: prepare it first where the client does
/// ([`saslprep::prepare`]). An iteration count of 0 is taken as 1.
pub fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut key = padded_key(password);
    let mut inner = keyed_state(&key, 0x36);
    let mut outer = keyed_state(&key, 0x5c);
    let mut first = Hmac::<Sha256>::new(&key.into());
    key.zeroize();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut round: [u8; KEY_LEN] = first.finalize().into_bytes().into();
    let mut result = round;
    let mut block = [0_u8; BLOCK_LEN];
    // Both hashes of a round digest one key block and 32 bytes: the padding never changes.
    block[KEY_LEN] = 0x80;
    block[BLOCK_LEN - 8..].copy_from_slice(&(8 * (BLOCK_LEN + KEY_LEN) as u64).to_be_bytes());
    for _ in 1..iterations {
        block[..KEY_LEN].copy_from_slice(&round);
        compress_into(inner, &block, &mut round);
        block[..KEY_LEN].copy_from_slice(&round);
        compress_into(outer, &block, &mut round);
        for (sum, byte) in result.iter_mut().zip(&round) {
            *sum ^= byte;
        }
    }
    let salted = Secret::new(result);
    result.zeroize();
    round.zeroize();
    block.zeroize();
    inner.zeroize();
    outer.zeroize();
    salted
}

/// ClientKey := HMAC(SaltedPassword, "Client Key") (`scram_ClientKey`).
pub fn client_key(salted_password: &Key) -> Key {
    hmac_sha256(salted_password.expose(), &[b"Client Key"])
}

/// StoredKey := H(ClientKey) (`scram_H`).
pub fn stored_key(client_key: &Key) -> Key {
    Secret::new(Sha256::digest(client_key.expose()).into())
}

/// ServerKey := HMAC(SaltedPassword, "Server Key") (`scram_ServerKey`).
pub fn server_key(salted_password: &Key) -> Key {
    hmac_sha256(salted_password.expose(), &[b"Server Key"])
}

/// AuthMessage := client-first-message-bare "," server-first-message ","
/// client-final-message-without-proof (RFC 5802 section 3).
pub fn auth_message(
    client_first_bare: &[u8],
    server_first: &[u8],
    client_final_without_proof: &[u8],
) -> Vec<u8> {
    [client_first_bare, server_first, client_final_without_proof].join(&b","[..])
}

/// The client's proof for this key and conversation (RFC 5802 section 3).
pub fn client_proof(client_key: &Key, auth_message: &[u8]) -> Key {
    let signature = hmac_sha256(stored_key(client_key).expose(), &[auth_message]);
    Secret::new(xor(client_key.expose(), signature.expose()))
}

/// Whether a client's proof was made with the password behind `stored_key`, in constant time
/// (`verify_client_proof`). A proof of another length than 32 bytes does not fit.
pub fn client_proof_fits(stored_key: &Key, auth_message: &[u8], proof: &[u8]) -> bool {
    client_key_of_proof(stored_key, auth_message, proof).is_some()
}

/// The ClientKey that a right proof gives away: who holds StoredKey and sees one can log in as
/// this client elsewhere. `None` where [`client_proof_fits`] says no.
pub fn client_key_of_proof(stored_key: &Key, auth_message: &[u8], proof: &[u8]) -> Option<Key> {
    let proof = <&[u8; KEY_LEN]>::try_from(proof).ok()?;
    let signature = hmac_sha256(stored_key.expose(), &[auth_message]);
    let client_key = Secret::new(xor(proof, signature.expose()));
    let made_with = self::stored_key(&client_key);
    bool::from(made_with.expose().ct_eq(stored_key.expose())).then_some(client_key)
}

/// ServerSignature := HMAC(ServerKey, AuthMessage), which the server sends as `v=`
/// (`build_server_final_message`).
pub fn server_signature(server_key: &Key, auth_message: &[u8]) -> Key {
    hmac_sha256(server_key.expose(), &[auth_message])
}

/// Whether the server's `v=` (decoded) was made by who holds the secret of this password: the
/// prepared form is tried, then the form as written (`verify_server_signature`, fe-auth-scram.c).
pub fn server_signature_fits(
    password: &str,
    salt: &[u8],
    iterations: u32,
    auth_message: &[u8],
    signature: &[u8],
) -> bool {
    let raw = Secret::new(password.as_bytes().to_vec());
    let prepared = saslprep::prepare(password.as_bytes());
    prepared.iter().chain([&raw]).any(|form| {
        let key = server_key(&salted_password(form.expose(), salt, iterations));
        server_signature(&key, auth_message).expose().ct_eq(signature).into()
    })
}

/// A stored secret of `pg_authid.rolpassword`: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone, Debug)]
pub struct ScramSecret {
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// The salt, decoded.
    pub salt: Vec<u8>,
    /// StoredKey: proves a client.
    pub stored_key: Key,
    /// ServerKey: proves the server.
    pub server_key: Key,
}

impl ScramSecret {
    /// Reads the stored form as strictly as `parse_scram_secret` (auth-scram.c); `None` when it is
    /// anything else, an MD5 hash or a password stored by mistake for instance.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        if !iterations.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let iterations = iterations.parse::<i32>().ok().and_then(|i| u32::try_from(i).ok())?;
        let decode = |text: &str| BASE64.decode(text).ok();
        let key = |text: &str| Some(Secret::new(<[u8; KEY_LEN]>::try_from(decode(text)?).ok()?));
        (iterations > 0).then_some(())?;
        Some(Self { iterations, salt: decode(salt)?, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// The secret that the server would store for this password (`scram_build_secret`).
    pub fn build(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let prepared = saslprep::prepare(password);
        let form = prepared.as_ref().map_or(password, |p| p.expose().as_slice());
        let salted = salted_password(form, salt, iterations);
        let stored_key = stored_key(&client_key(&salted));
        Self { iterations, salt: salt.to_vec(), stored_key, server_key: server_key(&salted) }
    }

    /// Whether this secret was made from this password (`scram_verify_plain_password`).
    pub fn fits_password(&self, password: &str) -> bool {
        let other = Self::build(password.as_bytes(), &self.salt, self.iterations);
        other.stored_key.expose().ct_eq(self.stored_key.expose()).into()
    }

    /// The text as it stands in `pg_authid.rolpassword`.
    pub fn to_text(&self) -> Secret<String> {
        let encode = |bytes: &[u8]| Secret::new(BASE64.encode(bytes));
        Secret::new(format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt).expose(),
            encode(self.stored_key.expose()).expose(),
            encode(self.server_key.expose()).expose()
        ))
    }
}

fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> Key {
    let mut padded = padded_key(key);
    let mut mac = Hmac::<Sha256>::new(&padded.into());
    padded.zeroize();
    message.iter().for_each(|part| mac.update(part));
    Secret::new(mac.finalize().into_bytes().into())
}

/// HMAC's key block: zeros behind a short key, the hash of a long one (RFC 2104 section 2).
fn padded_key(key: &[u8]) -> [u8; BLOCK_LEN] {
    let mut block = [0_u8; BLOCK_LEN];
    if key.len() > BLOCK_LEN {
        block[..KEY_LEN].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

fn keyed_state(key: &[u8; BLOCK_LEN], pad: u8) -> [u32; 8] {
    let mut block = key.map(|byte| byte ^ pad);
    let mut state = INITIAL;
    compress256(&mut state, &[block]);
    block.zeroize();
    state
}

fn compress_into(mut state: [u32; 8], block: &[u8; BLOCK_LEN], out: &mut [u8; KEY_LEN]) {
    compress256(&mut state, std::slice::from_ref(block));
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

fn xor(left: &[u8; KEY_LEN], right: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    let mut out = *left;
    out.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b64(text: &str) -> Vec<u8> {
        BASE64.decode(text).unwrap()
    }

    #[test]
    fn rfc_7677_section_3() {
        let salted = salted_password(b"pencil", &b64("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096);
        let message = auth_message(
            b"n=user,r=rOprNGfwEbeRWgbNEkqO",
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        );
        let proof = b64("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let client_key = client_key(&salted);
        assert_eq!(client_proof(&client_key, &message).expose(), proof.as_slice());
        assert!(client_proof_fits(&stored_key(&client_key), &message, &proof));
        assert!(!client_proof_fits(&stored_key(&client_key), &message, &proof[..31]));
        let signature = b64("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(server_signature(&server_key(&salted), &message).expose(), signature.as_slice());
        let salt = b64("W22ZaJ0SNY7soEsUEjb6gQ==");
        assert!(server_signature_fits("pencil", &salt, 4096, &message, &signature));
        assert!(!server_signature_fits("pencils", &salt, 4096, &message, &signature));
    }

    #[test]
    fn pbkdf2_of_a_password_longer_than_a_block() {
        // Python: hashlib.pbkdf2_hmac('sha256', b'x' * 100, b'salt', 3).hex()
        let expected = "59bfa49750dd5462ce38370a1e7abe0736ff334cf1c2f0d84f23a03435d660d1";
        let got: String =
            salted_password(&[b'x'; 100], b"salt", 3).expose().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn secret_is_read_written_and_checked() {
        let secret = ScramSecret::build(b"correct-pw", b"0123456789abcdef", 4096);
        let text = secret.to_text();
        let read = ScramSecret::parse(text.expose()).unwrap();
        assert!(read.fits_password("correct-pw") && !read.fits_password("correct-pw "));
        assert!(!format!("{read:?}").contains(text.expose().rsplit(':').next().unwrap()));
        for bad in
            ["", "md50123", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-256$0:AAAA$", "SCRAM-SHA-256"]
        {
            assert!(ScramSecret::parse(bad).is_none(), "{bad}");
        }
    }
}
