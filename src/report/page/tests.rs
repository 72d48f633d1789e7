//! The page as text: its structure, and that nobody on the wire can write on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use crate::diagnose::{Context, diagnose};
use crate::handshake::{Chunk, Observer, Side};
use crate::report::{Report, Way};

use super::*;

/// A login of this user with these other parameters, refused by these words.
fn sheet(user: &str, parameters: &[(&str, &str)], code: &str, message: &str) -> Sheet {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in [("user", user)].iter().chain(parameters) {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let mut observer = Observer::new();
    let mut eat = |from, at, bytes: &[u8]| observer.eat(Chunk { at: Duration::from_millis(at), from, bytes });
    let packet = |body: &[u8]| [&u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat();
    eat(Side::Client, 1, &packet(&body));
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0Fauth.c\0L1\0RClientAuthentication\0\0");
    eat(Side::Server, 5, &[b"E".to_vec(), packet(fields.as_bytes())].concat());
    let record = observer.finish();
    let diagnosis = diagnose(&record, &Context::default());
    let way = Way { address: Some("10.0.0.2:6432".into()), reached: Some(true), ..Way::default() };
    let mut report = Report::new(&record, diagnosis, &way, false);
    report.id = "7".into();
    report.client.address = "10.0.0.7:40012".into();
    let client = ("10.0.0.7:40012".parse().unwrap(), "10.0.0.2:6432".parse().unwrap());
    Sheet {
        report,
        record,
        file: "it's <a> \"name\".pcap".into(),
        packets: Packets { client, server: None, frames: Some((3, 9)), commented: false, opened: false },
        written_by: None,
        secrets_kept: false,
        answered_by_us: false,
        lack: Some("5 bytes of it were not captured".into()),
        compared: None,
    }
}

fn page(sheets: Vec<Sheet>) -> Page {
    let files = vec![sheets.first().map_or_else(String::new, |sheet| sheet.file.clone())];
    Page { sheets, files, counts: "9 packets".into(), ..Page::default() }
}

/// Reads the page as a strict reader would: every element is closed in its order, attributes are quoted, and
/// nothing is on it that runs or fetches. Returns its text.
fn read(html: &str) -> String {
    const EMPTY: [&str; 4] = ["meta", "br", "line", "hr"];
    const KNOWN: &str = " html head title style body main header footer article section div figure figcaption h1 h2 h3 \
        p ul li a strong small span bdi code pre blockquote table thead tbody tr th td svg g line rect text path circle \
        meta br ";
    let (mut open, mut text) = (Vec::new(), String::new());
    let mut rest = html.strip_prefix("<!doctype html>").expect("a doctype");
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "…{}", &text[text.len().saturating_sub(80)..]);
            continue;
        }
        let empty = tag.ends_with('/');
        let name = tag.trim_end_matches('/').split(' ').next().unwrap();
        assert!(KNOWN.contains(&format!(" {name} ")), "<{tag}>");
        let attributes = tag[name.len()..].trim_end_matches('/');
        let pieces: Vec<&str> = attributes.split('"').collect();
        assert_eq!(pieces.len() % 2, 1, "<{tag}>");
        for attribute in pieces.iter().step_by(2).map(|piece| piece.trim()).filter(|piece| !piece.is_empty())
        {
            let attribute = attribute.strip_suffix('=').unwrap_or_else(|| panic!("<{tag}>"));
            assert!(!attribute.starts_with("on") && attribute != "src", "<{tag}>");
            assert!(attribute != "href" || tag.contains("href=\"#login-"), "<{tag}>");
        }
        if name == "style" {
            let end = rest.find("</style>").expect("the style ends");
            assert!(!rest[..end].contains("url(") && !rest[..end].contains("@import"), "the style fetches");
            rest = &rest[end + 8..];
        } else if !empty && !EMPTY.contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "elements that are not closed");
    text
}

#[test]
fn the_page_has_everything_that_an_issue_needs() {
    let (user, more) = ("app", [("database", "shop"), ("application_name", "cart")]);
    let one = page(vec![sheet(user, &more, "28000", "no pg_hba.conf entry")]);
    for text in [read(&html(&one)), markdown(&one).replace('\\', "")] {
        for word in [
            "app@shop",
            "10.0.0.7:40012",
            "hba_no_entry",
            "auth_request",
            "What shows it",
            "What to do",
            "StartupMessage",
            "ErrorResponse 28000",
            "4.0 ms",
            "application_name",
            "cart",
            "no pg_hba.conf entry",
            "tcp.port == 40012",
            "frame.time_epoch ",
            "-d tcp.port==6432,pgsql",
            "frame.number == 9",
            "PGSQL",
            "5 bytes of it were not captured",
            env!("CARGO_PKG_VERSION"),
            "9 packets",
        ] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
    }
    assert!(
        html(&one).contains("<h1>") && !html(&one).contains("class=\"summary\""),
        "no table of one login"
    );
    let shot = html(&one);
    let svg = shot.split_once("<svg").unwrap().1;
    assert!(svg.contains("class=\"end blamed\"") && svg.contains("arrow failed"), "{svg}");
}

