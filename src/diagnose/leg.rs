//! The sides of a login.

/// Whose side a cause is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The application, its driver or its settings.
    Client,
    /// The database, its settings, or what stands in front of it.
    Server,
    /// Ourselves.
    Proxy,
}

impl Leg {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
        }
    }
}
