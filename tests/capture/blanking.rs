//! Blanking takes the secrets, and nothing that the observer would miss.

use std::time::Duration;

use pgwhy::capture::blank::{Keep, blank};
use pgwhy::capture::write::walk::Piece;
use pgwhy::fuzzing::{Cutting, Event, play};
use pgwhy::handshake::record::ServerFinalSeen;
use pgwhy::handshake::{Record, Side};

use super::corpus::{Conversation, conversations};

/// The conversation in pieces of at most `size` bytes.
fn pieces(events: &[Event], size: usize) -> Vec<Piece> {
    let (mut pieces, mut sent) = (Vec::new(), [0_u64; 2]);
    for event in events {
        let Ok(bytes) = &event.what else { continue };
        for part in bytes.chunks(size) {
            let sent = &mut sent[usize::from(event.from == Side::Server)];
            pieces.push(Piece { at: event.at, from: event.from, offset: *sent, bytes: part.to_vec() });
            *sent += part.len() as u64;
        }
    }
    pieces
}

/// The events again, with what became of their bytes; what was cut off is gone.
fn blanked(conversation: &Conversation, size: usize, keep: Keep) -> Vec<Event> {
    let mut pieces = pieces(&conversation.events, size);
    blank(&mut pieces, keep);
    let mut left = pieces.iter().peekable();
    let mut events = Vec::new();
    let mut sent = [0_u64; 2];
    for event in &conversation.events {
        let Ok(bytes) = &event.what else {
            events.push(event.clone());
            continue;
        };
        let sent = &mut sent[usize::from(event.from == Side::Server)];
        let end = *sent + bytes.len() as u64;
        let mut kept = Vec::new();
        while let Some(piece) = left.next_if(|piece| piece.from == event.from && piece.offset < end) {
            kept.extend_from_slice(&piece.bytes);
        }
        *sent = end;
        if !kept.is_empty() {
            events.push(Event { at: event.at, from: event.from, what: Ok(kept) });
        }
    }
    events
}

/// What a record holds, its secrets apart; `Debug` shows none. Bytes behind ReadyForQuery are gone.
fn shown(record: &Record) -> String {
    let mut record = Record { client_last: None, server_last: None, ..record.clone() };
    if record.session.ready.is_some() {
        (record.client_bytes, record.server_bytes) = (0, 0);
    }
    // Of a server that asked, it is of no use, and may hold the start of a GSSAPI token.
    if !record.requests.is_empty() {
        record.server_start.clear();
    }
    format!("{record:#?}")
}

/// Every secret that a record holds, as it passed on the wire.
fn secrets(record: &Record) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut found = Vec::new();
    found.extend(record.cleartext.iter().map(|secret| secret.expose().clone()));
    let md5 = record.md5.as_ref().and_then(|md5| md5.response.as_ref());
    found.extend(md5.map(|secret| secret.expose()[3..].to_vec()));
    if let Some(scram) = &record.scram {
        let proof = scram.client_final.as_ref();
        found.extend(proof.map(|last| STANDARD.encode(last.proof.expose()).into_bytes()));
        if let Some(ServerFinalSeen::Signature(signature)) = &scram.server_final {
            found.push(STANDARD.encode(signature.expose()).into_bytes());
        }
    }
    found.retain(|secret| !secret.is_empty());
    found
}

#[test]
fn the_observer_reads_a_blanked_conversation_to_the_same_record() {
    let mut secret_ones = 0;
    for conversation in conversations() {
        let whole = play(&conversation.events, Cutting::Whole);
        let secrets = secrets(&whole);
        secret_ones += usize::from(!secrets.is_empty());
        for size in [usize::MAX, 1, 7] {
            let events = blanked(&conversation, size, Keep::default());
            let again = play(&events, Cutting::Whole);
            let (again, whole) = (shown(&again), shown(&whole));
            let differs = again.lines().zip(whole.lines()).find(|(here, there)| here != there);
            assert!(again == whole, "{conversation}, cut every {size} bytes: {differs:?}");
            let all: Vec<u8> =
                events.iter().filter_map(|event| event.what.as_ref().ok()).flatten().copied().collect();
            for secret in &secrets {
                assert!(
                    !all.windows(secret.len()).any(|part| part == secret),
                    "{conversation} keeps a secret"
                );
            }
        }
    }
    assert!(secret_ones > 100, "the corpus has secrets to lose: {secret_ones}");
}

#[test]
fn what_is_kept_is_kept_whole() {
    let keep = Keep { secrets: true, queries: true };
    for conversation in conversations() {
        let mut kept = pieces(&conversation.events, usize::MAX);
        blank(&mut kept, keep);
        assert_eq!(kept, pieces(&conversation.events, usize::MAX), "{conversation}");
    }
}

