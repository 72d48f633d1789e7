//! One connection: from its first byte, through the request for encryption and the TLS handshake, to what
//! was said inside.
//!
//! ```text
//! Plain ─SSLRequest─▶ Asked ─S─▶ Hellos ─ServerHello, keys known─▶ Open
//!   └──────ClientHello at once──────┘ └────anything else────▶ Off: as it is
//! ```
//!
//! What is encrypted is held back until the first record of either side was opened: a key that does not fit
//! must change nothing.

use zeroize::Zeroizing;

use crate::handshake::Side;
use crate::wire::tls::HELLO_RETRY;

use super::keylog::{KeyLog, Random, Secrets};
use super::keys::{HEAD, Keys, Suite};

/// What an observer is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Bytes as they were sent.
    Bytes(&'a [u8]),
    /// From here on bytes are what was inside of TLS.
    Opened,
    /// So many bytes can't be opened, behind some that could.
    Lost(usize),
}

/// Who sent it, when, and what it is.
pub type Listener<'a> = &'a mut dyn FnMut(Side, u64, Heard<'_>);

/// Opens one connection.
#[derive(Debug, Default)]
pub struct Opener {
    state: State,
    client: Direction,
    server: Direction,
    /// The beginning of the client's first packet.
    start: Vec<u8>,
    random: Option<Random>,
    /// Records as they came, from the first encrypted one until one of them was opened.
    withheld: Vec<Withheld>,
    withheld_bytes: usize,
    /// A record was opened: the keys are the right ones.
    fits: bool,
    /// The observer knows.
    told: bool,
    /// An alert inside ended the handshake.
    alerted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first packet, or behind a request that was declined.
    #[default]
    Plain,
    /// A request for TLS waits for its answer.
    Asked,
    /// A request for GSSAPI encryption does.
    AskedGss,
    /// TLS began.
    Hellos,
    /// The keys are known.
    Open,
    /// Nothing to open.
    Off,
    /// It was open, and can't be read any more.
    Broken,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    pending: Vec<u8>,
    /// The beginning of a handshake message inside.
    message: Vec<u8>,
    keys: Option<Keys>,
    /// TLS 1.3: the secret of the data, for when the handshake is over, and for the next after it.
    /// A handshake that failed has none.
    secret: Option<(Suite, Option<Zeroizing<Vec<u8>>>)>,
    finished: bool,
}

/// A record that waits for one to be opened.
#[derive(Debug)]
struct Withheld {
    from: Side,
    at: u64,
    record: Vec<u8>,
    /// It is to be heard whatever comes of the others.
    clear: bool,
}

/// The longest record: 2^14 bytes, what encryption adds, and its head.
const MAX_RECORD: usize = 16_384 + 2_048 + HEAD;
/// Encrypted bytes that wait to be opened: a server's whole handshake with its certificates.
const MAX_WITHHELD: usize = 65_536;
/// A handshake message inside; only its type and length matter.
const MAX_MESSAGE: usize = 65_536;

impl Opener {
    /// Takes bytes of one side and tells `hear` what there is to be heard.
    pub fn bytes(&mut self, keys: &KeyLog, from: Side, at: u64, bytes: &[u8], hear: Listener<'_>) {
        match (self.state, from) {
            (State::Off, _) => hear(from, at, Heard::Bytes(bytes)),
            (State::Broken, _) => hear(from, at, Heard::Lost(bytes.len())),
            (State::Plain, Side::Client) => self.first_packet(keys, at, bytes, hear),
            (State::Asked | State::AskedGss, Side::Server) => {
                hear(from, at, Heard::Bytes(bytes));
                self.state = match (self.state, bytes) {
                    (State::Asked, [b'S']) => State::Hellos,
                    (_, [b'N']) => State::Plain,
                    _ => State::Off,
                };
            }
            // The server speaks before it is asked, the client before it is answered.
            (State::Plain | State::Asked | State::AskedGss, _) => {
                hear(from, at, Heard::Bytes(bytes));
                self.state = State::Off;
            }
            (State::Hellos | State::Open, _) => self.records(keys, from, at, bytes, hear),
        }
    }

    /// Bytes of this connection are missing: nothing behind them can be opened.
    pub fn gap(&mut self, at: u64, hear: Listener<'_>) {
        self.give_up(at, hear);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let of = |way: &Direction| way.pending.len() + way.message.len();
        of(&self.client) + of(&self.server) + self.withheld_bytes
    }

    /// Whether TLS was opened.
    pub fn is_open(&self) -> bool {
        self.fits
    }

    /// A side closes: TLS that came about and carried nothing was opened all the same.
    pub fn closing(&mut self, at: u64, hear: Listener<'_>) {
        let done = self.fits && self.client.finished && self.server.finished && !self.alerted;
        if done && !std::mem::replace(&mut self.told, true) {
            hear(Side::Client, at, Heard::Opened);
        }
    }

    /// The connection is over.
    pub fn finish(&mut self, at: u64, hear: Listener<'_>) {
        self.give_up(at, hear);
    }

    /// A request for encryption, a ClientHello, or a startup packet in clear.
    fn first_packet(&mut self, keys: &KeyLog, at: u64, bytes: &[u8], hear: Listener<'_>) {
        self.start.extend_from_slice(bytes.get(..REQUEST.min(bytes.len())).unwrap_or_default());
        if self.start.first() == Some(&HANDSHAKE) {
            self.state = State::Hellos;
            return self.records(keys, Side::Client, at, bytes, hear);
        }
        hear(Side::Client, at, Heard::Bytes(bytes));
        let whole = bytes.len() <= REQUEST && self.start.len() == REQUEST;
        self.state = match (whole, self.start.as_slice()) {
            (true, b"\0\0\0\x08\x04\xd2\x16\x2f") => State::Asked,
            (true, b"\0\0\0\x08\x04\xd2\x16\x30") => State::AskedGss,
            (false, start) if start.len() < REQUEST => return,
            _ => State::Off,
        };
        self.start = Vec::new();
    }

    fn records(&mut self, keys: &KeyLog, from: Side, at: u64, bytes: &[u8], hear: Listener<'_>) {
        self.way(from).pending.extend_from_slice(bytes);
        while matches!(self.state, State::Hellos | State::Open) {
            let way = self.way(from);
            let Some(length) = record(&way.pending) else { return };
            let Some(length) = length.filter(|length| *length <= MAX_RECORD) else {
                return self.give_up(at, hear);
            };
            if way.pending.len() < length {
                return;
            }
            let one: Vec<u8> = way.pending.drain(..length).collect();
            if way.pending.is_empty() {
                way.pending = Vec::new();
            }
            self.record(keys, from, at, &one, hear);
        }
    }

    fn record(&mut self, keys: &KeyLog, from: Side, at: u64, record: &[u8], hear: Listener<'_>) {
        let kind = record.first().copied().unwrap_or_default();
        let body = record.get(HEAD..).unwrap_or_default();
        if self.state == State::Hellos {
            hear(from, at, Heard::Bytes(record));
            if !self.hello(keys, from, kind, body) {
                self.give_up(at, hear);
            }
            return;
        }
        let way = self.way(from);
        let new = way.secret.is_some();
        match kind {
            CHANGE if new => self.withhold(from, at, record, false, hear),
            // From here on this direction is encrypted.
            CHANGE => {
                way.finished = true;
                self.withhold(from, at, record, false, hear);
            }
            // In clear still: TLS 1.2 before ChangeCipherSpec, or who could not go on.
            HANDSHAKE | ALERT if !new && !way.finished => self.tell(from, at, record, hear),
            ALERT if new && body.len() == 2 => self.tell(from, at, record, hear),
            HANDSHAKE if new => self.tell(from, at, record, hear),
            _ => self.sealed(from, at, record, hear),
        }
    }

    /// The hellos say whose keys to look for, and what they are for; `false` where nothing can be opened.
    fn hello(&mut self, keys: &KeyLog, from: Side, kind: u8, body: &[u8]) -> bool {
        let message = body.first().copied().unwrap_or_default();
        match (from, kind, message) {
            (Side::Client, HANDSHAKE, CLIENT_HELLO) => {
                self.random = body.get(6..38).and_then(|random| Random::try_from(random).ok());
                self.random.as_ref().is_some_and(|random| keys.get(random).is_some())
            }
            (Side::Server, HANDSHAKE, SERVER_HELLO) => {
                let server = body.get(6..38).unwrap_or_default();
                if server == HELLO_RETRY {
                    return true;
                }
                let secrets = self.random.as_ref().and_then(|random| keys.get(random));
                let suite = suite(body).and_then(Suite::new);
                let derived =
                    secrets.zip(suite).and_then(|(secrets, suite)| self.derive(secrets, suite, server));
                if derived.is_some() {
                    self.state = State::Open;
                }
                derived.is_some()
            }
            (_, CHANGE | HANDSHAKE, _) => true,
            _ => false,
        }
    }

    fn derive(&mut self, secrets: &Secrets, suite: Suite, server: &[u8]) -> Option<()> {
        if !suite.new {
            let master = secrets.master.as_ref()?;
            let [client_keys, server_keys] =
                suite.keys_of_both(master.expose(), self.random.as_ref()?, server)?;
            (self.client.keys, self.server.keys) = (Some(client_keys), Some(server_keys));
            return Some(());
        }
        for (way, handshake, traffic) in [
            (&mut self.client, &secrets.handshake[0], &secrets.traffic[0]),
            (&mut self.server, &secrets.handshake[1], &secrets.traffic[1]),
        ] {
            way.keys = Some(suite.keys_of(handshake.as_ref()?.expose())?);
            way.secret =
                Some((suite, traffic.as_ref().map(|secret| Zeroizing::new(secret.expose().clone()))));
        }
        Some(())
    }

    fn sealed(&mut self, from: Side, at: u64, record: &[u8], hear: Listener<'_>) {
        let Some((kind, inside)) = self.way(from).keys.as_mut().and_then(|keys| keys.open(record)) else {
            if self.fits {
                hear(from, at, Heard::Lost(record.len()));
            }
            self.withhold(from, at, record, false, hear);
            return self.give_up(at, hear);
        };
        self.fits = true;
        for one in std::mem::take(&mut self.withheld).into_iter().filter(|one| one.clear) {
            hear(one.from, one.at, Heard::Bytes(&one.record));
        }
        self.withheld_bytes = 0;
        let new = self.way(from).secret.is_some();
        match kind {
            DATA if !inside.is_empty() => {
                if !std::mem::replace(&mut self.told, true) {
                    hear(from, at, Heard::Opened);
                }
                hear(from, at, Heard::Bytes(&inside));
            }
            // Why a handshake failed is an alert that is encrypted, too. Behind the first data it is
            // only the goodbye.
            ALERT if inside.len() == 2 && !self.told => {
                self.alerted = true;
                let alert = [&[ALERT, 3, 3, 0, 2], inside.as_slice()].concat();
                hear(from, at, Heard::Bytes(&alert));
            }
            HANDSHAKE if new => self.way(from).messages(&inside),
            _ => {}
        }
    }

    /// A record in clear; in its turn, where others wait.
    fn tell(&mut self, from: Side, at: u64, record: &[u8], hear: Listener<'_>) {
        if self.withheld.is_empty() {
            hear(from, at, Heard::Bytes(record));
        } else {
            self.withhold(from, at, record, true, hear);
        }
    }

    fn withhold(&mut self, from: Side, at: u64, record: &[u8], clear: bool, hear: Listener<'_>) {
        if self.fits {
            return;
        }
        self.withheld_bytes += record.len();
        self.withheld.push(Withheld { from, at, record: record.to_vec(), clear });
        if self.withheld_bytes > MAX_WITHHELD {
            self.give_up(at, hear);
        }
    }

    /// Stops opening. Where nothing was opened yet, everything is told as it was sent.
    fn give_up(&mut self, at: u64, hear: Listener<'_>) {
        if matches!(self.state, State::Off | State::Broken) {
            return;
        }
        self.state = if self.fits { State::Broken } else { State::Off };
        for one in std::mem::take(&mut self.withheld) {
            hear(one.from, one.at, Heard::Bytes(&one.record));
        }
        self.withheld_bytes = 0;
        for side in [Side::Client, Side::Server] {
            let rest = std::mem::take(&mut self.way(side).pending);
            match rest.len() {
                0 => {}
                count if self.fits => hear(side, at, Heard::Lost(count)),
                _ => hear(side, at, Heard::Bytes(&rest)),
            }
        }
    }

    fn way(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Direction {
    /// Handshake messages inside of TLS 1.3: two of them change the keys.
    fn messages(&mut self, bytes: &[u8]) {
        self.message.extend_from_slice(bytes);
        while let [kind, a, b, c, rest @ ..] = self.message.as_slice() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if rest.len() < length {
                break;
            }
            let kind = *kind;
            self.message.drain(..4 + length);
            let Some((suite, secret)) = &mut self.secret else { return };
            match kind {
                FINISHED if !self.finished => self.finished = true,
                KEY_UPDATE => *secret = secret.as_ref().map(|secret| suite.next_secret(secret)),
                _ => continue,
            }
            self.keys = secret.as_ref().and_then(|secret| suite.keys_of(secret));
        }
        if self.message.len() > MAX_MESSAGE {
            self.keys = None;
        }
        if self.message.is_empty() || self.keys.is_none() {
            self.message = Vec::new();
        }
    }
}

/// The length of the record that begins here, its head with it: `None` where the head is not there yet,
/// `Some(None)` where it is none.
#[allow(clippy::option_option, reason = "not yet, and never, are two answers")]
fn record(bytes: &[u8]) -> Option<Option<usize>> {
    let [kind, major, _, high, low, ..] = bytes else { return None };
    let is_record = (CHANGE..=DATA).contains(kind) && *major == 3;
    Some(is_record.then(|| HEAD + usize::from(u16::from_be_bytes([*high, *low]))))
}

/// The suite that a ServerHello names.
fn suite(message: &[u8]) -> Option<u16> {
    let session = usize::from(*message.get(38)?);
    let at = 39 + session;
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

const CHANGE: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FINISHED: u8 = 20;
const KEY_UPDATE: u8 = 24;
/// A request for encryption.
const REQUEST: usize = 8;

#[cfg(test)]
#[path = "opener_tests.rs"]
mod tests;
