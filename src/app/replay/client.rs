//! The client's part, played to a server.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};

use crate::app::Failure;
use crate::app::output::{Dress, Format};
use crate::capture::script::Script;
use crate::capture::write::walk::{Message, What};
use crate::handshake::{Side, Step};
use crate::secret::Secret;
use crate::wire::backend::Authentication;
use crate::wire::frontend::{SaslInitialResponse, Untagged, encode_tagged};

use super::scram::Exchange;
use super::{Link, Word, outcome_line};

/// How long a server may take to accept.
const CONNECT: Duration = Duration::from_secs(20);

/// How far the play came.
enum End {
    /// The server did what it did then.
    Same(Step),
    /// It did something else: what it did then, and now.
    Differs(Step, String),
    /// The next message needs a secret that nobody gave.
    Secret(Step),
}

/// Plays, reports, and says whether it went as recorded.
pub(super) fn play(
    script: &Script,
    to: &str,
    password: Option<&Secret<String>>,
    format: Option<Format>,
    dress: Dress,
) -> Result<ExitCode, Failure> {
    if script.messages().iter().any(|message| message.what == What::Cancel) {
        return Err(Failure::failed("a cancel request can't be played: its key is gone with its session"));
    }
    let started = Instant::now();
    let stream = connect(to)?;
    let took = started.elapsed();
    let (client, server) = (stream.local_addr()?.to_string(), stream.peer_addr()?.to_string());
    let mut player = Player {
        link: Link::new(stream, Side::Server)?,
        script,
        password,
        exchange: None,
        challenge: Vec::new(),
        salt: [0; 4],
    };
    let end = player.play();
    let (text, code) = match &end {
        End::Same(step) => {
            (outcome_line(format, "same", *step, "the server answers as it did then"), ExitCode::SUCCESS)
        }
        End::Differs(step, text) => (outcome_line(format, "differs", *step, text), ExitCode::FAILURE),
        End::Secret(step) => {
            let text = "up to here the server answers as it did then; the next message needs a secret that \
                        is not in the capture (--password-file)";
            (outcome_line(format, "stopped", *step, text), ExitCode::SUCCESS)
        }
    };
    // A login that was left for want of a secret failed of nothing that a report could explain.
    let report = match end {
        End::Secret(_) => None,
        _ => dress.report(&player.link.report(client, server, Some(took))),
    };
    crate::app::print((report.unwrap_or_default() + &text).as_bytes())?;
    Ok(code)
}

fn connect(to: &str) -> Result<TcpStream, Failure> {
    let bad = |reason: String| Failure::usage(format!("--to {to}: {reason}; write host:port"));
    let addresses = to.to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    let mut last = bad("the name has no address".into());
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Failure::failed(format!("can't reach {address}: {error}")),
        }
    }
    Err(last)
}

struct Player<'a> {
    link: Link,
    script: &'a Script,
    password: Option<&'a Secret<String>>,
    exchange: Option<Exchange>,
    /// This time's server-first-message.
    challenge: Vec<u8>,
    /// This time's MD5 salt.
    salt: [u8; 4],
}

