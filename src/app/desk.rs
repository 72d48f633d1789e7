//! The desk: where attempts become reports.
//!
//! One thread takes attempts off a bounded queue, tests passwords, diagnoses, links attempts that
//! belong together, and writes. When standard output stalls, the desk waits and the queue fills; then
//! attempts are dropped and counted. A login never waits for any of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::diagnose::context::{Context, Dial, DialFault, Expectation, Lack, Limit, Opaque};
use crate::diagnose::demands::Demands;
use crate::diagnose::history::LastSalt;
use crate::diagnose::story::{Earlier, MOMENTS, Profile};
use crate::diagnose::{Cause, Diagnosis, Outcome, diagnose};
use crate::handshake::ladder::text;
use crate::handshake::{Chunk, Record, Side, Step};
use crate::net::{Attempt, Closed, DialAttempt, DialError, Ending, On, PeerAddr, Sink};
use crate::password::Expected;
use crate::report::{Report, Way};
use crate::secret::Secret;

use super::baseline::{Success, Successes};
use super::capture::{Keeper, Recorder, Session, Talk};
use super::conceal::{among_names, conceal};
use super::judging::{KeyCache, exchange, judgement};
use super::output::Dress;
use super::sources::{Gathered, Sources};
use super::stderr;
use super::tray::{Haste, Tray};

/// Attempts that may wait; each holds a record of a few kilobytes.
const QUEUE: usize = 4_096;
/// With so many waiting, only the expected password is tested, not its variants: one test of SCRAM
/// costs about a millisecond of CPU.
const BUSY: usize = 64;
/// Attempts remembered for linking.
const RECENT: usize = 256;
/// Servers whose version is remembered.
const VERSIONS: usize = 1_024;
/// Passwords that worked and are remembered, and how long one may be; longer ones are tokens, new for each login.
const PASSWORDS: usize = 16;
const LONGEST_PASSWORD: usize = 256;
/// How long the last reports may take to be written when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The sink of the proxy: hands attempts to the desk.
pub(super) struct Inbox {
    tray: Arc<Tray<Message>>,
    dropped: Arc<AtomicU64>,
    keeper: Option<Arc<Keeper>>,
}

enum Message {
    Attempt(Box<Attempt>, Option<Talk>),
    Session(Session),
    Line(String),
    End,
}

impl Sink for Inbox {
    fn attempt(&self, attempt: Attempt) {
        let talk = self.keeper.as_ref().and_then(|keeper| keeper.take(attempt.id, attempt.ending));
        self.put(Message::Attempt(Box::new(attempt), talk));
    }

    fn chunk(&self, id: u64, chunk: Chunk<'_>, on: On) {
        let Some(keeper) = &self.keeper else { return };
        if let Some(part) = keeper.chunk(id, chunk, on) {
            self.put(Message::Session(Session::Part(id, part)));
        }
    }

    fn opened(&self, id: u64) {
        if let Some(keeper) = &self.keeper {
            keeper.forget(id);
        }
    }

    fn closed(&self, closed: Closed) {
        if let Some(keeper) = self.keeper.as_ref().filter(|keeper| keeper.sessions() || closed.failed) {
            keeper.forget(closed.id);
            self.put(Message::Session(Session::Closed(closed)));
        }
    }

    fn wants_sessions(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.sessions())
    }
}

impl Inbox {
    /// Prints a line among the reports.
    pub(super) fn line(&self, line: String) {
        self.put(Message::Line(line));
    }

    fn put(&self, message: Message) {
        let haste = match &message {
            Message::Attempt(attempt, _) if attempt.ending == Ending::Ready => Haste::Calm,
            Message::Session(_) => Haste::Calm,
            _ => Haste::Urgent,
        };
        if let Err(message) = self.tray.put(message, haste) {
            if let Some(keeper) = &self.keeper {
                keeper.lost();
            }
            if matches!(message, Message::Session(_)) {
                return;
            }
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(reports.dropped = dropped, "standard output is too slow: reports are dropped");
            }
        }
    }
}

/// What stays the same for all attempts.
pub(super) struct Setting {
    /// The password that clients should send.
    pub(super) expected: Option<Expected>,
    /// What the connection string makes clients insist on.
    pub(super) demands: Option<Demands>,
    /// The server's host name.
    pub(super) host: Option<String>,
    /// What else may be asked about a login that failed.
    pub(super) sources: Sources,
    /// How to report.
    pub(super) dress: Dress,
    /// Is told after each report that was written.
    pub(super) written: Option<SyncSender<()>>,
    /// Writes logins down.
    pub(super) capture: Option<(Arc<Keeper>, Recorder)>,
}

