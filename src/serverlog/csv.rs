//! csvlog (`write_csvlog` in csvlog.c): RFC 4180 with line feeds inside quotes.

use super::{Entry, LOCAL, Part, time, words};

/// Columns of every version from 12 on; 13 adds the backend's type, 14 the leader and the query id.
const COLUMNS: usize = 23;

/// Whether a line can be the first of a record: a time, a comma, and a name that is quoted or empty.
pub(super) fn starts_record(line: &[u8]) -> bool {
    let head: String = line.iter().take(48).map(|b| char::from(*b)).collect();
    time::read(&head)
        .is_some_and(|(length, _, _)| head[length..].starts_with(",\"") || head[length..].starts_with(",,"))
}

/// One record as an entry.
pub(super) fn read(record: &str) -> Option<Entry> {
    let columns = split(record);
    if columns.len() < COLUMNS {
        return None;
    }
    let column = |at: usize| columns.get(at).filter(|text| !text.is_empty());
    let mut entry = Entry::new(words::severity(column(11)?));
    let text = column(0)?;
    (_, entry.unix_ms, entry.has_millis) = time::read(text)?;
    entry.time = Some(text.clone());
    entry.user = column(1).cloned();
    entry.database = column(2).cloned();
    entry.pid = Some(column(3)?.parse().ok()?);
    (entry.remote_host, entry.remote_port) = column(4).map_or((None, None), |text| remote(text));
    entry.session = column(5).cloned();
    entry.sqlstate = column(12).filter(|state| *state != "00000").cloned();
    for (at, part) in [(13, Part::Message), (14, Part::Detail), (15, Part::Hint), (18, Part::Context)] {
        if let Some(text) = column(at) {
            entry.append(part, text, false);
        }
    }
    Some(entry)
}

/// `connection_from`: `host:port`, where the host may be an IPv6 address, or `[local]`.
fn remote(text: &str) -> (Option<String>, Option<u16>) {
    if text.starts_with(LOCAL) {
        return (Some(LOCAL.to_owned()), None);
    }
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (Some(host.to_owned()), Some(port)),
        _ => (Some(text.to_owned()), None),
    }
}

/// A record with more columns than this is no csvlog.
const MAX_COLUMNS: usize = 64;

fn split(record: &str) -> Vec<String> {
    let mut columns = Vec::new();
    let mut column = String::new();
    let mut quoted = false;
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => column.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted && columns.len() < MAX_COLUMNS => columns.push(std::mem::take(&mut column)),
            c => column.push(c),
        }
    }
    columns.push(column);
    columns
}
