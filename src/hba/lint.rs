//! What a file says that its author hardly meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HbaFile;
use super::address::{Address, in_range};
use super::conn_type::ConnType;
use super::method::{Method, Server};
use super::options::ClientCert;
use super::problem::{Problem, Severity};
use super::rule::{Pattern, Rule};
use super::shadow::{covers_names, shadows, share_a_way};

/// The file's own problems and everything else worth knowing about it, in the order of its lines. `next` is
/// the same file as the next major version reads it.
pub fn lint(file: &HbaFile, server: &Server, next: Option<&HbaFile>) -> Vec<Problem> {
    let mut found = file.problems.clone();
    for (index, rule) in file.rules.iter().enumerate() {
        let earlier = file.rules.get(..index).unwrap_or_default();
        found.extend(shadowed(rule, earlier, server));
        if rule.kind != ConnType::Local {
            found.extend(open_to_a_network(rule));
            found.extend(address(rule));
            found.extend(one_loopback(rule, file));
        }
        for pattern in &rule.databases {
            found.extend(name(pattern, server.version, "database"));
        }
        for pattern in &rule.users {
            found.extend(name(pattern, server.version, "user"));
        }
    }
    found.extend(md5(file, server.version));
    if let Some(next) = next {
        found.extend(refused_by_next(file, next));
    }
    let order = |problem: &Problem| {
        let file_index = file.sources.iter().position(|source| source.name == problem.place.file);
        (file_index, problem.place.line, problem.place.column)
    };
    found.sort_by_key(order);
    found
}

fn shadowed(rule: &Rule, earlier: &[Rule], server: &Server) -> Option<Problem> {
    let by = shadows(rule, earlier, server.ssl != Some(false))?;
    let lines: Vec<String> = by.iter().map(|other| line_of(other, rule)).collect();
    let lines = lines.join(" and ");
    let same_answer = |other: &&Rule| {
        other.method == rule.method
            && other.client_cert == rule.client_cert
            && other.options.len() == rule.options.len()
            && other.options.iter().all(|option| rule.option(&option.name) == Some(&option.value))
    };
    let (id, severity, message, fix) = if by.iter().all(same_answer) {
        let again = by.len() == 1
            && by.iter().all(|other| shadows(other, std::slice::from_ref(rule), true).is_some());
        match again {
            true => (
                "duplicate_line",
                Severity::Warning,
                format!("this line says again what {lines} says"),
                "delete it",
            ),
            false => (
                "redundant_line",
                Severity::Info,
                format!("this line never decides, and changes nothing: {lines} asks the same of more logins"),
                "delete it",
            ),
        }
    } else if rule.method == Method::Reject {
        let message = format!("this line rejects nobody: {lines} decides for all of them before");
        ("shadowed_reject", Severity::Warning, message, "move it up, before the wider line")
    } else {
        let message = format!("this line never decides: {lines} matches everything that it matches");
        ("shadowed_line", Severity::Warning, message, "move it up, before the wider line, or delete it")
    };
    Some(Problem::new(id, severity, &rule.place, message, fix))
}

fn line_of(other: &Rule, rule: &Rule) -> String {
    match other.at.file == rule.at.file {
        true => format!("line {}", other.at.line),
        false => other.at.to_string(),
    }
}

/// Only the machine itself is behind these addresses.
fn is_own_machine(address: &Address) -> bool {
    address.is_loopback()
        || *address == Address::SameHost
        || *address == Address::Host("localhost".to_owned())
}

fn open_to_a_network(rule: &Rule) -> Option<Problem> {
    let address = rule.address.as_ref().filter(|address| !is_own_machine(address))?;
    let place = &rule.method_place;
    if rule.method == Method::Trust && rule.client_cert == ClientCert::Off {
        let message = format!(
            "whoever reaches the server from {address} is let in as any of these users, without a password"
        );
        let fix = "write scram-sha-256 in place of trust";
        return Some(Problem::error("trust_from_network", place, message, fix));
    }
    let plain = !matches!(rule.kind, ConnType::HostSsl | ConnType::HostGssEnc);
    if plain && rule.method.takes_cleartext() {
        let message = format!(
            "{} has passwords sent as they are, and this line allows that without encryption",
            rule.method
        );
        let fix = match rule.method {
            Method::Password => "write scram-sha-256, or make it a hostssl line",
            _ => "make it a hostssl line",
        };
        return Some(Problem::warning("cleartext_password", place, message, fix));
    }
    if rule.method == Method::Ident {
        let message =
            format!("ident believes what the client's own machine says: anybody in {address} can lie");
        return Some(Problem::warning("ident_from_network", place, message, "write scram-sha-256"));
    }
    None
}

