//! Conversations of the corpus in packets: every link layer and file format, shuffled, cut and torn.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pgwhy::capture::conversation::Conversation as Found;
use pgwhy::diagnose::{Confidence, Context, Diagnosis, Outcome, diagnose};
use pgwhy::fuzzing::capture::{Ends, Packet, Random, packets, pcap, read, shuffle};
use pgwhy::fuzzing::{Cutting, Event};
use pgwhy::handshake::driver::recognise;
use pgwhy::handshake::{Close, Side};

use crate::corpus::{Conversation, conversations};

/// Conversations whose end was seen: the others are cut off in any capture.
fn complete() -> Vec<Conversation> {
    let all = conversations().into_iter();
    all.filter(|one| one.events.iter().any(|event| event.what.is_err())).collect()
}

fn diagnosed(found: &Found) -> Diagnosis {
    diagnose(&found.record, &Context { lack: Some(found.lack), ..Context::default() })
}

/// The words of `tests/corpus/verdicts.txt`.
fn words(found: &Found) -> String {
    let diagnosis = diagnosed(found);
    let driver = recognise(&found.record).map_or("-", |driver| driver.name);
    let mut line = format!("{} driver={driver}", diagnosis.outcome.word());
    if let Some(finding) = &diagnosis.finding {
        let variant = finding.variant.map_or_else(String::new, |variant| format!("/{variant}"));
        let (step, cause, word) = (finding.step.id(), finding.cause.id(), finding.confidence.word());
        line.push_str(&format!(" {step} {cause}{variant} {word}"));
    }
    line
}

#[track_caller]
fn the_one(packets: &[Packet]) -> Found {
    let (mut found, trouble) = read(pcap(packets).as_slice());
    assert_eq!((found.len(), trouble), (1, None));
    found.remove(0)
}

fn golden() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(crate::root().join("tests/corpus/verdicts.txt")).unwrap();
    let split = |line: &str| line.split_once(": ").map(|(name, words)| (name.to_owned(), words.to_owned()));
    text.lines().filter_map(split).collect()
}

#[test]
fn a_conversation_in_packets_has_its_verdict_of_the_corpus() {
    let golden = golden();
    let (mut compared, mut wrong) = (0, Vec::new());
    for one in complete() {
        let expected = &golden[&one.to_string()];
        let plain = packets(&one.events, Ends::default(), Cutting::Whole);
        let found = the_one(&plain);
        if words(&found) != *expected {
            wrong.push(format!("{one}: {} instead of {expected}", words(&found)));
        }
        assert!(found.lack == Default::default(), "{one}: {:?}", found.lack);
        for seed in 0..3 {
            let cut = packets(&one.events, Ends::default(), Cutting::Random(seed));
            let other = the_one(&shuffle(&cut, &mut Random(seed)));
            if words(&other) != *expected {
                wrong.push(format!("{one}, shuffled by {seed}: {} instead of {expected}", words(&other)));
            }
        }
        compared += 1;
    }
    println!("{compared} conversations");
    assert!(compared > 500, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each packet of each conversation is lost once.
#[test]
fn what_is_lost_proves_nothing_wrong() {
    let (mut lost, mut told, mut wrong) = (0, 0, Vec::new());
    let clients = ["pg", "psql-15", "asyncpg", "pgjdbc"];
    for one in complete().iter().filter(|one| clients.contains(&one.client.as_str())) {
        let whole = packets(&one.events, Ends::default(), Cutting::Whole);
        let truth = diagnosed(&the_one(&whole));
        let cause = |diagnosis: &Diagnosis| diagnosis.finding.as_ref().map(|finding| finding.cause);
        for place in 0..whole.len() {
            let mut torn = whole.clone();
            torn.remove(place);
            lost += 1;
            for found in read(pcap(&torn).as_slice()).0 {
                let diagnosis = diagnosed(&found);
                let same = (diagnosis.outcome, cause(&diagnosis)) == (truth.outcome, cause(&truth));
                told += usize::from(same);
                let proven = diagnosis
                    .finding
                    .as_ref()
                    .is_some_and(|finding| finding.confidence == Confidence::Proven);
                let false_success = diagnosis.outcome == Outcome::Ok && truth.outcome != Outcome::Ok;
                if !same && (proven || false_success) {
                    wrong.push(format!("{one} without packet {place}: {}", words(&found)));
                }
            }
        }
    }
    println!("{lost} packets were lost; {told} times the verdict was the same");
    assert!(lost > 1_000 && told > lost / 3, "{told} of {lost}");
    assert!(wrong.is_empty(), "{} of {lost}:\n{}", wrong.len(), wrong.join("\n"));
}

fn sample() -> Vec<Event> {
    let all = conversations();
    let one = all.iter().find(|one| one.client == "pg" && one.scenario == "scram_wrong_pw");
    one.unwrap().events.clone()
}

fn ipv6() -> Ends {
    let host = |last, port| SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)), port);
    Ends { client: host(1, 40_001), server: host(2, 5432), ..Ends::default() }
}

