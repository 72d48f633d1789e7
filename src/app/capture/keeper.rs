//! The chunks of logins under way, for captures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::capture::write::walk::Piece;
use crate::handshake::{Chunk, Side};
use crate::net::{Ending, On};

/// Bytes that are held for captures, here and in the queues.
#[derive(Clone, Debug, Default)]
struct Held(Arc<AtomicUsize>);

/// A part of the held bytes; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    held: Held,
    bytes: usize,
}

impl Share {
    /// Takes so many bytes more, if there is room for them.
    fn grow(&mut self, bytes: usize) -> bool {
        let before = self.held.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > IN_ALL {
            self.held.0.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The chunks of one login.
#[derive(Debug)]
pub(in crate::app) struct Talk {
    pub(super) pieces: Vec<Piece>,
    /// The whole of what was said on the server's leg, where that is something else.
    pub(super) server_leg: Option<Vec<Piece>>,
    pub(super) share: Share,
    /// Bytes for which there was no room.
    pub(super) left_out: u64,
}

impl Talk {
    fn has_room(&mut self, cost: usize) -> bool {
        self.left_out == 0 && self.share.bytes + cost <= PER_LOGIN && self.share.grow(cost)
    }

    /// The legs go different ways: what was said so far is of both.
    fn part_legs(&mut self) {
        if self.server_leg.is_none() {
            let cost = self.pieces.iter().map(|piece| piece.bytes.len() + PER_CHUNK).sum();
            self.server_leg = self.has_room(cost).then(|| self.pieces.clone());
        }
    }

    fn on_server_leg(&mut self, chunk: Chunk<'_>) {
        let room = self.has_room(chunk.bytes.len() + PER_CHUNK);
        match &mut self.server_leg {
            Some(pieces) if room => {
                let same = pieces.iter().filter(|piece| piece.from == chunk.from);
                let offset = same.map(|piece| u64::try_from(piece.bytes.len()).unwrap_or_default()).sum();
                let bytes = chunk.bytes.to_vec();
                pieces.push(Piece { at: chunk.at, from: chunk.from, offset, bytes });
            }
            _ => self.left_out += u64::try_from(chunk.bytes.len()).unwrap_or_default(),
        }
    }
}

/// One chunk of a session.
#[derive(Debug)]
pub(in crate::app) struct Part {
    pub(super) piece: Piece,
    _share: Share,
}

/// Keeps chunks until their login has its verdict. On the way of every byte: no lock is held for longer
/// than a copy takes.
#[derive(Debug, Default)]
pub(in crate::app) struct Keeper {
    under_way: Mutex<BTreeMap<u64, UnderWay>>,
    held: Held,
    sessions: bool,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct UnderWay {
    talk: Option<Talk>,
    client_bytes: u64,
    server_bytes: u64,
}

impl Keeper {
    /// One that keeps nothing yet.
    pub(super) fn new(sessions: bool, dropped: Arc<AtomicU64>) -> Self {
        Self { sessions, dropped, ..Self::default() }
    }

    /// Whether sessions are captured too.
    pub(in crate::app) fn sessions(&self) -> bool {
        self.sessions
    }

    /// Keeps a chunk of a login. A chunk of a session is given back, to be passed on.
    pub(in crate::app) fn chunk(&self, id: u64, chunk: Chunk<'_>, on: On) -> Option<Part> {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let share = || Share { held: self.held.clone(), bytes: 0 };
        let login = all.entry(id).or_insert_with(|| UnderWay {
            talk: Some(Talk {
                pieces: Vec::with_capacity(16),
                server_leg: None,
                share: share(),
                left_out: 0,
            }),
            client_bytes: 0,
            server_bytes: 0,
        });
        if on == On::Server {
            // What came before was the same on both.
            if let Some(talk) = &mut login.talk {
                talk.part_legs();
                talk.on_server_leg(chunk);
            }
            return None;
        }
        let length = u64::try_from(chunk.bytes.len()).unwrap_or_default();
        let offset = match chunk.from {
            Side::Client => &mut login.client_bytes,
            Side::Server => &mut login.server_bytes,
        };
        let piece = || Piece { at: chunk.at, from: chunk.from, offset: *offset, bytes: chunk.bytes.to_vec() };
        let cost = chunk.bytes.len() + PER_CHUNK;
        let mut passed = None;
        match &mut login.talk {
            Some(talk) => {
                if on == On::Client {
                    talk.part_legs();
                }
                if talk.has_room(cost) {
                    talk.pieces.push(piece());
                } else {
                    talk.left_out += length;
                }
                if on == On::Both && talk.server_leg.is_some() {
                    talk.on_server_leg(chunk);
                }
            }
            None => {
                let mut share = share();
                if share.grow(cost) {
                    passed = Some(Part { piece: piece(), _share: share });
                } else {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        *offset += length;
        passed
    }

    /// The chunks of a login that has its verdict.
    pub(in crate::app) fn take(&self, id: u64, ending: Ending) -> Option<Talk> {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sessions && ending == Ending::Ready {
            return all.get_mut(&id)?.talk.take();
        }
        all.remove(&id)?.talk
    }

    /// A session has ended.
    pub(in crate::app) fn forget(&self, id: u64) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// A login whose attempt found no place at the desk.
    pub(in crate::app) fn lost(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes kept of one login: a long one has 10 KiB, a token of the longest kind 64 KiB.
const PER_LOGIN: usize = 96 * 1024;
/// Bytes kept of all logins that are under way or wait to be written.
const IN_ALL: usize = 64 * 1024 * 1024;
/// What a chunk costs beside its bytes: a stranger may send them one by one.
const PER_CHUNK: usize = 64;
