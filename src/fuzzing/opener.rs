//! TLS in captures: whatever becomes of a connection's bytes and of its keys, nothing is lost, repeated or made up.

use crate::capture::tls::KeyLog;
use crate::capture::tls::opener::{Heard, Opener};
use crate::handshake::{Close, Side};

use super::play::{Cutting, Event, events};

/// The length of a key log in two bytes, the key log, and events. Its corpus holds real connections with their keys.
pub fn tls_opener(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (log, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let mut keys = KeyLog::default();
    keys.read(log);
    let list = events(rest);
    let whole = opened(&keys, &list, Cutting::Whole);
    let cut = opened(&keys, &list, Cutting::Random(rest.len() as u64));
    // The server's one-byte answer has to come alone, so cuts may matter to what is opened, and to nothing else.
    if whole.inside == cut.inside {
        assert_eq!(whole.outside, cut.outside, "cuts matter");
    }
}

/// What was heard, of the client and of the server.
#[derive(Debug, Default)]
struct Told {
    outside: [Vec<u8>; 2],
    inside: Option<[Vec<u8>; 2]>,
    lost: usize,
}

fn opened(keys: &KeyLog, list: &[Event], cutting: Cutting) -> Told {
    let mut opener = Opener::default();
    let mut told = Told::default();
    let mut given = [Vec::new(), Vec::new()];
    let mut listen = |from: Side, _, heard: Heard<'_>| match heard {
        Heard::Opened => assert!(told.inside.replace(Default::default()).is_none(), "opened twice"),
        Heard::Lost(count) => told.lost += count,
        Heard::Bytes(bytes) => {
            let list = told.inside.as_mut().unwrap_or(&mut told.outside);
            list.get_mut(from as usize).into_iter().for_each(|list| list.extend_from_slice(bytes));
        }
    };
    for (event, at) in list.iter().zip(0..) {
        match &event.what {
            Ok(bytes) => {
                given.get_mut(event.from as usize).into_iter().for_each(|list| list.extend_from_slice(bytes));
                for piece in cutting.pieces(bytes) {
                    opener.bytes(keys, event.from, at, piece, &mut listen);
                    assert!(opener.held() <= MOST_HELD, "{} bytes are held", opener.held());
                }
            }
            Err(Close::Eof) => opener.closing(at, &mut listen),
            Err(_) => opener.gap(at, &mut listen),
        }
    }
    opener.finish(list.len() as u64, &mut listen);
    if !opener.is_open() {
        assert!(told.inside.is_none() && told.lost == 0);
        assert_eq!(told.outside, given, "what can't be opened is told as it was sent");
    }
    let all = |ways: &[Vec<u8>; 2]| ways.iter().map(Vec::len).sum::<usize>();
    let heard = all(&told.outside) + told.inside.as_ref().map_or(0, all) + told.lost;
    assert!(heard <= all(&given), "{heard} bytes are told of {}", all(&given));
    told
}

/// A record and a handshake message of either side, and what waits to be opened.
const MOST_HELD: usize = 2 * (18_437 + 65_540) + 65_536 + 18_437;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_opened() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/fuzz/tls_opener");
        for name in ["tls12", "tls12-chacha", "tls13", "tls13-chacha"] {
            let data = std::fs::read(format!("{folder}/{name}")).unwrap();
            let (log, rest) = data[2..].split_at(usize::from(u16::from_be_bytes([data[0], data[1]])));
            let mut keys = KeyLog::default();
            keys.read(log);
            let told = opened(&keys, &events(rest), Cutting::Random(7));
            assert_eq!(told.inside, Some([b"startupme".to_vec(), b"who are youno".to_vec()]), "{name}");
            assert_eq!(told.lost, 0, "{name}");
        }
    }
}
