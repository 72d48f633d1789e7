//! SCRAM on both legs at once: pgwhy is the server to the client and the client to the server.
//!
//! A proof is bound to its conversation, so what a client proves here can't be passed on: with TLS opened on
//! both legs, SCRAM-SHA-256-PLUS can't be either. Who knows the password, or the secret that
//! the server stores, can hold both conversations itself. This is that, without sockets, clock or randomness:
//! frames go in, frames come out, and in the end there is an [`Outcome`].
//!
//! ```text
//!   server          bridge                     client
//!   R10 mechanisms ->                           |       AuthenticationSASL
//!                  <- client-first   R10 ours  ->
//!   server-first   ->                <- client-first
//!                     Need::Key      server-first ->    the server's salt, our nonce
//!                                    <- client-final    the proof is judged here
//!                  <- client-final
//!   server-final   ->                server-final ->    AuthenticationOk and the rest: the caller
//! ```
//!
//! The server leg waits for the client's proof: nobody makes us log in who has not proved to know the password. In
//! the place of a wrong proof the server gets another wrong one, so that it refuses, delays and logs as it does
//! without us, and its refusal is the client's. RFC 5802 and 7677; PostgreSQL's `auth-scram.c`, `auth-sasl.c` and
//! `fe-auth-scram.c`.

mod alone;
mod client_leg;
mod fault;
mod server_leg;

#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

use super::saslprep;
use super::scram::{self, Key, ScramSecret};
use crate::secret::Secret;
use crate::wire::backend::Backend;
pub use alone::{Alone, Worth};
use client_leg::ClientLeg;
pub use fault::{Fault, ITERATIONS, NONCE, SECRET, SIGNATURE, Side};
use server_leg::{Progress, ServerLeg};

/// Bytes of randomness that a bridge wants: two nonces of PostgreSQL's length (`SCRAM_RAW_NONCE_LEN`).
pub const ENTROPY: usize = 36;
/// Most PBKDF2 rounds that a server may ask of us: a quarter of a second of one core. PostgreSQL's default
/// is 4,096.
pub const MAX_ITERATIONS: u32 = 1_000_000;
/// The longest SASL message of a client, as PostgreSQL has it (`PG_MAX_SASL_MESSAGE_LENGTH`).
pub const MAX_CLIENT_MESSAGE: usize = 1_024;
/// The longest SASL message of a server: a nonce, a salt and a number, with room for odd servers.
pub const MAX_SERVER_MESSAGE: usize = 8_192;
/// Most notices that a server may send in the middle of SCRAM; PostgreSQL sends none.
const MAX_NOTICES: usize = 8;

/// The mechanism without channel binding.
pub const SCRAM: &[u8] = b"SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The only channel binding that PostgreSQL knows, as a gs2 header.
const END_POINT: &[u8] = b"p=tls-server-end-point,,";

/// What is known of the user's password.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The password itself.
    Password(Secret<String>),
    /// What the server stores of it. It checks a client; it logs in on the server only with what a
    /// right proof gives away, and only where the server stores this very secret.
    ScramSecret(ScramSecret),
}

/// Why a text is no SCRAM secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// It does not begin with `SCRAM-SHA-256$`.
    #[error("it does not begin with SCRAM-SHA-256$")]
    Scheme,
    /// It is an MD5 hash.
    #[error("it is an MD5 hash, which proves nothing in SCRAM")]
    Md5,
    /// The parts are not `iterations:salt$StoredKey:ServerKey`.
    #[error("behind SCRAM-SHA-256$ it is not iterations:salt$StoredKey:ServerKey")]
    Parts,
    /// The iterations are no number from 1 on.
    #[error("its iteration count is no number from 1 to 2147483647")]
    Iterations,
    /// The salt or a key is not base64, or a key not 32 bytes.
    #[error("its salt is no base64, or a key of it is not 32 bytes in base64")]
    Encoding,
}

impl Credential {
    /// Reads a SCRAM secret as it stands in `pg_authid.rolpassword`.
    pub fn secret(text: &str) -> Result<Self, SecretProblem> {
        if let Some(secret) = ScramSecret::parse(text) {
            return Ok(Self::ScramSecret(secret));
        }
        let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") else {
            let is_md5 = text.strip_prefix("md5").is_some_and(|hex| hex.len() == 32);
            return Err(if is_md5 { SecretProblem::Md5 } else { SecretProblem::Scheme });
        };
        let parts = rest
            .split_once('$')
            .and_then(|(head, keys)| Some((head.split_once(':')?.0, keys.split_once(':')?.0)));
        let Some((iterations, _)) = parts else { return Err(SecretProblem::Parts) };
        match iterations.parse::<i32>() {
            Ok(1..) => Err(SecretProblem::Encoding),
            _ => Err(SecretProblem::Iterations),
        }
    }

    /// SaltedPassword for [`Need::Key`], for the caller to make off the I/O threads and to keep: PBKDF2
    /// takes a millisecond. `None` for a secret, which needs no key.
    pub fn salted_password(&self, salt: &[u8], iterations: u32) -> Option<Key> {
        let Self::Password(password) = self else { return None };
        let raw = password.expose().as_bytes();
        let prepared = saslprep::prepare(raw);
        let form = prepared.as_ref().map_or(raw, |prepared| prepared.expose());
        Some(scram::salted_password(form, salt, iterations))
    }
}