impl Player<'_> {
    fn play(&mut self) -> End {
        let mut step = Step::Startup;
        for message in self.script.messages() {
            let result = match message.from {
                Side::Client => self.speak(message),
                Side::Server => self.listen(message),
            };
            match result {
                Some(End::Same(reached)) => step = reached,
                Some(end) => return end,
                // Behind ReadyForQuery there is no login.
                None => break,
            }
        }
        // Good-bye, to a server that may have closed already.
        let mut terminate = Vec::new();
        encode_tagged(&mut terminate, b'X', b"");
        let _ = self.link.send(&terminate);
        End::Same(step)
    }

    /// Sends one of the client's messages.
    fn speak(&mut self, message: &Message) -> Option<End> {
        let bytes = self.script.bytes(message);
        let own = match message.what {
            What::Session => return None,
            What::ScramFirst => {
                let body = SaslInitialResponse::decode(bytes.get(5..).unwrap_or_default()).ok();
                let first = body.and_then(|body| body.response).unwrap_or_default();
                self.exchange = Exchange::client_first(first);
                bytes.to_vec()
            }
            What::Password | What::Md5 | What::ScramFinal => match self.secret(message.what) {
                Some(own) => own,
                None => return Some(End::Secret(message.step)),
            },
            What::Oauth | What::GssToken | What::Unasked | What::SaslOther => {
                return Some(End::Secret(message.step));
            }
            _ => bytes.to_vec(),
        };
        if self.link.send(&own).is_err() {
            return Some(End::Differs(message.step, "the server closed before the client's message".into()));
        }
        Some(End::Same(message.step))
    }

    /// The message that the password makes, for what the server asks this time.
    fn secret(&mut self, what: What) -> Option<Vec<u8>> {
        let password = self.password?;
        let body = match what {
            What::ScramFinal => self.exchange.as_mut()?.client_final(&self.challenge, password)?,
            What::Md5 => {
                let user = self.script.messages().iter().find(|one| one.what == What::Startup)?;
                let Ok(Untagged::Startup(startup)) = Untagged::decode(self.script.bytes(user).get(4..)?)
                else {
                    return None;
                };
                let user = startup.parameters.iter().find(|(name, _)| *name == b"user")?.1;
                let inner = Md5::new().chain_update(password.expose()).chain_update(user).finalize();
                let outer = Md5::new().chain_update(hex(&inner)).chain_update(self.salt).finalize();
                format!("md5{}\0", hex(&outer)).into_bytes()
            }
            _ => [password.expose().as_bytes(), b"\0"].concat(),
        };
        let mut message = Vec::new();
        encode_tagged(&mut message, b'p', &body);
        Some(message)
    }

    /// Reads what answers to one of the server's messages, and holds it against that.
    fn listen(&mut self, message: &Message) -> Option<End> {
        let (then, word) = match message.what {
            What::Session => return None,
            // How many of these come is no matter of the login.
            What::Backend(b'S' | b'N' | b'K', _) => return Some(End::Same(message.step)),
            What::Answer(byte) => (format!("answered {}", char::from(byte)), self.link.answer()),
            What::Backend(tag, code) => {
                let body = self.script.bytes(message).get(5..).unwrap_or_default();
                (said(tag, code, body), self.next_message())
            }
            _ => return Some(End::Same(message.step)),
        };
        let now = match &word {
            Word::Byte(byte) => format!("answered {}", char::from(*byte).escape_debug()),
            Word::Message(tag, body) => said(*tag, code_of(*tag, body), body),
            Word::Packet(_) | Word::Nonsense => "sent something that is no message".to_owned(),
            Word::End => "closed".to_owned(),
        };
        if let Word::Message(b'R', body) = &word {
            match Authentication::decode(body) {
                Ok(Authentication::SaslContinue(text)) => self.challenge = text.to_vec(),
                Ok(Authentication::Md5(salt)) => self.salt = salt,
                _ => {}
            }
        }
        if then == now {
            return Some(End::Same(message.step));
        }
        Some(End::Differs(message.step, format!("then the server {then}; now it {now}")))
    }

    fn next_message(&mut self) -> Word {
        loop {
            match self.link.message() {
                Word::Message(b'S' | b'N' | b'K', _) => {}
                word => return word,
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code_of(tag: u8, body: &[u8]) -> u32 {
    let word = body.first_chunk::<4>().filter(|_| tag == b'R');
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

/// A message of the server as far as two of them are held against each other.
fn said(tag: u8, code: u32, body: &[u8]) -> String {
    match (tag, code) {
        (b'R', 0) => "accepted the login".into(),
        (b'R', 10) => {
            let names = body.get(4..).unwrap_or_default().split(|byte| *byte == 0);
            let names: Vec<String> = names
                .filter(|name| !name.is_empty())
                .map(|name| String::from_utf8_lossy(name).escape_debug().to_string())
                .collect();
            format!("offered {}", names.join(", "))
        }
        (b'R', code) => format!("asked with authentication code {code}"),
        (b'E', _) => {
            let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
            format!("refused with {}", String::from_utf8_lossy(code.unwrap_or_default()).escape_debug())
        }
        (b'Z', _) => "was ready for queries".into(),
        (b'v', _) => "negotiated the protocol's version".into(),
        (tag, _) => format!("sent a message {:?}", char::from(tag)),
    }
}
