//! The contexts that were given beside the wire: server log, control data, administrator's connection,
//! pg_hba.conf. Asked only when a login failed, by the desk, never on a login's path.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use crate::diagnose::admin::AdminFacts;
use crate::diagnose::context::{LogFacts, Rules};
use crate::diagnose::{Cause, Finding};
use crate::handshake::Step;
use crate::handshake::ladder::text;
use crate::hba::{self, FileError, Files, Server, World};
use crate::net::{Attempt, PeerAddr};
use crate::password::mock::is_mock_salt;
use crate::serverlog::{self, Join, Question, control_data, facts};

use super::Failure;
use super::admin::{Admin, DEADLINE};
use super::cli::ContextArgs;
use super::follow::{Follower, Patience, Source, absent};
use super::stderr;

/// How long the log may take to show a failure; it is written before the client hears of it, but a
/// follower has to notice.
const LOG_DEADLINE: Duration = Duration::from_millis(600);
/// The same where the server did refuse, so that there is a line, and the log did not get there yet.
const LOG_LAG: Duration = Duration::from_secs(2);
/// After so many refusals in a row that it did not show, a log is not waited for longer than usual:
/// it is another server's, or does not hold such lines.
const LOG_VAIN: u32 = 2;

/// What was given.
#[derive(Default)]
pub(super) struct Sources {
    log: Option<LogSource>,
    nonce: Option<[u8; 32]>,
    pub(super) admin: Option<Arc<Admin>>,
    hba: Option<HbaSource>,
}

/// The server's log.
struct LogSource {
    follower: Follower,
    /// Refusals in a row that it did not show.
    vain: u32,
}

/// pg_hba.conf, read again when it changes.
struct HbaSource {
    path: PathBuf,
    /// The server's major version, if it was said.
    version: Option<u32>,
    /// The file, what it includes, and the directories that it names, as they were when they were read.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    rules: Option<Rules>,
    problem: Option<String>,
}

/// When a file was changed, and how long it was.
type Stamp = (SystemTime, u64);

fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.len())))
}

/// When a file's text, name or rights were last changed: another that takes its place may be older than that.
fn changed(path: &Path) -> io::Result<SystemTime> {
    let meta = fs::metadata(path)?;
    let seconds = u64::try_from(meta.ctime()).unwrap_or_default();
    let nanos = u64::try_from(meta.ctime_nsec()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanos))
}

/// What the sources say about one login.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) log: Option<LogFacts>,
    pub(super) mock_salt: Option<bool>,
    pub(super) admin: Option<Arc<AdminFacts>>,
    /// What could not be had, in words.
    pub(super) unseen: Vec<String>,
}

impl Sources {
    /// Opens what the options name.
    pub(super) fn open(args: &ContextArgs) -> Result<Self, Failure> {
        let mut sources = Self::default();
        if let Some(path) = &args.server_log {
            if let Some(why) = absent(path) {
                stderr::say(format_args!("--server-log {why}; it is looked for again until it is there"));
            }
            let source = Source { path: path.clone(), prefix: args.log_line_prefix.clone() };
            sources.log = Some(LogSource { follower: Follower::start(source)?, vain: 0 });
        }
        if let Some(path) = &args.control_data {
            sources.nonce = Some(nonce(path)?);
        }
        if let Some(text) = &args.admin {
            let admin = Admin::new(text).map_err(|problem| Failure::usage(format!("--admin: {problem}")))?;
            sources.admin = Some(Arc::new(admin));
        }
        if let Some(path) = &args.hba {
            let mut source = HbaSource {
                path: path.clone(),
                version: args.pg_version,
                stamps: Vec::new(),
                rules: None,
                problem: None,
            };
            source.refresh(SystemTime::now());
            if let Some(problem) = &source.problem {
                return Err(Failure::usage(format!("--hba {}: {problem}", path.display())));
            }
            sources.hba = Some(source);
        }
        Ok(sources)
    }

    /// The rules as they stood when an attempt ended, and what is wrong with reading them.
    pub(super) fn rules(&mut self, ended: SystemTime) -> (Option<&Rules>, Option<String>) {
        let Some(source) = &mut self.hba else { return (None, None) };
        source.refresh(ended);
        (source.rules.as_ref(), source.problem.as_ref().map(|problem| format!("--hba: {problem}")))
    }