/// The desk's thread, to wait for.
pub(super) struct Desk {
    thread: JoinHandle<()>,
    tray: Arc<Tray<Message>>,
    dropped: Arc<AtomicU64>,
}

impl Desk {
    /// Starts the thread.
    pub(super) fn open(mut setting: Setting) -> io::Result<(Self, Inbox)> {
        let tray = Arc::new(Tray::new(QUEUE));
        let dropped = Arc::new(AtomicU64::new(0));
        let (keeper, recorder) = setting.capture.take().unzip();
        let inbox = Inbox { tray: Arc::clone(&tray), dropped: Arc::clone(&dropped), keeper };
        let desk = Arc::clone(&tray);
        let mut clerk = Clerk { recorder, ..Clerk::new(setting) };
        let work = move || clerk.work(&desk);
        let thread = std::thread::Builder::new().name("desk".into()).spawn(work)?;
        Ok((Self { thread, tray, dropped }, inbox))
    }

    /// Waits until everything is written, but not for an output that stalls.
    pub(super) fn close(self) {
        let until = std::time::Instant::now() + LAST_WORDS;
        let mut end = Some(Message::End);
        while !self.thread.is_finished() && std::time::Instant::now() < until {
            if let Some(message) = end.take()
                && let Err(message) = self.tray.put(message, Haste::Urgent)
            {
                end = Some(message);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let unwritten = if self.thread.is_finished() { 0 } else { self.tray.len() as u64 };
        let dropped = self.dropped.load(Ordering::Relaxed) + unwritten;
        if dropped > 0 {
            stderr::say(format_args!(
                "{dropped} reports were not written: standard output was too slow for them"
            ));
        }
    }
}

/// Makes reports of attempts, and remembers them for the next ones.
pub(super) struct Clerk {
    setting: Setting,
    history: History,
    keys: KeyCache,
    sources: RefCell<Sources>,
    recorder: Option<Recorder>,
}

/// What may be made of the password that was sent.
#[derive(Clone, Copy)]
struct Effort {
    /// There are too many failures to look closely.
    busy: bool,
    /// The capture does not hold it.
    blanked: bool,
}

/// What is special about an attempt that was read from a capture.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    /// Its name in the reports.
    pub(super) id: String,
    /// What the capture lacks of it.
    pub(super) lack: Lack,
    /// Its secrets were blanked: there is nothing to hold a password against.
    pub(super) blanked: bool,
}

impl Clerk {
    /// A clerk who remembers nothing.
    pub(super) fn new(mut setting: Setting) -> Self {
        let mut sources = std::mem::take(&mut setting.sources);
        let history = History { baseline: sources.baseline.take(), ..History::default() };
        let (sources, keys) = (RefCell::new(sources), KeyCache::default());
        Self { setting, history, keys, sources, recorder: None }
    }

