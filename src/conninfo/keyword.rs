//! `key = value` strings: `conninfo_parse` of fe-connect.c; and ADO.NET's `Key=value;…`, which
//! people paste here too.

use super::draft::Draft;
use super::problem::{ConninfoError, Problem, Severity, column};
use crate::secret::Secret;

/// Whether the text begins like `key = value`.
pub(super) fn looks_like(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b' ')
    })
}

/// Reads libpq's form: blanks between pairs, quotes around values, backslashes before `'` and `\`.
pub(super) fn parse(whole: &str, text: &str, draft: &mut Draft) -> Result<(), ConninfoError> {
    if is_ado(text) {
        parse_ado(whole, text, draft);
        return Ok(());
    }
    let blank = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let mut rest = text.trim_start_matches(blank);
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || blank(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(after) = after.trim_start_matches(blank).strip_prefix('=') else {
            let (message, fix) =
                ("= is missing behind a keyword", "quote values that hold blanks: password='a b'");
            return Err(ConninfoError::at("syntax", column(whole, rest), message, fix));
        };
        let at = column(whole, key);
        let (value, left) = value(whole, after.trim_start_matches(blank))?;
        draft.set(key, value.expose().clone(), at);
        rest = left.trim_start_matches(blank);
    }
    Ok(())
}

fn value<'a>(whole: &str, text: &'a str) -> Result<(Secret<String>, &'a str), ConninfoError> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut out = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            // A backslash at the very end stands for nothing, as in libpq.
            '\\' => out.extend(chars.next().map(|(_, next)| next)),
            '\'' if quoted.is_some() => return Ok((Secret::new(out), &body[at + 1..])),
            c if quoted.is_none() && (c.is_ascii_whitespace() || c == '\u{b}') => {
                return Ok((Secret::new(out), &body[at..]));
            }
            c => out.push(c),
        }
    }
    let value = Secret::new(out);
    if quoted.is_some() {
        let fix = "close it with ', and write a ' inside as \\'";
        return Err(ConninfoError::at(
            "syntax",
            column(whole, text),
            "the quoted value that begins here has no end",
            fix,
        ));
    }
    Ok((value, ""))
}

/// `Host=…;Port=…`: a semicolon before another key.
fn is_ado(text: &str) -> bool {
    text.match_indices(';').any(|(at, _)| {
        let rest = text[at + 1..].trim();
        let end = text[..at].contains('=') && rest.is_empty();
        end || rest.split_once('=').is_some_and(|(key, _)| ado_key(key).is_some())
    })
}

fn ado_key(key: &str) -> Option<&'static str> {
    Some(match key.trim().to_ascii_lowercase().as_str() {
        "host" | "server" => "host",
        "port" => "port",
        "database" | "db" | "initial catalog" => "dbname",
        "username" | "user name" | "user id" | "userid" | "uid" | "user" => "user",
        "password" | "pwd" | "psw" => "password",
        "ssl mode" | "sslmode" => "sslmode",
        "timeout" => "connect_timeout",
        _ => return None,
    })
}

fn parse_ado(whole: &str, text: &str, draft: &mut Draft) {
    draft.problems.push(Problem::new(
        "scheme",
        Severity::Info,
        column(whole, text),
        "this is a .NET connection string: Npgsql reads it, other drivers do not",
        "for others write postgres://user:password@host:port/database",
    ));
    for (key, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
        let bare = value.trim();
        let quote =
            bare.chars().next().filter(|c| "\"'".contains(*c) && bare.len() > 1 && bare.ends_with(*c));
        let bare = if quote.is_some() { &bare[1..bare.len() - 1] } else { bare };
        match ado_key(key) {
            Some("sslmode") => {
                let mode = bare
                    .to_ascii_lowercase()
                    .replace("verifyca", "verify-ca")
                    .replace("verifyfull", "verify-full");
                draft.set("sslmode", mode, column(whole, value));
            }
            Some(name) => draft.set(name, bare.to_owned(), column(whole, value)),
            None => {}
        }
    }
}
