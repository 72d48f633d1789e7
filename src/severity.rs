//! How bad a problem of a text is: of a connection string, a `.env` file, a pg_hba.conf.

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It may not do what its author meant, or not for every reader.
    Warning,
    /// It does not do what its author meant, is refused, or opens a door.
    Error,
}

impl Severity {
    /// `error`, `warning` or `info`, as reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
