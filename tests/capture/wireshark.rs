//! Stock Wireshark opens a capture, dissects it and shows the comments; the facts are those of the live run.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use pgwhy::app::capture::report_of;
use pgwhy::capture::facts::Facts;
use pgwhy::handshake::ladder::Rung;
use pgwhy::handshake::{Chunk, Observer, Record, Side, Step};
use pgwhy::report::json;
use serde_json::Value;

use super::stage::{PASSWORD, blocks, facts, log_in, proxy, reports, server, tool};
use super::support::client::Who;
use super::support::keeper::Scratch;
use super::support::server::{Server, Version};

/// Logins in, and how many of them fail.
fn logins(version: Version, dir: &Scratch, more: &[&str]) -> (Server, std::path::PathBuf, Vec<Value>) {
    let server = server(version);
    let file = dir.path().join("all.pcapng");
    let mut proxy = proxy(&server, &file, more);
    let rows = [
        (Who::Psql, "scram", PASSWORD),
        (Who::Psql, "scram", "wrong"),
        (Who::Asyncpg, "md5", PASSWORD),
        (Who::Asyncpg, "md5", "\"Pl4nted#s3cret%2F$x\""),
        (Who::Pg, "password", PASSWORD),
        (Who::Pg, "password", "wrong"),
        (Who::Psql, "trusted", ""),
        (Who::PostgresJs, "rejected", PASSWORD),
        (Who::TokioPostgres, "scram", PASSWORD),
    ];
    let mut count = 0;
    for (who, user, password) in rows {
        log_in(&proxy, who, user, password);
        // A driver may try more than once; each login is in the file before the next begins.
        count = proxy.wait_handshakes(count + 1, super::support::DEADLINE).len();
    }
    let reports = reports(&mut proxy, count);
    (server, file, reports)
}

/// One line a frame: the wanted fields.
pub fn fields(file: &Path, port: u16, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
    let decode = format!("tcp.port=={port},pgsql");
    let file = file.display().to_string();
    let mut args =
        vec!["-r", &file, "-d", &decode, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"];
    args.extend(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    if !filter.is_empty() {
        args.extend(["-Y", filter]);
    }
    for name in names {
        args.extend(["-e", name]);
    }
    let text = tool("tshark", &args);
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// Plays the packets of a login's client leg, and the ends of stream from its facts.
fn replayed(file: &Path, facts: &Facts) -> Record {
    let bytes = std::fs::read(file).unwrap();
    let (from, to) = (&facts.client_leg.packets_from, &facts.client_leg.packets_to);
    let start = facts.accepted.duration_since(std::time::UNIX_EPOCH).unwrap();
    let word = |at: &[u8], n: usize| u32::from_le_bytes(at[n * 4..n * 4 + 4].try_into().unwrap());
    let mut observer = Observer::new();
    let mut closes = facts.closes.iter().peekable();
    for (kind, body) in blocks(&bytes) {
        if kind != 6 || word(body, 0) != 0 {
            continue;
        }
        let at = Duration::from_nanos(u64::from(word(body, 1)) << 32 | u64::from(word(body, 2)));
        let packet = &body[20..20 + word(body, 3) as usize];
        let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("no TCP") };
        let (source, target) = match sliced.net.as_ref().unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()))
            }
            etherparse::NetSlice::Ipv6(ip) => {
                (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
            }
            other => panic!("no IP: {other:?}"),
        };
        let source = SocketAddr::new(source, tcp.source_port()).to_string();
        let target = SocketAddr::new(target, tcp.destination_port()).to_string();
        let side = match () {
            () if source == *from && target == *to => Side::Client,
            () if source == *to && target == *from => Side::Server,
            () => continue,
        };
        if tcp.payload().is_empty() || at < start || at > start + facts.elapsed {
            continue;
        }
        let at = at - start;
        while let Some((side, how, when)) = closes.next_if(|(_, _, when)| *when <= at) {
            observer.closed(*when, *side, *how);
        }
        observer.eat(Chunk { at, from: side, bytes: tcp.payload() });
    }
    closes.for_each(|(side, how, when)| observer.closed(*when, *side, *how));
    observer.finish()
}

