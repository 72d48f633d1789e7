//! The report for people: outcome, ladder, why, evidence, fix, what the server said, what differs.

use std::fmt::Write as _;
use std::time::Duration;

use crate::diagnose::{Confidence, Finding, Outcome};

use super::Report;
use super::escape::visible;

/// How to dress the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Use ANSI colours.
    pub colour: bool,
    /// Columns to fill.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, width: 92 }
    }
}

#[derive(Clone, Copy)]
enum Ink {
    Red,
    Green,
    Yellow,
    Dim,
    Bold,
}

/// The whole report, with a line end.
pub fn render(report: &Report, style: Style) -> String {
    let mut page = Page { style, text: String::with_capacity(1024) };
    page.head(report);
    if report.diagnosis.outcome == Outcome::Failed {
        page.ladder(report);
    }
    if let Some(finding) = &report.diagnosis.finding {
        page.finding(finding, said(report).as_deref());
    }
    for note in &report.diagnosis.notes {
        page.bullet(note);
    }
    for warning in &report.diagnosis.warnings {
        page.item("note", &warning.summary, None);
    }
    if let Some(error) = report.server_error.as_ref().filter(|_| report.diagnosis.outcome == Outcome::Failed)
    {
        let said = [error.sqlstate().to_owned(), error.text(b'M').unwrap_or_default()];
        page.item("server said", said.join(" ").trim(), None);
        for (kind, name) in [(b'D', "detail"), (b'H', "hint")] {
            if let Some(text) = error.text(kind) {
                page.item(name, &text, None);
            }
        }
    }
    page.differences(report);
    if report.diagnosis.outcome == Outcome::Failed && !report.related.is_empty() {
        page.item("follows", &report.related.join(", "), None);
    }
    page.text
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn paint(&self, ink: Ink, text: &str) -> String {
        if !self.style.colour {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Red => "31;1",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Dim => "2",
            Ink::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line whose right part ends at the last column. `shown` is its length without colours.
    fn line(&mut self, left: &str, shown: usize, right: &str) {
        if right.is_empty() {
            let _ = writeln!(self.text, "{left}");
            return;
        }
        let gap = self.style.width.saturating_sub(shown + right.chars().count()).max(2);
        let right = self.paint(Ink::Dim, right);
        let _ = writeln!(self.text, "{left}{}{right}", " ".repeat(gap));
    }

    fn head(&mut self, report: &Report) {
        let (mark, ink) = match report.diagnosis.outcome {
            Outcome::Ok => ("✓", Ink::Green),
            Outcome::Failed => ("✗", Ink::Red),
            Outcome::Cancel | Outcome::Probe | Outcome::Opaque => ("·", Ink::Dim),
        };
        let who = match (&report.client.user, &report.client.database) {
            (Some(user), Some(database)) => format!("{}@{}", visible(user), visible(database)),
            (Some(user), None) => visible(user),
            (None, _) => match report.diagnosis.outcome {
                Outcome::Cancel => "a cancel request".into(),
                Outcome::Probe => "a probe".into(),
                Outcome::Opaque => "an encrypted connection, passed through unopened,".into(),
                _ => "a connection".into(),
            },
        };
        let driver = report.client.driver.map(|driver| format!("  ({driver})")).unwrap_or_default();
        // A capture may name any address: whoever made it wrote it.
        let rest = format!("  from {}{driver}", visible(&report.client.address));
        let shown = 2 + who.chars().count() + rest.chars().count();
        let left = format!("{} {}{rest}", self.paint(ink, mark), self.paint(Ink::Bold, &who));
        self.line(&left, shown, &milliseconds(report.elapsed));
    }

    fn ladder(&mut self, report: &Report) {
        for rung in &report.steps {
            let (mark, ink) = match rung.ok {
                Some(true) => ("✓", Ink::Green),
                Some(false) => ("✗", Ink::Red),
                None => ("·", Ink::Dim),
            };
            let note = visible(&rung.note);
            let name = rung.step.id();
            let room = self.style.width.saturating_sub(5 + 19 + 12);
            let note: String = if note.chars().count() > room {
                note.chars().take(room.saturating_sub(1)).chain(['…']).collect()
            } else {
                note
            };
            let left = format!("   {} {name:<19}{note}", self.paint(ink, mark));
            let shown = 5 + 19.max(name.len()) + note.chars().count();
            let right = rung.took.map(milliseconds).unwrap_or_default();
            self.line(&left, shown, &right);
        }
    }

    /// Evidence that repeats what the server said is left to the line that shows it.
    fn finding(&mut self, finding: &Finding, said: Option<&str>) {
        let ink = match finding.confidence {
            Confidence::Proven => Ink::Red,
            Confidence::Likely => Ink::Yellow,
            Confidence::Possible => Ink::Dim,
        };
        let word = finding.confidence.word().to_uppercase();
        self.item("why", &finding.summary, Some((word.as_str(), ink)));
        for evidence in finding.evidence.iter().filter(|text| said.is_none_or(|said| !text.ends_with(said))) {
            self.bullet(evidence);
        }
        let id = match finding.variant {
            Some(variant) => format!("{} / {variant}", finding.cause.id()),
            None => finding.cause.id().into(),
        };
        self.item("cause", &format!("{id}   (more: pgwhy explain {})", finding.cause.id()), None);
        if !finding.alternatives.is_empty() {
            let others: Vec<&str> = finding.alternatives.iter().map(|(cause, _)| cause.id()).collect();
            self.item("or", &others.join(", "), None);
        }
        for (at, fix) in finding.fix.iter().enumerate() {
            self.item(if at == 0 { "fix" } else { "" }, fix, None);
        }
        if !finding.ask.is_empty() {
            self.item("to be surer", &format!("give pgwhy {}", finding.ask.join(" or ")), None);
        }
    }

    fn differences(&mut self, report: &Report) {
        let Some((driver, ago)) = &report.last_success else { return };
        if report.differs.is_empty() {
            return;
        }
        let seconds = ago.as_secs();
        let name = format!("differs from the last success ({driver}, {seconds} s ago):");
        let parts: Vec<String> = report
            .differs
            .iter()
            .map(|one| format!("{} {} there, {} here", one.field, one.there, one.here))
            .collect();
        self.item(&name, &parts.join("; "), None);
    }

    /// A labelled paragraph, wrapped; `right` stands at the end of its first line.
    fn item(&mut self, label: &str, text: &str, right: Option<(&str, Ink)>) {
        let label = &visible(label);
        let label_width = label.chars().count().max(5);
        let reserved = right.map_or(0, |(word, _)| word.len() + 2);
        let text = visible(text);
        let width = self.style.width.saturating_sub(3 + label_width + 1 + reserved).max(30);
        let shown_label = self.paint(Ink::Bold, label);
        let pad = " ".repeat(label_width - label.chars().count());
        // Behind a label that is a sentence itself there is room again.
        let indent = label_width.min(12);
        let rest =
            if label_width > indent { self.style.width.saturating_sub(4 + indent).max(30) } else { width };
        for (at, line) in wrap(&text, width, rest).into_iter().enumerate() {
            if at > 0 {
                let _ = writeln!(self.text, "   {} {line}", " ".repeat(indent));
                continue;
            }
            let left = format!("   {shown_label}{pad} {line}");
            match right {
                Some((word, ink)) => {
                    let shown = 3 + label_width + 1 + line.chars().count();
                    let gap = self.style.width.saturating_sub(shown + word.len()).max(2);
                    let word = self.paint(ink, word);
                    let _ = writeln!(self.text, "{left}{}{word}", " ".repeat(gap));
                }
                None => {
                    let _ = writeln!(self.text, "{left}");
                }
            }
        }
    }

    fn bullet(&mut self, text: &str) {
        let width = self.style.width.saturating_sub(11).max(30);
        for (at, line) in wrap(&visible(text), width, width).into_iter().enumerate() {
            let mark = if at == 0 { "·" } else { " " };
            let _ = writeln!(self.text, "         {mark} {line}");
        }
    }
}

/// The server's message, where it is shown.
fn said(report: &Report) -> Option<String> {
    let failed = report.diagnosis.outcome == Outcome::Failed;
    report.server_error.as_ref().filter(|_| failed)?.text(b'M').filter(|message| !message.is_empty())
}

fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Breaks text at blanks so that no line is wider than `first` or, from the second on, `rest` (a longer word
/// stays whole).
fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let width = if lines.is_empty() { first } else { rest };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Context, diagnose, story::Difference};
    use crate::handshake::Observer;
    use crate::report::Way;

    /// A capture that somebody sent tells address, driver, and what they are compared with.
    #[test]
    fn nothing_that_a_capture_tells_is_more_than_text() {
        const EVIL: &str = "\x1b]0;owned\x07";
        let record = Observer::new().finish();
        let diagnosis = diagnose(&record, &Context::default());
        let mut report = Report::new(&record, diagnosis, &Way::default(), false);
        report.diagnosis.outcome = Outcome::Failed;
        let evil = EVIL.to_owned();
        report.client.address.clone_from(&evil);
        report.client.user = Some(evil.clone());
        report.related = vec![evil.clone()];
        report.differs = vec![Difference { field: "driver".into(), there: evil.clone(), here: evil.clone() }];
        report.last_success = Some((evil, Duration::ZERO));
        let text = render(&report, Style::default());
        assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
        assert_eq!(text.matches("owned").count(), 6, "{text}");
    }

    #[test]
    fn long_text_is_wrapped_and_nothing_is_lost() {
        let text = "the quick brown fox jumps over the lazy dog";
        let lines = wrap(text, 12, 12);
        assert!(lines.iter().all(|line| line.len() <= 12), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap("", 5, 5), [""]);
        assert_eq!(wrap(text, 9, 40), ["the quick", "brown fox jumps over the lazy dog"]);
    }
}
