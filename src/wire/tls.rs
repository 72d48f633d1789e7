//! What TLS shows in clear: records, both hellos, alerts, and the rest of a TLS 1.2 handshake.
//!
//! Nothing is decrypted. From TLS 1.3 on everything behind the ServerHello is encrypted, so an
//! alert is readable only before that point. RFC 8446 and RFC 5246.

use super::reader::{Reader, WireError, invalid};

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Versions offered, highest first (0x0304 is TLS 1.3); the legacy field where there is no list.
    pub versions: Vec<u16>,
    /// The server name (SNI).
    pub server_name: Option<String>,
    /// Application protocols offered (ALPN).
    pub alpn: Vec<String>,
    /// Number of cipher suites offered.
    pub cipher_suites: usize,
    /// Size of the message in bytes.
    pub size: usize,
}

/// What a ServerHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// The version chosen.
    pub version: u16,
    /// The cipher suite chosen.
    pub cipher_suite: u16,
    /// The application protocol chosen; up to TLS 1.2 only, later it is encrypted.
    pub alpn: Option<String>,
    /// A HelloRetryRequest, which looks like a ServerHello and only asks for another ClientHello.
    pub retry: bool,
}

/// An alert that was sent in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// 1 warning, 2 fatal.
    pub level: u8,
    /// The reason, RFC 8446 section 6.
    pub description: u8,
}

impl Alert {
    /// The name that RFC 8446 gives the description.
    pub fn name(self) -> &'static str {
        match self.description {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            112 => "unrecognized_name",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "an alert without a name",
        }
    }
}

/// Something seen in one direction of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A ClientHello.
    ClientHello(ClientHello),
    /// A ServerHello or HelloRetryRequest.
    ServerHello(ServerHello),
    /// A Certificate message in clear (TLS 1.2): the number of certificates in it.
    Certificates(usize),
    /// A CertificateRequest in clear (TLS 1.2).
    CertificateRequest,
    /// Another handshake message in clear, by its type.
    Handshake(u8),
    /// An alert in clear.
    Alert(Alert),
    /// ChangeCipherSpec: up to TLS 1.2 the rest of this direction is encrypted.
    ChangeCipherSpec,
    /// A record of encrypted data with this many bytes.
    Encrypted(usize),
    /// These bytes are no TLS record; the direction is given up.
    NotTls,
}

/// Cuts one direction of a TLS connection into what can be seen of it. Keeps at most one record
/// and one handshake message.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pending: Vec<u8>,
    message: Vec<u8>,
    encrypted: bool,
    given_up: bool,
}

/// A record's payload is at most 2^14 bytes, and 2,048 more when encrypted under TLS 1.2.
const MAX_RECORD: usize = 16_384 + 2_048;
/// The longest handshake message that is kept; certificate chains of real servers are below 16 KiB.
const MAX_MESSAGE: usize = 65_536;

impl Records {
    /// Bytes that wait for the rest of their record or message; of a direction that was given up,
    /// those that are no TLS.
    pub fn held(&self) -> usize {
        self.pending.len() + self.message.len()
    }

    /// What was no TLS, once [`Seen::NotTls`] was seen.
    pub fn not_tls(&self) -> &[u8] {
        if self.given_up { &self.pending } else { &[] }
    }

