//! The ladder as a picture: who sent what to whom. Drawn in SVG and in characters.

use std::time::Duration;

use crate::diagnose::{Confidence, Leg};
use crate::handshake::ladder::Rung;
use crate::handshake::{Close, Side, Step};

use super::super::escape::visible;
use super::{Sheet, shortened};

/// A lifeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    Client,
    /// pgwhy, or the place where the packets were captured.
    Middle,
    Server,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Passed,
    Failed,
    /// Nobody asked for it.
    Unused,
}

/// One line of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrow {
    pub(super) label: String,
    pub(super) from: Party,
    pub(super) to: Party,
    /// An exchange: heads at both ends.
    pub(super) both: bool,
    pub(super) kind: Kind,
    pub(super) took: Option<Duration>,
}

/// The picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) arrows: Vec<Arrow>,
    /// What the middle line is.
    pub(super) middle: &'static str,
    /// The middle carries; otherwise it only watches.
    pub(super) carries: bool,
    /// Whose side the cause is on.
    pub(super) blamed: Option<Party>,
}

/// Draws a login.
pub(super) fn picture(sheet: &Sheet) -> Picture {
    let carries = sheet.written_by.is_some();
    let mut arrows: Vec<Arrow> = Vec::with_capacity(sheet.report.steps.len() + 1);
    for rung in &sheet.report.steps {
        let arrow = arrow(sheet, rung, carries);
        let failed_on_its_way = arrow.kind == Kind::Failed && answered(rung.step);
        let elapsed = arrow.took;
        arrows.push(arrow);
        if failed_on_its_way && let Some(mut end) = ending(sheet) {
            end.took = elapsed;
            if let Some(last) = arrows.last_mut() {
                last.kind = Kind::Passed;
                last.took = None;
            }
            arrows.push(end);
        }
    }
    let finding = sheet.report.diagnosis.finding.as_ref().filter(|_| sheet.failed());
    // One of several possible causes blames nobody.
    let leg = finding.filter(|found| found.confidence > Confidence::Possible).map(|found| found.leg);
    let blamed = leg.map(|leg| match leg {
        Leg::Client => Party::Client,
        Leg::Server => Party::Server,
        Leg::Proxy => Party::Middle,
    });
    Picture { arrows, middle: if carries { "pgwhy" } else { "capture" }, carries, blamed }
}

fn arrow(sheet: &Sheet, rung: &Rung, carries: bool) -> Arrow {
    let (mut from, mut to, both) = way(rung.step);
    let leg = |words: &str| rung.step == Step::TlsHandshake && rung.note.contains(words);
    match rung.step {
        Step::Resolve | Step::Connect if carries => from = Party::Middle,
        Step::SslRequest if sheet.answered_by_us => to = Party::Middle,
        Step::TlsHandshake if leg(BETWEEN_SERVER) => from = Party::Middle,
        Step::TlsHandshake if leg(BETWEEN_CLIENT) => to = Party::Middle,
        Step::TlsHandshake if rung.leg == Side::Server => (from, to) = (to, from),
        _ => {}
    }
    let kind = match rung.ok {
        Some(true) => Kind::Passed,
        Some(false) => Kind::Failed,
        None => Kind::Unused,
    };
    let both = both && !(rung.step == Step::TlsHandshake && !leg(BETWEEN_SERVER) && !leg(BETWEEN_CLIENT));
    let label = match kind {
        Kind::Unused => format!("{}: not used", name(rung)),
        Kind::Failed if !answered(rung.step) => refusal(sheet).unwrap_or_else(|| name(rung)),
        _ => name(rung),
    };
    Arrow { label, from, to, both, kind, took: rung.took }
}

const BETWEEN_SERVER: &str = " between pgwhy and the server";
const BETWEEN_CLIENT: &str = " between pgwhy and the client";

/// Who speaks in a step, to whom, and whether the other one answers in the same step.
fn way(step: Step) -> (Party, Party, bool) {
    use Party::{Client, Middle, Server};
    match step {
        Step::Resolve | Step::Connect => (Client, Server, false),
        Step::GssRequest | Step::SslRequest | Step::TlsHandshake | Step::Gss | Step::Oauth => {
            (Client, Server, true)
        }
        Step::Startup | Step::Password | Step::Md5 | Step::SaslMechanism => (Client, Server, false),
        Step::ScramClientFirst | Step::ScramClientFinal => (Client, Server, false),
        Step::AuthRequest | Step::ScramServerFirst | Step::ScramServerFinal => (Server, Client, false),
        Step::SessionSetup | Step::Ready => (Server, Client, false),
        Step::Pool => (Middle, Server, true),
    }
}

/// Steps in which the failure is the answer to what is drawn.
fn answered(step: Step) -> bool {
    let (from, _, _) = way(step);
    from == Party::Client && !matches!(step, Step::Resolve | Step::Connect)
}

