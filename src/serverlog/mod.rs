//! The server's log: what PostgreSQL writes down and does not tell the client.
//!
//! [`Parser`] takes the bytes of a log (stderr, csvlog or jsonlog, cut anywhere) and gives
//! [`Piece`]s; [`Correlator`] remembers the recent ones and finds those of one connection;
//! [`facts`] says what an entry means. [`control_data`] reads the output of `pg_controldata`.
//! No I/O and no clock: `app::follow` has both.
//!
//! A log holds text of strangers. csvlog and jsonlog quote it; in a stderr log a name with a line
//! feed in `%u`, `%d` or `%a` of the prefix can forge a line (elog.c does not indent those), so who
//! believes an entry must find the names in it that the wire showed.

mod catalogue;
pub mod control_data;
mod correlate;
mod csv;
mod facts;
mod json;
mod kind;
mod parse;
mod prefix;
mod redact;
mod states;
#[cfg(test)]
mod tests;
mod time;
mod translations;
mod words;

pub use correlate::{Certainty, Correlator, Found, Join, Question};
pub use facts::{Fact, LookUp, Service, Trouble, facts};
pub use parse::{Format, Parser, parse_all};
pub use states::{State, state};

/// The severity of a message (`error_severity` in elog.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `FATAL`: the login or session ended.
    Fatal,
    /// `LOG`
    Log,
    /// `PANIC`: the whole server ended.
    Panic,
    /// `ERROR`
    Error,
    /// `WARNING`
    Warning,
    /// `NOTICE`
    Notice,
    /// `INFO`
    Info,
    /// `DEBUG`
    Debug,
    /// A word of a language that we have no table for.
    Unknown,
}

/// What a further line says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The message itself.
    Message,
    /// `DETAIL`, including what only the log gets (`errdetail_log`).
    Detail,
    /// `HINT`
    Hint,
    /// `CONTEXT`
    Context,
    /// Statements, queries and source positions: they are not kept.
    Other,
}

/// One message of the log. No field holds a secret: see [`Parser`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The time as it stands in the log.
    pub time: Option<String>,
    /// That time in milliseconds since 1970, where its zone is one that we know.
    pub unix_ms: Option<i64>,
    /// The time has milliseconds; otherwise it is cut to the second.
    pub has_millis: bool,
    /// The backend's process id.
    pub pid: Option<u32>,
    /// The session id: start time and process id in hex (`%c`).
    pub session: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The SQLSTATE (csvlog, jsonlog, `%e`, or `log_error_verbosity = verbose`).
    pub sqlstate: Option<String>,
    /// The message in the server's language.
    pub message: String,
    /// DETAIL, with line feeds where it has several lines.
    pub detail: Option<String>,
    /// HINT
    pub hint: Option<String>,
    /// CONTEXT
    pub context: Option<String>,
    /// The user, if the prefix or column has it.
    pub user: Option<String>,
    /// The database, if the prefix or column has it.
    pub database: Option<String>,
    /// The client's address or host name as the server sees it; `[local]` for a Unix socket.
    pub remote_host: Option<String>,
    /// The client's port as the server sees it.
    pub remote_port: Option<u16>,
    /// Host and port of `connection received: …` (`log_connections`).
    pub connection_received: Option<(String, Option<u16>)>,
    /// Some text was longer than we keep.
    pub cut: bool,
}

/// What a parsed line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A message begins (in csvlog and jsonlog it is then complete).
    Entry(Box<Entry>),
    /// A message that nobody needs begins: statements, errors of sessions.
    Skipped {
        /// Its process.
        pid: Option<u32>,
    },
    /// More about the last message of a process.
    More {
        /// The process.
        pid: Option<u32>,
        /// What it is.
        part: Part,
        /// Its first line.
        text: String,
    },
    /// One more line of the piece before it; `joined` when it is the same line, cut by syslog.
    Tail {
        /// The text.
        text: String,
        /// No line feed belongs between.
        joined: bool,
    },
}

/// Text of one field that is kept. Only `Connection matched …` can be long: a line of pg_hba.conf
/// has no limit, but a useful one is shorter than this.
pub const MAX_FIELD: usize = 8 * 1024;

impl Entry {
    /// An entry that says nothing yet.
    fn new(severity: Severity) -> Self {
        Self {
            time: None,
            unix_ms: None,
            has_millis: false,
            pid: None,
            session: None,
            severity,
            sqlstate: None,
            message: String::new(),
            detail: None,
            hint: None,
            context: None,
            user: None,
            database: None,
            remote_host: None,
            remote_port: None,
            connection_received: None,
            cut: false,
        }
    }

    /// Whether the client came over a Unix socket.
    pub fn is_local(&self) -> bool {
        self.remote_host.as_deref() == Some(LOCAL)
    }

    /// Whether the message ended a login or session.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, Severity::Fatal | Severity::Panic)
    }

    /// Bytes of text in it.
    pub(crate) fn size(&self) -> usize {
        let texts = [&self.time, &self.session, &self.detail, &self.hint, &self.context, &self.user];
        let more = [&self.database, &self.remote_host, &self.sqlstate];
        let all = texts.iter().chain(&more).filter_map(|text| text.as_ref());
        self.message.len() + all.map(String::len).sum::<usize>() + size_of::<Self>()
    }

    /// Adds a line to a part.
    fn append(&mut self, part: Part, text: &str, joined: bool) {
        let field = match part {
            Part::Message => &mut self.message,
            Part::Detail => self.detail.get_or_insert_default(),
            Part::Hint => self.hint.get_or_insert_default(),
            Part::Context => self.context.get_or_insert_default(),
            Part::Other => return,
        };
        if joined && redact::is_open(field) {
            // syslog cut a line inside a secret: what follows may be the rest of it.
            self.cut = true;
            return;
        }
        if !field.is_empty() && !joined {
            field.push('\n');
        }
        field.push_str(&redact::secrets(text));
        self.cut |= shorten(field);
    }
}

/// What elog.c and `BackendInitialize` write for a client on a Unix socket.
const LOCAL: &str = "[local]";

/// Cuts a field to [`MAX_FIELD`]; says whether it had to.
fn shorten(field: &mut String) -> bool {
    if field.len() <= MAX_FIELD {
        return false;
    }
    let end = (0..=MAX_FIELD).rev().find(|at| field.is_char_boundary(*at)).unwrap_or(0);
    field.truncate(end);
    true
}
