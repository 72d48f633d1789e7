//! The password file: `passwordFromFile` and `pwdfMatchesString` of fe-connect.c.

use super::{DEFAULT_SOCKET_DIR, HostName};
use crate::secret::Secret;

/// The password of the first line that matches, or `None`.
///
/// `host` is compared as text: the host as it was written, not what it resolves to. As in libpq a
/// connection through the default socket directory counts as `localhost`, and without a database
/// or user nothing matches (libpq asks after it has filled both).
pub fn lookup(text: &str, host: &HostName, port: u16, database: &str, user: &str) -> Option<Secret<String>> {
    if database.is_empty() || user.is_empty() {
        return None;
    }
    let host = match host {
        HostName::Name(name) => name.clone(),
        HostName::Addr(address) => address.to_string(),
        HostName::UnixDir(dir) if dir == DEFAULT_SOCKET_DIR || dir == "/tmp" => "localhost".to_owned(),
        HostName::UnixDir(dir) => dir.clone(),
    };
    let port = port.to_string();
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines.filter(|line| !line.starts_with('#')).find_map(|line| {
        let rest = [host.as_str(), &port, database, user].into_iter().try_fold(line, field)?;
        Some(password(rest))
    })
}

/// What follows the field when it matches `token` (`pwdfMatchesString`).
fn field<'a>(line: &'a str, token: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut expected = token.chars();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' if expected.as_str().is_empty() => return Some(&line[at + 1..]),
            '\\' => {
                let (_, escaped) = chars.next()?;
                (expected.next()? == escaped).then_some(())?;
            }
            c => (expected.next()? == c).then_some(())?,
        }
    }
    None
}

/// The last field: it ends at a bare colon, and a backslash takes the next character as it is.
fn password(rest: &str) -> Secret<String> {
    let mut out = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => break,
            '\\' => out.push(chars.next().unwrap_or('\\')),
            c => out.push(c),
        }
    }
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# host:port:db:user:pw\n\
        db.example:5432:app:ann:plain\r\n\
        db.example:5433:*:ann:with\\:colon\\\\and:ignored\n\
        \\:\\:1:5432:*:*:six\n\
        localhost:*:*:ann:local\n\
        broken line\n\
        /run/pg:*:*:*:socket\n\
        *:*:*:o\\:dd:odd\n";

    #[track_caller]
    fn check(host: HostName, port: u16, user: &str, claim: Option<&str>) {
        let found = lookup(FILE, &host, port, "app", user);
        assert_eq!(found.as_ref().map(|p| p.expose().as_str()), claim);
    }

    #[test]
    fn matches_as_libpq_does() {
        let name = |name: &str| HostName::Name(name.to_owned());
        let dir = |dir: &str| HostName::UnixDir(dir.to_owned());
        check(name("db.example"), 5432, "ann", Some("plain"));
        check(name("db.example"), 5433, "ann", Some("with:colon\\and"));
        check(name("DB.example"), 5432, "ann", None);
        check(HostName::Addr("::1".parse().unwrap()), 5432, "bob", Some("six"));
        check(name("localhost"), 1, "ann", Some("local"));
        check(name("127.0.0.1"), 1, "ann", None);
        check(dir(DEFAULT_SOCKET_DIR), 1, "ann", Some("local"));
        check(dir("/run/pg"), 1, "ann", Some("socket"));
        check(name("any"), 1, "o:dd", Some("odd"));
        check(name("any"), 1, "", None);
    }
}
