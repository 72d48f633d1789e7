//! Follows the server's log: the files behind [`crate::serverlog`].
//!
//! A thread of its own reads what is added to the log, near its end and in bounded steps; whoever
//! wants entries asks and waits with a deadline. Nothing of it is on the way of a login: a log that
//! is missing, unreadable, huge or on a disk that hangs costs the report some evidence, no more.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::serverlog::{Certainty, Correlator, Entry, Format, Join, Parser, Question};

/// How much of a log is read that was there before us: some seconds of a busy server.
const TAIL: u64 = 256 * 1024;
/// What may be read in one step before somebody else gets the lock.
const STEP: usize = 64 * 1024;
/// With more than this unread, the middle is passed over: nobody waits for old entries.
const MAX_BEHIND: u64 = 4 * 1024 * 1024;
/// Between looks while nobody asks.
const IDLE: Duration = Duration::from_millis(500);
/// Between looks while somebody waits.
const AWAITED: Duration = Duration::from_millis(50);
/// First bytes of a file by which it is known again after it was truncated and filled.
const HEAD: usize = 256;
/// Files of a directory that are looked at.
const MAX_FILES: usize = 10_000;
/// A sibling in another format counts while it is written as recently as the file itself.
const SIBLING_AGE: Duration = Duration::from_secs(60);

/// What is to be followed.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// A file, a directory (its newest file, or what `current_logfiles` in it names), or a path
    /// whose last part has `*` or `?` (the newest that fits).
    pub path: PathBuf,
    /// The server's `log_line_prefix`, if it is known.
    pub prefix: Option<String>,
}

/// How the following goes, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The file that is read.
    pub file: Option<PathBuf>,
    /// Why nothing, or nothing more, can be read.
    pub error: Option<String>,
    /// Entries understood so far.
    pub entries: u64,
    /// Lines that are no line of a PostgreSQL log that we know.
    pub not_understood: u64,
    /// Bytes passed over because they came faster than they could be read.
    pub skipped_bytes: u64,
}

/// An entry that answers a question; see [`crate::serverlog::Found`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The entry.
    pub entry: Entry,
    /// How sure it is.
    pub certainty: Certainty,
    /// Why.
    pub join: Join,
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    usual: Instant,
    most: Instant,
}

impl Patience {
    /// So long from now, and `most` where the log may not have got there yet: no line of it is younger
    /// than the login, as on a machine that is too busy to write or to read it.
    pub fn new(usual: Duration, most: Duration) -> Self {
        let now = Instant::now();
        Self { usual: now + usual, most: now + most.max(usual) }
    }

    /// Until then, whatever the log shows.
    pub fn until(deadline: Instant) -> Self {
        Self { usual: deadline, most: deadline }
    }

    fn left(&self, complete: bool) -> Duration {
        let until = if complete { self.usual } else { self.most };
        until.saturating_duration_since(Instant::now())
    }
}

/// A thread that follows a log until this is dropped.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    correlator: Correlator,
    status: Status,
    /// Who waits now.
    waiting: usize,
    /// Looks that were finished.
    looks: u64,
    /// Another one is under way.
    looking: bool,
    stop: bool,
}

