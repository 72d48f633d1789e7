//! `pgwhy replay`: one side of a captured login, played again. A driver's maintainer gets the failure
//! without the server, an administrator the server's answer without the application.

mod client;
mod scram;
mod server;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::capture::conversation::Conversation;
use crate::capture::read::blocks::Blocks;
use crate::capture::script::{Script, Which};
use crate::capture::tls::KeyLog;
use crate::conninfo::may_hold_password;
use crate::diagnose::{Context, Outcome, diagnose};
use crate::handshake::{Attention, Chunk, Close, Observer, Side, Step};
use crate::report::escape::visible;
use crate::report::{Report, Way};
use crate::wire::frame::{Frame, Framer, Kind, MAX_SLICE};

use super::Failure;
use super::cli::ReplayArgs;
use super::config::first_line;
use super::logins::logins;
use super::output::{Dress, Format, Show};

/// How long the other side may take for its next message.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take in all: byte by byte, its patience would never end.
const WHOLE: Duration = Duration::from_secs(600);

/// Plays.
pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    for (option, addr) in [("--to", &args.to), ("--listen", &args.listen)] {
        if addr.as_deref().is_some_and(may_hold_password) {
            return Err(Failure::usage(format!(
                "{option} wants host:port, and was given a connection string"
            )));
        }
    }
    // It is read twice: to choose, and to play.
    let spooled = if args.file == Path::new("-") { Some(spool()?) } else { None };
    let file = spooled.as_ref().map_or(args.file.as_path(), |spooled| spooled.path());
    let (which, name) = choose(args, file)?;
    let script = read(file, which)?;
    if script.is_sealed() {
        let reason = format!("login {name} was encrypted; pgwhy saw only its outside, and can't play it");
        return Err(Failure::failed(reason));
    }
    if script.gap || script.messages().is_empty() {
        return Err(Failure::failed(format!("login {name} is not whole in this capture")));
    }
    let password = args.password_file.as_deref().map(first_line).transpose()?;
    let dress = Dress::new(args.format, Show::All);
    match (&args.to, &args.listen) {
        (Some(to), _) => client::play(&script, to, password.as_ref(), args.format, dress),
        (None, Some(listen)) => server::play(script, listen, password, args.once, dress),
        (None, None) => Err(Failure::usage("give --to or --listen")),
    }
}

/// Standard input as a file that nobody else can read, and that is gone in the end.
fn spool() -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    Ok(file)
}

/// The login that was named, or the first that failed, or the first.
fn choose(args: &ReplayArgs, file: &Path) -> Result<(Which, String), Failure> {
    let mut first = None;
    let mut chosen = None;
    logins(file, &[], &KeyLog::default(), &mut |conversation| {
        let which =
            Which { client: conversation.client, server: conversation.server, began: conversation.began };
        let id = conversation.facts.as_ref().map(|facts| facts.id.clone());
        let number = conversation.number.to_string();
        // Whoever made the capture chose it.
        let name = id.as_deref().map_or_else(|| number.clone(), visible);
        let wanted = match &args.login {
            Some(wanted) => id.as_ref() == Some(wanted) || number == *wanted,
            None => failed(&conversation),
        };
        first.get_or_insert((which, name.clone()));
        if wanted {
            chosen = Some((which, name));
        }
        chosen.is_none()
    })?;
    match (&args.login, chosen, first) {
        (_, Some(chosen), _) | (None, None, Some(chosen)) => Ok(chosen),
        (Some(wanted), None, Some(_)) => Err(Failure::usage(format!(
            "--login {wanted}: there is no such login; pgwhy show {} lists them",
            args.file.display()
        ))),
        (_, None, None) => Err(Failure::failed(format!("{}: there is no login in it", args.file.display()))),
    }
}

fn failed(conversation: &Conversation) -> bool {
    let told = conversation.facts.as_ref().and_then(|facts| facts.diagnosis.as_ref());
    told.map_or(conversation.attention == Attention::Failed, |told| told.outcome == Outcome::Failed)
}

