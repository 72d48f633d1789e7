//! The authentication exchange between two legs of which at least one has TLS of ours.
//!
//! SCRAM binds a login to its TLS channel, so it can't always be carried from leg to leg. Up to the
//! server's AuthenticationSASL messages are carried whole; then one of these follows:
//!
//! - the password is known: both legs are logged in on their own ([`crate::password::bridge`]);
//! - the client's leg is in clear: SCRAM-SHA-256-PLUS is taken out of the offer;
//! - the client may need a certificate that we do not have: it is told so, and passed through next time;
//! - otherwise it is carried as it is.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certs::end_point_hash;
use crate::handshake::driver::recognise;
use crate::handshake::opened::Bridged;
use crate::handshake::{Close, Side};
use crate::password::bridge::{Bridge, Credential, ENTROPY, Event, Leg, Moves, Need, Outcome, SCRAM_PLUS};
use crate::wire::backend::{Authentication, Backend};
use crate::wire::frontend::SaslInitialResponse;

use super::Ending;
use super::endpoint::Stream;
use super::proxy::Shared;
use super::session::{Ends, Facts, Verdict};
use super::tls::ClientTls;
use super::watch::Watch;

type Step<T> = Result<T, Box<Verdict>>;

/// Carries the login up to where nothing stands in the way of carrying the rest unread.
pub(super) async fn pass(shared: &Shared, ends: &mut Ends, facts: &Facts, watch: &mut Watch<'_>) -> Step<()> {
    let is_tls = |end: &Option<Stream>| end.as_ref().is_some_and(Stream::is_tls);
    if !is_tls(&ends.client) && !is_tls(&ends.server) {
        return Ok(());
    }
    let (Some(client), Some(server)) = (&mut ends.client, &mut ends.server) else {
        return Err(Box::new(Verdict::Ending(Ending::Closed)));
    };
    let mut exchange = Exchange { shared, facts, watch, client, server, ahead: Vec::new() };
    // On the heap: a login in clear has no need of it, and its task would carry the room for it.
    Box::pin(exchange.run()).await
}

struct Exchange<'e, 'w> {
    shared: &'e Shared,
    facts: &'e Facts,
    watch: &'e mut Watch<'w>,
    client: &'e mut Stream,
    server: &'e mut Stream,
    /// What the server has sent and nobody has got yet.
    ahead: Vec<u8>,
}

/// A message, its type apart.
struct Message {
    tag: u8,
    body: Vec<u8>,
}

/// Who spoke.
enum Heard {
    Server(Message),
    /// The server sent something that is no message, or nothing more.
    ServerDone,
    Client(Vec<u8>),
    ClientDone(Close),
}

impl Exchange<'_, '_> {
    async fn run(&mut self) -> Step<()> {
        self.send_startup().await?;
        // What came with the first answer is in our hands already.
        self.ahead = self.watch.drop_put(Side::Server);
        loop {
            match self.hear().await {
                Heard::Server(Message { tag: b'R', body }) => return self.asked(&body).await,
                Heard::Server(Message { tag: b'E', body }) => {
                    self.forward(b'E', &body).await?;
                    return self.let_go();
                }
                // NegotiateProtocolVersion and notices come before.
                Heard::Server(message) => self.forward(message.tag, &message.body).await?,
                Heard::ServerDone => return self.let_go(),
                Heard::Client(bytes) => {
                    // Nothing of the client's has a place here; the server is to judge that.
                    self.watch.put(Side::Client, &bytes);
                    return self.let_go();
                }
                Heard::ClientDone(how) => return self.client_done(how),
            }
        }
    }

    /// The startup packet is the client's first bytes, unless it was sent when the server was met.
    async fn send_startup(&mut self) -> Step<()> {
        let startup = self.watch.drop_put(Side::Client);
        if startup.is_empty() {
            return Ok(());
        }
        self.tell_server(&startup).await?;
        self.watch.look(Side::Client, &startup);
        Ok(())
    }

