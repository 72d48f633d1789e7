//! The logins of a capture: read from its file, and diagnosed as the proxy would have.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::capture::conversation::{Conversation, Dialled, Table, Tally};
use crate::capture::facts::Facts;
use crate::capture::read::blocks::Blocks;
use crate::capture::read::link;
use crate::capture::tls::KeyLog;
use crate::diagnose::Confidence;
use crate::handshake::{Attention, Record};
use crate::net::{Attempt, DialAttempt, DialError, Ending, OpaqueFacts, PeerAddr};
use crate::report::Report;

use super::capture::{identify, report_of};
use super::clerk::{Captured, Clerk};
use super::dials::dialled;
use super::{Failure, stderr};

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
