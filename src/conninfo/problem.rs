//! What is wrong with a connection string: where, and how to mend it.

use std::fmt;

pub use crate::severity::Severity;

/// One finding. Neither text ever quotes a password, or anything that might be a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A variant id of the cause `url_invalid`, or `host_invalid`, `port_invalid`, `syntax`, `service`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The byte at fault, counted from 1; 0 when the text itself is not at fault (the environment is).
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(
        id: &'static str,
        severity: Severity,
        column: usize,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { id, severity, column, message: message.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            0 => write!(f, "{}: {}", self.message, self.fix),
            column => write!(f, "{} (column {column}): {}", self.message, self.fix),
        }
    }
}

/// No upstream can be read from the text: the problem that prevents it, after those found before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConninfoError {
    /// What prevents it.
    pub problem: Problem,
    /// What was found, and tolerated, before.
    pub before: Vec<Problem>,
}

impl ConninfoError {
    /// An error at a byte (from 1) of the text.
    pub(super) fn at(
        id: &'static str,
        column: usize,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { problem: Problem::new(id, Severity::Error, column, message, fix), before: Vec::new() }
    }
}

/// The byte (from 1) of `whole` at which `part`, a slice of it, begins.
pub(super) fn column(whole: &str, part: &str) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr()).min(whole.len()) + 1
}