/// What the messages of a step are called.
fn name(rung: &Rung) -> String {
    let name = match rung.step {
        Step::Resolve => "name look-up",
        Step::Connect => "connect",
        Step::GssRequest => "GSSENCRequest",
        Step::SslRequest => "SSLRequest",
        Step::TlsHandshake => match rung.note.split_once([',', ' ']).map(|(word, _)| word) {
            _ if rung.note.starts_with("ClientHello") => "TLS ClientHello",
            Some("ServerHello") => "TLS ServerHello",
            Some("alert") => "TLS alert",
            _ => "TLS handshake",
        },
        Step::Startup => "StartupMessage",
        Step::AuthRequest => "Authentication request",
        Step::Password => "password",
        Step::Md5 => "MD5 response",
        Step::SaslMechanism => "SASL mechanism",
        Step::ScramClientFirst => "SCRAM client-first",
        Step::ScramServerFirst => "SCRAM server-first",
        Step::ScramClientFinal => "SCRAM client-final",
        Step::ScramServerFinal => "SCRAM server-final",
        Step::Gss => "GSSAPI tokens",
        Step::Oauth => "OAuth token",
        Step::SessionSetup => "session set-up",
        Step::Ready => "ReadyForQuery",
        Step::Pool => "pool",
    };
    name.into()
}

/// The server's refusal by its code.
fn refusal(sheet: &Sheet) -> Option<String> {
    let error = sheet.report.server_error.as_ref()?;
    let code = shortened(&visible(error.sqlstate()), 8);
    Some(format!("ErrorResponse {code}").trim_end().to_owned())
}

/// How a login ended whose last message was not answered as it should.
fn ending(sheet: &Sheet) -> Option<Arrow> {
    let (label, side) = match (refusal(sheet), sheet.record.first_close()) {
        (Some(label), _) => (label, Side::Server),
        (None, Some((side, how, _))) => {
            let label = match how {
                Close::Eof => "closed",
                Close::Reset => "reset",
                Close::Deadline => return Some(silence()),
                Close::Shutdown => return None,
            };
            (label.to_owned(), side)
        }
        (None, None) => return None,
    };
    let (from, to) =
        if side == Side::Client { (Party::Client, Party::Server) } else { (Party::Server, Party::Client) };
    Some(Arrow { label, from, to, both: false, kind: Kind::Failed, took: None })
}

fn silence() -> Arrow {
    let (from, to) = (Party::Server, Party::Client);
    Arrow { label: "no answer".into(), from, to, both: false, kind: Kind::Failed, took: None }
}

/// Columns of the lifelines in the drawing of characters.
const COLUMNS: [usize; 3] = [3, 25, 47];

/// The picture in characters, for places without pictures.
pub(super) fn characters(picture: &Picture) -> String {
    let [client, middle, server] = COLUMNS;
    let width = server + 1;
    let mut page =
        format!("{:<w1$}{:<w2$}server\n", "client", picture.middle, w1 = middle - 2, w2 = server - middle);
    for arrow in &picture.arrows {
        let mut line = vec![' '; width];
        for (column, mark) in
            [(client, '│'), (middle, if picture.carries { '│' } else { '┊' }), (server, '│')]
        {
            if let Some(place) = line.get_mut(column) {
                *place = mark;
            }
        }
        let column = |party: Party| match party {
            Party::Client => client,
            Party::Middle => middle,
            Party::Server => server,
        };
        let (left, right) = (column(arrow.from.min(arrow.to)) + 1, column(arrow.from.max(arrow.to)));
        let rightwards = arrow.from <= arrow.to;
        let shaft = if arrow.kind == Kind::Unused { ' ' } else { '─' };
        if let Some(span) = line.get_mut(left..right) {
            let middle_mark =
                span.get(middle.wrapping_sub(left)).copied().filter(|_| arrow.kind == Kind::Unused);
            span.fill(shaft);
            if let (Some(mark), Some(place)) = (middle_mark, span.get_mut(middle.wrapping_sub(left))) {
                *place = mark;
            }
            let label: Vec<char> = format!(" {} ", arrow.label).chars().collect();
            let start = span.len().saturating_sub(label.len()) / 2;
            for (place, c) in span.iter_mut().skip(start).zip(label) {
                *place = c;
            }
            if arrow.kind != Kind::Unused {
                if let Some(head) = span.last_mut().filter(|_| rightwards || arrow.both) {
                    *head = '>';
                }
                if let Some(head) = span.first_mut().filter(|_| !rightwards || arrow.both) {
                    *head = '<';
                }
            }
        }
        let mark = if arrow.kind == Kind::Failed { " ✗" } else { "" };
        let took = arrow.took.map(|took| format!("  {}", milliseconds(took))).unwrap_or_default();
        page.push_str(format!("{}{took}{mark}", line.into_iter().collect::<String>()).trim_end());
        page.push('\n');
    }
    page
}

/// A time as people read it.
pub(super) fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..0.995 => format!("{ms:.2} ms"),
        ..9.95 => format!("{ms:.1} ms"),
        ..9_999.5 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}
