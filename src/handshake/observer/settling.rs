//! Behind ReadyForQuery: a client that wants a primary, a standby or a server that it can write to
//! looks at what it has reached, and leaves where that is another kind.
//!
//! libpq since version 14, asyncpg and pgjdbc look at `in_hot_standby` and
//! `default_transaction_read_only` in ParameterStatus; where they are missing, and in drivers that
//! look at no settings, they ask. So the watch goes on only where the server calls itself read-only or
//! a standby, or says nothing of either, and only until the client does anything but ask that.

use crate::handshake::record::{Asked, MOMENT, Parting};
use crate::handshake::{Attention, Side};
use crate::wire::frame::{Frame, Framer, Kind};

use super::{Observer, Phase};

/// What was asked and answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Settling {
    /// Statements whose answers are due; the next one is the last.
    due: Vec<Asked>,
    answers: Vec<(Asked, bool)>,
}

/// What a message in this phase means for the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// The question or its answer is under way.
    Unsettled,
    /// The client left.
    Left,
    /// The client does something else: it stays.
    Stays,
}

impl Observer {
    /// ReadyForQuery came.
    pub(super) fn ready(&mut self) {
        let is_on = |name| self.record.parameter(name) == Some(b"on");
        let silent = self.record.parameter("in_hot_standby").is_none();
        if silent || is_on("in_hot_standby") || is_on("default_transaction_read_only") {
            self.record.ended = self.now;
            self.phase = Phase::Settling;
        } else {
            self.end(Attention::Ready);
        }
    }

    /// Ends the watch once the moment is over.
    pub(super) fn settle_if_late(&mut self) {
        if self.phase == Phase::Settling
            && self.now.saturating_sub(self.record.session.ready.unwrap_or_default()) > MOMENT
        {
            self.settle();
        }
    }

    /// The login counts from ReadyForQuery on, whenever this became sure.
    fn settle(&mut self) {
        let ready = self.record.ended;
        self.end(Attention::Ready);
        self.record.ended = ready;
    }

    pub(super) fn settling_client(&mut self) {
        match signs(&mut self.client, LONGEST_QUESTION, |tag, body| self.settling.client(tag, body)) {
            Sign::Unsettled => {}
            Sign::Stays => self.settle(),
            Sign::Left => self.part(true),
        }
    }

    /// tokio-postgres says no Terminate when it has its answer. Without a question, a client that is
    /// merely gone may have been cut off.
    pub(super) fn settling_close(&mut self, side: Side) {
        if self.phase != Phase::Settling {
            return;
        }
        if side == Side::Client && self.settling.due.is_empty() && !self.settling.answers.is_empty() {
            self.part(false);
        } else {
            self.settle();
        }
    }

    fn part(&mut self, terminated: bool) {
        let answers = std::mem::take(&mut self.settling.answers);
        self.record.parting = Some(Parting { at: self.now, terminated, answers });
        self.end(Attention::Ready);
    }

    pub(super) fn settling_server(&mut self) {
        let sign = signs(&mut self.server, LONGEST_ANSWER, |tag, body| self.settling.server(tag, body));
        if sign != Sign::Unsettled {
            self.settle();
        }
    }
}

impl Settling {
    fn client(&mut self, tag: u8, body: &[u8]) -> Sign {
        let asked = !self.due.is_empty() || !self.answers.is_empty();
        match tag {
            b'X' if body.is_empty() && self.due.is_empty() => Sign::Left,
            b'Q' if !asked => self.ask(body.strip_suffix(b"\0")),
            // Name, statement, and no types of parameters.
            b'P' if self.answers.is_empty() => {
                let mut fields = body.split(|byte| *byte == 0);
                let statement = fields.next().and(fields.next());
                self.ask(statement)
            }
            b'B' | b'D' | b'E' | b'S' | b'H' | b'C' if asked => Sign::Unsettled,
            _ => Sign::Stays,
        }
    }

    fn ask(&mut self, text: Option<&[u8]>) -> Sign {
        let text = text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let text = text.trim().trim_end_matches(';').to_ascii_lowercase();
        for statement in text.split(';') {
            let asked = match statement.trim() {
                "show transaction_read_only" | "show default_transaction_read_only" => Asked::ReadOnly,
                "select pg_is_in_recovery()" | "select pg_catalog.pg_is_in_recovery()" => Asked::Recovery,
                _ => return Sign::Stays,
            };
            self.due.insert(0, asked);
        }
        if self.due.len() > MOST_QUESTIONS { Sign::Stays } else { Sign::Unsettled }
    }

    fn server(&mut self, tag: u8, body: &[u8]) -> Sign {
        match tag {
            b'D' => {
                // One column: its count, its length, its text or its binary form.
                let answer = match body.get(6..).unwrap_or_default() {
                    b"on" | b"t" | b"\x01" => true,
                    b"off" | b"f" | b"\0" => false,
                    _ => return Sign::Stays,
                };
                let Some(asked) = self.due.pop() else { return Sign::Stays };
                self.answers.push((asked, answer));
                Sign::Unsettled
            }
            // RowDescription and all that goes with a query, a change of settings, a notice.
            b'T' | b'C' | b'Z' | b'1' | b'2' | b'3' | b'n' | b't' | b'S' | b'N' => Sign::Unsettled,
            _ => Sign::Stays,
        }
    }
}

/// What the messages of one direction mean, up to the first that settles it.
fn signs(from: &mut Framer, longest: u32, mut read: impl FnMut(u8, &[u8]) -> Sign) -> Sign {
    loop {
        // A long message is told by its head: nothing waits for the rest of it.
        if is_long(from.ahead(), longest) {
            return Sign::Stays;
        }
        let sign = match from.next(Kind::Tagged) {
            None => return Sign::Unsettled,
            Some(Frame::Tagged { tag, body }) => read(tag, body),
            Some(_) => Sign::Stays,
        };
        if sign != Sign::Unsettled {
            return sign;
        }
    }
}

/// Whether a message begins here that is longer than this.
fn is_long(ahead: &[u8], most: u32) -> bool {
    let length = ahead.get(1..).and_then(|rest| rest.first_chunk::<4>());
    length.is_some_and(|length| u32::from_be_bytes(*length) > most)
}

/// Length of a message that asks: the longest known one (Npgsql's) has 62 letters.
const LONGEST_QUESTION: u32 = 128;
/// Length of a message of the answer: one value of a few letters, a description of one column.
const LONGEST_ANSWER: u32 = 1024;
/// Nobody asks more than two.
const MOST_QUESTIONS: usize = 2;
