//! The server's part, played to live clients.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::app::output::Dress;
use crate::app::proxy::mend;
use crate::app::{Failure, config};
use crate::capture::script::Script;
use crate::capture::write::walk::{Message, What};
use crate::handshake::Side;
use crate::net::Listen;
use crate::secret::Secret;
use crate::wire::frontend::{GSSENC_REQUEST, SSL_REQUEST, SaslInitialResponse, encode_tagged};

use super::scram::Exchange;
use super::{Link, Word};

/// Clients at a time: each has a thread.
const CLIENTS: usize = 64;
/// How long a client has to read the last words.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves clients until it is stopped, or one.
pub(super) fn play(
    script: Script,
    listen: &str,
    password: Option<Secret<String>>,
    once: bool,
    dress: Dress,
) -> Result<ExitCode, Failure> {
    let listener = bind(listen)?;
    let addr = listener.local_addr()?.to_string();
    crate::app::print(dress.listening(&addr, "a recorded login", None).as_bytes())?;
    let (script, password) = (Arc::new(script), Arc::new(password));
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        // A client that is gone before it is accepted is nobody's trouble.
        let Ok(stream) = stream else { continue };
        if once {
            serve(&script, password.as_ref().as_ref(), stream, &addr, dress)?;
            return Ok(ExitCode::SUCCESS);
        }
        if busy.load(Ordering::Relaxed) >= CLIENTS {
            continue;
        }
        busy.fetch_add(1, Ordering::Relaxed);
        let (script, password, addr) = (Arc::clone(&script), Arc::clone(&password), addr.clone());
        let done = Arc::clone(&busy);
        std::thread::spawn(move || {
            if let Err(failure) = serve(&script, password.as_ref().as_ref(), stream, &addr, dress) {
                tracing::warn!(failure = failure.text, "a client could not be served");
            }
            done.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Listens where `pgwhy proxy --listen` would, but for a Unix socket.
fn bind(text: &str) -> Result<TcpListener, Failure> {
    let tcp = |listen| match listen {
        Listen::Tcp(addr) => Ok(addr),
        Listen::Unix(_) => Err(Failure::usage(format!("--listen {text}: write host:port"))),
    };
    let addresses: Vec<SocketAddr> = config::listen(text)?.into_iter().map(tcp).collect::<Result<_, _>>()?;
    TcpListener::bind(addresses.as_slice())
        .map_err(|error| Failure::failed(format!("can't listen on {text}: {error}; {}", mend(&error))))
}

fn serve(
    script: &Script,
    password: Option<&Secret<String>>,
    stream: TcpStream,
    addr: &str,
    dress: Dress,
) -> Result<(), Failure> {
    let client = stream.peer_addr()?.to_string();
    let mut player = Player {
        link: Link::new(stream, Side::Client)?,
        script,
        password,
        now: None,
        then: None,
        client_final: Vec::new(),
        asked_for_encryption: None,
    };
    // What the client does at the end of a broken connection is in the report.
    let _ = player.play();
    let report = player.link.report(client, addr.to_owned(), None);
    crate::app::print(dress.report(&report).unwrap_or_default().as_bytes())
}

struct Player<'a> {
    link: Link,
    script: &'a Script,
    password: Option<&'a Secret<String>>,
    /// This client's SCRAM, and the recorded one's.
    now: Option<Exchange>,
    then: Option<Exchange>,
    client_final: Vec<u8>,
    /// The code of the request that this client sent and that is to be answered.
    asked_for_encryption: Option<u32>,
}

impl Player<'_> {
    fn play(&mut self) -> io::Result<()> {
        let script = self.script;
        for message in script.messages() {
            let go_on = match message.from {
                Side::Client => self.listen(message)?,
                Side::Server => self.speak(message)?,
            };
            if !go_on {
                return self.farewell();
            }
        }
        let logged_in = script.messages().iter().any(|message| message.what == What::Backend(b'Z', 0));
        if logged_in { self.session() } else { self.farewell() }
    }

    /// Waits for what answers to one of the client's messages. `false` when it is gone.
    fn listen(&mut self, message: &Message) -> io::Result<bool> {
        match message.what {
            What::Session | What::Frontend(_) | What::Noise | What::Cancel => Ok(true),
            What::SslRequest => Ok(self.encryption_request(SSL_REQUEST)),
            What::GssEncRequest => Ok(self.encryption_request(GSSENC_REQUEST)),
            What::Startup => self.startup(),
            _ => {
                let Word::Message(b'p', body) = self.link.message() else { return Ok(false) };
                match message.what {
                    What::ScramFirst => {
                        self.now = first_of(&body);
                        let recorded = self.script.bytes(message).get(5..).unwrap_or_default();
                        self.then = first_of(recorded);
                    }
                    What::ScramFinal => self.client_final = body,
                    _ => {}
                }
                Ok(true)
            }
        }
    }

    /// The recorded client asked; this one may or may not.
    fn encryption_request(&mut self, code: u32) -> bool {
        while self.link.framer.ahead().len() < 8 {
            if !self.link.more() {
                return false;
            }
        }
        let word = self.link.framer.ahead().get(4..).and_then(|rest| rest.first_chunk::<4>());
        if word.map(|word| u32::from_be_bytes(*word)) == Some(code) {
            self.asked_for_encryption = Some(code);
            self.link.framer.step(8);
        }
        true
    }

    /// A request for encryption that the recorded client did not make is declined.
    fn startup(&mut self) -> io::Result<bool> {
        loop {
            let Word::Packet(body) = self.link.packet() else { return Ok(false) };
            let code = body.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word));
            if code != SSL_REQUEST && code != GSSENC_REQUEST {
                return Ok(true);
            }
            self.link.send(b"N")?;
        }
    }

    /// Says what the server said. `false` when that is the end of it.
    fn speak(&mut self, message: &Message) -> io::Result<bool> {
        let bytes = self.script.bytes(message);
        match message.what {
            What::Session => return Ok(true),
            What::Answer(byte) => {
                // Whoever did not ask gets no answer.
                if self.asked_for_encryption.take().is_some() {
                    self.link.send(&[byte])?;
                }
                return Ok(true);
            }
            What::Backend(b'R', 10) => self.link.send(&without_plus(bytes))?,
            What::Backend(b'R', 11) => {
                let text = bytes.get(9..).unwrap_or_default();
                let then = self.then.as_ref();
                match &mut self.now {
                    Some(now) => {
                        let challenge = now.challenge(text, then);
                        self.authentication(11, &challenge)?;
                    }
                    None => self.link.send(bytes)?,
                }
            }
            What::Backend(b'R', 12) => return self.verdict(),
            // Tokens of GSSAPI hold for one conversation only.
            What::Backend(b'R', 8) => return Ok(false),
            _ => self.link.send(bytes)?,
        }
        Ok(true)
    }

    /// The recorded client's proof was right; this one's is judged by the given password.
    fn verdict(&mut self) -> io::Result<bool> {
        let Some(password) = self.password else {
            let text = "pgwhy replay: the recorded login goes on, and SCRAM needs its password: give --password-file";
            self.refuse("0A000", text)?;
            return Ok(false);
        };
        let signature = self.now.as_ref().and_then(|now| now.judge(&self.client_final, password));
        match signature {
            Some(signature) => {
                self.authentication(12, signature.as_bytes())?;
                Ok(true)
            }
            None => {
                self.refuse("28P01", "pgwhy replay: the client's proof does not fit the given password")?;
                Ok(false)
            }
        }
    }

    fn authentication(&mut self, code: u32, text: &[u8]) -> io::Result<()> {
        let mut message = Vec::new();
        encode_tagged(&mut message, b'R', &[&code.to_be_bytes(), text].concat());
        self.link.send(&message)
    }

    fn refuse(&mut self, sqlstate: &str, text: &str) -> io::Result<()> {
        self.error("FATAL", sqlstate, text)
    }

    fn error(&mut self, severity: &str, sqlstate: &str, text: &str) -> io::Result<()> {
        let body = format!("S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0");
        let mut message = Vec::new();
        encode_tagged(&mut message, b'E', body.as_bytes());
        self.link.send(&message)
    }

    /// Behind the login there is no database: every query gets an error. As a real server's, it comes at
    /// once, and what follows it is ignored up to Sync.
    fn session(&mut self) -> io::Result<()> {
        const NO_DATABASE: &str = "pgwhy replay: there is no database behind a replay";
        let mut failed = false;
        loop {
            let Word::Message(tag, _) = self.link.message() else { return Ok(()) };
            match tag {
                b'X' => return Ok(()),
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if !failed => {
                    self.error("ERROR", "0A000", NO_DATABASE)?;
                    failed = true;
                }
                _ => {}
            }
            if matches!(tag, b'Q' | b'S') {
                let mut ready = Vec::new();
                encode_tagged(&mut ready, b'Z', b"I");
                self.link.send(&ready)?;
                failed = false;
            }
        }
    }

    /// The server closed; the client gets the time to read why.
    fn farewell(&mut self) -> io::Result<()> {
        self.link.stream.shutdown(Shutdown::Write)?;
        self.link.until = Instant::now() + FAREWELL;
        while self.link.more() {}
        Ok(())
    }
}

fn first_of(body: &[u8]) -> Option<Exchange> {
    Exchange::client_first(SaslInitialResponse::decode(body).ok()?.response?)
}

/// The offer without channel binding: there is no TLS here to bind to.
fn without_plus(offer: &[u8]) -> Vec<u8> {
    let mut body = offer.get(5..9).unwrap_or_default().to_vec();
    for name in offer.get(9..).unwrap_or_default().split(|byte| *byte == 0) {
        if !name.is_empty() && !name.ends_with(b"-PLUS") {
            body.extend_from_slice(name);
            body.push(0);
        }
    }
    body.push(0);
    let mut message = Vec::new();
    encode_tagged(&mut message, b'R', &body);
    message
}
