//! From bytes to pieces: lines, formats, and which line continues which.

use std::collections::BTreeMap;

use super::catalogue;
use super::json::Line;
use super::kind::Kind;
use super::words::Word;
use super::{Entry, Part, Piece, Severity, csv, json, prefix};

/// Which format a log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Each line shows it.
    #[default]
    Auto,
    /// `log_destination = stderr`, or syslog, or what a container's runtime makes of it.
    Stderr,
    /// `csvlog`
    Csv,
    /// `jsonlog`
    Json,
}

/// A line is kept up to here; the lines we look for are far shorter, and statements are longer.
const MAX_LINE: usize = 64 * 1024;
/// A record of csvlog with its line feeds is kept up to here.
const MAX_RECORD: usize = 256 * 1024;

/// Reads a log piece by piece, however it is cut, and never fails: a line that can't be understood is
/// counted. Secrets in it (options of pg_hba.conf, passwords in statements) do not get further.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    format: Format,
    template: Option<String>,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// Its rest is passed over: it is too long.
    overflow: bool,
    /// The csvlog record that is not complete yet, and whether a quote is open in it.
    record: Option<(Vec<u8>, bool)>,
    /// A record was too long: everything is passed over up to the next that begins.
    lost: bool,
    not_understood: u64,
}

impl Parser {
    /// A parser that starts at the beginning of a line.
    pub fn new(format: Format) -> Self {
        Self { format, ..Self::default() }
    }

    /// Reads prefixes by the server's `log_line_prefix` instead of guessing.
    #[must_use]
    pub fn with_prefix(mut self, template: &str) -> Self {
        self.template = Some(template.to_owned());
        self
    }

    /// Starts in the middle of a line: everything up to its end is passed over.
    #[must_use]
    pub fn in_the_middle(mut self) -> Self {
        self.overflow = true;
        self
    }

    /// Lines that no format fits.
    pub fn not_understood(&self) -> u64 {
        self.not_understood
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Piece)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_line(sink);
        }
        self.keep(bytes);
    }

    /// The file ends: what has no line feed yet will not get one.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Piece)) {
        if !self.line.is_empty() {
            self.end_line(sink);
        }
        self.overflow = false;
        self.lost = false;
        if let Some((record, _)) = self.record.take() {
            self.csv_record(&record, sink);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        if !self.overflow {
            self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.overflow |= bytes.len() > room;
    }

    fn end_line(&mut self, sink: &mut dyn FnMut(Piece)) {
        let line = std::mem::take(&mut self.line);
        // A log that was truncated under a writer that does not append begins with zero bytes.
        let blank = line.iter().take_while(|byte| **byte == 0).count();
        let mut bytes = &line[blank..];
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let in_the_middle = std::mem::take(&mut self.overflow) && line.is_empty();
        if !in_the_middle {
            self.whole_line(bytes, sink);
        }
    }

    fn whole_line(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Piece)) {
        if self.record.is_some() {
            return self.csv_line(bytes, sink);
        }
        if bytes.is_empty() {
            return;
        }
        let is_csv = matches!(self.format, Format::Auto | Format::Csv) && csv::starts_record(bytes);
        if is_csv {
            self.lost = false;
            self.record = Some((Vec::new(), false));
            return self.csv_line(bytes, sink);
        }
        let text = decode(bytes);
        let is_json = matches!(self.format, Format::Auto | Format::Json) && text.starts_with('{');
        if is_json {
            match json::read(&text) {
                Some(Line::Entry(entry)) => sink(whole(entry)),
                Some(Line::Inner(inner)) => self.stderr_line(&inner, sink),
                None => self.not_understood += 1,
            }
        } else if matches!(self.format, Format::Auto | Format::Stderr) && !self.lost {
            self.stderr_line(&text, sink);
        } else {
            self.not_understood += 1;
        }
    }

    /// A line of a csvlog record, which ends when its quotes are even.
    fn csv_line(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Piece)) {
        let Some((mut record, mut open)) = self.record.take() else { return };
        if !record.is_empty() {
            record.push(b'\n');
        }
        record.extend_from_slice(bytes);
        open ^= bytes.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        if record.len() > MAX_RECORD {
            self.not_understood += 1;
            self.lost = true;
        } else if open {
            self.record = Some((record, open));
        } else {
            self.csv_record(&record, sink);
        }
    }

    fn csv_record(&mut self, record: &[u8], sink: &mut dyn FnMut(Piece)) {
        match csv::read(&decode(record)) {
            Some(entry) => sink(whole(Box::new(entry))),
            // A log_line_prefix with commas can look like the start of a record.
            None if self.format == Format::Auto => {
                decode(record).lines().for_each(|line| self.stderr_line(line, sink));
            }
            None => self.not_understood += 1,
        }
    }

    fn stderr_line(&mut self, line: &str, sink: &mut dyn FnMut(Piece)) {
        if let Some(text) = line.strip_prefix('\t') {
            return sink(Piece::Tail { text: text.to_owned(), joined: false });
        }
        let Some(head) = prefix::read(line, self.template.as_deref()) else {
            return match continuation(line) {
                Some(piece) => sink(piece),
                None => self.not_understood += 1,
            };
        };
        let severity = match head.word {
            Word::Part(part) => {
                return sink(Piece::More { pid: head.prefix.pid, part, text: head.text.to_owned() });
            }
            Word::Severity(severity) => severity,
            Word::Unknown => Severity::Unknown,
        };
        let mut entry = head.prefix.entry(severity);
        let text = match verbose_sqlstate(head.text) {
            Some((state, text)) => {
                entry.sqlstate = Some(state.to_owned()).filter(|state| state != "00000");
                text
            }
            None => head.text,
        };
        entry.append(Part::Message, text, false);
        sink(whole(Box::new(entry)));
    }
}