/// A leg as channel binding sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// In clear.
    Plain,
    /// TLS.
    Tls {
        /// tls-server-end-point of the certificate that the server of this leg showed (see
        /// `certs::end_point_hash`); `None` where its signature has no hash to bind with.
        end_point: Option<Vec<u8>>,
    },
}

impl Leg {
    fn end_point(&self) -> Option<&[u8]> {
        match self {
            Self::Tls { end_point } => end_point.as_deref(),
            Self::Plain => None,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A whole message of the server: its type and what follows its length word.
    Server {
        /// The type byte.
        tag: u8,
        /// The body.
        body: &'a [u8],
    },
    /// A whole message of the client.
    Client {
        /// The type byte.
        tag: u8,
        /// The body.
        body: &'a [u8],
    },
    /// The key that [`Need::Key`] asked for.
    KeyReady(Key),
}

/// What the bridge waits for, beside frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// SaltedPassword for this salt and count: [`Credential::salted_password`], then [`Event::KeyReady`].
    Key {
        /// The salt, decoded.
        salt: Vec<u8>,
        /// PBKDF2 rounds, at most [`MAX_ITERATIONS`].
        iterations: u32,
    },
}

/// What is to be done after an event.
#[derive(Default, PartialEq, Eq)]
pub struct Moves {
    /// Whole messages for the client. Secret: the server's signature is in them.
    pub to_client: Zeroizing<Vec<u8>>,
    /// Whole messages for the server. Secret: a proof is in them.
    pub to_server: Zeroizing<Vec<u8>>,
    /// What is needed to go on.
    pub need: Option<Need>,
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves")
            .field("to_client", &self.to_client.len())
            .field("to_server", &self.to_server.len())
            .field("need", &self.need)
            .finish()
    }
}

/// How it ended. Whatever was to be told to the client is in the last [`Moves`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both are logged in: what the server sends from now on, AuthenticationOk first, is the client's.
    Both,
    /// The server refused with an ErrorResponse, which the client got as it was.
    ServerRefused {
        /// Whether the client's proof fitted our credential; `None` if it was not there yet.
        proof_fits: Option<bool>,
        /// Whether we had sent our proof: then the expected password is not the server's.
        after_our_proof: bool,
    },
    /// The conversation can't go on. The client got an ErrorResponse that says why.
    Fault {
        /// Who is at fault.
        side: Side,
        /// What is wrong.
        fault: Fault,
    },
}

/// Two SCRAM conversations that become one login.
#[derive(Debug)]
pub struct Bridge {
    credential: Credential,
    user: Vec<u8>,
    client: ClientLeg,
    server: ServerLeg,
    keys: Option<Keys>,
    notices: usize,
    outcome: Option<Outcome>,
}

/// What both conversations are checked with.
#[derive(Debug)]
struct Keys {
    stored: Key,
    server: Key,
}

impl Keys {
    fn of(salted_password: &Key) -> Self {
        let stored = scram::stored_key(&scram::client_key(salted_password));
        Self { stored, server: scram::server_key(salted_password) }
    }
}

impl Bridge {
    /// Whether a server that offers these mechanisms can be bridged at all.
    pub fn is_possible(mechanisms: &[&[u8]]) -> bool {
        mechanisms.iter().any(|mechanism| [SCRAM, SCRAM_PLUS].contains(mechanism))
    }

    /// Starts before the server's AuthenticationSASL, which is the first event. `user` is the one of the startup packet;
    /// `entropy` must come from the system and be used once.
    pub fn new(
        credential: Credential,
        user: &[u8],
        client: Leg,
        server: Leg,
        entropy: &[u8; ENTROPY],
    ) -> Self {
        let (for_client, for_server) = entropy.split_at(ENTROPY / 2);
        let keys = match &credential {
            Credential::Password(_) => None,
            Credential::ScramSecret(secret) => {
                Some(Keys { stored: secret.stored_key.clone(), server: secret.server_key.clone() })
            }
        };
        Self {
            credential,
            user: user.to_vec(),
            client: ClientLeg::new(client, for_client),
            server: ServerLeg::new(server, for_server),
            keys,
            notices: 0,
            outcome: None,
        }
    }

    /// The credential that it was made with.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// How it ended, if it has. From then on events change nothing.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether a message of the client is a part of this: what comes behind its proof waits for the outcome.
    pub fn hears_client(&self) -> bool {
        self.client.proof_fits().is_none()
    }

