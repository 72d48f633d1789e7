//! `pgwhy show`: captures become the reports that the proxy would have written.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::capture::conversation::{Conversation, Dialled, Table, Tally};
use crate::capture::facts::Facts;
use crate::capture::read::blocks::Blocks;
use crate::capture::read::link;
use crate::capture::tls::KeyLog;
use crate::diagnose::context::{Dial, DialFault};
use crate::diagnose::{Confidence, Outcome};
use crate::handshake::{Attention, Record};
use crate::net::{Attempt, DialAttempt, DialError, Ending, OpaqueFacts, PeerAddr};
use crate::report::Report;

use super::capture::{identify, report_of};
use super::cli::{ChoiceArgs, Show, ShowArgs};
use super::config::expectation;
use super::desk::{Captured, Clerk, Setting};
use super::output::{Dress, counted};
use super::sources::Sources;
use super::{Failure, stderr};

/// Reads every file and reports every login.
pub(super) fn run(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let choice = &args.choice;
    let dress = Dress::new(args.format, if choice.failed { Show::Failed } else { Show::All });
    let (mut clerk, anew) = clerk(choice, dress)?;
    let keys = keys(choice.keylog.as_deref())?;
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut total, mut shown_failed) = (Counts::default(), false);
    for (place, path) in args.files.iter().enumerate() {
        let prefix = if args.files.len() > 1 { format!("{}.", place + 1) } else { String::new() };
        let mut gone = false;
        let read = logins(path, &choice.port, &keys, &mut |conversation| {
            let number = conversation.number;
            let report = report(&mut clerk, &prefix, conversation, anew).0;
            total.count(&report);
            if !wanted(choice, &report, &format!("{prefix}{number}")) {
                return !gone;
            }
            shown_failed |= report.diagnosis.outcome == Outcome::Failed;
            let text = dress.report(&report).unwrap_or_default();
            // `pgwhy show … | head` is no failure.
            gone |= out.write_all(text.as_bytes()).is_err();
            !gone
        });
        let flushed = out.flush();
        match read {
            Ok(tally) => total.add(tally),
            Err(failure) => {
                stderr::say(&failure.text);
                total.unreadable_files += 1;
            }
        }
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ if gone => break,
            _ => {}
        }
    }
    stderr::say(total.line());
    Ok(match (total.unreadable_files, shown_failed) {
        (1.., _) => ExitCode::from(2),
        (0, true) => ExitCode::from(1),
        (0, false) => ExitCode::SUCCESS,
    })
}

/// A clerk for captures, and whether context was given, so that verdicts are found anew.
pub(super) fn clerk(choice: &ChoiceArgs, dress: Dress) -> Result<(Clerk, bool), Failure> {
    let (expected, demands, host) =
        expectation(choice.expect.as_deref(), choice.context.password_file.as_deref())?;
    let sources = Sources::open(&choice.context)?;
    let anew = choice.expect.is_some() || !choice.context.is_empty();
    let setting = Setting { expected, demands, host, dress, sources, written: None, capture: None };
    Ok((Clerk::new(setting), anew))
}

/// Reads a key log; without one there are no keys.
pub(super) fn keys(path: Option<&Path>) -> Result<KeyLog, Failure> {
    let mut keys = KeyLog::default();
    let Some(path) = path else { return Ok(keys) };
    let refused = |error: io::Error| Failure::usage(format!("--keylog {}: {error}", path.display()));
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(refused)?.take(LONGEST_KEYLOG);
    file.read_to_end(&mut text).map_err(refused)?;
    keys.read(&text);
    match keys.counts() {
        (0, _) => stderr::say(format_args!("--keylog {}: there are no keys in it", path.display())),
        (_, 0) => {}
        (_, broken) => stderr::say(format_args!("--keylog {}: {broken} lines can't be read", path.display())),
    }
    Ok(keys)
}

/// More lines than [`KeyLog`] keeps.
const LONGEST_KEYLOG: u64 = 64 << 20;

/// Whether a login is one of those that were asked for. `number` is its place in the capture.
pub(super) fn wanted(choice: &ChoiceArgs, report: &Report, number: &str) -> bool {
    let user = choice.user.as_deref().is_none_or(|user| report.client.user.as_deref() == Some(user));
    let finding = report.diagnosis.finding.as_ref();
    let cause = choice.cause.is_none_or(|cause| finding.is_some_and(|finding| finding.cause == cause));
    let login = choice.login.as_deref().is_none_or(|login| login == report.id || login == number);
    user && cause && login && (!choice.failed || report.diagnosis.outcome == Outcome::Failed)
}

