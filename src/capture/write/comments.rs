//! What each packet says and means, for people who open a capture in Wireshark.

use crate::handshake::Side;
use crate::wire::frontend::Untagged;

use super::walk::{Message, Walk, What};

/// Texts of one packet: some servers send a hundred ParameterStatus in one.
const MOST: usize = 12;

/// The comment of the bytes `start..end` of a side's stream: `step: meaning`, one for each message that
/// ends there.
pub(super) fn comment(walk: &Walk, from: Side, start: usize, end: usize) -> String {
    let mut texts: Vec<(&str, String)> = Vec::new();
    let here = |message: &&Message| {
        message.from == from && message.start < end && message.end > start && message.end <= end
    };
    for message in walk.messages.iter().filter(here) {
        let text = (message.step.id(), words(walk, message));
        if texts.last() != Some(&text) && texts.len() < MOST {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return "a part of a message that ends in a later packet".into();
    }
    let mut comment = String::new();
    let mut step = "";
    for (id, text) in &texts {
        if !comment.is_empty() {
            comment.push_str("; ");
        }
        if step != *id {
            comment.push_str(id);
            comment.push_str(": ");
        }
        comment.push_str(text);
        step = id;
    }
    comment
}

fn words(walk: &Walk, message: &Message) -> String {
    if !message.whole {
        return "a message that was never whole".into();
    }
    match message.what {
        What::Startup => startup(walk, message),
        What::Answer(byte) => match byte {
            b'S' => "S, the server agrees: the TLS handshake follows".into(),
            b'G' => "G, the server agrees: GSSAPI encryption follows".into(),
            _ => "N, no encryption: the client goes on in clear, or leaves".into(),
        },
        What::Frontend(tag) => match tag {
            b'X' => "Terminate, the client says good-bye".into(),
            tag => format!("message {:?} of the client, which has no place in a login", char::from(tag)),
        },
        What::Backend(tag, code) => backend(walk, message, tag, code),
        What::Tls(kind, handshake) => tls(kind, handshake).into(),
        other => fixed(other).into(),
    }
}

fn fixed(what: What) -> &'static str {
    match what {
        What::SslRequest => "SSLRequest, the client asks for TLS",
        What::GssEncRequest => "GSSENCRequest, the client asks for GSSAPI encryption",
        What::Cancel => "CancelRequest: no login, but the end of another connection's query (key blanked)",
        What::Http => "an HTTP request: this client does not speak PostgreSQL's protocol",
        What::Malformed => "a first packet whose length can't be one: no PostgreSQL client sends this",
        What::Password => "PasswordMessage, the password in clear",
        What::Md5 => "PasswordMessage, the hash of password, user and salt",
        What::ScramFirst => {
            "client-first-message: the mechanism that the client chose, its flag of channel binding, its nonce"
        }
        What::Oauth => "OAUTHBEARER with the client's token",
        What::SaslOther => "SASLInitialResponse with an unknown mechanism, or broken",
        What::ScramFinal => "client-final-message: the client proves that it knows the password",
        What::OauthEnd => "the client has read the server's OAuth error",
        What::GssToken => "a GSSAPI or SSPI token",
        What::Unasked => "an answer that the server had not asked for",
        What::Sealed => "GSSAPI encryption, passed through unopened",
        What::Session => "the session's data",
        _ => "bytes that this protocol does not have here",
    }
}

fn startup(walk: &Walk, message: &Message) -> String {
    let body = walk.bytes(message).get(4..).unwrap_or_default();
    let Ok(Untagged::Startup(startup)) = Untagged::decode(body) else {
        return "a startup packet that can't be read".into();
    };
    let (major, minor) = (startup.version >> 16, startup.version & 0xffff);
    let value = |name: &[u8]| {
        let found = startup.parameters.iter().rev().find(|(key, _)| *key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).escape_debug().to_string())
    };
    let mut text = format!("StartupMessage, protocol {major}.{minor}");
    for name in ["user", "database"] {
        if let Some(value) = value(name.as_bytes()) {
            text.push_str(&format!(", {name}={value}"));
        }
    }
    text
}

fn backend(walk: &Walk, message: &Message, tag: u8, code: u32) -> String {
    let text = match (tag, code) {
        (b'R', 0) => "AuthenticationOk: the server accepts who the client is",
        (b'R', 3) => "the server asks for the password in clear",
        (b'R', 5) => "the server asks for an MD5 response, and gives a salt",
        (b'R', 7) => "the server asks for GSSAPI",
        (b'R', 9) => "the server asks for SSPI",
        (b'R', 8) => "a GSSAPI or SSPI token of the server",
        (b'R', 10) => return mechanisms(walk, message),
        (b'R', 11) => "the server's challenge (SCRAM: salt, iterations and nonce; OAUTHBEARER: its error)",
        (b'R', 12) => "server-final-message: the server proves that it knows the password's hash",
        (b'R', _) => "the server asks for authentication by another method",
        (b'E', _) => return error(walk, message),
        (b'N', _) => "NoticeResponse, a warning",
        (b'S', _) => "ParameterStatus, the session's settings",
        (b'K', _) => "BackendKeyData, the key for cancel requests",
        (b'v', _) => {
            "NegotiateProtocolVersion: the server speaks an older version, or knows not every option"
        }
        (b'Z', _) => "ReadyForQuery: the login is complete",
        _ => "a message of the server that has no place in a login",
    };
    text.into()
}

fn mechanisms(walk: &Walk, message: &Message) -> String {
    let names = walk.bytes(message).get(9..).unwrap_or_default();
    let names: Vec<String> = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .take(8)
        .map(|name| String::from_utf8_lossy(name).escape_debug().to_string())
        .collect();
    format!("the server offers {}", names.join(", "))
}

fn error(walk: &Walk, message: &Message) -> String {
    let fields = walk.bytes(message).get(5..).unwrap_or_default();
    let code = fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
    match code {
        Some(code) => {
            let code = String::from_utf8_lossy(code).escape_debug().to_string();
            format!("ErrorResponse {code}, the server refuses")
        }
        None => "ErrorResponse, the server refuses".into(),
    }
}

fn tls(kind: u8, handshake: u8) -> &'static str {
    match (kind, handshake) {
        (22, 1) => "ClientHello",
        (22, 2) => "ServerHello",
        (22, _) => "the TLS handshake goes on",
        (20, _) => "ChangeCipherSpec",
        (21, _) => "a TLS alert",
        _ => "encrypted data, passed through unopened",
    }
}
