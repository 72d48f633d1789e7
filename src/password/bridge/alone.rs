//! The leg to the server without a client: would a bridge get in with this credential?

use super::super::scram;
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

impl Worth {
    /// Whether the server accepts it; `None` where that is not known.
    pub fn accepts(self) -> Option<bool> {
        match self {
            Self::Works => Some(true),
            Self::Fails => Some(false),
            Self::Unknown => None,
        }
    }
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
                self.server.answer(Some(&scram::client_key(key)), &mut moves.to_server);
                self.keys = Some(Keys::of(key));
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

#[cfg(test)]
mod tests {
    use super::super::client_leg::ClientLeg;
    use super::super::fault::Fault;
    use super::*;
    use crate::password::scram::ScramSecret;
    use crate::secret::Secret;

    const SALT: &[u8] = b"0123456789abcdef";

    /// A server with this secret, which is what the bridge is to clients; `honest` ones prove that they know it.
    fn log_in(credential: Credential, honest: bool) -> Option<Worth> {
        let stored = ScramSecret::build(b"right", SALT, 1);
        let mut server = ClientLeg::new(Leg::Plain, &[1; ENTROPY / 2]);
        let mut alone = Alone::new(credential.clone(), Leg::Plain, &[2; ENTROPY]);
        let mut out = Vec::new();
        server.offer(&mut out);
        for _ in 0..8 {
            let mut moves = Moves::default();
            for (tag, body) in messages(&std::mem::take(&mut out)) {
                moves = alone.on(&Event::Server { tag, body: &body });
            }
            if let Some(Need::Key { salt, iterations }) = &moves.need {
                moves = alone.on(&Event::KeyReady(credential.salted_password(salt, *iterations).unwrap()));
            }
            for (tag, body) in messages(&moves.to_server) {
                server.message(tag, &body, &mut out).unwrap();
            }
            server.challenge(SALT, 1, &mut out);
            match server.judge(&stored.stored_key) {
                Some(Some(_)) if honest => server.accept(&stored.server_key, &mut out),
                Some(Some(_)) => server.accept(&stored.stored_key, &mut out),
                Some(None) => Fault::Binding.tell(b"app", &mut out),
                None => {}
            }
            if alone.worth().is_some() {
                break;
            }
        }
        alone.worth()
    }

    fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((tag, rest)) = bytes.split_first() {
            let length = u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
            all.push((*tag, rest[4..length].to_vec()));
            bytes = &rest[length..];
        }
        all
    }

    #[test]
    fn a_login_of_our_own_tells_what_a_credential_is_worth() {
        let password = |text: &str| Credential::Password(Secret::new(text.to_owned()));
        let secret = |text: &[u8], salt: &[u8]| Credential::ScramSecret(ScramSecret::build(text, salt, 1));
        for (claim, credential, honest, worth) in [
            ("the right password works", password("right"), true, Worth::Works),
            ("another one does not", password("wrong"), true, Worth::Fails),
            ("nor does it at a server that does not know it", password("right"), false, Worth::Fails),
            ("the server's own secret works", secret(b"right", SALT), true, Worth::Works),
            ("one of another salt does not", secret(b"right", b"another one's"), true, Worth::Fails),
        ] {
            assert_eq!(log_in(credential, honest), Some(worth), "{claim}");
        }
    }

    #[test]
    fn a_server_that_does_not_ask_for_scram_shows_nothing() {
        let mut refusal = Vec::new();
        Fault::Binding.tell(b"app", &mut refusal);
        for (claim, message) in [
            ("a refusal before the offer", refusal.as_slice()),
            ("nothing asked", b"R\0\0\0\x08\0\0\0\0"),
            ("MD5", b"R\0\0\0\x0c\0\0\0\x05salt"),
            ("a broken message", b"R\0\0\0\x05\x01"),
        ] {
            let credential = Credential::Password(Secret::new("right".to_owned()));
            let mut alone = Alone::new(credential, Leg::Plain, &[2; ENTROPY]);
            let (tag, body) = (message[0], &message[5..]);
            assert_eq!(alone.on(&Event::Server { tag, body }), Moves::default(), "{claim}");
            assert_eq!(alone.worth(), Some(Worth::Unknown), "{claim}");
        }
    }
}
