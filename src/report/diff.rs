//! Two logins side by side: what differs, what differs first, and what that explains.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::diagnose::{Cause, Outcome};
use crate::handshake::ladder::{text, version};
use crate::handshake::record::Negotiation;
use crate::handshake::{Record, Step};
use crate::wire::settings;
use crate::wire::tls::version_name;

use super::Report;
use super::escape::visible;
use super::json::SCHEMA;

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Where it was read from.
    pub name: &'a str,
    /// Its report.
    pub report: &'a Report,
    /// Its record.
    pub record: &'a Record,
}

/// Two logins, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Every field, in the order of a login.
    pub rows: Vec<Row>,
    /// What the difference that matters explains; `None` where both came to the same.
    pub explains: Option<Explanation>,
    heads: [String; 2],
}

/// One field of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub field: String,
    /// In the first login.
    pub a: String,
    /// In the second.
    pub b: String,
    /// Times and the outcome: they follow from the rest.
    pub follows: bool,
}

/// The difference that can be the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its field; `None` where nothing differs that can be seen.
    pub field: Option<String>,
    /// In words.
    pub text: String,
}

impl Row {
    /// Whether the two differ here.
    pub fn differs(&self) -> bool {
        self.a != self.b
    }
}

impl Comparison {
    /// Compares two logins.
    pub fn new(a: Login<'_>, b: Login<'_>) -> Self {
        let (left, right) = (fields(a), fields(b));
        let mut names: Vec<(&str, bool)> = Vec::new();
        // Both lists are in the order of a login; what only the second has goes to its place in it.
        for (name, _, follows) in left.iter().chain(&right) {
            if !names.iter().any(|(known, _)| known == name) {
                let before = right.iter().position(|(other, ..)| other == name);
                let behind = before.and_then(|at| right.get(..at)?.last()).map(|(other, ..)| other.as_str());
                let place = names.iter().position(|(known, _)| Some(*known) == behind);
                match place.filter(|_| !left.iter().any(|(mine, ..)| mine == name)) {
                    Some(place) => names.insert(place + 1, (name, *follows)),
                    None => names.push((name, *follows)),
                }
            }
        }
        let find = |list: &[Field], name: &str| {
            let found = list.iter().find(|(field, ..)| field == name);
            found.map_or_else(|| "-".to_owned(), |(_, value, _)| value.clone())
        };
        let rows: Vec<Row> = names
            .iter()
            .map(|(name, follows)| Row {
                field: (*name).to_owned(),
                a: find(&left, name),
                b: find(&right, name),
                follows: *follows,
            })
            .collect();
        let explains = explain(&rows, a, b);
        Self { rows, explains, heads: [head(a), head(b)] }
    }

    /// The first field that differs and does not only follow from others.
    pub fn first(&self) -> Option<&Row> {
        // A login that failed never learned the server's version.
        let unlearned = |row: &Row| row.field == "server_version" && (row.a == "-" || row.b == "-");
        self.rows.iter().find(|row| row.differs() && !row.follows && !unlearned(row))
    }

    /// One line of JSON. The names are as firm as those of a handshake.
    pub fn json(&self) -> String {
        let [a, b] = &self.heads;
        let differs: Vec<Value> = self
            .rows
            .iter()
            .filter(|row| row.differs())
            .map(|row| json!({"field": row.field, "a": row.a, "b": row.b}))
            .collect();
        let explains = self.explains.as_ref().map(|found| json!({"field": found.field, "text": found.text}));
        let first = self.first().map(|row| row.field.as_str());
        json!({
            "event": "diff", "schema": SCHEMA, "a": a, "b": b,
            "differs": differs, "first": first, "explains": explains,
        })
        .to_string()
    }

