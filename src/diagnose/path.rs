//! The way to the server: our own limits, names, addresses, and what answers there.

use crate::handshake::{Close, Record, Side, Step};

use super::context::{Context, Dial, DialFault};
use super::{Cause, Finding, Leg, encryption};

/// One of our own limits ended the connection.
pub(super) fn limit(context: &Context<'_>) -> Option<Finding> {
    let limit = context.limit?;
    let evidence = format!("the limit {} of {} is reached", limit.name, limit.value);
    let finding = Finding::proven(Step::Connect, Cause::ProxyLimit, evidence)
        .summary(format!("pgwhy itself refused the connection: {} = {}", limit.name, limit.value));
    Some(finding.fix(format!("raise --{}, or find out who opens so many connections", limit.name)))
}

/// No address of the server could be reached.
pub(super) fn unreachable(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let dials = context.dials;
    let stopped = matches!(record.first_close(), Some((_, Close::Shutdown, _)));
    if stopped || dials.is_empty() || dials.iter().any(|dial| dial.result.is_ok()) {
        return None;
    }
    let faults: Vec<&DialFault> = dials.iter().filter_map(|dial| dial.result.as_ref().err()).collect();
    let all = |wanted: &DialFault| faults.iter().all(|fault| *fault == wanted);
    let any = |wanted: &DialFault| faults.contains(&wanted);
    let evidence = describe(&dials[0]);
    let finding = if any(&DialFault::Loop) {
        let finding = Finding::proven(Step::Connect, Cause::ProxyLimit, evidence).on(Leg::Proxy);
        finding.summary("the upstream address is pgwhy's own listening address")
    } else if any(&DialFault::Refused) {
        let finding = Finding::proven(Step::Connect, Cause::ConnectionRefused, evidence);
        if all(&DialFault::Refused) { finding.variant("all_addresses") } else { finding }
    } else if all(&DialFault::NameNotFound) || all(&DialFault::NameTemporary) {
        let host = without_port(&dials[0].host);
        let variant = match () {
            () if host.trim() != host || host.contains(char::is_whitespace) => "blank_in_name",
            () if any(&DialFault::NameTemporary) => "temporary",
            () => "not_found",
        };
        let finding = Finding::proven(Step::Resolve, Cause::DnsNotFound, evidence)
            .variant(variant)
            .summary(format!("the host name {host:?} does not resolve here"));
        match variant {
            "blank_in_name" => finding.fix("remove the blank: it is looked up as a part of the host's name"),
            "temporary" => finding.fix("the resolver gave no answer: try again, and if it stays, look at the resolver (/etc/resolv.conf, the container's DNS)"),
            _ => finding,
        }
    } else if any(&DialFault::Timeout) {
        Finding::proven(Step::Connect, Cause::ConnectTimeout, evidence)
    } else if any(&DialFault::SocketMissing) {
        Finding::proven(Step::Connect, Cause::UnixSocketMissing, evidence)
    } else if any(&DialFault::Unreachable) || any(&DialFault::HostUnreachable) {
        no_route(dials, evidence)
    } else {
        Finding::likely(Step::Connect, Cause::ConnectionRefused, evidence)
    };
    let finding = dials.get(1..).unwrap_or_default().iter().fold(finding, |f, dial| f.and(describe(dial)));
    Some(socket_refused(finding, dials))
}

/// There is no way to any address. That it is for want of the family is proven only where there are
/// IPv6 addresses alone, and the routes themselves are missing: IPv4 lacks a route to one network, not all.
fn no_route(dials: &[Dial], evidence: String) -> Finding {
    let (step, cause) = (Step::Connect, Cause::AddressFamilyUnreachable);
    let addresses = || dials.iter().filter_map(|dial| dial.address.as_deref());
    let six = addresses().filter(|address| address.starts_with('[')).count();
    let (only_four, only_six) = (six == 0, six == addresses().count());
    if dials.iter().any(|dial| dial.result == Err(DialFault::HostUnreachable)) {
        return Finding::likely(step, cause, evidence)
            .or(&[Cause::ConnectTimeout, Cause::ConnectionRefused])
            .and("\"host unreachable\" is also what a firewall answers that rejects, and a network without that host")
            .summary("the server's host can't be reached from here: no route, no such host on its network, or a firewall that rejects");
    }
    if only_four {
        return Finding::likely(step, cause, evidence)
            .summary("this machine has no route to the server's network")
            .fix("check this machine's routes, its VPN, and that the address is the server's: nothing leads there from here");
    }
    if only_six {
        return Finding::proven(step, cause, evidence);
    }
    Finding::likely(step, cause, evidence)
        .summary("this machine has no route to the server's addresses, neither for IPv4 nor for IPv6")
        .fix("check this machine's network: it has no route to either address")
}

/// The name alone: a dial is described with its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A Unix socket that refuses is left over from a server that is gone.
fn socket_refused(mut finding: Finding, dials: &[Dial]) -> Finding {
    let is_socket = |dial: &Dial| dial.host.starts_with('/') || dial.host.starts_with('@');
    if finding.cause == Cause::ConnectionRefused && dials.iter().all(is_socket) {
        finding.cause = Cause::UnixSocketMissing;
        finding.variant = None;
        finding.summary = Cause::UnixSocketMissing.title().into();
        finding = finding.fix(Cause::UnixSocketMissing.fixes().concat());
    }
    finding
}

