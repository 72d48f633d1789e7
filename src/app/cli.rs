//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::ca::CaArgs;
use super::hba::HbaArgs;
use super::output::{Format, Show};
use super::tls::TlsArgs;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};

use crate::conninfo::may_hold_password;
use crate::diagnose::Cause;

/// Says exactly why a PostgreSQL login failed.
#[derive(Debug, Parser)]
#[command(name = "pgwhy", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  pgwhy demo                                   see it work: a dozen logins that fail
  pgwhy proxy --upstream \"$DATABASE_URL\"       then point the application at 127.0.0.1:7432
  pgwhy explain password_mismatch              the page of one cause
  pgwhy hba pg_hba.conf                        mistakes in it, or (--addr, --user) who may log in")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stand between clients and a PostgreSQL server, carry every byte unchanged, explain every login
    Proxy(Box<ProxyArgs>),
    /// Read captures of tcpdump, Wireshark and pgwhy, and explain every login in them
    Show(Box<ShowArgs>),
    /// Compare a login that works with one that fails: what differs first, and what that explains
    Diff(DiffArgs),
    /// Make a page of a capture for an issue: HTML or Markdown, with ladder, verdict and nothing secret
    Report(Box<ReportArgs>),
    /// Play one side of a captured login again, against a server or to a client
    Replay(ReplayArgs),
    /// Print the page of one cause: what happens on the wire, look-alikes, fixes
    Explain {
        /// The id of a cause, as in a report; without one, all of them are listed
        #[arg(value_parser = CauseId, hide_possible_values = true)]
        cause: Option<Cause>,
    },
    /// Say which line of pg_hba.conf decides a login, or what is wrong with the file
    Hba(Box<HbaArgs>),
    /// Make a local certificate authority, so that clients can trust the certificates that the proxy makes
    Ca(CaArgs),
    /// Bring up a throw-away PostgreSQL and a proxy, and explain a dozen logins that fail
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), of the program or of one command
    Man {
        /// The command
        command: Option<String>,
    },
}

/// Options of `pgwhy proxy`.
#[derive(Debug, Args)]
#[command(after_help = "\
The connection string may be a URL, a JDBC URL, key=value words, host:port, or a socket directory. Its \
password is held against what clients send, to say how theirs differs, and goes nowhere but to the server: \
as a SCRAM proof, where TLS is opened with it. Reports go to standard output, the program's own log to \
standard error (PGWHY_LOG=debug for more). SIGTERM drains: no new connections, running ones go on until \
--drain-timeout; a second one ends them.

Examples:
  pgwhy proxy                                  in front of DATABASE_URL, on 127.0.0.1:7432
  pgwhy proxy -u db.internal:5432 -l :5433     another server, another port
  pgwhy proxy --show failed --format json      one line for each failed login")]
pub struct ProxyArgs {
    /// Where clients connect: host:port (port 0 takes a free one) or the path of a Unix socket; repeatable
    #[arg(long, short, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    pub listen: Vec<String>,

    /// The server: any connection string [default: DATABASE_URL, from the environment or ./.env]
    #[arg(long, short, value_name = "CONNINFO")]
    pub upstream: Option<String>,

    /// What tells look-alikes apart.
    #[command(flatten)]
    pub context: ContextArgs,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Which connections to report
    #[arg(long, value_enum, default_value_t = Show::All, value_name = "WHICH")]
    pub show: Show,

    /// How long a login may take, from accept to ReadyForQuery
    #[arg(long, value_parser = some_time, default_value = "60s", value_name = "TIME")]
    pub login_timeout: Duration,

    /// How long running sessions may go on after SIGTERM
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub drain_timeout: Duration,

    /// Client connections at a time [default: what the limit of open files allows]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub max_connections: Option<usize>,

    /// Logins under way at a time [default: 1000]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub max_unfinished: Option<usize>,

    /// Logins under way at a time from one address [default: 200]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub max_unfinished_per_address: Option<usize>,

    /// Threads that carry established sessions [default: one a core]
    #[arg(long, value_parser = positive, value_name = "N")]
    pub threads: Option<usize>,

    /// TLS on both legs.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// What to write down
    #[command(flatten)]
    pub capture: CaptureArgs,
}

/// Options of `--capture`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Write logins down for Wireshark and `pgwhy show`: a pcapng file, or a directory of them
    #[arg(long, value_name = "FILE|DIR")]
    pub capture: Option<PathBuf>,

    /// Which logins: all, failed, or sample=N (the failed ones, and one in N of the others)
    #[arg(long, value_parser = which, default_value = "all", value_name = "WHICH", requires = "capture")]
    pub capture_what: Which,

    /// How large a file may become before the next is begun
    #[arg(long, value_parser = size, default_value = "64MiB", value_name = "SIZE", requires = "capture")]
    pub capture_size: u64,

    /// How many files are kept: the oldest goes when a new one is begun
    #[arg(long, value_parser = positive, default_value = "10", value_name = "N", requires = "capture")]
    pub capture_files: usize,

    /// Also write what comes behind the login, queries and their results: private data, and slower sessions
    #[arg(long, requires = "capture")]
    pub capture_queries: bool,

    /// Don't blank passwords, proofs, tokens and cancel keys: whoever has the file can log in
    #[arg(long, requires = "capture")]
    pub keep_secrets: bool,
}