    /// Whether the server leg is bound to its channel; `None` before the server has said what it offers.
    pub fn binds_server(&self) -> Option<bool> {
        self.server.binds()
    }

    /// Whether the client bound to its channel; `None` before it has said so.
    pub fn binds_client(&self) -> Option<bool> {
        self.client.binds()
    }

    /// Takes an event and says what is to be done.
    pub fn on(&mut self, event: &Event<'_>) -> Moves {
        let mut moves = Moves::default();
        if self.outcome.is_some() {
            return moves;
        }
        let done = match event {
            Event::Server { tag, body } => self.on_server(*tag, body, &mut moves),
            Event::Client { tag, body } => self.on_client(*tag, body, &mut moves),
            Event::KeyReady(key) => {
                self.take_key(key);
                Ok(())
            }
        };
        if let Err((side, fault)) = done {
            // A message that leads to an error is not half done: what it would have caused is not sent.
            moves = Moves::default();
            self.fail(side, fault, &mut moves);
        }
        self.go_on(&mut moves);
        moves
    }

    fn on_client(&mut self, tag: u8, body: &[u8], moves: &mut Moves) -> Result<(), (Side, Fault)> {
        self.client.message(tag, body, &mut moves.to_client).map_err(|fault| (Side::Client, fault))
    }

    fn on_server(&mut self, tag: u8, body: &[u8], moves: &mut Moves) -> Result<(), (Side, Fault)> {
        let message = Backend::decode(tag, body).map_err(|error| (Side::Server, Fault::Wire(error)))?;
        match message {
            Backend::Error(_) => {
                message.encode(&mut moves.to_client);
                self.outcome = Some(Outcome::ServerRefused {
                    proof_fits: self.client.proof_fits(),
                    after_our_proof: self.server.has_answered(),
                });
                Ok(())
            }
            Backend::Notice(_) if self.notices < MAX_NOTICES => {
                self.notices += 1;
                message.encode(&mut moves.to_client);
                Ok(())
            }
            Backend::Authentication(request) => {
                let server_key = self.keys.as_ref().map(|keys| &keys.server);
                let done = self.server.request(&request, server_key, &mut moves.to_server);
                match done.map_err(|fault| (Side::Server, fault))? {
                    Progress::Asked => self.client.offer(&mut moves.to_client),
                    Progress::Challenged => self.meet_challenge(moves)?,
                    Progress::Accepted => {}
                }
                Ok(())
            }
            _ => Err((Side::Server, Fault::Unexpected("a message that is no part of SCRAM"))),
        }
    }

    /// The server's salt and count are there: a key is needed, or the secret must be the server's.
    fn meet_challenge(&self, moves: &mut Moves) -> Result<(), (Side, Fault)> {
        let Some(challenge) = self.server.challenge() else { return Ok(()) };
        match &self.credential {
            Credential::Password(_) => {
                let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
                moves.need = Some(Need::Key { salt, iterations });
                Ok(())
            }
            Credential::ScramSecret(secret)
                if secret.salt == challenge.salt && secret.iterations == challenge.iterations =>
            {
                Ok(())
            }
            Credential::ScramSecret(_) => Err((Side::Ours, Fault::AnotherSecret)),
        }
    }

    /// A key that nobody asked for is not taken: it would be of another salt.
    fn take_key(&mut self, salted_password: &Key) {
        if self.keys.is_none() && self.server.challenge().is_some() {
            self.keys = Some(Keys::of(salted_password));
        }
    }

    /// Does what both legs together allow.
    fn go_on(&mut self, moves: &mut Moves) {
        if self.outcome.is_some() {
            return;
        }
        if let Some(challenge) = self.server.challenge() {
            self.client.challenge(&challenge.salt, challenge.iterations, &mut moves.to_client);
        }
        self.judge_proof(moves);
        if self.outcome.is_some() || !self.server.is_accepted() {
            return;
        }
        // The server's own signature was right: it knows the secret of our credential.
        match (self.client.proof_fits(), self.keys.as_ref()) {
            (Some(true), Some(keys)) => {
                self.client.accept(&keys.server, &mut moves.to_client);
                self.outcome = Some(Outcome::Both);
            }
            _ => self.fail(Side::Server, Fault::WrongProofAccepted, moves),
        }
    }

    /// With the key and the client's proof at hand: only a right one gets ours to the server.
    fn judge_proof(&mut self, moves: &mut Moves) {
        let Some(keys) = &self.keys else { return };
        let Some(given_away) = self.client.judge(&keys.stored) else { return };
        self.server.answer(given_away.as_ref(), &mut moves.to_server);
    }

    fn fail(&mut self, side: Side, fault: Fault, moves: &mut Moves) {
        fault.tell(&self.user, &mut moves.to_client);
        self.outcome = Some(Outcome::Fault { side, fault });
    }
}
