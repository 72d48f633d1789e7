//! A small PostgreSQL client that makes the demo's mistakes. It speaks to a real server: every
//! refusal that it gets is the server's own.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::password::scram;
use crate::wire::backend::{Authentication, Backend};
use crate::wire::frame::{Frame, Framer, Kind};
use crate::wire::frontend::{SaslInitialResponse, Startup, Untagged, encode_tagged};
use crate::wire::sasl::ServerFirst;

/// One login.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Startup parameters in the order of the driver that is played.
    pub(super) parameters: Vec<(&'static str, String)>,
    /// What is sent when a password is asked for.
    pub(super) answer: Answer,
    /// Ask for TLS first, and leave when it is declined.
    pub(super) insists_on_tls: bool,
}

/// What a client does when it is asked for a password.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Sends this one.
    Password(String),
    /// Closes, as libpq does when it has none.
    Leave,
}

/// How long a step may take before the demo gives up; nothing here is far away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries to log in; `Some` is a session that stays open until it is dropped.
pub(super) fn log_in(addr: SocketAddr, login: &Login) -> io::Result<Option<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = Vec::new();
    if login.insists_on_tls {
        Untagged::SslRequest.encode(&mut out);
        stream.write_all(&out)?;
        stream.read_exact(&mut [0])?;
        return Ok(None);
    }
    let parameters =
        login.parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    Untagged::Startup(Startup { version: 0x3_0000, parameters }).encode(&mut out);
    stream.write_all(&out)?;
    let mut framer = Framer::default();
    let mut exchange = None;
    loop {
        while let Some(frame) = framer.next(Kind::Tagged) {
            let Frame::Tagged { tag, body } = frame else { return Ok(None) };
            match Backend::decode(tag, body) {
                Ok(Backend::ReadyForQuery(_)) => return Ok(Some(stream)),
                Ok(Backend::Error(_)) | Err(_) => return Ok(None),
                Ok(Backend::Authentication(request)) => {
                    let Some(reply) = reply(&request, login, &mut exchange) else { continue };
                    match reply {
                        Some(bytes) => stream.write_all(&bytes)?,
                        None => return Ok(None),
                    }
                }
                Ok(_) => {}
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            count => framer.push(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// A SCRAM exchange under way.
struct Exchange {
    first_bare: String,
}

/// `None`: nothing to say. `Some(None)`: leave. `Some(Some(bytes))`: say that.
fn reply(
    request: &Authentication<'_>,
    login: &Login,
    exchange: &mut Option<Exchange>,
) -> Option<Option<Vec<u8>>> {
    let asks = matches!(
        request,
        Authentication::Sasl(_) | Authentication::SaslContinue(_) | Authentication::Cleartext
    );
    let Answer::Password(password) = &login.answer else { return asks.then_some(None) };
    let mut out = Vec::new();
    match request {
        Authentication::Cleartext => {
            let body = [password.as_bytes(), &[0]].concat();
            encode_tagged(&mut out, b'p', &body);
        }
        Authentication::Sasl(_) => {
            // node-postgres sends its encoding last and `*` for the name, libpq neither.
            let is_node = login.parameters.last().is_some_and(|(name, _)| *name == "client_encoding");
            let first_bare = format!("n={},r={}", if is_node { "*" } else { "" }, nonce());
            let response = format!("n,,{first_bare}");
            let response = Some(response.as_bytes());
            SaslInitialResponse { mechanism: b"SCRAM-SHA-256", response }.encode(&mut out);
            *exchange = Some(Exchange { first_bare });
        }
        Authentication::SaslContinue(text) => {
            let Ok(challenge) = ServerFirst::decode(text) else { return Some(None) };
            let without_proof = format!("c=biws,r={}", String::from_utf8_lossy(challenge.nonce));
            let salted = scram::salted_password(password.as_bytes(), &challenge.salt, challenge.iterations);
            let first_bare = exchange.take()?.first_bare;
            let message = scram::auth_message(first_bare.as_bytes(), text, without_proof.as_bytes());
            let proof = scram::client_proof(&scram::client_key(&salted), &message);
            let last = format!("{without_proof},p={}", STANDARD.encode(proof.expose()));
            encode_tagged(&mut out, b'p', last.as_bytes());
        }
        _ => return None,
    }
    Some(Some(out))
}

/// 24 characters that nobody else sends; a demo needs no more.
fn nonce() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let words = [0, 1].map(|word: u8| RandomState::new().hash_one(word).to_be_bytes());
    let mut bytes = words.concat();
    bytes.extend_from_slice(&[0, 1]);
    STANDARD.encode(bytes)
}
