//! Which line decides a login, and why the earlier ones did not (PostgreSQL: `check_hba`, `check_db`,
//! `check_role`, `check_hostname`, `check_same_host_or_net`).

use std::fmt;
use std::net::IpAddr;

use super::HbaFile;
use super::address::{Address, in_range};
use super::conn_type::ConnType;
use super::method::Method;
use super::options::ClientCert;
use super::rule::{Pattern, Rule, RuleRef};
use super::world::{ClientName, Connection, Kind, Missing, Replication, World};

/// What the deciding line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No line matches: the login is refused.
    NoEntry,
    /// A `reject` line matches.
    Reject,
    /// The client is let in as whom it says it is.
    Trust,
    /// The client has to prove who it is.
    Asks(Method),
}

impl Verdict {
    /// `no_entry`, `reject`, `trust` or `asks`, as reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoEntry => "no_entry",
            Self::Reject => "reject",
            Self::Trust => "trust",
            Self::Asks(_) => "asks",
        }
    }

    /// The verdict of a line with this method.
    pub fn of(method: Method) -> Self {
        match method {
            Method::Reject => Self::Reject,
            Method::Trust => Self::Trust,
            method => Self::Asks(method),
        }
    }

    /// The login fails before anything is asked.
    pub fn refuses(self) -> bool {
        matches!(self, Self::NoEntry | Self::Reject)
    }
}

