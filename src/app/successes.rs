//! Logins that worked: what a failed one is compared with.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::diagnose::context::LastSalt;
use crate::diagnose::story::{Difference, Profile};
use crate::handshake::Record;
use crate::handshake::driver::recognise;
use crate::report::Report;

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

    /// One that was not seen in this run, but in a file.
    pub(super) fn seen_in(mut self, file: &str) -> Self {
        self.name = format!("{}, in {file}", self.name);
        self
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
        if self.by_login.len() >= SUCCESSES && !self.by_login.contains_key(&key) {
            let oldest = self.by_login.iter().min_by_key(|(_, success)| success.at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.by_login.remove(&oldest);
            }
        }
        self.by_login.insert(key, success);
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

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }
}
