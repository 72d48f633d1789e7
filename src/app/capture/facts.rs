//! Between reports and what a capture stores of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::app::dials::{dial, way};
use crate::capture::facts::{Facts, LegFacts};
use crate::capture::write::same_family;
use crate::diagnose::context::Opaque;
use crate::diagnose::{Diagnosis, Outcome};
use crate::handshake::Record;
use crate::net::{Attempt, PeerAddr};
use crate::report::escape::visible;
use crate::report::{Report, Tls};

/// PostgreSQL's port, where no other is known.
const POSTGRESQL: u16 = 5432;
/// Below these are ports that a client would not have.
const FIRST_CLIENT_PORT: u64 = 1_024;

/// Everything about a login that its packets don't tell.
pub(super) fn facts_of(attempt: &Attempt, report: &Report, secrets_kept: bool, left_out: u64) -> Facts {
    let port = server_port(attempt);
    let (client_from, client_to) = packets(attempt, Some(&attempt.client), &attempt.listener, port);
    let client_leg = leg(
        attempt.client.to_string(),
        attempt.listener.to_string(),
        (client_from, client_to),
        &report.client_tls,
    );
    let server_leg = attempt.server.as_ref().map(|server| {
        let from = attempt.our_outgoing.as_ref();
        let addresses = packets(attempt, from, server, port);
        let shown = from.map(ToString::to_string).unwrap_or_default();
        leg(shown, server.to_string(), addresses, &report.server_tls)
    });
    Facts {
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
        id: report.id.clone(),
        accepted: report.time,
        elapsed: report.elapsed,
        client_leg,
        server_leg,
        server_address: report.server.address.clone(),
        server_version: report.server.version.clone(),
        dials: attempt.dials.iter().map(dial).collect(),
        ssl_answered_by_us: attempt.ssl_answered_by_us,
        opaque: attempt.opaque.map(|opaque| Opaque {
            client_bytes: opaque.client_bytes,
            server_bytes: opaque.server_bytes,
            closed: opaque.closed,
        }),
        closes: attempt.record.closes.clone(),
        steps: report.steps.clone(),
        diagnosis: Some(report.diagnosis.clone()),
        related: report.related.clone(),
        differs: report.differs.clone(),
        last_success: report.last_success.clone(),
        secrets_kept,
        bytes_left_out: left_out,
    }
}

fn leg(from: String, to: String, packets: (SocketAddr, SocketAddr), tls: &Tls) -> LegFacts {
    LegFacts {
        from,
        to,
        packets_from: packets.0.to_string(),
        packets_to: packets.1.to_string(),
        tls_asked: tls.asked,
        tls_answer: tls.answer,
        tls_version: tls.version.clone(),
    }
}

/// The report that the live run gave. `record` is what the observer made of the stored packets.
pub fn report_of(record: &Record, facts: &Facts, diagnosis: Diagnosis) -> Report {
    let mut report = Report::new(record, diagnosis, &way(&facts.dials), facts.ssl_answered_by_us);
    identify(&mut report, facts);
    if !facts.steps.is_empty() {
        report.steps.clone_from(&facts.steps);
    }
    report.related.clone_from(&facts.related);
    report.differs.clone_from(&facts.differs);
    report.last_success.clone_from(&facts.last_success);
    report
}

/// Who it was, as pgwhy knew it: packets of Unix sockets have made-up addresses.
pub(in crate::app) fn identify(report: &mut Report, facts: &Facts) {
    let tls = |leg: &LegFacts| Tls {
        asked: leg.tls_asked,
        answer: leg.tls_answer,
        version: leg.tls_version.clone(),
    };
    report.id.clone_from(&facts.id);
    report.time = facts.accepted;
    report.elapsed = facts.elapsed;
    report.client.address.clone_from(&facts.client_leg.from);
    report.server.address.clone_from(&facts.server_address);
    report.server.version.clone_from(&facts.server_version);
    report.client_tls = tls(&facts.client_leg);
    report.server_tls = facts.server_leg.as_ref().map(tls).unwrap_or_default();
}

/// What the failing packet says.
pub(super) fn verdict(report: &Report) -> String {
    let outcome = report.diagnosis.outcome;
    let Some(finding) = report.diagnosis.finding.as_ref().filter(|_| outcome == Outcome::Failed) else {
        return format!("pgwhy: {}", outcome.word());
    };
    let variant = finding.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    let fix = finding.fix.first().map(|fix| format!(" Fix: {fix}.")).unwrap_or_default();
    visible(&format!(
        "pgwhy: FAILED at {}, {}'s side: {} ({}{variant}, {}).{fix}",
        finding.step.id(),
        finding.leg.word(),
        finding.summary,
        finding.cause.id(),
        finding.confidence.word(),
    ))
}

/// The port by which Wireshark knows what to dissect: the server's own, also towards the client.
fn server_port(attempt: &Attempt) -> u16 {
    match &attempt.server {
        Some(PeerAddr::Tcp(addr)) => return addr.port(),
        Some(PeerAddr::Unix(Some(path))) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            return name.rsplit_once('.').and_then(|(_, port)| port.parse().ok()).unwrap_or(POSTGRESQL);
        }
        _ => {}
    }
    let tried = attempt.dials.iter().rev().find_map(|dial| match dial.addr {
        Some(PeerAddr::Tcp(addr)) => Some(addr.port()),
        _ => None,
    });
    tried.unwrap_or(POSTGRESQL)
}

/// A connection's addresses in its packets; what has none gets one of loopback's.
fn packets(attempt: &Attempt, from: Option<&PeerAddr>, to: &PeerAddr, port: u16) -> (SocketAddr, SocketAddr) {
    let ip = |peer: &PeerAddr| peer.ip().filter(|ip| !ip.is_unspecified());
    let from_ip = from.and_then(ip);
    let to_ip = ip(to).or(from_ip.filter(IpAddr::is_loopback));
    let made_up = FIRST_CLIENT_PORT + attempt.id % (u64::from(u16::MAX) - FIRST_CLIENT_PORT);
    let from_port = match from {
        Some(PeerAddr::Tcp(addr)) => addr.port(),
        _ => u16::try_from(made_up).unwrap_or(u16::MAX),
    };
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let unknown = match to {
        PeerAddr::Tcp(addr) => addr.ip(),
        PeerAddr::Unix(_) => local,
    };
    let from = SocketAddr::new(from_ip.unwrap_or(local), from_port);
    same_family(from, SocketAddr::new(to_ip.unwrap_or(unknown), port))
}
