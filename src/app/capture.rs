//! `--capture`: from chunks on the thread that carries bytes to packets in a file.
//!
//! ```text
//! net: Sink::chunk ─▶ Keeper (bounded memory) ─▶ desk: verdict ─▶ Recorder ─▶ queue ─▶ capture thread
//! ```
//!
//! Nothing here waits for anything that a disk does: what has no room, or no place in the queue, is left
//! out and counted.

mod facts;
mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::capture::blank::{Keep, blank_word};
use crate::capture::facts::Facts;
use crate::capture::write::walk::Piece;
use crate::diagnose::Outcome;
use crate::handshake::{Chunk, Close, Side};
use crate::net::{Attempt, Closed, Ending, On};
use crate::report::Report;

pub(super) use facts::identify;
pub use facts::report_of;
use file::{Target, Writer};

use super::cli::{CaptureArgs, Which};
use super::{Failure, stderr};

/// Bytes kept of one login: a long one has 10 KiB, a token of the longest kind 64 KiB.
const PER_LOGIN: usize = 96 * 1024;
/// Bytes kept of all logins that are under way or wait to be written.
const IN_ALL: usize = 64 * 1024 * 1024;
/// What a chunk costs beside its bytes: a stranger may send them one by one.
const PER_CHUNK: usize = 64;
/// Logins that may wait to be written; their bytes are bounded by [`IN_ALL`].
const QUEUE: usize = 1_024;
/// How long the last packets may take to be written when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What to capture, and where to.
#[derive(Clone, Debug)]
pub(super) struct Options {
    path: PathBuf,
    which: Which,
    size: u64,
    files: usize,
    keep: Keep,
    /// For the file's own description.
    described: String,
}

impl Options {
    /// Reads the options; `None` where nothing is to be captured. `upstream` is shown without its
    /// password.
    pub(super) fn new(args: &CaptureArgs, upstream: &str, proxy: &str) -> Result<Option<Self>, Failure> {
        let Some(path) = &args.capture else { return Ok(None) };
        if args.capture_queries && args.capture_what == Which::Failed {
            let reason = "--capture-queries has nothing to write with --capture-what failed: only a login \
                          that succeeds has queries";
            return Err(Failure::usage(reason));
        }
        let secrets = if args.keep_secrets {
            "SECRETS: KEPT as they were sent (--keep-secrets): whoever has this file can log in"
        } else {
            "secrets: blanked"
        };
        if args.keep_secrets {
            stderr::say(format_args!(
                "--keep-secrets: passwords, proofs and tokens go to {} as they are sent: whoever has it can log in",
                path.display()
            ));
        }
        let queries = if args.capture_queries { "captured (--capture-queries)" } else { "never" };
        let described = format!(
            "pgwhy {version}, {proxy}, in front of {upstream}; logins: {which}; {secrets}; data behind ReadyForQuery: {queries}. \
             Packets carry the server's port; where that is not 5432, tell Wireshark to decode it as PGSQL \
             (tshark -d tcp.port==PORT,pgsql). pgwhy show FILE gives the diagnoses.",
            version = env!("CARGO_PKG_VERSION"),
            which = args.capture_what,
        );
        Ok(Some(Self {
            path: path.clone(),
            which: args.capture_what,
            size: args.capture_size,
            files: args.capture_files,
            keep: Keep { secrets: args.keep_secrets, queries: args.capture_queries },
            described,
        }))
    }
}

/// Bytes that are held for captures, here and in the queues.
#[derive(Clone, Debug, Default)]
struct Held(Arc<AtomicUsize>);

/// A part of the held bytes; given back when dropped.
#[derive(Debug)]
struct Share {
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
pub(super) struct Talk {
    pieces: Vec<Piece>,
    /// The whole of what was said on the server's leg, where that is something else.
    server_leg: Option<Vec<Piece>>,
    share: Share,
    left_out: u64,
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
pub(super) struct Part {
    piece: Piece,
    _share: Share,
}

/// Keeps chunks until their login has its verdict. On the way of every byte: no lock is held for longer
/// than a copy takes.
#[derive(Debug, Default)]
pub(super) struct Keeper {
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
    /// Whether sessions are captured too.
    pub(super) fn sessions(&self) -> bool {
        self.sessions
    }

