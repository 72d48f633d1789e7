//! The authentication exchange between two legs of which at least one has TLS of ours.
//!
//! SCRAM binds a login to its TLS channel, so it can't always be carried from leg to leg. Up to the
//! server's AuthenticationSASL messages are carried whole; then one of these follows:
//!
//! - the password is known, and works: both legs are logged in on their own ([`crate::password::bridge`]);
//! - the client's leg is in clear: SCRAM-SHA-256-PLUS is taken out of the offer;
//! - the client binds to a certificate of ours: that can't be carried, so it is bridged with a password that is
//!   not known to work; or told so, and passed through next time;
//! - otherwise it is carried as it is.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::certs::end_point_hash;
use crate::handshake::driver::recognise;
use crate::handshake::opened::{Bridged, FaultKind};
use crate::handshake::{Close, Side};
use crate::password::bridge::{
    Bridge, Credential, ENTROPY, Event, Leg, Moves, Need, Outcome, SCRAM_PLUS, Worth,
};
use crate::wire::backend::{Authentication, Backend};
use crate::wire::frontend::SaslInitialResponse;

use super::attempt::Ending;
use super::endpoint::Stream;
use super::login::{Ends, Facts, NO_SERVER_TLS, Step, Verdict};
use super::message::{Cut, MAX_AHEAD, Message, cut, put_message, take_message};
use super::shared::Shared;
use super::tls::{ClientTls, Login, fault_of};
use super::watch::Watch;

/// Carries the login up to where nothing stands in the way of carrying the rest unread.
pub(super) async fn pass(shared: &Shared, ends: &mut Ends, facts: &Facts, watch: &mut Watch<'_>) -> Step<()> {
    let is_tls = |end: &Option<Stream>| end.as_ref().is_some_and(Stream::is_tls);
    if !is_tls(&ends.client) && !is_tls(&ends.server) {
        return Ok(());
    }
    let (Some(client), Some(server)) = (&mut ends.client, &mut ends.server) else {
        return Err(Box::new(Verdict::Ending(Ending::Closed)));
    };
    let mut exchange = Exchange { shared, facts, watch, client, server, ahead: Zeroizing::default() };
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
    ahead: Zeroizing<Vec<u8>>,
}

/// What followed the offer.
enum First {
    /// A whole message of the client, and whatever it sent with it.
    Message(Zeroizing<Vec<u8>>),
    /// Something else.
    Other,
}

/// Who spoke.
enum Heard {
    Server(Message),
    /// The server sent something that is no message, or nothing more.
    ServerDone,
    /// The server ended TLS with this alert.
    ServerAlert(u8),
    Client(Zeroizing<Vec<u8>>),
    ClientDone(Close),
}

impl Exchange<'_, '_> {
    async fn run(&mut self) -> Step<()> {
        self.send_startup().await?;
        // What came with the first answer is in our hands already.
        self.ahead = self.watch.drop_put(Side::Server).into();
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
                Heard::ServerAlert(code) => return self.alerted(code),
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
            let worth = self.shared.worth(login, self.server.is_tls()).await;
            if worth == Worth::Works {
                return self.bridge(login, &user, body, None).await;
            }
            if self.client.is_tls() && !self.shows_servers_certificate() {
                return self.bridge_or_carry(login, &user, body).await;
            }
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
        let same = self.shows_servers_certificate();
        if plus && self.client.is_tls() && !same && self.shared.tls.config.client == ClientTls::Auto {
            return self.guard().await;
        }
        self.let_go()
    }

    fn shows_servers_certificate(&mut self) -> bool {
        let client = self.watch.observer.legs().client.as_ref();
        client.is_some_and(|client| client.has_servers_certificate)
    }

    /// A password that is not known to work is better not used: a client that does not bind to its channel is carried,
    /// and only one that does is bridged, as it could not get in otherwise.
    async fn bridge_or_carry(&mut self, login: &Login, user: &[u8], offer: &[u8]) -> Step<()> {
        self.forward(b'R', offer).await?;
        let first = match self.client_first().await? {
            First::Message(first) => first,
            First::Other => return self.let_go(),
        };
        if first.get(5..).is_some_and(binds) {
            return self.bridge(login, user, offer, Some(first)).await;
        }
        self.watch.put(Side::Client, &first);
        self.let_go()
    }

