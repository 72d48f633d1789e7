//! Does the password that we know work? Before TLS is opened for it (and a login is bridged with it), pgwhy logs in once
//! on its own: a password of before would break logins that work without us.
//!
//! What was found holds for a moment, and every bridged login renews it, so that a busy proxy never asks twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::certs::end_point_hash;
use crate::password::bridge::{Alone, Credential, ENTROPY, Event, Leg, Need, Worth};
use crate::wire::frontend::{Startup, Untagged};

use super::dial::{Dialer, Reached};
use super::endpoint::{PeerAddr, Stream};
use super::message::{MAX_AHEAD, Message, take_message};
use super::salted::SaltedKeys;
use super::tls::{Login, Tls};

/// What is known of the passwords of users; in practice of one.
#[derive(Debug, Default)]
pub(super) struct Trials {
    // Held while a login is tried: whoever comes meanwhile waits for its result.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    user: Vec<u8>,
    worth: Worth,
    at: Instant,
}

impl Known {
    /// Whether it still holds; a success does so for a time of the asker's choice.
    fn holds(&self, success: Duration) -> bool {
        let time = if self.worth == Worth::Fails { FAILURE_KEPT } else { success };
        self.at.elapsed() < time
    }
}

impl Trials {
    /// Whether the login that we know works on the server; tries it where that is not known, or was found out longer ago
    /// than `success`.
    pub(super) async fn worth(&self, login: &Login, way: Way<'_>, success: Duration) -> Worth {
        // A password that belongs to nobody in particular is not tried on whoever comes.
        let Some(user) = &login.user else { return Worth::Unknown };
        let mut known = self.known.lock().await;
        if let Some(found) = known.iter().find(|one| one.user == user.as_bytes() && one.holds(success)) {
            return found.worth;
        }
        let trial = timeout(TRIAL, way.log_in(login, user));
        let worth = trial.await.ok().flatten().unwrap_or(Worth::Unknown);
        note(&mut known, user.as_bytes(), worth);
        worth
    }

    /// A bridged login has shown it. None waits for a trial that is under way: that finds out the same.
    pub(super) fn learn(&self, user: &[u8], worth: Worth) {
        if let Ok(mut known) = self.known.try_lock() {
            note(&mut known, user, worth);
        }
    }
}

fn note(known: &mut Vec<Known>, user: &[u8], worth: Worth) {
    known.retain(|one| one.user != user);
    if known.len() >= USERS {
        known.remove(0);
    }
    known.push(Known { user: user.to_vec(), worth, at: Instant::now() });
}

impl Login {
    /// What a bridge works with.
    pub(super) fn credential(&self) -> Credential {
        Credential::secret(self.password.expose())
            .unwrap_or_else(|_| Credential::Password(self.password.clone()))
    }
}

/// How a login of ours gets to the server.
#[derive(Clone, Copy)]
pub(super) struct Way<'w> {
    pub(super) dialer: &'w Dialer,
    pub(super) tls: &'w Tls,
    pub(super) keys: &'w SaltedKeys,
    /// With TLS, but on Unix sockets.
    pub(super) over_tls: bool,
}

impl Way<'_> {
    async fn log_in(self, login: &Login, user: &str) -> Option<Worth> {
        let (mut server, leg) = self.reach().await?;
        let database = login.database.as_deref().unwrap_or(user);
        let parameters = [("user", user), ("database", database), ("application_name", "pgwhy")];
        let parameters = parameters.map(|(name, value)| (name.as_bytes(), value.as_bytes())).to_vec();
        let mut startup = Vec::new();
        Untagged::Startup(Startup { version: PROTOCOL, parameters }).encode(&mut startup);
        send(&mut server, &startup).await?;
        let mut entropy = [0; ENTROPY];
        rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut entropy).ok()?;
        let credential = Arc::new(login.credential());
        let mut alone = Alone::new(Credential::clone(&credential), leg, &entropy);
        let mut ahead = Zeroizing::new(Vec::new());
        let worth = loop {
            let Message { tag, body } = next(&mut server, &mut ahead).await?;
            let mut moves = alone.on(&Event::Server { tag, body: &body });
            if let Some(Need::Key { salt, iterations }) = moves.need.take() {
                moves = alone.on(&Event::KeyReady(self.keys.made(&credential, salt, iterations).await?));
            }
            if let Some(worth) = alone.worth() {
                break worth;
            }
            send(&mut server, &moves.to_server).await?;
        };
        if worth == Worth::Works {
            // A session of ours must not stand in the way of the client's where the role may have only one.
            let _ = timeout(GOODBYE, leave(server)).await;
        }
        Some(worth)
    }

    /// A connection to the server like the one that a login would have.
    async fn reach(self) -> Option<(Stream, Leg)> {
        let reached = self.dialer.dial(Instant::now(), &mut Vec::new()).await?;
        self.encrypt(reached).await
    }

    /// Begins TLS, where that is the way.
    pub(super) async fn encrypt(self, reached: Reached) -> Option<(Stream, Leg)> {
        let on_socket = matches!(reached.addr, PeerAddr::Unix(_));
        let mut server = Stream::Plain(reached.socket);
        if !self.over_tls || on_socket {
            return Some((server, Leg::Plain));
        }
        if !self.tls.config.direct {
            let mut request = Vec::new();
            Untagged::SslRequest.encode(&mut request);
            send(&mut server, &request).await?;
            let mut answer = [0];
            server.read_exact(&mut answer).await.ok()?;
            if answer != *b"S" {
                return None;
            }
        }
        let socket = server.into_socket()?;
        let connecting =
            self.tls.connector.connect(socket, &reached.host, None, self.tls.verify(), Instant::now());
        let (server, seen) = connecting.await.ok()?;
        let leaf = seen.chain.first()?;
        Some((server, Leg::Tls { end_point: end_point_hash(leaf) }))
    }
}

async fn send(server: &mut Stream, bytes: &[u8]) -> Option<()> {
    server.write_all(bytes).await.ok()?;
    server.flush().await.ok()
}

async fn next(server: &mut Stream, ahead: &mut Vec<u8>) -> Option<Message> {
    loop {
        if let Some(message) = take_message(ahead) {
            return Some(message);
        }
        let mut buffer = [0; 1024];
        let count = server.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        ahead.extend_from_slice(buffer.get(..count)?);
        if ahead.len() > MAX_AHEAD {
            return None;
        }
    }
}

/// Terminates the session and waits until its process is gone.
async fn leave(mut server: Stream) -> Option<()> {
    send(&mut server, b"X\0\0\0\x04").await?;
    let mut buffer = [0; 1024];
    while server.read(&mut buffer).await.ok()? > 0 {}
    Some(())
}

const PROTOCOL: u32 = 196_608;

/// How long a login of ours may take; a server that needs longer is not asked for the sake of a report.
const TRIAL: Duration = Duration::from_secs(5);

/// How long its session may take to end.
const GOODBYE: Duration = Duration::from_secs(1);

/// A password can be changed at any time: what worked this long ago is tried again.
pub(super) const SUCCESS_KEPT: Duration = Duration::from_secs(30);

/// As good as now: more often nobody makes us log in, whatever is guessed here.
pub(super) const JUST_NOW: Duration = Duration::from_secs(1);

/// Longer, as every refused login counts where accounts are locked after some.
const FAILURE_KEPT: Duration = Duration::from_secs(120);

/// Users whose logins were tried: those of one connection string.
const USERS: usize = 4;
