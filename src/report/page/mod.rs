//! A report as a page of its own, for an issue: HTML that needs nothing else, and Markdown.
//!
//! Everything from the wire is escaped where it is written ([`super::escape`]); the page has no script and
//! asks no network for anything.

mod arrows;
mod html;
mod markdown;
mod sections;
mod svg;

use std::net::SocketAddr;

use crate::diagnose::Outcome;
use crate::handshake::Record;

use super::Report;
use super::diff::{Comparison, Row};

pub use html::html;
pub use markdown::markdown;

/// One login, with what a page tells beside its report.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The report.
    pub report: Report,
    /// What was seen of it.
    pub record: Record,
    /// The capture that it was read from.
    pub file: String,
    /// Its packets.
    pub packets: Packets,
    /// The version of pgwhy that captured it, where pgwhy did.
    pub written_by: Option<String>,
    /// The capture holds its secrets as they were sent.
    pub secrets_kept: bool,
    /// pgwhy answered the request for encryption itself.
    pub answered_by_us: bool,
    /// What the capture lacks of it, in words.
    pub lack: Option<String>,
    /// Beside the last login of the same user and database that worked.
    pub compared: Option<Comparison>,
}

/// Where a login's packets are in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// The client's address in them, and whom it reached.
    pub client: (SocketAddr, SocketAddr),
    /// The same login between pgwhy and the server.
    pub server: Option<(SocketAddr, SocketAddr)>,
    /// The first frame, and the one with the verdict, by their numbers.
    pub frames: Option<(u64, u64)>,
    /// Every packet has a comment of pgwhy's, and the failing one its verdict.
    pub commented: bool,
    /// TLS was opened with a key log, which Wireshark needs too.
    pub opened: bool,
}

/// Everything on the page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The logins, the failed ones first.
    pub sheets: Vec<Sheet>,
    /// Logins for which there was no room.
    pub left_out: u64,
    /// The captures that were read.
    pub files: Vec<String>,
    /// The options that gave context, without what they hold.
    pub context: Vec<String>,
    /// What the captures hold, in one line.
    pub counts: String,
}

impl Sheet {
    /// Whether the login failed.
    pub fn failed(&self) -> bool {
        self.report.diagnosis.outcome == Outcome::Failed
    }

    /// Who it was: user and database, or what else it is.
    fn who(&self) -> String {
        let client = &self.report.client;
        match (&client.user, &client.database) {
            (Some(user), Some(database)) => format!("{user}@{database}"),
            (Some(user), None) => user.clone(),
            (None, _) => match self.report.diagnosis.outcome {
                Outcome::Cancel => "a cancel request".into(),
                Outcome::Probe => "a probe".into(),
                Outcome::Opaque => "an encrypted connection".into(),
                Outcome::Ok | Outcome::Failed => "a connection".into(),
            },
        }
    }

    /// The verdict in one sentence, for a headline.
    fn headline(&self) -> String {
        let outcome = self.report.diagnosis.outcome;
        let sentence = match &self.report.diagnosis.finding {
            Some(finding) => finding.summary.clone(),
            None => match outcome {
                Outcome::Ok => "the login succeeded".into(),
                Outcome::Cancel => "a request to cancel a query".into(),
                Outcome::Probe => "a health check or a port scan".into(),
                Outcome::Opaque => "encrypted from end to end: only its outside was seen".into(),
                Outcome::Failed => "the login failed".into(),
            },
        };
        capitalised(&sentence)
    }

    /// Cause and variant by their ids.
    fn cause(&self) -> Option<String> {
        let finding = self.report.diagnosis.finding.as_ref()?;
        let variant = finding.variant.map(|variant| format!(" / {variant}")).unwrap_or_default();
        Some(format!("{}{variant}", finding.cause.id()))
    }
}

impl Page {
    /// The title: of one login its verdict, of several how many.
    fn title(&self) -> String {
        let failed = self.sheets.iter().filter(|sheet| sheet.failed()).count();
        match (self.sheets.as_slice(), failed) {
            ([], _) => "No login".into(),
            ([one], _) => one.headline(),
            (all, 0) => format!("{} logins, none failed", all.len()),
            (all, 1) => format!("1 of {} logins failed", all.len()),
            (all, failed) => format!("{failed} of {} logins failed", all.len()),
        }
    }
}

/// A sentence that stands alone.
fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    first + chars.as_str()
}

/// Parts of a sentence: what stands between backquotes is code.
fn parts(text: &str) -> Vec<(bool, &str)> {
    let pieces: Vec<&str> = text.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return vec![(false, text)];
    }
    let numbered = pieces.into_iter().enumerate().map(|(at, piece)| (at % 2 == 1, piece));
    numbered.filter(|(_, piece)| !piece.is_empty()).collect()
}

/// What a stranger sent may be of any length; the beginning tells.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What differs between two logins and does not only follow. A salt says nothing to a reader but that it is
/// another one.
fn differing(comparison: &Comparison) -> impl Iterator<Item = Row> + '_ {
    comparison.rows.iter().filter(|row| row.differs() && !row.follows).map(|row| {
        let mut row = row.clone();
        if row.field == "scram_salt" {
            row.a = "one salt".into();
            row.b = "another".into();
        }
        row
    })
}

/// Characters of a value that are shown.
const LONGEST: usize = 300;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
