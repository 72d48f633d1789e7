//! `pgwhy diff`: a login that works beside one that fails.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::diagnose::Outcome;
use crate::handshake::Record;
use crate::report::Report;
use crate::report::diff::{Comparison, Login};

use super::Failure;
use super::clerk::{Clerk, Setting};
use super::cli::DiffArgs;
use super::config::expectation;
use super::logins::{keys, logins, report};
use super::output::{Dress, Format, Show, wants_colour};

/// Users and databases whose last success is kept for choosing.
const SUCCESSES: usize = 256;
/// Columns of the table.
const WIDTH: usize = 100;

type Seen = Box<(Report, Record)>;

/// What may be compared of one capture.
#[derive(Default)]
struct Found {
    first_failed: Option<Seen>,
    last_failed: Option<Seen>,
    last: Option<Seen>,
    last_ok: Option<Seen>,
    ok: BTreeMap<(Option<String>, Option<String>), Seen>,
}

/// Reads both, compares, prints.
pub(super) fn run(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let a = read(args, &args.a)?;
    let name = |path: &Path| path.display().to_string();
    let (names, pair) = match &args.b {
        None => ([name(&args.a), name(&args.a)], inside(&a)),
        Some(path) => ([name(&args.a), name(path)], across(&a, &read(args, path)?)),
    };
    let Some((a, b)) = pair else {
        return Err(Failure::usage(match args.b {
            None => format!("{} has no login that works and one that fails to compare", names[0]),
            Some(_) => format!("{} and {} hold no logins to compare", names[0], names[1]),
        }));
    };
    let [name_a, name_b] = &names;
    let comparison = Comparison::new(
        Login { name: name_a, report: &a.0, record: &a.1 },
        Login { name: name_b, report: &b.0, record: &b.1 },
    );
    let dress = Dress::new(args.format, Show::All);
    let text = match dress.format() {
        Format::Json => comparison.json() + "\n",
        Format::Human => comparison.human(wants_colour(&std::io::stdout()), WIDTH),
    };
    super::print(text.as_bytes())?;
    std::io::stdout().flush()?;
    let same = comparison.rows.iter().all(|row| !row.differs() || row.field.starts_with("time of "));
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn read(args: &DiffArgs, path: &Path) -> Result<Found, Failure> {
    let (expected, demands, host) = expectation(args.expect.as_deref(), None)?;
    let mut clerk = Clerk::new(Setting { expected, demands, host, ..Setting::default() });
    let mut found = Found::default();
    logins(path, &args.port, &keys(args.keylog.as_deref())?, &mut |conversation| {
        let seen = report(&mut clerk, "", conversation, args.expect.is_some());
        let user = args.user.as_deref();
        if user.is_none_or(|user| seen.0.client.user.as_deref() == Some(user)) {
            found.add(seen);
        }
        true
    })?;
    Ok(found)
}

impl Found {
    fn add(&mut self, seen: (Report, Record)) {
        let outcome = seen.0.diagnosis.outcome;
        if matches!(outcome, Outcome::Cancel | Outcome::Probe) {
            return;
        }
        let client = &seen.0.client;
        let key = (client.user.clone(), client.database.clone());
        let seen = Box::new(seen);
        self.last = Some(seen.clone());
        match outcome {
            Outcome::Failed => {
                self.first_failed.get_or_insert_with(|| seen.clone());
                self.last_failed = Some(seen);
            }
            Outcome::Ok => {
                self.last_ok = Some(seen.clone());
                if self.ok.len() < SUCCESSES || self.ok.contains_key(&key) {
                    self.ok.insert(key, seen);
                }
            }
            _ => {}
        }
    }

    /// The last success, of the same user and database if there is one.
    fn success_like(&self, failed: &Seen) -> Option<&Seen> {
        let client = &failed.0.client;
        let same = self.ok.get(&(client.user.clone(), client.database.clone()));
        let of_user = self.ok.iter().filter(|((user, _), _)| *user == client.user).map(|(_, seen)| seen);
        let user = || of_user.max_by_key(|seen| seen.0.time);
        same.or_else(user).or(self.last_ok.as_ref())
    }
}

fn inside(found: &Found) -> Option<(Seen, Seen)> {
    let failed = found.last_failed.as_ref()?;
    Some((found.success_like(failed)?.clone(), failed.clone()))
}

fn across(a: &Found, b: &Found) -> Option<(Seen, Seen)> {
    let works_in_a = b.first_failed.as_ref().and_then(|failed| Some((a.success_like(failed)?, failed)));
    let works_in_b = || a.first_failed.as_ref().and_then(|failed| Some((failed, b.success_like(failed)?)));
    let last = || Some((a.last.as_ref()?, b.last.as_ref()?));
    let (a, b) = works_in_a.or_else(works_in_b).or_else(last)?;
    Some((a.clone(), b.clone()))
}