impl State {
    /// Looks that were begun: what is there now was brought by one of them.
    fn looks_begun(&self) -> u64 {
        self.looks + u64::from(self.looking)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole entries: they are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Follower {
    /// Starts the thread. A log that can't be read is no error here: it may come, and
    /// [`Follower::status`] says what is wrong.
    pub fn start(source: Source) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut reader = Reader { source, shared: Arc::clone(&shared), open: None, started: false };
        std::thread::Builder::new().name("server-log".into()).spawn(move || reader.work())?;
        Ok(Self { shared })
    }

    /// How it goes.
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Waits until the first look at the log is finished; false when the time is over first.
    pub fn wait_ready(&self, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        while state.looks == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, left);
        }
        true
    }

    /// The entries about one connection. Returns as soon as there is a strong FATAL with all its
    /// lines, at once when the log can't be read, and with what there is when the patience is over.
    pub fn wait_for(&self, question: &Question, patience: Patience) -> Vec<Answer> {
        let mut state = self.shared.lock();
        state.waiting += 1;
        let asked_at = state.looks;
        // DETAIL may come in a write of its own: one look has to bring nothing new about this login.
        let (mut size, mut grown_at) = (0, state.looks_begun());
        self.shared.changed.notify_all();
        let answers = loop {
            let found = state.correlator.find(question);
            let now: usize = found.iter().map(|found| found.entry.size()).sum();
            if now != size {
                (size, grown_at) = (now, state.looks_begun());
            }
            let fatal = found.iter().any(|found| found.entry.is_fatal());
            let conclusive = fatal && found.iter().any(|found| found.certainty == Certainty::Strong);
            let hopeless = state.looks > asked_at && state.status.error.is_some();
            // A line younger than the login was written behind all lines about it.
            let complete = fatal || state.correlator.reaches(question.to_ms);
            let left = patience.left(complete);
            if (conclusive && state.looks > grown_at) || hopeless || left.is_zero() {
                break found
                    .into_iter()
                    .map(|found| Answer {
                        entry: found.entry.clone(),
                        certainty: found.certainty,
                        join: found.join,
                    })
                    .collect();
            }
            state = self.shared.wait(state, left);
        };
        state.waiting -= 1;
        answers
    }

    /// Configuration reloads and their faults, oldest first.
    pub fn reloads(&self) -> Vec<Entry> {
        self.shared.lock().correlator.reloads().cloned().collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Not joined: a read on a disk that hangs must not hold up the end of the program.
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

struct Reader {
    source: Source,
    shared: Arc<Shared>,
    open: Option<Open>,
    /// The first file starts near its end, later ones at their beginning.
    started: bool,
}

struct Open {
    path: PathBuf,
    file: File,
    id: (u64, u64),
    offset: u64,
    head: Vec<u8>,
    parser: Parser,
    /// The correlator's place before what this file told.
    mark: u64,
}

impl Reader {
    fn work(&mut self) {
        loop {
            self.shared.lock().looking = true;
            let result = self.look();
            let mut state = self.shared.lock();
            state.looks += 1;
            state.looking = false;
            state.status.error = result.err();
            self.shared.changed.notify_all();
            let since = Instant::now();
            loop {
                if state.stop {
                    return;
                }
                let pause = if state.waiting > 0 { AWAITED } else { IDLE };
                let left = pause.saturating_sub(since.elapsed());
                if left.is_zero() {
                    break;
                }
                state = self.shared.wait(state, left);
            }
        }
    }

    /// Reads what is new; says whether there was anything.
    fn look(&mut self) -> Result<bool, String> {
        let found = resolve(&self.source.path).and_then(|path| {
            fs::metadata(&path).map(|meta| (meta, path.clone())).map_err(|e| said(&path, &e))
        });
        let (meta, path) = match found {
            Ok(found) => found,
            Err(error) => return self.renamed().unwrap_or(Err(error)),
        };
        let mut grown = false;
        let same = self.open.as_ref().is_some_and(|open| open.id == id(&meta));
        if !same {
            // What was written to the old file before the rotation is still to be read.
            if let Some(mut old) = self.open.take() {
                grown |= self.drain(&mut old).unwrap_or(false);
                self.end(&mut old);
                if are_siblings(&old.path, &path) {
                    self.shared.lock().correlator.back_to(old.mark);
                }
            }
            self.open = Some(self.open_file(&path)?);
            self.started = true;
        }
        let Some(mut open) = self.open.take() else { return Ok(grown) };
        open.path.clone_from(&path);
        let result = self.drain(&mut open);
        self.shared.lock().status.file = Some(path);
        self.open = Some(open);
        result.map(|more| more || grown)
    }

    /// Between a rotation's renaming and the server's next look at its log it writes to the old file
    /// under its new name. `None` when that one is gone, too.
    fn renamed(&mut self) -> Option<Result<bool, String>> {
        let mut open = self.open.take()?;
        let there = open.file.metadata().is_ok_and(|meta| meta.nlink() > 0);
        let result = self.drain(&mut open);
        self.open = Some(open);
        (there || result == Ok(true)).then_some(result)
    }

    fn open_file(&self, path: &Path) -> Result<Open, String> {
        let (file, meta) = open_regular(path)?;
        let start = if self.started { 0 } else { meta.len().saturating_sub(TAIL) };
        let parser = self.parser(start > 0);
        let mark = self.shared.lock().correlator.mark();
        Ok(Open { path: path.to_owned(), file, id: id(&meta), offset: start, head: Vec::new(), parser, mark })
    }

    fn parser(&self, in_the_middle: bool) -> Parser {
        let parser = Parser::new(Format::Auto);
        let parser = match &self.source.prefix {
            Some(prefix) => parser.with_prefix(prefix),
            None => parser,
        };
        if in_the_middle { parser.in_the_middle() } else { parser }
    }

    /// Reads an open file to its end.
    fn drain(&self, open: &mut Open) -> Result<bool, String> {
        let fault = |open: &Open, error: &io::Error| said(&open.path, error);
        let meta = open.file.metadata().map_err(|error| fault(open, &error))?;
        let mut head = vec![0; HEAD];
        let read = open.file.read_at(&mut head, 0).map_err(|error| fault(open, &error))?;
        head.truncate(read);
        let length = meta.len();
        if length < open.offset || !head.starts_with(&open.head) {
            // Truncated (copytruncate), and maybe filled again already.
            self.end(open);
            open.offset = length.saturating_sub(TAIL);
            open.parser = self.parser(open.offset > 0);
        }
        open.head = head;
        if length.saturating_sub(open.offset) > MAX_BEHIND {
            let to = length - TAIL;
            self.end(open);
            self.shared.lock().status.skipped_bytes += to - open.offset;
            open.offset = to;
            open.parser = self.parser(true);
        }
        let mut grown = false;
        let mut buffer = vec![0; STEP];
        // Not beyond what was there when we looked: a writer could keep us here for ever.
        while open.offset < length {
            let read = match open.file.read_at(&mut buffer, open.offset) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fault(open, &error)),
            };
            open.offset += read as u64;
            grown = true;
            self.hand_over(
                open,
                |parser, sink| parser.feed(buffer.get(..read).unwrap_or_default(), sink),
                &meta,
            );
        }
        Ok(grown)
    }

    /// The file goes on no further.
    fn end(&self, open: &mut Open) {
        if let Ok(meta) = open.file.metadata() {
            self.hand_over(open, |parser, sink| parser.finish(sink), &meta);
        }
        self.shared.lock().correlator.interrupt();
    }

    fn hand_over(
        &self,
        open: &mut Open,
        work: impl FnOnce(&mut Parser, &mut dyn FnMut(crate::serverlog::Piece)),
        meta: &Metadata,
    ) {
        // An entry is no younger than the file's last change: that dates those that were there before.
        let now = SystemTime::now();
        let seen_ms = unix_ms(meta.modified().map_or(now, |modified| modified.min(now)));
        let before = open.parser.not_understood();
        let mut pieces = Vec::new();
        work(&mut open.parser, &mut |piece| pieces.push(piece));
        let mut state = self.shared.lock();
        state.status.not_understood += open.parser.not_understood() - before;
        for piece in pieces {
            state.status.entries += u64::from(matches!(piece, crate::serverlog::Piece::Entry(_)));
            state.correlator.take(piece, seen_ms);
        }
    }
}

