//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Says exactly why a PostgreSQL login failed.
#[derive(Debug, Parser)]
#[command(name = "pgwhy", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  pgwhy demo                                   see it work: a dozen logins that fail
  pgwhy proxy --upstream \"$DATABASE_URL\"       then point the application at 127.0.0.1:7432
  pgwhy explain password_mismatch              the page of one cause")]
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
    /// Print the page of one cause: what happens on the wire, look-alikes, fixes
    Explain {
        /// The id of a cause, as in a report; without one, all of them are listed
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(cause_ids()), hide_possible_values = true)]
        cause: Option<String>,
    },
    /// Bring up a throw-away PostgreSQL and a proxy, and explain a dozen logins that fail
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// Options of `pgwhy proxy`.
#[derive(Debug, Args)]
#[command(after_help = "\
The connection string may be a URL, key=value words, host:port, or a socket directory. Its password is
never sent anywhere: it is only held against what clients send, to say how theirs differs.
Reports go to standard output, the program's own log to standard error (PGWHY_LOG=debug for more).
SIGTERM drains: no new connections, running ones go on until --drain-timeout; a second one ends.")]
pub struct ProxyArgs {
    /// Where clients connect: host:port (port 0 takes a free one) or the path of a Unix socket; repeatable
    #[arg(long, short, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    pub listen: Vec<String>,

    /// The server: any connection string [default: DATABASE_URL, from the environment or ./.env]
    #[arg(long, short, value_name = "CONNINFO")]
    pub upstream: Option<String>,

    /// What to do when a client asks for TLS
    #[arg(long, value_enum, default_value_t = ClientTls::Auto, value_name = "MODE")]
    pub client_tls: ClientTls,

    /// A file whose first line is the password that clients should send
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Which connections to report
    #[arg(long, value_enum, default_value_t = Show::All, value_name = "WHICH")]
    pub show: Show,

    /// From accept to ReadyForQuery
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub login_timeout: Duration,

    /// How long running sessions may go on after SIGTERM
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub drain_timeout: Duration,

    /// Client connections at a time [default: what the limit of open files allows]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,

    /// Logins under way at a time
    #[arg(long, value_name = "N")]
    pub max_unfinished: Option<usize>,

    /// Logins under way at a time from one address
    #[arg(long, value_name = "N")]
    pub max_unfinished_per_address: Option<usize>,

    /// Threads that carry established sessions [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Options of `pgwhy demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory of a PostgreSQL's programs (initdb, postgres) [default: looked for, else fetched]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
}

/// `--client-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientTls {
    /// Open TLS where that can't break a login, pass it through where it might (this version: always through)
    Auto,
    /// Never opened: only the outside of an encrypted login is seen
    Passthrough,
    /// Answer N: clients that allow plaintext are seen whole
    Disable,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Human,
    /// One JSON object a line
    Json,
}

/// `--show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Every connection
    All,
    /// Only logins that failed
    Failed,
}

/// No other PostgreSQL tool's usual port.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7432";

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 60s or 500ms"))
}

fn cause_ids() -> Vec<&'static str> {
    crate::diagnose::Cause::ALL.iter().map(|cause| cause.id()).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
