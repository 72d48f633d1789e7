//! What a page tells of one login beside its verdict, as rows: both forms of the page show the same.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::handshake::ladder::text;
use crate::wire::settings;

use super::super::diff::{Login, fields};
use super::{Packets, Page, Sheet};

/// A name and a value, neither of them escaped.
pub(super) type Row = (String, String);

/// How to look at a login in Wireshark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wireshark {
    /// What to type into its filter.
    pub(super) filter: String,
    /// The filter of the packet with the verdict.
    pub(super) verdict: Option<String>,
    /// The same on the command line.
    pub(super) command: String,
    /// What is worth knowing, in sentences.
    pub(super) notes: Vec<String>,
}

/// The startup packet, in its order. Secrets in it are blanked.
pub(super) fn startup(sheet: &Sheet) -> Vec<Row> {
    let Some(startup) = &sheet.record.startup else { return Vec::new() };
    let row = |(name, value): &(Vec<u8>, Vec<u8>)| (text(name), text(&settings::shown(name, value)));
    startup.parameters.iter().take(MOST).map(row).collect()
}

/// Parameters that are shown; drivers send five.
const MOST: usize = 64;

/// What both sides agreed on, or not.
pub(super) fn negotiated(sheet: &Sheet) -> Vec<Row> {
    let report = &sheet.report;
    let login = Login { name: &sheet.file, report, record: &sheet.record };
    let legs = [("TLS, client to pgwhy", &report.client_tls), ("TLS, pgwhy to server", &report.server_tls)];
    // What pgwhy is an end of is not in the conversation itself.
    let opened = sheet.record.tls.is_none() && legs.iter().any(|(_, tls)| tls.version.is_some());
    let told = |name: &str| {
        let shown_by_legs = opened && matches!(name, "tls" | "ssl_request" | "gss_request");
        shown_by_legs || name.starts_with("startup") || matches!(name, "scram_salt" | "server_version")
    };
    let mut rows: Vec<Row> = fields(login)
        .into_iter()
        .filter(|(name, value, follows)| !follows && !told(name) && !value.is_empty())
        .map(|(name, value, _)| (name.replace('_', " "), value))
        .collect();
    if opened {
        for (name, tls) in legs {
            rows.push((name.into(), tls.version.clone().unwrap_or_else(|| "plaintext".into())));
        }
    }
    if let Some(name) = &report.client.application_name {
        rows.push(("application name".into(), name.clone()));
    }
    rows
}

/// What this page rests on.
pub(super) fn sources(page: &Page, sheet: &Sheet) -> Vec<Row> {
    let mut rows = vec![("login".to_owned(), sheet.report.id.clone())];
    let time = humantime::format_rfc3339_millis(sheet.report.time).to_string();
    rows.push(("began".into(), time));
    rows.push(("capture".into(), sheet.file.clone()));
    let by = match &sheet.written_by {
        Some(version) => format!("pgwhy {version}, between client and server"),
        None => "another program; the packets are all that is known".into(),
    };
    rows.push(("captured by".into(), by));
    let secrets = match (&sheet.written_by, sheet.secrets_kept) {
        (Some(_), true) => "the capture holds them as they were sent; this page does not",
        (Some(_), false) => "blanked in the capture",
        (None, _) => "the capture may hold them; this page does not",
    };
    rows.push(("secrets".into(), secrets.into()));
    if let Some(lack) = &sheet.lack {
        rows.push(("missing".into(), lack.clone()));
    }
    if let Some(version) = &sheet.report.server.version {
        rows.push(("server".into(), format!("PostgreSQL {version}")));
    }
    let context =
        if page.context.is_empty() { "nothing beside the capture".into() } else { page.context.join(", ") };
    rows.push(("given to pgwhy".into(), context));
    if !sheet.report.related.is_empty() {
        rows.push(("belongs to".into(), sheet.report.related.join(", ")));
    }
    rows.push(("diagnosed by".into(), format!("pgwhy {}", env!("CARGO_PKG_VERSION"))));
    rows
}

/// How to find a login's packets.
pub(super) fn wireshark(sheet: &Sheet) -> Wireshark {
    let Packets { client, server, frames, commented, opened } = sheet.packets;
    let mut filter = ends(client);
    if let Some(server) = server {
        filter = format!("(({filter}) || ({}))", ends(server));
    }
    filter.push_str(&format!(" && {}", times(sheet.report.time, sheet.report.elapsed)));
    let port = client.1.port();
    let decode = if port == POSTGRESQL { String::new() } else { format!(" -d tcp.port=={port},pgsql") };
    let keys = if opened { " -o tls.keylog_file:KEYS" } else { "" };
    let command = format!("tshark -r {}{decode}{keys} -Y '{filter}'", quoted(&sheet.file));
    let mut notes = Vec::new();
    if opened {
        notes.push(
            "It was encrypted: Wireshark needs the same key log (Preferences ▸ Protocols ▸ TLS).".into(),
        );
    }
    if port != POSTGRESQL {
        notes.push(format!(
            "The server's port is {port}: choose Analyze ▸ Decode As… and set TCP port {port} to PGSQL."
        ));
    }
    let verdict = if commented {
        notes.push("Every packet has a comment with its step; the failing one has the verdict.".into());
        sheet.failed().then(|| format!("({filter}) && frame.comment contains \"FAILED\""))
    } else {
        frames.map(|(_, verdict)| format!("frame.number == {verdict}"))
    };
    if let Some((first, last)) = frames {
        notes.push(format!("It begins with frame {first}; the verdict fell with frame {last}."));
    }
    if server.is_some() {
        notes.push("It has two connections: the client's with pgwhy, and pgwhy's with the server.".into());
    }
    Wireshark { filter, verdict, command, notes }
}

/// Where Wireshark expects PostgreSQL.
const POSTGRESQL: u16 = 5432;

/// From the login's beginning to its goodbyes: its ports may be those of another one, earlier or later.
fn times(began: SystemTime, elapsed: Duration) -> String {
    let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (first, last) = (began.saturating_sub(ROUNDED), began + elapsed + GOODBYES);
    let seconds = |time: Duration| format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    format!("frame.time_epoch >= {} && frame.time_epoch <= {}", seconds(first), seconds(last))
}

/// What a time may have lost where it was written down.
const ROUNDED: Duration = Duration::from_millis(1);
/// Nobody gets the same pair of ports sooner after a connection's end (Linux' tcp_tw_reuse).
const GOODBYES: Duration = Duration::from_secs(1);

fn ends((from, to): (SocketAddr, SocketAddr)) -> String {
    let word = if from.is_ipv4() { "ip" } else { "ipv6" };
    let mut filter = format!("{word}.addr == {}", from.ip());
    if from.ip() != to.ip() {
        filter.push_str(&format!(" && {word}.addr == {}", to.ip()));
    }
    format!("{filter} && tcp.port == {} && tcp.port == {}", from.port(), to.port())
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