/// `--capture-what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every connection.
    All,
    /// Logins that failed.
    Failed,
    /// Logins that failed, and one in so many of the others.
    Sample(u64),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Failed => f.write_str("failed"),
            Self::Sample(every) => write!(f, "sample={every}"),
        }
    }
}

fn which(text: &str) -> Result<Which, String> {
    let every =
        text.strip_prefix("sample=").and_then(|number| number.parse().ok()).filter(|every| *every > 0);
    match (text, every) {
        ("all", _) => Ok(Which::All),
        ("failed", _) => Ok(Which::Failed),
        (_, Some(every)) => Ok(Which::Sample(every)),
        _ => Err("write all, failed, or for example sample=100".into()),
    }
}

/// A size: a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match bytes {
        Some(0) => Err("at least 1".into()),
        Some(bytes) => Ok(bytes),
        None => Err("write for example 64MiB or 500kB".into()),
    }
}

/// What tells look-alikes apart: read only when a login failed.
#[derive(Debug, Default, Args)]
pub struct ContextArgs {
    /// A file whose first line is the password that clients should send
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// pg_hba.conf of the server: which line should decide, and whether the server follows the file
    #[arg(long, value_name = "FILE")]
    pub hba: Option<PathBuf>,

    /// PostgreSQL major version that --hba is read for [default: as 18 reads it, and less sure where others differ]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(12..=18))]
    pub pg_version: Option<u32>,

    /// A connection of an administrator, asked only when a login fails: roles, limits, settings
    #[arg(long, value_name = "CONNINFO")]
    pub admin: Option<String>,

    /// The server's log (stderr, csvlog or jsonlog): a file, a directory or a pattern
    #[arg(long, value_name = "PATH")]
    pub server_log: Option<PathBuf>,

    /// The server's log_line_prefix, where it can't be guessed
    #[arg(long, value_name = "PREFIX")]
    pub log_line_prefix: Option<String>,

    /// Output of pg_controldata: tells made-up salts from real ones
    #[arg(long, value_name = "FILE")]
    pub control_data: Option<PathBuf>,

    /// A capture with a login that worked: what differs since then
    #[arg(long, value_name = "CAPTURE")]
    pub baseline: Option<PathBuf>,
}

impl ContextArgs {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        let files = [&self.password_file, &self.hba, &self.server_log, &self.control_data, &self.baseline];
        files.iter().all(|file| file.is_none()) && self.admin.is_none()
    }
}

/// Options of `pgwhy show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads what tcpdump, Wireshark and sniffers in a cluster write, and pgwhy's own captures. A connection is \
PostgreSQL's by its first bytes, whatever its port. Reports go to standard output, a last line with \
counts to standard error. Exit code: 0, 1 if a failed login is shown, 2 if a file can't be read.

Examples:
  tcpdump -i any -s 0 -w login.pcap port 5432   take a capture where the server or the client runs
  pgwhy show login.pcap                         every login in it
  pgwhy show --failed --user app *.pcapng       only those of one user that failed
  pgwhy show login.pcap --expect \"$DATABASE_URL\" was it the right password?")]
pub struct ShowArgs {
    /// Captures (pcap or pcapng); - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Which logins, and what is known around them.
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Which logins of a capture, and what is known around them.
#[derive(Debug, Args)]
pub struct ChoiceArgs {
    /// Only logins that failed
    #[arg(long)]
    pub failed: bool,

    /// Only logins of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Only logins that failed for this cause
    #[arg(long, value_parser = CauseId, hide_possible_values = true)]
    pub cause: Option<Cause>,

    /// Only this login: its id, or its number as `pgwhy show` has it
    #[arg(long, value_name = "ID", visible_alias = "conversation")]
    pub login: Option<String>,

    /// A server's port: everything that happens there is shown, also what is not PostgreSQL's; repeatable
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,

    /// Keys of TLS connections in the capture (SSLKEYLOGFILE): they are opened with them
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,

    /// The connection string that the client should have used: its password is held against what was sent
    #[arg(long, value_name = "CONNINFO")]
    pub expect: Option<String>,

    /// What tells look-alikes apart.
    #[command(flatten)]
    pub context: ContextArgs,
}

/// Options of `pgwhy diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Of two captures: the last success in one against the first failure in the other, whichever has it; where both \
have only one kind, the last of each. Of one capture: its last success against its last failure. Exit code: \
0 if they don't differ, 1 if they do, 2 if there is nothing to compare.

Examples:
  pgwhy diff pgadmin.pcap prisma.pcap           works there, fails here
  pgwhy diff both.pcap --user app               of app: the last that worked, the last that failed")]
pub struct DiffArgs {
    /// A capture (pcap or pcapng); - is standard input
    #[arg(value_name = "A")]
    pub a: PathBuf,

