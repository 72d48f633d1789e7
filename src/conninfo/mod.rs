//! Connection strings as libpq reads them (fe-connect.c), lenient where people need it: the aim is
//! to find the upstream that was meant, and to say what is wrong with the way it is written.

mod draft;
pub mod env_file;
mod keyword;
pub mod passfile;
mod problem;
mod uri;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use problem::{ConninfoError, Problem, Severity};

use crate::secret::Secret;
use draft::{DRIVER_PARAMS, Draft, LIBPQ_PARAMS, Slot};
use problem::column;

/// `DEF_PGPORT`.
pub const DEFAULT_PORT: u16 = 5432;
/// Where Debian's and Red Hat's libpq looks for a socket when no host is given
/// (`DEFAULT_PGSOCKET_DIR`; PostgreSQL's own default is /tmp, and many drivers use localhost).
pub const DEFAULT_SOCKET_DIR: &str = "/var/run/postgresql";

/// What stands in the host's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A name to be resolved.
    Name(String),
    /// An address.
    Addr(IpAddr),
    /// The directory of a Unix socket (or, with a leading `@`, an abstract one).
    UnixDir(String),
}

/// One server of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name; also what certificates are checked against.
    pub name: HostName,
    /// The address to connect to instead of resolving the name.
    pub hostaddr: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// libpq's six words for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses plaintext.
    Allow,
    /// If the server has it (libpq's default).
    Prefer,
    /// Always, with any certificate.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for this host.
    VerifyFull,
}

impl SslMode {
    /// Reads one of the six words.
    pub fn parse(text: &str) -> Option<Self> {
        use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
        [Disable, Allow, Prefer, Require, VerifyCa, VerifyFull].into_iter().find(|mode| mode.as_str() == text)
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Where the password came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// Between user and host of a URL.
    Url,
    /// A `password` keyword or query parameter.
    Parameter,
    /// `PGPASSWORD`.
    Environment,
}

/// A connection string and its environment, read. Its `Debug` shows no password.
#[derive(Clone)]
pub struct Conninfo {
    /// The servers, in the order in which they are tried; at least one.
    pub hosts: Vec<Host>,
    /// The role; libpq takes the operating system's user when there is none.
    pub user: Option<String>,
    /// The database; servers take the user's name when there is none.
    pub database: Option<String>,
    /// The password, decoded.
    pub password: Option<Secret<String>>,
    /// The password as written in a URL, before decoding.
    pub raw_password: Option<Secret<String>>,
    /// Where the password came from.
    pub password_source: Option<PasswordSource>,
    /// `sslmode`, if it was given and is one of libpq's words.
    pub sslmode: Option<SslMode>,
    /// `connect_timeout`; none when it is missing, zero or negative: wait for ever.
    pub connect_timeout: Option<Duration>,
    /// The password file that was named (`passfile`, `PGPASSFILE`); reading it is the caller's.
    pub passfile: Option<String>,
    /// Everything else, decoded, in the order written; secrets among them are replaced by `***`.
    pub params: Vec<(String, String)>,
    /// What is wrong with the text, in the order found.
    pub problems: Vec<Problem>,
}

impl Conninfo {
    /// Reads a `postgres://` or `jdbc:postgresql://` URL, a `key=value` string, or plain `host`,
    /// `host:port`, `[::1]:port`, `/socket/dir`; fills what is missing from the `PG*` environment.
    ///
    /// # Errors
    /// When no upstream can be found in it. Neither error nor problems quote a password.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let mut draft = Draft::default();
        match read(text, &mut draft) {
            Ok(()) => draft.finish(environment),
            Err(error) => Err(ConninfoError { before: draft.problems, ..error }),
        }
    }