fn address(rule: &Rule) -> Option<Problem> {
    let place = &rule.address_place;
    let Some(Address::Net { address, mask }) = &rule.address else { return None };
    let (ones, width) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), 32),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), 128),
    };
    if address.is_unspecified() && ones == width {
        let message = format!("{address}/{width} matches nobody: no client has this address");
        let fix = format!("for all addresses, write {address}/0 or all");
        return Some(Problem::warning("never_matches", place, message, fix));
    }
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && ones >= 96
    {
        let message = "servers see IPv4 clients under their IPv4 addresses: this line matches nobody";
        return Some(Problem::warning("never_matches", place, message, format!("write {v4}/{}", ones - 96)));
    }
    let inverted = match mask {
        IpAddr::V4(mask) => ones == 0 && mask.to_bits() != 0,
        IpAddr::V6(mask) => ones == 0 && mask.to_bits() != 0,
    };
    if inverted {
        let message = "this mask begins with zeros, as routers write it: here the ones count";
        return Some(Problem::warning("mask_inverted", place, message, "write a /length"));
    }
    let kept = Address::Net { address: *address, mask: *mask }.bits().map(|(net, _, _)| net);
    let written = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    if kept != Some(written) && !address.is_loopback() {
        let message =
            format!("the bits of {address} outside the mask do not count: the whole network matches");
        let fix = format!("write {address}/{width} if only this address is meant");
        return Some(Problem::new("host_bits", Severity::Info, place, message, fix));
    }
    None
}

/// `localhost` is 127.0.0.1 for one driver and ::1 for another.
fn one_loopback(rule: &Rule, file: &HbaFile) -> Option<Problem> {
    let range = rule.address.as_ref().filter(|range| range.is_loopback() && rule.method != Method::Reject)?;
    let Address::Net { address, .. } = range else { return None };
    let other: IpAddr = match address {
        IpAddr::V4(_) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
    };
    let reaches = |candidate: &&Rule| {
        let there = match &candidate.address {
            None => false,
            Some(Address::Net { address, mask }) => in_range(other, *address, *mask),
            Some(Address::Host(name)) => name == "localhost",
            Some(Address::All | Address::SameHost | Address::SameNet) => true,
        };
        there && share_a_way(candidate.kind, rule.kind) && covers_names(candidate, rule)
    };
    let place = &rule.address_place;
    match file.rules.iter().find(reaches) {
        None => {
            let message = format!(
                "{range} has no counterpart for {other}: clients that take localhost for {other} meet another line, or none"
            );
            let bits = if other.is_ipv4() { 32 } else { 128 };
            let fix = format!("add the same line for {other}/{bits}");
            Some(Problem::warning("loopback_one_family", place, message, fix))
        }
        Some(found) if found.method != rule.method && address.is_ipv4() => {
            let message = format!(
                "{range} asks for {}, but {other} for {} ({}): it depends on the driver which one localhost is",
                rule.method,
                found.method,
                line_of(found, rule)
            );
            Some(Problem::warning("loopback_differs", place, message, "use the same method on both lines"))
        }
        Some(_) => None,
    }
}

fn name(pattern: &Pattern, version: u32, what: &str) -> Option<Problem> {
    let token = &pattern.token;
    let text = token.text.as_str();
    let keyword = match what {
        "database" => matches!(text, "all" | "sameuser" | "samerole" | "samegroup" | "replication"),
        _ => text == "all",
    };
    if token.quoted && (keyword || (what == "user" && text.starts_with('+'))) {
        let message = format!("in quotes this is no keyword, but a {what} whose name is {text}");
        return Some(Problem::warning("keyword_quoted", &token.place, message, "take the quotes off"));
    }
    if matches!(text, "*" | "%" | "any") {
        let message = format!("{text} stands for nothing else here: it is a {what} of that name");
        return Some(Problem::warning("not_a_wildcard", &token.place, message, "write all"));
    }
    if what == "user" && matches!(text, "sameuser" | "samerole" | "replication") && !token.quoted {
        let message = format!("{text} is a keyword for databases only: here it is a user of that name");
        return Some(Problem::warning("not_a_wildcard", &token.place, message, "name users, or write all"));
    }
    if text.starts_with('/') && version < 16 {
        let message = "PostgreSQL 16 and newer read this name as a regular expression";
        let fix = "rename it before the upgrade";
        return Some(Problem::warning("next_version_reads_otherwise", &token.place, message, fix));
    }
    None
}

/// One finding, however many lines there are.
fn md5(file: &HbaFile, version: u32) -> Option<Problem> {
    let lines: Vec<&Rule> = file.rules.iter().filter(|rule| rule.method == Method::Md5).collect();
    let first = lines.first()?;
    let severity = if version >= 18 { Severity::Warning } else { Severity::Info };
    let more = match lines.len() {
        1 => String::new(),
        count => format!(" (and {} more lines)", count - 1),
    };
    let message = format!(
        "md5 passwords are deprecated since PostgreSQL 18, and a later version will not know them{more}; \
         users with a SCRAM secret get SCRAM on these lines already"
    );
    let fix = "set password_encryption = scram-sha-256, have passwords set anew, then write scram-sha-256";
    Some(Problem::new("md5_deprecated", severity, &first.method_place, message, fix))
}

/// Lines that this version takes and the next does not.
fn refused_by_next(file: &HbaFile, next: &HbaFile) -> Vec<Problem> {
    let known = |problem: &Problem| {
        file.problems
            .iter()
            .any(|own| own.severity == Severity::Error && own.place.line == problem.place.line)
    };
    let refused =
        next.problems.iter().filter(|problem| problem.severity == Severity::Error && !known(problem));
    refused
        .filter(|problem| problem.id != "no_entries")
        .map(|problem| {
            let message =
                format!("PostgreSQL {} refuses the file for this: {}", next.version, problem.message);
            Problem::warning("next_version_refuses", &problem.place, message, problem.fix.clone())
        })
        .collect()
}