fn check(version: Version) {
    let dir = Scratch::new();
    let (server, file, reports) = logins(version, &dir, &[]);
    let port = server.port;
    let shown = file.display().to_string();

    let broken = "_ws.malformed || tcp.checksum.status == \"Bad\" || ip.checksum.status == \"Bad\" || \
                  tcp.analysis.retransmission || tcp.analysis.out_of_order || tcp.analysis.lost_segment || \
                  tcp.analysis.ack_lost_segment";
    assert_eq!(fields(&file, port, broken, &["frame.number", "_ws.col.Info"]), Vec::<Vec<String>>::new());
    let data = fields(&file, port, "tcp.len > 0 && !pgsql", &["frame.number"]);
    assert_eq!(data.len(), 0, "every byte is dissected: {data:?}");
    let messages = fields(&file, port, "pgsql", &["pgsql.type"]);
    for name in ["Startup message", "Authentication request", "Error", "Ready for query", "Backend key data"]
    {
        assert!(messages.iter().any(|line| line[0].contains(name)), "{name}: {messages:?}");
    }
    let uncommented = fields(&file, port, "tcp && !frame.comment", &["frame.number", "_ws.col.Info"]);
    assert_eq!(uncommented, Vec::<Vec<String>>::new());

    // Both legs of every login open and, where it failed, close.
    let streams =
        fields(&file, port, "tcp", &["tcp.stream", "tcp.flags", "frame.comment", "frame.interface_name"]);
    let mut by_stream: BTreeMap<usize, Vec<&Vec<String>>> = BTreeMap::new();
    for line in &streams {
        by_stream.entry(line[0].parse().unwrap()).or_default().push(line);
    }
    assert_eq!(by_stream.len(), 2 * reports.len(), "two connections a login");
    for (number, report) in reports.iter().enumerate() {
        for (leg, stream) in [("client leg", 2 * number), ("server leg", 2 * number + 1)] {
            let lines = &by_stream[&stream];
            assert!(lines.iter().all(|line| line[3] == leg), "{lines:?}");
            assert_eq!(lines[0][1], "0x0002", "SYN first: {lines:?}");
            let failed = report["outcome"] == "failed";
            let fin = |line: &&&Vec<String>| line[1] == "0x0011" || line[1] == "0x0014";
            assert_eq!(lines.iter().any(|line| fin(&line)), failed, "teardown: {report:#} {lines:?}");
            let said: Vec<&str> =
                lines.iter().map(|line| line[2].as_str()).filter(|c| c.contains("FAILED at")).collect();
            assert_eq!(said.len(), usize::from(failed), "the verdict stands once on a leg: {lines:?}");
            if failed {
                let (step, cause) =
                    (report["failed_step"].as_str().unwrap(), report["cause"].as_str().unwrap());
                assert!(said[0].contains(step) && said[0].contains(cause), "{} {report:#}", said[0]);
            }
        }
    }

    let about = tool("capinfos", &[&shown]);
    assert!(about.contains("nanoseconds") && about.contains("secrets: blanked"), "{about}");
    the_facts_are_those_of_the_live_run(&file, &reports);

    for (name, args) in [
        ("editcap", vec![shown.as_str()]),
        ("mergecap", vec!["-w"]),
        ("editcap", vec!["-F", "pcapng", &shown]),
    ] {
        let copy = dir.path().join(format!("{name}-{}.pcapng", args.len()));
        let to = copy.display().to_string();
        let mut args = args;
        args.push(&to);
        if name == "mergecap" {
            args.push(&shown);
        }
        tool(name, &args);
        the_facts_are_those_of_the_live_run(&copy, &reports);
    }
}

pub fn the_facts_are_those_of_the_live_run(file: &Path, reports: &[Value]) {
    let facts = facts(file);
    assert_eq!(facts.len(), reports.len());
    for (facts, live) in facts.iter().zip(reports) {
        let record = replayed(file, facts);
        let diagnosis = facts.diagnosis.clone().expect("a diagnosis");
        let shown: Value =
            serde_json::from_str(&json::handshake(&report_of(&record, facts, diagnosis))).unwrap();
        assert_eq!(shown, *live, "what a capture shows is what the live run showed");
        // The ladder can also be had from the packets alone, but for the rung that dialled.
        if live["outcome"] == "failed" && live["steps"][0]["ok"] == true {
            let finding = facts.diagnosis.as_ref().and_then(|diagnosis| diagnosis.finding.as_ref());
            let ladder = pgwhy::handshake::ladder::ladder(&record, finding.map(|finding| finding.step));
            // Of TLS that pgwhy opened the packets have only the inside.
            let opened = facts.steps.iter().any(|rung| rung.note.contains(" between pgwhy and "));
            let seen = |rungs: &[Rung]| {
                let rungs = rungs.iter().skip_while(|rung| opened && rung.step <= Step::Startup);
                rungs.cloned().collect::<Vec<_>>()
            };
            assert_eq!(seen(&ladder), seen(&facts.steps[1..]), "{live:#}");
        }
    }
}

#[test]
fn wireshark_dissects_every_packet_of_postgresql_15() {
    check(Version::V15);
}

#[test]
fn wireshark_dissects_every_packet_of_postgresql_18() {
    check(Version::V18);
}
