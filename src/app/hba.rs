//! `pgwhy hba`: which line of pg_hba.conf decides, or what is wrong with the file.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::output::Format;
use super::{Failure, output};
use crate::diagnose::admin::AdminFacts;
use crate::diagnose::rules::learn_memberships;
use crate::hba::{
    self, ClientCert, ClientName, Connection, Decision, FileError, Files, HbaFile, IdentFile, Interface,
    Kind, MapDecision, Problem, Replication, Severity, Source, Verdict, World,
};
use crate::report::escape::visible;

/// Options of `pgwhy hba`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a connection the file is looked through for mistakes. With one, the deciding line is printed, \
and for each line before it why it did not match. What would have to be known to be certain (members \
of roles, the name of the client's address) is asked for by name. Exit code: 0 nothing wrong, 1 a mistake or a login refused, 2 asked wrongly.

Examples:
  pgwhy hba /etc/postgresql/16/main/pg_hba.conf --pg-version 16
  pgwhy hba pg_hba.conf --addr 10.0.0.7 --user app --database shop --tls
  pgwhy hba pg_hba.conf --addr local --user app --member staff=app,joe")]
pub struct HbaArgs {
    /// pg_hba.conf, or - for standard input; files that it includes are read, too
    pub file: PathBuf,

    /// pg_ident.conf, the user name maps
    #[arg(long, value_name = "FILE")]
    pub ident: Option<PathBuf>,

    /// The server's major version: they read the file differently
    #[arg(long, value_name = "N", default_value_t = 18, value_parser = clap::value_parser!(u32).range(12..=19))]
    pub pg_version: u32,

    /// The client's address as the server sees it, or «local» for the Unix socket
    #[arg(long, value_name = "ADDR", requires = "user", value_parser = address)]
    pub addr: Option<ClientAddr>,

    /// The user who logs in
    #[arg(long, value_name = "NAME", requires = "addr")]
    pub user: Option<String>,

    /// The database [default: the user's name, as servers do]
    #[arg(long, value_name = "NAME", requires = "addr")]
    pub database: Option<String>,

    /// The connection is encrypted with TLS
    #[arg(long, requires = "addr", conflicts_with = "gss")]
    pub tls: bool,

    /// The connection is encrypted with GSSAPI
    #[arg(long, requires = "addr")]
    pub gss: bool,

    /// A replication connection
    #[arg(long, value_enum, requires = "addr", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "KIND")]
    pub replication: Option<ReplicationArg>,

    /// The members of a role, for +role and samerole; repeatable
    #[arg(long, value_name = "ROLE=USER,USER…", value_parser = member)]
    pub member: Vec<(String, Vec<String>)>,

    /// A connection of an administrator, asked which roles the user is a member of
    #[arg(long, value_name = "CONNINFO", requires = "addr")]
    pub admin: Option<String>,

    /// The name that the server's resolver finds for the client's address, for lines with a host name
    #[arg(long, value_name = "NAME", requires = "addr")]
    pub client_name: Option<String>,

    /// An address of the server with its network, for samehost and samenet; repeatable
    #[arg(long, value_name = "ADDR/BITS", value_parser = interface)]
    pub interface: Vec<Interface>,

    /// Whether the server has TLS (ssl in postgresql.conf)
    #[arg(long, value_enum, value_name = "on|off")]
    pub server_tls: Option<OnOff>,

    /// The name outside of PostgreSQL (operating system, certificate, Kerberos), for the user name map
    #[arg(long, value_name = "NAME", requires = "addr")]
    pub system_user: Option<String>,

    /// How to report [default: human on a terminal, json otherwise]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `--addr`.
#[derive(Clone, Copy, Debug)]
pub enum ClientAddr {
    /// The Unix socket.
    Local,
    /// TCP.
    Ip(IpAddr),
}

/// `--replication`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReplicationArg {
    /// Physical replication
    True,
    /// Logical replication
    Database,
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the words say it")]
pub enum OnOff {
    On,
    Off,
}

fn address(text: &str) -> Result<ClientAddr, String> {
    if matches!(text, "local" | "unix" | "socket" | "[local]") {
        return Ok(ClientAddr::Local);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .map(ClientAddr::Ip)
        .map_err(|_| "write an IP address, or local for the Unix socket".to_owned())
}

fn member(text: &str) -> Result<(String, Vec<String>), String> {
    let (role, users) = text.split_once('=').ok_or("write ROLE=USER,USER")?;
    let users = users.split(',').filter(|user| !user.is_empty()).map(str::to_owned).collect();
    Ok((role.trim_start_matches('+').to_owned(), users))
}

fn interface(text: &str) -> Result<Interface, String> {
    Interface::from_cidr(text)
        .ok_or_else(|| "write an address and its network's length: 10.0.0.5/24".to_owned())
}

/// Runs the command; the exit code is its verdict.
pub(super) fn run(args: &HbaArgs) -> Result<ExitCode, Failure> {
    let top =
        contents(&args.file).map_err(|error| Failure::usage(format!("{}: {error}", args.file.display())))?;
    let mut server = hba::Server::of_version(args.pg_version);
    server.ssl = args.server_tls.map(|word| word == OnOff::On);
    // A pipe can be read once only.
    let once = |path: &Path| if path == args.file { Ok(top.clone()) } else { read(path) };
    let files = Files { read: &once, list: &list };
    let file = hba::parse(&args.file, &files, &server);
    let ident = args.ident.as_deref().map(|path| hba::parse_ident(path, &files, &server));
    let facts = administrator(args)?;
    let decided = connection(args).map(|connection| {
        let mut world = world(args);
        if let Some(facts) = &facts {
            learn_memberships(&mut world.roles, &file, Some(connection.database.clone()), facts);
        }
        let decision = hba::decide(&file, &connection, &world);
        let mapped =
            ident.as_ref().and_then(|ident| mapped(args, &file, ident, &connection, &decision, &world));
        Decided { connection, decision, mapped }
    });
    let mut findings = match &decided {
        // What stops the file from loading matters to every connection; the rest was not asked for.
        Some(_) => file.problems.iter().filter(|p| p.severity == Severity::Error).cloned().collect(),
        None => {
            let mut later = server.clone();
            later.version += 1;
            let next = hba::parse(&args.file, &files, &later);
            hba::lint(&file, &server, Some(&next))
        }
    };
    findings.extend(ident.iter().flat_map(|ident| ident.problems.clone()));
    let report = Report { args, file: &file, ident: ident.as_ref(), findings, decided };
    let human = match args.format {
        Some(format) => format == Format::Human,
        None => io::stdout().is_terminal(),
    };
    let text = if human { report.human() } else { report.json().to_string() + "\n" };
    super::print(text.as_bytes())?;
    Ok(if report.fails() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The file's bytes, or standard input's for `-`.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match path == Path::new("-") {
        true => io::stdin().lock().read_to_end(&mut bytes)?,
        false => std::fs::File::open(path)?.read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::from(&error))
}

fn list(path: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| FileError::from(&error))? {
        let entry = entry.map_err(|error| FileError::from(&error))?;
        if !entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn connection(args: &HbaArgs) -> Option<Connection> {
    let (addr, user) = (args.addr?, args.user.clone()?);
    let (kind, address) = match addr {
        ClientAddr::Local => (Kind::Local, None),
        ClientAddr::Ip(address) => (Kind::Tcp, Some(address)),
    };
    Some(Connection {
        kind,
        address,
        database: args.database.clone().unwrap_or_else(|| user.clone()),
        user,
        tls: args.tls,
        gss: args.gss,
        replication: match args.replication {
            None => Replication::None,
            Some(ReplicationArg::True) => Replication::Physical,
            Some(ReplicationArg::Database) => Replication::Database,
        },
    })
}

fn world(args: &HbaArgs) -> World {
    let mut world = World::default();
    for (role, users) in &args.member {
        world.roles.members.entry(role.clone()).or_default().extend(users.iter().cloned());
    }
    if let (Some(name), Some(ClientAddr::Ip(address))) = (&args.client_name, args.addr) {
        // Who gives the name vouches for both lookups.
        let addresses = Some(vec![address.to_canonical()]);
        world.client_name = ClientName::Named { name: name.clone(), addresses };
    }
    world.interfaces = (!args.interface.is_empty()).then(|| args.interface.clone());
    world
}

/// What the server says about the role. Where it says nothing, that is told, and the answer without it is less
/// certain.
fn administrator(args: &HbaArgs) -> Result<Option<Arc<AdminFacts>>, Failure> {
    let (Some(text), Some(user)) = (&args.admin, &args.user) else { return Ok(None) };
    let admin = Admin::new(text).map_err(|problem| Failure::usage(format!("--admin: {problem}")))?;
    Ok(admin.ask(user, args.database.as_deref().unwrap_or_default(), admin::DEADLINE).ok())
}

fn mapped(
    args: &HbaArgs,
    file: &HbaFile,
    ident: &IdentFile,
    connection: &Connection,
    decision: &Decision,
    world: &World,
) -> Option<MapDecision> {
    let rule = file.rule(decision.line.as_ref()?)?;
    let system_user = args.system_user.as_deref()?;
    Some(ident.check(rule.option("map"), &connection.user, system_user, false, world))
}

/// What `--addr` asked for.
struct Decided {
    connection: Connection,
    decision: Decision,
    mapped: Option<MapDecision>,
}

struct Report<'a> {
    args: &'a HbaArgs,
    file: &'a HbaFile,
    ident: Option<&'a IdentFile>,
    findings: Vec<Problem>,
    decided: Option<Decided>,
}

impl Report<'_> {
    fn fails(&self) -> bool {
        let refused = self.decided.as_ref().is_some_and(|decided| {
            decided.decision.verdict.refuses() || decided.mapped.as_ref().is_some_and(|map| !map.allowed)
        });
        refused || self.findings.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn json(&self) -> Value {
        let finding = |problem: &Problem| {
            json!({
                "id": problem.id, "severity": problem.severity.as_str(), "file": problem.place.file.as_ref(),
                "line": problem.place.line, "column": problem.place.column, "length": problem.place.length,
                "message": problem.message, "fix": problem.fix,
            })
        };
        let mut value = json!({
            "event": "lint", "schema": 1,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "pg_version": self.file.version, "rules": self.file.rules.len(), "would_load": self.file.would_load,
        });
        if let Some(decided) = &self.decided {
            value["decision"] = self.decision_json(decided);
        }
        value
    }

    fn decision_json(&self, decided: &Decided) -> Value {
        let decision = &decided.decision;
        let rule = decision.line.as_ref().and_then(|at| self.file.rule(at));
        let passed = decision.passed_over.iter().map(|(at, because)| {
            json!({"file": at.file.as_ref(), "line": at.line, "because": because.to_string()})
        });
        let mut value = json!({
            "line": decision.line.as_ref().map(|at| at.line),
            "file": decision.line.as_ref().map(|at| at.file.as_ref()),
            "method": rule.map(|rule| rule.method.as_str()),
            "verdict": decision.verdict.as_str(),
            "client_cert": match decision.client_cert {
                ClientCert::Off => None,
                ClientCert::VerifyCa => Some("verify-ca"),
                ClientCert::VerifyFull => Some("verify-full"),
            },
            "passed_over": passed.collect::<Vec<_>>(),
            "certain": decision.certain,
            "missing": decision.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "could_be": decision.could_be.iter().map(|at| json!({"file": at.file.as_ref(), "line": at.line})).collect::<Vec<_>>(),
        });
        if let Some(mapped) = &decided.mapped {
            let passed = mapped.passed_over.iter().map(|(at, because)| {
                json!({"file": at.file.as_ref(), "line": at.line, "because": because.to_string()})
            });
            value["ident"] = json!({
                "allowed": mapped.allowed,
                "line": mapped.line.as_ref().map(|at| at.line),
                "passed_over": passed.collect::<Vec<_>>(),
                "missing": mapped.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
            });
        }
        value
    }

    fn human(&self) -> String {
        let mut out = String::new();
        for problem in &self.findings {
            let sources = self.file.sources.iter().chain(self.ident.iter().flat_map(|ident| &ident.sources));
            out.push_str(&picture(problem, sources));
            out.push('\n');
        }
        match &self.decided {
            Some(decided) => self.decision_human(decided, &mut out),
            None => self.summary(&mut out),
        }
        out
    }

    fn summary(&self, out: &mut String) {
        let count = |severity| {
            let found = self.findings.iter().filter(|problem| problem.severity == severity).count();
            u64::try_from(found).unwrap_or_default()
        };
        let (errors, warnings, infos) =
            (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
        let verdict = match self.file.would_load {
            true => "would load it",
            false => "would refuse the whole file, and keep the rules it has",
        };
        let lines = self.file.rules.len();
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "{}: {}, {}, {}, {}. PostgreSQL {} {verdict}.",
            visible(&self.args.file.to_string_lossy()),
            match lines {
                1 => "1 line that counts".to_owned(),
                _ => format!("{lines} lines that count"),
            },
            output::counted(errors, "error"),
            output::counted(warnings, "warning"),
            output::counted(infos, "note"),
            self.file.version,
        );
    }

    fn decision_human(&self, decided: &Decided, out: &mut String) {
        let decision = &decided.decision;
        let _ = writeln!(out, "{}", visible(&described(&decided.connection)));
        let many = self.file.sources.len() > 1;
        let shown = |at: &hba::RuleRef| match many {
            true => visible(&at.to_string()),
            false => format!("line {}", at.line),
        };
        let raw = |at: &hba::RuleRef| visible(self.file.rule(at).map_or("", |rule| rule.raw.trim()));
        for (at, because) in &decision.passed_over {
            let mark = if decision.could_be.contains(at) { '?' } else { '·' };
            let _ =
                writeln!(out, "  {mark} {}  {}\n      {}", shown(at), raw(at), visible(&because.to_string()));
        }
        let mark = if decision.verdict.refuses() { '✗' } else { '✓' };
        match &decision.line {
            Some(at) => {
                let _ = writeln!(
                    out,
                    "  {mark} {}  {}\n      it matches: {}",
                    shown(at),
                    raw(at),
                    answer(decision)
                );
            }
            None => {
                let _ = writeln!(out, "  {mark} no line matches: the server answers «no pg_hba.conf entry»");
            }
        }
        if !decision.certain {
            let _ = writeln!(out, "not certain. To be certain, this must be known:");
            for fact in &decision.missing {
                let _ = writeln!(out, "  - {}{}", visible(&fact.to_string()), option_for(fact));
            }
        }
        if let Some(mapped) = &decided.mapped {
            self.map_human(mapped, out);
        }
    }

    fn map_human(&self, mapped: &MapDecision, out: &mut String) {
        for (at, because) in &mapped.passed_over {
            let _ = writeln!(out, "  · {}  {}", visible(&at.to_string()), visible(&because.to_string()));
        }
        let _ = match (&mapped.line, mapped.allowed) {
            (Some(at), _) => {
                writeln!(out, "  ✓ {}  the user name map lets this user in", visible(&at.to_string()))
            }
            (None, true) => writeln!(out, "  ✓ no map: the names are equal"),
            (None, false) => writeln!(out, "  ✗ the user name map does not let this user in"),
        };
        for fact in &mapped.missing {
            let _ = writeln!(out, "  - not known: {}{}", visible(&fact.to_string()), option_for(fact));
        }
    }
}

fn described(connection: &Connection) -> String {
    let from = match connection.address {
        Some(address) => format!("from {address}"),
        None => "over the Unix socket".to_owned(),
    };
    let encryption = match (connection.tls, connection.gss) {
        (true, _) => ", TLS",
        (_, true) => ", GSSAPI encryption",
        _ if connection.kind == Kind::Local => "",
        _ => ", no encryption",
    };
    let replication = match connection.replication {
        Replication::None => "",
        Replication::Physical => ", physical replication",
        Replication::Database => ", logical replication",
    };
    format!("{}@{} {from}{encryption}{replication}", connection.user, connection.database)
}

fn answer(decision: &Decision) -> String {
    let certificate = match decision.client_cert {
        ClientCert::Off => "",
        ClientCert::VerifyCa => ", and a client certificate is needed",
        ClientCert::VerifyFull => ", and a client certificate that names the user is needed",
    };
    match decision.verdict {
        Verdict::NoEntry => "the login is refused".to_owned(),
        Verdict::Reject => "the login is refused (reject)".to_owned(),
        Verdict::Trust => format!("the user is let in without a password (trust){certificate}"),
        Verdict::Asks(method) => format!("the server asks by {method}{certificate}"),
    }
}

/// How to give a missing fact.
fn option_for(fact: &hba::Missing) -> &'static str {
    match fact {
        hba::Missing::Membership(_) | hba::Missing::RoleExists(_) => "  (--member ROLE=USER,…, or --admin)",
        hba::Missing::ClientName | hba::Missing::NameAddresses(_) => "  (--client-name NAME)",
        hba::Missing::Interfaces => "  (--interface ADDR/BITS)",
        _ => "",
    }
}

/// The problem with its line and a caret under what is wrong.
fn picture<'a>(problem: &Problem, mut sources: impl Iterator<Item = &'a Source>) -> String {
    let place = &problem.place;
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level.primary_title(visible(&problem.message)).id(problem.id);
    let help = Level::HELP.message(visible(&problem.fix));
    let file = visible(&place.file);
    let source = sources.find(|source| source.name == place.file).and_then(|source| source.line(place.line));
    let group = match source.filter(|_| place.column > 0) {
        Some(text) => {
            let start = floor(text, place.column - 1);
            let end = floor(text, start + place.length).max(start);
            let snippet = Snippet::source(text.to_owned()).line_start(place.line).path(file);
            title.element(snippet.annotation(AnnotationKind::Primary.span(start..end))).element(help)
        }
        None => title.element(annotate_snippets::Origin::path(file)).element(help),
    };
    let renderer = match output::wants_colour(&io::stdout()) {
        true => Renderer::styled(),
        false => Renderer::plain(),
    };
    renderer.render(&[group]) + "\n"
}

/// The nearest character boundary at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
