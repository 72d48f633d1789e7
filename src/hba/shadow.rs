//! Lines that can never decide, because earlier ones match everything they match.
//!
//! Only what is certain counts: a line is called shadowed if, whatever roles, names and interfaces there
//! are, no connection reaches it.

use super::address::Address;
use super::conn_type::ConnType;
use super::rule::{Pattern, Rule};

/// The ways in which a connection can come: they are mutually exclusive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Local,
    Plain,
    Tls,
    Gss,
}

/// The earlier rules that together leave nothing to `rule`; nothing if something is left to it.
pub(super) fn shadows<'a>(rule: &Rule, earlier: &'a [Rule], server_has_tls: bool) -> Option<Vec<&'a Rule>> {
    let mut found: Vec<&Rule> = Vec::new();
    for way in ways(rule.kind) {
        if *way == Way::Tls && !server_has_tls {
            continue;
        }
        for v4 in [true, false] {
            let Some(range) = range(rule.address.as_ref(), v4) else { continue };
            let cover = earlier.iter().find(|other| {
                ways(other.kind).contains(way)
                    && self::range(other.address.as_ref(), v4).is_some_and(|other| other.covers(&range))
                    && covers_names(other, rule)
            })?;
            if !found.iter().any(|known| known.at == cover.at) {
                found.push(cover);
            }
            if *way == Way::Local {
                break;
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// The other rule matches every database and user that this one matches.
pub(super) fn covers_names(other: &Rule, rule: &Rule) -> bool {
    rule.databases.iter().all(|b| other.databases.iter().any(|a| covers_database(a, b)))
        && rule.users.iter().all(|b| other.users.iter().any(|a| covers_user(a, b)))
}

/// The two can be about the same connection, as far as encryption goes.
pub(super) fn share_a_way(a: ConnType, b: ConnType) -> bool {
    ways(a).iter().any(|way| ways(b).contains(way))
}

fn ways(kind: ConnType) -> &'static [Way] {
    match kind {
        ConnType::Local => &[Way::Local],
        ConnType::Host => &[Way::Plain, Way::Tls, Way::Gss],
        ConnType::HostSsl => &[Way::Tls],
        ConnType::HostNoSsl => &[Way::Plain, Way::Gss],
        ConnType::HostGssEnc => &[Way::Gss],
        ConnType::HostNoGssEnc => &[Way::Plain, Way::Tls],
    }
}

/// The addresses of one family that a rule matches.
enum Range<'a> {
    Whole,
    Net(u128, u128),
    Named(&'a Address),
}

/// Nothing if the rule matches no address of this family. A `local` line has one address: all.
fn range(address: Option<&Address>, v4: bool) -> Option<Range<'_>> {
    match address {
        None | Some(Address::All) => Some(Range::Whole),
        Some(named @ (Address::SameHost | Address::SameNet | Address::Host(_))) => Some(Range::Named(named)),
        Some(net) => match net.bits()? {
            (_, 0, is_v4) if is_v4 == v4 => Some(Range::Whole),
            (net, mask, is_v4) if is_v4 == v4 => Some(Range::Net(net, mask)),
            _ => None,
        },
    }
}

impl Range<'_> {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Range::Whole, _) => true,
            (Range::Net(a, a_mask), Range::Net(b, b_mask)) => a_mask & !b_mask == 0 && (a ^ b) & a_mask == 0,
            (Range::Named(Address::SameNet), Range::Named(Address::SameHost)) => true,
            (Range::Named(Address::Host(a)), Range::Named(Address::Host(b))) => {
                let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
                a == b || (a.starts_with('.') && b.ends_with(&a))
            }
            (Range::Named(a), Range::Named(b)) => a == b,
            _ => false,
        }
    }
}

fn covers_database(a: &Pattern, b: &Pattern) -> bool {
    let is = |pattern: &Pattern, word: &str| pattern.token.is_keyword(word);
    let role = |pattern: &Pattern| is(pattern, "samerole") || is(pattern, "samegroup");
    if is(b, "replication") || is(a, "replication") {
        return is(a, "replication") && is(b, "replication");
    }
    if is(a, "all") {
        return true;
    }
    if is(b, "all") || is(b, "sameuser") || role(b) || is(a, "sameuser") || role(a) {
        return (is(a, "sameuser") && is(b, "sameuser")) || (role(a) && role(b));
    }
    covers_name(a, b)
}

fn covers_user(a: &Pattern, b: &Pattern) -> bool {
    if a.token.is_keyword("all") {
        return true;
    }
    if b.token.is_keyword("all") {
        return false;
    }
    match (a.token.group(), b.token.group()) {
        (None, None) => covers_name(a, b),
        (a, b) => a == b,
    }
}

fn covers_name(a: &Pattern, b: &Pattern) -> bool {
    match (&a.regex, &b.regex) {
        (Some(a), Some(b)) => a.as_str() == b.as_str(),
        (Some(a), None) => a.is_match(&b.token.text) == Some(true),
        (None, Some(_)) => false,
        (None, None) => a.token.text == b.token.text,
    }
}