    /// Asks whoever may know more about a login that failed.
    pub(super) fn gather(&mut self, attempt: &Attempt, finding: &Finding, busy: bool) -> Gathered {
        let record = &attempt.record;
        let mut gathered = Gathered::default();
        // A login that worked is no refusal: nobody has a line about it.
        let worked = record.session.ready.is_some();
        if attempt.server.is_none() || record.startup.is_none() || worked {
            return gathered;
        }
        if let (Some(nonce), Some(first)) =
            (&self.nonce, record.scram.as_ref().and_then(|scram| scram.server_first.as_ref()))
        {
            gathered.mock_salt = Some(is_mock_salt(&first.salt, record.user().unwrap_or_default(), nonce));
        }
        if busy {
            if self.log.is_some() || self.admin.is_some() {
                gathered
                    .unseen
                    .push("too many failed logins at once: no further context was asked for".into());
            }
            return gathered;
        }
        // First who answers for this moment: the log keeps what it has, and may be waited for.
        if let Some(admin) = self.admin.as_ref().filter(|_| admin_may_know(finding)) {
            let user = text(record.user().unwrap_or_default());
            let database = text(record.database().unwrap_or_default());
            match admin.ask(&user, &database, DEADLINE) {
                Ok(facts) => gathered.admin = Some(facts),
                Err(problem) => gathered.unseen.push(problem.to_string()),
            }
        }
        if let Some(log) = &mut self.log {
            read_log(log, attempt, &mut gathered);
        }
        gathered
    }
}

/// The causes that the catalogs can settle.
fn admin_may_know(finding: &Finding) -> bool {
    matches!(finding.step, Step::Password | Step::Md5 | Step::ScramClientFinal | Step::SessionSetup)
        || matches!(
            finding.cause,
            Cause::HbaNoEntry
                | Cause::HbaReject
                | Cause::HbaRequiresTls
                | Cause::HbaForbidsTls
                | Cause::HbaNotReloaded
                | Cause::IdentFailed
                | Cause::TooManyConnections
        )
}

fn read_log(log: &mut LogSource, attempt: &Attempt, gathered: &mut Gathered) {
    let record = &attempt.record;
    let ms = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    };
    let (our_ip, our_port) = match &attempt.our_outgoing {
        Some(PeerAddr::Tcp(addr)) => (Some(addr.ip().to_canonical()), Some(addr.port())),
        _ => (None, None),
    };
    let question = Question {
        our_ip,
        our_port,
        unix: matches!(attempt.server, Some(PeerAddr::Unix(_))),
        pid: record.session.pid,
        user: record.user().map(text),
        database: record.database().map(text),
        from_ms: ms(attempt.accepted),
        to_ms: ms(attempt.accepted + attempt.elapsed),
    };
    let refused = record.error.as_ref().is_some_and(|error| !error.is_ours());
    let most = if refused && log.vain < LOG_VAIN { LOG_LAG } else { LOG_DEADLINE };
    let answers = log.follower.wait_for(&question, Patience::new(LOG_DEADLINE, most));
    log.vain = if answers.is_empty() { log.vain.saturating_add(u32::from(refused)) } else { 0 };
    let Some(first) = answers.first() else {
        let why = log.follower.status().error.unwrap_or_else(|| "it has no line about this login".into());
        gathered.unseen.push(format!("--server-log: {why}"));
        return;
    };
    let joined_by = match first.join {
        Join::Port => "our port",
        Join::Pid => "the backend's process id",
        Join::TimeAndNames => "time, user and database",
    };
    // All answers to one question are equally sure.
    let certainty = first.certainty;
    let facts: Vec<serverlog::Fact> = answers.iter().flat_map(|answer| facts(&answer.entry)).collect();
    gathered.log = Some(LogFacts { facts, certainty, joined_by });
}

fn nonce(path: &Path) -> Result<[u8; 32], Failure> {
    let bad = |why: String| Failure::usage(format!("--control-data {}: {why}", path.display()));
    let length = fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if length > control_data::MAX_CONTROL_DATA as u64 {
        return Err(bad("it is too large to be the output of pg_controldata".into()));
    }
    let bytes = fs::read(path).map_err(|error| bad(error.to_string()))?;
    let data = control_data::parse(&String::from_utf8_lossy(&bytes));
    data.mock_nonce.ok_or_else(|| {
        bad("it names no mock authentication nonce; write it with: pg_controldata DATA_DIRECTORY > FILE"
            .into())
    })
}