/// Reads one file and hands out its logins until `take` says that it wants no more.
pub(super) fn logins(
    path: &Path,
    ports: &[u16],
    keys: &KeyLog,
    take: &mut dyn FnMut(Conversation) -> bool,
) -> Result<Tally, Failure> {
    let shown = path.display();
    let (reader, length): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        let length = file.metadata().map_or(0, |meta| meta.len());
        (Box::new(file), length)
    };
    let mut blocks =
        Blocks::open(reader).map_err(|trouble| Failure::usage(format!("{shown}: {}", trouble.what)))?;
    let mut table = Table::new(ports).with_keys(keys.clone());
    let mut progress = Progress::new(length);
    while let Some(block) = blocks.next() {
        table.block(&block);
        while let Some(conversation) = table.next_done() {
            if !take(conversation) {
                return Ok(table.tally());
            }
        }
        progress.tell(|| (blocks.position(), table.tally().connections));
    }
    progress.end();
    table.finish();
    while let Some(conversation) = table.next_done() {
        if !take(conversation) {
            return Ok(table.tally());
        }
    }
    if let Some(trouble) = blocks.trouble() {
        stderr::say(format_args!("{shown}: {trouble}; what came before it is shown"));
    }
    if let Some(link) = table.tally().unknown_link {
        let name = link::name(link);
        stderr::say(format_args!("{shown}: packets of link type {link} ({name}) are not read"));
    }
    Ok(table.tally())
}

/// Diagnoses a conversation as the proxy would have; what pgwhy diagnosed itself stands, unless there is
/// something new to know. `anew`: context was given.
pub(super) fn report(
    clerk: &mut Clerk,
    prefix: &str,
    mut conversation: Conversation,
    anew: bool,
) -> (Report, Record) {
    let record = conversation.record.clone();
    let facts = conversation.facts.take();
    // What stayed encrypted was not blanked, and not diagnosed either.
    let opened = conversation.opened;
    let blanked = facts.as_ref().is_some_and(|facts| !facts.secrets_kept) && !opened;
    if let Some(facts) = facts.as_ref().filter(|_| !opened) {
        let proven = facts.diagnosis.as_ref().and_then(|diagnosis| diagnosis.finding.as_ref());
        let proven = proven.is_some_and(|finding| finding.confidence == Confidence::Proven);
        if let Some(diagnosis) = facts.diagnosis.clone().filter(|_| !anew || (blanked && proven)) {
            let mut report = report_of(&record, facts, diagnosis);
            clerk.compare(&mut report, &record);
            return (report, record);
        }
    }
    let id = format!("{prefix}{}", conversation.number);
    let captured = Captured { id, lack: conversation.lack, blanked };
    let mut report = clerk.report(&attempt(conversation, facts.as_deref()), false, Some(captured));
    if let Some(facts) = &facts {
        identify(&mut report, facts);
    }
    if facts.is_none() {
        let inside = report.diagnosis.notes.iter_mut().filter(|note| note.starts_with("to see inside: "));
        inside.for_each(|note| note.push_str("; or --keylog with the keys that one of its ends wrote down"));
    }
    if let Some(finding) = &mut report.diagnosis.finding {
        finding.fix.iter_mut().for_each(|text| *text = by_our_options(text));
        finding.ask.iter_mut().for_each(|text| *text = by_our_options(text).into());
    }
    (report, record)
}

/// What to give pgwhy is asked for by the options of `pgwhy proxy`.
fn by_our_options(text: &str) -> String {
    text.replace("(in --upstream, PGPASSWORD or --password-file)", "(in --expect or --password-file)")
        .replace("(--upstream with password, or --password-file)", "(--expect or --password-file)")
}

/// A captured connection in the words of the proxy. The server knows the client by the address in the
/// packets, so that stands for our own.
fn attempt(conversation: Conversation, facts: Option<&Facts>) -> Attempt {
    let (client, server) = (PeerAddr::Tcp(conversation.client), PeerAddr::Tcp(conversation.server));
    let dial = |elapsed: Duration, result: Result<(), DialError>| DialAttempt {
        host: conversation.server.to_string(),
        addr: Some(server.clone()),
        started: Duration::ZERO,
        elapsed,
        result,
    };
    let (dials, our_outgoing) = match facts {
        Some(facts) => {
            let leg = facts.server_leg.as_ref();
            let from = leg.and_then(|leg| Some(PeerAddr::Tcp(leg.from.parse().ok()?)));
            (facts.dials.iter().map(dialled).collect(), from)
        }
        None => {
            let dials = match conversation.dial {
                Dialled::Unseen => Vec::new(),
                Dialled::Reached(took) => vec![dial(took, Ok(()))],
                Dialled::Refused(took) => vec![dial(took, Err(DialError::Refused))],
                Dialled::Unanswered(took) => vec![dial(took, Err(DialError::Timeout))],
            };
            (dials, Some(client.clone()))
        }
    };
    let reached =
        dials.iter().all(|dial| dial.result.is_ok()) || dials.last().is_some_and(|d| d.result.is_ok());
    let ending = match conversation.attention {
        Attention::Ready | Attention::Settling => Ending::Ready,
        Attention::Failed => Ending::Failed,
        Attention::Opaque => Ending::Opaque,
        Attention::Cancel => Ending::Cancel { known: false, delivered: true },
        Attention::Watching if !reached => Ending::NoServer,
        Attention::Watching => Ending::Closed,
    };
    Attempt {
        id: conversation.number,
        accepted: SystemTime::UNIX_EPOCH + Duration::from_nanos(conversation.began),
        listener: server.clone(),
        client,
        server: reached.then_some(server),
        our_outgoing,
        dials,
        record: conversation.record,
        ending,
        ssl_answered_by_us: facts.is_some_and(|facts| facts.ssl_answered_by_us),
        elapsed: conversation.elapsed,
        opaque: conversation.outside.map(|outside| OpaqueFacts {
            client_bytes: outside.client_bytes,
            server_bytes: outside.server_bytes,
            closed: outside.closed,
        }),
    }
}