fn said(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Why there is no log to read now; there may be one later.
pub(super) fn absent(path: &Path) -> Option<String> {
    resolve(path).and_then(|file| open_regular(&file)).err()
}

fn open_regular(path: &Path) -> Result<(File, Metadata), String> {
    // Without NONBLOCK, opening a named pipe waits for who writes to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| said(path, &error))?;
    let meta = file.metadata().map_err(|error| said(path, &error))?;
    if !meta.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    Ok((file, meta))
}

/// The file to read now.
fn resolve(path: &Path) -> Result<PathBuf, String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_dir() {
        return match current_logfile(path) {
            Some(file) => Ok(file),
            None => newest(path, None),
        };
    }
    if name.contains(['*', '?']) && !path.exists() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        return newest(parent.unwrap_or(Path::new(".")), Some(name));
    }
    Ok(richer_sibling(path))
}

/// What the logging collector says in the data directory (`update_metainfo_datafile` in syslogger.c).
fn current_logfile(dir: &Path) -> Option<PathBuf> {
    let list = dir.join("current_logfiles");
    if list.metadata().ok()?.len() > 64 * 1024 {
        return None;
    }
    let text = fs::read_to_string(list).ok()?;
    let file = |format: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(format)?.strip_prefix(' '))?;
        Some(dir.join(line)).filter(|path| path.is_file())
    };
    file("jsonlog").or_else(|| file("csvlog")).or_else(|| file("stderr"))
}

