//! The page in HTML: one file, no script, nothing from elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use crate::diagnose::{Confidence, Finding, Outcome};

use super::super::escape::markup;
use super::arrows::{milliseconds, picture};
use super::sections::{Row, negotiated, sources, startup, wireshark};
use super::svg::svg;
use super::{LONGEST, Page, Sheet, capitalised, parts, shortened};

/// Forbids the page what it does not do anyway: scripts, and asking the network.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page.
pub fn html(page: &Page) -> String {
    let mut out = String::with_capacity(16_384);
    let title = markup(&shortened(&page.title(), 120));
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"pgwhy {}\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        env!("CARGO_PKG_VERSION"),
        include_str!("style.css"),
    );
    let one = page.sheets.len() == 1 && page.left_out == 0;
    if !one {
        summary(&mut out, page, &title);
    }
    for (number, sheet) in (1..).zip(&page.sheets) {
        login(&mut out, page, sheet, number, one);
    }
    let _ = write!(
        out,
        "<footer><p>Made by pgwhy {} of {}: {}.</p>\
         <p>Passwords, proofs, tokens and keys are not on this page. Addresses, names of users and databases, and the \
         server’s messages are.</p></footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        list(&page.files),
        markup(&page.counts),
    );
    out
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MOST_FILES).map(|name| value(name)).collect();
    let more = names.len().saturating_sub(MOST_FILES);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &rest
}

/// Names of captures that are listed.
const MOST_FILES: usize = 20;

/// What a stranger may have named: cut at a length, and no text of ours changes its direction.
fn value(text: &str) -> String {
    format!("<bdi>{}</bdi>", markup(&shortened(text, LONGEST)))
}

/// A sentence of ours that may hold words from the wire; what stands in backquotes is code.
fn sentence(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    for (code, part) in parts(&shortened(text, 4 * LONGEST)) {
        let part = markup(part);
        let _ = if code { write!(out, "<code>{part}</code>") } else { write!(out, "{part}") };
    }
    out
}

/// A table of all logins, where there are several.
fn summary(out: &mut String, page: &Page, title: &str) {
    let _ = writeln!(out, "<header class=\"page\"><h1>{title}</h1><p>{}</p></header>", list(&page.files));
    if page.sheets.is_empty() {
        out.push_str("<p class=\"card\">No login in these captures fits what was asked for.</p>\n");
        return;
    }
    out.push_str(
        "<div class=\"card scroll\"><table class=\"summary\"><thead><tr><th></th><th>login</th><th>client</th>\
         <th>what happened</th><th class=\"num\">took</th></tr></thead><tbody>\n",
    );
    for (number, sheet) in (1..).zip(&page.sheets) {
        let (class, mark) = mark(sheet);
        let driver = sheet.report.client.driver.map(|driver| format!("<br> <small>{driver}</small>"));
        let sure = sheet.report.diagnosis.finding.as_ref().map(badge).unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr><td class=\"{class}\">{mark}</td><td><a href=\"#login-{number}\">{}</a></td>\
             <td>{}{}</td><td>{}<br>{sure}</td><td class=\"num\">{}</td></tr>",
            value(&sheet.who()),
            value(&sheet.report.client.address),
            driver.unwrap_or_default(),
            sentence(&sheet.headline()),
            milliseconds(sheet.report.elapsed),
        );
    }
    out.push_str("</tbody></table>");
    if page.left_out > 0 {
        let _ = write!(
            out,
            "<p class=\"muted\">{} more logins are not shown: choose some of them with \
             <code>--failed</code>, <code>--user</code>, <code>--cause</code> or <code>--login</code>.</p>",
            page.left_out
        );
    }
    out.push_str("</div>\n");
}

fn mark(sheet: &Sheet) -> (&'static str, &'static str) {
    match sheet.report.diagnosis.outcome {
        Outcome::Ok => ("good", "✓"),
        Outcome::Failed => ("bad", "✗"),
        Outcome::Cancel | Outcome::Probe | Outcome::Opaque => ("muted", "·"),
    }
}

fn badge(finding: &Finding) -> String {
    let word = finding.confidence.word();
    let meaning = match finding.confidence {
        Confidence::Proven => "the bytes, or the context given, admit no other cause",
        Confidence::Likely => "it fits best; at least one other cause would look the same",
        Confidence::Possible => "the most frequent of several that can't be told apart",
    };
    format!("<span class=\"badge {word}\" title=\"{}\">{word}</span>", markup(meaning))
}