    fn work(&mut self, tray: &Tray<Message>) {
        let mut failing = false;
        loop {
            let (message, backlog) = tray.take();
            let mut tell = None;
            let text = match message {
                Message::End => break,
                Message::Line(line) => Some(line),
                Message::Attempt(attempt, talk) => {
                    tell.clone_from(&self.setting.written);
                    let report = self.report(&attempt, backlog > BUSY, None);
                    if let Some(recorder) = &mut self.recorder {
                        let expected = self.setting.expected.as_ref();
                        let name = expected.and_then(|expected| among_names(&attempt.record, expected));
                        recorder.login(&attempt, &report, talk, name);
                    }
                    self.setting.dress.report(&report)
                }
                Message::Session(event) => {
                    if let Some(recorder) = &self.recorder {
                        recorder.session(event);
                    }
                    None
                }
            };
            let Some(text) = text else { continue };
            let mut out = io::stdout().lock();
            // A full disk or a closed pipe loses this report; the proxy goes on.
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "a report could not be written");
                }
                Err(_) => {}
            }
            if let Some(tell) = tell {
                // Nobody has to listen.
                let _ = tell.try_send(());
            }
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.close();
        }
    }

    /// Diagnoses by the wire alone; a failure then with everything that was given beside it.
    fn with_sources(
        &self,
        attempt: &Attempt,
        base: &Context<'_>,
        expected: Option<&Expected>,
        effort: Effort,
    ) -> Diagnosis {
        let record = &attempt.record;
        // What the catalogs say must be asked at once, and testing passwords takes up to a second.
        let first = diagnose(record, base);
        let mut sources = self.sources.borrow_mut();
        if matches!(first.outcome, Outcome::Probe | Outcome::Cancel | Outcome::Opaque) {
            return first;
        }
        let mut gathered = match (&first.outcome, &first.finding) {
            (Outcome::Failed, Some(finding)) => sources.gather(attempt, finding, effort.busy),
            _ => Gathered::default(),
        };
        let (rules, problem) = sources.rules(attempt.accepted + attempt.elapsed);
        gathered.unseen.extend(problem);
        let role = gathered.admin.as_ref().and_then(|admin| admin.known_role());
        let fits = role.zip(expected).and_then(|(role, expected)| role.fits(expected.password.expose()));
        let judgement = judgement(record, expected, effort.busy).filter(|_| !effort.blanked);
        let context = Context {
            judgement: judgement.as_ref(),
            log: gathered.log.as_ref(),
            mock_salt: gathered.mock_salt,
            admin: gathered.admin.as_deref(),
            expected_fits_stored: fits,
            rules,
            unseen: &gathered.unseen,
            ..base.clone()
        };
        diagnose(record, &context)
    }

    /// Compares a report that was made before with the baseline.
    pub(super) fn compare(&self, report: &mut Report, record: &Record) {
        if report.diagnosis.outcome == Outcome::Failed && report.last_success.is_none() {
            let host = host_of(&report.client.address);
            let profile = Profile::new(record, &host, report.server.address.as_deref());
            let ended = report.time + report.elapsed;
            self.history.compare(report, &profile, ended);
        }
    }

    /// Diagnoses an attempt and remembers it.
    pub(super) fn report(&mut self, attempt: &Attempt, busy: bool, captured: Option<Captured>) -> Report {
        let record = &attempt.record;
        let lack = captured.as_ref().map(|captured| captured.lack);
        let id = captured.as_ref().map_or_else(
            || format!("{:x}-{:x}", std::process::id(), attempt.id),
            |captured| captured.id.clone(),
        );
        let dials: Vec<Dial> = attempt.dials.iter().map(dial).collect();
        let expectation = expectation(&self.setting, record);
        let for_this_user = expectation.is_some_and(|expectation| expectation.for_this_user);
        let expected = self.setting.expected.as_ref().filter(|_| for_this_user);
        let blanked = captured.as_ref().is_some_and(|captured| captured.blanked);
        let our_address = attempt.our_outgoing.as_ref().map(ToString::to_string);
        let client_host = attempt.client.ip().map_or_else(|| "local".to_owned(), |ip| ip.to_string());
        let ended = attempt.accepted + attempt.elapsed;
        // What was captured is judged by the time of its day.
        let now = if captured.is_some() { ended } else { SystemTime::now() };
        let earlier = self.history.earlier(&client_host, attempt.accepted, ended);
        let limit = limit(&attempt.ending);
        let server_signature_fits =
            expected.filter(|_| !blanked).and_then(|expected| self.keys.signature_fits(record, expected));
        let way = way(&dials);
        let last_salt = self.history.last_salt(record, way.address.as_deref());
        let base = Context {
            dials: &dials,
            last_salt: last_salt.as_ref(),
            limit: limit.as_ref(),
            ssl_answered_by_us: attempt.ssl_answered_by_us,
            tls_refused_by_us: attempt.ending == Ending::TlsRefused,
            server_signature_fits,
            expected: expectation,
            demands: self.setting.demands.as_ref(),
            now_unix: now
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            server_host: self.setting.host.as_deref(),
            our_address: our_address.as_deref(),
            client_is_remote: attempt.client.ip().is_some_and(|ip| !ip.is_loopback()),
            opaque: attempt.opaque.map(|opaque| Opaque {
                client_bytes: opaque.client_bytes,
                server_bytes: opaque.server_bytes,
                closed: opaque.closed,
            }),
            exchange: exchange(record).filter(|_| !blanked),
            our_ip: attempt.our_outgoing.as_ref().and_then(PeerAddr::ip),
            client_ip: attempt.client.ip(),
            server_is_local: matches!(attempt.server, Some(PeerAddr::Unix(_))),
            earlier: earlier.as_ref(),
            lack,
            ..Context::default()
        };
        let diagnosis = self.with_sources(attempt, &base, expected, Effort { busy, blanked });
        let profile = Profile::new(record, &client_host, way.address.as_deref());
        let mut report = Report::new(record, diagnosis, &way, attempt.ssl_answered_by_us);
        report.id = id;
        report.time = attempt.accepted;
        report.client.address = attempt.client.to_string();
        report.elapsed = attempt.elapsed;
        self.remember_password(&report, record, for_this_user);
        self.history.complete(&mut report, &profile, ended);
        self.history.remember(&report, &client_host, profile, ended, attempt);
        if let Some(expected) = &self.setting.expected {
            conceal(&mut report, record, expected);
        }
        report
    }
}

