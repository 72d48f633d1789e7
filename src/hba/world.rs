//! What the files don't say: roles, names, interfaces, and the connection itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::address::{cidr_mask, numeric};

/// How a client reached the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Over a Unix socket.
    Local,
    /// Over TCP.
    #[default]
    Tcp,
}

/// The startup parameter `replication`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// An ordinary session.
    #[default]
    None,
    /// `replication=true`: only lines with the keyword `replication` match.
    Physical,
    /// `replication=database`: for pg_hba.conf an ordinary session.
    Database,
}

/// A login, as far as pg_hba.conf looks at it (PostgreSQL: `hbaPort`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// How it came.
    pub kind: Kind,
    /// From where, as the server sees it. Without it only lines for every address are sure.
    pub address: Option<IpAddr>,
    /// The user name.
    pub user: String,
    /// The database name; servers take the user's if a client sends none.
    pub database: String,
    /// Encrypted with TLS.
    pub tls: bool,
    /// Encrypted with GSSAPI.
    pub gss: bool,
    /// A replication connection.
    pub replication: Replication,
}

impl Connection {
    /// As the server keeps it: names of at most 63 bytes, and no IPv4 address in IPv6's clothes (servers
    /// listen for each family on a socket of its own; PostgreSQL: `ProcessStartupPacket`).
    pub(super) fn as_seen(&self) -> Self {
        Self {
            address: self.address.map(|address| address.to_canonical()),
            user: cut(&self.user),
            database: cut(&self.database),
            ..self.clone()
        }
    }
}

fn cut(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// PostgreSQL: `NAMEDATALEN`, without the NUL.
const MAX_NAME: usize = 63;

/// Who belongs to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// For each role of which the members are known: all of them. A member may be a role itself.
    pub members: BTreeMap<String, BTreeSet<String>>,
    /// All roles there are, if that is known; then `members` is complete too.
    pub existing: Option<BTreeSet<String>>,
}

impl Roles {
    /// PostgreSQL: `is_member`. Every role is a member of itself; superusers are no members of everything.
    pub(super) fn is_member(&self, user: &str, role: &str) -> Result<bool, Missing> {
        if let Some(existing) = &self.existing
            && !(existing.contains(user) && existing.contains(role))
        {
            return Ok(false);
        }
        if user == role {
            let mentioned = self.members.contains_key(user)
                || self.members.values().any(|members| members.contains(user));
            return match self.existing.is_some() || mentioned {
                true => Ok(true),
                false => Err(Missing::RoleExists(role.to_owned())),
            };
        }
        if self.existing.is_none() && !self.members.contains_key(role) {
            return Err(Missing::Membership(role.to_owned()));
        }
        let mut seen = BTreeSet::new();
        let mut pending = vec![role];
        while let Some(role) = pending.pop() {
            for member in self.members.get(role).into_iter().flatten() {
                if member == user {
                    return Ok(true);
                }
                if seen.insert(member.as_str()) {
                    pending.push(member);
                }
            }
        }
        Ok(false)
    }
}

/// The name that the server's resolver gives for the client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// The address has no name.
    Nameless,
    /// It has one.
    Named {
        /// The name.
        name: String,
        /// The addresses of that name, if somebody asked; empty if it has none.
        addresses: Option<Vec<IpAddr>>,
    },
}

/// An address of the server's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Its network's mask.
    pub mask: IpAddr,
}

impl Interface {
    /// Reads `10.0.0.5/24`.
    pub fn from_cidr(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address = numeric(address)?;
        Some(Self { address, mask: cidr_mask(bits, address)? })
    }
}

/// Everything outside of the files that decides. What is not known is asked for in
/// [`Decision::missing`](super::Decision::missing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Roles and their members, for `+role` and `samerole`.
    pub roles: Roles,
    /// For lines with a host name.
    pub client_name: ClientName,
    /// For `samehost` and `samenet`.
    pub interfaces: Option<Vec<Interface>>,
    /// The address at which the server was reached: one of its interfaces has it, whatever the others are.
    pub own_address: Option<IpAddr>,
}

/// A fact without which a line can't be decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The members of this role.
    Membership(String),
    /// Whether this role exists: only then does it belong to itself.
    RoleExists(String),
    /// The client's address.
    ClientAddress,
    /// The name of the client's address.
    ClientName,
    /// The addresses of the client's name.
    NameAddresses(String),
    /// The addresses and masks of the server's interfaces.
    Interfaces,
    /// Whether PostgreSQL's regular expression matches: this program can't tell.
    Regex(String),
    /// Which rules are in force: the file as it is would be refused.
    FileRefused,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Membership(role) => write!(f, "who the members of the role {role} are"),
            Self::RoleExists(role) => write!(f, "whether the role {role} exists"),
            Self::ClientAddress => f.write_str("the client's address"),
            Self::ClientName => f.write_str("the name that the server finds for the client's address"),
            Self::NameAddresses(name) => write!(f, "the addresses that the server finds for {name}"),
            Self::Interfaces => f.write_str("the addresses of the server's interfaces"),
            Self::Regex(source) => write!(f, "whether /{source} matches (beyond this program)"),
            Self::FileRefused => {
                f.write_str("which rules are in force: PostgreSQL refuses this file and keeps those it had")
            }
        }
    }
}