impl HbaSource {
    /// Reads the file again if it has changed since, unless that was after `ended`: then what was read before is
    /// more likely what it said to that login.
    fn refresh(&mut self, ended: SystemTime) {
        if let Err(error) = stamp(&self.path) {
            self.problem = Some(error.to_string());
            return;
        }
        let fresh = |(path, old): &(PathBuf, Option<Stamp>)| stamp(path).ok() == *old;
        let later = |(path, _): &(PathBuf, Option<Stamp>)| changed(path).is_ok_and(|at| at > ended);
        if let Some(rules) = &mut self.rules {
            rules.changed_since = self.stamps.iter().any(later);
            if rules.changed_since || (self.problem.is_none() && self.stamps.iter().all(fresh)) {
                return;
            }
        }
        let stamps = RefCell::new(BTreeMap::new());
        // Before it is read: what changes in between is read once more.
        let note = |path: &Path| {
            stamps.borrow_mut().entry(path.to_owned()).or_insert_with(|| stamp(path).ok());
        };
        let fault = |error: io::Error| FileError::from(&error);
        // Once for all versions: they are readings of the same text.
        let texts = RefCell::new(BTreeMap::new());
        let read = |path: &Path| {
            let fresh = || {
                note(path);
                fs::read(path).map_err(fault)
            };
            texts.borrow_mut().entry(path.to_owned()).or_insert_with(fresh).clone()
        };
        if let Err(error) = read(&self.path) {
            self.problem = Some(error.text);
            return;
        }
        let list = |path: &Path| {
            note(path);
            let entries = fs::read_dir(path).map_err(fault)?;
            Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        };
        let files = Files { read: &read, list: &list };
        let parse = |version| hba::parse(&self.path, &files, &Server::of_version(version));
        let file = parse(self.version.unwrap_or(NEWEST));
        let older = match self.version {
            Some(_) => Vec::new(),
            None => (OLDEST..NEWEST).map(parse).collect(),
        };
        self.rules = Some(Rules { file, older, world: World::default(), changed_since: false });
        self.stamps = stamps.into_inner().into_iter().collect();
        self.problem = None;
    }
}

/// The versions by whose rules a file is read.
const OLDEST: u32 = 12;
const NEWEST: u32 = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: PathBuf) -> HbaSource {
        HbaSource { path, version: None, stamps: Vec::new(), rules: None, problem: None }
    }

    #[test]
    fn a_file_that_is_back_is_no_problem_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("pg_hba.conf"), dir.path().join("away"));
        fs::write(&path, "local all all peer\n").unwrap();
        let mut source = source(path.clone());
        let mut has_problem = || {
            source.refresh(SystemTime::now() + Duration::from_secs(9));
            source.problem.is_some()
        };
        assert!(!has_problem());
        fs::rename(&path, &away).unwrap();
        assert!(has_problem());
        fs::rename(&away, &path).unwrap();
        assert!(!has_problem());
    }

    #[test]
    fn a_file_is_read_again_when_one_that_it_includes_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_hba.conf");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("pg_hba.conf", "include more.conf\ninclude_dir d\nlocal all @names trust\n");
        let mut source = source(path);
        let mut count = || {
            source.refresh(SystemTime::now() + Duration::from_secs(9));
            let file = &source.rules.as_ref().unwrap().file;
            (file.rules.iter().map(|rule| rule.users.len()).sum::<usize>(), file.problems.len())
        };
        assert_eq!(count().1, 3, "nothing of what it names is there");
        write("names", "a b");
        write("more.conf", "local all c peer\n");
        fs::create_dir(dir.path().join("d")).unwrap();
        assert_eq!(count(), (3, 0));
        write("names", "a b c d");
        assert_eq!(count(), (5, 0));
        write("d/1.conf", "local all e,f peer\n");
        assert_eq!(count(), (7, 0));
        write("d/1.conf", "local all e peer\n");
        assert_eq!(count(), (6, 0));
    }

    #[test]
    fn a_file_that_was_changed_behind_a_login_is_read_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_hba.conf");
        fs::write(&path, "local all all trust\n").unwrap();
        let mut source = HbaSource { path, version: None, stamps: Vec::new(), rules: None, problem: None };
        let mut count = |ended| {
            source.refresh(ended);
            source.rules.as_ref().unwrap().file.rules.len()
        };
        let first = SystemTime::now();
        assert_eq!(count(first), 1);
        // The clock of files ticks some milliseconds at a time.
        let ended = first - Duration::from_secs(1);
        let other = dir.path().join("new");
        fs::write(&other, "local all a trust\nlocal all b trust\n").unwrap();
        fs::rename(&other, dir.path().join("pg_hba.conf")).unwrap();
        assert_eq!(count(ended), 1, "it was not so then");
        assert_eq!(count(SystemTime::now() + Duration::from_secs(1)), 2);
    }
}
