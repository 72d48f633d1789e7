//! The leg to the server, where we are the client (`fe-auth.c`, `fe-auth-scram.c`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{END_POINT, Fault, Leg, MAX_ITERATIONS, MAX_SERVER_MESSAGE, SCRAM, SCRAM_PLUS};
use crate::password::scram::{self, Key};
use crate::wire::backend::Authentication;
use crate::wire::frontend::{SaslInitialResponse, encode_tagged};
use crate::wire::sasl::{ClientFinal, ServerFinal, ServerFirst};

#[derive(Debug)]
pub(super) struct ServerLeg {
    leg: Leg,
    nonce: String,
    /// The gs2 header that we sent.
    header: Option<&'static [u8]>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// AuthenticationSASL is not there yet.
    Silent,
    /// client-first was sent.
    Asked,
    /// server-first is there; client-final waits for the client's proof.
    Challenged(Challenge),
    /// client-final was sent, with a proof of ours or with one that proves nothing.
    Answered { auth_message: Vec<u8>, proves: bool },
    /// server-final is there, and its signature is right.
    Accepted,
}

/// What server-first said.
#[derive(Debug)]
pub(super) struct Challenge {
    text: Vec<u8>,
    nonce: Vec<u8>,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

/// How far a request brought the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// client-first was sent.
    Asked,
    /// The salt and the count are there.
    Challenged,
    /// The server accepted us, and proved that it knows the secret.
    Accepted,
}

impl ServerLeg {
    pub(super) fn new(leg: Leg, entropy: &[u8]) -> Self {
        Self { leg, nonce: BASE64.encode(entropy), header: None, state: State::Silent }
    }

    /// Takes an authentication request of the server.
    pub(super) fn request(
        &mut self,
        request: &Authentication<'_>,
        server_key: Option<&Key>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Fault> {
        match (&self.state, request) {
            (State::Silent, Authentication::Sasl(mechanisms)) => self.begin(mechanisms, out),
            (State::Asked, Authentication::SaslContinue(text)) => {
                self.state = State::Challenged(self.read_challenge(text)?);
                Ok(Progress::Challenged)
            }
            (State::Answered { auth_message, .. }, Authentication::SaslFinal(text)) => {
                let key = server_key.ok_or(Fault::ServerSignature)?;
                verify(text, key, auth_message)?;
                self.state = State::Accepted;
                Ok(Progress::Accepted)
            }
            (_, Authentication::Ok) => {
                Err(Fault::Unexpected("AuthenticationOk before the server's own proof"))
            }
            _ => Err(Fault::Unexpected("an authentication request")),
        }
    }

    /// Chooses as libpq does (`pg_SASL_init`): with channel binding where both sides can; `y` where only we can.
    fn begin(&mut self, mechanisms: &[&[u8]], out: &mut Vec<u8>) -> Result<Progress, Fault> {
        let offers = |wanted: &[u8]| mechanisms.contains(&wanted);
        let can_bind = self.leg.end_point().is_some();
        let (mechanism, header): (_, &'static [u8]) = match can_bind {
            true if offers(SCRAM_PLUS) => (SCRAM_PLUS, END_POINT),
            true => (SCRAM, b"y,,"),
            // `y` would be a lie here, and where PLUS is offered one that the server punishes.
            false => (SCRAM, b"n,,"),
        };
        if !offers(mechanism) {
            return Err(Fault::NoMechanism);
        }
        let first = [header, &self.bare()].concat();
        SaslInitialResponse { mechanism, response: Some(&first) }.encode(out);
        self.header = Some(header);
        self.state = State::Asked;
        Ok(Progress::Asked)
    }

    /// client-first-message-bare. The user's name stands in the startup packet; here PostgreSQL ignores it.
    fn bare(&self) -> Vec<u8> {
        [b"n=,r=", self.nonce.as_bytes()].concat()
    }

    /// `read_server_first_message`.
    fn read_challenge(&self, text: &[u8]) -> Result<Challenge, Fault> {
        if text.len() > MAX_SERVER_MESSAGE {
            return Err(Fault::TooLong);
        }
        let first = ServerFirst::decode(text).map_err(Fault::Wire)?;
        // Without something of the server's own behind it, an answer could be replayed.
        if first.nonce.strip_prefix(self.nonce.as_bytes()).is_none_or(<[u8]>::is_empty) {
            return Err(Fault::Nonce);
        }
        if !(1..=MAX_ITERATIONS).contains(&first.iterations) {
            return Err(Fault::Iterations(first.iterations));
        }
        Ok(Challenge {
            nonce: first.nonce.to_vec(),
            salt: first.salt,
            iterations: first.iterations,
            text: text.to_vec(),
        })
    }

    /// The salt and the count, while our answer is due.
    pub(super) fn challenge(&self) -> Option<&Challenge> {
        match &self.state {
            State::Challenged(challenge) => Some(challenge),
            _ => None,
        }
    }

    /// Sends client-final. Without a key its proof is of zeros, which the server refuses as it refuses any that is
    /// wrong: that it fits has the odds of a guessed key.
    pub(super) fn answer(&mut self, client_key: Option<&Key>, out: &mut Vec<u8>) {
        let State::Challenged(challenge) = &self.state else { return };
        let header = self.header.unwrap_or_default();
        let data = if header == END_POINT { self.leg.end_point().unwrap_or_default() } else { b"" };
        let binding = BASE64.encode([header, data].concat());
        let without_proof = [b"c=", binding.as_bytes(), b",r=", &challenge.nonce].concat();
        let auth_message = scram::auth_message(&self.bare(), &challenge.text, &without_proof);
        let proof = client_key.map(|client_key| scram::client_proof(client_key, &auth_message));
        let mut text = Zeroizing::new(Vec::new());
        ClientFinal {
            binding: Vec::new(),
            nonce: &challenge.nonce,
            without_proof: &without_proof,
            proof: proof.as_ref().map_or(&[0; scram::KEY_LEN], |proof| proof.expose()).to_vec(),
        }
        .encode(&mut text);
        encode_tagged(out, b'p', &text);
        self.state = State::Answered { auth_message, proves: proof.is_some() };
    }

    /// Whether our proof was sent.
    pub(super) fn has_answered(&self) -> bool {
        matches!(self.state, State::Answered { proves: true, .. } | State::Accepted)
    }

    /// Whether the server accepted our proof.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted)
    }

    /// Whether the leg is bound to its channel; `None` before we have chosen.
    pub(super) fn binds(&self) -> Option<bool> {
        self.header.map(|header| header == END_POINT)
    }
}

/// `verify_server_signature`.
fn verify(text: &[u8], server_key: &Key, auth_message: &[u8]) -> Result<(), Fault> {
    if text.len() > MAX_SERVER_MESSAGE {
        return Err(Fault::TooLong);
    }
    match ServerFinal::decode(text).map_err(Fault::Wire)? {
        ServerFinal::Signature(signature) => {
            let right = scram::server_signature(server_key, auth_message);
            match bool::from(right.expose().as_slice().ct_eq(&signature)) {
                true => Ok(()),
                false => Err(Fault::ServerSignature),
            }
        }
        ServerFinal::Error(_) => Err(Fault::ServerErrorValue),
    }
}
