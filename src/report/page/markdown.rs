//! The page in Markdown, for an issue tracker: what GitHub, GitLab and Gitea read alike.

use std::fmt::Write as _;

use crate::diagnose::{Finding, Outcome};

use super::super::escape::{code, markdown as escaped, visible};
use super::arrows::{characters, milliseconds, picture};
use super::sections::{Row, negotiated, sources, startup, wireshark};
use super::{LONGEST, Page, Sheet, capitalised, parts, shortened};

/// The whole page.
pub fn markdown(page: &Page) -> String {
    let mut out = String::with_capacity(8_192);
    let one = page.sheets.len() == 1 && page.left_out == 0;
    if !one {
        let _ = writeln!(out, "# {}\n", escaped(&shortened(&page.title(), 120)));
        summary(&mut out, page);
    }
    for (number, sheet) in (1..).zip(&page.sheets) {
        login(&mut out, page, sheet, (!one).then_some(number));
    }
    let files: Vec<String> = page.files.iter().take(20).map(|name| value(name, false)).collect();
    let _ = writeln!(
        out,
        "---\n\nMade by pgwhy {} of {}: {}. Passwords, proofs, tokens and keys are not in it.",
        env!("CARGO_PKG_VERSION"),
        files.join(", "),
        escaped(&page.counts)
    );
    out
}

/// What a stranger may have named.
fn value(text: &str, table: bool) -> String {
    code(&shortened(text, LONGEST), table)
}

/// A sentence of ours that may hold words from the wire.
fn sentence(text: &str) -> String {
    let shown = shortened(text, 4 * LONGEST);
    let parts = parts(&shown).into_iter();
    parts.map(|(is_code, part)| if is_code { code(part, false) } else { escaped(part) }).collect()
}

/// In a table even code may not hold a bar.
fn cell(text: &str) -> String {
    let shown = shortened(text, 4 * LONGEST);
    let parts = parts(&shown).into_iter();
    parts.map(|(is_code, part)| if is_code { code(part, true) } else { escaped(part) }).collect()
}

fn summary(out: &mut String, page: &Page) {
    if page.sheets.is_empty() {
        out.push_str("No login in these captures fits what was asked for.\n\n");
        return;
    }
    out.push_str("| | login | client | what happened | sure | took |\n|---|---|---|---|---|---|\n");
    for (number, sheet) in (1..).zip(&page.sheets) {
        let driver = sheet.report.client.driver.map(|driver| format!(" {driver}")).unwrap_or_default();
        let sure = sheet.report.diagnosis.finding.as_ref().map_or("", |found| found.confidence.word());
        let _ = writeln!(
            out,
            "| {} {number} | {} | {}{driver} | {} | {sure} | {} |",
            mark(sheet),
            value(&sheet.who(), true),
            value(&sheet.report.client.address, true),
            cell(&sheet.headline()),
            milliseconds(sheet.report.elapsed),
        );
    }
    if page.left_out > 0 {
        let _ = writeln!(out, "\n{} more logins are not shown.", page.left_out);
    }
    out.push('\n');
}

fn mark(sheet: &Sheet) -> &'static str {
    match sheet.report.diagnosis.outcome {
        Outcome::Ok => "✓",
        Outcome::Failed => "✗",
        Outcome::Cancel | Outcome::Probe | Outcome::Opaque => "·",
    }
}

fn login(out: &mut String, page: &Page, sheet: &Sheet, number: Option<usize>) {
    let report = &sheet.report;
    let number = number.map(|number| format!("{number}. ")).unwrap_or_default();
    let _ = writeln!(out, "## {} {number}{}\n", mark(sheet), sentence(&sheet.headline()));
    let driver = report.client.driver.map(|driver| format!(" ({driver})")).unwrap_or_default();
    let server = report.server.address.as_deref().map(|to| format!(" to {}", value(to, false)));
    let _ = writeln!(
        out,
        "{} from {}{driver}{}, {}",
        value(&sheet.who(), false),
        value(&report.client.address, false),
        server.unwrap_or_default(),
        milliseconds(report.elapsed)
    );
    if let Some(finding) = &report.diagnosis.finding {
        reasons(out, sheet, finding);
    }
    let warnings = report.diagnosis.warnings.iter().map(|warning| &warning.summary);
    let notes: Vec<&String> = report.diagnosis.notes.iter().chain(warnings).collect();
    bullets(out, "Worth knowing", notes.iter().map(|note| sentence(note)));
    if let Some(error) = report.server_error.as_ref().filter(|_| sheet.failed()) {
        let code = visible(&shortened(error.sqlstate(), 8));
        let texts = [(b'M', ""), (b'D', "detail: "), (b'H', "hint: ")];
        let said = texts.iter().filter_map(|(kind, name)| Some(format!("{name}{}", error.text(*kind)?)));
        let lines: Vec<String> = said.map(|line| visible(&shortened(&line, LONGEST))).collect();
        out.push_str("\n### The server said\n\n");
        fenced(out, &format!("{code} {}\n", lines.join("\n")));
    }
    let picture = picture(sheet);
    if !picture.arrows.is_empty() {
        out.push_str("\n### Ladder\n\n");
        fenced(out, &characters(&picture));
    }
    steps(out, sheet);
    differences(out, sheet);
    table(out, "Startup parameters", ["parameter", "value"], &startup(sheet));
    table(out, "Negotiated", ["", ""], &negotiated(sheet));
    table(out, "What this rests on", ["", ""], &sources(page, sheet));
    packets(out, sheet);
    out.push('\n');
}

