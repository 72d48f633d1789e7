//! The capture's files: every write is one whole login, so that a process that is killed leaves whole
//! blocks; a file that is full makes room for the next.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::app::{Failure, stderr};
use crate::capture::blank::{Keep, blank};
use crate::capture::facts::Facts;
use crate::capture::write::walk::Piece;
use crate::capture::write::{Flow, Login, login, section};
use crate::handshake::{Close, Side};
use crate::net::Closed;

use super::keeper::{Part, Share};

/// Sessions whose packets are being written, and refused logins whose end is still to come; beyond that
/// the oldest is followed no further.
const SESSIONS: usize = 4_096;

/// Where to write, and how much.
pub(super) struct Target {
    path: PathBuf,
    directory: bool,
    size: u64,
    files: usize,
    described: String,
}

impl Target {
    /// A directory is one that is there, or that ends in a slash.
    pub(super) fn new(path: &Path, size: u64, files: usize, described: &str) -> Result<Self, Failure> {
        let directory = path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
        if directory {
            std::fs::create_dir_all(path).map_err(|error| refused(path, &error))?;
        }
        Ok(Self { path: path.to_owned(), directory, size, files, described: described.to_owned() })
    }

    /// The name of a directory's next file.
    fn next_name(&self, number: u64) -> PathBuf {
        if !self.directory {
            return self.path.clone();
        }
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let stamp: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        self.path.join(format!("pgwhy-{stamp}-{number}.pcapng"))
    }

    /// Makes room for one more file.
    fn rotate(&self) {
        if self.directory {
            let mut ours: Vec<((String, u64), PathBuf)> = std::fs::read_dir(&self.path)
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter_map(|path| Some((order(path.file_name()?.to_str()?)?, path)))
                .collect();
            ours.sort();
            let many = (ours.len() + 1).saturating_sub(self.files);
            for (_, path) in ours.into_iter().take(many) {
                // Somebody else may have removed it.
                let _ = std::fs::remove_file(path);
            }
            return;
        }
        let numbered = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        if self.files == 1 {
            let _ = std::fs::remove_file(&self.path);
        }
        for number in (0..self.files.saturating_sub(1)).rev() {
            // Those that are not there yet can't be renamed.
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
    }
}

/// Time and number of a file that pgwhy named.
fn order(name: &str) -> Option<(String, u64)> {
    let (stamp, number) = name.strip_prefix("pgwhy-")?.strip_suffix(".pcapng")?.rsplit_once('-')?;
    Some((stamp.to_owned(), number.parse().ok()?))
}

/// One login, ready to be written.
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) pieces: Vec<Piece>,
    pub(super) server_leg: Option<Vec<Piece>>,
    pub(super) facts: Facts,
    pub(super) verdict: String,
    /// A session follows.
    pub(super) goes_on: bool,
    /// Its end is still to come.
    pub(super) ends_later: bool,
    /// Its part of the bytes that are held.
    #[expect(dead_code, reason = "given back when dropped")]
    pub(super) share: Option<Share>,
}

/// The open file, on the capture's thread.
pub(super) struct Writer {
    target: Target,
    keep: Keep,
    file: Option<File>,
    /// Its name.
    path: PathBuf,
    /// A regular file: its length can be known and cut.
    regular: bool,
    /// The section's header was written.
    begun: bool,
    length: u64,
    number: u64,
    complained: bool,
    sessions: BTreeMap<u64, Flow>,
    dropped: Arc<AtomicU64>,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens the first file and writes its header. A full disk is no reason not to start.
    pub(super) fn open(target: Target, keep: Keep, dropped: Arc<AtomicU64>) -> Result<Self, Failure> {
        let mut writer = Self {
            target,
            keep,
            file: None,
            path: PathBuf::new(),
            regular: true,
            begun: false,
            length: 0,
            number: 0,
            complained: false,
            sessions: BTreeMap::new(),
            dropped,
            buffer: Vec::new(),
        };
        if writer.target.directory {
            writer.target.rotate();
        }
        let path = writer.target.next_name(0);
        writer.start(&path).map_err(|error| refused(&path, &error))?;
        if let Err(error) = writer.begin() {
            writer.complain(&error);
        }
        Ok(writer)
    }

