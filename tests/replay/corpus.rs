//! Reads `tests/corpus`; its README says how the files are written.

use std::fmt;
use std::time::Duration;

use pgwhy::fuzzing::capture::{Ends, packets, pcap};
use pgwhy::fuzzing::{Cutting, Event, seed};
use pgwhy::handshake::{Close, Side};

/// A conversation of a real client with a real server.
pub(crate) struct Conversation {
    /// The client's name, as the file's.
    pub(crate) client: String,
    /// What was tried.
    pub(crate) scenario: String,
    /// The server: `pg15`, `pg18`.
    pub(crate) server: String,
    /// The number of the connection within the scenario.
    pub(crate) number: u32,
    /// The inside of a TLS connection that was opened.
    pub(crate) inside_tls: bool,
    /// What happened.
    pub(crate) events: Vec<Event>,
    /// What was seen outside of TLS, if it was opened.
    pub(crate) outside: Vec<Event>,
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.inside_tls { " tls" } else { "" };
        write!(f, "{} {} {} {}{tls}", self.client, self.scenario, self.server, self.number)
    }
}

/// Every conversation; of one that went over TLS what was said inside.
pub(crate) fn conversations() -> Vec<Conversation> {
    let folder = super::root().join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut list = Vec::new();
    for file in files {
        let client = file.file_stem().unwrap().to_string_lossy().into_owned();
        if file.extension().is_none_or(|extension| extension != "txt") || client == "verdicts" {
            continue;
        }
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["=", scenario, server, number] => list.push(Conversation {
                    client: client.clone(),
                    scenario: (*scenario).into(),
                    server: (*server).into(),
                    number: number.parse().unwrap(),
                    inside_tls: false,
                    events: Vec::new(),
                    outside: Vec::new(),
                }),
                ["TLS"] => {
                    let conversation: &mut Conversation = list.last_mut().unwrap();
                    conversation.inside_tls = true;
                    conversation.outside = std::mem::take(&mut conversation.events);
                }
                [side @ ("C" | "S"), ms, what] => {
                    let from = if *side == "C" { Side::Client } else { Side::Server };
                    let at = Duration::from_secs_f64(ms.parse::<f64>().unwrap() / 1e3);
                    let what = match *what {
                        "close" => Err(Close::Eof),
                        "reset" => Err(Close::Reset),
                        hex => Ok(unhex(hex)),
                    };
                    list.last_mut().unwrap().events.push(Event { at, from, what });
                }
                [""] | ["#", ..] => {}
                _ => panic!("{}: {line}", file.display()),
            }
        }
    }
    assert!(list.len() > 1000, "the corpus is there");
    list
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The bytes of every chunk of one side.
fn chunks(side: Side) -> Vec<Vec<u8>> {
    let list = conversations();
    let all = list.iter().flat_map(|c| c.outside.iter().chain(&c.events));
    let of_side = all.filter(|event| event.from == side);
    of_side.filter_map(|event| event.what.clone().ok()).collect()
}

/// Whole tagged messages of a chunk.
fn messages(chunk: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut messages) = (chunk, Vec::new());
    while let Some(word) = rest.get(1..5) {
        let length = u32::from_be_bytes(word.try_into().unwrap()) as usize + 1;
        if length > rest.len() || !rest[0].is_ascii_alphabetic() {
            break;
        }
        messages.push(&rest[..length]);
        rest = &rest[length..];
    }
    messages
}

/// The first inputs of a target, each kept once; conversations only once a scenario and family.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let with_control = |list: Vec<Vec<u8>>| list.into_iter().map(|chunk| [vec![0], chunk].concat()).collect();
    let server_messages = || -> Vec<Vec<u8>> {
        let chunks = chunks(Side::Server);
        chunks.iter().flat_map(|chunk| messages(chunk)).map(<[u8]>::to_vec).collect()
    };
    let client_messages = || -> Vec<Vec<u8>> {
        let chunks = chunks(Side::Client);
        chunks.iter().flat_map(|chunk| messages(chunk)).map(<[u8]>::to_vec).collect()
    };
    let mut list: Vec<Vec<u8>> = match target {
        "frontend" => chunks(Side::Client)
            .iter()
            .filter_map(|chunk| match chunk.first()? {
                0 => chunk.get(4..),
                _ => chunk.get(5..),
            })
            .map(<[u8]>::to_vec)
            .collect(),
        // The tag and the body: the length word says nothing that a decoder needs.
        "backend" | "second_opinion" => {
            server_messages().iter().map(|message| [&message[..1], &message[5..]].concat()).collect()
        }
        "sasl" => {
            let behind_code =
                server_messages().into_iter().filter(|message| message.len() > 9 && message[0] == b'R');
            let client = client_messages().into_iter().map(|message| {
                match message.windows(5).position(|w| w == b"-256\0") {
                    Some(at) => message[at + 9..].to_vec(),
                    None => message[5..].to_vec(),
                }
            });
            behind_code.map(|message| message[9..].to_vec()).chain(client).collect()
        }
        "first" => chunks(Side::Client),
        "frames" => with_control(chunks(Side::Server)),
        "tls" => with_control(chunks(Side::Client).into_iter().filter(|chunk| chunk[0] == 0x16).collect()),
        "capture_read" => {
            let file = |c: &Conversation| pcap(&packets(&c.events, Ends::default(), Cutting::Whole));
            let all = conversations();
            let mut files: Vec<_> = all.iter().filter(|c| c.client == "pg").map(file).collect();
            files.push(pcapng());
            files
        }
        "observer_bytes" | "capture_packets" => {
            let list = conversations();
            let mut seen = std::collections::HashSet::new();
            let some = list
                .iter()
                .filter(|c| seen.insert((c.scenario.clone(), super::expect::family(&c.client), c.number)));
            some.map(|conversation| [vec![1], seed(&conversation.events)].concat()).collect()
        }
        "certificate" => {
            let folder = super::root().join("tests/corpus/fuzz/certificate");
            let files = std::fs::read_dir(folder).unwrap();
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
        }
        _ => vec![b"\x01\x03\x02\x00\x01\x01\x00\x01\x01".repeat(8), (0..=255).collect()],
    };
    list.sort();
    list.dedup();
    list
}

/// A pcapng file with every kind of block that is looked at.
fn pcapng() -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        file.extend([&kind.to_le_bytes()[..], &length, body, &length].concat());
    };
    let word = |number: u32| number.to_le_bytes();
    block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    // Raw IP, and times to the nanosecond.
    block(1, &[&[101, 0, 0, 0][..], &word(0), &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]].concat());
    for packet in packets(&conversations()[0].events, Ends::default(), Cutting::Whole) {
        let (high, low) = ((packet.at >> 32) as u32, packet.at as u32);
        let length = u32::try_from(packet.ip.len()).unwrap();
        let padding = vec![0; packet.ip.len().next_multiple_of(4) - packet.ip.len()];
        let head = [word(0), word(high), word(low), word(length), word(length)].concat();
        block(6, &[&head[..], &packet.ip, &padding, b"\x01\0\x04\0note\0\0\0\0"].concat());
    }
    block(3, &[&word(20)[..], &[0x45; 20]].concat());
    block(5, &[&word(0)[..], &[0; 8], &[5, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0]].concat());
    block(0xbad, &[&word(32_473)[..], b"{\"pgwhy\":\"facts\"}\0\0"].concat());
    file
}
