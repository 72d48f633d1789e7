//! What stands before the severity: `log_line_prefix`, and what syslog and containers put before that.
//!
//! With a template the prefix is read exactly (`log_status_format` in elog.c is the other direction).
//! Without one it is guessed from the looks of its parts: a time, a number in brackets, `host(port)`,
//! `user@database`, `name=value`.

use super::time::{self, Stamp};
use super::words::{self, Word};
use super::{Entry, LOCAL, Severity};

/// A prefix longer than this is none: names have 63 bytes, and there are few of them.
const MAX_PREFIX: usize = 2 * 1024;

/// A line cut into its prefix, the word behind that, and the text.
pub(super) struct Head<'a> {
    pub(super) prefix: Fields<'a>,
    pub(super) word: Word,
    pub(super) text: &'a str,
}

/// What a prefix says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) time: Option<(&'a str, Stamp)>,
    pub(super) epoch_ms: Option<i64>,
    pub(super) pid: Option<u32>,
    pub(super) session: Option<&'a str>,
    pub(super) sqlstate: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) database: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    pub(super) port: Option<u16>,
}

impl Fields<'_> {
    /// An entry with what the prefix says.
    pub(super) fn entry(&self, severity: Severity) -> Entry {
        let own =
            |text: Option<&str>| text.filter(|text| !matches!(*text, "" | "[unknown]")).map(str::to_owned);
        let mut entry = Entry::new(severity);
        if let Some((text, stamp)) = &self.time {
            entry.time = Some((*text).to_owned());
            entry.unix_ms = stamp.unix_ms;
            entry.has_millis = stamp.has_millis;
        }
        if let Some(ms) = self.epoch_ms {
            entry.unix_ms = Some(ms);
            entry.has_millis = true;
        }
        entry.pid = self.pid;
        entry.session = own(self.session);
        entry.sqlstate = own(self.sqlstate).filter(|state| state != "00000");
        entry.user = own(self.user);
        entry.database = own(self.database);
        entry.remote_host = own(self.host);
        entry.remote_port = self.port;
        entry
    }
}

/// Cuts a line. `template` is the server's `log_line_prefix`, where it is known and does not fit the
/// line the prefix is guessed.
pub(super) fn read<'a>(line: &'a str, template: Option<&str>) -> Option<Head<'a>> {
    if let Some(template) = template
        && let Some((fields, rest)) = exact(line, template)
        && let Some((word, text)) = starting_word(rest)
    {
        return Some(Head { prefix: fields, word, text });
    }
    let (prefix, word, text) = cut(line)?;
    Some(Head { prefix: guess(prefix), word, text })
}

/// The first known word that two blanks follow; else the first word at all behind something that
/// looks like a prefix. In a Russian log of a server with LC_CTYPE C the word is `?????`.
fn cut(line: &str) -> Option<(&str, Word, &str)> {
    let colons = || line.match_indices(":  ").map(|(at, _)| at).take_while(|at| *at <= MAX_PREFIX);
    for at in colons() {
        if let Some((start, word)) = words::ending(&line[..at]) {
            return Some((&line[..start], word, &line[at + 3..]));
        }
    }
    let at = colons().next()?;
    let start = line[..at].char_indices().rev().take_while(|(_, c)| c.is_alphabetic() || *c == '?').last()?.0;
    let fields = guess(&line[..start]);
    let is_prefix = fields.time.is_some() || fields.pid.is_some();
    is_prefix.then(|| (&line[..start], Word::Unknown, &line[at + 3..]))
}

/// The word at the start of what an exactly read prefix leaves.
fn starting_word(rest: &str) -> Option<(Word, &str)> {
    let at = rest.find(":  ")?;
    let (start, word) = words::ending(&rest[..at]).unwrap_or((0, Word::Unknown));
    let is_word = start == 0 && rest[..at].chars().all(|c| c.is_alphabetic() || c.is_whitespace());
    is_word.then(|| (word, &rest[at + 3..]))
}