/// A frame around an IP packet.
fn frame(link: u16, ip: &[u8]) -> Vec<u8> {
    let version_6 = ip[0] >> 4 == 6;
    let kind: &[u8] = if version_6 { &[0x86, 0xdd] } else { &[8, 0] };
    let head: Vec<u8> = match link {
        0 => vec![if version_6 { 30 } else { 2 }, 0, 0, 0],
        108 => vec![0, 0, 0, if version_6 { 24 } else { 2 }],
        1 => [&[2; 12], kind].concat(),
        113 => [&[0; 14], kind].concat(),
        276 => [kind, &[0; 18]].concat(),
        _ => Vec::new(),
    };
    // Short Ethernet frames are padded.
    let padding = if link == 1 { vec![0; 46usize.saturating_sub(ip.len())] } else { Vec::new() };
    [head, ip.to_vec(), padding].concat()
}

/// A pcap file in one of its dialects.
fn pcap_as(link: u16, big: bool, nanoseconds: bool, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let word = |number: u64| {
        let number = u32::try_from(number).unwrap();
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = [word(magic), version, word(0), word(0), word(65_535), word(u64::from(link))].concat();
    for (at, bytes) in frames {
        let part = at % 1_000_000_000 / if nanoseconds { 1 } else { 1_000 };
        let length = bytes.len() as u64;
        file.extend([word(at / 1_000_000_000), word(part), word(length), word(length)].concat());
        file.extend_from_slice(bytes);
    }
    file
}

/// A pcapng file whose times count `units` in a second, as `resolution` says.
fn pcapng_as(link: u16, big: bool, resolution: u8, units: u128, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let word = |number: u64| {
        let number = u32::try_from(number).unwrap();
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let half = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let mut file = Vec::new();
    let mut block = |kind: u64, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = word((body.len() + padding.len() + 12) as u64);
        file.extend([&word(kind)[..], &length, body, &padding, &length].concat());
    };
    let version = [half(1), half(0)].concat();
    block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat());
    let option = [&half(9)[..], &half(1), &[resolution, 0, 0, 0]].concat();
    block(1, &[&half(link)[..], &half(0), &word(0), &option].concat());
    for (at, bytes) in frames {
        let ticks = u64::try_from(u128::from(*at) * units / 1_000_000_000).unwrap();
        let length = word(bytes.len() as u64);
        let head = [word(0), word(ticks >> 32), word(ticks & 0xffff_ffff), length, length].concat();
        block(6, &[head, bytes.clone()].concat());
    }
    file
}

fn framed(link: u16, packets: &[Packet]) -> Vec<(u64, Vec<u8>)> {
    packets.iter().map(|packet| (packet.at, frame(link, &packet.ip))).collect()
}

#[test]
fn every_link_layer_and_format_gives_the_same() {
    let expected = words(&the_one(&packets(&sample(), Ends::default(), Cutting::Whole)));
    assert!(expected.starts_with("failed") && expected.contains("scram_client_final"), "{expected}");
    for ends in [Ends::default(), ipv6()] {
        let list = packets(&sample(), ends, Cutting::Whole);
        for link in [0u16, 1, 12, 101, 108, 113, 276] {
            let frames = framed(link, &list);
            let files = [
                ("pcap", pcap_as(link, false, false, &frames)),
                ("pcap, big-endian", pcap_as(link, true, false, &frames)),
                ("pcap, nanoseconds", pcap_as(link, false, true, &frames)),
                ("pcapng, microseconds", pcapng_as(link, false, 6, 1_000_000, &frames)),
                ("pcapng, big-endian", pcapng_as(link, true, 9, 1_000_000_000, &frames)),
                ("pcapng, 2^-20 s", pcapng_as(link, false, 0x94, 1 << 20, &frames)),
            ];
            for (format, file) in files {
                let (found, trouble) = read(file.as_slice());
                assert_eq!((found.len(), trouble), (1, None), "{format}, link type {link}");
                assert_eq!(words(&found[0]), expected, "{format}, link type {link}");
                let off = found[0].began.abs_diff(ends.began);
                assert!(off < 1_000, "{format}, link type {link}: {off} ns off");
            }
        }
    }
}

/// Cuts an IPv4 packet into fragments of 16 bytes.
fn fragmented(packet: &Packet) -> Vec<Packet> {
    let (head, body) = packet.ip.split_at(20);
    let last = body.len().div_ceil(16).max(1) - 1;
    let piece = |(number, piece): (usize, &[u8])| {
        let mut ip = [head, piece].concat();
        let length = u16::try_from(ip.len()).unwrap();
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        // Every packet has an identification of its own.
        ip[4..6].copy_from_slice(&packet.ip[24..28][2..]);
        let flags = u16::try_from(number * 2).unwrap() | if number < last { 0x2000 } else { 0 };
        ip[6..8].copy_from_slice(&flags.to_be_bytes());
        Packet { at: packet.at, ip, tells: packet.tells }
    };
    body.chunks(16).enumerate().map(piece).collect()
}

