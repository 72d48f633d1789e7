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
mod keeper;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::capture::blank::{Keep, blank_word};
use crate::diagnose::Outcome;
use crate::net::{Attempt, Closed, Ending};
use crate::report::Report;

pub(super) use facts::identify;
pub use facts::report_of;
use file::{Entry, Target, Writer};
use keeper::Part;
pub(super) use keeper::{Keeper, Talk};

use super::cli::{CaptureArgs, Which};
use super::{Failure, stderr};

/// Logins that may wait to be written; their bytes are bounded with those under way.
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
    let keeper = Keeper::new(options.keep.queries, Arc::clone(&dropped));
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
            share,
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
