//! Which entries belong to one connection.
//!
//! Entries are gathered into sessions as they come: `connection received`, a new port, another
//! session id or anything after a FATAL begins a new one, so a process id or port that is used
//! again within seconds is not mistaken for the one before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::parse::{Place, Threads};
use super::{Entry, Fact, LOCAL, Piece, Severity, facts};

/// Entries remembered: some seconds of a busy server that logs connections.
const MAX_ENTRIES: usize = 8_192;
/// Bytes of text remembered.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Configuration reloads and their faults remembered.
const MAX_RELOADS: usize = 64;
/// How far a log's clock may be from ours before a match is only a weak one.
const SLACK_MS: i64 = 250;
/// A time without milliseconds is cut down to its second.
const SECOND_MS: i64 = 1_000;
/// Without a readable time, the entry was written before we saw it: up to a poll and a bit.
const SEEN_MS: i64 = 1_500;
/// Nothing further away than this has to do with the attempt.
const FAR_MS: i64 = 10_000;
/// `NAMEDATALEN - 1`: the server cuts longer names.
const NAME_LEN: usize = 63;

/// One connection, as the side that made it knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Our own address on the way to the server.
    pub our_ip: Option<IpAddr>,
    /// Our own port.
    pub our_port: Option<u16>,
    /// We came over a Unix socket.
    pub unix: bool,
    /// The backend's process id, if it said.
    pub pid: Option<u32>,
    /// The user of the startup packet.
    pub user: Option<String>,
    /// The database (the user's name where none was given).
    pub database: Option<String>,
    /// When we connected, in milliseconds since 1970.
    pub from_ms: i64,
    /// When it was over.
    pub to_ms: i64,
}

/// How sure it is that an entry is about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// More than one connection fits, and the server did not judge the same user alike in all of them.
    Disputed,
    /// Time and names fit, or more than one candidate does: no proof.
    Weak,
    /// The port or the process id says so, and nothing speaks against it.
    Strong,
}

/// What joins an entry and a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Our port, in the prefix, in the columns, or in `connection received` of the same process.
    Port,
    /// The process id of BackendKeyData.
    Pid,
    /// Time, user and database.
    TimeAndNames,
}

/// An entry that answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// How sure it is.
    pub certainty: Certainty,
    /// Why.
    pub join: Join,
}

#[derive(Clone, Debug)]
struct Kept {
    session: u64,
    at_ms: i64,
    /// How far the true time may lie after `at_ms`, and before it.
    early_ms: i64,
    late_ms: i64,
    entry: Entry,
}

#[derive(Clone, Debug, Default)]
struct Session {
    pid: Option<u32>,
    id: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    /// A FATAL was its last word.
    ended: bool,
    entries: usize,
}

/// What tells one process from another: its id, or its client's port where the log has no ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Process {
    Pid(u32),
    Port(u16),
}

impl Process {
    fn of(pid: Option<u32>, port: Option<u16>) -> Option<Self> {
        pid.map(Self::Pid).or(port.map(Self::Port))
    }
}

/// Remembers the recent entries of a log, within bounds.
#[derive(Clone, Debug, Default)]
pub struct Correlator {
    threads: Threads,
    /// Number of the first entry in `entries`.
    first: u64,
    entries: VecDeque<Kept>,
    bytes: usize,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    of_process: BTreeMap<Process, u64>,
    reloads: VecDeque<Entry>,
    /// The entry whose further lines complete the last reload.
    reload_number: Option<u64>,
    /// The youngest time that an entry named.
    youngest_ms: Option<i64>,
}

impl Correlator {
    /// Takes a piece that was read at `seen_ms` (milliseconds since 1970).
    pub fn take(&mut self, piece: Piece, seen_ms: i64) {
        match self.threads.place(piece) {
            Place::New(number, entry) => self.insert(number, *entry, seen_ms),
            Place::Add { number, part, text, joined } => {
                let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                let Some(kept) = at.and_then(|at| self.entries.get_mut(at)) else { return };
                self.bytes -= kept.entry.size();
                kept.entry.append(part, &text, joined);
                self.bytes += kept.entry.size();
                if self.reload_number == Some(number) || is_config_fault(&kept.entry) {
                    let entry = kept.entry.clone();
                    let complete = self.reload_number == Some(number);
                    self.note_reload(number, entry, complete);
                }
            }
            Place::Nowhere => {}
        }
        self.evict();
    }