/// Reads a prefix without knowing its template.
pub(super) fn guess(prefix: &str) -> Fields<'_> {
    let mut fields = Fields::default();
    let mut rest = (prefix, "");
    if let Some(stamp) = time::find(prefix) {
        rest = (&prefix[..stamp.range.start], &prefix[stamp.range.end..]);
        fields.time = Some((&prefix[stamp.range.clone()], stamp));
    }
    for text in [rest.1, rest.0] {
        fields.pid = fields.pid.or_else(|| bracketed_number(text));
        fields.session = fields.session.or_else(|| session_id(text));
        if fields.host.is_none() {
            (fields.host, fields.port) = remote(text);
        }
        fields.user = fields.user.or_else(|| named(text, &["user=", "usr=", "u="]));
        fields.database = fields.database.or_else(|| named(text, &["db=", "database=", "dbname=", "d="]));
        if fields.user.is_none()
            && let Some((user, database)) = user_at_database(text)
        {
            (fields.user, fields.database) = (Some(user), Some(database));
        }
    }
    if fields.host.is_none() {
        fields.host =
            [rest.1, rest.0].iter().find_map(|text| named(text, &["client=", "host=", "rhost=", "h="]));
        fields.port =
            [rest.1, rest.0].iter().find_map(|text| named(text, &["port=", "rport="])?.parse().ok());
    }
    let of_session = || u32::from_str_radix(fields.session?.split_once('.')?.1, 16).ok();
    fields.pid = fields.pid.or_else(|| named(prefix, &["pid="])?.parse().ok()).or_else(of_session);
    let behind_time = if fields.time.is_some() { rest.1 } else { rest.0 };
    fields.pid = fields.pid.or_else(|| lonely_number(behind_time));
    if fields.time.is_none() {
        fields.epoch_ms = prefix.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(epoch);
    }
    fields
}

/// `[1234]`, but not `[5-1]`.
fn bracketed_number(text: &str) -> Option<u32> {
    text.split('[').skip(1).find_map(|part| {
        let (number, _) = part.split_once(']')?;
        (number.len() <= 10 && number.bytes().all(|b| b.is_ascii_digit())).then(|| number.parse().ok())?
    })
}

/// The only number in a text, if it could be a process id and is no SQLSTATE of a login.
fn lonely_number(text: &str) -> Option<u32> {
    const SQLSTATES: [&str; 5] = ["28000", "42501", "42704", "53300", "57014"];
    let is_number = |word: &&str| word.bytes().all(|b| b.is_ascii_digit()) && !word.starts_with('0');
    let mut numbers = text.split_whitespace().filter(|word| is_number(word) && !SQLSTATES.contains(word));
    let first = numbers.next()?;
    numbers.next().is_none().then(|| first.parse().ok())?
}

/// `%c`: start time and process id in hex.
fn session_id(text: &str) -> Option<&str> {
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').find(|word| {
        word.split_once('.')
            .is_some_and(|(time, pid)| time.len() == 8 && pid.len() <= 8 && hex(time) && hex(pid))
    })
}

/// `%n`: seconds since 1970 with milliseconds.
fn epoch(text: &str) -> Option<i64> {
    let (seconds, millis) = text.split_once('.')?;
    (seconds.len() == 10 && millis.len() == 3).then(|| format!("{seconds}{millis}").parse().ok())?
}

/// `%r`: `host(port)`, or `[local]`.
fn remote(text: &str) -> (Option<&str>, Option<u16>) {
    for (open, _) in text.match_indices('(') {
        let Some((port, _)) = text[open + 1..].split_once(')') else { continue };
        let Ok(port) = port.parse::<u16>() else { continue };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '%');
        let start = text[..open].char_indices().rev().take_while(|(_, c)| is_host(*c)).last();
        let Some((start, _)) = start else { continue };
        let mut host = &text[start..open];
        // RDS puts a colon between its parts, and an IPv6 address may start with colons of its own.
        if let Some(rest) = host.strip_prefix(':').filter(|_| host.parse::<std::net::Ipv6Addr>().is_err()) {
            host = rest;
        }
        return (Some(host), Some(port));
    }
    (text.contains(LOCAL).then_some(LOCAL), None)
}

/// `name=value`, the value up to a separator.
fn named<'a>(text: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        let (at, _) = text.match_indices(name).find(|(at, _)| {
            let before = text[..*at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })?;
        let rest = &text[at + name.len()..];
        let end = rest.find([',', ' ', ';', '|', '>', ')', '\t']).unwrap_or(rest.len());
        // `client=[local]`, but `[user=x]`.
        let value = &rest[..end];
        let value = if value.starts_with('[') { value } else { value.trim_end_matches([']', ':']) };
        (!value.is_empty()).then_some(value)
    })
}

/// `user@database`, between blanks, colons, commas or slashes.
fn user_at_database(text: &str) -> Option<(&str, &str)> {
    let separators = [' ', ':', ',', ';', '/', '|', '(', ')', '<', '>', '\t'];
    let (user, database) = text.split(separators).rev().find_map(|word| word.split_once('@'))?;
    let trim = |name: &str| name != "[unknown]" && name.ends_with(']');
    let database = if trim(database) { database.trim_end_matches(']') } else { database };
    (!user.is_empty() && !database.is_empty())
        .then_some((user.trim_start_matches('['), database))
        .map(|(user, database)| (if user == "unknown]" { "[unknown]" } else { user }, database))
}