    /// The server's first authentication request.
    async fn asked(&mut self, body: &[u8]) -> Step<()> {
        let mechanisms = match Authentication::decode(body) {
            Ok(Authentication::Sasl(mechanisms)) => mechanisms,
            _ => {
                self.forward(b'R', body).await?;
                return self.let_go();
            }
        };
        let user = self.watch.observer.record().user().unwrap_or_default().to_vec();
        let login = self.shared.tls.config.login.as_ref().filter(|login| login.is_for(&user));
        if let Some(login) = login
            && Bridge::is_possible(&mechanisms)
        {
            let credential = Credential::secret(login.password.expose())
                .unwrap_or_else(|_| Credential::Password(login.password.clone()));
            return self.bridge(credential, &user, body).await;
        }
        let plus = mechanisms.contains(&SCRAM_PLUS);
        if plus && !self.client.is_tls() && !self.takes_plus_in_clear() {
            let rest: Vec<&[u8]> = mechanisms.into_iter().filter(|name| *name != SCRAM_PLUS).collect();
            let mut without = Vec::new();
            Backend::Authentication(Authentication::Sasl(rest)).encode(&mut without);
            self.watch.observer.legs().plus_removed = true;
            self.note_server_leg(b'R', body);
            self.watch.part_legs(true);
            self.tell_client(&without).await?;
            return self.let_go();
        }
        self.forward(b'R', body).await?;
        let legs = self.watch.observer.legs();
        let same = legs.client.as_ref().is_some_and(|client| client.has_servers_certificate);
        if plus && self.client.is_tls() && !same && self.shared.tls.config.client == ClientTls::Auto {
            return self.guard().await;
        }
        self.let_go()
    }

    /// Npgsql takes an offer without PLUS for a server that can't bind, and says `y`, which a server
    /// with TLS refuses; libpq refuses PLUS on a connection without TLS.
    fn takes_plus_in_clear(&self) -> bool {
        recognise(self.watch.observer.record()).is_some_and(|driver| driver.name == "Npgsql")
    }

    /// `auto` has opened TLS for a user whose password it does not know: one that needs channel binding
    /// gets one clear error, and is passed through from then on.
    async fn guard(&mut self) -> Step<()> {
        let mut client = Vec::new();
        let needs = loop {
            match self.hear().await {
                Heard::Client(bytes) => {
                    client.extend_from_slice(&bytes);
                    match cut(&client) {
                        Cut::Partial => {}
                        Cut::Whole(length) => break client.get(5..length).is_some_and(needs_binding),
                        Cut::Nonsense => break false,
                    }
                }
                Heard::ClientDone(how) => return self.client_done(how),
                Heard::Server(message) => {
                    self.forward(message.tag, &message.body).await?;
                    break false;
                }
                Heard::ServerDone => break false,
            }
        };
        self.watch.put(Side::Client, &client);
        if needs && self.shared.tls.pass_from_now_on(self.facts.peer.ip()) {
            self.watch.part_legs(true);
            self.watch.look_at_first_bytes();
            self.watch.observer.legs().binding_refused = true;
            return Err(Box::new(Verdict::Refused(Ending::Failed, "28000", NEEDS_BINDING)));
        }
        self.let_go()
    }

