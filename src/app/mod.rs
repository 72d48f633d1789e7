//! The program: command line, sessions, demo.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use crate::diagnose::Cause;

pub mod admin;
mod baseline;
pub mod ca;
pub mod capture;
mod clerk;
pub mod cli;
mod conceal;
pub mod config;
mod demo;
mod desk;
mod dials;
mod diff;
pub mod follow;
pub mod hba;
mod history;
mod judging;
mod logins;
mod output;
mod proxy;
mod replay;
mod report;
mod show;
mod sources;
mod stderr;
mod successes;
pub mod tls;
mod tray;

use cli::{Cli, Command};

/// Runs the program and returns its exit code: 0 well, 1 it failed, 2 it was asked wrongly.
pub fn main() -> ExitCode {
    let code = run();
    stderr::settle();
    code
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    log_to_stderr();
    let result = match cli.command {
        Command::Hba(args) => return hba::run(&args).unwrap_or_else(|failure| fail(&failure)),
        Command::Show(args) => return show::run(&args).unwrap_or_else(|failure| fail(&failure)),
        Command::Diff(args) => return diff::run(&args).unwrap_or_else(|failure| fail(&failure)),
        Command::Report(args) => return report::run(&args).unwrap_or_else(|failure| fail(&failure)),
        Command::Replay(args) => return replay::run(&args).unwrap_or_else(|failure| fail(&failure)),
        Command::Proxy(args) => proxy::run(&args),
        Command::Explain { cause } => print(explain(cause).as_bytes()),
        Command::Ca(args) => ca::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pgwhy", &mut script);
            print(&script)
        }
        Command::Man { command } => man(command.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    stderr::say(&failure.text);
    ExitCode::from(failure.code)
}

/// Why the program ends, in words that name what to change.
#[derive(Debug)]
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// It was asked wrongly.
    fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }

    /// It could not be done.
    fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

fn log_to_stderr() {
    let filter = match std::env::var("PGWHY_LOG") {
        Ok(text) => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            stderr::say(format_args!("PGWHY_LOG: {error}; write for example debug or pgwhy=trace"));
            EnvFilter::new("warn")
        }),
        Err(_) => EnvFilter::new("warn"),
    };
    let colour = output::wants_colour(&io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| stderr::Log)
        .with_ansi(colour)
        .log_internal_errors(false)
        .init();
}

/// Help and version come here too: clap calls them errors that go to standard output.
fn not_understood(error: &clap::Error) -> ExitCode {
    let safe = cli::without_secrets(&error.render().to_string(), std::env::args_os());
    // Nobody is left to be told when standard output is closed.
    match safe {
        Some(text) if error.use_stderr() => stderr::write(text),
        _ => drop(error.print()),
    }
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn explain(cause: Option<Cause>) -> String {
    match cause {
        Some(cause) => cause.page().to_owned(),
        None => Cause::ALL.iter().map(|cause| format!("{:<34} {}\n", cause.id(), cause.title())).collect(),
    }
}

fn man(command: Option<&str>) -> Result<(), Failure> {
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => program.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("there is no command {name:?}; `pgwhy --help` lists them"))
        })?,
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff)?;
    print(&roff)
}

/// Writes to standard output. `pgwhy explain | head` is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::failed(format!("standard output: {error}"))),
    }
}
