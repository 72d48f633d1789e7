//! Made-up messages and conversations: every choice is drawn from the fuzzer's bytes, and none is
//! drawn from elsewhere, so that an input is a conversation for ever.

use std::time::Duration;

use crate::handshake::{Close, Side};
use crate::wire::backend::{Authentication, Backend};
use crate::wire::error_fields::ErrorFields;
use crate::wire::frontend::{SaslInitialResponse, Startup, Untagged, encode_tagged};

use super::play::Event;

/// The fuzzer's bytes as a source of choices; when they are used up, every choice is the first one.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Starts at the front of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Whether everything was used.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One of two.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        byte
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let at = usize::from(self.byte()).checked_rem(list.len())?;
        list.get(at).copied()
    }

    /// Bytes of any kind, up to 255.
    pub(super) fn blob(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (blob, rest) = self.rest.split_at(length);
        self.rest = rest;
        blob
    }

    /// Bytes without a zero byte, as every text of the protocol is; from a list of known ones or made up.
    fn text(&mut self, known: &[&'static [u8]]) -> &'a [u8] {
        match self.pick(known) {
            Some(text) if self.flag() => text,
            _ => self.blob().split(|&byte| byte == 0).next().unwrap_or_default(),
        }
    }

    fn name(&mut self, known: &[&'static [u8]]) -> &'a [u8] {
        match self.text(known) {
            b"" => b"x",
            name => name,
        }
    }

    /// Any packet without a tag.
    pub fn untagged(&mut self) -> Untagged<'a> {
        match self.byte() % 8 {
            0 => Untagged::SslRequest,
            1 => Untagged::GssEncRequest,
            2 => Untagged::CancelRequest { pid: self.u32(), secret: self.key() },
            _ => Untagged::Startup(self.startup()),
        }
    }

    fn key(&mut self) -> &'a [u8] {
        match self.blob() {
            b"" => b"\0\0\0\0",
            key => key,
        }
    }

    fn startup(&mut self) -> Startup<'a> {
        let version = self.pick(&[0x3_0000, 0x3_0000, 0x3_0002, 0x3_270f, 0x2_0000]).unwrap_or(0x3_0000);
        let count = self.byte() % 6;
        let parameters = (0..count).map(|_| (self.name(PARAMETERS), self.text(VALUES))).collect();
        // Of versions other than 3 nothing but the version is read, so nothing else is made.
        let parameters = if version >> 16 == 3 { parameters } else { Vec::new() };
        Startup { version, parameters }
    }

    /// Any message of the server.
    pub fn backend(&mut self) -> Backend<'a> {
        match self.byte() % 12 {
            0..=3 => Backend::Authentication(self.request()),
            4 | 5 => Backend::Error(self.fields()),
            6 => Backend::Notice(self.fields()),
            7 => Backend::ParameterStatus { name: self.text(PARAMETERS), value: self.text(VALUES) },
            8 => Backend::BackendKeyData { pid: self.u32(), secret: self.key() },
            9 => Backend::ReadyForQuery(self.byte()),
            10 => Backend::NegotiateProtocolVersion {
                newest: self.u32(),
                unrecognized: (0..self.byte() % 4).map(|_| self.text(PARAMETERS)).collect(),
            },
            _ => {
                let tag = self.pick(b"TDCIHGdcsnt12HVW").unwrap_or(b'T');
                Backend::Other { tag, body: self.blob() }
            }
        }
    }

    fn request(&mut self) -> Authentication<'a> {
        match self.byte() % 14 {
            0 => Authentication::Ok,
            1 => Authentication::Kerberos(1 + u32::from(self.byte() & 1)),
            2 => Authentication::Cleartext,
            3 => Authentication::Crypt([self.byte(), self.byte()]),
            4 => Authentication::Md5(self.u32().to_be_bytes()),
            5 => Authentication::Scm,
            6 => Authentication::Gss,
            7 => Authentication::GssContinue(self.blob()),
            8 => Authentication::Sspi,
            9 => Authentication::Sasl((0..self.byte() % 4).map(|_| self.name(MECHANISMS)).collect()),
            10 => Authentication::SaslContinue(self.text(CHALLENGES)),
            11 => Authentication::SaslFinal(self.text(CHALLENGES)),
            12 => Authentication::Digest(self.blob()),
            _ => Authentication::Unknown { code: 14 + self.u32() % 1000, body: self.blob() },
        }
    }

    fn fields(&mut self) -> ErrorFields<'a> {
        let count = self.byte() % 8;
        let fields = (0..count).map(|_| {
            let kind = self.pick(b"SVCMDHFLRqcdnsptW").unwrap_or(b'M');
            let known = match kind {
                b'C' => SQLSTATES,
                b'R' => ROUTINES,
                _ => TEXTS,
            };
            (kind, self.text(known))
        });
        ErrorFields::new(fields.collect())
    }

    /// A conversation of well-formed messages, closes included.
    pub fn moves(&mut self) -> Vec<Event> {
        let (mut list, mut at) = (Vec::new(), Duration::ZERO);
        while !self.is_empty() && list.len() < MOST_MOVES {
            let control = self.byte();
            at += Duration::from_millis(u64::from(control >> 4) * 97);
            let mut bytes = Vec::new();
            let (from, what) = match control % 16 {
                0..=6 => {
                    self.client_move(&mut bytes);
                    (Side::Client, Ok(bytes))
                }
                7..=13 => {
                    self.server_move(&mut bytes);
                    (Side::Server, Ok(bytes))
                }
                _ => {
                    let how = [Close::Eof, Close::Reset, Close::Deadline, Close::Shutdown];
                    let side = if control & 1 == 0 { Side::Client } else { Side::Server };
                    (side, Err(self.pick(&how).unwrap_or(Close::Eof)))
                }
            };
            list.push(Event { at, from, what });
        }
        list
    }

    fn client_move(&mut self, out: &mut Vec<u8>) {
        match self.byte() % 8 {
            0..=2 => self.untagged().encode(out),
            3 => {
                let mut body = self.text(VALUES).to_vec();
                body.push(0);
                encode_tagged(out, b'p', &body);
            }
            4 => {
                let response = if self.flag() { None } else { Some(self.text(CLIENT_FIRSTS)) };
                SaslInitialResponse { mechanism: self.name(MECHANISMS), response }.encode(out);
            }
            5 => encode_tagged(out, b'p', self.text(CLIENT_FINALS)),
            6 => encode_tagged(out, self.pick(b"XQPFp").unwrap_or(b'X'), self.blob()),
            _ => out.extend_from_slice(self.text(RAW)),
        }
    }

    fn server_move(&mut self, out: &mut Vec<u8>) {
        match self.byte() % 8 {
            0 => out.push(self.pick(b"SNGE").unwrap_or(b'S')),
            1 => out.extend_from_slice(self.text(RAW)),
            _ => self.backend().encode(out),
        }
    }
}