    /// Adds bytes and calls `see` for everything that is now complete.
    pub fn push(&mut self, bytes: &[u8], mut see: impl FnMut(Seen)) {
        if self.given_up {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut reader = Reader::new(&pending);
        loop {
            let mut ahead = reader.clone();
            match record(&mut ahead) {
                Ok((kind, payload)) => {
                    self.payload(kind, payload, &mut see);
                    reader = ahead;
                }
                Err(error) if error == SHORT => break,
                Err(_) => {
                    self.given_up = true;
                    see(Seen::NotTls);
                }
            }
            if self.given_up {
                break;
            }
        }
        self.pending = reader.rest().to_vec();
    }

    fn payload(&mut self, kind: u8, payload: &[u8], see: &mut impl FnMut(Seen)) {
        match kind {
            20 => {
                see(Seen::ChangeCipherSpec);
                self.encrypted = true;
            }
            21 if !self.encrypted && payload.len() == 2 => {
                let level = payload.first().copied().unwrap_or_default();
                let description = payload.get(1).copied().unwrap_or_default();
                see(Seen::Alert(Alert { level, description }));
            }
            // In TLS 1.3 ChangeCipherSpec means nothing, and after a HelloRetryRequest it comes before
            // the second hellos.
            22 if !self.encrypted || is_whole_hello(payload) => self.handshake(payload, see),
            _ => see(Seen::Encrypted(payload.len())),
        }
    }

    fn handshake(&mut self, payload: &[u8], see: &mut impl FnMut(Seen)) {
        self.message.extend_from_slice(payload);
        loop {
            let mut reader = Reader::new(&self.message);
            let (Ok(kind), Ok(length)) = (reader.u8(""), reader.u24("")) else { return };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > MAX_MESSAGE {
                self.given_up = true;
                return see(Seen::NotTls);
            }
            let Ok(body) = reader.take(length, "") else { return };
            see(message(kind, body));
            let used = self.message.len() - reader.rest().len();
            self.message.drain(..used);
            if self.message.is_empty() {
                self.message = Vec::new();
                return;
            }
        }
    }
}

/// Whether a record holds one ClientHello or ServerHello and nothing else. An encrypted Finished of
/// TLS 1.2 is 40 bytes of noise: it would have to match in four of them.
fn is_whole_hello(payload: &[u8]) -> bool {
    let mut reader = Reader::new(payload);
    let (Ok(1 | 2), Ok(length)) = (reader.u8(""), reader.u24("")) else { return false };
    usize::try_from(length).is_ok_and(|length| length == reader.rest().len())
}

const SHORT: WireError = WireError { field: "TLS record", fault: super::reader::Fault::Short };

fn record<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), WireError> {
    let kind = reader.u8("TLS record")?;
    if !(20..=24).contains(&kind) {
        return Err(invalid("TLS record type"));
    }
    if reader.u8("TLS record")? != 3 {
        return Err(invalid("TLS record version"));
    }
    reader.u8("TLS record")?;
    let length = usize::from(reader.u16("TLS record")?);
    if length > MAX_RECORD {
        return Err(invalid("TLS record length"));
    }
    Ok((kind, reader.take(length, "TLS record")?))
}

fn message(kind: u8, body: &[u8]) -> Seen {
    match kind {
        1 => client_hello(body).map_or(Seen::Handshake(1), Seen::ClientHello),
        2 => server_hello(body).map_or(Seen::Handshake(2), Seen::ServerHello),
        11 => certificates(body).map_or(Seen::Handshake(11), Seen::Certificates),
        13 => Seen::CertificateRequest,
        kind => Seen::Handshake(kind),
    }
}

fn client_hello(body: &[u8]) -> Result<ClientHello, WireError> {
    let mut reader = Reader::new(body);
    let legacy = reader.u16("version")?;
    reader.take(32, "random")?;
    short_vector(&mut reader, "session id")?;
    let suites = vector(&mut reader, "cipher suites")?;
    short_vector(&mut reader, "compression methods")?;
    let mut hello = ClientHello {
        versions: vec![legacy],
        cipher_suites: suites.len() / 2,
        size: body.len() + 4,
        ..ClientHello::default()
    };
    extensions(&mut reader, |kind, body| {
        let mut reader = Reader::new(body);
        match kind {
            0 => hello.server_name = server_name(&mut reader),
            16 => hello.alpn = protocols(&mut reader),
            43 => {
                if let Ok(list) = short_vector(&mut reader, "versions") {
                    let words = list.chunks_exact(2).filter_map(|two| two.first_chunk::<2>());
                    // 0x?a?a are GREASE values (RFC 8701), no versions.
                    hello.versions = words
                        .map(|two| u16::from_be_bytes(*two))
                        .filter(|word| word & 0x0f0f != 0x0a0a)
                        .collect();
                }
            }
            _ => {}
        }
    })?;
    hello.versions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(hello)
}

fn server_hello(body: &[u8]) -> Result<ServerHello, WireError> {
    let mut reader = Reader::new(body);
    let mut hello = ServerHello { version: reader.u16("version")?, ..ServerHello::default() };
    hello.retry = reader.take(32, "random")? == HELLO_RETRY;
    short_vector(&mut reader, "session id")?;
    hello.cipher_suite = reader.u16("cipher suite")?;
    reader.u8("compression method")?;
    extensions(&mut reader, |kind, body| {
        let mut reader = Reader::new(body);
        match kind {
            16 => hello.alpn = protocols(&mut reader).into_iter().next(),
            43 => hello.version = reader.u16("version").unwrap_or(hello.version),
            _ => {}
        }
    })?;
    Ok(hello)
}