    /// The log begins anew (another file, or truncated): what follows continues nothing.
    pub fn interrupt(&mut self) {
        self.threads.interrupt();
    }

    /// A place to [go back to](Self::back_to): before the entries that come from now on.
    pub const fn mark(&self) -> u64 {
        self.threads.next()
    }

    /// Forgets the entries that came since the mark: another file is about to tell them again, and an
    /// entry that is there twice looks like two connections. Reloads are kept, twice is as good.
    pub fn back_to(&mut self, mark: u64) {
        while self.first + self.entries.len() as u64 > mark {
            let Some(kept) = self.entries.pop_back() else { break };
            self.release(&kept);
        }
        self.threads.back_to(mark);
        self.reload_number = None;
    }

    /// Entries remembered now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the log, by its own clock, has got beyond a moment: what was written by then is there.
    pub fn reaches(&self, ms: i64) -> bool {
        self.youngest_ms.is_some_and(|youngest| youngest > ms.saturating_add(SLACK_MS))
    }

    /// Configuration reloads, lines the server could not use, and files it did not reload, oldest
    /// first.
    pub fn reloads(&self) -> impl Iterator<Item = &Entry> {
        self.reloads.iter()
    }

    /// The entries about one connection, oldest first, all equally sure.
    pub fn find(&self, question: &Question) -> Vec<Found<'_>> {
        let by_port = self.by_port(question);
        let (sessions, certainty, join) = match by_port {
            Some((sessions, certainty)) => (sessions, certainty, Join::Port),
            None => match self.by_pid(question) {
                Some((sessions, certainty)) => (sessions, certainty, Join::Pid),
                None => (self.by_names(question), Certainty::Weak, Join::TimeAndNames),
            },
        };
        let in_time = self.in_time(&sessions, question);
        // A server that is reached by loopback or a Unix socket has our clock.
        let one_clock = question.unix || question.our_ip.is_some_and(|ip| ip.to_canonical().is_loopback());
        let candidates = if one_clock { &in_time } else { &sessions };
        let certainty = match certainty {
            Certainty::Weak if self.are_disputed(candidates, question) => Certainty::Disputed,
            certainty => certainty,
        };
        let sessions = in_time;
        let fits = |kept: &&Kept| sessions.contains(&kept.session) && distance(kept, question) <= FAR_MS;
        let found = self.entries.iter().filter(fits);
        found.map(|kept| Found { entry: &kept.entry, certainty, join }).collect()
    }

    fn by_port(&self, question: &Question) -> Option<(Vec<u64>, Certainty)> {
        let port = question.our_port.filter(|_| !question.unix)?;
        self.choose(question, |session| {
            session.port == Some(port)
                && host_fits(session.host.as_deref(), question)
                && names_fit(session, question)
        })
    }

    fn by_pid(&self, question: &Question) -> Option<(Vec<u64>, Certainty)> {
        let pid = question.pid?;
        self.choose(question, |session| {
            session.pid == Some(pid) && !is_other_port(session, question) && names_fit(session, question)
        })
    }

    /// Of the sessions that fit, the one nearest in time; several that are equally near, or one that
    /// is not where it should be, are no proof.
    fn choose(&self, question: &Question, fits: impl Fn(&Session) -> bool) -> Option<(Vec<u64>, Certainty)> {
        let mut near: BTreeMap<u64, i64> = BTreeMap::new();
        for kept in &self.entries {
            let distance = distance(kept, question);
            if distance <= FAR_MS && self.sessions.get(&kept.session).is_some_and(&fits) {
                let best = near.entry(kept.session).or_insert(distance);
                *best = distance.min(*best);
            }
        }
        let least = *near.values().min()?;
        let nearest: Vec<u64> =
            near.iter().filter(|(_, at)| **at == least).map(|(session, _)| *session).collect();
        let certainty = if least == 0 && nearest.len() == 1 { Certainty::Strong } else { Certainty::Weak };
        Some((nearest, certainty))
    }

    fn by_names(&self, question: &Question) -> Vec<u64> {
        let Some(user) = question.user.as_deref() else { return Vec::new() };
        let cut = cut_name(user);
        let mut found = Vec::new();
        for kept in self.entries.iter().filter(|kept| distance(kept, question) == 0) {
            let Some(session) = self.sessions.get(&kept.session) else { continue };
            let names_user = session.user.is_some() || names(&kept.entry.message, cut);
            let is_refusal = kept.entry.is_fatal() || kept.entry.severity == Severity::Unknown;
            let other_way =
                session.host.is_some() && question.unix != (session.host.as_deref() == Some(LOCAL));
            let fits = names_user && is_refusal && names_fit(session, question);
            if fits && !other_way && !is_other_port(session, question) && !found.contains(&kept.session) {
                found.push(kept.session);
            }
        }
        found
    }

    /// Whether sessions that may all be meant tell different stories about the user: his role may have been
    /// altered between two attempts.
    fn are_disputed(&self, sessions: &[u64], question: &Question) -> bool {
        if sessions.len() < 2 {
            return false;
        }
        let user = question.user.as_deref().map(cut_name).unwrap_or_default();
        let mut told: BTreeMap<u64, Vec<Fact>> = BTreeMap::new();
        for kept in self.entries.iter().filter(|kept| sessions.contains(&kept.session)) {
            told.entry(kept.session).or_default().extend(facts(&kept.entry));
        }
        let mut stories = told.into_values().filter_map(|facts| story(facts, user));
        let first = stories.next();
        stories.any(|story| Some(story) != first)
    }

    /// Where clocks agree, what was written before the attempt began, or behind its end, is another's.
    fn in_time(&self, sessions: &[u64], question: &Question) -> Vec<u64> {
        let of_its_time = |kept: &&Kept| kept.entry.is_fatal() && overlaps(kept, question);
        let inside: BTreeSet<u64> =
            self.entries.iter().filter(of_its_time).map(|kept| kept.session).collect();
        let inside: Vec<u64> = sessions.iter().copied().filter(|session| inside.contains(session)).collect();
        if inside.is_empty() { sessions.to_vec() } else { inside }
    }

    fn insert(&mut self, number: u64, entry: Entry, seen_ms: i64) {
        let session = self.session_of(&entry);
        self.youngest_ms = self.youngest_ms.max(entry.unix_ms);
        let (at_ms, early_ms, late_ms) = match entry.unix_ms {
            Some(ms) if entry.has_millis => (ms, SLACK_MS, SLACK_MS),
            Some(ms) => (ms, SLACK_MS, SLACK_MS + SECOND_MS),
            None => (seen_ms, SEEN_MS, SLACK_MS),
        };
        let reload =
            facts(&entry).iter().any(|fact| matches!(fact, Fact::Reloading | Fact::NotReloaded { .. }));
        if reload || is_config_fault(&entry) {
            self.note_reload(number, entry.clone(), false);
        }
        if self.entries.is_empty() {
            self.first = number;
        }
        self.bytes += entry.size();
        self.entries.push_back(Kept { session, at_ms, early_ms, late_ms, entry });
    }

    fn note_reload(&mut self, number: u64, entry: Entry, complete: bool) {
        if complete {
            self.reloads.pop_back();
        }
        self.reload_number = Some(number);
        self.reloads.push_back(entry);
        if self.reloads.len() > MAX_RELOADS {
            self.reloads.pop_front();
        }
    }

    /// The session that an entry continues or begins.
    fn session_of(&mut self, entry: &Entry) -> u64 {
        let process = Process::of(entry.pid, entry.remote_port);
        let current = process.and_then(|process| self.of_process.get(&process)).copied();
        let continued =
            |number: &u64| self.sessions.get(number).is_some_and(|session| continues(session, entry));
        let number = match current.filter(continued) {
            Some(number) => number,
            None => {
                let number = self.next_session;
                self.next_session += 1;
                if let Some(process) = process {
                    self.of_process.insert(process, number);
                }
                number
            }
        };
        let session = self.sessions.entry(number).or_default();
        session.entries += 1;
        session.ended |= entry.is_fatal();
        session.pid = session.pid.or(entry.pid);
        session.port = session.port.or(entry.remote_port);
        let fill = |field: &mut Option<String>, text: &Option<String>| {
            if field.is_none() {
                field.clone_from(text);
            }
        };
        fill(&mut session.id, &entry.session);
        fill(&mut session.host, &entry.remote_host);
        fill(&mut session.user, &entry.user);
        fill(&mut session.database, &entry.database);
        number
    }

    fn evict(&mut self) {
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(kept) = self.entries.pop_front() else { break };
            self.first += 1;
            self.release(&kept);
        }
    }

    /// What an entry took up that is remembered no longer.
    fn release(&mut self, kept: &Kept) {
        self.bytes -= kept.entry.size();
        let Some(session) = self.sessions.get_mut(&kept.session) else { return };
        session.entries -= 1;
        if session.entries == 0 {
            let process = Process::of(session.pid, session.port);
            if let Some(process) = process.filter(|one| self.of_process.get(one) == Some(&kept.session)) {
                self.of_process.remove(&process);
            }
            self.sessions.remove(&kept.session);
        }
    }
}

