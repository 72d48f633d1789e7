#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::wire::backend::Authentication;
use crate::wire::error_fields::ErrorFields;
use crate::wire::frontend::{SaslInitialResponse, encode_tagged};
use crate::wire::sasl::{ClientFinal, ClientFirst, ServerFinal, ServerFirst};

const SALT: &[u8] = b"0123456789abcdef";
const ROUNDS: u32 = 3;
const OURS: &[u8] = b"hash of the certificate that pgwhy shows";
const THEIRS: &[u8] = b"hash of the certificate that the server shows";

fn entropy() -> [u8; ENTROPY] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

fn tls(end_point: &[u8]) -> Leg {
    Leg::Tls { end_point: Some(end_point.to_vec()) }
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text.to_owned()))
}

fn secret(text: &str, salt: &[u8], rounds: u32) -> Credential {
    Credential::secret(ScramSecret::build(text.as_bytes(), salt, rounds).to_text().expose()).unwrap()
}

/// Tags and bodies of whole messages.
fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut list = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let length = u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
        list.push((*tag, rest[4..length].to_vec()));
        bytes = &rest[length..];
    }
    list
}

/// A server that knows one secret, as strict as PostgreSQL.
struct Server {
    offer: Vec<&'static [u8]>,
    end_point: Option<&'static [u8]>,
    secret: ScramSecret,
    /// Sends the wrong signature.
    lies: bool,
    /// Accepts any proof.
    gullible: bool,
    first: Vec<u8>,
    challenge: Vec<u8>,
}

impl Server {
    fn new(offer: &[&'static [u8]], end_point: Option<&'static [u8]>, password: &str) -> Self {
        let secret = ScramSecret::build(password.as_bytes(), SALT, ROUNDS);
        Self {
            offer: offer.to_vec(),
            end_point,
            secret,
            lies: false,
            gullible: false,
            first: vec![],
            challenge: vec![],
        }
    }

    fn begin(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Backend::Authentication(Authentication::Sasl(self.offer.clone())).encode(&mut out);
        out
    }

    fn answer(&mut self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.first.is_empty() {
            let initial = SaslInitialResponse::decode(body).unwrap();
            let plus = initial.mechanism == SCRAM_PLUS;
            assert!(self.offer.contains(&initial.mechanism), "not offered");
            let first = ClientFirst::decode(initial.response.unwrap()).unwrap();
            let flag = initial.response.unwrap()[0];
            assert!(
                plus == (flag == b'p') && (flag != b'y' || !self.offer.contains(&SCRAM_PLUS)),
                "gs2 flag"
            );
            self.first = initial.response.unwrap().to_vec();
            let nonce = [first.nonce, b"/of-the-server"].concat();
            let mut text = Vec::new();
            ServerFirst { nonce: &nonce, salt: self.secret.salt.clone(), iterations: self.secret.iterations }
                .encode(&mut text);
            Backend::Authentication(Authentication::SaslContinue(&text)).encode(&mut out);
            self.challenge = text;
            return out;
        }
        let first = ClientFirst::decode(&self.first).unwrap();
        let last = ClientFinal::decode(body).unwrap();
        let header = &self.first[..self.first.len() - first.bare.len()];
        let data = if header[0] == b'p' { self.end_point.unwrap() } else { b"" };
        assert_eq!(last.binding, [header, data].concat(), "channel binding");
        assert_eq!(last.nonce, ServerFirst::decode(&self.challenge).unwrap().nonce);
        let message = scram::auth_message(first.bare, &self.challenge, last.without_proof);
        let fits = scram::client_proof_fits(&self.secret.stored_key, &message, &last.proof);
        if !fits && !self.gullible {
            Backend::Error(ErrorFields::new(vec![
                (b'S', b"FATAL"),
                (b'C', b"28P01"),
                (b'M', b"the server's"),
            ]))
            .encode(&mut out);
            return out;
        }
        let mut signature = scram::server_signature(&self.secret.server_key, &message).expose().to_vec();
        signature[0] ^= u8::from(self.lies);
        let mut text = Vec::new();
        ServerFinal::Signature(signature).encode(&mut text);
        Backend::Authentication(Authentication::SaslFinal(&text)).encode(&mut out);
        out
    }
}

/// A client with a password; the rest is what it may do wrong.
#[derive(Clone)]
struct Client {
    password: &'static str,
    mechanism: &'static [u8],
    /// The gs2 header of its first message, and of its last.
    headers: [&'static [u8]; 2],
    end_point: &'static [u8],
    bare: &'static [u8],
    /// Sends the mechanism alone, and the first message when it is asked.
    hesitates: bool,
    /// What it appends to the nonce of its last message.
    nonce: &'static [u8],
}

impl Client {
    fn new(password: &'static str) -> Self {
        let header = b"n,,";
        Self {
            password,
            mechanism: SCRAM,
            headers: [header, header],
            end_point: b"",
            bare: b"n=,r=of-the-client",
            hesitates: false,
            nonce: b"",
        }
    }

