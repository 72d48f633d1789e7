//! Bugs that cutting and flooding found, each by its name. `tests/replay.rs` and the fuzzers hold the rest.

use std::time::Duration;

use super::*;

const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";
const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const HELLO: &[u8] = b"\x16\x03\x01\0\x04\x01\0\0\0";
const ERROR: &[u8] = b"E\0\0\0\x17SFATAL\0C28000\0Mno\0\0";
use Side::{Client, Server};

fn play(moves: &[(Side, &[u8])], size: usize) -> Record {
    let mut observer = Observer::new();
    for (from, bytes) in moves {
        for piece in bytes.chunks(size) {
            observer.eat(Chunk { at: Duration::ZERO, from: *from, bytes: piece });
            assert!(observer.held() < 200_000, "{} bytes are held", observer.held());
        }
    }
    observer.finish()
}

#[track_caller]
fn check(moves: &[(Side, &[u8])]) -> Record {
    let whole = play(moves, usize::MAX);
    for size in [1, 3, 8, 100] {
        assert!(play(moves, size) == whole, "cut every {size} bytes: {whole:#?}");
    }
    whole
}

#[test]
fn a_password_sent_with_the_startup_packet_is_not_among_its_first_bytes() {
    let both = [STARTUP, b"p\0\0\0\x0chunter2\0"].concat();
    assert_eq!(check(&[(Client, &both)]).client_start, STARTUP);
    let cancel = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01key!";
    assert_eq!(check(&[(Client, cancel)]).client_start, &cancel[..8]);
    let stray = b"p\0\0\0\x0chunter2\0";
    assert_eq!(check(&[(Client, stray)]).client_start, &stray[..4]);
}

#[test]
fn a_post_request_is_http_however_it_is_cut() {
    assert_eq!(check(&[(Client, b"POST / HTTP/1.1\r\n")]).first, Some(First::Http));
}

#[test]
fn an_error_in_clear_behind_a_client_hello_is_read_however_it_is_cut() {
    for moves in [[(Client, HELLO), (Server, ERROR)], [(Client, HELLO), (Server, b"Eno more processes\n\0")]]
    {
        let record = check(&moves);
        assert!(record.error.is_some() && !record.server_not_postgres, "{record:#?}");
    }
    let record = check(&[(Client, HELLO), (Server, b"HTTP/1.1 400 Bad Request\r\nE")]);
    assert!(record.server_not_postgres && record.error.is_none());
}

#[test]
fn a_server_that_spoke_before_a_direct_client_hello_is_heard_first_however_it_is_cut() {
    let record = check(&[(Server, b"R\0\0\0\x08\0\0\0\0"), (Client, b"\x160\xff\xff\xff")]);
    assert!(record.server_not_postgres);
    check(&[(Server, ERROR), (Client, HELLO)]);
    check(&[(Client, SSL), (Client, b"\x160"), (Server, b"SHTTP")]);
}

#[test]
fn what_is_no_tls_behind_encrypted_data_of_both_sides_changes_nothing() {
    let encrypted = b"\x17\x03\x03\0\x01a";
    let behind = [encrypted, b"HTTP/1.1".as_slice()].concat();
    let record = check(&[(Client, HELLO), (Client, encrypted), (Server, &behind)]);
    assert!(!record.server_not_postgres && record.step == Some(Step::TlsHandshake));
}

#[test]
fn a_version_2_error_without_end_is_given_up_at_the_same_byte() {
    let late = [&[b'E'; 9_000][..], b"\0"].concat();
    for record in [check(&[(Client, STARTUP), (Server, &late)]), check(&[(Client, SSL), (Server, &late)])] {
        assert!(record.error.is_none() && record.server_not_postgres);
    }
}

#[test]
fn who_speaks_out_of_turn_for_ever_is_not_kept_for_ever() {
    let flood = vec![0; 300_000];
    let early = play(&[(Server, &flood)], 10_000);
    assert_eq!(early.server_bytes, 300_000);
    let behind = play(&[(Client, SSL), (Client, &flood)], 10_000);
    assert!(matches!(behind.injected, Some((Client, count)) if count < 100_000));
    let asks = b"R\0\0\0\x08\0\0\0\x03".repeat(10_000);
    assert_eq!(play(&[(Client, STARTUP), (Server, &asks)], usize::MAX).requests.len(), MAX_REQUESTS);
    let setting = [b"S\0\0\x10\x06a\0".as_slice(), &[b'v'; 0x1000 - 1], b"\0"].concat().repeat(100);
    let kept = play(&[(Client, STARTUP), (Server, &setting)], usize::MAX).session.parameters;
    assert!(!kept.is_empty() && kept.len() < 8);
}

#[test]
fn an_error_whose_fields_are_broken_still_ends_the_login() {
    let record = check(&[(Client, STARTUP), (Server, b"E\0\0\0\x0bSFATAL\0")]);
    assert!(record.error.is_some() && record.server_fault.is_some());
}

#[test]
fn the_observer_shows_no_pending_password() {
    let mut observer = Observer::new();
    let asks = b"R\0\0\0\x08\0\0\0\x03";
    for (from, bytes) in [(Client, STARTUP), (Server, asks), (Client, b"p\0\0\0\x0chunt")] {
        observer.eat(Chunk { at: Duration::ZERO, from, bytes });
    }
    let numbers = format!("{:?}", b"hunt");
    let shown = format!("{observer:?}");
    assert!(!shown.contains("hunt") && !shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
}
