//! What happened before: attempts of one client that belong together, and the difference from a success.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::diagnose::context::{Earlier, LastSalt};
use crate::diagnose::story::{MOMENTS, Profile};
use crate::diagnose::{Cause, Diagnosis, Outcome};
use crate::handshake::ladder::text;
use crate::handshake::{Record, Side};
use crate::net::Attempt;
use crate::report::Report;

use super::successes::{Success, Successes};

/// What happened before: for linking attempts and for the difference from the last success.
#[derive(Default)]
pub(super) struct History {
    recent: VecDeque<Past>,
    successes: Successes,
    /// Of an earlier day, where one was given.
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
    /// Nothing of this run yet.
    pub(super) fn beside(baseline: Option<Successes>) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// The last attempt of the same client that ended moments before this one began.
    pub(super) fn earlier(&self, host: &str, accepted: SystemTime, ended: SystemTime) -> Option<Earlier> {
        let before = |past: &Past| match accepted.duration_since(past.ended) {
            Ok(before) => Some(before),
            // A driver may open the second connection before the first one is gone; a busy server closes that
            // one after it has refused the second, whose report has waited for it.
            Err(_) => (past.ended <= ended + MOMENTS).then_some(Duration::ZERO),
        };
        let close = |past: &&Past| past.host == host && before(past).is_some_and(|before| before <= MOMENTS);
        let found = self.recent.iter().rev().filter(|past| past.attempt.encrypted).find(close);
        found.map(|past| Earlier { before: before(past).unwrap_or_default(), ..past.attempt.clone() })
    }

    /// Fills in what needs history.
    pub(super) fn complete(&mut self, report: &mut Report, profile: &Profile, ended: SystemTime) {
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
        let failed = |past: &&Past| {
            matches!(past.attempt.outcome, Outcome::Failed | Outcome::Opaque) && past.attempt.ended
        };
        // Nearly all of them worked, so that is asked first.
        for past in self.recent.iter().rev().filter(failed) {
            let since = report.time.duration_since(past.ended).unwrap_or_default();
            let same_user = match (&past.user, &report.client.user) {
                (Some(there), Some(here)) => there == here,
                // Inside TLS the user can't be seen.
                (None, _) => masked || past.attempt.encrypted,
                _ => false,
            };
            // A success belongs to an earlier failure only where the driver changed the way.
            let retried = report.diagnosis.outcome != Outcome::Ok || past.attempt.encrypted != encrypted;
            if past.host == host && since <= MOMENTS && same_user && retried && report.related.len() < 4 {
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

    /// Says what differs from the success next to it.
    pub(super) fn compare(&self, report: &mut Report, profile: &Profile, ended: SystemTime) {
        let success = self.success(report.client.user.as_deref(), report.client.database.as_deref());
        if let Some(success) = success.filter(|_| report.client.user.is_some()) {
            report.differs = success.differences(profile);
            report.last_success = Some(success.told(ended));
        }
    }

    /// The salt that the user of a login was shown when it last worked.
    pub(super) fn last_salt(&self, record: &Record, server: Option<&str>) -> Option<LastSalt> {
        let shown = |bytes: Option<&[u8]>| bytes.filter(|bytes| !bytes.is_empty()).map(text);
        let (user, database) = (shown(record.user()), shown(record.database()));
        self.success(user.as_deref(), database.as_deref())?.salt_of(user.as_deref(), server)
    }

    /// Keeps an attempt for those that follow.
    pub(super) fn remember(
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
                user: report.client.user.clone(),
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

/// What a login that has its report is compared by.
pub(super) fn profile_of(report: &Report, record: &Record) -> Profile {
    let (client, server) = (host_of(&report.client.address), report.server.address.as_deref());
    Profile::new(record, &client, server, report.client_tls.version.as_deref())
}

/// The host part of an address as shown.
fn host_of(address: &str) -> String {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().to_canonical().to_string(),
        Err(_) => "local".to_owned(),
    }
}

/// Attempts remembered for linking.
const RECENT: usize = 256;

/// Servers whose version is remembered.
const VERSIONS: usize = 1_024;
