//! Where reports go, and in which dress.

use std::io::IsTerminal;

use clap::ValueEnum;

use crate::diagnose::Outcome;
use crate::report::Report;
use crate::report::human::{Style, render};
use crate::report::json;

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

/// How this run reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress {
    format: Format,
    show: Show,
    style: Style,
}

impl Dress {
    /// What was asked for, or what fits standard output.
    pub(super) fn new(format: Option<Format>, show: Show) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let format = format.unwrap_or(if terminal { Format::Human } else { Format::Json });
        let style = Style { colour: wants_colour(&std::io::stdout()), ..Style::default() };
        Self { format, show, style }
    }

    /// The format that was asked for, or that fits standard output.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The line that says where clients can connect.
    pub(super) fn listening(&self, addr: &str, upstream: &str, through: Option<&str>) -> String {
        match (self.format, through) {
            (Format::Json, _) => json::listening(addr) + "\n",
            (Format::Human, None) => format!("listening on {addr}, in front of {upstream}\n"),
            (Format::Human, Some(through)) => {
                format!("listening on {addr}, in front of {upstream}\npoint the application at {through}\n")
            }
        }
    }

    /// A report, or nothing where it was not asked for.
    pub(super) fn report(&self, report: &Report) -> Option<String> {
        if self.show == Show::Failed && report.diagnosis.outcome != Outcome::Failed {
            return None;
        }
        Some(match self.format {
            Format::Json => json::handshake(report) + "\n",
            Format::Human => render(report, self.style),
        })
    }
}

/// A number and what it counts.
pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Colour only on a terminal, and never when NO_COLOR is set (no-color.org).
pub(super) fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