#[test]
fn fragments_in_any_order_give_the_same() {
    let list = packets(&sample(), Ends::default(), Cutting::Whole);
    let expected = words(&the_one(&list));
    let pieces: Vec<Packet> = list.iter().flat_map(fragmented).collect();
    assert!(pieces.len() > 2 * list.len());
    assert_eq!(words(&the_one(&pieces)), expected);
    let backwards: Vec<Packet> =
        list.iter().flat_map(|packet| fragmented(packet).into_iter().rev()).collect();
    assert_eq!(words(&the_one(&backwards)), expected);
}

#[test]
fn a_snapshot_too_short_is_named_and_proves_nothing() {
    let list = packets(&sample(), Ends::default(), Cutting::Whole);
    let mut file = pcap_as(101, false, false, &[]);
    for packet in &list {
        let kept = packet.ip.len().min(60);
        let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        file.extend([word(1), word(0), word(kept), word(packet.ip.len())].concat());
        file.extend_from_slice(&packet.ip[..kept]);
    }
    let (found, _) = read(file.as_slice());
    let diagnosis = diagnosed(&found[0]);
    assert!(found[0].lack.client_bytes > 0);
    assert_ne!(diagnosis.finding.map(|finding| finding.confidence), Some(Confidence::Proven));
    let said = format!("{:?}", diagnosed(&found[0]));
    assert!(said.contains("the capture lacks"), "{said}");
}

/// A capture that begins in the middle, and one that ends there.
#[test]
fn a_login_that_is_not_all_there_is_not_judged_by_its_absence() {
    let list = packets(&sample(), Ends::default(), Cutting::Whole);
    let without_syn = the_one(&list[3..]);
    assert!(words(&without_syn).starts_with("failed"), "its first bytes say what it is");
    let (found, _) = read(pcap(&list[5..]).as_slice());
    assert!(found.is_empty(), "the startup packet is missing: nobody can tell what it is");
    for end in 4..list.len() - 4 {
        let cut = diagnosed(&the_one(&list[..end]));
        assert_ne!(cut.outcome, Outcome::Failed, "the first {end} packets: {cut:?}");
    }
}

#[test]
fn other_protocols_are_not_taken_for_postgresql() {
    let other = Ends { server: SocketAddr::new(Ends::default().server.ip(), 9_092), ..Ends::default() };
    let says = |bytes: &[u8]| Event {
        at: Default::default(),
        from: pgwhy::handshake::Side::Client,
        what: Ok(bytes.to_vec()),
    };
    let rows: [(&str, &[u8]); 5] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("Kafka, metadata", b"\0\0\0\x14\0\x03\0\x01\0\0\0\x01\0\x06client\0\0\0\0"),
        ("MySQL's answer to a greeting", b"\x20\0\0\x01\x85\xa6\xff\x01\0\0\0\x01\x21"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ];
    for (row, bytes) in rows {
        let list = packets(&[says(bytes)], other, Cutting::Whole);
        assert!(read(pcap(&list).as_slice()).0.is_empty(), "{row}");
    }
    let list = packets(&sample(), other, Cutting::Whole);
    assert_eq!(read(pcap(&list).as_slice()).0.len(), 1, "PostgreSQL on Kafka's port is PostgreSQL");
}

/// Wherever a file is cut or changed, what stood before is read, and a message says where it ends.
/// Live, pgwhy has the client's first packet before it connects to the server; on the wire a greeting may come first.
#[test]
fn a_server_that_greets_before_the_client_speaks_is_named() {
    let say = |from, bytes: &[u8]| Event { at: Duration::ZERO, from, what: Ok(bytes.to_vec()) };
    let greeting = say(Side::Server, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    let startup = say(Side::Client, b"\0\0\0\x18\0\x03\0\0user\0app_scram\0\0");
    let over = Event { at: Duration::ZERO, from: Side::Server, what: Err(Close::Eof) };
    for events in [[greeting.clone(), startup.clone(), over.clone()], [startup, greeting, over]] {
        let found = the_one(&packets(&events, Ends::default(), Cutting::Whole));
        let finding = diagnosed(&found).finding.unwrap();
        assert_eq!((finding.cause.id(), finding.variant), ("not_postgres", Some("ssh")));
    }
}

#[test]
fn a_damaged_file_gives_what_can_be_read() {
    let list = packets(&sample(), Ends::default(), Cutting::Whole);
    let files = [pcap(&list), pcapng_as(101, false, 9, 1_000_000_000, &framed(101, &list))];
    for (number, file) in files.iter().enumerate() {
        let whole = read(file.as_slice()).0.len();
        assert_eq!(whole, 1);
        for end in 0..file.len() {
            let (found, trouble) = read(&file[..end]);
            assert!(found.len() <= 1);
            let fine = trouble.is_none_or(|trouble| trouble.at <= end as u64 && !trouble.what.is_empty());
            assert!(fine, "file {number} cut off at {end}");
        }
        let mut random = Random(7);
        for round in 0..3_000 {
            let mut damaged = file.clone();
            for _ in 0..=round % 4 {
                let place = random.below(damaged.len());
                damaged[place] = u8::try_from(random.below(256)).unwrap();
            }
            for found in read(damaged.as_slice()).0 {
                diagnosed(&found);
            }
        }
    }
}