    /// Logs in on both legs.
    async fn bridge(&mut self, credential: Credential, user: &[u8], offer: &[u8]) -> Step<()> {
        let mut entropy = [0; ENTROPY];
        if rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut entropy).is_err() {
            return Err(Box::new(Verdict::Ending(Ending::Closed)));
        }
        let credential = Arc::new(credential);
        let (client_leg, server_leg) = (self.client_leg(), self.server_leg());
        let mut bridge = Bridge::new(Credential::clone(&credential), user, client_leg, server_leg, &entropy);
        let mut from_client = Vec::new();
        self.note_server_leg(b'R', offer);
        self.watch.part_legs(true);
        let mut moves = bridge.on(&Event::Server { tag: b'R', body: offer });
        loop {
            if let Some(Need::Key { salt, iterations }) = moves.need.take() {
                self.send(&moves).await?;
                moves = match self.salted(&credential, salt, iterations).await {
                    Some(key) => bridge.on(&Event::KeyReady(key)),
                    None => return Err(Box::new(Verdict::Ending(Ending::Closed))),
                };
                continue;
            }
            self.send(&moves).await?;
            if let Some(outcome) = bridge.outcome() {
                let outcome = outcome.clone();
                self.watch.put(Side::Client, &from_client);
                return self.bridged(&outcome);
            }
            if let Some(Message { tag, body }) = take_message(&mut from_client) {
                let mut whole = Vec::new();
                put_message(&mut whole, tag, &body);
                self.watch.look(Side::Client, &whole);
                moves = bridge.on(&Event::Client { tag, body: &body });
                continue;
            }
            moves = match self.hear().await {
                Heard::Server(Message { tag, body }) => {
                    self.note_server_leg(tag, &body);
                    bridge.on(&Event::Server { tag, body: &body })
                }
                Heard::Client(bytes) => {
                    from_client.extend_from_slice(&bytes);
                    if from_client.len() > MAX_AHEAD || matches!(cut(&from_client), Cut::Nonsense) {
                        return Err(Box::new(Verdict::Ending(Ending::Failed)));
                    }
                    Moves::default()
                }
                Heard::ClientDone(how) => return self.client_done(how),
                Heard::ServerDone => return self.let_go(),
            };
        }
    }

    async fn salted(
        &self,
        credential: &Arc<Credential>,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Option<crate::password::scram::Key> {
        let kept = &self.shared.keys;
        if let Some(key) = kept.get(&salt, iterations) {
            return Some(key);
        }
        let credential = Arc::clone(credential);
        let wanted = salt.clone();
        let made = tokio::task::spawn_blocking(move || credential.salted_password(&wanted, iterations));
        let key = made.await.ok()??;
        kept.put(salt, iterations, key.clone());
        Some(key)
    }

    fn bridged(&mut self, outcome: &Outcome) -> Step<()> {
        let (client_fits, server_accepts, ours) = match outcome {
            Outcome::Both => (Some(true), Some(true), false),
            Outcome::WrongProof { server_accepts } => (Some(false), *server_accepts, true),
            Outcome::ServerRefused { proof_fits, after_our_proof } => {
                (*proof_fits, after_our_proof.then_some(false), false)
            }
            Outcome::Fault { .. } => (None, None, true),
        };
        self.watch.observer.legs().bridged =
            Some(Bridged { client_fits, server_accepts, answered_by_us: ours });
        if *outcome == Outcome::Both {
            return self.let_go();
        }
        Err(Box::new(Verdict::Settled(crate::handshake::Attention::Failed)))
    }

    fn client_leg(&self) -> Leg {
        match (self.client.is_tls(), self.shared.tls.server_side()) {
            (true, Some(side)) => Leg::Tls { end_point: end_point_hash(side.leaf()) },
            (true, None) => Leg::Tls { end_point: None },
            (false, _) => Leg::Plain,
        }
    }

    fn server_leg(&mut self) -> Leg {
        if !self.server.is_tls() {
            return Leg::Plain;
        }
        let server = self.watch.observer.legs().server.as_ref();
        let leaf = server.and_then(|server| server.chain.first());
        Leg::Tls { end_point: leaf.and_then(|leaf| end_point_hash(leaf)) }
    }

    async fn send(&mut self, moves: &Moves) -> Step<()> {
        if !moves.to_server.is_empty() {
            self.tell_server(&moves.to_server).await?;
            self.watch.note_server_leg(Side::Client, &moves.to_server);
        }
        if moves.to_client.is_empty() { Ok(()) } else { self.tell_client(&moves.to_client).await }
    }

    /// A message of the server that the client does not get, or not like this.
    fn note_server_leg(&mut self, tag: u8, body: &[u8]) {
        let mut whole = Vec::with_capacity(body.len() + 5);
        put_message(&mut whole, tag, body);
        self.watch.note_server_leg(Side::Server, &whole);
    }

    async fn forward(&mut self, tag: u8, body: &[u8]) -> Step<()> {
        let mut whole = Vec::with_capacity(body.len() + 5);
        put_message(&mut whole, tag, body);
        self.tell_client(&whole).await
    }

    async fn tell_client(&mut self, bytes: &[u8]) -> Step<()> {
        let sent = write(self.client, bytes).await;
        self.watch.look(Side::Server, bytes);
        self.watch.down.bytes += bytes.len() as u64;
        if sent.is_err() { self.gone(Side::Client) } else { Ok(()) }
    }

    async fn tell_server(&mut self, bytes: &[u8]) -> Step<()> {
        self.watch.up.bytes += bytes.len() as u64;
        if write(self.server, bytes).await.is_err() { self.gone(Side::Server) } else { Ok(()) }
    }

    fn gone<T>(&mut self, side: Side) -> Step<T> {
        self.watch.note_close(side, Close::Reset);
        Err(Box::new(Verdict::Ending(Ending::Closed)))
    }

    fn client_done(&mut self, how: Close) -> Step<()> {
        self.watch.note_close(Side::Client, how);
        Err(Box::new(Verdict::Ending(Ending::Closed)))
    }

    /// What is still in our hands goes on the common way.
    #[allow(clippy::unnecessary_wraps, reason = "it ends every branch of a step")]
    fn let_go(&mut self) -> Step<()> {
        self.watch.part_legs(false);
        let rest = std::mem::take(&mut self.ahead);
        self.watch.put(Side::Server, &rest);
        Ok(())
    }

    /// The next whole message of the server, or bytes of the client, whichever is there first.
    async fn hear(&mut self) -> Heard {
        loop {
            if let Some(message) = take_message(&mut self.ahead) {
                return Heard::Server(message);
            }
            if matches!(cut(&self.ahead), Cut::Nonsense) {
                return Heard::ServerDone;
            }
            let (mut from_server, mut from_client) = ([0; READ], [0; READ]);
            tokio::select! {
                count = self.server.read(&mut from_server) => match count {
                    Ok(0) | Err(_) => return Heard::ServerDone,
                    Ok(count) => self.ahead.extend_from_slice(from_server.get(..count).unwrap_or_default()),
                },
                count = self.client.read(&mut from_client) => return match count {
                    Ok(0) => Heard::ClientDone(Close::Eof),
                    Err(_) => Heard::ClientDone(Close::Reset),
                    Ok(count) => Heard::Client(from_client.get(..count).unwrap_or_default().to_vec()),
                },
            }
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Where a message ends.
enum Cut {
    /// Later.
    Partial,
    /// Here, type and length word included.
    Whole(usize),
    /// Nowhere: the length is impossible, or longer than a login's messages are.
    Nonsense,
}

fn cut(bytes: &[u8]) -> Cut {
    let Some(word) = bytes.get(1..).and_then(|rest| rest.first_chunk::<4>()) else { return Cut::Partial };
    match usize::try_from(u32::from_be_bytes(*word)) {
        Ok(length) if (4..=MAX_AHEAD).contains(&length) => {
            if bytes.len() > length {
                Cut::Whole(length + 1)
            } else {
                Cut::Partial
            }
        }
        _ => Cut::Nonsense,
    }
}

fn take_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let Cut::Whole(length) = cut(bytes) else { return None };
    let tag = bytes.first().copied()?;
    let body = bytes.get(5..length)?.to_vec();
    bytes.drain(..length);
    Some(Message { tag, body })
}

fn put_message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    crate::wire::frontend::encode_tagged(out, tag, body);
}

/// Whether a SASLInitialResponse binds to the channel, or would if it could.
fn needs_binding(body: &[u8]) -> bool {
    SaslInitialResponse::decode(body).is_ok_and(|initial| {
        initial.mechanism == SCRAM_PLUS || initial.response.is_some_and(|text| text.starts_with(b"y"))
    })
}

/// What a client is told that needs a certificate which pgwhy does not have.
const NEEDS_BINDING: &str = "this login needs channel binding, which ends at pgwhy: connect again (it is passed through unopened from now on), or start pgwhy with --client-tls passthrough, with the server's own --tls-cert and --tls-key, or with this user's password";

/// Read at once; messages of a login are a few hundred bytes.
const READ: usize = 4096;

/// The longest message of a login, and what a client may send ahead: PostgreSQL's longest token is 65,535 bytes.
const MAX_AHEAD: usize = 65_536;
