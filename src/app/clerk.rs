//! The clerk: makes a report of an attempt, with everything that may be known beside its bytes.

use std::cell::RefCell;
use std::time::SystemTime;

use crate::diagnose::context::{Context, Demands, Dial, Expectation, Lack, Limit, Opaque};
use crate::diagnose::story::Profile;
use crate::diagnose::{Diagnosis, Outcome, diagnose};
use crate::handshake::Record;
use crate::net::{Attempt, Ending, PeerAddr};
use crate::password::Expected;
use crate::report::Report;
use crate::secret::Secret;

use super::conceal::conceal;
use super::dials::{dial, way};
use super::history::{History, profile_of};
use super::judging::{KeyCache, exchange, judgement};
use super::sources::{Gathered, Sources};
use super::successes::Successes;

/// What stays the same for all attempts.
#[derive(Default)]
pub(super) struct Setting {
    /// The password that clients should send.
    pub(super) expected: Option<Expected>,
    /// What the connection string makes clients insist on.
    pub(super) demands: Option<Demands>,
    /// The server's host name.
    pub(super) host: Option<String>,
    /// What else may be asked about a login that failed.
    pub(super) sources: Sources,
    /// What failed logins are compared with, beside those of this run.
    pub(super) baseline: Option<Successes>,
}

/// Makes reports of attempts, and remembers them for the next ones.
pub(super) struct Clerk {
    expected: Option<Expected>,
    demands: Option<Demands>,
    host: Option<String>,
    sources: RefCell<Sources>,
    history: History,
    keys: KeyCache,
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
    pub(super) fn new(setting: Setting) -> Self {
        let Setting { expected, demands, host, sources, baseline } = setting;
        let (history, keys) = (History::beside(baseline), KeyCache::default());
        Self { expected, demands, host, sources: RefCell::new(sources), history, keys }
    }

    /// The password that clients should send.
    pub(super) fn expected(&self) -> Option<&Expected> {
        self.expected.as_ref()
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
            let profile = profile_of(report, record);
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
        let expectation = expectation(self.expected.as_ref(), record);
        let for_this_user = expectation.is_some_and(|expectation| expectation.for_this_user);
        let expected = self.expected.as_ref().filter(|_| for_this_user);
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
            demands: self.demands.as_ref(),
            now_unix: now
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            server_host: self.host.as_deref(),
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
        let profile = Profile::new(record, &client_host, way.address.as_deref(), None);
        let mut report = Report::new(record, diagnosis, &way, attempt.ssl_answered_by_us);
        report.id = id;
        report.time = attempt.accepted;
        report.client.address = attempt.client.to_string();
        report.elapsed = attempt.elapsed;
        self.remember_password(&report, record, for_this_user);
        self.history.complete(&mut report, &profile, ended);
        self.history.remember(&report, &client_host, profile, ended, attempt);
        if let Some(expected) = &self.expected {
            conceal(&mut report, record, expected);
        }
        report
    }

    /// A password that worked: a client that still has it may send it again. Only where it crossed the wire in clear
    /// is it known.
    fn remember_password(&mut self, report: &Report, record: &Record, for_this_user: bool) {
        let sent = record.cleartext.as_ref().and_then(|sent| std::str::from_utf8(sent.expose()).ok());
        let expected = self.expected.as_mut().filter(|_| for_this_user);
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

fn expectation<'a>(expected: Option<&'a Expected>, record: &Record) -> Option<Expectation<'a>> {
    let expected = expected?;
    let user = record.user().unwrap_or_default();
    let for_this_user = expected.user.as_deref().is_none_or(|owner| owner.as_bytes() == user);
    Some(Expectation { source: &expected.source, user: expected.user.as_deref(), for_this_user })
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

/// Passwords that worked and are remembered, and how long one may be; longer ones are tokens, new for each login.
const PASSWORDS: usize = 16;
const LONGEST_PASSWORD: usize = 256;