    /// What the `PG*` environment alone says.
    ///
    /// # Errors
    /// When PGHOST, PGHOSTADDR or PGPORT can't be read.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        Draft::default().finish(environment)
    }

    /// The URL to show to people: `***` in the password's place, and values of unknown parameters
    /// left out, because a broken URL may have a piece of the password there.
    pub fn display_redacted(&self) -> String {
        let mut out = String::from("postgres://");
        if let Some(user) = &self.user {
            out.push_str(&encode(user));
        }
        if self.password.is_some() {
            out.push_str(":***");
        }
        if self.user.is_some() || self.password.is_some() {
            out.push('@');
        }
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        out.push_str(&hosts.join(","));
        if let Some(database) = &self.database {
            out.push('/');
            // An @ here is rather the end of a password that holds a slash.
            out.push_str(&if database.contains('@') { "…".to_owned() } else { encode(database) });
        }
        let mut params: Vec<String> = Vec::new();
        params.extend(self.sslmode.map(|mode| format!("sslmode={}", mode.as_str())));
        for (key, value) in &self.params {
            let known = LIBPQ_PARAMS.iter().chain(DRIVER_PARAMS).any(|name| name.eq_ignore_ascii_case(key));
            params.push(match (known, value.as_str()) {
                (true, "***") => format!("{key}=***"),
                (true, value) => format!("{key}={}", encode(value)),
                (false, _) => "…".to_owned(),
            });
        }
        if !params.is_empty() {
            out.push('?');
            out.push_str(&params.join("&"));
        }
        out
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conninfo")
            .field("url", &self.display_redacted())
            .field("connect_timeout", &self.connect_timeout)
            .field("password_source", &self.password_source)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostName::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            HostName::Name(name) => write!(f, "{name}:{}", self.port),
            HostName::Addr(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            HostName::Addr(address) => write!(f, "{address}:{}", self.port),
            HostName::UnixDir(dir) => write!(f, "{}:{}", encode(dir), self.port),
        }
    }
}

fn encode(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, KEPT).to_string()
}

fn read(whole: &str, draft: &mut Draft) -> Result<(), ConninfoError> {
    let text = clean(whole, draft);
    let at = column(whole, text);
    if ["", "undefined", "null", "None"].contains(&text) {
        let message = if text.is_empty() {
            "the connection string is empty"
        } else {
            "this is the text of a missing value"
        };
        return Err(ConninfoError::at(
            "empty",
            at,
            message,
            "set the variable, and load the file before it is read",
        ));
    }
    if !text.contains("://") && !keyword::looks_like(text) && draft::unexpanded(text) {
        let problem = draft::unexpanded_problem("connection string", at);
        return Err(ConninfoError { problem, before: Vec::new() });
    }
    if let Some(rest) = scheme(whole, text, draft)? {
        return uri::parse(whole, rest.text, rest.jdbc, draft);
    }
    if keyword::looks_like(text) {
        return keyword::parse(whole, text, draft);
    }
    if text.contains('@') && !text.starts_with('@') {
        let (message, fix) = ("the scheme is missing", "begin it with postgres://");
        draft.problems.push(Problem::new("scheme", Severity::Error, at, message, fix));
        return uri::parse(whole, text, false, draft);
    }
    plain(whole, text, draft)
}

/// Takes off what does not belong to the value and records it: a byte order mark, blanks, quotes,
/// a second `NAME=`.
fn clean<'a>(whole: &'a str, draft: &mut Draft) -> &'a str {
    /// More layers than this are no accident.
    const MAX_LAYERS: usize = 8;
    let mut text = whole;
    for _ in 0..MAX_LAYERS {
        let at = column(whole, text);
        let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0');
        let quote =
            text.chars().next().into_iter().chain(text.chars().next_back()).find(|c| "\"'`".contains(*c));
        // The last quote of `password='x'` or of `NAME="postgres://…"` has its partner inside.
        let open_value = second_name(text).is_some() || (text.contains('=') && !text.contains("://"));
        let (inner, problem) = if trimmed.len() != text.len() {
            let last = text.chars().next_back().filter(|c| c.is_control() || c.is_whitespace());
            let place = if text.starts_with(trimmed) { at + trimmed.len() } else { at };
            let what = if last.is_some() && place != at { "behind" } else { "before" };
            let message = format!("a blank, line end or byte order mark stands {what} the value");
            (trimmed, ("blank_around", place, message, "remove it (a file with CRLF line ends leaves a \\r)"))
        } else if let Some(quote) = quote.filter(|quote| text.starts_with(*quote) || !open_value) {
            let inner = text.strip_prefix(quote).unwrap_or(text);
            let place = if inner.len() == text.len() { at + text.len() - 1 } else { at };
            let message = "quotes are a part of the value".to_owned();
            let fix = "remove them: docker --env-file and some loaders do not take them off";
            (inner.strip_suffix(quote).unwrap_or(inner), ("quotes_kept", place, message, fix))
        } else if let Some(inner) = second_name(text) {
            let message = "the value begins with the name of a variable and =".to_owned();
            (inner, ("doubled_key", at, message, "write the name once"))
        } else {
            break;
        };
        let (id, place, message, fix) = problem;
        draft.problems.push(Problem::new(id, Severity::Error, place, message, fix));
        text = inner;
    }
    text
}

