//! The program: command line, sessions, demo.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::diagnose::Cause;

pub mod cli;
pub mod config;
mod demo;
mod desk;
pub mod follow;
mod output;
mod proxy;

use cli::{Cli, Command};

/// Runs the program and returns its exit code: 0 well, 1 it failed, 2 it was asked wrongly.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let result = match cli.command {
        Command::Proxy(args) => proxy::run(&args),
        Command::Explain { cause } => explain(cause.as_deref()),
        Command::Demo(args) => demo::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pgwhy", &mut io::stdout());
            Ok(())
        }
        Command::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut io::stdout()).map_err(Failure::from)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pgwhy: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
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
    let filter = tracing_subscriber::EnvFilter::try_from_env("PGWHY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colour = output::wants_colour(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).init();
}

fn explain(cause: Option<&str>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match cause.and_then(Cause::from_id) {
        Some(cause) => out.write_all(cause.page().as_bytes()),
        None => Cause::ALL.iter().try_for_each(|cause| writeln!(out, "{:<34} {}", cause.id(), cause.title())),
    };
    match written {
        // `pgwhy explain | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::from),
    }
}
