//! The SCRAM bridge between a server and a client that are honest by turns.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::password::bridge::{Bridge, Credential, ENTROPY, Event, Leg, Outcome, SCRAM, SCRAM_PLUS};
use crate::password::scram::{self, ScramSecret};
use crate::secret::Secret;
use crate::wire::backend::{Authentication, Backend};
use crate::wire::error_fields::ErrorFields;
use crate::wire::frame::{Frame, Framer, Kind, MAX_FRAME};
use crate::wire::frontend::{SaslInitialResponse, encode_tagged};
use crate::wire::sasl::{ClientFinal, ClientFirst, ServerFinal, ServerFirst};

use super::generate::Bytes;

const SALT: &[u8] = b"0123456789abcdef";
const PASSWORD: &[u8] = b"right";
const END_POINT: &[u8] = b"hash";
/// More events than this show nothing new.
const MOST_EVENTS: usize = 48;

/// Whole messages, as tag and body.
type Messages = VecDeque<(u8, Vec<u8>)>;

/// Any frames of both sides in any order, and among them those of a real login: no panic, bounded output, and
/// nobody is let in, by us or by the server, whose proof was not made with the password.
pub fn bridge(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Option<Outcome> {
    let mut bytes = Bytes::new(data);
    let secret = ScramSecret::build(PASSWORD, SALT, 1);
    let credential = match bytes.flag() {
        true => Credential::ScramSecret(secret.clone()),
        false => Credential::Password(Secret::new("right".to_owned())),
    };
    let client_leg = leg(&mut bytes);
    let mut bridge = Bridge::new(credential, b"app", client_leg, leg(&mut bytes), &[7; ENTROPY]);
    let mut server =
        Server { secret, let_in: false, first: Vec::new(), challenge: Vec::new(), inbox: Messages::new() };
    let mut client = Client { first: Vec::new(), proved: false, inbox: Messages::new() };
    for _ in 0..MOST_EVENTS {
        if bytes.is_empty() {
            break;
        }
        let mut message = Vec::new();
        let what = bytes.byte() % 8;
        let moves = match what {
            0 => {
                bytes.backend().encode(&mut message);
                from_server(&mut bridge, &message)
            }
            1 => {
                encode_tagged(&mut message, if bytes.flag() { b'p' } else { b'X' }, bytes.blob());
                from_client(&mut bridge, &message)
            }
            2..=4 => {
                server.act(&mut message);
                from_server(&mut bridge, &message)
            }
            5 | 6 => {
                client.act(&mut bytes, &mut message);
                from_client(&mut bridge, &message)
            }
            _ => {
                let password = if bytes.flag() { b"other" } else { PASSWORD };
                bridge.on(&Event::KeyReady(scram::salted_password(password, SALT, 1)))
            }
        };
        let written = moves.to_client.len() + moves.to_server.len();
        assert!(written <= 2 * message.len() + MAX_FRAME / 16, "{written} bytes for {}", message.len());
        client.inbox.extend(messages(&moves.to_client));
        server.inbox.extend(messages(&moves.to_server));
        if bridge.outcome() == Some(&Outcome::Both) || server.let_in {
            assert!(client.proved, "somebody got in without the password");
        }
    }
    bridge.outcome().cloned()
}

fn leg(bytes: &mut Bytes<'_>) -> Leg {
    match bytes.byte() % 3 {
        0 => Leg::Plain,
        1 => Leg::Tls { end_point: None },
        _ => Leg::Tls { end_point: Some(END_POINT.to_vec()) },
    }
}

fn messages(bytes: &[u8]) -> Messages {
    let mut framer = Framer::default();
    framer.push(bytes);
    let mut list = Messages::new();
    while let Some(Frame::Tagged { tag, body }) = framer.next(Kind::Tagged) {
        list.push_back((tag, body.to_vec()));
    }
    assert!(!framer.is_mid_frame(), "only whole messages are written");
    list
}

fn from_server(bridge: &mut Bridge, message: &[u8]) -> crate::password::bridge::Moves {
    match message.split_first_chunk::<5>() {
        Some(([tag, ..], body)) => bridge.on(&Event::Server { tag: *tag, body }),
        None => Default::default(),
    }
}

fn from_client(bridge: &mut Bridge, message: &[u8]) -> crate::password::bridge::Moves {
    match message.split_first_chunk::<5>() {
        Some(([tag, ..], body)) => bridge.on(&Event::Client { tag: *tag, body }),
        None => Default::default(),
    }
}

/// A server that does what is next.
struct Server {
    secret: ScramSecret,
    /// It has got a right proof.
    let_in: bool,
    first: Vec<u8>,
    challenge: Vec<u8>,
    inbox: Messages,
}

impl Server {
    fn act(&mut self, out: &mut Vec<u8>) {
        let request =
            |request: Authentication<'_>, out: &mut Vec<u8>| Backend::Authentication(request).encode(out);
        let Some((_, body)) = self.inbox.pop_front() else {
            return request(Authentication::Sasl(vec![SCRAM_PLUS, SCRAM]), out);
        };
        let mut text = Vec::new();
        if let Ok(SaslInitialResponse { response: Some(first), .. }) = SaslInitialResponse::decode(&body) {
            let Ok(read) = ClientFirst::decode(first) else { return };
            let nonce = [read.nonce, b"server"].concat();
            ServerFirst { nonce: &nonce, salt: SALT.to_vec(), iterations: 1 }.encode(&mut text);
            request(Authentication::SaslContinue(&text), out);
            (self.first, self.challenge) = (read.bare.to_vec(), text);
            return;
        }
        let Ok(last) = ClientFinal::decode(&body) else { return };
        let message = scram::auth_message(&self.first, &self.challenge, last.without_proof);
        if !scram::client_proof_fits(&self.secret.stored_key, &message, &last.proof) {
            let wrong = ErrorFields::new(vec![(b'S', b"FATAL"), (b'C', b"28P01")]);
            Backend::Error(wrong).encode(out);
        } else {
            self.let_in = true;
            let signature = scram::server_signature(&self.secret.server_key, &message);
            ServerFinal::Signature(signature.expose().to_vec()).encode(&mut text);
            request(Authentication::SaslFinal(&text), out);
        }
    }
}

/// A client that does what is next, with one of two passwords.
struct Client {
    first: Vec<u8>,
    /// It has sent a proof that was made with the right one.
    proved: bool,
    inbox: Messages,
}

impl Client {
    fn act(&mut self, bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
        let Some((b'R', body)) = self.inbox.pop_front() else { return };
        match Authentication::decode(&body) {
            Ok(Authentication::Sasl(_)) => {
                let (mechanism, header): (_, &[u8]) = match bytes.byte() % 3 {
                    0 => (SCRAM, b"n,,"),
                    1 => (SCRAM, b"y,,"),
                    _ => (SCRAM_PLUS, b"p=tls-server-end-point,,"),
                };
                self.first = [header, b"n=,r=client"].concat();
                let response = bytes.flag().then_some(self.first.as_slice());
                SaslInitialResponse { mechanism, response }.encode(out);
            }
            Ok(Authentication::SaslContinue(b"")) => encode_tagged(out, b'p', &self.first),
            Ok(Authentication::SaslContinue(text)) => self.prove(bytes, text, out),
            _ => {}
        }
    }

    fn prove(&mut self, bytes: &mut Bytes<'_>, text: &[u8], out: &mut Vec<u8>) {
        let (Ok(challenge), Ok(first)) = (ServerFirst::decode(text), ClientFirst::decode(&self.first)) else {
            return;
        };
        let header = self.first.get(..self.first.len() - first.bare.len()).unwrap_or_default();
        let data = if header.starts_with(b"p") { END_POINT } else { b"" };
        let binding = BASE64.encode([header, data].concat());
        let without = [b"c=", binding.as_bytes(), b",r=", challenge.nonce].concat();
        let message = scram::auth_message(first.bare, text, &without);
        let right = bytes.flag();
        let password = if right { PASSWORD } else { bytes.blob() };
        let salted = scram::salted_password(password, &challenge.salt, challenge.iterations.min(8));
        let proof = scram::client_proof(&scram::client_key(&salted), &message);
        let mut answer = without;
        answer.extend_from_slice(b",p=");
        answer.extend_from_slice(BASE64.encode(proof.expose()).as_bytes());
        encode_tagged(out, b'p', &answer);
        self.proved |= right || password == PASSWORD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which a real login goes, so that the target is known to reach the end.
    #[test]
    fn the_target_reaches_both_ends() {
        // Credential, two legs; offer, client-first (SCRAM-SHA-256, n), challenge, key, client-final, server-final.
        let (before, after) = ([0, 0, 0, 2, 5, 0, 1, 2, 7, 0, 5], [2]);
        let right = [&before[..], &[1], &after].concat();
        let wrong = [&before[..], &[0, 3, b'b', b'a', b'd'], &after].concat();
        let refused = Outcome::ServerRefused { proof_fits: Some(false), after_our_proof: false };
        assert_eq!(play(&right), Some(Outcome::Both));
        assert_eq!(play(&wrong), Some(refused));
    }
}