/// A dial as it was noted.
fn dialled(dial: &Dial) -> DialAttempt {
    let result = dial.result.clone().map_err(|fault| match fault {
        DialFault::NameNotFound => DialError::NameNotFound,
        DialFault::NameTemporary => DialError::NameTemporary,
        DialFault::Refused => DialError::Refused,
        DialFault::Timeout => DialError::Timeout,
        DialFault::Unreachable => DialError::Unreachable,
        DialFault::HostUnreachable => DialError::HostUnreachable,
        DialFault::SocketMissing => DialError::SocketMissing,
        DialFault::Loop => DialError::Loop,
        DialFault::Other(_) => DialError::Other(io::ErrorKind::Other),
    });
    let addr = dial.address.as_ref().and_then(|addr| Some(PeerAddr::Tcp(addr.parse().ok()?)));
    DialAttempt { host: dial.host.clone(), addr, started: Duration::ZERO, elapsed: dial.took, result }
}

/// What all files held.
#[derive(Default)]
pub(super) struct Counts {
    tally: Tally,
    logins: u64,
    failed: u64,
    pub(super) unreadable_files: u32,
}

impl Counts {
    pub(super) fn count(&mut self, report: &Report) {
        self.logins += u64::from(matches!(report.diagnosis.outcome, Outcome::Ok | Outcome::Failed));
        self.failed += u64::from(report.diagnosis.outcome == Outcome::Failed);
    }

    pub(super) fn add(&mut self, one: Tally) {
        let all = &mut self.tally;
        all.packets += one.packets;
        all.unreadable += one.unreadable;
        all.connections += one.connections;
        all.ignored += one.ignored;
        all.without_start += one.without_start;
        all.forgotten += one.forgotten;
        all.lost_bytes += one.lost_bytes;
        all.dropped = all.dropped.saturating_add(one.dropped);
    }

    pub(super) fn line(&self) -> String {
        let all = &self.tally;
        let mut line = format!(
            "{}, {}: {}, {} failed",
            counted(all.packets, "packet"),
            counted(all.connections, "connection"),
            counted(self.logins, "login"),
            self.failed
        );
        let parts = [
            (all.ignored, "of other protocols"),
            (all.without_start, "begun before the capture"),
            (all.forgotten, "given up: too many at a time"),
            (all.unreadable, "packets unreadable"),
            (all.lost_bytes, "bytes of logins missing"),
            (all.dropped, "packets lost by whoever captured"),
        ];
        for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!("; {count} {what}"));
        }
        line
    }
}

/// A line that tells a person who waits how far it is: only where it disturbs nothing.
struct Progress {
    length: u64,
    next: u64,
    shown: bool,
}

/// Bytes between two looks; a tenth of a second or so.
const STRIDE: u64 = 64 << 20;
/// Blocks between two looks at how many bytes were read.
const BLOCKS: u64 = 1 << 14;

impl Progress {
    fn new(length: u64) -> Self {
        let seen = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self { length, next: if seen { BLOCKS } else { u64::MAX }, shown: false }
    }

    fn tell(&mut self, now: impl FnOnce() -> (u64, u64)) {
        self.next = self.next.saturating_sub(u64::from(self.next != u64::MAX));
        if self.next > 0 {
            return;
        }
        self.next = BLOCKS;
        let (position, connections) = now();
        if position < STRIDE {
            return;
        }
        self.shown = true;
        match (position * 100).checked_div(self.length) {
            Some(percent) => stderr::write(format_args!("\rpgwhy: {percent} %, {connections} connections ")),
            None => stderr::write(format_args!("\rpgwhy: {} MB, {connections} connections ", position >> 20)),
        }
    }

    fn end(&self) {
        if self.shown {
            stderr::write("\r\x1b[K");
        }
    }
}
