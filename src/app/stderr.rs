//! Standard error: nobody who writes to it fails, and nobody who carries a login waits for it.
//!
//! Whoever reads it may stall or be gone. A command writes directly and ignores that. A proxy hands what it
//! has to say to a thread; where that thread waits and its queue is full, messages are dropped and counted.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Messages that may wait: far more than a proxy says while somebody reads.
const QUEUE: usize = 1_024;
/// How long the last messages may take to be written when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// There is one standard error; once a thread has it, everything goes through that.
static THREAD: OnceLock<SyncSender<Item>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Item {
    Text(Vec<u8>),
    /// Everything before it was written.
    Done(SyncSender<()>),
}

/// Says a line in the program's name.
pub(super) fn say(what: impl Display) {
    write(format_args!("pgwhy: {what}\n"));
}

/// Writes text as it is.
pub(super) fn write(text: impl Display) {
    put(text.to_string().into_bytes());
}

fn put(text: Vec<u8>) {
    match THREAD.get() {
        None => directly(&text),
        Some(thread) => {
            if thread.try_send(Item::Text(text)).is_err() {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn directly(text: &[u8]) {
    // Nobody is left to be told.
    let _ = io::stderr().write_all(text);
}

/// From here on nobody waits for standard error.
pub(super) fn detach() -> io::Result<()> {
    if THREAD.get().is_some() {
        return Ok(());
    }
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::Builder::new().name("stderr".into()).spawn(move || work(&receiver))?;
    // Of two that came at once one is enough: the other's thread ends with its sender.
    let _ = THREAD.set(sender);
    Ok(())
}

fn work(queue: &Receiver<Item>) {
    while let Ok(item) = queue.recv() {
        match item {
            Item::Text(text) => directly(&text),
            // Who waited may have gone.
            Item::Done(waiting) => drop(waiting.try_send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            directly(
                format!("pgwhy: {dropped} messages were not written: standard error was too slow\n")
                    .as_bytes(),
            );
        }
    }
}

/// Waits until everything is written, but not for a reader who stalls.
pub(super) fn settle() {
    let Some(thread) = THREAD.get() else { return };
    let until = Instant::now() + LAST_WORDS;
    let (waiting, done) = sync_channel(1);
    let mut item = Item::Done(waiting);
    while let Err(TrySendError::Full(back)) = thread.try_send(item) {
        if Instant::now() >= until {
            return;
        }
        item = back;
        std::thread::sleep(Duration::from_millis(5));
    }
    // Late or never, the program ends.
    let _ = done.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// Where `tracing` writes.
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        put(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