    /// The client's answer to the offer; `Other` where something else is next, which is in our hands.
    async fn client_first(&mut self) -> Step<First> {
        let mut client = Zeroizing::new(Vec::new());
        loop {
            match self.hear().await {
                Heard::Client(bytes) => {
                    client.extend_from_slice(&bytes);
                    match cut(&client) {
                        Cut::Partial => {}
                        Cut::Whole(_) => return Ok(First::Message(client)),
                        Cut::Nonsense => break,
                    }
                }
                Heard::ClientDone(how) => return self.client_done(how).map(|()| First::Other),
                Heard::Server(message) => {
                    self.forward(message.tag, &message.body).await?;
                    break;
                }
                Heard::ServerDone | Heard::ServerAlert(_) => break,
            }
        }
        self.watch.put(Side::Client, &client);
        Ok(First::Other)
    }

    /// Npgsql takes an offer without PLUS for a server that can't bind, and says `y`, which a server
    /// with TLS refuses; libpq refuses PLUS on a connection without TLS.
    fn takes_plus_in_clear(&self) -> bool {
        recognise(self.watch.observer.record()).is_some_and(|driver| driver.name == "Npgsql")
    }

    /// `auto` has opened TLS for a user whose password it does not know: one that needs channel binding
    /// gets one clear error, and is passed through from then on.
    async fn guard(&mut self) -> Step<()> {
        let First::Message(first) = self.client_first().await? else { return self.let_go() };
        let needs = first.get(5..).is_some_and(needs_binding);
        self.watch.put(Side::Client, &first);
        if needs && self.shared.tls.pass_from_now_on(self.facts.peer.ip()) {
            self.watch.part_legs(true);
            self.watch.look_at_first_bytes();
            self.watch.observer.legs().binding_refused = true;
            return Err(Box::new(Verdict::Refused(Ending::Failed, "28000", NEEDS_BINDING)));
        }
        self.let_go()
    }

