//! SCRAM for both parts: a capture has last time's nonces, and this time's are others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::password::{saslprep, scram};
use crate::secret::Secret;
use crate::wire::sasl::{ClientFinal, ClientFirst, ServerFirst};

/// One exchange under way.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    client_first_bare: Vec<u8>,
    /// What client-final-message has to repeat in its `c=`.
    gs2_header: Vec<u8>,
    client_nonce: Vec<u8>,
    server_first: Vec<u8>,
}

impl Exchange {
    /// Takes client-first-message; `None` where it breaks its grammar.
    pub(super) fn client_first(text: &[u8]) -> Option<Self> {
        let first = ClientFirst::decode(text).ok()?;
        let header = text.len() - first.bare.len();
        Some(Self {
            client_first_bare: first.bare.to_vec(),
            gs2_header: text.get(..header)?.to_vec(),
            client_nonce: first.nonce.to_vec(),
            server_first: Vec::new(),
        })
    }

    /// server-first-message as it was recorded for `recorded`'s nonce, with this client's nonce.
    pub(super) fn challenge(&mut self, text: &[u8], recorded: Option<&Self>) -> Vec<u8> {
        let own = ServerFirst::decode(text).ok().zip(recorded).and_then(|(first, recorded)| {
            let part = first.nonce.strip_prefix(recorded.client_nonce.as_slice())?;
            let nonce = [self.client_nonce.as_slice(), part].concat();
            let mut out = Vec::new();
            ServerFirst { nonce: &nonce, ..first }.encode(&mut out);
            Some(out)
        });
        self.server_first = own.unwrap_or_else(|| text.to_vec());
        self.server_first.clone()
    }

    /// As a server: whether the client's proof fits the password, and then our signature.
    pub(super) fn judge(&self, client_final: &[u8], password: &Secret<String>) -> Option<String> {
        let last = ClientFinal::decode(client_final).ok()?;
        let salted = self.salted(password)?;
        let message = scram::auth_message(&self.client_first_bare, &self.server_first, last.without_proof);
        let stored = scram::stored_key(&scram::client_key(&salted));
        if !scram::client_proof_fits(&stored, &message, &last.proof) {
            return None;
        }
        let signature = scram::server_signature(&scram::server_key(&salted), &message);
        Some(format!("v={}", STANDARD.encode(signature.expose())))
    }

    /// As a client: client-final-message for the server's challenge.
    pub(super) fn client_final(&mut self, challenge: &[u8], password: &Secret<String>) -> Option<Vec<u8>> {
        self.server_first = challenge.to_vec();
        let nonce = ServerFirst::decode(challenge).ok()?.nonce.to_vec();
        let mut text = format!("c={},r=", STANDARD.encode(&self.gs2_header)).into_bytes();
        text.extend_from_slice(&nonce);
        let message = scram::auth_message(&self.client_first_bare, challenge, &text);
        let proof = scram::client_proof(&scram::client_key(&self.salted(password)?), &message);
        text.extend_from_slice(b",p=");
        text.extend_from_slice(STANDARD.encode(proof.expose()).as_bytes());
        Some(text)
    }

    fn salted(&self, password: &Secret<String>) -> Option<scram::Key> {
        let first = ServerFirst::decode(&self.server_first).ok()?;
        if first.iterations > MOST_ITERATIONS {
            return None;
        }
        let raw = password.expose().as_bytes();
        let prepared = saslprep::prepare(raw);
        let password = prepared.as_ref().map_or(raw, |bytes| bytes.expose());
        Some(scram::salted_password(password, &first.salt, first.iterations))
    }
}

/// A capture, or a server, may name any count.
const MOST_ITERATIONS: u32 = 1_000_000;
