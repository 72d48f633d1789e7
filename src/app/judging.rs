//! Testing what clients sent against the password that they should have sent, off every login's path.

use std::collections::VecDeque;

use subtle::ConstantTimeEq as _;

use crate::handshake::record::ServerFinalSeen;
use crate::handshake::{Record, Step};
use crate::password::{Budget, Exchange, Expected, Judgement, judge, saslprep, scram};

/// The keys that follow from the expected password, by salt and iterations: making them costs a
/// millisecond, holding a login against them a few microseconds.
#[derive(Default)]
pub(super) struct KeyCache {
    made: VecDeque<Made>,
}

struct Made {
    salt: Vec<u8>,
    iterations: u32,
    stored: scram::Key,
    server: scram::Key,
}

/// Salts remembered: one a role.
const SALTS: usize = 64;
/// A server may name any count; beyond this the test is not worth its time on every login.
const MOST_ITERATIONS: u32 = 100_000;

impl KeyCache {
    /// Whether the server's signature fits; `None` where the client's proof is not of this password.
    pub(super) fn signature_fits(&mut self, record: &Record, expected: &Expected) -> Option<bool> {
        let seen = record.scram.as_ref()?;
        let (first, challenge) = (seen.client_first.as_ref()?, seen.server_first.as_ref()?);
        let last = seen.client_final.as_ref()?;
        let Some(ServerFinalSeen::Signature(signature)) = &seen.server_final else { return None };
        if challenge.iterations == 0 || challenge.iterations > MOST_ITERATIONS {
            return None;
        }
        let keys = self.keys(expected, &challenge.salt, challenge.iterations)?;
        let message = scram::auth_message(&first.bare, &challenge.text, &last.without_proof);
        if !scram::client_proof_fits(&keys.stored, &message, last.proof.expose()) {
            return None;
        }
        let right = scram::server_signature(&keys.server, &message);
        Some(bool::from(right.expose().as_slice().ct_eq(signature.expose())))
    }

    fn keys(&mut self, expected: &Expected, salt: &[u8], iterations: u32) -> Option<&Made> {
        let known = self.made.iter().position(|made| made.salt == salt && made.iterations == iterations);
        if known.is_none() {
            let password = expected.password.expose().as_bytes();
            let prepared = saslprep::prepare(password);
            let password = prepared.as_ref().map_or(password, |bytes| bytes.expose());
            let salted = scram::salted_password(password, salt, iterations);
            let stored = scram::stored_key(&scram::client_key(&salted));
            let server = scram::server_key(&salted);
            if self.made.len() == SALTS {
                self.made.pop_front();
            }
            self.made.push_back(Made { salt: salt.to_vec(), iterations, stored, server });
        }
        self.made.get(known.unwrap_or(self.made.len() - 1))
    }
}

/// Tests the client's answer, where it was refused.
pub(super) fn judgement(record: &Record, expected: Option<&Expected>, busy: bool) -> Option<Judgement> {
    record.error.as_ref()?;
    let exchange = exchange(record)?;
    let budget = if busy { Budget { max_hash_rounds: 2 * 4096 } } else { Budget::default() };
    Some(judge(expected, record.user().unwrap_or_default(), &exchange, budget))
}

/// What the client sent in answer to the password request that was judged last.
pub(super) fn exchange(record: &Record) -> Option<Exchange<'_>> {
    Some(match record.step? {
        Step::Password => Exchange::Cleartext { sent: record.cleartext.as_ref()?.expose() },
        Step::Md5 => {
            let md5 = record.md5.as_ref()?;
            let user = record.user().unwrap_or_default();
            Exchange::Md5 { user, salt: md5.salt, response: md5.response.as_ref()?.expose() }
        }
        Step::ScramClientFinal => {
            let scram = record.scram.as_ref()?;
            let (first, challenge) = (scram.client_first.as_ref()?, scram.server_first.as_ref()?);
            let last = scram.client_final.as_ref()?;
            Exchange::Scram {
                client_first_bare: &first.bare,
                server_first: &challenge.text,
                client_final_without_proof: &last.without_proof,
                proof: last.proof.expose(),
                salt: &challenge.salt,
                iterations: challenge.iterations,
            }
        }
        _ => return None,
    })
}