fn describe(dial: &Dial) -> String {
    let address = dial.address.as_deref().unwrap_or(&dial.host);
    let ms = dial.took.as_secs_f64() * 1e3;
    let result = match &dial.result {
        Ok(()) => "connected".into(),
        Err(DialFault::NameNotFound) => "the resolver knows no such name".into(),
        Err(DialFault::NameTemporary) => "the resolver could not say (temporary failure)".into(),
        Err(DialFault::Refused) => "connection refused".into(),
        Err(DialFault::Timeout) => "no answer".into(),
        Err(DialFault::Unreachable) => "no route to it from here".into(),
        Err(DialFault::HostUnreachable) => "host unreachable".into(),
        Err(DialFault::SocketMissing) => "no such socket".into(),
        Err(DialFault::Loop) => "that is pgwhy itself".into(),
        Err(DialFault::Other(text)) => text.clone(),
    };
    format!("{address}: {result} after {ms:.1} ms")
}

/// What answers is another protocol.
pub(super) fn not_postgres(record: &Record) -> Option<Finding> {
    // `SSH-2.0` and some greetings of MySQL begin with a byte that answers an SSLRequest; then it is
    // what follows unasked that gives them away.
    let spoke_unasked = matches!(record.injected, Some((Side::Server, _)));
    let variant = protocol_of(&record.server_start).or_else(|| protocol_of(behind_answer(record)));
    // In a capture a greeting may stand before the client's first packet, where no message is expected.
    let greeted = record.startup.is_some() && record.requests.is_empty() && record.error.is_none();
    // A packet of MySQL's may have the length of an E.
    let no_error = record.error.is_none() && encryption::answered_with_error(record);
    let known = (spoke_unasked || greeted || no_error) && variant.is_some();
    let other_protocol = record.server_not_postgres || known;
    if !other_protocol {
        return None;
    }
    let step = match record.step {
        Some(Step::SslRequest | Step::GssRequest | Step::TlsHandshake) if record.startup.is_none() => {
            Step::SslRequest
        }
        _ if record.startup.is_none() && record.ssl_request.is_none() => Step::Connect,
        _ => Step::AuthRequest,
    };
    let shown = record.server_start.get(..24.min(record.server_start.len())).unwrap_or_default();
    let evidence = format!("its first bytes are \"{}\"", shown.escape_ascii());
    let variant = variant.unwrap_or("unknown");
    Some(Finding::proven(step, Cause::NotPostgres, evidence).variant(variant))
}

/// What came behind the answer to an SSLRequest.
fn behind_answer(record: &Record) -> &[u8] {
    let answered = record.ssl_request.is_some_and(|request| matches!(request.answer, Some((b'S' | b'N', _))));
    record.server_start.get(usize::from(answered)..).unwrap_or_default()
}

/// Recognises other protocols by how they greet or complain.
fn protocol_of(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("http"),
        [b'S', b'S', b'H', b'-', ..] => Some("ssh"),
        // An error of RESP: its kind is a word in capitals (ERR, DENIED, NOAUTH).
        [b'-', a, b, c, ..] if [a, b, c].iter().all(|letter| letter.is_ascii_uppercase()) => Some("redis"),
        // A packet of MySQL: length in 3 bytes, sequence 0, protocol 10 or an error.
        [_, _, 0, 0, 10 | 0xff, ..] if start.len() > 5 => Some("mysql"),
        [0x15 | 0x16, 3, 0..=4, ..] => Some("tls"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Confidence::{Likely, Proven};
    use super::*;
    use DialFault::{HostUnreachable, Unreachable};

    #[test]
    fn a_missing_family_is_proven_only_where_its_routes_are_missing() {
        const SIX: &str = "[2001:db8::1]:5432";
        const FOUR: &str = "192.0.2.1:5432";
        let rows = [
            ("only AAAA records, and no route", vec![(SIX, Unreachable)], Proven),
            ("only A records, and no route", vec![(FOUR, Unreachable)], Likely),
            ("no route for either", vec![(SIX, Unreachable), (FOUR, Unreachable)], Likely),
            ("firewalld rejects with icmp-host-prohibited", vec![(FOUR, HostUnreachable)], Likely),
            ("no IPv6, and a firewall", vec![(SIX, Unreachable), (FOUR, HostUnreachable)], Likely),
        ];
        for (claim, dials, confidence) in rows {
            let dials: Vec<Dial> = dials
                .into_iter()
                .map(|(address, fault)| Dial {
                    host: "db.example:5432".into(),
                    address: Some(address.into()),
                    took: std::time::Duration::ZERO,
                    result: Err(fault),
                })
                .collect();
            let finding =
                unreachable(&Record::default(), &Context { dials: &dials, ..Context::default() }).unwrap();
            assert_eq!(
                (finding.cause, finding.confidence),
                (Cause::AddressFamilyUnreachable, confidence),
                "{claim}"
            );
        }
    }
}
