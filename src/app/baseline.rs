//! `--baseline`: the successes of a capture, for a failed login to be compared with.

use std::path::Path;

use crate::capture::tls::KeyLog;
use crate::diagnose::Outcome;

use super::Failure;
use super::clerk::{Clerk, Setting};
use super::history::profile_of;
use super::logins::{logins, report};
use super::successes::{Success, Successes};

/// Reads the logins of a capture that worked.
pub(super) fn read(path: &Path) -> Result<Successes, Failure> {
    let of_ours = |failure: Failure| Failure { text: format!("--baseline {}", failure.text), ..failure };
    let mut clerk = Clerk::new(Setting::default());
    let mut found = Successes::default();
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut seen = false;
    logins(path, &[], &KeyLog::default(), &mut |conversation| {
        seen = true;
        let (report, record) = report(&mut clerk, "", conversation, false);
        if report.diagnosis.outcome == Outcome::Ok {
            let profile = profile_of(&report, &record);
            let success = Success::new(&record, &report, profile, report.time + report.elapsed);
            found.add(report.client.database.clone(), success.seen_in(&file));
        }
        true
    })
    .map_err(of_ours)?;
    if found.is_empty() {
        let what = if seen { "none of its logins worked" } else { "it holds no login" };
        return Err(Failure::usage(format!("--baseline {}: {what}", path.display())));
    }
    Ok(found)
}