fn reasons(out: &mut String, sheet: &Sheet, finding: &Finding) {
    let _ = writeln!(
        out,
        "\n**{}**: cause {}, step `{}`, on the {}'s side",
        finding.confidence.word().to_uppercase(),
        value(&sheet.cause().unwrap_or_default(), false),
        finding.step.id(),
        finding.leg.word()
    );
    bullets(out, "What shows it", finding.evidence.iter().map(|text| sentence(text)));
    bullets(out, "What to do", finding.fix.iter().map(|text| sentence(text)));
    let others = finding.alternatives.iter();
    let others =
        others.map(|(cause, sure)| format!("{} (`{}`, {})", escaped(cause.title()), cause.id(), sure.word()));
    bullets(out, "What else it could be", others);
    if !finding.ask.is_empty() {
        let asked: Vec<String> = finding.ask.iter().map(|ask| sentence(ask)).collect();
        let _ = writeln!(out, "\nTo be surer, give pgwhy {}.", asked.join(" or "));
    }
}

fn bullets(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (at, line) in lines.enumerate() {
        if at == 0 {
            let _ = writeln!(out, "\n### {title}\n");
        }
        let _ = writeln!(out, "- {line}");
    }
}

/// Text as it is. No line of it can end the fence.
fn fenced(out: &mut String, text: &str) {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(out, "{fence}text\n{}\n{fence}", text.trim_end());
}

fn steps(out: &mut String, sheet: &Sheet) {
    if sheet.report.steps.is_empty() {
        return;
    }
    out.push_str("\n### Steps\n\n| | step | what happened | time |\n|---|---|---|---|\n");
    for rung in &sheet.report.steps {
        let mark = match rung.ok {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        };
        let took = rung.took.map(milliseconds).unwrap_or_default();
        let note = escaped(&shortened(&rung.note, LONGEST));
        let _ = writeln!(out, "| {mark} | `{}` | {note} | {took} |", rung.step.id());
    }
}

fn differences(out: &mut String, sheet: &Sheet) {
    let rows: Vec<[String; 3]> = match &sheet.compared {
        Some(found) => super::differing(found).map(|row| [row.field, row.a, row.b]).collect(),
        None => {
            let differs = sheet.report.differs.iter();
            differs.map(|one| [one.field.to_string(), one.there.to_string(), one.here.to_string()]).collect()
        }
    };
    if rows.is_empty() {
        return;
    }
    out.push_str("\n### What differs from a login that worked\n\n| | worked | this one |\n|---|---|---|\n");
    for [name, there, here] in &rows {
        let _ = writeln!(out, "| {} | {} | {} |", value(name, true), value(there, true), value(here, true));
    }
    if let Some(found) = sheet.compared.as_ref().and_then(|compared| compared.explains.as_ref()) {
        let _ = writeln!(out, "\n{}.", sentence(&capitalised(&found.text)));
    }
}

fn table(out: &mut String, title: &str, heads: [&str; 2], rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let [name, text] = heads;
    let _ = writeln!(out, "\n### {title}\n\n| {name} | {text} |\n|---|---|");
    for (name, text) in rows {
        let name = if heads == ["", ""] { escaped(name) } else { value(name, true) };
        let _ = writeln!(out, "| {name} | {} |", value(text, true));
    }
}

fn packets(out: &mut String, sheet: &Sheet) {
    let found = wireshark(sheet);
    out.push_str("\n### Check it in Wireshark\n\n");
    let verdict = found.verdict.map(|verdict| format!("the verdict:   {verdict}\n")).unwrap_or_default();
    let text = format!("filter:        {}\n{verdict}in a terminal: {}\n", found.filter, found.command);
    fenced(out, &visible_lines(&text));
    out.push('\n');
    for note in &found.notes {
        let _ = writeln!(out, "- {}", sentence(note));
    }
}

/// The name of a file may hold anything.
fn visible_lines(text: &str) -> String {
    text.lines().map(|line| visible(line) + "\n").collect()
}