fn read(file: &Path, which: Which) -> Result<Script, Failure> {
    let shown = file.display();
    let file = File::open(file).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let mut blocks =
        Blocks::open(file).map_err(|trouble| Failure::usage(format!("{shown}: {}", trouble.what)))?;
    Ok(Script::read(&mut blocks, which))
}

/// A connection with whoever plays the other side, watched as the proxy watches.
struct Link {
    stream: TcpStream,
    /// Who is at the other end.
    other: Side,
    framer: Framer,
    observer: Observer,
    began: Instant,
    /// Nothing is read after this.
    until: Instant,
    time: SystemTime,
    ended: bool,
}

/// The other side's next word.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// The one-byte answer.
    Byte(u8),
    /// A packet without a type byte: what is behind its length.
    Packet(Vec<u8>),
    /// A message.
    Message(u8, Vec<u8>),
    /// Something that is no message.
    Nonsense,
    /// The end.
    End,
}

impl Link {
    fn new(stream: TcpStream, other: Side) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let (framer, observer) = (Framer::default(), Observer::new());
        let (began, time) = (Instant::now(), SystemTime::now());
        Ok(Self { stream, other, framer, observer, began, until: began + WHOLE, time, ended: false })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        let from = if self.other == Side::Client { Side::Server } else { Side::Client };
        self.observer.eat(Chunk { at: self.began.elapsed(), from, bytes });
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now()).min(PATIENCE);
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> bool {
        let mut buffer = vec![0; MAX_SLICE];
        let (count, how) = match self.read(&mut buffer) {
            Ok(0) => (0, Close::Eof),
            Ok(count) => (count, Close::Eof),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Close::Deadline),
            Err(_) => (0, Close::Reset),
        };
        let at = self.began.elapsed();
        if count == 0 {
            if !std::mem::replace(&mut self.ended, true) {
                self.observer.closed(at, self.other, how);
            }
            return false;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        self.observer.eat(Chunk { at, from: self.other, bytes });
        self.framer.push(bytes);
        true
    }

    /// The one-byte answer, or the error that stands in its place.
    fn answer(&mut self) -> Word {
        while self.framer.ahead().is_empty() {
            if !self.more() {
                return Word::End;
            }
        }
        match self.framer.ahead().first().copied() {
            Some(b'E') => self.message(),
            Some(byte) => {
                self.framer.step(1);
                Word::Byte(byte)
            }
            None => Word::End,
        }
    }

    fn packet(&mut self) -> Word {
        self.frame(Kind::Untagged)
    }

    fn message(&mut self) -> Word {
        self.frame(Kind::Tagged)
    }

    fn frame(&mut self, kind: Kind) -> Word {
        loop {
            match self.framer.next(kind) {
                Some(Frame::Untagged { body }) => return Word::Packet(body.to_vec()),
                Some(Frame::Tagged { tag, body }) => return Word::Message(tag, body.to_vec()),
                Some(Frame::Oversize { .. } | Frame::Broken { .. }) => return Word::Nonsense,
                None => {}
            }
            if !self.more() {
                return Word::End;
            }
        }
    }

    /// What was seen, as a report. `client` and `server` are the two addresses.
    fn report(self, client: String, server: String, reached: Option<Duration>) -> Report {
        let elapsed = self.began.elapsed();
        let record = self.observer.finish();
        let diagnosis = diagnose(&record, &Context::default());
        let way = Way {
            address: Some(server),
            reached: reached.map(|_| true),
            took: reached.unwrap_or_default(),
            step: reached.map(|_| Step::Connect),
        };
        let mut report = Report::new(&record, diagnosis, &way, false);
        report.id = format!("{:x}-replay", std::process::id());
        report.time = self.time;
        report.client.address = client;
        report.elapsed = elapsed;
        report
    }
}

/// The last line of `--to`.
fn outcome_line(format: Option<Format>, outcome: &str, step: Step, text: &str) -> String {
    if format == Some(Format::Human) || (format.is_none() && io::IsTerminal::is_terminal(&io::stdout())) {
        return format!("{outcome} at {}: {text}\n", step.id());
    }
    let line = json!({"event": "replay", "schema": 1, "outcome": outcome, "step": step.id(), "text": text});
    format!("{line}\n")
}
