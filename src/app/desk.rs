//! The desk: where attempts become reports.
//!
//! One thread takes attempts off a bounded queue, tests passwords, diagnoses, links attempts that
//! belong together, and writes. When standard output stalls, the desk waits and the queue fills; then
//! attempts are dropped and counted. A login never waits for any of it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::handshake::Chunk;
use crate::net::{Attempt, Closed, Ending, On, Sink};

use super::capture::{Keeper, Recorder, Session, Talk};
use super::clerk::Clerk;
use super::conceal::among_names;
use super::output::Dress;
use super::stderr;
use super::tray::{Haste, Tray};

/// Attempts that may wait; each holds a record of a few kilobytes.
const QUEUE: usize = 4_096;
/// With so many waiting, only the expected password is tested, not its variants: one test of SCRAM
/// costs about a millisecond of CPU.
const BUSY: usize = 64;
/// How long the last reports may take to be written when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The sink of the proxy: hands attempts to the desk.
pub(super) struct Inbox {
    tray: Arc<Tray<Message>>,
    dropped: Arc<AtomicU64>,
    keeper: Option<Arc<Keeper>>,
}

enum Message {
    Attempt(Box<Attempt>, Option<Talk>),
    Session(Session),
    Line(String),
    End,
}

impl Sink for Inbox {
    fn attempt(&self, attempt: Attempt) {
        let talk = self.keeper.as_ref().and_then(|keeper| keeper.take(attempt.id, attempt.ending));
        self.put(Message::Attempt(Box::new(attempt), talk));
    }

    fn chunk(&self, id: u64, chunk: Chunk<'_>, on: On) {
        let Some(keeper) = &self.keeper else { return };
        if let Some(part) = keeper.chunk(id, chunk, on) {
            self.put(Message::Session(Session::Part(id, part)));
        }
    }

    fn opened(&self, id: u64) {
        if let Some(keeper) = &self.keeper {
            keeper.forget(id);
        }
    }

    fn closed(&self, closed: Closed) {
        if let Some(keeper) = self.keeper.as_ref().filter(|keeper| keeper.sessions() || closed.failed) {
            keeper.forget(closed.id);
            self.put(Message::Session(Session::Closed(closed)));
        }
    }

    fn wants_sessions(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.sessions())
    }
}

impl Inbox {
    /// Prints a line among the reports.
    pub(super) fn line(&self, line: String) {
        self.put(Message::Line(line));
    }

    fn put(&self, message: Message) {
        let haste = match &message {
            Message::Attempt(attempt, _) if attempt.ending == Ending::Ready => Haste::Calm,
            Message::Session(_) => Haste::Calm,
            _ => Haste::Urgent,
        };
        if let Err(message) = self.tray.put(message, haste) {
            if let Some(keeper) = &self.keeper {
                keeper.lost();
            }
            if matches!(message, Message::Session(_)) {
                return;
            }
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(reports.dropped = dropped, "standard output is too slow: reports are dropped");
            }
        }
    }
}

/// Where reports go.
pub(super) struct Outputs {
    /// How they look on standard output.
    pub(super) dress: Dress,
    /// Is told after each report that was written.
    pub(super) written: Option<SyncSender<()>>,
    /// Writes logins down.
    pub(super) capture: Option<(Arc<Keeper>, Recorder)>,
}

/// The desk's thread, to wait for.
pub(super) struct Desk {
    thread: JoinHandle<()>,
    tray: Arc<Tray<Message>>,
    dropped: Arc<AtomicU64>,
}

impl Desk {
    /// Starts the thread.
    pub(super) fn open(clerk: Clerk, mut outputs: Outputs) -> io::Result<(Self, Inbox)> {
        let tray = Arc::new(Tray::new(QUEUE));
        let dropped = Arc::new(AtomicU64::new(0));
        let (keeper, recorder) = outputs.capture.take().unzip();
        let inbox = Inbox { tray: Arc::clone(&tray), dropped: Arc::clone(&dropped), keeper };
        let desk = Arc::clone(&tray);
        let writer = Writer { clerk, outputs, recorder };
        let work = move || writer.run(&desk);
        let thread = std::thread::Builder::new().name("desk".into()).spawn(work)?;
        Ok((Self { thread, tray, dropped }, inbox))
    }

    /// Waits until everything is written, but not for an output that stalls.
    pub(super) fn close(self) {
        let until = std::time::Instant::now() + LAST_WORDS;
        let mut end = Some(Message::End);
        while !self.thread.is_finished() && std::time::Instant::now() < until {
            if let Some(message) = end.take()
                && let Err(message) = self.tray.put(message, Haste::Urgent)
            {
                end = Some(message);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let unwritten = if self.thread.is_finished() { 0 } else { self.tray.len() as u64 };
        let dropped = self.dropped.load(Ordering::Relaxed) + unwritten;
        if dropped > 0 {
            stderr::say(format_args!(
                "{dropped} reports were not written: standard output was too slow for them"
            ));
        }
    }
}

/// What the thread works with.
struct Writer {
    clerk: Clerk,
    outputs: Outputs,
    recorder: Option<Recorder>,
}

impl Writer {
    fn run(mut self, tray: &Tray<Message>) {
        let mut failing = false;
        loop {
            let (message, backlog) = tray.take();
            let mut tell = None;
            let text = match message {
                Message::End => break,
                Message::Line(line) => Some(line),
                Message::Attempt(attempt, talk) => {
                    tell.clone_from(&self.outputs.written);
                    let report = self.clerk.report(&attempt, backlog > BUSY, None);
                    if let Some(recorder) = &mut self.recorder {
                        let expected = self.clerk.expected();
                        let name = expected.and_then(|expected| among_names(&attempt.record, expected));
                        recorder.login(&attempt, &report, talk, name);
                    }
                    self.outputs.dress.report(&report)
                }
                Message::Session(event) => {
                    if let Some(recorder) = &self.recorder {
                        recorder.session(event);
                    }
                    None
                }
            };
            let Some(text) = text else { continue };
            let mut out = io::stdout().lock();
            // A full disk or a closed pipe loses this report; the proxy goes on.
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "a report could not be written");
                }
                Err(_) => {}
            }
            if let Some(tell) = tell {
                // Nobody has to listen.
                let _ = tell.try_send(());
            }
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.close();
        }
    }
}