/// Text in the server's encoding: UTF-8, or else Latin-1, which fits the Western languages.
fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// `log_error_verbosity = verbose` puts the SQLSTATE before the message.
fn verbose_sqlstate(text: &str) -> Option<(&str, &str)> {
    let (state, rest) = text.split_once(": ")?;
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    (state.len() == 5 && state.bytes().all(fits) && state.bytes().any(|b| b.is_ascii_digit()))
        .then_some((state, rest))
}

/// A line without a word of its own: behind what syslog (`[5-2] #011…`), compose (`db-1 | `) or a
/// container's runtime (`… stderr F `) puts before every line.
fn continuation(line: &str) -> Option<Piece> {
    for mark in ["#011", "| \t", " F \t", " P \t"] {
        if let Some((_, text)) = line.split_once(mark) {
            return Some(Piece::Tail { text: text.to_owned(), joined: false });
        }
    }
    let (head, text) = line.split_once("] ").filter(|(head, _)| head.contains("]: ["))?;
    let (_, chunk) = head.rsplit_once('-')?;
    let is_later = chunk.parse::<u32>().is_ok_and(|chunk| chunk > 1);
    is_later.then(|| match text.strip_prefix('\t') {
        Some(text) => Piece::Tail { text: text.to_owned(), joined: false },
        None => Piece::Tail { text: text.to_owned(), joined: true },
    })
}

/// An entry worth keeping, with what its message says at once; or that there was another one.
fn whole(mut entry: Box<Entry>) -> Piece {
    let wanted = matches!(
        entry.severity,
        Severity::Fatal | Severity::Panic | Severity::Log | Severity::Warning | Severity::Unknown
    );
    let is_log = !entry.is_fatal();
    if !wanted || (is_log && catalogue::is_statement(&entry.message)) {
        return Piece::Skipped { pid: entry.pid };
    }
    if is_log && let Some((Kind::Received, args)) = catalogue::recognise(&entry.message, &[Kind::Received]) {
        let host = args.first().map(|host| (*host).to_owned()).unwrap_or_default();
        let port = args.get(1).and_then(|port| port.parse().ok());
        entry.remote_host.get_or_insert_with(|| host.clone());
        entry.remote_port = entry.remote_port.or(port);
        entry.connection_received = Some((host, port));
    }
    Piece::Entry(entry)
}

/// Which entry a piece belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    next: u64,
    last_of: BTreeMap<Option<u32>, Option<u64>>,
    /// The entry and part that a tail continues.
    tail: Option<(u64, Part)>,
}

/// Where a piece goes.
pub(super) enum Place {
    /// A new entry with this number.
    New(u64, Box<Entry>),
    /// More text for an entry.
    Add { number: u64, part: Part, text: String, joined: bool },
    /// Nowhere.
    Nowhere,
}

/// Processes whose last entry is remembered: more than a server has sessions, and a bound.
const MAX_THREADS: usize = 4_096;

impl Threads {
    /// Forgets what came before: nothing that follows continues it.
    pub(super) fn interrupt(&mut self) {
        self.last_of.clear();
        self.tail = None;
    }

    /// Takes back all entries from this number on.
    pub(super) fn back_to(&mut self, number: u64) {
        self.next = number;
        self.interrupt();
    }

    /// The number that the next entry gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Places a piece.
    pub(super) fn place(&mut self, piece: Piece) -> Place {
        match piece {
            Piece::Entry(entry) => {
                let number = self.next;
                self.next += 1;
                self.remember(entry.pid, Some(number));
                self.tail = Some((number, Part::Message));
                Place::New(number, entry)
            }
            Piece::Skipped { pid } => {
                self.remember(pid, None);
                self.tail = None;
                Place::Nowhere
            }
            Piece::More { pid, part, text } => {
                let number = self.last_of.get(&pid).copied().flatten();
                self.tail = number.map(|number| (number, part));
                number.map_or(Place::Nowhere, |number| Place::Add { number, part, text, joined: false })
            }
            Piece::Tail { text, joined } => {
                self.tail.map_or(Place::Nowhere, |(number, part)| Place::Add { number, part, text, joined })
            }
        }
    }

    fn remember(&mut self, pid: Option<u32>, number: Option<u64>) {
        if self.last_of.len() >= MAX_THREADS {
            let floor = self.next.saturating_sub(MAX_THREADS as u64 / 2);
            self.last_of.retain(|_, number| number.is_some_and(|number| number >= floor));
        }
        self.last_of.insert(pid, number);
    }
}

/// Every entry of a whole text, joined.
pub fn parse_all(bytes: &[u8], parser: Parser) -> Vec<Entry> {
    let (mut parser, mut threads, mut entries) = (parser, Threads::default(), Vec::<Entry>::new());
    let mut sink = |piece| match threads.place(piece) {
        Place::New(_, entry) => entries.push(*entry),
        Place::Add { number, part, text, joined } => {
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            if let Some(entry) = entries.get_mut(at) {
                entry.append(part, &text, joined);
            }
        }
        Place::Nowhere => {}
    };
    parser.feed(bytes, &mut sink);
    parser.finish(&mut sink);
    entries
}