    fn plus(password: &'static str, end_point: &'static [u8]) -> Self {
        Self { mechanism: SCRAM_PLUS, headers: [END_POINT, END_POINT], end_point, ..Self::new(password) }
    }

    fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self;
        change(&mut changed);
        changed
    }

    fn first(&self) -> Vec<u8> {
        [self.headers[0], self.bare].concat()
    }

    fn answer(&self, body: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut out, mut auth_message) = (Vec::new(), Vec::new());
        match Authentication::decode(body).unwrap() {
            Authentication::Sasl(_) => {
                let first = self.first();
                let response = (!self.hesitates).then_some(first.as_slice());
                SaslInitialResponse { mechanism: self.mechanism, response }.encode(&mut out);
            }
            Authentication::SaslContinue(b"") => encode_tagged(&mut out, b'p', &self.first()),
            Authentication::SaslContinue(text) => {
                let challenge = ServerFirst::decode(text).unwrap();
                assert!(challenge.nonce.starts_with(b"of-the-client") && challenge.nonce.len() > 30);
                let key =
                    scram::salted_password(self.password.as_bytes(), &challenge.salt, challenge.iterations);
                let binding = BASE64.encode([self.headers[1], self.end_point].concat());
                let without = [b"c=", binding.as_bytes(), b",r=", challenge.nonce, self.nonce].concat();
                auth_message = scram::auth_message(self.bare, text, &without);
                let proof = scram::client_proof(&scram::client_key(&key), &auth_message);
                let message = [without, b",p=".to_vec(), BASE64.encode(proof.expose()).into_bytes()].concat();
                encode_tagged(&mut out, b'p', &message);
            }
            _ => return None,
        }
        Some((out, auth_message))
    }
}

/// What a conversation came to.
struct Played {
    outcome: Option<Outcome>,
    /// Code and message of the ErrorResponse that the client got.
    error: Option<(String, String)>,
    /// The mechanisms that the client was shown.
    offered: Vec<Vec<u8>>,
    /// Whether the client got a signature, and it was right.
    signed: Option<bool>,
    bound: (Option<bool>, Option<bool>),
}

/// Plays a login; `late` holds the key back until nothing else can happen.
fn play(
    credential: Credential,
    legs: (Leg, Leg),
    server: &mut Server,
    client: &Client,
    late: bool,
) -> Played {
    let mut bridge = Bridge::new(credential, b"app", legs.0, legs.1, &entropy());
    let mut played =
        Played { outcome: None, error: None, offered: vec![], signed: None, bound: (None, None) };
    let mut auth_message = Vec::new();
    let (mut to_bridge, mut key) = (std::collections::VecDeque::new(), None);
    to_bridge.extend(messages(&server.begin()).into_iter().map(|message| (true, message)));
    loop {
        let moves = match to_bridge.pop_front() {
            Some((true, (tag, body))) => bridge.on(&Event::Server { tag, body: &body }),
            Some((false, (tag, body))) => bridge.on(&Event::Client { tag, body: &body }),
            None => match key.take() {
                Some(key) => bridge.on(&Event::KeyReady(key)),
                None => break,
            },
        };
        for (_, body) in messages(&moves.to_server) {
            to_bridge.extend(messages(&server.answer(&body)).into_iter().map(|message| (true, message)));
        }
        for (tag, body) in messages(&moves.to_client) {
            match Backend::decode(tag, &body).unwrap() {
                Backend::Error(fields) => {
                    let text =
                        |kind| String::from_utf8_lossy(fields.get(kind).unwrap_or_default()).into_owned();
                    played.error = Some((text(b'C'), text(b'M')));
                    continue;
                }
                Backend::Authentication(Authentication::Sasl(list)) => {
                    played.offered = list.iter().map(|name| name.to_vec()).collect();
                }
                Backend::Authentication(Authentication::SaslFinal(text)) => {
                    let ServerFinal::Signature(seen) = ServerFinal::decode(text).unwrap() else { panic!() };
                    let key =
                        scram::server_key(&scram::salted_password(client.password.as_bytes(), SALT, ROUNDS));
                    played.signed =
                        Some(scram::server_signature(&key, &auth_message).expose() == seen.as_slice());
                }
                _ => {}
            }
            if let Some((answer, signed)) = client.answer(&body) {
                auth_message = if signed.is_empty() { auth_message } else { signed };
                to_bridge.extend(messages(&answer).into_iter().map(|message| (false, message)));
            }
        }
        if let Some(Need::Key { salt, iterations }) = moves.need {
            let made = bridge.credential().salted_password(&salt, iterations).unwrap();
            match late {
                true => key = Some(made),
                false => assert_eq!(
                    bridge.on(&Event::KeyReady(made)),
                    Moves::default(),
                    "nothing waits for it yet"
                ),
            }
        }
    }
    played.bound = (bridge.binds_client(), bridge.binds_server());
    played.outcome = bridge.outcome().cloned();
    played
}

