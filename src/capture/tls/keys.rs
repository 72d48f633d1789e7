//! From the secrets of a key log to keys, and from records to what they hold: RFC 8446 sections 5.2 and 7,
//! RFC 5246 sections 5 and 6.3, RFC 5288 (GCM), RFC 7905 (ChaCha20).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

/// Of what a suite is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    cipher: Cipher,
    hash: Hash,
    /// TLS 1.3.
    pub(super) new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

impl Suite {
    /// A suite by its number; `None` of those with CBC and others that are not opened.
    pub(super) fn new(number: u16) -> Option<Self> {
        let (cipher, hash) = match number {
            0x1301 | 0x009c | 0x009e | 0xc02b | 0xc02f => (Cipher::Aes128Gcm, Hash::Sha256),
            0x1302 | 0x009d | 0x009f | 0xc02c | 0xc030 => (Cipher::Aes256Gcm, Hash::Sha384),
            0x1303 | 0xcca8 | 0xcca9 | 0xccaa => (Cipher::ChaCha20, Hash::Sha256),
            _ => return None,
        };
        Some(Self { cipher, hash, new: number >> 8 == 0x13 })
    }

    fn algorithm(self) -> &'static Algorithm {
        match self.cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20 => &CHACHA20_POLY1305,
        }
    }

    /// The part of a nonce that both sides know from the handshake.
    fn fixed(self) -> usize {
        if !self.new && self.cipher != Cipher::ChaCha20 { 4 } else { NONCE }
    }

    /// The keys of one direction from its TLS 1.3 secret.
    pub(super) fn keys_of(self, secret: &[u8]) -> Option<Keys> {
        let key = self.expand(secret, b"key", self.algorithm().key_len());
        let iv = self.expand(secret, b"iv", NONCE);
        Keys::new(self, &key, &iv)
    }

    /// The secret that follows on a KeyUpdate.
    pub(super) fn next_secret(self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        self.expand(secret, b"traffic upd", secret.len())
    }

    /// The keys of the client and of the server from the master secret of TLS 1.2.
    pub(super) fn keys_of_both(self, master: &[u8], client: &[u8], server: &[u8]) -> Option<[Keys; 2]> {
        let (key, iv) = (self.algorithm().key_len(), self.fixed());
        let seed = [b"key expansion".as_slice(), server, client].concat();
        let mut block = Zeroizing::new(Vec::new());
        let mut link = self.hmac(master, &[&seed]);
        while block.len() < 2 * (key + iv) {
            block.extend_from_slice(&self.hmac(master, &[&link, &seed]));
            link = self.hmac(master, &[&link]);
        }
        let (keys, ivs) = block.split_at_checked(2 * key)?;
        let pair = |at: usize| {
            Keys::new(self, keys.get(at * key..(at + 1) * key)?, ivs.get(at * iv..(at + 1) * iv)?)
        };
        Some([pair(0)?, pair(1)?])
    }

    /// HKDF-Expand-Label without a context, of no more than one block: RFC 8446 section 7.1.
    fn expand(self, secret: &[u8], label: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        let size = u8::try_from(length).unwrap_or(u8::MAX);
        let name = u8::try_from(PREFIX.len() + label.len()).unwrap_or(u8::MAX);
        let mut block = self.hmac(secret, &[&[0, size, name], PREFIX, label, &[0], &[1]]);
        block.truncate(length);
        block
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        // A key of HMAC may have any length.
        macro_rules! compute {
            ($hash:ty) => {
                match Hmac::<$hash>::new_from_slice(key) {
                    Ok(mut mac) => {
                        parts.iter().for_each(|part| mac.update(part));
                        mac.finalize().into_bytes().to_vec()
                    }
                    Err(_) => Vec::new(),
                }
            };
        }
        Zeroizing::new(match self.hash {
            Hash::Sha256 => compute!(Sha256),
            Hash::Sha384 => compute!(Sha384),
        })
    }
}

const PREFIX: &[u8] = b"tls13 ";
const NONCE: usize = 12;
/// The tag of all three ciphers.
const TAG: usize = 16;

/// The keys of one direction, and the number of its next record.
#[derive(Debug)]
pub(super) struct Keys {
    suite: Suite,
    key: LessSafeKey,
    iv: Zeroizing<Vec<u8>>,
    number: u64,
}

impl Keys {
    fn new(suite: Suite, key: &[u8], iv: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(suite.algorithm(), key).ok()?);
        Some(Self { suite, key, iv: Zeroizing::new(iv.to_vec()), number: 0 })
    }

    /// Opens the next record, given whole: the type of what is inside, and that. `None` where the keys don't
    /// fit.
    pub(super) fn open(&mut self, record: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (head, body) = record.split_at_checked(HEAD)?;
        let mut nonce = [0; NONCE];
        let explicit = NONCE - self.suite.fixed();
        nonce.get_mut(..self.suite.fixed())?.copy_from_slice(&self.iv);
        let number = self.number.to_be_bytes();
        if explicit > 0 {
            nonce.get_mut(NONCE - explicit..)?.copy_from_slice(body.get(..explicit)?);
        } else {
            nonce.iter_mut().skip(4).zip(number).for_each(|(byte, number)| *byte ^= number);
        }
        let mut inside = body.get(explicit..)?.to_vec();
        let length = u16::try_from(inside.len().checked_sub(TAG)?).ok()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut covered = head.to_vec();
        if !self.suite.new {
            covered = [&number, head.get(..3)?, &length.to_be_bytes()].concat();
        }
        let opened = self.key.open_in_place(nonce, Aad::from(covered), &mut inside).ok()?.len();
        inside.truncate(opened);
        self.number += 1;
        if !self.suite.new {
            return Some((*head.first()?, inside));
        }
        // The type is the last byte that is not padding.
        let last = inside.iter().rposition(|byte| *byte != 0)?;
        let kind = inside.get(last).copied()?;
        inside.truncate(last);
        Some((kind, inside))
    }
}

/// Type, version and length of a record.
pub(super) const HEAD: usize = 5;
