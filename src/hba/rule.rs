//! One line of `pg_hba.conf` (PostgreSQL: `parse_hba_line`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::{Address, cidr_mask, numeric};
use super::are::Are;
use super::conn_type::ConnType;
use super::method::{Method, Server};
use super::options::{ClientCert, HbaOption, Options};
use super::problem::{Place, Problem};
use super::token::{Line, Token};

/// Names a line: what every answer about a file points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleRef {
    /// The file's name as it was opened.
    pub file: Arc<str>,
    /// Its first line, from 1: the number that PostgreSQL logs.
    pub line: usize,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A word of the database or user field, with its expression if it is one (16 and newer).
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The word.
    pub token: Token,
    /// What `/…` stands for.
    pub regex: Option<Are>,
}

impl Pattern {
    /// PostgreSQL: `regcomp_auth_token`.
    pub(super) fn new(token: &Token, version: u32) -> Result<Self, Problem> {
        let source = token.text.strip_prefix('/').filter(|_| version >= 16);
        let regex = source.map(|source| expression(source, token)).transpose()?;
        Ok(Self { token: token.clone(), regex })
    }
}

/// Compiles an expression, or says what is wrong with it.
pub(super) fn expression(source: &str, token: &Token) -> Result<Are, Problem> {
    Are::new(source).map_err(|reason| {
        let message = format!("this regular expression is not valid: {reason}");
        let fix =
            "correct it; a name that really begins with / can't be written since 16, but /^/name$ matches it";
        Problem::error("invalid_regex", &token.place, message, fix)
    })
}

/// A line that PostgreSQL accepts.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its file and line.
    pub at: RuleRef,
    /// All of it, for pointing at it.
    pub place: Place,
    /// Its first word.
    pub kind: ConnType,
    /// The databases.
    pub databases: Vec<Pattern>,
    /// The users.
    pub users: Vec<Pattern>,
    /// The addresses; nothing for `local`.
    pub address: Option<Address>,
    /// Where the address stands (the kind, for `local`).
    pub address_place: Place,
    /// The method; `ident` on a `local` line is `peer`.
    pub method: Method,
    /// Where the method stands.
    pub method_place: Place,
    /// The options; the last of a name counts.
    pub options: Vec<HbaOption>,
    /// Whether a client certificate is needed as well.
    pub client_cert: ClientCert,
    /// The line's text, its secrets starred out.
    pub raw: String,
}

impl Rule {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.name == name).map(|option| option.value.as_str())
    }

    /// Reads one line; what does not stop PostgreSQL goes into `problems`.
    pub(super) fn parse(line: &Line, server: &Server, problems: &mut Vec<Problem>) -> Result<Self, Problem> {
        let mut fields = Fields { fields: &line.fields, at: 0, end: end_of(line) };
        let first = fields.single("a connection type")?;
        let kind = ConnType::from_word(&first.text).ok_or_else(|| unknown_kind(first, server.version))?;
        warn_about_kind(kind, first, server, problems);
        let databases = patterns(fields.next("the database")?, server.version)?;
        let users = patterns(fields.next("the user")?, server.version)?;
        let (address, address_place) = match kind {
            ConnType::Local => (None, first.place.clone()),
            _ => {
                let token = fields.single("the address")?;
                (Some(read_address(token, &mut fields)?), token.place.clone())
            }
        };
        let token = fields.single("the authentication method")?;
        let method = read_method(token, kind, server)?;
        let mut options = Options::new(server, kind, method);
        for option in fields.rest() {
            options.add(option, problems)?;
        }
        let (options, client_cert) = options.finish(&token.place)?;
        Ok(Self {
            at: RuleRef { file: Arc::clone(&line.place.file), line: line.place.line },
            place: line.place.clone(),
            kind,
            databases,
            users,
            address,
            address_place,
            method,
            method_place: token.place.clone(),
            options,
            client_cert,
            raw: line.raw.clone(),
        })
    }
}

