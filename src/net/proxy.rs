//! The proxy as a whole: starts listeners and engine, and brings them to an end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::attempt::Sink;
use super::buffers::Buffers;
use super::cancel::CancelKeys;
use super::dial::Dialer;
use super::endpoint::{Listen, PeerAddr, Upstream};
use super::engine::Engine;
use super::limits::{Gate, Limits};
use super::listener::Listener;
use super::salted::SaltedKeys;
use super::session;
use super::shared::{Phase, Registry, Shared};
use super::tls::{Identity, Tls, TlsConfig};
use super::trial::Trials;

/// What a proxy is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Where the servers are.
    pub upstream: Upstream,
    /// TLS on both legs.
    pub tls: TlsConfig,
    /// The limits.
    pub limits: Limits,
    /// Threads of the relay engine; [`default_relay_threads`] says how many where nobody does.
    /// With fewer the relay takes less CPU for each message, and falls behind when many sessions
    /// are busy (benches/relay/README.md).
    pub relay_threads: usize,
}

/// Why a proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This address could not be had.
    #[error("can't listen on {0}: {1}")]
    Listen(Listen, #[source] io::Error),
    /// Something else that it needs.
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// A proxy: [`Proxy::run`] starts one.
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Binds every address and starts to serve; must be called inside a tokio runtime.
    ///
    /// Fails if an address can't be bound, or the relay threads can't be started. The sessions run
    /// on the calling runtime until their login is over.
    pub fn run(config: Config, sink: Arc<dyn Sink>) -> Result<ProxyHandle, StartError> {
        let bind = |listen| Listener::bind(listen).map_err(|error| StartError::Listen(listen.clone(), error));
        let listeners = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let addrs = listeners.iter().map(Listener::addr).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            tls: Tls::new(config.tls)?,
            keys: SaltedKeys::default(),
            trials: Trials::default(),
            limits: config.limits,
            dialer: Dialer::new(config.upstream, addrs.clone()),
            engine: Engine::start(config.relay_threads)?,
            registry: Arc::new(Registry {
                sink,
                keys: CancelKeys::default(),
                buffers: Buffers::default(),
                first_tries: Arc::default(),
            }),
            gate: Gate::new(config.limits),
            next_id: AtomicU64::new(1),
            phase: watch::Sender::new(Phase::Running),
            lingering: Arc::new(Semaphore::new(LINGERING)),
            first_words: Semaphore::new(FIRST_WORDS),
        });
        tokio::spawn(keep_clock(Arc::clone(&shared)));
        let acceptors = watch::Sender::new(());
        for (listener, addr) in listeners.into_iter().zip(addrs.iter().cloned()) {
            tokio::spawn(accept_all(Arc::clone(&shared), listener, addr, acceptors.subscribe()));
        }
        Ok(ProxyHandle { shared, addrs, acceptors, runtime: Handle::current() })
    }
}

/// A running proxy. Dropping the handle does not stop it.
#[derive(Debug)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
    addrs: Vec<PeerAddr>,
    acceptors: watch::Sender<()>,
    runtime: Handle,
}

impl ProxyHandle {
    /// The addresses really bound, in the order of [`Config::listen`].
    pub fn addrs(&self) -> &[PeerAddr] {
        &self.addrs
    }

    /// Shows clients another certificate from now on; connections that are open keep theirs.
    pub fn show_certificate(&self, identity: &Identity) -> Result<(), String> {
        self.shared.tls.replace(identity).map_err(|error| error.to_string())
    }

    /// Client connections at the moment.
    pub fn connections(&self) -> usize {
        self.shared.gate.connections()
    }

    /// Stops accepting; connections go on until the deadline and are closed then. A second call
    /// closes them at once. Callable from any thread.
    pub fn shutdown(&self, deadline: Duration) {
        let was = self.shared.phase.send_replace(Phase::Draining);
        if was != Phase::Running || deadline.is_zero() {
            return self.shared.stop();
        }
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            tokio::time::sleep(deadline).await;
            shared.stop();
        });
    }

    /// Waits until the proxy was shut down and its last connection is gone.
    pub async fn ended(&self) {
        let mut phase = self.shared.phase.subscribe();
        // The sender lives as long as `self`, so waiting can't fail.
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
        self.acceptors.closed().await;
        self.shared.gate.emptied().await;
    }
}

async fn accept_all(shared: Arc<Shared>, listener: Listener, addr: PeerAddr, alive: watch::Receiver<()>) {
    let mut phase = shared.phase.subscribe();
    let mut told = None;
    loop {
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Running) => break,
            (client, peer) = listener.accept(&mut told) => session::begin(&shared, client, peer, &addr),
        }
    }
    // In this order: whoever waits for `alive` may end the process, and a Unix socket's file has to
    // be gone by then.
    drop(listener);
    drop(alive);
}

/// Keeps a timer that is due before any login's deadline: a timer that is the next one due wakes the
/// runtime's driver when it is set, which would be a system call for each login.
async fn keep_clock(shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    let pause = (shared.limits.login_deadline / 2).max(Duration::from_secs(1));
    // The sender is in `shared`, so waiting can only end because the proxy does, or take too long.
    while tokio::time::timeout(pause, phase.wait_for(|phase| *phase != Phase::Running)).await.is_err() {}
}

/// Relay threads where nobody says how many: one a core.
pub fn default_relay_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Refused clients that may linger at a time: enough for a person to read the reason, too few to
/// matter when a flood is refused.
const LINGERING: usize = 100;

/// Sessions that may stay with the runtime until their first request was answered: more than log in at the
/// same moment, and at 5 kB each nothing to speak of.
const FIRST_WORDS: usize = 64;