#[test]
fn several_logins_have_a_table_that_leads_to_each() {
    let two = page(vec![sheet("a", &[], "28000", "x"), sheet("b", &[], "53300", "too many")]);
    let text = html(&Page { left_out: 7, ..two.clone() });
    read(&text);
    for number in [1, 2] {
        assert!(
            text.contains(&format!("href=\"#login-{number}\""))
                && text.contains(&format!("id=\"login-{number}\""))
        );
    }
    assert!(text.contains("7 more logins") && text.contains("2 of 2 logins failed"));
    assert!(markdown(&two).contains("| ✗ 2 | `b@b` |"), "{}", markdown(&two));
    let none = page(Vec::new());
    assert!(read(&html(&none)).contains("No login in these captures"));
    assert!(markdown(&none).contains("No login in these captures"));
}

#[test]
fn nobody_on_the_wire_writes_on_the_page() {
    let names = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</style></svg><b>",
        "a`b``c``` | *x* [y](http://z) @everyone #1",
        "\n# heading\n```\n<details>",
        "\u{202e}gnp.exe\u{2066}\u{200b}\u{7}\u{1b}[31m",
        "&lt;&#0;&amp;",
        &"x".repeat(9_000),
    ];
    for name in names {
        let hostile =
            sheet(name, &[("database", name), (name, name), ("application_name", name)], name, name);
        for sheets in [vec![hostile.clone()], vec![hostile.clone(), hostile.clone()]] {
            let one = page(sheets);
            let (html, markdown) = (html(&one), markdown(&one));
            let text = read(&html);
            assert!(!text.contains("alert(1)<"), "{name}");
            for page in [&html, &markdown] {
                let bad = page
                    .chars()
                    .find(|c| (c.is_control() && *c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(*c));
                assert_eq!(bad, None, "{name}");
            }
            assert!(html.len() < 80_000 && markdown.len() < 60_000, "{}: {}", html.len(), markdown.len());
            harmless(&markdown);
        }
    }
}

/// No line of a stranger begins something, and outside of code nothing of theirs is markup.
fn harmless(markdown: &str) {
    let mut fence: Option<&str> = None;
    for line in markdown.lines() {
        let ticks = &line[..line.len() - line.trim_start_matches('`').len()];
        match fence {
            Some(open) if line == open => fence = None,
            None if ticks.len() >= 3 && line.ends_with("text") => fence = Some(ticks),
            Some(_) => {}
            None => {
                let outside: String = without_escapes(&without_code(line));
                for bad in ["<script", "<img", "<b>", "<details", "[y](", "@everyone", "#1 ", "http://"] {
                    assert!(!outside.contains(bad), "{bad}: {line}");
                }
            }
        }
    }
    assert_eq!(fence, None, "a fence is open");
}

/// What a backslash stands before is no markup.
fn without_escapes(text: &str) -> String {
    let (mut chars, mut plain) = (text.chars(), String::new());
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

/// What CommonMark takes for text: a backslash hides a backquote, and a span ends with as many as began it.
fn without_code(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find('`') {
        let escaped = rest[..at].chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
        out.push_str(&rest[..at]);
        let count = if escaped { 1 } else { rest[at..].len() - rest[at..].trim_start_matches('`').len() };
        let behind = &rest[at + count..];
        let runs = || behind.match_indices('`').filter(|(at, _)| !behind[..*at].ends_with('`'));
        let run = |at: usize| behind[at..].len() - behind[at..].trim_start_matches('`').len();
        rest = match runs().find(|(at, _)| !escaped && run(*at) == count) {
            Some((end, _)) => &behind[end + count..],
            None => behind,
        };
    }
    out + rest
}

#[test]
fn what_is_secret_in_a_startup_packet_is_not_on_the_page() {
    let parameters = [("options", "-c geqo=off -c my.password=hunter2"), ("access_token", "hunter2")];
    let one = page(vec![sheet("app", &parameters, "28000", "x")]);
    for text in [html(&one), markdown(&one)] {
        assert!(!text.contains("hunter2") && text.contains("geqo=off"), "{text}");
    }
}