/// The newest log of a directory.
fn newest(dir: &Path, pattern: Option<&str>) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|error| said(dir, &error))?;
    let mut best: Option<(SystemTime, PathBuf)> = None;
    for entry in entries.take(MAX_FILES).flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let fits = match pattern {
            Some(pattern) => glob(pattern.as_bytes(), name.as_bytes()),
            None => !name.starts_with('.') && !is_packed(name),
        };
        let Some(meta) = fs::metadata(entry.path()).ok().filter(|meta| fits && meta.is_file()) else {
            continue;
        };
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let newer = best.as_ref().is_none_or(|(time, path)| {
            // The same moment: by name, since names of logs have the date in them.
            (modified, name) > (*time, path.file_name().and_then(|name| name.to_str()).unwrap_or_default())
        });
        if newer {
            best = Some((modified, entry.path()));
        }
    }
    match best {
        Some((_, path)) => Ok(richer_sibling(&path)),
        None => Err(format!(
            "{}: no log file there{}",
            dir.display(),
            pattern.map(|p| format!(" fits {p}")).unwrap_or_default()
        )),
    }
}

/// Logs that rotation has packed away.
fn is_packed(name: &str) -> bool {
    [".gz", ".xz", ".bz2", ".zst", ".lz4", ".zip"].iter().any(|end| name.ends_with(end))
}

/// With more than one log_destination the collector writes `x.log`, `x.csv` and `x.json` side by side:
/// the same entries, and the later formats say more.
fn richer_sibling(path: &Path) -> PathBuf {
    let modified = |path: &Path| {
        let meta = fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() > 0)?;
        meta.modified().ok()
    };
    let own = modified(path);
    let rank = match path.extension().and_then(|extension| extension.to_str()) {
        Some("log") => 2,
        Some("csv") => 1,
        _ => 0,
    };
    for extension in ["json", "csv"].iter().take(rank) {
        let sibling = path.with_extension(extension);
        if let Some(time) = modified(&sibling)
            && own.is_none_or(|own| time + SIBLING_AGE >= own)
        {
            return sibling;
        }
    }
    path.to_owned()
}

/// One log in two formats: the collector opens `x.json` a moment after `x.log`, and both tell the same.
fn are_siblings(left: &Path, right: &Path) -> bool {
    let format =
        |path: &Path| ["log", "csv", "json"].iter().position(|end| path.extension() == Some(end.as_ref()));
    let both = format(left).zip(format(right));
    both.is_some_and(|(left, right)| left != right) && left.with_extension("") == right.with_extension("")
}

/// Shell patterns with `*` and `?`, in linear time and space for what names are.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || name.get(n) == Some(byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
