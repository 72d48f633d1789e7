//! The first bytes of a connection: what kind of caller is this?

/// PostgreSQL refuses a startup packet longer than this (`MAX_STARTUP_PACKET_LENGTH`, pqcomm.h).
pub const MAX_STARTUP_PACKET: usize = 10_000;

/// What the first bytes of a client say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// SSLRequest (80877103).
    SslRequest,
    /// GSSENCRequest (80877104).
    GssEncRequest,
    /// CancelRequest (80877102): a second connection that cancels a query of another.
    CancelRequest,
    /// A StartupMessage with this protocol version word (3.0 is 196608) and this length.
    Startup {
        /// The version word as sent.
        version: u32,
        /// The packet's length in bytes, its own length word included.
        length: usize,
    },
    /// A TLS ClientHello without SSLRequest (`sslnegotiation=direct`).
    Tls,
    /// An HTTP request line.
    Http,
    /// A length word that no startup packet may have.
    Malformed {
        /// The length word as sent.
        length: u32,
    },
}

/// Classifies the first bytes of a client; `None` while too few have come (at most 8 are needed).
pub fn classify(bytes: &[u8]) -> Option<First> {
    let first = *bytes.first()?;
    if first == 0x16 {
        return Some(First::Tls);
    }
    match http(bytes) {
        Some(true) => return Some(First::Http),
        Some(false) => {}
        None => return None,
    }
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..=MAX_STARTUP_PACKET).contains(&size) {
        return Some(First::Malformed { length });
    }
    let code = u32::from_be_bytes(*bytes.get(4..)?.first_chunk::<4>()?);
    Some(match (code, size) {
        (80_877_103, 8) => First::SslRequest,
        (80_877_104, 8) => First::GssEncRequest,
        // PostgreSQL looks at the code alone, and no client sends these with a body.
        (80_877_103 | 80_877_104, _) => First::Malformed { length },
        (80_877_102, _) => First::CancelRequest,
        (version, length) => First::Startup { version, length },
    })
}

/// Whether this is an HTTP request line; `None` while a method's name may still become whole. No
/// method's first four letters are the length of a packet, so waiting keeps no client waiting.
fn http(bytes: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"OPTIONS ",
        b"CONNECT ",
        b"PRI ",
        b"DELETE ",
        b"PATCH ",
        b"TRACE ",
    ];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(true);
    }
    let begun = METHODS.iter().any(|method| method.starts_with(bytes));
    (!begun).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_longer_than_a_length_word_is_not_judged_before_it_is_whole() {
        for line in [&b"POST / HTTP/1.1"[..], b"OPTIONS *", b"CONNECT db:5432"] {
            let told: Vec<First> = (0..line.len()).filter_map(|end| classify(&line[..end])).collect();
            assert!(told.iter().all(|first| *first == First::Http), "{told:?}");
        }
        assert_eq!(classify(b"POSTGRES"), Some(First::Malformed { length: 0x504f_5354 }));
    }

    #[test]
    fn every_first_packet_is_told_by_eight_bytes() {
        let rows: [(&str, &[u8], Option<First>); 9] = [
            ("nothing yet", b"", None),
            ("half a length", b"\0\0", None),
            ("SSLRequest", b"\0\0\0\x08\x04\xd2\x16\x2f", Some(First::SslRequest)),
            ("GSSENCRequest", b"\0\0\0\x08\x04\xd2\x16\x30", Some(First::GssEncRequest)),
            ("CancelRequest", b"\0\0\0\x10\x04\xd2\x16\x2e", Some(First::CancelRequest)),
            ("3.0", b"\0\0\0\x3b\0\x03\0\0", Some(First::Startup { version: 196_608, length: 59 })),
            ("TLS", b"\x16\x03", Some(First::Tls)),
            ("HTTP", b"GET / HTTP/1.1", Some(First::Http)),
            ("too long", b"\0\0\x27\x11", Some(First::Malformed { length: 10_001 })),
        ];
        for (row, bytes, expected) in rows {
            assert_eq!(classify(bytes), expected, "{row}");
        }
    }
}
