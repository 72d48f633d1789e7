//! What is wrong in a file: where, how bad, and how to mend it.

use std::fmt;
use std::sync::Arc;

pub use crate::severity::Severity;

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name as it was opened.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line, from 1; 0 when the file itself is meant.
    pub column: usize,
    /// How many bytes, on this line.
    pub length: usize,
}

/// One finding. No text of it quotes a password, and neither do the sources of an
/// [`HbaFile`](super::HbaFile).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem: a short stable name.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(
        id: &'static str,
        severity: Severity,
        place: &Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { id, severity, place: place.clone(), message: message.into(), fix: fix.into() }
    }

    /// A problem because of which PostgreSQL refuses the file.
    pub(super) fn error(
        id: &'static str,
        place: &Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Error, place, message, fix)
    }

    pub(super) fn warning(
        id: &'static str,
        place: &Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Warning, place, message, fix)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, column, .. } = &self.place;
        write!(f, "{file}:{line}:{column}: {}: {}", self.severity.as_str(), self.message)
    }
}