/// Whether an entry of the same process belongs to the session that the process had.
fn continues(session: &Session, entry: &Entry) -> bool {
    fn differ<T: PartialEq>(left: Option<&T>, right: Option<&T>) -> bool {
        left.zip(right).is_some_and(|(left, right)| left != right)
    }
    !session.ended
        && entry.connection_received.is_none()
        && !differ(session.id.as_ref(), entry.session.as_ref())
        && !differ(session.port.as_ref(), entry.remote_port.as_ref())
        && !differ(session.user.as_ref(), entry.user.as_ref())
}

fn is_config_fault(entry: &Entry) -> bool {
    entry.context.is_some() && facts(entry).iter().any(|fact| matches!(fact, Fact::ConfigFault { .. }))
}

/// Milliseconds between an entry and the time of the question; 0 inside it.
fn distance(kept: &Kept, question: &Question) -> i64 {
    let before = question.from_ms.saturating_sub(kept.at_ms.saturating_add(kept.late_ms));
    let after = kept.at_ms.saturating_sub(kept.early_ms).saturating_sub(question.to_ms);
    before.max(after).max(0)
}

/// Why the server refused the user's password; `None` of a session in which it judged none.
fn story(mut facts: Vec<Fact>, user: &str) -> Option<Vec<Fact>> {
    let judged = |fact: &Fact| matches!(fact, Fact::Matched { .. }) || fact.judged_user() == Some(user);
    facts.iter().any(judged).then_some(())?;
    facts.retain(|fact| fact.judged_user() == Some(user));
    Some(facts)
}

