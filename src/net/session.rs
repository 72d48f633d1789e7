//! One client connection, from accept to the hand-over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::handshake::record::MOMENT;
use crate::handshake::{Attention, Close, Observer, Side};
use crate::wire::backend::Backend;
use crate::wire::error_fields::ErrorFields;

use super::attempt::{Attempt, Closed, Ending, OpaqueFacts};
use super::endpoint::{PeerAddr, Socket, Stream};
use super::guard::{Guard, Totals};
use super::legs::{self, Met};
use super::limits::{LoginPermit, Permit};
use super::login::{Ends, Facts, LEFT, Verdict};
use super::sasl;
use super::shared::{Phase, Registry, Shared};
use super::watch::{Pause, Watch};

/// Takes an accepted client in, or turns it away where a limit says so. Never waits.
pub(super) fn begin(shared: &Arc<Shared>, client: Socket, peer: PeerAddr, listener: &PeerAddr) {
    let facts = Facts {
        id: shared.next_id.fetch_add(1, Ordering::Relaxed),
        accepted: Instant::now(),
        time: SystemTime::now(),
        listener: listener.clone(),
        peer,
        server: None,
        our_outgoing: None,
        dials: Vec::new(),
        ssl_answered_by_us: false,
        declined: Vec::new(),
        asked: false,
        host: String::new(),
    };
    match shared.gate.enter(facts.peer.ip()) {
        Ok((permit, login)) => {
            tokio::spawn(serve(Arc::clone(shared), client, facts, permit, login));
        }
        Err((which, value)) => {
            let sink = &shared.registry.sink;
            sink.attempt(facts.attempt(Observer::new(), Ending::Limit { which, value }, None));
            if let Ok(place) = Arc::clone(&shared.lingering).try_acquire_owned() {
                tokio::spawn(async move {
                    let word = fatal("53300", "pgwhy has reached a limit of connections");
                    part(Ends { client: Some(Stream::Plain(client)), server: None }, word).await;
                    drop(place);
                });
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, client: Socket, mut facts: Facts, permit: Permit, login: LoginPermit) {
    let registry = Arc::clone(&shared.registry);
    let mut watch = Watch::new(facts.id, facts.accepted, &registry);
    let mut ends = Ends { client: Some(Stream::Plain(client)), server: None };
    // On the heap, and gone before the session is handed over.
    let verdict = Box::pin(in_time(&shared, &mut ends, &mut facts, &mut watch)).await;
    let id = facts.id;
    let accepted = facts.accepted;
    let attention = match verdict {
        // A stopped peer may still read what was written before; nothing waits for it.
        Verdict::Ending(ending) => return give_up(&registry, facts, watch, ending),
        Verdict::Refused(ending, sqlstate, message) => {
            give_up(&registry, facts, watch, ending);
            return Box::pin(part(ends, fatal(sqlstate, message))).await;
        }
        Verdict::Told(ending) => {
            give_up(&registry, facts, watch, ending);
            return Box::pin(part(ends, Vec::new())).await;
        }
        Verdict::Settled(attention) => attention,
    };
    let Ends { client: Some(mut client), server: Some(mut server) } = ends else {
        // A verdict is settled by carrying between two ends.
        registry.sink.attempt(facts.attempt(watch.observer, Ending::Closed, None));
        return;
    };
    match attention {
        Attention::Ready | Attention::Settling => {
            drop(login);
            let key = watch.observer.cancel_key().zip(facts.target());
            let key = key.map(|(key, target)| registry.keys.learn(key, target));
            let tail = Tail::new(&registry, (id, accepted), key, permit);
            settle(&shared, &mut client, &mut server, &mut watch).await;
            let shown = registry.sink.wants_sessions();
            let observer = watch.tell(shown);
            tail.registry.sink.attempt(facts.attempt(observer, Ending::Ready, None));
            if shown {
                Box::pin(stay(&shared, client, server, watch, tail)).await;
            } else {
                first_words(&shared, &mut client, &mut server, &mut watch).await;
                hand_over(&shared, client, server, watch, tail).await;
            }
        }
        Attention::Opaque => {
            drop(login);
            let first_try = registry.first_tries.watch(facts.peer.ip(), id);
            watch_opaque(&shared, &mut client, &mut server, &mut watch).await;
            let closed = watch.first;
            let opaque = OpaqueFacts { client_bytes: watch.up.bytes, server_bytes: watch.down.bytes, closed };
            let observer = watch.tell(false);
            registry.sink.attempt(facts.attempt(observer, Ending::Opaque, Some(opaque)));
            drop(first_try);
            let tail = Tail::new(&registry, (id, accepted), None, permit);
            hand_over(&shared, client, server, watch, tail).await;
        }
        attention => {
            let ending = match attention {
                // One whose key can't be looked up any more, as it came behind an encryption request.
                Attention::Cancel => Ending::Cancel { known: false, delivered: true },
                _ => Ending::Failed,
            };
            let observer = watch.tell(false);
            let attempt = facts.attempt(observer, ending, None);
            Box::pin(tell_failed(&shared, &mut client, &mut server, &mut watch, attempt)).await;
            linger(&shared, &mut client, &mut server, &mut watch).await;
            drop(login);
            registry.sink.closed(gone((id, accepted), &watch.up, &watch.down, watch.first));
        }
    }
}

/// Reports a login that went no further.
fn give_up(registry: &Registry, facts: Facts, watch: Watch<'_>, ending: Ending) {
    let end = gone((facts.id, facts.accepted), &watch.up, &watch.down, watch.first);
    let failed = ending == Ending::Failed;
    registry.sink.attempt(facts.attempt(watch.observer, ending, None));
    if failed {
        registry.sink.closed(end);
    }
}

/// The end of a login that failed.
fn gone(
    (id, accepted): (u64, Instant),
    up: &super::watch::Leg,
    down: &super::watch::Leg,
    first: Option<(Side, Close, Duration)>,
) -> Closed {
    Closed {
        id,
        client_bytes: up.bytes,
        server_bytes: down.bytes,
        first: first.map(|(side, how, _)| (side, how)),
        elapsed: first.map_or_else(|| accepted.elapsed(), |(.., at)| at),
        failed: true,
    }
}

/// The verdict, or what cut the wait for it short.
async fn in_time(shared: &Shared, ends: &mut Ends, facts: &mut Facts, watch: &mut Watch<'_>) -> Verdict {
    tokio::select! {
        biased;
        verdict = until_verdict(shared, ends, facts, watch) => verdict,
        () = sleep(shared.limits.login_deadline) => {
            // It tells who came, although nobody got it.
            watch.look_at_first_bytes();
            watch.note_close(Side::Client, Close::Deadline);
            Verdict::Ending(Ending::Deadline)
        }
        () = shared.stopped() => {
            watch.note_close(Side::Client, Close::Shutdown);
            Verdict::Ending(Ending::Shutdown)
        }
    }
}

async fn until_verdict(
    shared: &Shared,
    ends: &mut Ends,
    facts: &mut Facts,
    watch: &mut Watch<'_>,
) -> Verdict {
    match legs::meet(shared, ends, facts, watch).await {
        Err(verdict) => return *verdict,
        Ok(Met::Cancel) => return Verdict::Ending(Box::pin(cancel(shared, ends, facts, watch)).await),
        Ok(Met::Both) => {}
    }
    if let Err(verdict) = sasl::pass(shared, ends, facts, watch).await {
        return *verdict;
    }
    let (Some(client), Some(server)) = (&mut ends.client, &mut ends.server) else {
        return Verdict::Ending(Ending::Closed);
    };
    let pause = match watch.carry_login(client, server).await {
        // Who has closed has given up, but for a few that only said all they had to say. A client whose server
        // is gone may keep its socket for as long as it likes: there is nothing to wait for.
        Pause::Enough => timeout(LEFT, watch.carry(client, server)).await.unwrap_or(Pause::Over),
        pause => pause,
    };
    match pause {
        Pause::Attention(attention) => Verdict::Settled(attention),
        Pause::Enough | Pause::Over => Verdict::Ending(Ending::Closed),
    }
}

/// Brings a cancel request to the server that gave out its key, and waits for that one to close.
async fn cancel(shared: &Shared, ends: &mut Ends, facts: &mut Facts, watch: &mut Watch<'_>) -> Ending {
    let length = watch.first_bytes().first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word));
    // PostgreSQL reads no further either.
    let packet = watch.first_bytes().get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default().to_vec();
    watch.look_at_first_bytes();
    let target = shared.registry.keys.server(packet.get(CANCEL_KEY..).unwrap_or_default());
    let known = target.is_some();
    let Some(client) = &mut ends.client else { return Ending::Closed };
    // The way is open already where the client asked for encryption first.
    let open = ends.server.take();
    let open =
        open.filter(|_| target.as_ref().is_none_or(|target| facts.server.as_ref() == Some(&target.addr)));
    let mut server = match open {
        Some(server) => server,
        None => {
            let reached = match target {
                Some(target) => shared.dialer.dial_target(target, facts.accepted, &mut facts.dials).await,
                // PostgreSQL ignores a key that it does not know, so the first server that answers will do.
                None => shared.dialer.dial(facts.accepted, &mut facts.dials).await,
            };
            let Some(reached) = reached else { return Ending::Cancel { known, delivered: false } };
            facts.reached(&reached);
            // A key is a secret: it goes no less sheltered than the login that got it.
            let over_tls = shared.tls.shelters_cancels(client.is_tls());
            let Some((server, _)) = shared.way(over_tls).encrypt(reached).await else {
                return Ending::Cancel { known, delivered: false };
            };
            server
        }
    };
    watch.up.bytes += packet.len() as u64;
    let delivered = server.write_all(&packet).await.is_ok() && server.flush().await.is_ok();
    // The client waits for the end of its connection to know that the server has acted on it.
    let _ = timeout(LINGER, async { while server.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {} })
        .await;
    Ending::Cancel { known, delivered }
}

/// Reports a login that failed, behind its client's earlier tries over TLS: those are watched for
/// [`OPAQUE_WATCH`] at most. Only the report waits for them.
async fn tell_failed(
    shared: &Shared,
    client: &mut Stream,
    server: &mut Stream,
    watch: &mut Watch<'_>,
    attempt: Attempt,
) {
    if !attempt.record.is_client_encrypted() {
        let carry = async {
            watch.carry(client, server).await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = shared.registry.first_tries.reported(attempt.client.ip(), attempt.id) => {}
            () = carry => {}
            () = shared.stopped() => {}
        }
    }
    shared.registry.sink.attempt(attempt);
}

/// Goes on carrying after the verdict, until both sides have closed or lingered enough.
async fn linger(shared: &Shared, client: &mut Stream, server: &mut Stream, watch: &mut Watch<'_>) {
    tokio::select! {
        _ = timeout(LINGER, watch.carry(client, server)) => {}
        () = shared.stopped() => {}
    }
}

/// A failed login inside TLS shows itself only by an early end: waits a moment for that.
async fn watch_opaque(shared: &Shared, client: &mut Stream, server: &mut Stream, watch: &mut Watch<'_>) {
    tokio::select! {
        // A client that tries again does so before it has closed.
        _ = timeout(OPAQUE_WATCH, watch.until_refused(client, server)) => {}
        () = shared.stopped() => watch.note_close(Side::Client, Close::Shutdown),
    }
}

/// Goes on looking where the observer wants to know what the client does first: it may be about to
/// leave for a server of another kind.
async fn settle(shared: &Shared, client: &mut Stream, server: &mut Stream, watch: &mut Watch<'_>) {
    if watch.observer.attention() == Attention::Settling {
        tokio::select! {
            _ = timeout(MOMENT, watch.carry(client, server)) => {}
            () = shared.stopped() => {}
        }
    }
}

/// Carries the first request here: who logs in only to leave again need not be handed over. A few may take
/// their time with it; an idle session costs more here than in the engine.
async fn first_words(shared: &Shared, client: &mut Stream, server: &mut Stream, watch: &mut Watch<'_>) {
    let Ok(_place) = shared.first_words.try_acquire() else { return };
    let words = async {
        let _ = timeout(shared.limits.login_deadline, watch.until_answer(client, server)).await;
        if watch.is_left() {
            // The server closes next. If it has more to do, the engine notices when the client dies.
            let _ = timeout(PARTING, watch.carry(client, server)).await;
        }
    };
    tokio::select! {
        () = words => {}
        () = shared.stopped() => {}
    }
}

/// Gives both sockets to the engine once nothing that was read is still in our hands.
async fn hand_over(
    shared: &Shared,
    mut client: Stream,
    mut server: Stream,
    mut watch: Watch<'_>,
    mut tail: Tail,
) {
    let flushed = tokio::select! {
        biased;
        () = watch.flush(&mut client, &mut server) => true,
        () = shared.stopped() => false,
    };
    tail.note(&watch);
    if !flushed || watch.is_over() {
        drop((client, server));
        return Box::new(tail).ended(Totals::default());
    }
    // Legs that can't be taken out of the runtime, or into the engine, are closed by that.
    if let Err(error) = shared.engine.add(client, server, Box::new(tail)) {
        tracing::warn!(error = %error, "the relay engine took no connection");
    }
    // The order matters: whoever stops the proxy sets the phase first and closes the pairs then, so
    // either it sees this pair or we see the phase.
    if *shared.phase.borrow() == Phase::Stopped {
        shared.engine.close_all();
    }
}

/// Carries a session where its bytes can be seen.
async fn stay(shared: &Shared, mut client: Stream, mut server: Stream, mut watch: Watch<'_>, mut tail: Tail) {
    tokio::select! {
        _ = watch.carry(&mut client, &mut server) => {}
        () = shared.stopped() => {}
    }
    tail.note(&watch);
    drop((client, server));
    Box::new(tail).ended(Totals::default());
}

/// What a client is told that is turned away.
fn fatal(sqlstate: &str, message: &str) -> Vec<u8> {
    let mut word = Vec::new();
    Backend::Error(ErrorFields::of_pgwhy(sqlstate, message.as_bytes(), None, "refuse")).encode(&mut word);
    word
}

/// Says a last word, and gives the client a moment to read that. The server hears nothing more.
async fn part(ends: Ends, word: Vec<u8>) {
    drop(ends.server);
    let Some(mut client) = ends.client else { return };
    let farewell = async {
        client.write_all(&word).await?;
        client.shutdown().await?;
        // Closing a socket that has unread bytes resets it, and the reset overtakes the message.
        let mut buffer = [0; 1024];
        for _ in 0..REFUSED_READS {
            if client.read(&mut buffer).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // A client that does not want to hear it need not.
    let _ = timeout(FAREWELL, farewell).await;
}

/// What stays of a connection while the engine carries it.
struct Tail {
    registry: Arc<Registry>,
    id: u64,
    accepted: Instant,
    key: Option<u64>,
    /// Bytes carried before the hand-over: client's and server's.
    bytes: (u64, u64),
    /// Who stopped first, if before the hand-over.
    first: Option<(Side, Close)>,
    _permit: Permit,
}

impl Guard for Tail {
    fn ended(mut self: Box<Self>, totals: Totals) {
        self.bytes.0 += totals.client_bytes;
        self.bytes.1 += totals.server_bytes;
        self.first = self.first.or(totals.first);
    }
}

impl Tail {
    fn new(
        registry: &Arc<Registry>,
        (id, accepted): (u64, Instant),
        key: Option<u64>,
        permit: Permit,
    ) -> Self {
        Self {
            registry: Arc::clone(registry),
            id,
            accepted,
            key,
            bytes: (0, 0),
            first: None,
            _permit: permit,
        }
    }

    /// Takes over what was counted until now.
    fn note(&mut self, watch: &Watch<'_>) {
        self.bytes = (watch.up.bytes, watch.down.bytes);
        self.first = watch.first.map(|(side, how, _)| (side, how));
    }

    fn forget_key(&mut self) {
        if let Some(key) = self.key.take() {
            self.registry.keys.forget(key);
        }
    }
}

/// However a session ends, it is reported once: an engine that takes no connection only drops this.
impl Drop for Tail {
    fn drop(&mut self) {
        // Before the report, so that whoever reads it finds the key gone. The permit goes last: when
        // the count of connections is zero, everything has been reported.
        self.forget_key();
        self.registry.sink.closed(Closed {
            id: self.id,
            client_bytes: self.bytes.0,
            server_bytes: self.bytes.1,
            first: self.first,
            elapsed: self.accepted.elapsed(),
            failed: false,
        });
    }
}

/// Where a cancel request's key begins: behind length and code.
const CANCEL_KEY: usize = 8;

/// How long both sides have for their teardown after a verdict that ends the connection.
const LINGER: Duration = Duration::from_secs(10);

/// How long a server may take to close after the client of a new session has ended.
const PARTING: Duration = Duration::from_secs(1);

/// How long an opaque connection is watched for an early end: a login that fails inside TLS ends
/// within a second or so (PostgreSQL's `auth_delay` aside).
const OPAQUE_WATCH: Duration = Duration::from_secs(2);

/// How long a client that is turned away has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Reads of 1 KiB from a client that is turned away: a startup packet fits in, a flood does not.
const REFUSED_READS: usize = 16;
