//! Connection URIs: `conninfo_uri_parse_options` of fe-connect.c, lenient where people write what
//! libpq would not read: the aim is to find the server they mean, and to say what is wrong.

use std::borrow::Cow;

use super::PasswordSource;
use super::draft::{DRIVER_PARAMS, Draft, LIBPQ_PARAMS, OWN_PARAMS, Slot, unexpanded, unexpanded_problem};
use super::problem::{ConninfoError, Problem, Severity, column};

/// Reads what stands behind `://`; `whole` is the text that columns count in.
pub(super) fn parse(whole: &str, rest: &str, jdbc: bool, draft: &mut Draft) -> Result<(), ConninfoError> {
    let (head, query) = split_query(rest);
    let end = userinfo_end(head);
    let (userinfo, place) = match end {
        Some(at) => (Some(&head[..at]), &head[at + 1..]),
        None => (None, head),
    };
    if let Some(userinfo) = userinfo {
        read_userinfo(whole, userinfo, jdbc, draft);
    }
    let (authority, path) = match place.find('/') {
        Some(at) => (&place[..at], &place[at + 1..]),
        None => (place, ""),
    };
    let authority = without_fragment(whole, authority, draft);
    let path = without_fragment(whole, path, draft);
    read_hosts(whole, authority, draft)?;
    if !path.is_empty() {
        let database = decode(whole, path, "database", draft);
        draft.set("dbname", database.into_owned(), column(whole, path));
    }
    if let Some(query) = query {
        read_query(whole, query, draft);
    }
    Ok(())
}

/// Where the query begins: at the first `?` that is not obviously a piece of a password.
fn split_query(rest: &str) -> (&str, Option<&str>) {
    for (at, _) in rest.match_indices('?') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let key = after.split(['=', '&', '@']).next().unwrap_or_default();
        let names = [LIBPQ_PARAMS, OWN_PARAMS, DRIVER_PARAMS];
        let known = names.iter().any(|list| list.iter().any(|name| name.eq_ignore_ascii_case(key)));
        let named = after[key.len()..].starts_with('=') && !key.is_empty();
        if !after.contains('@') || (named && (known || before.contains('@'))) {
            return (before, Some(after));
        }
    }
    (rest, None)
}

/// Where the userinfo ends: at the last `@` before the path. libpq takes the first one and lets
/// nothing with a `/` be a password; what it would then take for a host tells that no one meant it.
fn userinfo_end(head: &str) -> Option<usize> {
    let authority = &head[..head.find('/').unwrap_or(head.len())];
    let last = head.rfind('@')?;
    let behind_looks_like_place = head[last + 1..].contains(['/', ':']);
    if let Some(at) = authority.rfind('@') {
        return Some(if last > at && behind_looks_like_place { last } else { at });
    }
    // Digits and a slash in a password look like a port and a database: a user name has no dot, a
    // host mostly has one, and hardly a database has an @.
    let (name, port) = authority.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let is_host = is_port && (name.contains('.') || name == "localhost");
    (!authority.starts_with('[') && (!is_host || behind_looks_like_place)).then_some(last)
}

fn read_userinfo(whole: &str, userinfo: &str, jdbc: bool, draft: &mut Draft) {
    if jdbc {
        draft.problems.push(Problem::new(
            "jdbc_userinfo",
            Severity::Error,
            column(whole, userinfo),
            "pgjdbc does not read user and password before the host",
            "write them as ?user=…&password=… behind the database",
        ));
    }
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    reserved(whole, user, "user name", draft);
    let name = decode(whole, user, "user name", draft).into_owned();
    draft.set("user", name, column(whole, user));
    let Some(raw) = password else { return };
    reserved(whole, raw, "password", draft);
    if unexpanded(raw) {
        draft.problems.push(unexpanded_problem("password", column(whole, raw)));
    }
    let value = decode(whole, raw, "password", draft).into_owned();
    draft.set_password(value, Some(raw), PasswordSource::Url);
}

/// Characters that must be encoded here, because drivers end the userinfo at them.
fn reserved(whole: &str, part: &str, what: &str, draft: &mut Draft) {
    let marks = [
        (
            '@',
            "unencoded_at",
            "%40",
            Severity::Warning,
            "libpq, asyncpg and SQLAlchemy take the host to begin behind it",
        ),
        ('#', "unencoded_hash", "%23", Severity::Error, "most drivers take it for the end of the address"),
        ('/', "unencoded_slash", "%2F", Severity::Error, "drivers take it for the end of the host"),
        (
            '?',
            "unencoded_question",
            "%3F",
            Severity::Error,
            "most drivers take it for the beginning of the parameters",
        ),
    ];
    for (mark, id, code, severity, why) in marks {
        if let Some(at) = part.find(mark) {
            let message = format!("the {what} holds a bare {mark}: {why}");
            let place = column(whole, &part[at..]);
            draft.problems.push(Problem::new(id, severity, place, message, format!("write it as {code}")));
        }
    }
}

