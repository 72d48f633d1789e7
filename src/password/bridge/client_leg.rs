//! The leg to the client, where we are the server (`auth-sasl.c`, `auth-scram.c`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;

use super::{Fault, Leg, MAX_CLIENT_MESSAGE, SCRAM, SCRAM_PLUS};
use crate::password::scram::{self, Key};
use crate::secret::Secret;
use crate::wire::backend::{Authentication, Backend};
use crate::wire::frontend::SaslInitialResponse;
use crate::wire::reader::{self, WireError};
use crate::wire::sasl::{ClientFinal, ClientFirst, ServerFinal, ServerFirst};

#[derive(Debug)]
pub(super) struct ClientLeg {
    leg: Leg,
    /// What we append to the client's nonce.
    nonce: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The server's offer is not there yet, so neither is ours.
    Silent,
    /// AuthenticationSASL was sent.
    Offered,
    /// The mechanism came without a first message, and an empty challenge was sent.
    Empty { plus: bool },
    /// client-first is there and waits for the server's salt.
    First(First),
    /// server-first was sent.
    Challenged(First, Vec<u8>),
    /// client-final is there and waits for the key.
    Answered(Answer),
    /// The proof was judged.
    Judged { fits: bool, bound: bool, auth_message: Vec<u8> },
}

/// What client-first said.
#[derive(Debug)]
struct First {
    /// The gs2 header, which client-final repeats.
    header: Vec<u8>,
    /// Whether the client binds to the channel.
    bound: bool,
    bare: Vec<u8>,
    nonce: Vec<u8>,
}

/// What client-final said, once everything but the proof was right.
#[derive(Debug)]
struct Answer {
    bound: bool,
    auth_message: Vec<u8>,
    proof: Secret<Vec<u8>>,
}

impl ClientLeg {
    pub(super) fn new(leg: Leg, entropy: &[u8]) -> Self {
        Self { leg, nonce: BASE64.encode(entropy), state: State::Silent }
    }