/// The random of a HelloRetryRequest (RFC 8446 section 4.1.3).
pub const HELLO_RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

fn certificates(body: &[u8]) -> Result<usize, WireError> {
    let mut reader = Reader::new(body);
    let length = usize::try_from(reader.u24("certificates")?).map_err(|_| invalid("certificates"))?;
    let mut list = Reader::new(reader.take(length, "certificates")?);
    let mut count = 0;
    while !list.is_empty() {
        let length = usize::try_from(list.u24("certificate")?).map_err(|_| invalid("certificate"))?;
        list.take(length, "certificate")?;
        count += 1;
    }
    Ok(count)
}

/// Walks the extensions; a hello without any ends before them.
fn extensions(reader: &mut Reader<'_>, mut each: impl FnMut(u16, &[u8])) -> Result<(), WireError> {
    if reader.is_empty() {
        return Ok(());
    }
    let mut list = Reader::new(vector(reader, "extensions")?);
    while !list.is_empty() {
        let kind = list.u16("extension")?;
        each(kind, vector(&mut list, "extension")?);
    }
    Ok(())
}

fn server_name(reader: &mut Reader<'_>) -> Option<String> {
    let mut list = Reader::new(vector(reader, "server names").ok()?);
    list.u8("server name type").ok()?;
    let name = vector(&mut list, "server name").ok()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn protocols(reader: &mut Reader<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(list) = vector(reader, "protocols") {
        let mut list = Reader::new(list);
        while let Ok(name) = short_vector(&mut list, "protocol") {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

fn vector<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], WireError> {
    let length = usize::from(reader.u16(field)?);
    reader.take(length, field)
}

fn short_vector<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], WireError> {
    let length = usize::from(reader.u8(field)?);
    reader.take(length, field)
}

/// A TLS version word as people write it.
pub fn version_name(word: u16) -> String {
    match word {
        0x0300 => "SSLv3".into(),
        0x0301 => "TLSv1.0".into(),
        0x0302 => "TLSv1.1".into(),
        0x0303 => "TLSv1.2".into(),
        0x0304 => "TLSv1.3".into(),
        word => format!("0x{word:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with SNI `db`, ALPN `postgresql` and versions 1.3 and 1.2.
    fn hello() -> Vec<u8> {
        let extensions: [(u16, &[u8]); 3] = [
            (0, b"\x00\x05\x00\x00\x02db"),
            (16, b"\x00\x0b\x0apostgresql"),
            (43, b"\x06\x0a\x0a\x03\x04\x03\x03"),
        ];
        let mut list = Vec::new();
        for (kind, body) in extensions {
            list.extend_from_slice(&kind.to_be_bytes());
            list.extend_from_slice(&(body.len() as u16).to_be_bytes());
            list.extend_from_slice(body);
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(b"\x00\x00\x02\x13\x01\x01\x00");
        body.extend_from_slice(&(list.len() as u16).to_be_bytes());
        body.extend_from_slice(&list);
        let mut record = vec![22, 3, 1];
        record.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
        record.extend_from_slice(&[1, 0]);
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(&body);
        record
    }

    #[test]
    fn a_client_hello_is_read_however_it_is_cut() {
        let mut stream = hello();
        stream.extend_from_slice(b"\x15\x03\x03\x00\x02\x02\x30");
        for size in [1, 5, 64, stream.len()] {
            let (mut records, mut seen) = (Records::default(), Vec::new());
            for cut in stream.chunks(size) {
                records.push(cut, |one| seen.push(one));
            }
            let [Seen::ClientHello(hello), Seen::Alert(alert)] = seen.as_slice() else { panic!("{seen:?}") };
            assert_eq!(hello.versions, [0x0304, 0x0303]);
            assert_eq!(hello.server_name.as_deref(), Some("db"));
            assert_eq!(hello.alpn, ["postgresql"]);
            assert_eq!(alert.name(), "unknown_ca");
        }
    }

    #[test]
    fn what_is_no_tls_is_given_up() {
        let (mut records, mut seen) = (Records::default(), Vec::new());
        records.push(b"HTTP/1.1 400", |one| seen.push(one));
        records.push(&hello(), |one| seen.push(one));
        assert_eq!(seen, [Seen::NotTls]);
    }
}
