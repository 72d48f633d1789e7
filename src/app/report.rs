//! `pgwhy report`: captures become a page for an issue.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use crate::capture::conversation::Conversation;
use crate::capture::facts::LegFacts;
use crate::diagnose::Outcome;
use crate::diagnose::context::Lack;
use crate::handshake::Record;
use crate::report::Report;
use crate::report::diff::{Comparison, Login};
use crate::report::page::{Packets, Page, Sheet, html, markdown};

use super::clerk::Clerk;
use super::cli::{ChoiceArgs, PageFormat, ReportArgs};
use super::logins::{keys, logins, report};
use super::show::{Counts, clerk, wanted};
use super::{Failure, stderr};

/// Logins on a page: more are no reading for anybody, and each takes some 20 kB of it.
const SHEETS: usize = 50;
/// Users and databases whose last success is kept to compare with.
const SUCCESSES: usize = 256;

/// Reads every file and writes the page.
pub(super) fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let format = format(args)?;
    let (mut clerk, anew) = clerk(&args.choice)?;
    let keys = keys(args.choice.keylog.as_deref())?;
    let mut found = Found::default();
    let mut counts = Counts::default();
    for (place, path) in args.files.iter().enumerate() {
        refuse_to_overwrite(args.output.as_deref(), path)?;
        let prefix = if args.files.len() > 1 { format!("{}.", place + 1) } else { String::new() };
        let read = logins(path, &args.choice.port, &keys, &mut |conversation| {
            let number = format!("{prefix}{}", conversation.number);
            let sheet = sheet(&mut clerk, &prefix, conversation, anew, path);
            counts.count(&sheet.report);
            found.add(sheet, &args.choice, &number);
            true
        });
        match read {
            Ok(tally) => counts.add(tally),
            Err(failure) => {
                stderr::say(&failure.text);
                counts.unreadable_files += 1;
            }
        }
    }
    let unreadable = counts.unreadable_files;
    if unreadable == u32::try_from(args.files.len()).unwrap_or(u32::MAX) {
        // A page of nothing would take the place of one that is there.
        return Ok(ExitCode::from(2));
    }
    let page = found.page(args, counts.line());
    let text = match format {
        PageFormat::Html => html(&page),
        PageFormat::Markdown => markdown(&page),
    };
    match &args.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::usage(format!("--output {}: {error}", path.display())))?,
        None => super::print(text.as_bytes())?,
    }
    io::stdout().flush()?;
    stderr::say(&page.counts);
    Ok(if unreadable > 0 { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn format(args: &ReportArgs) -> Result<PageFormat, Failure> {
    let ending = args.output.as_deref().map(|path| path.extension().unwrap_or_default().to_string_lossy());
    let by_name = match ending.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm" | "xhtml") => Some(PageFormat::Html),
        Some("md" | "markdown" | "mdown" | "txt") => Some(PageFormat::Markdown),
        Some(_) if args.format.is_none() => {
            return Err(Failure::usage("--output: the name ends in neither .html nor .md; give --format"));
        }
        _ => None,
    };
    let terminal = io::stdout().is_terminal();
    let fitting = if terminal { PageFormat::Markdown } else { PageFormat::Html };
    Ok(args.format.or(by_name).unwrap_or(fitting))
}

/// A page must not take the place of the capture that it is made from.
fn refuse_to_overwrite(output: Option<&Path>, input: &Path) -> Result<(), Failure> {
    let same = output.and_then(|output| Some(output.canonicalize().ok()? == input.canonicalize().ok()?));
    match same {
        Some(true) => Err(Failure::usage(format!("--output {}: that is the capture", input.display()))),
        _ => Ok(()),
    }
}

fn sheet(clerk: &mut Clerk, prefix: &str, conversation: Conversation, anew: bool, file: &Path) -> Sheet {
    let facts = conversation.facts.clone();
    let ends = (conversation.client, conversation.server);
    let (frames, lack, opened) = (conversation.frames, lack(conversation.lack), conversation.opened);
    let (report, record) = report(clerk, prefix, conversation, anew);
    let place = |leg: &LegFacts| -> Option<(SocketAddr, SocketAddr)> {
        Some((leg.packets_from.parse().ok()?, leg.packets_to.parse().ok()?))
    };
    let packets = Packets {
        client: ends,
        server: facts.as_ref().and_then(|facts| place(facts.server_leg.as_ref()?)),
        // Whether Wireshark counts the blocks with the facts as frames depends on its version.
        frames: facts.is_none().then_some(frames),
        // What pgwhy passed through unopened it could not judge.
        commented: facts.is_some() && !opened,
        opened,
    };
    Sheet {
        report,
        record,
        file: file.display().to_string(),
        packets,
        // What stayed encrypted was not blanked.
        secrets_kept: opened || facts.as_ref().is_some_and(|facts| facts.secrets_kept),
        answered_by_us: facts.as_ref().is_some_and(|facts| facts.ssl_answered_by_us),
        written_by: facts.map(|facts| facts.written_by),
        lack,
        compared: None,
    }
}

/// What is missing, in words.
fn lack(lack: Lack) -> Option<String> {
    let lost = lack.client_bytes + lack.server_bytes;
    let mut parts = Vec::new();
    if lost > 0 {
        parts.push(format!("{lost} bytes of it were not captured"));
    }
    if lack.cut_off.is_some() {
        parts.push("the capture ends before it does".into());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Who logs in to what.
type Key = (Option<String>, Option<String>);

/// What the page may need of all logins, in bounded memory.
#[derive(Default)]
struct Found {
    failed: Vec<Sheet>,
    others: Vec<Sheet>,
    left_out: u64,
    successes: BTreeMap<Key, Box<(Report, Record, String)>>,
}

impl Found {
    fn add(&mut self, sheet: Sheet, choice: &ChoiceArgs, number: &str) {
        let client = &sheet.report.client;
        let key = (client.user.clone(), client.database.clone());
        let outcome = sheet.report.diagnosis.outcome;
        if outcome == Outcome::Ok && (self.successes.len() < SUCCESSES || self.successes.contains_key(&key)) {
            let seen = (sheet.report.clone(), sheet.record.clone(), sheet.file.clone());
            self.successes.insert(key, Box::new(seen));
        }
        if !wanted(choice, &sheet.report, number) {
            return;
        }
        let list = if outcome == Outcome::Failed { &mut self.failed } else { &mut self.others };
        if list.len() < SHEETS { list.push(sheet) } else { self.left_out += 1 }
    }

    fn page(mut self, args: &ReportArgs, counts: String) -> Page {
        for sheet in &mut self.failed {
            let client = &sheet.report.client;
            let key = (client.user.clone(), client.database.clone());
            sheet.compared = self.successes.get(&key).map(|success| {
                Comparison::new(
                    Login { name: &success.2, report: &success.0, record: &success.1 },
                    Login { name: &sheet.file, report: &sheet.report, record: &sheet.record },
                )
            });
        }
        let mut sheets = self.failed;
        let room = SHEETS.saturating_sub(sheets.len());
        let left_out =
            self.left_out + u64::try_from(self.others.len().saturating_sub(room)).unwrap_or_default();
        sheets.extend(self.others.into_iter().take(room));
        let files = args.files.iter().map(|path| path.display().to_string()).collect();
        Page { sheets, left_out, files, context: context(&args.choice), counts }
    }
}

/// What was given beside the captures: its kind, and never what it holds.
fn context(choice: &ChoiceArgs) -> Vec<String> {
    let context = &choice.context;
    let given = [
        (choice.keylog.is_some(), "keys of TLS connections (--keylog)"),
        (choice.expect.is_some(), "the connection string that was to be used (--expect)"),
        (context.password_file.is_some(), "the expected password (--password-file)"),
        (context.hba.is_some(), "pg_hba.conf (--hba)"),
        (context.admin.is_some(), "an administrator's connection (--admin)"),
        (context.server_log.is_some(), "the server's log (--server-log)"),
        (context.control_data.is_some(), "pg_controldata (--control-data)"),
    ];
    given.iter().filter(|(given, _)| *given).map(|(_, name)| (*name).to_owned()).collect()
}