impl Clerk {
    /// A password that worked: a client that still has it may send it again. Only where it crossed the wire in clear
    /// is it known.
    fn remember_password(&mut self, report: &Report, record: &Record, for_this_user: bool) {
        let sent = record.cleartext.as_ref().and_then(|sent| std::str::from_utf8(sent.expose()).ok());
        let expected = self.setting.expected.as_mut().filter(|_| for_this_user);
        let (Some(expected), Some(sent), Outcome::Ok) = (expected, sent, report.diagnosis.outcome) else {
            return;
        };
        let known = expected.previous.iter().chain([&expected.password]).any(|known| known.expose() == sent);
        if known || sent.len() > LONGEST_PASSWORD {
            return;
        }
        if expected.previous.len() == PASSWORDS {
            expected.previous.remove(0);
        }
        expected.previous.push(Secret::new(sent.to_owned()));
    }
}

fn expectation<'a>(setting: &'a Setting, record: &Record) -> Option<Expectation<'a>> {
    let expected = setting.expected.as_ref()?;
    let user = record.user().unwrap_or_default();
    let for_this_user = expected.user.as_deref().is_none_or(|owner| owner.as_bytes() == user);
    Some(Expectation { source: &expected.source, user: expected.user.as_deref(), for_this_user })
}

pub(super) fn dial(attempt: &DialAttempt) -> Dial {
    let result = attempt.result.as_ref().map(|_| ()).map_err(|error| match error {
        DialError::NameNotFound => DialFault::NameNotFound,
        DialError::NameTemporary => DialFault::NameTemporary,
        DialError::Refused => DialFault::Refused,
        DialError::Timeout => DialFault::Timeout,
        DialError::Unreachable => DialFault::Unreachable,
        DialError::HostUnreachable => DialFault::HostUnreachable,
        DialError::SocketMissing => DialFault::SocketMissing,
        DialError::Loop => DialFault::Loop,
        other => DialFault::Other(other.to_string()),
    });
    let address = attempt.addr.as_ref().map(ToString::to_string);
    Dial { host: attempt.host.clone(), address, took: attempt.elapsed, result }
}

fn limit(ending: &Ending) -> Option<Limit> {
    match ending {
        Ending::Limit { which, value } => {
            let value = u64::try_from(*value).unwrap_or(u64::MAX);
            Some(Limit { name: which.option(), value })
        }
        _ => None,
    }
}

pub(super) fn way(dials: &[Dial]) -> Way {
    let last = dials.last();
    Way {
        address: last.map(|dial| dial.address.clone().unwrap_or_else(|| dial.host.clone())),
        reached: last.map(|dial| dial.result.is_ok()),
        took: dials.iter().map(|dial| dial.took).sum(),
        step: last.map(|dial| if dial.address.is_none() { Step::Resolve } else { Step::Connect }),
    }
}

/// What happened before: for linking attempts and for the difference from the last success.
#[derive(Default)]
struct History {
    recent: VecDeque<Past>,
    successes: Successes,
    baseline: Option<Successes>,
    versions: BTreeMap<String, String>,
}

struct Past {
    host: String,
    user: Option<String>,
    ended: SystemTime,
    attempt: Earlier,
}

impl History {
    /// The last attempt of the same client that ended moments before this one began.
    fn earlier(&self, host: &str, accepted: SystemTime, ended: SystemTime) -> Option<Earlier> {
        let before = |past: &Past| match accepted.duration_since(past.ended) {
            Ok(before) => Some(before),
            // A driver may open the second connection before the first one is gone; a busy server closes that
            // one after it has refused the second, whose report has waited for it.
            Err(_) => (past.ended <= ended + MOMENTS).then_some(Duration::ZERO),
        };
        let close = |past: &&Past| past.host == host && before(past).is_some_and(|before| before <= MOMENTS);
        let found = self.recent.iter().rev().filter(close).find(|past| past.attempt.encrypted);
        found.map(|past| Earlier { before: before(past).unwrap_or_default(), ..past.attempt.clone() })
    }