/// Conversations that no driver has: the secret must go wherever it stands.
#[test]
fn a_secret_in_the_wrong_place_goes_too() {
    let startup = b"\0\0\0\x16\0\x03\0\0user\0postgres\0\0".as_slice();
    let p = |body: &[u8]| {
        let mut message = b"p".to_vec();
        message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend_from_slice(body);
        message
    };
    let r = |code: u32| [b"R\0\0\0\x08".as_slice(), &code.to_be_bytes()].concat();
    let offer = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec();
    let challenge = b"R\0\0\0\x1c\0\0\0\x0br=ab,s=QQ==,i=4096".to_vec();
    let first = p(b"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=ab");
    let (client, server) = (Side::Client, Side::Server);
    type Moves = Vec<(Side, Vec<u8>)>;
    let rows: Vec<(&str, Moves)> = vec![
        ("before it was asked for", vec![(client, startup.to_vec()), (client, p(b"hunter2\0"))]),
        ("glued to the startup packet", vec![(client, [startup, &p(b"hunter2\0")].concat())]),
        ("as a first packet", vec![(client, p(b"hunter2\0"))]),
        (
            "in a packet that never ends",
            vec![(client, startup.to_vec()), (server, r(3)), (client, b"p\0\0\0\xffhunter2".to_vec())],
        ),
        (
            "in a startup packet that never ends",
            vec![(client, b"\0\0\0\x60\0\x03\0\0user\0hunter2".to_vec())],
        ),
        ("in a parameter", vec![(client, b"\0\0\0\x1a\0\x03\0\0password\0hunter2\0\0".to_vec())]),
        (
            "behind a length that can't be",
            vec![(client, startup.to_vec()), (client, b"p\xff\xff\xff\xffhunter2".to_vec())],
        ),
        (
            "in place of a mechanism",
            vec![(client, startup.to_vec()), (server, offer.clone()), (client, p(b"hunter2\0"))],
        ),
        (
            "in place of the proof",
            vec![
                (client, startup.to_vec()),
                (server, offer.clone()),
                (client, first.clone()),
                (server, challenge.clone()),
                (client, p(b"hunter2")),
            ],
        ),
        (
            "as a broken proof",
            vec![
                (client, startup.to_vec()),
                (server, offer),
                (client, first),
                (server, challenge),
                (client, p(b"c=biws,r=ab,p=hunter2")),
            ],
        ),
        (
            "in place of an MD5 response",
            vec![
                (client, startup.to_vec()),
                (server, b"R\0\0\0\x0c\0\0\0\x05salt".to_vec()),
                (client, p(b"hunter2\0")),
            ],
        ),
        (
            "as a token",
            vec![
                (client, startup.to_vec()),
                (server, b"R\0\0\0\x16\0\0\0\x0aOAUTHBEARER\0\0\0".to_vec()),
                (client, p(b"OAUTHBEARER\0\0\0\0\x1dn,,\x01auth=Bearer  hunter2\x01\x01\x01\x01")),
            ],
        ),
        ("as a GSSAPI token", vec![(client, startup.to_vec()), (server, r(7)), (client, p(b"hunter2"))]),
        (
            "as a query before its time",
            vec![(client, startup.to_vec()), (client, b"Q\0\0\0\x0chunter2\0".to_vec())],
        ),
        ("as a cancel key", vec![(client, b"\0\0\0\x14\x04\xd2\x16\x2e\0\0\0\x01hunter2\0".to_vec())]),
        (
            "as the key to cancel with",
            vec![(client, startup.to_vec()), (server, b"K\0\0\0\x0f\0\0\0\x01hunter2".to_vec())],
        ),
        (
            "in an HTTP header",
            vec![(client, b"GET /?p=hunter2 HTTP/1.1\r\nAuthorization: hunter2\r\n\r\n".to_vec())],
        ),
        (
            "behind ReadyForQuery",
            vec![
                (client, startup.to_vec()),
                (server, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x0bhunter2".to_vec()),
                (client, b"Q\0\0\0\x0chunter2\0".to_vec()),
            ],
        ),
        (
            "in clear where TLS was agreed on",
            vec![
                (client, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
                (server, b"S".to_vec()),
                (client, b"\x16\x03\x01\0\x01a".to_vec()),
                (client, b"p\0\0\0\x0chunter2\0".to_vec()),
            ],
        ),
        (
            "inside TLS that was opened",
            vec![
                (client, b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()),
                (server, b"S".to_vec()),
                (client, startup.to_vec()),
                (server, r(3)),
                (client, p(b"hunter2\0")),
            ],
        ),
    ];
    for (row, moves) in rows {
        for size in [usize::MAX, 1] {
            let events: Vec<Event> = moves
                .iter()
                .map(|(from, bytes)| Event { at: Duration::ZERO, from: *from, what: Ok(bytes.clone()) })
                .collect();
            let mut pieces = pieces(&events, size);
            let before: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
            blank(&mut pieces, Keep::default());
            for side in [client, server] {
                let all: Vec<u8> = pieces
                    .iter()
                    .filter(|piece| piece.from == side)
                    .flat_map(|piece| piece.bytes.clone())
                    .collect();
                let shown = String::from_utf8_lossy(&all);
                assert!(!shown.contains("hunter2") && !shown.contains("unter"), "{row}: {shown:?}");
            }
            let after: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
            assert!(after == before || row == "behind ReadyForQuery", "{row}: bytes stay where they are");
        }
    }
}
