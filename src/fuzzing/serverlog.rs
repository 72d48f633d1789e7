//! The server's log and the output of pg_controldata.

use crate::serverlog::{Correlator, Format, MAX_FIELD, Parser, Piece, Question, control_data, facts};

use super::play::Cutting;

/// Reads a log. The first byte picks the format, whether a prefix is given (then it is the first line)
/// and whether the log begins in the middle of a line. Any cutting gives the same pieces; what they
/// hold is bounded; whoever asks gets entries about this connection or none.
pub fn serverlog(data: &[u8]) {
    let Some((&control, rest)) = data.split_first() else { return };
    let format = match control & 3 {
        0 => Format::Auto,
        1 => Format::Stderr,
        2 => Format::Csv,
        _ => Format::Json,
    };
    let mut parser = Parser::new(format);
    let mut stream = rest;
    if control & 4 != 0 {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        parser = parser.with_prefix(&String::from_utf8_lossy(&rest[..end]));
        stream = rest.get(end + 1..).unwrap_or_default();
    }
    if control & 8 != 0 {
        parser = parser.in_the_middle();
    }
    let cut = |cutting: Cutting| {
        let (mut parser, mut pieces) = (parser.clone(), Vec::new());
        for bytes in cutting.pieces(stream) {
            parser.feed(bytes, &mut |piece| pieces.push(piece));
        }
        parser.finish(&mut |piece| pieces.push(piece));
        (pieces, parser.not_understood())
    };
    let whole = cut(Cutting::Whole);
    assert_eq!(cut(Cutting::Bytes), whole, "byte by byte");
    assert_eq!(cut(Cutting::Random(u64::from(control))), whole, "random cuts");
    let mut correlator = Correlator::default();
    for piece in whole.0 {
        if let Piece::Entry(entry) = &piece {
            assert!(entry.message.len() <= MAX_FIELD, "a message of {} bytes", entry.message.len());
            facts(entry);
        }
        correlator.take(piece, NOW_MS);
    }
    correlator.interrupt();
    for question in questions() {
        for found in correlator.find(&question) {
            facts(found.entry);
            let user = found.entry.user.as_ref().filter(|_| !found.entry.cut);
            assert!(
                user.is_none() || question.user.is_none() || user == question.user.as_ref(),
                "another's entry"
            );
        }
    }
}

/// Reads what pg_controldata may have printed: the order of its lines does not matter, and a nonce that
/// is believed stands in the text.
pub fn control_data(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let found = control_data::parse(&text);
    if let Some(nonce) = found.mock_nonce {
        let hex: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(text.to_ascii_lowercase().contains(&hex), "a nonce from nowhere");
    }
    assert!(found.version.is_none() || found.catalog_version.is_some(), "a version without its number");
    if text.len() < control_data::MAX_CONTROL_DATA {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.reverse();
        let again = control_data::parse(&lines.join("\n"));
        assert_eq!(again.mock_nonce, found.mock_nonce, "the order of lines decides");
    }
}

/// 2026-01-01, as the seeds are dated.
const NOW_MS: i64 = 1_767_225_600_000;

fn questions() -> [Question; 3] {
    let base = Question {
        our_ip: "127.0.0.1".parse().ok(),
        our_port: Some(40_000),
        user: Some("app".into()),
        database: Some("shop".into()),
        from_ms: NOW_MS - 1_000,
        to_ms: NOW_MS + 1_000,
        ..Question::default()
    };
    let by_pid = Question { our_port: None, pid: Some(77), ..base.clone() };
    let by_socket = Question { our_ip: None, our_port: None, unix: true, ..base.clone() };
    [base, by_pid, by_socket]
}