    /// A table for people. Bold is the only dress; `colour` allows it.
    pub fn human(&self, colour: bool, width: usize) -> String {
        let mut page = String::new();
        let [a, b] = &self.heads;
        let _ = writeln!(page, "A  {}\nB  {}\n", visible(a), visible(b));
        let name = self.rows.iter().map(|row| row.field.chars().count()).max().unwrap_or(0).min(24);
        let column = width.saturating_sub(name + 8) / 2;
        let first = self.first().map(|row| row.field.clone());
        for row in &self.rows {
            let mark = match (row.differs(), first.as_ref() == Some(&row.field)) {
                (false, _) => " ",
                (true, false) => "≠",
                (true, true) => "▸",
            };
            let (left, right) = (fitted(&visible(&row.a), column), fitted(&visible(&row.b), column));
            let gap = " ".repeat(column.saturating_sub(left.chars().count()));
            let line = format!("{mark} {:<name$}  {left}{gap}  {right}", fitted(&row.field, name));
            let line = line.trim_end();
            let _ = match colour && row.differs() {
                true => writeln!(page, "\x1b[1m{line}\x1b[0m"),
                false => writeln!(page, "{line}"),
            };
        }
        if let Some(row) = self.first() {
            let (a, b) = (visible(&row.a), visible(&row.b));
            let _ = writeln!(page, "\nfirst difference  {}: {a} in A, {b} in B", row.field);
        } else {
            let _ = writeln!(page, "\nno difference can be seen before the outcome");
        }
        if let Some(found) = &self.explains {
            let of = found.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            let _ = writeln!(page, "which explains    {of}{}", visible(&found.text));
        }
        page
    }
}

/// Name, value, and whether it only follows from others.
pub(super) type Field = (String, String, bool);

fn head(login: Login<'_>) -> String {
    let client = &login.report.client;
    let unknown = || "?".to_owned();
    let (user, database) = (client.user.clone(), client.database.clone());
    format!(
        "{}: {}@{} from {}{}, {}",
        login.name,
        user.unwrap_or_else(unknown),
        database.unwrap_or_else(unknown),
        client.address,
        client.driver.map(|driver| format!(" ({driver})")).unwrap_or_default(),
        outcome(login.report)
    )
}

fn outcome(report: &Report) -> String {
    match &report.diagnosis.finding {
        Some(finding) if report.diagnosis.outcome == Outcome::Failed => {
            format!("failed at {}: {}", finding.step.id(), finding.cause.id())
        }
        _ => report.diagnosis.outcome.word().to_owned(),
    }
}

pub(super) fn fields(login: Login<'_>) -> Vec<Field> {
    let (report, record) = (login.report, login.record);
    let mut list = Fields(Vec::new());
    let client = report.client.address.parse::<SocketAddr>().ok();
    list.add("client", client.map_or_else(|| "local".into(), |end| end.ip().to_canonical().to_string()));
    let server = report.server.address.clone().unwrap_or_default();
    let family = match server.parse::<SocketAddr>() {
        Ok(end) if end.ip().to_canonical().is_ipv4() => "IPv4",
        Ok(_) => "IPv6",
        Err(_) => "local",
    };
    list.add("address_family", family.into());
    list.add("server", server);
    encryption(report, record, &mut list);
    list.add("driver", report.client.driver.unwrap_or("unknown").into());
    startup(record, &mut list);
    authentication(record, &mut list);
    list.maybe("server_version", report.server.version.clone());
    if let Some(error) = &report.server_error {
        list.follow("server_error", error.sqlstate().to_owned());
    }
    for rung in &report.steps {
        if let Some(took) = rung.took {
            list.follow(
                &format!("time of {}", rung.step.id()),
                format!("{:.1} ms", took.as_secs_f64() * 1e3),
            );
        }
    }
    list.follow("outcome", outcome(report));
    list.0
}

struct Fields(Vec<Field>);

impl Fields {
    fn add(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), value, false));
    }

    fn maybe(&mut self, name: &str, value: Option<String>) {
        self.0.extend(value.map(|value| (name.to_owned(), value, false)));
    }

    /// What the rest decides. A step that comes twice (TLS: both hellos) is told once.
    fn follow(&mut self, name: &str, value: String) {
        if !self.0.iter().any(|(known, ..)| known == name) {
            self.0.push((name.to_owned(), value, true));
        }
    }
}