    /// Another one [default: the same]
    #[arg(value_name = "B")]
    pub b: Option<PathBuf>,

    /// Only logins of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// A server's port: everything that happens there counts, also what is not PostgreSQL's; repeatable
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,

    /// Keys of TLS connections in the capture (SSLKEYLOGFILE): they are opened with them
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,

    /// The connection string that the client should have used: its password is held against what was sent
    #[arg(long, value_name = "CONNINFO")]
    pub expect: Option<String>,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Options of `pgwhy report`.
#[derive(Debug, Args)]
#[command(after_help = "\
The page is one file that needs no network and runs no script. Failed logins come first. Passwords, proofs and \
tokens are not on it, also where the capture holds them; names, addresses and the server's messages are. Exit \
code: 0 written, 2 if a file can't be read.

Examples:
  pgwhy report login.pcapng -o report.html      a page to attach
  pgwhy report login.pcapng -o report.md        the same to paste into an issue
  pgwhy report --failed --user app *.pcapng -o app.html")]
pub struct ReportArgs {
    /// Captures (pcap or pcapng); - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Where to write: .html or .md [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Which form [default: as the name of --output says; else markdown on a terminal, html otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PageFormat>,

    /// Which logins, and what is known around them.
    #[command(flatten)]
    pub choice: ChoiceArgs,
}

/// `--format` of `pgwhy report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PageFormat {
    /// A page for a browser
    Html,
    /// Text for an issue tracker
    #[value(alias = "md")]
    Markdown,
}

/// Options of `pgwhy replay`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("side").required(true).args(["to", "listen"]))]
#[command(after_help = "\
A login that was encrypted can't be played. Exit code: 0 as recorded (or as far as a secret was needed), \
1 it went otherwise, 2 usage.

Examples:
  pgwhy replay x.pcapng --to 127.0.0.1:5432        does the server still answer like that?
  pgwhy replay x.pcapng --listen 127.0.0.1:6432    does the driver still fail like that?")]
pub struct ReplayArgs {
    /// A capture (pcap or pcapng); - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Play the client: send what it sent to this server, as far as no secret is needed
    #[arg(long, value_name = "ADDR")]
    pub to: Option<String>,

    /// Play the server: wait here for a client, and answer it as the server answered
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,

    /// Which login: its id, or its number as `pgwhy show` has it [default: the first that failed]
    #[arg(long, value_name = "ID")]
    pub login: Option<String>,

    /// A file whose first line is the password: SCRAM is computed anew with it
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// End after one client
    #[arg(long, requires = "listen")]
    pub once: bool,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Options of `pgwhy demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory of a PostgreSQL's programs (initdb, postgres) [default: looked for, else fetched]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
}

/// No other PostgreSQL tool's usual port.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7432";

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 60s or 500ms"))
}

fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("no login can be that fast; write for example 60s or 500ms".into()),
        time => Ok(time),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("at least 1".into()),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Err("it is too large".into()),
        number => number.map_err(|_| "not a whole number".into()),
    }
}

/// The id of a cause. Completions get all of them; a message about a wrong one only those alike.
#[derive(Clone)]
struct CauseId;

impl TypedValueParser for CauseId {
    type Value = Cause;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let all = PossibleValuesParser::new(Cause::ALL.iter().map(|cause| cause.id()));
        let unknown = |mut error: clap::Error| {
            error.remove(ContextKind::ValidValue);
            let tip = "`pgwhy explain` alone lists all of them".into();
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            error
        };
        let id = all.parse_ref(command, arg, value).map_err(unknown)?;
        Cause::from_id(&id).ok_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidValue))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Cause::ALL.iter().map(|cause| PossibleValue::new(cause.id()))))
    }
}

/// What is said about a command line that can't be read, without any word of it that may hold a
/// password; `None` where the words are harmless.
pub(super) fn without_secrets(complaint: &str, arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let mut text = complaint.to_owned();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let value = match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => value,
            _ => &*argument,
        };
        if may_hold_password(value) {
            text = text.replace(value, "…");
        }
    }
    (text != complaint).then(|| {
        text + "\nA connection string (not shown here) is given with --upstream:\n  \
                pgwhy proxy --upstream \"$DATABASE_URL\"\n"
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_complaint_shows_no_connection_string() {
        let words = ["pgwhy", "proxy", "--format=postgres://u:hunter2@h/d"].map(Into::into);
        let said = super::without_secrets("invalid value 'postgres://u:hunter2@h/d'", words.into_iter());
        let said = said.unwrap_or_default();
        assert!(said.starts_with("invalid value '…'") && !said.contains("hunter2"), "{said}");
        assert_eq!(super::without_secrets("unexpected '--x'", ["--x".into()].into_iter()), None);
        assert!(!super::may_hold_password("password_mismach"), "a cause's id may be shown");
    }
}