const BOTH: &[&[u8]] = &[SCRAM_PLUS, SCRAM];

fn refused(proof_fits: Option<bool>, after_our_proof: bool) -> Outcome {
    Outcome::ServerRefused { proof_fits, after_our_proof }
}

#[test]
fn logins_end_as_they_should() {
    type Row = (&'static str, Credential, Leg, Server, Client, Outcome, Option<&'static str>);
    let plain = |password: &str| Server::new(&[SCRAM], None, password);
    let good = || plain("pw");
    let rows: [Row; 9] = [
        ("both know it", password("pw"), Leg::Plain, good(), Client::new("pw"), Outcome::Both, None),
        (
            "the first message comes late",
            password("pw"),
            Leg::Plain,
            good(),
            Client::new("pw").with(|c| c.hesitates = true),
            Outcome::Both,
            None,
        ),
        (
            "the client is wrong, the expected one works",
            password("pw"),
            Leg::Plain,
            good(),
            Client::new("other"),
            refused(Some(false), false),
            Some("the server's"),
        ),
        (
            "both are wrong alike",
            password("old"),
            Leg::Plain,
            good(),
            Client::new("old"),
            refused(Some(true), true),
            Some("the server's"),
        ),
        (
            "the client is right, the expected one is not",
            password("old"),
            Leg::Plain,
            good(),
            Client::new("pw"),
            refused(Some(false), false),
            Some("the server's"),
        ),
        ("a secret", secret("pw", SALT, ROUNDS), Leg::Plain, good(), Client::new("pw"), Outcome::Both, None),
        (
            "a secret and a wrong client",
            secret("pw", SALT, ROUNDS),
            Leg::Plain,
            good(),
            Client::new("other"),
            refused(Some(false), false),
            Some("the server's"),
        ),
        (
            "a secret of another salt",
            secret("pw", b"another salt", ROUNDS),
            Leg::Plain,
            good(),
            Client::new("pw"),
            Outcome::Fault { side: Side::Ours, fault: Fault::AnotherSecret },
            Some(
                "pgwhy: can't log in for user \"app\": the SCRAM secret that it was given is not the server's",
            ),
        ),
        (
            "a secret of another count",
            secret("pw", SALT, 4),
            Leg::Plain,
            good(),
            Client::new("pw"),
            Outcome::Fault { side: Side::Ours, fault: Fault::AnotherSecret },
            Some(
                "pgwhy: can't log in for user \"app\": the SCRAM secret that it was given is not the server's",
            ),
        ),
    ];
    for (claim, credential, leg, server, client, outcome, error) in rows {
        let mut server = server;
        for late in [false, true] {
            server.first.clear();
            let played = play(credential.clone(), (leg.clone(), Leg::Plain), &mut server, &client, late);
            assert_eq!(played.outcome.as_ref(), Some(&outcome), "{claim}");
            assert_eq!(played.error.as_ref().map(|(_, text)| text.as_str()), error, "{claim}");
            assert_eq!(
                played.signed,
                (outcome == Outcome::Both).then_some(true),
                "{claim}: our own signature"
            );
        }
    }
}