/// Whether an entry is of the time of the question, by clocks that agree.
fn overlaps(kept: &Kept, question: &Question) -> bool {
    let latest = kept.at_ms.saturating_add(kept.late_ms - SLACK_MS);
    let earliest = kept.at_ms.saturating_sub(kept.early_ms - SLACK_MS);
    question.from_ms <= latest && earliest <= question.to_ms
}

/// Whether a message names the user, and not only a longer name that holds this one.
fn names(message: &str, user: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut places = message.match_indices(user);
    places.any(|(at, _)| {
        let (before, behind) = (message.get(..at), message.get(at + user.len()..));
        !before.is_some_and(|text| text.ends_with(is_part))
            && !behind.is_some_and(|text| text.starts_with(is_part))
    })
}

/// Whether the host that the server saw can be us. A name (`log_hostname`) says nothing against it.
fn host_fits(host: Option<&str>, question: &Question) -> bool {
    let Some(host) = host else { return true };
    if host == LOCAL {
        return false;
    }
    let seen = host.split('%').next().and_then(|host| host.parse::<IpAddr>().ok());
    seen.zip(question.our_ip).is_none_or(|(seen, ours)| seen.to_canonical() == ours.to_canonical())
}

/// The session came from our address and another port: it is somebody else's.
fn is_other_port(session: &Session, question: &Question) -> bool {
    let other = session.port.zip(question.our_port).is_some_and(|(there, ours)| there != ours);
    other && host_fits(session.host.as_deref(), question)
}

/// Whether the names in the log are those on the wire, as far as the log has any.
fn names_fit(session: &Session, question: &Question) -> bool {
    let fits = |there: &Option<String>, asked: &Option<String>| {
        let both = there.as_deref().zip(asked.as_deref());
        both.is_none_or(|(there, asked)| there == asked || there == cut_name(asked))
    };
    fits(&session.user, &question.user) && fits(&session.database, &question.database)
}

/// A name as the server keeps it.
fn cut_name(name: &str) -> &str {
    let end = (0..=NAME_LEN.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    &name[..end]
}