fn login(out: &mut String, page: &Page, sheet: &Sheet, number: usize, alone: bool) {
    let (class, mark) = mark(sheet);
    let _ = writeln!(out, "<article id=\"login-{number}\" class=\"{class}\">");
    verdict(out, sheet, mark, if alone { "h1" } else { "h2" });
    out.push_str("<div class=\"two\">\n<div class=\"main\">\n");
    if let Some(finding) = &sheet.report.diagnosis.finding {
        reasons(out, finding);
    }
    notes(out, sheet);
    said(out, sheet);
    out.push_str("</div>\n");
    let picture = picture(sheet);
    if !picture.arrows.is_empty() {
        let name = format!("the steps of the login between client, {} and server", picture.middle);
        let _ = write!(out, "<figure class=\"card\">{}", svg(&picture, &name));
        if !picture.carries {
            out.push_str("<figcaption>seen by a capture; the times are those of its packets</figcaption>");
        }
        out.push_str("</figure>\n");
    }
    out.push_str("</div>\n");
    steps(out, sheet);
    compared(out, sheet);
    out.push_str("<div class=\"tables\">\n");
    table(out, "Startup parameters", "in the order in which the client sent them", &startup(sheet));
    table(out, "Negotiated", "", &negotiated(sheet));
    table(out, "What this rests on", "", &sources(page, sheet));
    packets(out, sheet);
    out.push_str("</div>\n</article>\n");
}

fn verdict(out: &mut String, sheet: &Sheet, mark: &str, heading: &str) {
    let report = &sheet.report;
    let driver = report.client.driver.map(|driver| format!(" ({driver})")).unwrap_or_default();
    let server = report.server.address.as_deref().map(|to| format!(" to {}", value(to))).unwrap_or_default();
    let _ = write!(
        out,
        "<header class=\"verdict\"><p class=\"who\"><span class=\"mark\">{mark}</span> <strong>{}</strong> from {}{driver}{server} \
         <span class=\"took\">{}</span></p><{heading}>{}</{heading}><p class=\"chips\">",
        value(&sheet.who()),
        value(&report.client.address),
        milliseconds(report.elapsed),
        sentence(&sheet.headline()),
    );
    if let Some(finding) = &report.diagnosis.finding {
        let _ = write!(
            out,
            "{} <span class=\"chip\">cause <code>{}</code></span> <span class=\"chip\">step <code>{}</code></span> \
             <span class=\"chip\">on the {}’s side</span>",
            badge(finding),
            sheet.cause().unwrap_or_default(),
            finding.step.id(),
            finding.leg.word(),
        );
    }
    out.push_str("</p></header>\n");
}

fn reasons(out: &mut String, finding: &Finding) {
    out.push_str("<section class=\"card\"><h3>What shows it</h3><ul>");
    for evidence in &finding.evidence {
        let _ = write!(out, "<li>{}</li>", sentence(evidence));
    }
    out.push_str("</ul></section>\n");
    if !finding.fix.is_empty() {
        out.push_str("<section class=\"card fix\"><h3>What to do</h3><ul>");
        for fix in &finding.fix {
            let _ = write!(out, "<li>{}</li>", sentence(fix));
        }
        let _ = writeln!(
            out,
            "</ul><p class=\"muted\">More: <code>pgwhy explain {}</code></p></section>",
            finding.cause.id()
        );
    }
    if finding.alternatives.is_empty() && finding.ask.is_empty() {
        return;
    }
    out.push_str("<section class=\"card\"><h3>What else it could be</h3>");
    if !finding.alternatives.is_empty() {
        out.push_str("<ul>");
        for (cause, confidence) in &finding.alternatives {
            let _ = write!(
                out,
                "<li>{} <span class=\"muted\"><code>{}</code>, {}</span></li>",
                markup(cause.title()),
                cause.id(),
                confidence.word()
            );
        }
        out.push_str("</ul>");
    }
    if !finding.ask.is_empty() {
        let asked: Vec<String> = finding.ask.iter().map(|ask| sentence(ask)).collect();
        let _ = write!(out, "<p>To be surer, give pgwhy {}.</p>", asked.join(" or "));
    }
    out.push_str("</section>\n");
}

fn notes(out: &mut String, sheet: &Sheet) {
    let diagnosis = &sheet.report.diagnosis;
    if diagnosis.notes.is_empty() && diagnosis.warnings.is_empty() {
        return;
    }
    out.push_str("<section class=\"card\"><h3>Worth knowing</h3><ul>");
    for note in &diagnosis.notes {
        let _ = write!(out, "<li>{}</li>", sentence(note));
    }
    for warning in &diagnosis.warnings {
        let _ = write!(
            out,
            "<li>{} <span class=\"muted\"><code>{}</code></span></li>",
            sentence(&warning.summary),
            markup(&warning.id)
        );
    }
    out.push_str("</ul></section>\n");
}

fn said(out: &mut String, sheet: &Sheet) {
    let Some(error) = sheet.report.server_error.as_ref().filter(|_| sheet.failed()) else { return };
    let severity = error.text(b'V').or_else(|| error.text(b'S')).unwrap_or_default();
    let _ = write!(
        out,
        "<section class=\"card\"><h3>What the server said</h3><blockquote><p><strong>{} {}</strong> {}</p>",
        value(&severity),
        value(error.sqlstate()),
        value(&error.text(b'M').unwrap_or_default()),
    );
    for (kind, name) in [(b'D', "detail"), (b'H', "hint"), (b'R', "routine")] {
        if let Some(text) = error.text(kind) {
            let _ = write!(out, "<p><span class=\"muted\">{name}</span> {}</p>", value(&text));
        }
    }
    out.push_str("</blockquote></section>\n");
}