/// Reads a prefix by its template; the fields and what follows.
fn exact<'a>(line: &'a str, template: &str) -> Option<(Fields<'a>, &'a str)> {
    let mut attempts = MAX_ATTEMPTS;
    exact_from(Fields::default(), line, template, false, &mut attempts)
}

/// A name may hold what the template has behind it, so more than one end is tried for it; so often,
/// and then the prefix is guessed.
const MAX_ATTEMPTS: u32 = 1_000;

fn exact_from<'a>(
    fields: Fields<'a>,
    line: &'a str,
    template: &str,
    optional: bool,
    attempts: &mut u32,
) -> Option<(Fields<'a>, &'a str)> {
    *attempts = attempts.checked_sub(1)?;
    let literal = &template[..template.find('%').unwrap_or(template.len())];
    let Some(rest) = line.strip_prefix(literal) else {
        // A process that is no session stops at %q.
        return (optional && starting_word(line).is_some()).then_some((fields, line));
    };
    let Some(escape) = template[literal.len()..].strip_prefix('%') else {
        return starting_word(rest).is_some().then_some((fields, rest));
    };
    let width = escape.len() - escape.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).len();
    let kind = escape[width..].chars().next()?;
    let pattern = &escape[width + kind.len_utf8()..];
    if kind == 'q' && starting_word(rest).is_some() {
        return Some((fields, rest));
    }
    if kind == 'q' {
        return exact_from(fields, rest, pattern, true, attempts);
    }
    if kind == '%' {
        return exact_from(fields, rest.strip_prefix('%')?, pattern, optional, attempts);
    }
    let rest = if width > 0 { rest.trim_start_matches(' ') } else { rest };
    let behind = &pattern[..pattern.find('%').unwrap_or(pattern.len())];
    for length in lengths(kind, rest, behind) {
        let mut fields = fields.clone();
        let Some(()) = fields.take(kind, &rest[..length]) else { continue };
        let mut after = &rest[length..];
        if width > 0 && !behind.starts_with(' ') {
            after = after.trim_start_matches(' ');
        }
        if let Some(found) = exact_from(fields, after, pattern, optional, attempts) {
            return Some(found);
        }
    }
    None
}

/// How long the value of an escape can be, by its form or by what stands behind it.
fn lengths<'t>(kind: char, text: &'t str, behind: &'t str) -> Box<dyn Iterator<Item = usize> + 't> {
    let run = |fits: fn(&u8) -> bool| text.bytes().take_while(fits).count();
    let one = |length: usize| Box::new(std::iter::once(length));
    match kind {
        'm' | 't' | 's' => Box::new(time::read(text).map(|(length, _, _)| length).into_iter()),
        'n' => one(run(|b| b.is_ascii_digit() || *b == b'.')),
        'p' | 'l' | 'P' | 'x' | 'Q' => one(run(|b| b.is_ascii_digit() || *b == b'-')),
        'c' => one(run(|b| b.is_ascii_hexdigit() || *b == b'.')),
        'e' => one(run(u8::is_ascii_alphanumeric).min(5)),
        _ => {
            let mark = if behind.is_empty() { " " } else { behind };
            let ends = text.match_indices(mark).map(|(at, _)| at);
            Box::new(ends.chain(behind.is_empty().then_some(0)))
        }
    }
}

impl<'a> Fields<'a> {
    /// Takes one escape's value.
    fn take(&mut self, kind: char, text: &'a str) -> Option<()> {
        let value = Some(text);
        match kind {
            'm' | 't' => {
                let (length, unix_ms, has_millis) = time::read(text)?;
                self.time = Some((text, Stamp { range: 0..length, unix_ms, has_millis }));
            }
            'n' => self.epoch_ms = Some(epoch(text)?),
            'p' => self.pid = Some(text.parse().ok()?),
            'c' => {
                let (_, pid) = text.split_once('.')?;
                self.session = value;
                self.pid = self.pid.or(u32::from_str_radix(pid, 16).ok());
            }
            'e' => self.sqlstate = value,
            'u' => self.user = value.map(str::trim_end),
            'd' => self.database = value.map(str::trim_end),
            'h' => self.host = value,
            'r' => (self.host, self.port) = whole_remote(text),
            _ => {}
        }
        Some(())
    }
}

/// `host(port)` as the whole of a text.
fn whole_remote(text: &str) -> (Option<&str>, Option<u16>) {
    match text.strip_suffix(')').and_then(|text| text.rsplit_once('(')) {
        Some((host, port)) => (Some(host), port.parse().ok()),
        None => (Some(text), None),
    }
}
