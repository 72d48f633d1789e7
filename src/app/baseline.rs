//! What a failed login is compared with: the last success of this run, or one in the capture of `--baseline`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::capture::tls::KeyLog;
use crate::diagnose::Outcome;
use crate::diagnose::history::LastSalt;
use crate::diagnose::story::{Difference, Profile};
use crate::handshake::Record;
use crate::handshake::driver::recognise;
use crate::report::Report;

use super::Failure;
use super::cli::{Format, Show};
use super::desk::{Clerk, Setting, host_of};
use super::output::Dress;
use super::show::{logins, report};
use super::sources::Sources;

/// Users and databases whose last success is remembered.
const SUCCESSES: usize = 1_024;

/// A login that worked.
#[derive(Clone, Debug)]
pub(super) struct Success {
    at: SystemTime,
    /// Its driver, and where it was seen if not in this run.
    name: String,
    profile: Profile,
    user: Option<String>,
    server: Option<String>,
    salt: Option<(Vec<u8>, u32)>,
}

/// The last successes, by user and database.
#[derive(Debug, Default)]
pub(super) struct Successes {
    by_login: BTreeMap<(Option<String>, Option<String>), Success>,
    last: Option<Success>,
}

impl Success {
    /// Keeps of a login what others are compared by.
    pub(super) fn new(record: &Record, report: &Report, profile: Profile, at: SystemTime) -> Self {
        let first = record.scram.as_ref().and_then(|scram| scram.server_first.as_ref());
        Self {
            at,
            name: recognise(record).map_or("unknown driver", |driver| driver.name).to_owned(),
            profile,
            user: report.client.user.clone(),
            server: report.server.address.clone(),
            salt: first.map(|first| (first.salt.clone(), first.iterations)),
        }
    }

    /// What differs here from this success.
    pub(super) fn differences(&self, profile: &Profile) -> Vec<Difference> {
        profile.differences(&self.profile)
    }

    /// Its name and its age, for the report.
    pub(super) fn told(&self, now: SystemTime) -> (String, Duration) {
        (self.name.clone(), now.duration_since(self.at).unwrap_or_default())
    }

    /// The salt that the role had then, to be held against the salt of now.
    pub(super) fn salt_of(&self, user: Option<&str>, server: Option<&str>) -> Option<LastSalt> {
        let (salt, iterations) = self.salt.clone().filter(|_| self.user.as_deref() == user)?;
        let same_server = server.is_some() && self.server.as_deref() == server;
        Some(LastSalt { salt, iterations, same_server, of: self.name.clone() })
    }
}

impl Successes {
    /// Remembers one more.
    pub(super) fn add(&mut self, database: Option<String>, success: Success) {
        let key = (success.user.clone(), database);
        self.last = Some(success.clone());
        if self.by_login.len() < SUCCESSES || self.by_login.contains_key(&key) {
            self.by_login.insert(key, success);
        }
    }

    /// The last one of the same user and database.
    pub(super) fn same(&self, user: Option<&str>, database: Option<&str>) -> Option<&Success> {
        self.by_login.get(&(user.map(str::to_owned), database.map(str::to_owned)))
    }

    /// The nearest one: of the same user and database, of the same user, or the last of all.
    pub(super) fn nearest(&self, user: Option<&str>, database: Option<&str>) -> Option<&Success> {
        let of_user = || {
            let all = self.by_login.values().filter(|success| success.user.as_deref() == user);
            all.max_by_key(|success| success.at)
        };
        self.same(user, database).or_else(of_user).or(self.last.as_ref())
    }

    /// Reads the logins of a capture that worked.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let of_ours = |failure: Failure| Failure { text: format!("--baseline {}", failure.text), ..failure };
        let dress = Dress::new(Some(Format::Json), Show::All);
        let sources = Sources::default();
        let setting = Setting {
            expected: None,
            demands: None,
            host: None,
            dress,
            sources,
            written: None,
            capture: None,
        };
        let mut clerk = Clerk::new(setting);
        let mut found = Self::default();
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut seen = false;
        logins(path, &[], &KeyLog::default(), &mut |conversation| {
            seen = true;
            let (report, record) = report(&mut clerk, "", conversation, false);
            if report.diagnosis.outcome == Outcome::Ok {
                let host = host_of(&report.client.address);
                let profile = Profile::new(&record, &host, report.server.address.as_deref());
                let mut success = Success::new(&record, &report, profile, report.time + report.elapsed);
                success.name = format!("{}, in {file}", success.name);
                found.add(report.client.database.clone(), success);
            }
            true
        })
        .map_err(of_ours)?;
        if found.last.is_none() {
            let what = if seen { "none of its logins worked" } else { "it holds no login" };
            return Err(Failure::usage(format!("--baseline {}: {what}", path.display())));
        }
        Ok(found)
    }
}