    /// Logs in on both legs. `first` is the client's answer to the server's own offer, where it has had that already.
    async fn bridge(
        &mut self,
        login: &Login,
        user: &[u8],
        offer: &[u8],
        first: Option<Zeroizing<Vec<u8>>>,
    ) -> Step<()> {
        let mut entropy = [0; ENTROPY];
        if rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut entropy).is_err() {
            return Err(Box::new(Verdict::Ending(Ending::Closed)));
        }
        let credential = Arc::new(login.credential());
        let (client_leg, server_leg) = (self.client_leg(), self.server_leg());
        let mut bridge = Bridge::new(Credential::clone(&credential), user, client_leg, server_leg, &entropy);
        if first.is_none() {
            self.note_server_leg(b'R', offer);
        }
        self.watch.part_legs(true);
        let mut moves = bridge.on(&Event::Server { tag: b'R', body: offer });
        if first.is_some() {
            moves.to_client.clear();
        }
        let mut from_client = first.unwrap_or_default();
        loop {
            if let Some(Need::Key { salt, iterations }) = moves.need.take() {
                self.send(&moves).await?;
                moves = match self.shared.keys.made(&credential, salt, iterations).await {
                    Some(key) => bridge.on(&Event::KeyReady(key)),
                    None => return Err(Box::new(Verdict::Ending(Ending::Closed))),
                };
                continue;
            }
            self.send(&moves).await?;
            if let Some(outcome) = bridge.outcome() {
                if *outcome == Outcome::Both {
                    self.watch.put(Side::Client, &from_client);
                }
                return self.bridged(outcome, login, user).await;
            }
            if bridge.hears_client()
                && let Some(Message { tag, body }) = take_message(&mut from_client)
            {
                let mut whole = Zeroizing::new(Vec::new());
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
                Heard::ServerDone | Heard::ServerAlert(_) => return self.let_go(),
            };
        }
    }

    /// The client has been told. Nobody who was refused here is carried any further.
    async fn bridged(&mut self, outcome: &Outcome, login: &Login, user: &[u8]) -> Step<()> {
        let (client_fits, server_accepts) = match outcome {
            Outcome::Both => (Some(true), Some(true)),
            // The server has judged neither password: what the expected one is worth is asked anew, as it may
            // have been changed just now, and the client may have the right one.
            Outcome::ServerRefused { proof_fits: Some(false), .. } => {
                let worth = self.shared.worth_now(login, self.server.is_tls()).await;
                (Some(false), worth.accepts())
            }
            Outcome::ServerRefused { proof_fits, after_our_proof } => {
                (*proof_fits, after_our_proof.then_some(false))
            }
            Outcome::Fault { .. } => (None, None),
        };
        match outcome {
            Outcome::Both => self.shared.trials.learn(user, Worth::Works),
            Outcome::ServerRefused { after_our_proof: true, .. } => {
                self.shared.trials.learn(user, Worth::Fails);
            }
            _ => {}
        }
        self.watch.observer.legs().bridged = Some(Bridged { client_fits, server_accepts });
        match outcome {
            Outcome::Both => self.let_go(),
            Outcome::ServerRefused { .. } => {
                Err(Box::new(Verdict::Settled(crate::handshake::Attention::Failed)))
            }
            Outcome::Fault { .. } => Err(Box::new(Verdict::Told(Ending::Failed))),
        }
    }

    fn client_leg(&mut self) -> Leg {
        let is_tls = self.client.is_tls();
        // The one that this client was shown: it may have been renewed since.
        let client = self.watch.observer.legs().client.as_ref();
        leg(is_tls, client.and_then(|client| client.shown.as_deref()))
    }

    fn server_leg(&mut self) -> Leg {
        let is_tls = self.server.is_tls();
        let server = self.watch.observer.legs().server.as_ref();
        leg(is_tls, server.and_then(|server| server.chain.first()).map(Vec::as_slice))
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

    fn server_failed(&mut self, error: &std::io::Error) -> Heard {
        match fault_of(error) {
            FaultKind::Alert(code) => Heard::ServerAlert(code),
            _ => {
                // Asked again, the socket might call it an ordinary end.
                self.watch.note_close(Side::Server, Close::Reset);
                Heard::ServerDone
            }
        }
    }

    /// In TLS 1.3 the server judges our certificate when the handshake is over for us, so that its alert is the answer
    /// to the startup packet.
    fn alerted(&mut self, code: u8) -> Step<()> {
        let fault = self.shared.tls.connector.fault(FaultKind::Alert(code), &self.facts.host);
        self.watch.observer.legs().fault = Some(fault);
        Err(Box::new(Verdict::Refused(Ending::Failed, "08006", NO_SERVER_TLS)))
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
            let (mut from_server, mut from_client) = (Zeroizing::new([0; READ]), Zeroizing::new([0; READ]));
            tokio::select! {
                count = self.server.read(from_server.as_mut_slice()) => match count {
                    Ok(0) => return Heard::ServerDone,
                    Err(error) => return self.server_failed(&error),
                    Ok(count) => self.ahead.extend_from_slice(from_server.get(..count).unwrap_or_default()),
                },
                count = self.client.read(from_client.as_mut_slice()) => return match count {
                    Ok(0) => Heard::ClientDone(Close::Eof),
                    Err(_) => Heard::ClientDone(Close::Reset),
                    Ok(count) => Heard::Client(from_client.get(..count).unwrap_or_default().to_vec().into()),
                },
            }
        }
    }
}

/// A leg, and the certificate that whoever binds to it binds to.
fn leg(is_tls: bool, leaf: Option<&[u8]>) -> Leg {
    if is_tls { Leg::Tls { end_point: leaf.and_then(end_point_hash) } } else { Leg::Plain }
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Whether a SASLInitialResponse binds to the channel.
fn binds(body: &[u8]) -> bool {
    SaslInitialResponse::decode(body).is_ok_and(|initial| initial.mechanism == SCRAM_PLUS)
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