    /// Fills in what needs history.
    fn complete(&mut self, report: &mut Report, profile: &Profile, ended: SystemTime) {
        if let (Some(address), Some(version)) = (&report.server.address, &report.server.version) {
            // A server that is known may have been upgraded.
            if self.versions.len() < VERSIONS || self.versions.contains_key(address) {
                self.versions.insert(address.clone(), version.clone());
            }
        } else if let Some(address) = &report.server.address {
            report.server.version = self.versions.get(address).cloned();
        }
        let masked = report.diagnosis.finding.as_ref().is_some_and(|f| f.cause == Cause::RetryMasksFailure);
        let host = host_of(&report.client.address);
        if matches!(report.diagnosis.outcome, Outcome::Probe | Outcome::Cancel) {
            return;
        }
        let encrypted = report.client_tls.version.is_some();
        for past in self.recent.iter().rev() {
            let since = report.time.duration_since(past.ended).unwrap_or_default();
            let same_user = match (&past.user, &report.client.user) {
                (Some(there), Some(here)) => there == here,
                // Inside TLS the user can't be seen.
                (None, _) => masked || past.attempt.encrypted,
                _ => false,
            };
            // A success belongs to an earlier failure only where the driver changed the way.
            let retried = report.diagnosis.outcome != Outcome::Ok || past.attempt.encrypted != encrypted;
            let failed =
                matches!(past.attempt.outcome, Outcome::Failed | Outcome::Opaque) && past.attempt.ended;
            let failed = failed && retried;
            if past.host == host && since <= MOMENTS && same_user && failed && report.related.len() < 4 {
                report.related.push(past.attempt.id.clone());
            }
        }
        if !matches!(report.diagnosis.outcome, Outcome::Failed) {
            return;
        }
        self.compare(report, profile, ended);
    }

    /// The login that worked with which one of this user and database is compared.
    fn success(&self, user: Option<&str>, database: Option<&str>) -> Option<&Success> {
        let baseline = || self.baseline.as_ref().and_then(|baseline| baseline.nearest(user, database));
        self.successes.same(user, database).or_else(baseline)
    }

    fn compare(&self, report: &mut Report, profile: &Profile, ended: SystemTime) {
        let success = self.success(report.client.user.as_deref(), report.client.database.as_deref());
        if let Some(success) = success.filter(|_| report.client.user.is_some()) {
            report.differs = success.differences(profile);
            report.last_success = Some(success.told(ended));
        }
    }

    /// The salt that the user of a login was shown when it last worked.
    fn last_salt(&self, record: &Record, server: Option<&str>) -> Option<LastSalt> {
        let shown = |bytes: Option<&[u8]>| bytes.filter(|bytes| !bytes.is_empty()).map(text);
        let (user, database) = (shown(record.user()), shown(record.database()));
        self.success(user.as_deref(), database.as_deref())?.salt_of(user.as_deref(), server)
    }

    fn remember(
        &mut self,
        report: &Report,
        host: &str,
        profile: Profile,
        ended: SystemTime,
        attempt: &Attempt,
    ) {
        let Diagnosis { outcome, finding, .. } = &report.diagnosis;
        if matches!(outcome, Outcome::Probe | Outcome::Cancel) {
            return;
        }
        if *outcome == Outcome::Ok {
            let success = Success::new(&attempt.record, report, profile, ended);
            self.successes.add(report.client.database.clone(), success);
        }
        let closed_early = attempt.opaque.is_some_and(|opaque| opaque.closed.is_some());
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Past {
            host: host.to_owned(),
            user: report.client.user.clone(),
            ended,
            attempt: Earlier {
                id: report.id.clone(),
                before: Duration::ZERO,
                lasted: attempt.elapsed,
                outcome: *outcome,
                encrypted: attempt.record.is_client_encrypted(),
                ended: *outcome == Outcome::Failed || (closed_early && !looks_logged_in(&attempt.record)),
                cause: finding.as_ref().map(|finding| (finding.cause, finding.summary.clone())),
            },
        });
    }
}

/// Whether an encrypted connection went further than a login: more messages of the client than a
/// login has, or one of the size of Terminate (5 bytes, and 17 that TLS 1.3 adds).
fn looks_logged_in(record: &Record) -> bool {
    const LOGIN_MESSAGES: usize = 6;
    const TERMINATE: usize = 22;
    let Some(tls) = &record.tls else { return false };
    let sizes = || tls.encrypted.iter().filter(|(from, ..)| *from == Side::Client).map(|(_, size, _)| *size);
    sizes().count() > LOGIN_MESSAGES || sizes().any(|size| size == TERMINATE)
}

/// The host part of an address as shown.
pub(super) fn host_of(address: &str) -> String {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => "local".to_owned(),
    }
}