    fn start(&mut self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = match options.open(path) {
            // A pipe is for writing only.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                OpenOptions::new().append(true).open(path)?
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        self.regular = metadata.is_file();
        self.length = 0;
        if self.regular && metadata.len() > 0 {
            self.length = whole_blocks(&mut file, metadata.len())?;
            if self.length < metadata.len() {
                stderr::say(format_args!("{}: its last block was cut short, and is removed", path.display()));
                file.set_len(self.length)?;
            }
        }
        self.file = Some(file);
        path.clone_into(&mut self.path);
        self.begun = false;
        Ok(())
    }

    /// The section that everything behind it belongs to.
    fn begin(&mut self) -> io::Result<()> {
        let mut out = Vec::with_capacity(1_024);
        let application = concat!("pgwhy ", env!("CARGO_PKG_VERSION"));
        section(&mut out, application, std::env::consts::OS, &self.target.described);
        self.write(&out)?;
        self.begun = true;
        Ok(())
    }

    /// Writes a whole login.
    pub(super) fn login(&mut self, mut entry: Entry) {
        blank(&mut entry.pieces, self.keep);
        if let Some(pieces) = &mut entry.server_leg {
            blank(pieces, self.keep);
        }
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        let flow = login(
            &mut out,
            &Login {
                pieces: &entry.pieces,
                server_leg: entry.server_leg.as_deref(),
                facts: &entry.facts,
                verdict: &entry.verdict,
                goes_on: entry.goes_on || entry.ends_later,
            },
        );
        if self.put(&out)
            && (entry.ends_later || (self.keep.queries && entry.goes_on))
            && let Some(flow) = flow
        {
            // The end of one may have been dropped, so that it would stay for ever: the oldest goes.
            if self.sessions.len() >= SESSIONS {
                self.sessions.pop_first();
            }
            self.sessions.insert(entry.number, flow);
        }
        self.buffer = out;
    }

    /// Writes a part of a session whose login was written.
    pub(super) fn part(&mut self, number: u64, part: Part) {
        let mut out = Vec::new();
        if let Some(flow) = self.sessions.get_mut(&number) {
            flow.data(&mut out, &part.piece, "the session's data");
            self.put(&out);
        }
    }

    /// Writes the end of a session.
    pub(super) fn closed(&mut self, closed: &Closed) {
        if let Some(mut flow) = self.sessions.remove(&closed.id) {
            let (first, reset, comment) = ended(closed);
            let mut out = Vec::new();
            flow.end(&mut out, first, reset, closed.elapsed, comment);
            self.put(&out);
        }
    }

    /// Writes blocks, into the next file where this one is full. What can't be written is counted.
    fn put(&mut self, blocks: &[u8]) -> bool {
        match self.try_put(blocks) {
            Ok(()) => {
                self.complained = false;
                true
            }
            Err(error) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                self.complain(&error);
                false
            }
        }
    }

    fn try_put(&mut self, blocks: &[u8]) -> io::Result<()> {
        let more = u64::try_from(blocks.len()).unwrap_or_default();
        if self.regular && self.begun && self.length > 0 && self.length + more > self.target.size {
            self.target.rotate();
            self.number += 1;
            let path = self.target.next_name(self.number);
            self.start(&path)?;
            if self.length + more > self.target.size && self.length > 0 {
                return Err(io::Error::other("the file is full and can't be put aside"));
            }
        }
        if self.is_taken_away() {
            let path = self.path.clone();
            self.start(&path)?;
        }
        if !self.begun {
            self.begin()?;
        }
        self.write(blocks)
    }

    /// Whether the file has no longer the name that it was opened by: it was removed, or rotated away.
    fn is_taken_away(&self) -> bool {
        let Some(open) = self.file.as_ref().filter(|_| self.regular) else { return false };
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        match (open.metadata().map(identity), std::fs::metadata(&self.path).map(identity)) {
            (Ok(open), Ok(named)) => open != named,
            (_, named) => named.is_err(),
        }
    }

    /// One write; what a full disk took of it is taken back, so that the file ends with a whole block.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write_all(bytes);
        match written {
            Ok(()) => self.length += u64::try_from(bytes.len()).unwrap_or_default(),
            Err(_) if self.regular => file.set_len(self.length)?,
            Err(_) => {}
        }
        written
    }

    /// Says once that something is wrong, until it is right again.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            stderr::say(format_args!("--capture: {error}; logins go on, and are not captured"));
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("--capture {}: {error}", path.display()))
}

/// How much of a file consists of whole blocks. A file that pgwhy did not begin is left alone.
fn whole_blocks(file: &mut File, length: u64) -> io::Result<u64> {
    let mut start = vec![0; 512];
    let count = file.read(&mut start)?;
    let start = start.get(..count).unwrap_or_default();
    let ours = start.starts_with(b"\x0a\x0d\x0d\x0a") && start.windows(6).any(|part| part == b"pgwhy ");
    if !ours {
        let reason = "this file is there already and is no capture of pgwhy's: name another";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    let mut reader = io::BufReader::new(file);
    let mut at = 0;
    reader.seek(SeekFrom::Start(0))?;
    while at + 12 <= length {
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let [_, _, _, _, size @ ..] = head;
        let size = u64::from(u32::from_le_bytes(size));
        if size < 12 || size % 4 != 0 || at + size > length {
            break;
        }
        at += size;
        reader.seek_relative(i64::try_from(size - 8).unwrap_or(i64::MAX))?;
    }
    Ok(at)
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