#[test]
fn channels_are_bound_leg_by_leg() {
    let none = || Leg::Tls { end_point: None };
    let (no, yes): (&[u8], &[u8]) = (b"n,,", b"y,,");
    let said = |header: &'static [u8]| Client::new("pw").with(|c| c.headers = [header, header]);
    let plus = || Client::plus("pw", OURS);
    type Row = (&'static str, Leg, Client, Leg, Server, &'static [&'static [u8]], (bool, bool));
    let tls_server = || Server::new(BOTH, Some(THEIRS), "pw");
    let rows: [Row; 8] = [
        (
            "both legs bound, to different certificates",
            tls(OURS),
            plus(),
            tls(THEIRS),
            tls_server(),
            BOTH,
            (true, true),
        ),
        (
            "a client that can't, a server that can",
            tls(OURS),
            said(no),
            tls(THEIRS),
            tls_server(),
            BOTH,
            (false, true),
        ),
        (
            "a plaintext client gets no PLUS",
            Leg::Plain,
            said(no),
            tls(THEIRS),
            tls_server(),
            &[SCRAM],
            (false, true),
        ),
        (
            "y is right where nothing was offered",
            Leg::Plain,
            said(yes),
            tls(THEIRS),
            tls_server(),
            &[SCRAM],
            (false, true),
        ),
        ("a certificate without a hash", none(), said(yes), none(), tls_server(), &[SCRAM], (false, false)),
        (
            "a bound client, a plaintext server",
            tls(OURS),
            plus(),
            Leg::Plain,
            Server::new(&[SCRAM], None, "pw"),
            BOTH,
            (true, false),
        ),
        (
            "a pooler with TLS and without PLUS",
            tls(OURS),
            plus(),
            tls(THEIRS),
            Server::new(&[SCRAM], None, "pw"),
            BOTH,
            (true, false),
        ),
        (
            "other mechanisms are passed over",
            tls(OURS),
            plus(),
            tls(THEIRS),
            Server::new(&[b"OAUTHBEARER", SCRAM, SCRAM_PLUS], Some(THEIRS), "pw"),
            BOTH,
            (true, true),
        ),
    ];
    for (claim, client_leg, client, server_leg, mut server, offered, bound) in rows {
        let played = play(password("pw"), (client_leg, server_leg), &mut server, &client, false);
        assert_eq!(played.outcome, Some(Outcome::Both), "{claim}");
        assert_eq!(played.offered, offered, "{claim}");
        assert_eq!(played.bound, (Some(bound.0), Some(bound.1)), "{claim}");
    }
}

/// What auth-scram.c answers to each, by SQLSTATE and text.
#[test]
fn clients_are_refused_in_the_words_of_postgresql() {
    let plus = |change: fn(&mut Client)| Client::plus("pw", OURS).with(change);
    let plain = |change: fn(&mut Client)| Client::new("pw").with(change);
    type Row = (&'static str, Client, Fault, &'static str, &'static str);
    let malformed = "malformed SCRAM message";
    let rows: [Row; 11] = [
        (
            "thinks that there is no PLUS",
            plain(|c| c.headers = [b"y,,", b"y,,"]),
            Fault::Downgrade,
            "28000",
            "SCRAM channel binding negotiation error",
        ),
        (
            "bound to the server's certificate",
            plus(|c| c.end_point = THEIRS),
            Fault::Binding,
            "28000",
            "SCRAM channel binding check failed",
        ),
        (
            "PLUS without binding",
            plus(|c| c.headers = [b"n,,", b"n,,"]),
            Fault::Flag { plus: true },
            "08P01",
            malformed,
        ),
        (
            "binding without PLUS",
            plain(|c| c.headers = [END_POINT, END_POINT]),
            Fault::Flag { plus: false },
            "08P01",
            malformed,
        ),
        (
            "binding of another type",
            plus(|c| c.headers[0] = b"p=tls-unique,,"),
            Fault::BindingType,
            "08P01",
            "unsupported SCRAM channel-binding type",
        ),
        (
            "another header in the end",
            plain(|c| c.headers[1] = b"y,,"),
            Fault::BindingHeader,
            "08P01",
            "unexpected SCRAM channel-binding attribute in client-final-message",
        ),
        (
            "an authorization identity",
            plain(|c| c.headers[0] = b"n,a=me,"),
            Fault::AuthorizationIdentity,
            "0A000",
            "client uses authorization identity, but it is not supported",
        ),
        (
            "a mandatory extension",
            plain(|c| c.bare = b"m=x,n=,r=of-the-client"),
            Fault::Extension,
            "0A000",
            "client requires an unsupported SCRAM extension",
        ),
        ("another nonce", plain(|c| c.nonce = b"x"), Fault::ClientNonce, "08P01", "invalid SCRAM response"),
        (
            "another mechanism",
            plain(|c| c.mechanism = b"SCRAM-SHA-1"),
            Fault::MechanismNotOffered,
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        ),
        (
            "no nonce",
            plain(|c| c.bare = b"n=,x=1"),
            Fault::Wire(WireError { field: "SCRAM client nonce", fault: reader::Fault::Invalid }),
            "08P01",
            malformed,
        ),
    ];
    for (claim, client, fault, sqlstate, message) in rows {
        let mut server = Server::new(BOTH, Some(THEIRS), "pw");
        let played = play(password("pw"), (tls(OURS), tls(THEIRS)), &mut server, &client, false);
        assert_eq!(played.outcome, Some(Outcome::Fault { side: Side::Client, fault }), "{claim}");
        assert_eq!(played.error, Some((sqlstate.to_owned(), message.to_owned())), "{claim}");
        assert_eq!(played.signed, None, "{claim}");
    }
}

use crate::wire::reader::{self, WireError};

/// Without a key, on raw frames: what a server may not do.
#[test]
fn servers_that_misbehave_are_named() {
    let request = |request: Authentication<'_>| {
        let mut out = Vec::new();
        Backend::Authentication(request).encode(&mut out);
        out
    };
    let offer = || request(Authentication::Sasl(vec![SCRAM]));
    let nonce = BASE64.encode(&entropy()[ENTROPY / 2..]);
    let first = |text: String| request(Authentication::SaslContinue(text.as_bytes()));
    let long = "x".repeat(MAX_SERVER_MESSAGE);
    let rows = [
        ("no SCRAM", vec![request(Authentication::Sasl(vec![b"OAUTHBEARER"]))], Fault::NoMechanism),
        ("only PLUS in clear", vec![request(Authentication::Sasl(vec![SCRAM_PLUS]))], Fault::NoMechanism),
        ("another nonce", vec![offer(), first("r=other,s=AAAA,i=4096".into())], Fault::Nonce),
        ("only our nonce", vec![offer(), first(format!("r={nonce},s=AAAA,i=4096"))], Fault::Nonce),
        ("no rounds", vec![offer(), first(format!("r={nonce}x,s=AAAA,i=0"))], Fault::Iterations(0)),
        (
            "a million and one",
            vec![offer(), first(format!("r={nonce}x,s=AAAA,i=1000001"))],
            Fault::Iterations(1_000_001),
        ),
        ("too long", vec![offer(), first(format!("r={nonce}{long},s=AAAA,i=1"))], Fault::TooLong),
        (
            "a mandatory extension",
            vec![offer(), first(format!("m=x,r={nonce}x,s=AAAA,i=1"))],
            Fault::Wire(WireError { field: "SCRAM server nonce", fault: reader::Fault::Invalid }),
        ),
        (
            "AuthenticationOk at once",
            vec![offer(), request(Authentication::Ok)],
            Fault::Unexpected("AuthenticationOk before the server's own proof"),
        ),
        (
            "a signature before our proof",
            vec![offer(), request(Authentication::SaslFinal(b"v=AAAA"))],
            Fault::Unexpected("an authentication request"),
        ),
        (
            "MD5 in the middle",
            vec![offer(), request(Authentication::Md5([0; 4]))],
            Fault::Unexpected("an authentication request"),
        ),
        (
            "ReadyForQuery",
            vec![offer(), b"Z\0\0\0\x05I".to_vec()],
            Fault::Unexpected("a message that is no part of SCRAM"),
        ),
    ];
    for (claim, sent, fault) in rows {
        let mut bridge = Bridge::new(password("pw"), b"app", Leg::Plain, Leg::Plain, &entropy());
        let mut last = Moves::default();
        for (tag, body) in sent.iter().flat_map(|bytes| messages(bytes)) {
            last = bridge.on(&Event::Server { tag, body: &body });
        }
        assert_eq!(bridge.outcome(), Some(&Outcome::Fault { side: Side::Server, fault }), "{claim}");
        assert!(last.to_client.starts_with(b"E") && last.to_server.is_empty(), "{claim}: the client is told");
        assert_eq!(
            bridge.on(&Event::Client { tag: b'p', body: b"" }),
            Moves::default(),
            "{claim}: it is over"
        );
    }
    let mut liar = Server::new(&[SCRAM], None, "pw");
    liar.lies = true;
    let played = play(password("pw"), (Leg::Plain, Leg::Plain), &mut liar, &Client::new("pw"), false);
    assert_eq!(played.outcome, Some(Outcome::Fault { side: Side::Server, fault: Fault::ServerSignature }));
    assert_eq!(played.signed, None, "a server that does not know the password gets nobody in");
    let mut gullible = Server::new(&[SCRAM], None, "pw");
    gullible.gullible = true;
    let played = play(password("pw"), (Leg::Plain, Leg::Plain), &mut gullible, &Client::new("other"), false);
    assert_eq!(played.outcome, Some(Outcome::Fault { side: Side::Server, fault: Fault::WrongProofAccepted }));
    assert_eq!(played.signed, None, "who does not know the password does not get in");
}

#[test]
fn an_early_refusal_is_passed_on_as_it_came() {
    let mut bridge = Bridge::new(password("pw"), b"app", Leg::Plain, Leg::Plain, &entropy());
    let notice = b"SWARNING\0Mlook\0\0";
    let error = b"SFATAL\0C28000\0Mno\0\0";
    assert!(bridge.on(&Event::Server { tag: b'N', body: notice }).to_client.ends_with(notice));
    assert!(bridge.on(&Event::Server { tag: b'E', body: error }).to_client.ends_with(error));
    assert_eq!(bridge.outcome(), Some(&refused(None, false)));
}

#[test]
fn a_password_is_prepared_as_postgresql_prepares_it() {
    // The soft hyphen maps to nothing, the no-break space to a blank.
    let composed = password("a\u{ad}b\u{a0}c").salted_password(SALT, ROUNDS).unwrap();
    assert_eq!(composed.expose(), scram::salted_password(b"ab c", SALT, ROUNDS).expose());
    assert!(secret("pw", SALT, ROUNDS).salted_password(SALT, ROUNDS).is_none());
}

#[test]
fn secrets_are_read_or_refused_with_a_reason() {
    let good = ScramSecret::build(b"pw", SALT, 4096).to_text();
    assert!(Credential::secret(good.expose()).is_ok());
    let rows = [
        ("", SecretProblem::Scheme),
        ("correct horse", SecretProblem::Scheme),
        ("md5a3556571e93b0d20722ba62be61e8c2d", SecretProblem::Md5),
        ("SCRAM-SHA-256$", SecretProblem::Parts),
        ("SCRAM-SHA-256$4096$AAAA:AAAA", SecretProblem::Parts),
        ("SCRAM-SHA-256$0:AAAA$AAAA:AAAA", SecretProblem::Iterations),
        ("SCRAM-SHA-256$-1:AAAA$AAAA:AAAA", SecretProblem::Iterations),
        ("SCRAM-SHA-256$99999999999:AAAA$AAAA:AAAA", SecretProblem::Iterations),
        ("SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", SecretProblem::Encoding),
    ];
    for (text, problem) in rows {
        assert_eq!(Credential::secret(text).map(|_| ()), Err(problem), "{text}");
        assert!(!problem.to_string().contains("AAAA"));
    }
}

#[test]
fn nothing_that_can_be_printed_holds_a_secret() {
    let mut server = Server::new(&[SCRAM], None, "planted-pw");
    let mut bridge = Bridge::new(password("planted-pw"), b"app", Leg::Plain, Leg::Plain, &entropy());
    let (tag, body) = messages(&server.begin()).remove(0);
    let moves = bridge.on(&Event::Server { tag, body: &body });
    let (tag, body) = messages(&server.answer(&messages(&moves.to_server)[0].1)).remove(0);
    bridge.on(&Event::Server { tag, body: &body });
    let key = bridge.credential().salted_password(SALT, ROUNDS).unwrap();
    let numbers = format!("{:?}", key.expose());
    let event = Event::KeyReady(key);
    let shown = format!("{event:?} {:?} {bridge:?}", bridge.on(&event));
    assert!(!shown.contains("planted-pw") && !shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
}