/// The fields of a line, one after the other.
pub(super) struct Fields<'a> {
    pub(super) fields: &'a [Vec<Token>],
    pub(super) at: usize,
    /// Where a field is missing.
    pub(super) end: Place,
}

impl<'a> Fields<'a> {
    pub(super) fn next(&mut self, what: &str) -> Result<&'a [Token], Problem> {
        let Some(field) = self.fields.get(self.at) else {
            let message = format!("the line ends before {what}");
            let fix = "a line is: type, database, user, address (not for local), method, options";
            return Err(Problem::error("field_missing", &self.end, message, fix));
        };
        self.at += 1;
        Ok(field)
    }

    /// A field that may hold one word only.
    pub(super) fn single(&mut self, what: &str) -> Result<&'a Token, Problem> {
        match self.next(what)? {
            [token] => Ok(token),
            [_, second, ..] => {
                let message = format!("a list stands where one word is expected: {what}");
                Err(Problem::error("multiple_values", &second.place, message, "write a line for each"))
            }
            // A field without words is no field.
            [] => Err(Problem::error("field_missing", &self.end, "an empty field", "fill it")),
        }
    }

    fn rest(&mut self) -> impl Iterator<Item = &'a Token> + use<'a> {
        self.fields.get(self.at..).unwrap_or_default().iter().flatten()
    }
}

pub(super) fn end_of(line: &Line) -> Place {
    let last = line.fields.last().and_then(|field| field.last());
    last.filter(|token| token.place.file == line.place.file).map_or_else(
        || line.place.clone(),
        |token| Place { column: token.place.column + token.place.length, length: 1, ..token.place.clone() },
    )
}

/// A word that may be quoted in a message: an option's value may be a password.
fn before_equals(text: &str) -> &str {
    text.split('=').next().unwrap_or_default()
}

fn patterns(tokens: &[Token], version: u32) -> Result<Vec<Pattern>, Problem> {
    tokens.iter().map(|token| Pattern::new(token, version)).collect()
}

fn unknown_kind(token: &Token, version: u32) -> Problem {
    let message = match token.text.as_str() {
        "include" | "include_dir" | "include_if_exists" if version < 16 => {
            format!("{} came with PostgreSQL 16", token.text)
        }
        "include" | "include_dir" | "include_if_exists" => {
            format!("{} takes one name and nothing else on its line", token.text)
        }
        text => format!("{} is no connection type", before_equals(text)),
    };
    let fix = match token.text.starts_with('\u{feff}') {
        true => "the file begins with a byte order mark: save it as UTF-8 without one",
        false => "the types are local, host, hostssl, hostnossl, hostgssenc and hostnogssenc",
    };
    Problem::error("invalid_type", &token.place, message, fix)
}

/// PostgreSQL logs an error for such lines and loads the file.
fn warn_about_kind(kind: ConnType, token: &Token, server: &Server, problems: &mut Vec<Problem>) {
    if kind == ConnType::HostSsl && server.ssl == Some(false) {
        let message = "this line can't match: the server has no TLS";
        let fix = "set ssl = on in postgresql.conf (and a certificate), or make it a host line";
        problems.push(Problem::warning("hostssl_without_tls", &token.place, message, fix));
    }
    if kind == ConnType::HostGssEnc && !server.gss {
        let message = "this line can't match: the server is built without GSSAPI";
        problems.push(Problem::warning("hostgssenc_without_gss", &token.place, message, "take it out"));
    }
}

