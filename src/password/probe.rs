//! One exchange, made ready for testing candidate after candidate.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use super::candidates::Prefixes;
use super::{Budget, Exchange, Reason, mutate, scram};
use crate::secret::Secret;

/// `NAMEDATALEN - 1`: the server cuts longer names to this many bytes.
const MAX_NAME: usize = 63;

/// An exchange that can be tested.
pub(super) enum Probe<'a> {
    Cleartext { sent: &'a [u8] },
    Md5 { users: Vec<(&'a [u8], Target)>, salt: [u8; 4], response: &'a [u8] },
    Scram { auth_message: Vec<u8>, proof: &'a [u8], salt: &'a [u8], iterations: u32 },
}

/// With which user name a candidate fits; only MD5 hashes the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The name of the startup packet, as it should be.
    Startup,
    /// A name longer than the server can store.
    LongName,
    /// Such a name cut to 63 bytes.
    CutName,
    /// A name other than the startup packet's.
    OtherName,
}

impl Target {
    /// What people need to know about it.
    pub(super) fn note(self) -> Option<&'static str> {
        match self {
            Self::Startup => None,
            Self::LongName => Some("hashed with a user name longer than 63 bytes, which the server cuts"),
            Self::CutName => Some("hashed with the user name cut to 63 bytes"),
            Self::OtherName => Some("hashed with another user name than that of the startup packet"),
        }
    }
}

impl<'a> Probe<'a> {
    /// Takes an exchange, or says why no candidate can be tested against it.
    pub(super) fn new(exchange: &Exchange<'a>, startup_user: &'a [u8]) -> Result<Self, Reason> {
        match *exchange {
            Exchange::Cleartext { sent } => Ok(Self::Cleartext { sent }),
            Exchange::Md5 { user, salt, response } => {
                let digits = response.strip_prefix(b"md5").ok_or(Reason::Md5Response)?;
                if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Reason::Md5Response);
                }
                Ok(Self::Md5 { users: users(user, startup_user), salt, response })
            }
            Exchange::Scram {
                client_first_bare,
                server_first,
                client_final_without_proof,
                proof,
                salt,
                iterations,
            } => {
                if iterations == 0 || i32::try_from(iterations).is_err() {
                    return Err(Reason::Iterations);
                }
                if proof.len() != scram::KEY_LEN {
                    return Err(Reason::Proof);
                }
                let auth_message =
                    scram::auth_message(client_first_bare, server_first, client_final_without_proof);
                Ok(Self::Scram { auth_message, proof, salt, iterations })
            }
        }
    }

    /// Whether clients of this exchange may prepare their password with SASLprep.
    pub(super) fn prepares(&self) -> bool {
        matches!(self, Self::Scram { .. })
    }

    /// Which prefixes of the password are worth a try.
    pub(super) fn prefixes(&self) -> Prefixes {
        match self {
            Self::Cleartext { sent } => Prefixes::Of(sent.len()),
            Self::Md5 { .. } => Prefixes::Every,
            Self::Scram { .. } => Prefixes::Some,
        }
    }

    /// How many candidates the budget allows; only PBKDF2 is charged.
    pub(super) fn affordable(&self, budget: Budget) -> usize {
        match self {
            Self::Scram { iterations, .. } => {
                usize::try_from(budget.max_hash_rounds / u64::from(*iterations)).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    /// How an explanation calls what the client sent.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Cleartext { .. } => "the password it sent",
            Self::Md5 { .. } => "its MD5 response",
            Self::Scram { .. } => "its proof",
        }
    }

    /// Whether a client that used exactly these bytes as its password would have sent this.
    pub(super) fn fits(&self, password: &[u8]) -> Option<Target> {
        match self {
            Self::Cleartext { sent } => bool::from(sent.ct_eq(password)).then_some(Target::Startup),
            Self::Md5 { users, salt, response } => users
                .iter()
                .find(|(user, _)| {
                    let made = md5_response(password, user, *salt);
                    made.expose().as_bytes().ct_eq(&response.to_ascii_lowercase()).into()
                })
                .map(|(_, target)| *target),
            Self::Scram { auth_message, proof, salt, iterations } => {
                let salted = scram::salted_password(password, salt, *iterations);
                let stored = scram::stored_key(&scram::client_key(&salted));
                scram::client_proof_fits(&stored, auth_message, proof).then_some(Target::Startup)
            }
        }
    }
}

/// `md5` and `md5(hex(md5(password ‖ user)) ‖ salt)` (`pg_md5_encrypt`, `md5_crypt_verify` in crypt.c).
fn md5_response(password: &[u8], user: &[u8], salt: [u8; 4]) -> Secret<String> {
    let inner = Secret::new(mutate::hex(&Md5::new().chain_update(password).chain_update(user).finalize()));
    let outer = Md5::new().chain_update(inner.expose()).chain_update(salt).finalize();
    Secret::new(format!("md5{}", mutate::hex(&outer)))
}

/// The names that may be in the hash: the client's, the startup packet's, and each cut as the server cuts it.
fn users<'a>(user: &'a [u8], startup_user: &'a [u8]) -> Vec<(&'a [u8], Target)> {
    let whole = |name: &[u8], own| if name.len() > MAX_NAME { Target::LongName } else { own };
    let mut names = vec![(startup_user, whole(startup_user, Target::Startup))];
    if user != startup_user {
        names.push((user, whole(user, Target::OtherName)));
    }
    let cut: Vec<_> = names
        .iter()
        .filter(|(name, _)| name.len() > MAX_NAME)
        .map(|(name, _)| (cut_name(name), Target::CutName))
        .collect();
    names.extend(cut);
    names
}

/// `pg_mbcliplen` in UTF-8: no character is cut in half.
fn cut_name(name: &[u8]) -> &[u8] {
    let mut end = MAX_NAME;
    while end > 0 && name[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &name[..end]
}
