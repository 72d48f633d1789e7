//! What strangers may use up, and the permits that count it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

/// The limits of one proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at a time, logged in or not.
    pub connections: usize,
    /// Connections at a time whose login is not finished.
    pub unfinished: usize,
    /// The same, from one client address.
    pub unfinished_per_address: usize,
    /// From accept to ReadyForQuery.
    pub login_deadline: Duration,
}

impl Limits {
    /// The defaults for a process with so many relay threads; raises the soft limit of open files to the
    /// hard one first.
    pub fn for_this_process(relay_threads: usize) -> Self {
        let own = Self::files_for(0, relay_threads);
        Self {
            connections: open_files().saturating_sub(own) / FILES_PER_CONNECTION,
            unfinished: 1_000,
            unfinished_per_address: 200,
            login_deadline: Duration::from_secs(60),
        }
    }

    /// Open files that a process with so many connections and relay threads needs.
    pub fn files_for(connections: usize, relay_threads: usize) -> usize {
        let threads = relay_threads.saturating_mul(FILES_PER_THREAD);
        connections.saturating_mul(FILES_PER_CONNECTION).saturating_add(threads).saturating_add(OWN_FILES)
    }
}

/// Which limit a refused connection ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::unfinished`].
    Unfinished,
    /// [`Limits::unfinished_per_address`].
    UnfinishedPerAddress,
}

impl Which {
    /// The name of the option that sets it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Connections => "max-connections",
            Self::Unfinished => "max-unfinished",
            Self::UnfinishedPerAddress => "max-unfinished-per-address",
        }
    }
}

/// The limit of open files, once its soft part is raised to the hard one.
pub fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Refused only where something outside forbids it; the old limit then still counts.
    let raised =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
    let files = if raised { limit.maximum } else { limit.current };
    usize::try_from(files.unwrap_or(MOST_FILES)).unwrap_or(usize::MAX).min(MOST_FILES as usize)
}

/// Counts connections; hands out permits.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    counts: Mutex<Counts>,
    /// Told whenever the last connection has gone.
    empty: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    unfinished: usize,
    per_address: HashMap<IpAddr, usize>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default(), empty: Notify::new() })
    }

    /// Lets a connection in, or says which limit it would break.
    pub(super) fn enter(
        self: &Arc<Self>,
        ip: Option<IpAddr>,
    ) -> Result<(Permit, LoginPermit), (Which, usize)> {
        // A Unix socket's clients share one place: the address that no client can have.
        let ip = ip.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), network);
        let limits = &self.limits;
        let mut counts = self.counts();
        if counts.connections >= limits.connections {
            return Err((Which::Connections, limits.connections));
        }
        if counts.unfinished >= limits.unfinished {
            return Err((Which::Unfinished, limits.unfinished));
        }
        let here = counts.per_address.get(&ip).copied().unwrap_or(0);
        if here >= limits.unfinished_per_address {
            return Err((Which::UnfinishedPerAddress, limits.unfinished_per_address));
        }
        counts.connections += 1;
        counts.unfinished += 1;
        counts.per_address.insert(ip, here + 1);
        Ok((Permit(Arc::clone(self)), LoginPermit(Arc::clone(self), ip)))
    }

    pub(super) fn connections(&self) -> usize {
        self.counts().connections
    }

    /// Waits until there is no connection.
    pub(super) async fn emptied(&self) {
        loop {
            let told = self.empty.notified();
            if self.connections() == 0 {
                return;
            }
            told.await;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address: of IPv6 a /64, which one host has all to itself.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Held as long as the connection lives.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.connections -= 1;
        let empty = counts.connections == 0;
        drop(counts);
        if empty {
            self.0.empty.notify_waiters();
        }
    }
}

/// Held until the login is finished.
#[derive(Debug)]
pub(super) struct LoginPermit(Arc<Gate>, IpAddr);

impl Drop for LoginPermit {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        counts.unfinished -= 1;
        if let Some(here) = counts.per_address.get_mut(&self.1) {
            *here -= 1;
            if *here == 0 {
                counts.per_address.remove(&self.1);
            }
        }
    }
}

/// Files that are not a connection's: listeners, standard streams, reports, pipes.
const OWN_FILES: usize = 64;

/// What a relay thread has: an epoll, an eventfd, a timer and a ring.
const FILES_PER_THREAD: usize = 4;

/// One socket to the client, one to the server.
const FILES_PER_CONNECTION: usize = 2;

/// What "unlimited" is taken as: a million connections fill no table that we keep.
const MOST_FILES: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_and_a_permit_given_back_counts_again() {
        let limits = Limits {
            connections: 4,
            unfinished: 3,
            unfinished_per_address: 2,
            login_deadline: Duration::from_secs(1),
        };
        let gate = Gate::new(limits);
        let (one, two) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
        let first = gate.enter(one).unwrap();
        let second = gate.enter(one).unwrap();
        assert_eq!(gate.enter(one).unwrap_err(), (Which::UnfinishedPerAddress, 2));
        let third = gate.enter(two).unwrap();
        assert_eq!(gate.enter(two).unwrap_err(), (Which::Unfinished, 3));
        let kept: Vec<Permit> = [first, second, third].into_iter().map(|(permit, _login)| permit).collect();
        let fourth = gate.enter(one).unwrap();
        assert_eq!(gate.enter(two).unwrap_err(), (Which::Connections, 4));
        drop((kept, fourth));
        assert_eq!(gate.connections(), 0);
        assert!(gate.counts().per_address.is_empty(), "addresses are forgotten");
    }
}