fn read_address(token: &Token, fields: &mut Fields<'_>) -> Result<Address, Problem> {
    for (keyword, address) in
        [("all", Address::All), ("samehost", Address::SameHost), ("samenet", Address::SameNet)]
    {
        if token.is_keyword(keyword) {
            return Ok(address);
        }
    }
    let (host, bits) = match token.text.split_once('/') {
        Some((host, bits)) => (host, Some(bits)),
        None => (token.text.as_str(), None),
    };
    let Some(address) = numeric(host) else {
        if bits.is_none() {
            return Ok(Address::Host(host.to_owned()));
        }
        let message = "a host name can't have a /mask: or the part before the / is a mistyped address";
        return Err(Problem::error("host_with_mask", &token.place, message, "correct the address"));
    };
    let mask = match bits {
        Some(bits) => cidr_mask(bits, address).ok_or_else(|| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let message = "the part behind the / is no mask length";
            Problem::error("invalid_mask", &token.place, message, format!("write 0 to {most}"))
        })?,
        None => read_mask(token, address, fields)?,
    };
    Ok(Address::Net { address, mask })
}

fn read_mask(token: &Token, address: IpAddr, fields: &mut Fields<'_>) -> Result<IpAddr, Problem> {
    let all = if address.is_ipv4() { 32 } else { 128 };
    let fix = format!("for this one address, write {address}/{all}");
    if fields.at >= fields.fields.len() {
        let message = "an address without /length needs a mask as the next field";
        return Err(Problem::error("mask_missing", &token.place, message, fix));
    }
    let next = fields.single("the netmask")?;
    let Some(mask) = numeric(&next.text) else {
        let message = format!("a netmask is expected here, because {} has no /length", token.text);
        return Err(Problem::error("mask_missing", &next.place, message, fix));
    };
    if mask.is_ipv4() != address.is_ipv4() {
        let message = "the address and its mask are of different families";
        return Err(Problem::error("invalid_mask", &next.place, message, fix));
    }
    Ok(mask)
}

fn read_method(token: &Token, kind: ConnType, server: &Server) -> Result<Method, Problem> {
    let version = server.version;
    let error = |id, message: String, fix: &str| Err(Problem::error(id, &token.place, message, fix));
    let Some(method) = Method::from_word(&token.text, version) else {
        let word = &token.text;
        let message = match Method::ALL.into_iter().find(|method| method.as_str() == word) {
            Some(Method::Radius) => "PostgreSQL 19 removed the method radius".to_owned(),
            Some(method) => format!("the method {method} came with PostgreSQL {}", method.versions().start()),
            None if word.contains('=') => "an option stands where the method is expected".to_owned(),
            None => format!("PostgreSQL {version} knows no method {word}"),
        };
        return error("invalid_method", message, &method_fix(word));
    };
    if !server.has(method) {
        let message = format!("servers of this kind are built without the method {method}");
        return error("method_not_built_in", message, "use another method");
    }
    match (kind, method) {
        (ConnType::Local, Method::Ident) => Ok(Method::Peer),
        (ConnType::Local, Method::Gss) => {
            error("method_not_here", "gss does not work on Unix sockets".to_owned(), "use peer")
        }
        (kind, Method::Peer) if kind != ConnType::Local => {
            error("method_not_here", "peer works on local lines only".to_owned(), "use scram-sha-256")
        }
        (kind, Method::Cert) if kind != ConnType::HostSsl => {
            let message = "cert works on hostssl lines only".to_owned();
            error("method_not_here", message, "make it a hostssl line")
        }
        _ => Ok(method),
    }
}

/// What the author of an unknown word most likely meant.
fn method_fix(word: &str) -> String {
    let folded = word.to_ascii_lowercase();
    let meant = match folded.as_str() {
        "scram" | "scram_sha_256" | "scram-sha256" | "sha256" | "scram-sha-256-plus" => Some("scram-sha-256"),
        "deny" | "no" => Some("reject"),
        "gssapi" | "krb5" | "kerberos" => Some("gss"),
        "crypt" | "plain" | "cleartext" => Some("scram-sha-256"),
        _ => Method::ALL.iter().map(|method| method.as_str()).find(|known| *known == folded),
    };
    match meant {
        Some(meant) => format!("write {meant}"),
        None => "the usual methods are scram-sha-256, md5, peer, cert, trust and reject".to_owned(),
    }
}
