//! `pg_hba.conf` and `pg_ident.conf` as PostgreSQL 12 to 18 read them: parse, decide, lint.
//!
//! Nothing here touches a disk, a resolver or a catalog. Files come through [`Files`], everything else that
//! decides through [`World`]; what is not known makes an answer uncertain and is named in it.
//!
//! ```
//! use pgwhy::hba::{self, Connection, Server, Verdict, World};
//!
//! let file = hba::parse_text("pg_hba.conf", "host all all 10.0.0.0/8 reject", &Server::of_version(18));
//! let from = Connection {
//!     address: Some("10.1.2.3".parse()?),
//!     user: "joe".into(),
//!     database: "shop".into(),
//!     ..Connection::default()
//! };
//! assert_eq!(hba::decide(&file, &from, &World::default()).verdict, Verdict::Reject);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

mod address;
mod are;
mod conn_type;
mod decide;
mod ident;
mod lint;
mod method;
mod options;
mod problem;
mod rule;
mod shadow;
mod source;
#[cfg(test)]
mod tests;
mod token;
mod view;
mod world;

pub use address::Address;
pub use are::Are;
pub use conn_type::ConnType;
pub use decide::{Because, Decision, Verdict, decide};
pub use ident::{IdentFile, MapDecision, Mapping, NotMapped, parse_ident};
pub use lint::lint;
pub use method::{Method, Server};
pub use options::{ClientCert, HbaOption};
pub use problem::{Place, Problem, Severity};
pub use rule::{Pattern, Rule, RuleRef};
pub use source::Source;
pub use token::Token;
pub use view::{ViewRow, from_view};
pub use world::{ClientName, Connection, Interface, Kind, Missing, Replication, Roles, World};

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// It is not there.
    pub missing: bool,
    /// It is a directory.
    pub directory: bool,
    /// In words.
    pub text: String,
}

impl FileError {
    /// An error in words; the file may be there.
    pub fn new(text: impl Into<String>) -> Self {
        Self { missing: false, directory: false, text: text.into() }
    }

    /// There is no such file.
    pub fn missing() -> Self {
        Self { missing: true, directory: false, text: "there is no such file".to_owned() }
    }

    /// A directory stands where a file is wanted.
    pub fn directory() -> Self {
        Self { missing: false, directory: true, text: "this is a directory".to_owned() }
    }
}

impl From<&std::io::Error> for FileError {
    fn from(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::missing(),
            std::io::ErrorKind::IsADirectory => Self::directory(),
            _ => Self::new(error.to_string()),
        }
    }
}

/// Where the files' contents come from.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// Reads a file.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, FileError>,
    /// The names (not paths) of the files in a directory, in any order, for `include_dir`.
    pub list: &'a dyn Fn(&Path) -> Result<Vec<String>, FileError>,
}

impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

/// A `pg_hba.conf`, read.
#[derive(Clone, Debug, Default)]
pub struct HbaFile {
    /// The version by whose rules it was read.
    pub version: u32,
    /// The lines that PostgreSQL accepts, in order, with those of included files where they stand.
    pub rules: Vec<Rule>,
    /// The lines that it refuses.
    pub refused: Vec<RuleRef>,
    /// What is wrong. A problem stands where the mistake is: in an `@file`, or on a continued line.
    pub problems: Vec<Problem>,
    /// Whether PostgreSQL takes the file. One wrong line, or none at all, and it keeps the rules it had (or
    /// does not start).
    pub would_load: bool,
    /// The files it was read from.
    pub sources: Vec<Source>,
}

impl HbaFile {
    /// The rule that a decision names.
    pub fn rule(&self, at: &RuleRef) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.at == *at)
    }

    /// The text of the line that a place is on, without secrets.
    pub fn text(&self, place: &Place) -> Option<&str> {
        self.sources.iter().find(|source| source.name == place.file)?.line(place.line)
    }
}

/// Reads `pg_hba.conf` and what it includes (PostgreSQL: `load_hba`). There is no text that it refuses:
/// every line gives a rule or a problem.
pub fn parse(path: &Path, files: &Files<'_>, server: &Server) -> HbaFile {
    let mut reader = token::Reader::new(files, server.version);
    let mut file = HbaFile { version: server.version, would_load: true, ..HbaFile::default() };
    match reader.read(path) {
        Ok(lines) => {
            for mut line in lines {
                let read = match line.error.take() {
                    Some(problem) => Err(problem),
                    None => Rule::parse(&line, server, &mut file.problems),
                };
                match read {
                    Ok(rule) => file.rules.push(rule),
                    Err(problem) => {
                        file.problems.push(problem);
                        file.refused.push(RuleRef { file: line.place.file, line: line.place.line });
                        file.would_load = false;
                    }
                }
            }
        }
        Err(problem) => {
            file.problems.push(problem);
            file.would_load = false;
        }
    }
    file.problems.append(&mut reader.warnings);
    if file.would_load && file.rules.is_empty() {
        let name = path.to_string_lossy();
        let place = Place { file: name.as_ref().into(), line: 1, column: 0, length: 0 };
        let message = "the file has no line that counts: PostgreSQL refuses it";
        let fix = "add a line, for example: local all postgres peer";
        file.problems.push(Problem::error("no_entries", &place, message, fix));
        file.would_load = false;
    }
    file.sources = reader.sources;
    file
}

/// Reads one text that includes nothing: its inclusions are problems.
pub fn parse_text(name: &str, text: &str, server: &Server) -> HbaFile {
    let top = PathBuf::from(name);
    let read = |path: &Path| match path == top {
        true => Ok(text.as_bytes().to_vec()),
        false => Err(FileError::missing()),
    };
    parse(&top, &Files { read: &read, list: &|_| Err(FileError::missing()) }, server)
}