/// The ladder as a table; each step has a bar where its time lies.
fn steps(out: &mut String, sheet: &Sheet) {
    let steps = &sheet.report.steps;
    if steps.is_empty() {
        return;
    }
    let whole: Duration = steps.iter().filter_map(|rung| rung.took).sum();
    let whole = whole.as_secs_f64().max(1e-9);
    out.push_str(
        "<section class=\"card scroll\"><h3>Steps</h3><table class=\"steps\"><thead><tr><th></th><th>step</th><th>what happened</th>\
         <th class=\"num\">time</th><th class=\"bar\"></th></tr></thead><tbody>\n",
    );
    let mut since = 0.0;
    for rung in steps {
        let (class, mark) = match rung.ok {
            Some(true) => ("good", "✓"),
            Some(false) => ("bad", "✗"),
            None => ("muted", "·"),
        };
        let took = rung.took.map(milliseconds).unwrap_or_default();
        let share = rung.took.unwrap_or_default().as_secs_f64() / whole * 100.0;
        let bar = match rung.took {
            Some(_) => format!("<span style=\"margin-left:{since:.2}%;width:{share:.2}%\"></span>"),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "<tr class=\"{class}\"><td class=\"{class}\">{mark}</td><td><code>{}</code></td><td>{}</td>\
             <td class=\"num\">{took}</td><td class=\"bar\">{bar}</td></tr>",
            rung.step.id(),
            value(&rung.note),
        );
        since += share;
    }
    out.push_str("</tbody></table></section>\n");
}

fn compared(out: &mut String, sheet: &Sheet) {
    let report = &sheet.report;
    if let Some(comparison) = &sheet.compared {
        out.push_str("<section class=\"card scroll\"><h3>What differs from a login that worked</h3>");
        let mut rows = super::differing(comparison).peekable();
        if rows.peek().is_some() {
            out.push_str(
                "<table class=\"differs\"><thead><tr><th></th><th>worked</th><th>this one</th></tr></thead><tbody>\n",
            );
            for row in rows {
                difference(out, &row.field, &row.a, &row.b);
            }
            out.push_str("</tbody></table>");
        } else {
            out.push_str("<p>Nothing that can be seen.</p>");
        }
        if let Some(found) = &comparison.explains {
            let _ = write!(out, "<p>{}.</p>", sentence(&capitalised(&found.text)));
        }
        out.push_str("</section>\n");
        return;
    }
    let Some((driver, ago)) = report.last_success.as_ref().filter(|_| !report.differs.is_empty()) else {
        return;
    };
    let _ = writeln!(
        out,
        "<section class=\"card scroll\"><h3>What differs from the last login that worked</h3><p class=\"muted\">{}, {} s before</p>\
         <table class=\"differs\"><thead><tr><th></th><th>worked</th><th>this one</th></tr></thead><tbody>",
        value(driver),
        ago.as_secs()
    );
    for one in &report.differs {
        difference(out, &one.field, &one.there, &one.here);
    }
    out.push_str("</tbody></table></section>\n");
}

fn difference(out: &mut String, field: &str, there: &str, here: &str) {
    let field = value(&field.replace('_', " "));
    let _ = writeln!(out, "<tr><th>{field}</th><td>{}</td><td>{}</td></tr>", value(there), value(here));
}

fn table(out: &mut String, title: &str, about: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "<section class=\"card\"><h3>{title}</h3>");
    if !about.is_empty() {
        let _ = write!(out, "<p class=\"muted\">{about}</p>");
    }
    out.push_str("<table class=\"pairs\"><tbody>\n");
    for (name, text) in rows {
        let _ = writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", value(name), value(text));
    }
    out.push_str("</tbody></table></section>\n");
}

fn packets(out: &mut String, sheet: &Sheet) {
    let found = wireshark(sheet);
    let _ = write!(
        out,
        "<section class=\"card\"><h3>Check it in Wireshark</h3><p>Open {} and filter by</p><pre>{}</pre>",
        value(&sheet.file),
        markup(&found.filter)
    );
    if let Some(verdict) = &found.verdict {
        let _ = write!(out, "<p>the packet with the verdict is</p><pre>{}</pre>", markup(verdict));
    }
    let _ = write!(out, "<p>or, in a terminal,</p><pre>{}</pre>", markup(&found.command));
    if !found.notes.is_empty() {
        out.push_str("<ul>");
        for note in &found.notes {
            let _ = write!(out, "<li>{}</li>", sentence(note));
        }
        out.push_str("</ul>");
    }
    out.push_str("</section>\n");
}
