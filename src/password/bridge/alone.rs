//! The leg to the server without a client: would a bridge get in with this credential?

use super::server_leg::{Progress, ServerLeg};
use super::{Credential, ENTROPY, Event, Keys, Leg, Moves, Need};
use crate::wire::backend::{Authentication, Backend};

/// What a login of our own has shown of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// The server accepted it, and proved that it knows it.
    Works,
    /// The server refused it (or can't be talked to as a bridge would).
    Fails,
    /// The server did not come to ask for it.
    Unknown,
}

/// A SCRAM login that pgwhy does for itself.
///
/// A SCRAM secret logs in only with what a client's proof gives away: of one it shows whether the server has
/// the same salt and count, which two secrets never share.
#[derive(Debug)]
pub struct Alone {
    credential: Credential,
    server: ServerLeg,
    keys: Option<Keys>,
    worth: Option<Worth>,
}

impl Alone {
    /// Starts before the server's first authentication request, which is the first event.
    pub fn new(credential: Credential, server: Leg, entropy: &[u8; ENTROPY]) -> Self {
        let server = ServerLeg::new(server, entropy.split_at(ENTROPY / 2).1);
        Self { credential, server, keys: None, worth: None }
    }

    /// What is known by now.
    pub fn worth(&self) -> Option<Worth> {
        self.worth
    }

    /// Takes an event and says what is to be done; there is never anything for a client.
    pub fn on(&mut self, event: &Event<'_>) -> Moves {
        let mut moves = Moves::default();
        match event {
            _ if self.worth.is_some() => {}
            Event::Server { tag, body } => self.worth = self.on_server(*tag, body, &mut moves),
            Event::KeyReady(key) => {
                let keys = Keys::of(key);
                if let Some(client_key) = &keys.client {
                    self.server.answer(client_key, &mut moves.to_server);
                }
                self.keys = Some(keys);
            }
            Event::Client { .. } => {}
        }
        moves
    }

    fn on_server(&mut self, tag: u8, body: &[u8], moves: &mut Moves) -> Option<Worth> {
        let refused = if self.server.has_answered() { Worth::Fails } else { Worth::Unknown };
        let request = match Backend::decode(tag, body) {
            Ok(Backend::Authentication(request)) => request,
            Ok(Backend::Error(_)) | Err(_) => return Some(refused),
            Ok(_) => return None,
        };
        let asks_otherwise = !matches!(
            request,
            Authentication::Sasl(_) | Authentication::SaslContinue(_) | Authentication::SaslFinal(_)
        );
        if asks_otherwise {
            return Some(refused);
        }
        let key = self.keys.as_ref().map(|keys| &keys.server);
        match self.server.request(&request, key, &mut moves.to_server) {
            Ok(Progress::Asked) => None,
            Ok(Progress::Challenged) => self.challenged(moves),
            Ok(Progress::Accepted) => Some(Worth::Works),
            Err(_) => Some(Worth::Fails),
        }
    }

    fn challenged(&self, moves: &mut Moves) -> Option<Worth> {
        let challenge = self.server.challenge()?;
        match &self.credential {
            Credential::Password(_) => {
                let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
                moves.need = Some(Need::Key { salt, iterations });
                None
            }
            Credential::ScramSecret(secret) => {
                let same = secret.salt == challenge.salt && secret.iterations == challenge.iterations;
                Some(if same { Worth::Works } else { Worth::Fails })
            }
        }
    }
}