/// Why a line does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// A `local` line, and the client came over TCP.
    NotLocal,
    /// A `host…` line, and the client came over a Unix socket.
    NotTcp,
    /// The line wants TLS.
    NeedsTls,
    /// The line forbids TLS.
    ForbidsTls,
    /// The line wants GSSAPI encryption.
    NeedsGss,
    /// The line forbids GSSAPI encryption.
    ForbidsGss,
    /// The client's address is of the other family.
    Family(IpAddr, Address),
    /// The client's address is not in the line's range.
    Address(IpAddr, Address),
    /// The client's name is another one.
    HostName(Option<String>, String),
    /// The client's name does not lead back to its address.
    NotForward(String),
    /// None of the line's databases.
    Database(String, String),
    /// A physical replication connection matches the keyword `replication` only.
    NotReplication(String),
    /// None of the line's users.
    User(String, String),
    /// It might match: a fact is missing.
    Unknown(Vec<Missing>),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocal => f.write_str("it is for Unix sockets, the client came over TCP"),
            Self::NotTcp => f.write_str("it is for TCP, the client came over a Unix socket"),
            Self::NeedsTls => f.write_str("it wants TLS, the client uses none"),
            Self::ForbidsTls => f.write_str("it forbids TLS, the client uses it"),
            Self::NeedsGss => f.write_str("it wants GSSAPI encryption, the client uses none"),
            Self::ForbidsGss => f.write_str("it forbids GSSAPI encryption, the client uses it"),
            Self::Family(client, range) => {
                let (theirs, ours) = if client.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
                write!(f, "{client} is an {theirs} address, {range} holds {ours} addresses only")
            }
            Self::Address(client, Address::SameHost) => {
                write!(f, "{client} is no address of the server's machine")
            }
            Self::Address(client, Address::SameNet) => {
                write!(f, "{client} is in none of the server's networks")
            }
            Self::Address(client, range) => write!(f, "{client} is not in {range}"),
            Self::HostName(Some(name), wanted) => {
                write!(f, "the client's address has the name {name}, not {wanted}")
            }
            Self::HostName(None, wanted) => {
                write!(f, "the client's address has no name, so it can't be {wanted}")
            }
            Self::NotForward(name) => {
                write!(f, "the client's address has the name {name}, but {name} has other addresses")
            }
            Self::Database(name, list) => write!(f, "the database {name} is not in: {list}"),
            Self::NotReplication(list) => {
                write!(f, "a replication connection needs the keyword replication, not: {list}")
            }
            Self::User(name, list) => write!(f, "the user {name} is not in: {list}"),
            Self::Unknown(missing) => {
                f.write_str("not known: ")?;
                for (index, fact) in missing.iter().enumerate() {
                    write!(f, "{}{fact}", if index > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// What pg_hba.conf makes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The line that decides; nothing if none matches.
    pub line: Option<RuleRef>,
    /// What it asks for.
    pub verdict: Verdict,
    /// The certificate it wants as well.
    pub client_cert: ClientCert,
    /// The lines before it, and why each does not match.
    pub passed_over: Vec<(RuleRef, Because)>,
    /// False if a missing fact could make another line decide. Then `line` is the first that matches
    /// whatever the facts are.
    pub certain: bool,
    /// What would have to be known.
    pub missing: Vec<Missing>,
    /// The earlier lines that decide if the facts are so.
    pub could_be: Vec<RuleRef>,
}

/// Finds the line that decides.
pub fn decide(file: &HbaFile, connection: &Connection, world: &World) -> Decision {
    let seen = connection.as_seen();
    let mut decision = Decision {
        line: None,
        verdict: Verdict::NoEntry,
        client_cert: ClientCert::Off,
        passed_over: Vec::new(),
        certain: true,
        missing: Vec::new(),
        could_be: Vec::new(),
    };
    if !file.would_load {
        decision.missing.push(Missing::FileRefused);
    }
    for rule in &file.rules {
        let mut missing = Vec::new();
        match matches(rule, &seen, world, &mut missing) {
            Err(because) => decision.passed_over.push((rule.at.clone(), because)),
            Ok(()) if missing.is_empty() => {
                decision.line = Some(rule.at.clone());
                decision.verdict = Verdict::of(rule.method);
                decision.client_cert = rule.client_cert;
                break;
            }
            Ok(()) => {
                decision.could_be.push(rule.at.clone());
                decision.missing.extend(missing.iter().cloned());
                decision.passed_over.push((rule.at.clone(), Because::Unknown(missing)));
            }
        }
    }
    decision.missing.sort();
    decision.missing.dedup();
    decision.certain = decision.missing.is_empty();
    decision
}

/// Whether one line matches; with facts `missing`, `Ok` only means that nothing speaks against it.
fn matches(
    rule: &Rule,
    connection: &Connection,
    world: &World,
    missing: &mut Vec<Missing>,
) -> Result<(), Because> {
    transport(rule.kind, connection)?;
    if let Some(address) = &rule.address {
        note(from(address, connection, world), missing)?;
    }
    let written = |list: &[Pattern]| list.iter().map(|p| p.token.written()).collect::<Vec<_>>().join(",");
    let database = any(&rule.databases, missing, |pattern| database(pattern, connection, world));
    if !database {
        return Err(match connection.replication {
            Replication::Physical => Because::NotReplication(written(&rule.databases)),
            _ => Because::Database(connection.database.clone(), written(&rule.databases)),
        });
    }
    if !any(&rule.users, missing, |pattern| user(pattern, &connection.user, world)) {
        return Err(Because::User(connection.user.clone(), written(&rule.users)));
    }
    Ok(())
}

fn transport(kind: ConnType, connection: &Connection) -> Result<(), Because> {
    match (kind, connection.kind) {
        (ConnType::Local, Kind::Local) => Ok(()),
        (ConnType::Local, Kind::Tcp) => Err(Because::NotLocal),
        (_, Kind::Local) => Err(Because::NotTcp),
        (ConnType::HostSsl, Kind::Tcp) if !connection.tls => Err(Because::NeedsTls),
        (ConnType::HostNoSsl, Kind::Tcp) if connection.tls => Err(Because::ForbidsTls),
        (ConnType::HostGssEnc, Kind::Tcp) if !connection.gss => Err(Because::NeedsGss),
        (ConnType::HostNoGssEnc, Kind::Tcp) if connection.gss => Err(Because::ForbidsGss),
        _ => Ok(()),
    }
}

/// What is known about a condition: it holds, it fails, or a fact is missing.
enum Known {
    Yes,
    No(Because),
    Not(Missing),
}

fn note(known: Known, missing: &mut Vec<Missing>) -> Result<(), Because> {
    match known {
        Known::Yes => Ok(()),
        Known::No(because) => Err(because),
        Known::Not(fact) => {
            missing.push(fact);
            Ok(())
        }
    }
}

fn from(address: &Address, connection: &Connection, world: &World) -> Known {
    let client = match (address, connection.address) {
        (Address::All, _) => return Known::Yes,
        (_, Some(client)) => client,
        (_, None) => return Known::Not(Missing::ClientAddress),
    };
    let no = |fits: bool| match fits {
        true => Known::Yes,
        false => Known::No(Because::Address(client, address.clone())),
    };
    match address {
        Address::All => Known::Yes,
        Address::Net { address: net, .. } if net.is_ipv4() != client.is_ipv4() => {
            Known::No(Because::Family(client, address.clone()))
        }
        Address::Net { address: net, mask } => no(in_range(client, *net, *mask)),
        Address::Host(name) => host_name(name, client, &world.client_name),
        Address::SameHost | Address::SameNet => match &world.interfaces {
            // Who comes from the server's own address is on its machine.
            None if world.own_address.map(|own| own.to_canonical()) == Some(client) => Known::Yes,
            None => Known::Not(Missing::Interfaces),
            Some(interfaces) if *address == Address::SameHost => {
                no(interfaces.iter().any(|interface| interface.address == client))
            }
            Some(interfaces) => no(interfaces.iter().any(|i| in_range(client, i.address, i.mask))),
        },
    }
}

/// PostgreSQL: `check_hostname`: the client's address must lead to the name, and the name back to it.
fn host_name(wanted: &str, client: IpAddr, known: &ClientName) -> Known {
    let (name, addresses) = match known {
        ClientName::Unknown => return Known::Not(Missing::ClientName),
        ClientName::Nameless => return Known::No(Because::HostName(None, wanted.to_owned())),
        ClientName::Named { name, addresses } => (name, addresses),
    };
    let same = match wanted.starts_with('.') {
        true => name
            .len()
            .checked_sub(wanted.len())
            .and_then(|at| name.as_bytes().get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(wanted.as_bytes())),
        false => name.eq_ignore_ascii_case(wanted),
    };
    match addresses {
        _ if !same => Known::No(Because::HostName(Some(name.clone()), wanted.to_owned())),
        None => Known::Not(Missing::NameAddresses(name.clone())),
        Some(addresses) if addresses.contains(&client) => Known::Yes,
        Some(_) => Known::No(Because::NotForward(name.clone())),
    }
}

/// Whether a word of the list fits; if none does but facts are missing, they are noted and it may.
pub(super) fn any<'a>(
    list: &'a [Pattern],
    missing: &mut Vec<Missing>,
    fits: impl Fn(&'a Pattern) -> Result<bool, Missing>,
) -> bool {
    let mut unknown = Vec::new();
    for pattern in list {
        match fits(pattern) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(fact) => unknown.push(fact),
        }
    }
    let possible = !unknown.is_empty();
    missing.extend(unknown);
    possible
}

/// PostgreSQL: `check_db`.
fn database(pattern: &Pattern, connection: &Connection, world: &World) -> Result<bool, Missing> {
    let token = &pattern.token;
    if connection.replication == Replication::Physical {
        return Ok(token.is_keyword("replication"));
    }
    let (user, database) = (&connection.user, &connection.database);
    if token.is_keyword("all") {
        Ok(true)
    } else if token.is_keyword("sameuser") {
        Ok(user == database)
    } else if token.is_keyword("samegroup") || token.is_keyword("samerole") {
        world.roles.is_member(user, database)
    } else if token.is_keyword("replication") {
        Ok(false)
    } else {
        literal_or_regex(pattern, database)
    }
}

/// PostgreSQL: `check_role`.
pub(super) fn user(pattern: &Pattern, user: &str, world: &World) -> Result<bool, Missing> {
    let token = &pattern.token;
    if let Some(role) = token.group() {
        return world.roles.is_member(user, role);
    }
    if token.is_keyword("all") {
        return Ok(true);
    }
    literal_or_regex(pattern, user)
}

fn literal_or_regex(pattern: &Pattern, name: &str) -> Result<bool, Missing> {
    match &pattern.regex {
        Some(regex) => regex.is_match(name).ok_or_else(|| Missing::Regex(regex.as_str().to_owned())),
        None => Ok(pattern.token.text == name),
    }
}