    /// Sends AuthenticationSASL, once: the mechanism with channel binding only where there is something to bind to.
    pub(super) fn offer(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Silent) {
            return;
        }
        let mechanisms = if self.offers_plus() { vec![SCRAM_PLUS, SCRAM] } else { vec![SCRAM] };
        Backend::Authentication(Authentication::Sasl(mechanisms)).encode(out);
        self.state = State::Offered;
    }

    fn offers_plus(&self) -> bool {
        self.leg.end_point().is_some()
    }

    /// Takes a message of the client.
    pub(super) fn message(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if tag != b'p' {
            return Err(Fault::Unexpected("a message that is no SASL response"));
        }
        if body.len() > MAX_CLIENT_MESSAGE {
            return Err(Fault::TooLong);
        }
        match &self.state {
            State::Offered => self.initial(body, out),
            State::Empty { plus } => {
                let first = self.first(*plus, body)?;
                self.state = State::First(first);
                Ok(())
            }
            State::Challenged(first, server_first) => {
                let answer = self.last(first, server_first, body)?;
                self.state = State::Answered(answer);
                Ok(())
            }
            State::Silent | State::First(_) | State::Answered(_) | State::Judged { .. } => {
                Err(Fault::Unexpected("a SASL response"))
            }
        }
    }

    fn initial(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let initial = SaslInitialResponse::decode(body).map_err(Fault::Wire)?;
        let plus = match initial.mechanism {
            SCRAM => false,
            SCRAM_PLUS if self.offers_plus() => true,
            _ => return Err(Fault::MechanismNotOffered),
        };
        self.state = match initial.response {
            Some(text) => State::First(self.first(plus, text)?),
            None => {
                Backend::Authentication(Authentication::SaslContinue(b"")).encode(out);
                State::Empty { plus }
            }
        };
        Ok(())
    }

    /// `read_client_first_message`.
    fn first(&self, plus: bool, text: &[u8]) -> Result<First, Fault> {
        let mut parts = text.splitn(3, |byte| *byte == b',');
        let mut part = || parts.next().unwrap_or_default();
        let bound = self.flag(plus, part())?;
        if part().starts_with(b"a") {
            return Err(Fault::AuthorizationIdentity);
        }
        if part().starts_with(b"m") {
            return Err(Fault::Extension);
        }
        let first = ClientFirst::decode(text).map_err(Fault::Wire)?;
        without_zero(text)?;
        let header = text.len().saturating_sub(first.bare.len());
        Ok(First {
            header: text.get(..header).unwrap_or_default().to_vec(),
            bound,
            bare: first.bare.to_vec(),
            nonce: first.nonce.to_vec(),
        })
    }

    /// Whether the client binds to the channel; what its flag may be depends on what it chose and could have chosen.
    fn flag(&self, plus: bool, flag: &[u8]) -> Result<bool, Fault> {
        match flag {
            b"n" | b"y" if plus => Err(Fault::Flag { plus }),
            b"y" if self.offers_plus() => Err(Fault::Downgrade),
            [b'p', ..] if !plus => Err(Fault::Flag { plus }),
            b"p=tls-server-end-point" => Ok(true),
            [b'p', b'=', ..] => Err(Fault::BindingType),
            // Whatever else it is, the decoder refuses it.
            _ => Ok(false),
        }
    }

    /// `read_client_final_message` and `verify_final_nonce`: everything but the proof.
    fn last(&self, first: &First, server_first: &[u8], text: &[u8]) -> Result<Answer, Fault> {
        let last = ClientFinal::decode(text).map_err(Fault::Wire)?;
        without_zero(text)?;
        let mut expected = first.header.clone();
        if first.bound {
            expected.extend_from_slice(self.leg.end_point().unwrap_or_default());
        }
        if !bool::from(last.binding.ct_eq(&expected)) {
            return Err(if first.bound { Fault::Binding } else { Fault::BindingHeader });
        }
        if last.nonce != self.whole_nonce(first) {
            return Err(Fault::ClientNonce);
        }
        Ok(Answer {
            bound: first.bound,
            auth_message: scram::auth_message(&first.bare, server_first, last.without_proof),
            proof: Secret::new(last.proof),
        })
    }

    fn whole_nonce(&self, first: &First) -> Vec<u8> {
        [&first.nonce, self.nonce.as_bytes()].concat()
    }

    /// Sends server-first with the server's salt and count, once the client has begun.
    pub(super) fn challenge(&mut self, salt: &[u8], iterations: u32, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Silent) {
            State::First(first) => {
                let nonce = self.whole_nonce(&first);
                let mut text = Vec::new();
                ServerFirst { nonce: &nonce, salt: salt.to_vec(), iterations }.encode(&mut text);
                Backend::Authentication(Authentication::SaslContinue(&text)).encode(out);
                State::Challenged(first, text)
            }
            other => other,
        };
    }

    /// Judges the proof, once it is there: `Some` then, with the ClientKey that a right one gives away.
    pub(super) fn judge(&mut self, stored_key: &Key) -> Option<Option<Key>> {
        let State::Answered(answer) = &self.state else { return None };
        let key = scram::client_key_of_proof(stored_key, &answer.auth_message, answer.proof.expose());
        let (fits, bound, auth_message) = (key.is_some(), answer.bound, answer.auth_message.clone());
        self.state = State::Judged { fits, bound, auth_message };
        Some(key)
    }

    /// Whether the client's proof was right; `None` before it was judged.
    pub(super) fn proof_fits(&self) -> Option<bool> {
        match self.state {
            State::Judged { fits, .. } => Some(fits),
            _ => None,
        }
    }

    /// Whether the client bound to its channel; `None` before it said so.
    pub(super) fn binds(&self) -> Option<bool> {
        match &self.state {
            State::First(first) | State::Challenged(first, _) => Some(first.bound),
            State::Answered(Answer { bound, .. }) | State::Judged { bound, .. } => Some(*bound),
            State::Silent | State::Offered | State::Empty { .. } => None,
        }
    }

    /// Sends server-final: our own signature.
    pub(super) fn accept(&self, server_key: &Key, out: &mut Vec<u8>) {
        let State::Judged { fits: true, auth_message, .. } = &self.state else { return };
        let signature = scram::server_signature(server_key, auth_message);
        let mut text = Vec::new();
        ServerFinal::Signature(signature.expose().to_vec()).encode(&mut text);
        Backend::Authentication(Authentication::SaslFinal(&text)).encode(out);
    }
}

/// PostgreSQL's messages are C strings: a zero byte is a length that does not match.
fn without_zero(text: &[u8]) -> Result<(), Fault> {
    match text.contains(&0) {
        true => Err(Fault::Wire(WireError { field: "SCRAM message", fault: reader::Fault::Invalid })),
        false => Ok(()),
    }
}