fn encryption(report: &Report, record: &Record, list: &mut Fields) {
    let asked = |request: &Option<Negotiation>| match request {
        None => "not asked".to_owned(),
        Some(Negotiation { answer: Some((answer, _)), .. }) => {
            format!("asked, answered {}", char::from(*answer).escape_default())
        }
        Some(_) => "asked, no answer".to_owned(),
    };
    list.add("gss_request", asked(&record.gss_request));
    // A capture of TLS that pgwhy opened has it in the report alone.
    let opened = &report.client_tls;
    match (&record.ssl_request, opened.answer) {
        (None, Some(answer)) if opened.asked => list.add("ssl_request", format!("asked, answered {answer}")),
        (request, _) => list.add("ssl_request", asked(request)),
    }
    let Some(tls) = &record.tls else {
        return list.add("tls", opened.version.clone().unwrap_or_else(|| "plaintext".into()));
    };
    let chosen = tls.server_hello.as_ref().map(|(hello, _)| hello);
    list.add("tls", chosen.map_or_else(|| "no ServerHello".into(), |hello| version_name(hello.version)));
    if let Some((hello, _)) = &tls.client_hello {
        let versions: Vec<String> = hello.versions.iter().map(|word| version_name(*word)).collect();
        list.add("tls_offered", versions.join(", "));
        list.add("tls_server_name", hello.server_name.clone().unwrap_or_else(|| "none".into()));
        list.add("alpn", if hello.alpn.is_empty() { "none".into() } else { hello.alpn.join(", ") });
    }
    list.maybe("tls_cipher", chosen.map(|hello| format!("{:04x}", hello.cipher_suite)));
    for (side, alert, _) in &tls.alerts {
        list.follow("tls_alert", format!("{side:?}: {}", alert.name()));
    }
}

fn startup(record: &Record, list: &mut Fields) {
    let Some(startup) = &record.startup else { return };
    list.add("protocol", version(startup.version));
    for (name, value) in &startup.parameters {
        list.add(&format!("startup.{}", text(name)), text(&settings::shown(name, value)));
    }
    let order: Vec<String> = startup.parameters.iter().map(|(name, _)| text(name)).collect();
    list.add("startup_order", order.join(" "));
}

fn authentication(record: &Record, list: &mut Fields) {
    list.maybe("auth_method", record.auth_method().map(str::to_owned));
    if !record.mechanisms.is_empty() {
        let offered: Vec<String> = record.mechanisms.iter().map(|name| text(name)).collect();
        list.add("mechanisms_offered", offered.join(", "));
    }
    list.maybe("mechanism", record.mechanism.as_deref().map(text));
    let Some(scram) = &record.scram else { return };
    if let Some(first) = &scram.client_first {
        let kind = first.binding_type.as_deref().map(|kind| format!("={}", text(kind))).unwrap_or_default();
        list.add("gs2_flag", format!("{}{kind}", char::from(first.flag).escape_default()));
    }
    if let Some(first) = &scram.server_first {
        list.add("scram_salt", first.salt.iter().map(|byte| format!("{byte:02x}")).collect());
        list.add("scram_iterations", first.iterations.to_string());
    }
}

/// Picks the difference that can be the reason of the failure, and says why it can.
fn explain(rows: &[Row], a: Login<'_>, b: Login<'_>) -> Option<Explanation> {
    let failed = |login: Login<'_>| {
        let finding = login.report.diagnosis.finding.as_ref();
        finding.filter(|_| login.report.diagnosis.outcome == Outcome::Failed).map(|f| (f.cause, f.step))
    };
    let (cause, step) = match (failed(a), failed(b)) {
        (Some(one), Some(other)) if one == other => return None,
        (one, other) => other.or(one)?,
    };
    let differs = |row: &&Row| row.differs() && !row.follows;
    let matters = reasons(cause, step);
    let found = matters.iter().find_map(|wanted| {
        let named =
            |row: &&Row| row.field == *wanted || (*wanted == "startup." && row.field.starts_with(wanted));
        rows.iter().filter(differs).find(named)
    });
    if let Some(row) = found {
        return Some(Explanation { field: Some(row.field.clone()), text: words(&row.field, cause) });
    }
    let by_secret = matches!(step, Step::Password | Step::Md5 | Step::ScramClientFinal);
    let text = if by_secret {
        "up to the client's answer both do the same, so the failing client sent another secret: another \
         password, or this one changed on its way"
            .into()
    } else {
        let first = rows.iter().find(differs)?;
        let text =
            format!("{} is not known to lead to {}; it is what differs first", first.field, cause.id());
        return Some(Explanation { field: Some(first.field.clone()), text });
    };
    Some(Explanation { field: None, text })
}

