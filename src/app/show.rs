//! `pgwhy show`: captures become the reports that the proxy would have written.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::capture::conversation::Tally;
use crate::diagnose::Outcome;
use crate::report::Report;

use super::clerk::{Clerk, Setting};
use super::cli::{ChoiceArgs, ShowArgs};
use super::config::expectation;
use super::logins::{keys, logins, report};
use super::output::{Dress, Show, counted};
use super::sources::Sources;
use super::{Failure, baseline, stderr};

/// Reads every file and reports every login.
pub(super) fn run(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let choice = &args.choice;
    let dress = Dress::new(args.format, if choice.failed { Show::Failed } else { Show::All });
    let (mut clerk, anew) = clerk(choice)?;
    let keys = keys(choice.keylog.as_deref())?;
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut total, mut shown_failed) = (Counts::default(), false);
    for (place, path) in args.files.iter().enumerate() {
        let prefix = if args.files.len() > 1 { format!("{}.", place + 1) } else { String::new() };
        let mut gone = false;
        let read = logins(path, &choice.port, &keys, &mut |conversation| {
            let number = conversation.number;
            let report = report(&mut clerk, &prefix, conversation, anew).0;
            total.count(&report);
            if !wanted(choice, &report, &format!("{prefix}{number}")) {
                return !gone;
            }
            shown_failed |= report.diagnosis.outcome == Outcome::Failed;
            let text = dress.report(&report).unwrap_or_default();
            // `pgwhy show … | head` is no failure.
            gone |= out.write_all(text.as_bytes()).is_err();
            !gone
        });
        let flushed = out.flush();
        match read {
            Ok(tally) => total.add(tally),
            Err(failure) => {
                stderr::say(&failure.text);
                total.unreadable_files += 1;
            }
        }
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ if gone => break,
            _ => {}
        }
    }
    stderr::say(total.line());
    Ok(match (total.unreadable_files, shown_failed) {
        (1.., _) => ExitCode::from(2),
        (0, true) => ExitCode::from(1),
        (0, false) => ExitCode::SUCCESS,
    })
}

/// A clerk for captures, and whether context was given, so that verdicts are found anew.
pub(super) fn clerk(choice: &ChoiceArgs) -> Result<(Clerk, bool), Failure> {
    let (expected, demands, host) =
        expectation(choice.expect.as_deref(), choice.context.password_file.as_deref())?;
    let sources = Sources::open(&choice.context)?;
    let anew = choice.expect.is_some() || !choice.context.is_empty();
    let baseline = choice.context.baseline.as_deref().map(baseline::read).transpose()?;
    Ok((Clerk::new(Setting { expected, demands, host, sources, baseline }), anew))
}

/// Whether a login is one of those that were asked for. `number` is its place in the capture.
pub(super) fn wanted(choice: &ChoiceArgs, report: &Report, number: &str) -> bool {
    let user = choice.user.as_deref().is_none_or(|user| report.client.user.as_deref() == Some(user));
    let finding = report.diagnosis.finding.as_ref();
    let cause = choice.cause.is_none_or(|cause| finding.is_some_and(|finding| finding.cause == cause));
    let login = choice.login.as_deref().is_none_or(|login| login == report.id || login == number);
    user && cause && login && (!choice.failed || report.diagnosis.outcome == Outcome::Failed)
}

/// What all files held.
#[derive(Default)]
pub(super) struct Counts {
    tally: Tally,
    logins: u64,
    failed: u64,
    pub(super) unreadable_files: u32,
}

impl Counts {
    pub(super) fn count(&mut self, report: &Report) {
        self.logins += u64::from(matches!(report.diagnosis.outcome, Outcome::Ok | Outcome::Failed));
        self.failed += u64::from(report.diagnosis.outcome == Outcome::Failed);
    }

    pub(super) fn add(&mut self, one: Tally) {
        let all = &mut self.tally;
        all.packets += one.packets;
        all.unreadable += one.unreadable;
        all.connections += one.connections;
        all.ignored += one.ignored;
        all.without_start += one.without_start;
        all.forgotten += one.forgotten;
        all.lost_bytes += one.lost_bytes;
        all.dropped = all.dropped.saturating_add(one.dropped);
    }

    pub(super) fn line(&self) -> String {
        let all = &self.tally;
        let mut line = format!(
            "{}, {}: {}, {} failed",
            counted(all.packets, "packet"),
            counted(all.connections, "connection"),
            counted(self.logins, "login"),
            self.failed
        );
        let parts = [
            (all.ignored, "of other protocols"),
            (all.without_start, "begun before the capture"),
            (all.forgotten, "given up: too many at a time"),
            (all.unreadable, "packets unreadable"),
            (all.lost_bytes, "bytes of logins missing"),
            (all.dropped, "packets lost by whoever captured"),
        ];
        for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!("; {count} {what}"));
        }
        line
    }
}