/// What follows `NAME=` (or `export NAME=`) when that is a URL, quoted or not.
fn second_name(text: &str) -> Option<&str> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim().strip_prefix("export ").unwrap_or(name).trim();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let bare = value.trim_start().trim_start_matches(['"', '\'', '`']).to_ascii_lowercase();
    let is_url = bare.starts_with("postgres")
        || bare.starts_with("jdbc:postgres")
        || second_name(value.trim_start()).is_some();
    (is_name && is_url && value.contains("://")).then_some(value)
}

struct Rest<'a> {
    text: &'a str,
    jdbc: bool,
}

/// What stands behind the scheme, if there is one; other spellings than libpq's two are problems.
fn scheme<'a>(whole: &str, text: &'a str, draft: &mut Draft) -> Result<Option<Rest<'a>>, ConninfoError> {
    let (jdbc, text) = match text.get(..5) {
        Some(head) if head.eq_ignore_ascii_case("jdbc:") => (true, &text[5..]),
        _ => (false, text),
    };
    let at = column(whole, text);
    for libpq in ["postgres://", "postgresql://"] {
        if let Some(rest) = text.strip_prefix(libpq) {
            return Ok(Some(Rest { text: rest, jdbc }));
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+.-_".contains(c)).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    let lower = name.to_ascii_lowercase();
    let ours = lower.starts_with("postgre")
        || lower.starts_with("pgsql")
        || ["tcp", "psql", "pg"].contains(&lower.as_str());
    let full = behind.strip_prefix("://");
    let short = behind
        .strip_prefix(':')
        .filter(|_| ours && (jdbc || behind.contains('@') || behind.starts_with(":/")));
    let Some(rest) = full.or(short) else {
        if jdbc {
            let fix = "pgwhy speaks only PostgreSQL: jdbc:postgresql://host:port/database";
            return Err(ConninfoError::at("scheme", at, "this is a JDBC URL of another database", fix));
        }
        return Ok(None);
    };
    if !ours {
        let message = "the scheme is not that of PostgreSQL";
        return Err(ConninfoError::at("scheme", at, message, "begin it with postgres:// or postgresql://"));
    }
    // SQLAlchemy's postgresql+driver:// is right where it is meant, and refused everywhere else.
    let (severity, message) = match lower.split_once('+') {
        Some(_) => (Severity::Warning, "this scheme names a driver: only SQLAlchemy reads it"),
        None => (Severity::Error, "the scheme is misspelt"),
    };
    let fix = "write postgres:// or postgresql://";
    draft.problems.push(Problem::new("scheme", severity, at, message, fix));
    Ok(Some(Rest { text: rest.trim_start_matches('/'), jdbc }))
}

/// `host`, `host:port`, `[::1]:port`, an address, a socket directory, or a list of them.
fn plain(whole: &str, text: &str, draft: &mut Draft) -> Result<(), ConninfoError> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for item in text.split(',') {
        let whole_item = item.starts_with('/') || item.parse::<IpAddr>().is_ok();
        let (name, port) = if whole_item { (item, None) } else { uri::split_port(whole, item)? };
        names.push(name);
        ports.push(port.unwrap_or_default());
    }
    let at = column(whole, text);
    draft.host = Some(Slot::new(names.join(","), at));
    if ports.iter().any(|port| !port.is_empty()) {
        draft.port = Some(Slot::new(ports.join(","), at));
    }
    Ok(())
}

/// Whether a word looks like a connection string: then it is not repeated.
pub fn may_hold_password(word: &str) -> bool {
    let keyword = word.contains('=') && word.to_ascii_lowercase().contains("password");
    word.contains("://") || word.contains('@') || keyword
}