    /// Keeps a chunk of a login. A chunk of a session is given back, to be passed on.
    pub(super) fn chunk(&self, id: u64, chunk: Chunk<'_>, on: On) -> Option<Part> {
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
    pub(super) fn take(&self, id: u64, ending: Ending) -> Option<Talk> {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sessions && ending == Ending::Ready {
            return all.get_mut(&id)?.talk.take();
        }
        all.remove(&id)?.talk
    }

    /// A session has ended.
    pub(super) fn forget(&self, id: u64) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// A login whose attempt found no place at the desk.
    pub(super) fn lost(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the capture thread does.
enum Job {
    Login(Box<Entry>),
    Session(Session),
    End,
}

/// What happens to a session that is captured.
#[derive(Debug)]
pub(super) enum Session {
    /// A chunk passed.
    Part(u64, Part),
    /// It has ended.
    Closed(Closed),
}

/// One login, ready to be written.
struct Entry {
    number: u64,
    pieces: Vec<Piece>,
    server_leg: Option<Vec<Piece>>,
    facts: Facts,
    verdict: String,
    goes_on: bool,
    /// Its end is still to come.
    ends_later: bool,
    _share: Option<Share>,
}

/// The desk's end of the queue to the capture thread.
pub(super) struct Recorder {
    sender: SyncSender<Job>,
    thread: JoinHandle<()>,
    which: Which,
    keep: Keep,
    others: u64,
    dropped: Arc<AtomicU64>,
}

/// Opens the file and starts the capture thread.
pub(super) fn open(options: &Options) -> Result<(Arc<Keeper>, Recorder), Failure> {
    let dropped = Arc::new(AtomicU64::new(0));
    let target = Target::new(&options.path, options.size, options.files, &options.described)?;
    let mut writer = Writer::open(target, options.keep, Arc::clone(&dropped))?;
    let (sender, receiver) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("capture".into()).spawn(move || {
        while let Ok(job) = receiver.recv() {
            match job {
                Job::Login(entry) => writer.login(*entry),
                Job::Session(Session::Part(number, part)) => writer.part(number, part),
                Job::Session(Session::Closed(closed)) => writer.closed(&closed),
                Job::End => return,
            }
        }
    })?;
    let keeper =
        Keeper { sessions: options.keep.queries, dropped: Arc::clone(&dropped), ..Keeper::default() };
    let recorder = Recorder { sender, thread, which: options.which, keep: options.keep, others: 0, dropped };
    Ok((Arc::new(keeper), recorder))
}

impl Recorder {
    /// Records a login, if it is one of those that are wanted. `name` is a secret that stands where no secrets are.
    pub(super) fn login(
        &mut self,
        attempt: &Attempt,
        report: &Report,
        talk: Option<Talk>,
        name: Option<&str>,
    ) {
        let wanted = match self.which {
            _ if report.diagnosis.outcome == Outcome::Failed => true,
            Which::All => true,
            Which::Failed => false,
            Which::Sample(every) => {
                self.others += 1;
                self.others % every == 1 || every == 1
            }
        };
        if !wanted {
            return;
        }
        let left_out = talk.as_ref().map_or(0, |talk| talk.left_out);
        let facts = facts::facts_of(attempt, report, self.keep.secrets, left_out);
        let opaque_and_up = attempt.opaque.is_some_and(|opaque| opaque.closed.is_none());
        let (mut pieces, mut server_leg, share) = match talk {
            Some(talk) => (talk.pieces, talk.server_leg, Some(talk.share)),
            None => (Vec::new(), None, None),
        };
        if let Some(name) = name.filter(|_| !self.keep.secrets) {
            blank_word(&mut pieces, name.as_bytes());
            server_leg.iter_mut().for_each(|pieces| blank_word(pieces, name.as_bytes()));
        }
        self.put(Job::Login(Box::new(Entry {
            number: attempt.id,
            pieces,
            server_leg,
            verdict: facts::verdict(report),
            facts,
            goes_on: attempt.ending == Ending::Ready || opaque_and_up,
            ends_later: attempt.ending == Ending::Failed && attempt.record.closes.is_empty(),
            _share: share,
        })));
    }

    /// Records what happens to a session.
    pub(super) fn session(&self, event: Session) {
        self.put(Job::Session(event));
    }

    fn put(&self, job: Job) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.sender.try_send(job) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(captures.dropped = dropped, "the disk is too slow: captures are dropped");
            }
        }
    }

    /// Waits until everything is written, but not for a disk that stalls.
    pub(super) fn close(self) {
        let until = Instant::now() + LAST_WORDS;
        let mut end = Some(Job::End);
        while !self.thread.is_finished() && Instant::now() < until {
            if let Some(job) = end.take()
                && let Err(TrySendError::Full(job)) = self.sender.try_send(job)
            {
                end = Some(job);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.thread.is_finished() {
            stderr::say("the capture is not whole: what it is written to takes no more");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            stderr::say(format_args!("{dropped} parts of the capture were not written"));
        }
    }
}

/// How a connection ended, for its last packets.
fn ended(closed: &Closed) -> (Side, bool, &'static str) {
    match (closed.first, closed.failed) {
        (Some((side, how)), false) => (side, how == Close::Reset, "the session ends"),
        (Some((Side::Client, how)), true) => (Side::Client, how == Close::Reset, "the client closes"),
        (Some((Side::Server, how)), true) => (Side::Server, how == Close::Reset, "the server closes"),
        (None, _) => (Side::Server, false, "pgwhy closes"),
    }
}