/// A `#` behind the userinfo: libpq reads on, everyone else stops.
fn without_fragment<'a>(whole: &str, part: &'a str, draft: &mut Draft) -> &'a str {
    let Some(at) = part.find('#') else { return part };
    draft.problems.push(Problem::new(
        "unencoded_hash",
        Severity::Warning,
        column(whole, &part[at..]),
        "a bare # ends the address for most drivers; libpq takes it for a part of the name",
        "write it as %23, or drop what follows",
    ));
    &part[..at]
}

/// The host list: names, addresses, bracketed IPv6, encoded directories, each with or without a port.
fn read_hosts(whole: &str, authority: &str, draft: &mut Draft) -> Result<(), ConninfoError> {
    if authority.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    let mut any_port = None;
    for item in authority.split(',') {
        let (name, port) = split_port(whole, item)?;
        if let (Some(port), None) = (port, any_port) {
            any_port = Some(column(whole, port));
        }
        ports.push(port.unwrap_or_default().to_owned());
        names.push(decode(whole, name, "host", draft).into_owned());
    }
    let host = names.join(",");
    // Only a port was written (`postgres://:5433/db`): the host still comes from elsewhere.
    if !names.iter().all(String::is_empty) {
        draft.host = Some(Slot::new(host, column(whole, authority)));
    }
    if let Some(at) = any_port {
        draft.port = Some(Slot::new(ports.join(","), at));
    }
    Ok(())
}

/// `name:port`, `[address]:port`.
pub(super) fn split_port<'a>(
    whole: &str,
    item: &'a str,
) -> Result<(&'a str, Option<&'a str>), ConninfoError> {
    let bad = |message: &str| {
        Err(ConninfoError::at(
            "host_invalid",
            column(whole, item),
            message,
            "write an IPv6 address as [::1]:5432",
        ))
    };
    let Some(inside) = item.strip_prefix('[') else {
        return match item.split_once(':') {
            Some((_, port)) if port.contains(':') => bad("more than one colon stands in the host's place"),
            Some((name, port)) => Ok((name, Some(port))),
            None => Ok((item, None)),
        };
    };
    let Some((address, behind)) = inside.split_once(']') else {
        return bad("the bracket of the IPv6 address is not closed");
    };
    match behind.strip_prefix(':') {
        Some(port) => Ok((address, Some(port))),
        None if behind.is_empty() => Ok((address, None)),
        None => bad("something other than a port stands behind the IPv6 address"),
    }
}

/// `conninfo_uri_parse_params`.
fn read_query(whole: &str, query: &str, draft: &mut Draft) {
    let query = without_fragment(whole, query, draft);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            draft.problems.push(Problem::new(
                "param_unknown",
                Severity::Error,
                column(whole, pair),
                "a parameter without = stands here",
                "write name=value; an & inside a value is %26",
            ));
            continue;
        };
        let what = if key.eq_ignore_ascii_case("password") { "password" } else { "parameter" };
        let name = decode(whole, key, "parameter", draft).into_owned();
        let text = decode(whole, value, what, draft).into_owned();
        draft.set(&name, text, column(whole, key));
        if what == "password" {
            draft.set_raw_password(value);
            if unexpanded(value) {
                draft.problems.push(unexpanded_problem("password", column(whole, value)));
            }
        }
    }
}

/// `conninfo_uri_decode`, but what it refuses stays as written and is a problem.
fn decode<'a>(whole: &str, part: &'a str, what: &str, draft: &mut Draft) -> Cow<'a, str> {
    let bad = part.match_indices('%').find(|(at, _)| {
        let digits = part.as_bytes().get(at + 1..at + 3);
        digits.is_none_or(|d| !d.iter().all(u8::is_ascii_hexdigit) || d == b"00")
    });
    let (at, message, fix) = match bad {
        Some((at, _)) => (at, "a % without two hexadecimal digits (or %00)", "write a percent sign as %25"),
        None => match percent_encoding::percent_decode_str(part).decode_utf8() {
            Ok(text) => return text,
            Err(_) => {
                (0, "percent-encoded bytes that are not UTF-8", "encode the UTF-8 form: é is %C3%A9, not %E9")
            }
        },
    };
    draft.problems.push(Problem::new(
        "bad_percent",
        Severity::Error,
        column(whole, &part[at..]),
        format!("the {what} holds {message}; it is taken as written"),
        fix,
    ));
    Cow::Borrowed(part)
}
