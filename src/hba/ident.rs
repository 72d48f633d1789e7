//! `pg_ident.conf`: user name maps (PostgreSQL: `parse_ident_line`, `check_ident_usermap`,
//! `check_usermap`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::are::Are;
use super::decide;
use super::problem::{Place, Problem};
use super::rule::{Fields, Pattern, RuleRef, end_of, expression};
use super::source::Source;
use super::token::{Line, Reader, Token};
use super::world::{Missing, World};
use super::{Files, Server};

/// One line of a map.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Its file and line.
    pub at: RuleRef,
    /// All of it.
    pub place: Place,
    /// The map's name.
    pub map: String,
    /// The name outside of PostgreSQL.
    pub system_user: Token,
    /// What `/…` in its place stands for.
    pub system_regex: Option<Are>,
    /// The name in PostgreSQL.
    pub pg_user: Pattern,
}

/// A `pg_ident.conf`, read.
#[derive(Clone, Debug, Default)]
pub struct IdentFile {
    /// The version by whose rules it was read.
    pub version: u32,
    /// The lines of all maps, in order.
    pub mappings: Vec<Mapping>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Whether PostgreSQL takes the file: one wrong line, and it keeps the maps it had.
    pub would_load: bool,
    /// The files it was read from.
    pub sources: Vec<Source>,
}

/// Reads `pg_ident.conf` and what it includes. There is no text that it refuses.
pub fn parse_ident(path: &Path, files: &Files<'_>, server: &Server) -> IdentFile {
    let mut reader = Reader::new(files, server.version);
    let mut file = IdentFile { version: server.version, would_load: true, ..IdentFile::default() };
    match reader.read(path) {
        Ok(lines) => {
            for mut line in lines {
                let read = line.error.take().map_or_else(|| mapping(&line, server.version), Err);
                match read {
                    Ok(mapping) => file.mappings.push(mapping),
                    Err(problem) => file.problems.push(problem),
                }
            }
        }
        Err(problem) => file.problems.push(problem),
    }
    file.would_load = file.problems.is_empty();
    file.sources = reader.sources;
    file
}

fn mapping(line: &Line, version: u32) -> Result<Mapping, Problem> {
    let mut fields = Fields { fields: &line.fields, at: 0, end: end_of(line) };
    let map = fields.single("the map's name")?;
    let system_user = fields.single("the name outside of PostgreSQL")?;
    let pg_user = fields.single("the name in PostgreSQL")?;
    // Quotes make no difference here: "/x" is an expression, too.
    let system_regex =
        system_user.text.strip_prefix('/').map(|source| expression(source, system_user)).transpose()?;
    Ok(Mapping {
        at: RuleRef { file: Arc::clone(&line.place.file), line: line.place.line },
        place: line.place.clone(),
        map: map.text.clone(),
        system_user: system_user.clone(),
        system_regex,
        pg_user: Pattern::new(pg_user, version)?,
    })
}

/// Why a line of a map does not let a user in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMapped {
    /// It belongs to another map.
    OtherMap(String),
    /// It is about other system users.
    SystemUser(String),
    /// It leads to another role.
    PgUser(String),
    /// Its role field wants `\1`, but its expression has no such group: PostgreSQL stops here.
    NoGroup,
    /// A fact is missing.
    Unknown(Missing),
}

impl fmt::Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMap(map) => write!(f, "it belongs to the map {map}"),
            Self::SystemUser(user) => write!(f, "it is for {user}"),
            Self::PgUser(user) => write!(f, "it leads to the role {user}"),
            Self::NoGroup => f.write_str("\\1 stands for nothing: the expression has no such group"),
            Self::Unknown(fact) => write!(f, "not known: {fact}"),
        }
    }
}

/// Whether a map lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDecision {
    /// The names fit.
    pub allowed: bool,
    /// The line that says so; nothing without a map, or if none does.
    pub line: Option<RuleRef>,
    /// The lines before it, and why each does not.
    pub passed_over: Vec<(RuleRef, NotMapped)>,
    /// What would have to be known to be certain.
    pub missing: Vec<Missing>,
}

impl IdentFile {
    /// Whether the system user may log in as `pg_user`; without a map the names must be equal.
    /// `fold_case` is for GSSAPI and SSPI with `krb_caseins_users`.
    pub fn check(
        &self,
        map: Option<&str>,
        pg_user: &str,
        system_user: &str,
        fold_case: bool,
        world: &World,
    ) -> MapDecision {
        let mut decision =
            MapDecision { allowed: false, line: None, passed_over: Vec::new(), missing: Vec::new() };
        let Some(map) = map.filter(|map| !map.is_empty()) else {
            decision.allowed = equal(pg_user, system_user, fold_case);
            return decision;
        };
        if !self.would_load {
            decision.missing.push(Missing::FileRefused);
        }
        for mapping in &self.mappings {
            match mapping.check(map, pg_user, system_user, fold_case, self.version, world) {
                Ok(()) => {
                    decision.allowed = true;
                    decision.line = Some(mapping.at.clone());
                    break;
                }
                Err(because) => {
                    let stops = because == NotMapped::NoGroup;
                    if let NotMapped::Unknown(fact) = &because {
                        decision.missing.push(fact.clone());
                    }
                    decision.passed_over.push((mapping.at.clone(), because));
                    if stops {
                        break;
                    }
                }
            }
        }
        decision
    }
}

impl Mapping {
    fn check(
        &self,
        map: &str,
        pg_user: &str,
        system_user: &str,
        fold_case: bool,
        version: u32,
        world: &World,
    ) -> Result<(), NotMapped> {
        if self.map != map {
            return Err(NotMapped::OtherMap(self.map.clone()));
        }
        let target = self.pg_user.token.text.as_str();
        let mut special = version >= 16;
        let mut expanded = None;
        match &self.system_regex {
            None if equal(&self.system_user.text, system_user, fold_case) => {}
            None => return Err(NotMapped::SystemUser(self.system_user.written())),
            Some(regex) => {
                let unknown = || NotMapped::Unknown(Missing::Regex(regex.as_str().to_owned()));
                if !regex.is_match(system_user).ok_or_else(unknown)? {
                    return Err(NotMapped::SystemUser(self.system_user.written()));
                }
                let literal =
                    !special || (self.pg_user.token.group().is_none() && self.pg_user.regex.is_none());
                if literal && target.contains("\\1") {
                    let group = regex.first_group(system_user).ok_or_else(unknown)?.flatten();
                    let group = group.ok_or(NotMapped::NoGroup)?;
                    // A name made of a stranger's is only ever compared as it is.
                    special = false;
                    expanded = Some(target.replacen("\\1", &group, 1));
                }
            }
        }
        let name = expanded.as_deref().unwrap_or(target);
        let fits = match special && self.pg_user.is_special() {
            true => decide::user(&self.pg_user, pg_user, world).map_err(NotMapped::Unknown)?,
            false => equal(name, pg_user, fold_case),
        };
        if fits { Ok(()) } else { Err(NotMapped::PgUser(name.to_owned())) }
    }
}

impl Pattern {
    /// It is more than a name.
    fn is_special(&self) -> bool {
        self.regex.is_some() || self.token.group().is_some() || self.token.is_keyword("all")
    }
}

fn equal(a: &str, b: &str, fold_case: bool) -> bool {
    if fold_case { a.eq_ignore_ascii_case(b) } else { a == b }
}
