//! jsonlog (`write_jsonlog` in jsonlog.c, 15 and newer), and the JSON that others put around a log:
//! Docker's `json-file` driver (`log`) and CloudNativePG (`record`, with csvlog's column names).

use serde_json::{Map, Value};

use super::{Entry, LOCAL, Part, time, words};

/// What a line of JSON holds.
pub(super) enum Line {
    /// A message.
    Entry(Box<Entry>),
    /// A line of a stderr log inside Docker's wrapper.
    Inner(String),
}

/// Reads one line.
pub(super) fn read(line: &str) -> Option<Line> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    if let Some(Value::String(inner)) = object.get("log") {
        return Some(Line::Inner(inner.trim_end_matches('\n').to_owned()));
    }
    let object = match object.get("record") {
        Some(Value::Object(record)) => record,
        _ => &object,
    };
    entry(object).map(|entry| Line::Entry(Box::new(entry)))
}

fn entry(object: &Map<String, Value>) -> Option<Entry> {
    let text = |names: &[&str]| {
        let value = names.iter().find_map(|name| object.get(*name))?;
        match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    };
    let mut entry = Entry::new(words::severity(&text(&["error_severity"])?));
    let stamp = text(&["timestamp", "log_time"]);
    if let Some((_, unix_ms, has_millis)) = stamp.as_deref().and_then(time::read) {
        (entry.unix_ms, entry.has_millis) = (unix_ms, has_millis);
    }
    entry.time = stamp;
    entry.pid = text(&["pid", "process_id"]).and_then(|pid| pid.parse().ok());
    entry.session = text(&["session_id"]);
    entry.user = text(&["user", "user_name"]);
    entry.database = text(&["dbname", "database_name"]);
    entry.remote_host = text(&["remote_host"]);
    entry.remote_port = text(&["remote_port"]).and_then(|port| port.parse().ok());
    if let Some(from) = text(&["connection_from"]) {
        match from.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            _ if from.starts_with(LOCAL) => entry.remote_host = Some(LOCAL.to_owned()),
            Some((host, Ok(port))) => {
                (entry.remote_host, entry.remote_port) = (Some(host.to_owned()), Some(port));
            }
            _ => entry.remote_host = Some(from),
        }
    }
    entry.sqlstate = text(&["state_code", "sql_state_code"]).filter(|state| state != "00000");
    let parts = [
        ("message", Part::Message),
        ("detail", Part::Detail),
        ("hint", Part::Hint),
        ("context", Part::Context),
    ];
    for (name, part) in parts {
        if let Some(text) = text(&[name]) {
            entry.append(part, &text, false);
        }
    }
    Some(entry)
}