/// More moves than this show nothing new and make an input slow.
const MOST_MOVES: usize = 64;

const PARAMETERS: &[&[u8]] = &[
    b"user",
    b"database",
    b"client_encoding",
    b"application_name",
    b"replication",
    b"options",
    b"DateStyle",
    b"datestyle",
    b"TimeZone",
    b"extra_float_digits",
    b"server_version",
    b"_pq_.test_protocol_negotiation",
];
const VALUES: &[&[u8]] =
    &[b"app", b"postgres", b"UTF8", b"'utf-8'", b"psql", b"true", b"app\r", b"a%20b", b"undefined", b"18.4"];
const MECHANISMS: &[&[u8]] = &[b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS", b"OAUTHBEARER", b"PLAIN"];
const CLIENT_FIRSTS: &[&[u8]] = &[
    b"n,,n=*,r=rOprNGfwEbeRWgbNEkqOabcd",
    b"n,,n=,r=rOprNGfwEbeRWgbNEkqOabcd",
    b"y,,n=,r=rOprNGfwEbeRWgbNEkqOabcd",
    b"p=tls-server-end-point,,n=,r=rOprNGfwEbeRWgbNEkqOabcd",
    b"n,,\x01auth=\x01\x01",
    b"n,,\x01auth=Bearer abcd\x01\x01",
];
const CHALLENGES: &[&[u8]] = &[
    b"r=rOprNGfwEbeRWgbNEkqOabcdserver,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    b"e=invalid-proof",
    b"{\"status\":\"invalid_token\"}",
];
const CLIENT_FINALS: &[&[u8]] = &[
    b"c=biws,r=rOprNGfwEbeRWgbNEkqOabcdserver,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"c=eSws,r=other,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"\x01",
];
const SQLSTATES: &[&[u8]] = &[
    b"28P01", b"28000", b"3D000", b"53300", b"57P03", b"57P01", b"42704", b"22023", b"42501", b"55000",
    b"0A000", b"08P01", b"XX000", b"42601",
];
const ROUTINES: &[&[u8]] = &[
    b"auth_failed",
    b"ClientAuthentication",
    b"InitializeSessionUserId",
    b"InitPostgres",
    b"CheckMyDatabase",
    b"ProcessStartupPacket",
];
const TEXTS: &[&[u8]] = &[
    b"FATAL",
    b"no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"app\", no encryption",
    b"pg_hba.conf rejects connection",
    b"role \"app\" does not exist",
    b"the database system is starting up",
    b"LDAP authentication failed for user \"bob\"",
    b"no such user",
    b"SSL required",
    b"auth.c",
    b"544",
];
/// Bytes that are no message: other protocols, and the beginnings of TLS.
const RAW: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"-ERR unknown command\r\n",
    b"J\0\0\0\x0a8.0.36\0",
    b"\x15\x03\x03\0\x02\x02\x30",
    b"\x17\x03\x03\0\x13aaaaaaaaaaaaaaaaaaa",
    b"\x14\x03\x03\0\x01\x01",
    b"Ecould not fork new process for connection\n\0",
];