/// The fields that can lead to a cause, the likeliest first.
fn reasons(cause: Cause, step: Step) -> &'static [&'static str] {
    match cause {
        Cause::HbaNoEntry
        | Cause::HbaReject
        | Cause::HbaRequiresTls
        | Cause::HbaForbidsTls
        | Cause::HbaNotReloaded
        | Cause::IdentFailed
        | Cause::RetryMasksFailure => &[
            "server",
            "tls",
            "ssl_request",
            "client",
            "startup.user",
            "startup.database",
            "startup.replication",
        ],
        Cause::StartupParameterRefused => &["startup.options", "startup.", "protocol", "server_version"],
        Cause::ServerHasNoTls => &["ssl_request", "tls", "server"],
        Cause::DatabaseMissing | Cause::DatabaseNotAccepting | Cause::ConnectPrivilegeMissing => {
            &["startup.database", "server", "startup.user"]
        }
        Cause::RoleMissing | Cause::RoleCannotLogin => &["startup.user", "server", "startup.database"],
        _ => match step {
            Step::Resolve | Step::Connect => &["server", "address_family", "client"],
            Step::GssRequest | Step::SslRequest | Step::TlsHandshake => {
                &["server", "ssl_request", "gss_request", "tls_offered", "tls_server_name", "alpn", "tls"]
            }
            Step::Password | Step::Md5 | Step::ScramClientFinal => &[
                "server",
                "startup.user",
                "startup.database",
                "scram_salt",
                "auth_method",
                "gs2_flag",
                "mechanism",
            ],
            Step::SaslMechanism
            | Step::ScramClientFirst
            | Step::ScramServerFirst
            | Step::ScramServerFinal => {
                &["mechanisms_offered", "mechanism", "gs2_flag", "auth_method", "tls", "server", "driver"]
            }
            _ => &["server", "tls", "startup.user", "startup.database", "client", "startup."],
        },
    }
}

fn words(field: &str, cause: Cause) -> String {
    let why = match field {
        "server" => "these are two servers: roles, passwords, databases and pg_hba.conf are each one's own",
        "tls" | "ssl_request" => {
            "pg_hba.conf has lines for TLS (hostssl) and for plaintext (hostnossl): the two may meet different ones"
        }
        "client" => "pg_hba.conf decides by the client's address: the two may meet different lines",
        "address_family" => "one of the two families may lead nowhere, or to another server",
        "startup.user" => "they are two roles: passwords, rights and pg_hba.conf lines are each role's own",
        "startup.database" => "pg_hba.conf decides by the database, too, and rights are each database's own",
        "startup.replication" => "pg_hba.conf has lines of its own for replication; `all` does not mean it",
        "scram_salt" => {
            "the same role has another salt: its password was set anew in between, or the server makes the salt up \
             because the role has no password that can be used"
        }
        "auth_method" => {
            "another line of pg_hba.conf decided, or the role's password is stored in another form"
        }
        "mechanism" | "mechanisms_offered" | "gs2_flag" => {
            "the two differ in channel binding, which a proxy that ends TLS, or an older driver, changes"
        }
        "tls_offered" | "alpn" | "tls_server_name" => {
            "the servers' side of TLS decides by what the hello offers"
        }
        "gss_request" => {
            "a request for GSSAPI encryption comes before everything else, and not every server takes it"
        }
        "protocol" => "the two ask for different versions of the protocol",
        "driver" => "drivers differ in what they support and in how they read a connection string",
        name if name.starts_with("startup.") => "the server judges every parameter that a client sends",
        _ => "it is what differs first",
    };
    format!("{why} ({})", cause.id())
}

fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
