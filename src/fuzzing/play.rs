//! Conversations as lists of events, played into the observer in pieces.

use std::time::Duration;

use crate::diagnose::{Context, Outcome, diagnose};
use crate::handshake::{Chunk, Close, Observer, Record, Side};
use crate::wire::frame::MAX_FRAME;

/// One thing that happens on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Duration,
    /// By whom.
    pub from: Side,
    /// Bytes, or the end of the stream.
    pub what: Result<Vec<u8>, Close>,
}

/// How a stream is cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// Not at all.
    Whole,
    /// Every byte by itself.
    Bytes,
    /// At places that follow from the number.
    Random(u64),
}

impl Cutting {
    /// Cuts `stream`; no piece is empty.
    pub fn pieces(self, stream: &[u8]) -> Vec<&[u8]> {
        let mut random = match self {
            Self::Whole if stream.is_empty() => return Vec::new(),
            Self::Whole => return vec![stream],
            Self::Bytes => return stream.chunks(1).collect(),
            Self::Random(seed) => seed ^ 0x9e37_79b9_7f4a_7c15,
        };
        let (mut pieces, mut rest) = (Vec::new(), stream);
        while !rest.is_empty() {
            // Short pieces are the interesting ones; now and then a long one saves time.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = usize::try_from(random >> 40).unwrap_or_default();
            let wanted = if draw.is_multiple_of(4) { draw / 4 % 1000 } else { draw / 4 % 12 };
            let (piece, behind) = rest.split_at((wanted + 1).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces
    }
}

/// Reads events: a control byte (its low three bits say who and what, the others how many tenths
/// of a second later), for bytes a length in two bytes and the bytes.
pub fn events(mut data: &[u8]) -> Vec<Event> {
    let (mut events, mut at) = (Vec::new(), Duration::ZERO);
    while let Some((&control, rest)) = data.split_first() {
        data = rest;
        at += Duration::from_millis(u64::from(control >> 3) * 100);
        let from = if control & 1 == 0 { Side::Client } else { Side::Server };
        let what = match control & 7 {
            0 | 1 => {
                let Some((length, rest)) = data.split_first_chunk::<2>() else { break };
                let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
                data = rest;
                Ok(bytes.to_vec())
            }
            2 | 3 => Err(Close::Eof),
            4 | 5 => Err(Close::Reset),
            6 => Err(Close::Deadline),
            _ => Err(Close::Shutdown),
        };
        events.push(Event { at, from, what });
    }
    events
}

/// Writes events as [`events`] reads them; times are rounded.
pub fn seed(list: &[Event]) -> Vec<u8> {
    let (mut data, mut before) = (Vec::new(), Duration::ZERO);
    for event in list {
        let tenths = event.at.saturating_sub(before).as_millis() / 100;
        before = event.at;
        let later = u8::try_from(tenths).unwrap_or(31).min(31) << 3;
        let side = u8::from(event.from == Side::Server);
        match &event.what {
            Ok(bytes) => {
                for piece in bytes.chunks(usize::from(u16::MAX)) {
                    data.push(later | side);
                    data.extend(u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes());
                    data.extend_from_slice(piece);
                }
            }
            Err(Close::Eof) => data.push(later | 2 | side),
            Err(Close::Reset) => data.push(later | 4 | side),
            Err(Close::Deadline) => data.push(later | 6),
            Err(Close::Shutdown) => data.push(later | 7),
        }
    }
    data
}

/// Plays events into a fresh observer, every chunk cut by `cutting`.
pub fn play(list: &[Event], cutting: Cutting) -> Record {
    let mut observer = Observer::new();
    for event in list {
        match &event.what {
            Ok(bytes) => {
                for piece in cutting.pieces(bytes) {
                    observer.eat(Chunk { at: event.at, from: event.from, bytes: piece });
                    let bound = MOST_HELD + piece.len();
                    assert!(observer.held() <= bound, "{} bytes are held", observer.held());
                }
            }
            Err(how) => observer.closed(event.at, event.from, *how),
        }
    }
    observer.finish()
}

/// Plays events in every way and checks what the core promises; gives the record and its verdict.
///
/// Panics when a promise is broken: that is what the fuzz targets and the replay are for.
pub fn check(list: &[Event], random: u64) -> Record {
    let record = play(list, Cutting::Whole);
    assert_same(&play(list, Cutting::Bytes), &record, "byte by byte");
    assert_same(&play(list, Cutting::Random(random)), &record, "random cuts");
    let timeless: Vec<Event> =
        list.iter().map(|event| Event { at: Duration::ZERO, ..event.clone() }).collect();
    assert_same(&play(&glued(&timeless), Cutting::Whole), &play(&timeless, Cutting::Whole), "glued");

    let diagnosis = diagnose(&record, &Context::default());
    if let Some(finding) = &diagnosis.finding {
        assert!(finding.evidence.iter().all(|text| !text.is_empty()) && !finding.evidence.is_empty());
        assert!(!finding.summary.is_empty());
        let variant = finding.variant.is_none_or(|variant| finding.cause.variants().contains(&variant));
        assert!(variant, "{:?} has no variant {:?}", finding.cause, finding.variant);
    }
    let failed = matches!(diagnosis.outcome, Outcome::Failed | Outcome::Probe);
    assert_eq!(failed, diagnosis.finding.is_some(), "a failure has a finding, a success has none");
    assert_eq!(diagnosis.outcome == Outcome::Ok, record.session.ready.is_some() && !failed);
    record
}

/// Joins consecutive chunks of one side.
fn glued(list: &[Event]) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in list {
        match (joined.last_mut(), &event.what) {
            (Some(Event { from, what: Ok(before), .. }), Ok(bytes)) if *from == event.from => {
                before.extend_from_slice(bytes);
            }
            _ => joined.push(event.clone()),
        }
    }
    joined
}

#[track_caller]
fn assert_same(one: &Record, other: &Record, how: &str) {
    if one == other {
        return;
    }
    // Two megabytes of difference help nobody: the first line that differs does.
    let (left, right) = (format!("{one:#?}"), format!("{other:#?}"));
    let differing = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    assert_eq!(differing, None, "the record changed when played {how}");
    assert!(one == other, "the record changed when played {how}, in its length or in a secret");
}

/// Both framers may hold one frame (a message is dropped only when the next bytes come), the TLS
/// readers a record and a handshake message each.
const MOST_HELD: usize = 2 * (MAX_FRAME + 1) + 2 * (18_432 + 5 + 65_536 + 16_384 + 4);
