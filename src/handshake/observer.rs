//! The observer: one phase, one transition per message.
//!
//! ```text
//!            SSLRequest / GSSENCRequest            N
//!   First ──────────────────────────────▶ Answer ────▶ First
//!     │ startup    │ 0x16       │ cancel      │ S, G
//!     ▼            ▼            ▼             ▼
//!  AuthRequest   Tunnel       Cancel        Tunnel (TLS or GSS: opaque)
//!     │ R3 R5 R7 R10 …           not TLS ▼          E at any time ──▶ Failed
//!     │                                Clear
//!     ▼                                             nonsense ───────▶ Failed
//!  Asked ──p──▶ Answered ──R11──▶ Asked … ──R0──▶ SessionSetup ──Z──▶ Ready
//! ```
//!
//! Behind the Z of a server that calls itself read-only comes one more phase, Settling: does the
//! client stay?

mod settling;
mod tunnel;

#[cfg(test)]
mod tests;

use std::time::Duration;

use settling::Settling;
use tunnel::Tunnel;

use crate::secret::Secret;
use crate::wire::backend::{Authentication, Backend};
use crate::wire::error_fields::{MAX_VERSION_2, version_2_text};
use crate::wire::first::{First, classify};
use crate::wire::frame::{Frame, Framer, Kind, MAX_SLICE};
use crate::wire::frontend::{SaslInitialResponse, Untagged, decode_password};
use crate::wire::reader::{WireError, invalid};
use crate::wire::sasl::{ClientFinal, ClientFirst, Gs2Flag, OauthInitial, ServerFinal, ServerFirst};

use super::opened::Legs;
use super::record::{
    ClientFinalSeen, ClientFirstSeen, ErrorSeen, FIRST_BYTES, MAX_NOTICES, MAX_PARAMETER_BYTES,
    MAX_PARAMETER_STATUS, MAX_REQUESTS, Md5Seen, Negotiation, Record, Request, ServerFinalSeen,
    ServerFirstSeen, StartupFault, StartupSeen, Step,
};
use super::{Attention, Chunk, Close, Side};

/// Watches one connection. See the module's diagram.
#[derive(Debug)]
pub struct Observer {
    phase: Phase,
    client: Framer,
    server: Framer,
    tunnel: Option<Box<Tunnel>>,
    settling: Settling,
    key: Secret<Vec<u8>>,
    record: Box<Record>,
    now: Duration,
    /// Whose bytes are being looked at.
    speaker: Side,
}

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A packet without a tag is expected from the client.
    First,
    /// One byte is expected from the server, for the SSLRequest or the GSSENCRequest.
    Answer(Encryption),
    /// TLS or GSSAPI encryption passes through.
    Tunnel,
    /// The server answers TLS in clear: an error, or another protocol.
    Clear,
    /// The startup packet was sent; the server decides what it asks for.
    AuthRequest,
    /// The server asked, the client must answer. The step is whose answer is missing.
    Asked(Step),
    /// The client answered, the server must judge. The step is whose judgement is missing.
    Answered(Step),
    /// Logged in, not yet ready.
    SessionSetup,
    /// Ready, and the client may yet find that this is not the kind of server it wants.
    Settling,
    /// The end: what follows needs no watching.
    Done(Attention),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Tls,
    Gss,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// A fresh observer for a connection that was just accepted.
    pub fn new() -> Self {
        Self {
            phase: Phase::First,
            client: Framer::default(),
            server: Framer::default(),
            tunnel: None,
            settling: Settling::default(),
            key: Secret::default(),
            record: Box::default(),
            now: Duration::ZERO,
            speaker: Side::Client,
        }
    }

    /// Looks at bytes that were already written on to the other side.
    pub fn eat(&mut self, chunk: Chunk<'_>) {
        // In slices, so that what is held is bounded however large a chunk is.
        for bytes in chunk.bytes.chunks(MAX_SLICE) {
            self.slice(Chunk { bytes, ..chunk });
        }
    }

    fn slice(&mut self, chunk: Chunk<'_>) {
        (self.now, self.speaker) = (chunk.at, chunk.from);
        self.settle_if_late();
        let length = u64::try_from(chunk.bytes.len()).unwrap_or(u64::MAX);
        match chunk.from {
            Side::Client => {
                self.record.client_bytes += length;
                self.record.client_last = Some(chunk.at);
                let most = start_kept(self.record.first);
                keep(&mut self.record.client_start, chunk.bytes, most);
            }
            Side::Server => {
                self.record.server_bytes += length;
                self.record.server_last = Some(chunk.at);
                keep(&mut self.record.server_start, chunk.bytes, FIRST_BYTES);
            }
        }
        match (self.phase, chunk.from) {
            (Phase::Done(Attention::Opaque), from) => self.tunnel_bytes(from, chunk.bytes),
            (Phase::Done(_), _) => {}
            (Phase::Tunnel, from) => self.tunnel_bytes(from, chunk.bytes),
            (_, Side::Client) => {
                self.client.push(chunk.bytes);
                self.client_frames();
            }
            (_, Side::Server) => {
                self.server.push(chunk.bytes);
                self.server_frames();
            }
        }
    }

    /// Notes that TLS between client and server was opened with a key log: as [`Self::opened`], and its
    /// outside tells nothing more.
    pub fn unsealed(&mut self, at: Duration) {
        self.opened(at);
        self.record.tls.as_mut().into_iter().for_each(|tls| tls.opened = true);
    }

    /// Notes that TLS was opened: the chunks of both sides are in clear from here on, and the client's next one begins with its first packet.
    pub fn opened(&mut self, at: Duration) {
        self.now = self.now.max(at);
        if matches!(
            self.phase,
            Phase::Answer(Encryption::Tls) | Phase::Tunnel | Phase::Done(Attention::Opaque)
        ) {
            self.tunnel = None;
            self.client = Framer::default();
            self.server = Framer::default();
            self.phase = Phase::First;
        }
    }

    /// What was seen so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What we did on our own part, to be filled in.
    pub fn legs(&mut self) -> &mut Legs {
        self.record.legs.get_or_insert_default()
    }

    /// Notes that `side` stopped sending.
    pub fn closed(&mut self, at: Duration, side: Side, how: Close) {
        self.now = self.now.max(at);
        if self.record.closes.len() < 4 {
            self.record.closes.push((side, how, at));
        }
        if self.phase == Phase::Settling {
            self.settle_if_late();
            self.settling_close(side);
        }
    }

    /// What the observer needs next.
    pub fn attention(&self) -> Attention {
        match self.phase {
            Phase::Done(attention) => attention,
            Phase::Settling => Attention::Settling,
            _ => Attention::Watching,
        }
    }

    /// The body of BackendKeyData (process id and secret), once it was seen: what a CancelRequest
    /// for this connection will carry.
    pub fn cancel_key(&self) -> Option<&[u8]> {
        Some(self.key.expose().as_slice()).filter(|key| !key.is_empty())
    }

    /// Bytes that are held back until what they belong to is whole; the record itself not counted.
    pub fn held(&self) -> usize {
        let tunnel = self.tunnel.as_ref().map_or(0, |tunnel| tunnel.held());
        self.client.ahead().len() + self.server.ahead().len() + tunnel
    }

    /// Ends the watch.
    pub fn finish(mut self) -> Record {
        let has_ended = matches!(
            self.phase,
            Phase::Settling | Phase::Done(Attention::Failed | Attention::Ready | Attention::Cancel)
        );
        if !has_ended {
            self.record.ended = self.now;
        }
        let step = self.step();
        self.record.step.get_or_insert(step);
        if let Some(tunnel) = &mut self.record.tls
            && self.record.ssl_request.is_none()
        {
            tunnel.direct = true;
        }
        *self.record
    }

    /// The step whose message is awaited or was last judged.
    fn step(&self) -> Step {
        match self.phase {
            Phase::First if self.record.ssl_request.is_some() => Step::SslRequest,
            Phase::First if self.record.gss_request.is_some() => Step::GssRequest,
            Phase::First => Step::Startup,
            Phase::Answer(Encryption::Tls) => Step::SslRequest,
            Phase::Answer(Encryption::Gss) => Step::GssRequest,
            Phase::Tunnel | Phase::Clear => Step::TlsHandshake,
            Phase::AuthRequest => Step::AuthRequest,
            Phase::Asked(step) | Phase::Answered(step) => step,
            Phase::SessionSetup => Step::SessionSetup,
            Phase::Done(Attention::Opaque) => Step::TlsHandshake,
            Phase::Settling | Phase::Done(_) => Step::Ready,
        }
    }

    /// Ends the handshake in the step it is in.
    fn end(&mut self, attention: Attention) {
        self.record.step.get_or_insert(match attention {
            Attention::Ready => Step::Ready,
            _ => self.step(),
        });
        self.record.ended = self.now;
        self.phase = Phase::Done(attention);
        self.client.abandon();
        self.server.abandon();
    }

    fn fail_at(&mut self, step: Step) {
        self.record.step = Some(step);
        self.end(Attention::Failed);
    }
}

/// What the client sends.
impl Observer {
    fn client_frames(&mut self) {
        loop {
            match self.phase {
                Phase::First => {
                    if !self.first_packet() {
                        return;
                    }
                }
                Phase::Answer(_) => {
                    // Nothing may be sent before the answer: a client that does lets someone in
                    // between smuggle plaintext into the encrypted session (CVE-2021-23222).
                    self.note_injected(Side::Client, self.client.ahead().len());
                    return;
                }
                Phase::Tunnel | Phase::Clear | Phase::Done(_) => return,
                Phase::Settling => return self.settling_client(),
                Phase::AuthRequest | Phase::Asked(_) | Phase::Answered(_) | Phase::SessionSetup => {
                    let mut client = std::mem::take(&mut self.client);
                    let more = match client.next(Kind::Tagged) {
                        None => false,
                        Some(Frame::Tagged { tag: b'p', body }) => {
                            self.response(body);
                            true
                        }
                        Some(Frame::Tagged { tag, .. } | Frame::Oversize { tag, .. }) => {
                            self.stray(tag);
                            true
                        }
                        Some(Frame::Broken { tag, .. }) => {
                            self.stray(tag.unwrap_or_default());
                            false
                        }
                        Some(Frame::Untagged { .. }) => false,
                    };
                    if !matches!(self.phase, Phase::Done(_)) {
                        self.client = client;
                    }
                    if !more {
                        return;
                    }
                }
            }
        }
    }

    /// Notes bytes in clear where none may be; the side that began is the one named.
    fn note_injected(&mut self, side: Side, count: usize) {
        match &mut self.record.injected {
            Some((from, so_far)) if *from == side => *so_far = count,
            Some(_) => {}
            None if count > 0 => self.record.injected = Some((side, count)),
            None => {}
        }
    }

    fn stray(&mut self, tag: u8) {
        let step = self.step();
        self.record.stray.get_or_insert((tag, step));
    }

    /// Reads one packet without a tag. `false` when more bytes are needed or nothing follows.
    fn first_packet(&mut self) -> bool {
        let Some(first) = classify(self.client.ahead()) else { return false };
        if self.record.first.is_none() {
            self.record.first = Some(first);
            self.record.client_start.truncate(start_kept(Some(first)));
        }
        match first {
            First::Tls => {
                if self.record.ssl_request.is_some() {
                    self.record.hello_after_no = true;
                    self.record.step = Some(Step::SslRequest);
                }
                self.open_tunnel();
                false
            }
            First::Http => {
                self.fail_at(Step::Startup);
                false
            }
            First::Malformed { length } => {
                self.record.startup_fault = Some(StartupFault::Length(length));
                self.fail_at(Step::Startup);
                false
            }
            _ => {
                let mut client = std::mem::take(&mut self.client);
                let whole = match client.next(Kind::Untagged) {
                    Some(Frame::Untagged { body }) => {
                        self.untagged(body);
                        true
                    }
                    _ => false,
                };
                if !matches!(self.phase, Phase::Done(_)) {
                    self.client = client;
                }
                whole
            }
        }
    }

    fn untagged(&mut self, body: &[u8]) {
        let asked = Negotiation { asked: self.now, answer: None };
        match Untagged::decode(body) {
            Ok(Untagged::SslRequest) => {
                self.record.ssl_request = Some(asked);
                self.phase = Phase::Answer(Encryption::Tls);
            }
            Ok(Untagged::GssEncRequest) => {
                self.record.gss_request = Some(asked);
                self.phase = Phase::Answer(Encryption::Gss);
            }
            Ok(Untagged::CancelRequest { pid, .. }) => {
                self.record.cancel = Some(pid);
                self.end(Attention::Cancel);
            }
            Ok(Untagged::Startup(startup)) => {
                let own = |(name, value): &(&[u8], &[u8])| (name.to_vec(), value.to_vec());
                let parameters = startup.parameters.iter().map(own).collect();
                self.record.startup =
                    Some(StartupSeen { at: self.now, version: startup.version, parameters });
                self.phase = Phase::AuthRequest;
            }
            Err(fault) => {
                // The server judges it: it may speak a version whose packets we do not know.
                self.record.startup_fault = Some(StartupFault::Field(fault));
                self.phase = Phase::AuthRequest;
            }
        }
    }

    /// A `p` message: what it is depends on what the server asked for.
    fn response(&mut self, body: &[u8]) {
        self.record.answered = Some(self.now);
        let Phase::Asked(step) = self.phase else { return self.stray(b'p') };
        let next = match step {
            Step::Password => {
                let password = decode_password(body).unwrap_or(body);
                self.record.cleartext = Some(Secret::new(password.to_vec()));
                Step::Password
            }
            Step::Md5 => {
                let response = decode_password(body).unwrap_or(body);
                self.record.md5.get_or_insert_default().response = Some(Secret::new(response.to_vec()));
                Step::Md5
            }
            Step::SaslMechanism => self.sasl_initial(body),
            Step::ScramServerFirst => {
                if let Err(fault) = self.client_final(body) {
                    self.scram_fault(Step::ScramClientFinal, fault);
                }
                Step::ScramClientFinal
            }
            Step::Gss => {
                self.record.gss_tokens.0 += 1;
                Step::Gss
            }
            step => step,
        };
        self.phase = Phase::Answered(next);
    }

    fn sasl_initial(&mut self, body: &[u8]) -> Step {
        let initial = match SaslInitialResponse::decode(body) {
            Ok(initial) => initial,
            Err(fault) => {
                self.record.sasl_fault = Some(fault);
                return Step::SaslMechanism;
            }
        };
        self.record.mechanism = Some(initial.mechanism.to_vec());
        let text = initial.response.unwrap_or_default();
        if initial.mechanism == b"OAUTHBEARER" {
            let oauth = self.record.oauth.get_or_insert_default();
            match OauthInitial::decode(text) {
                Ok(initial) => oauth.token_length = Some(initial.token_length),
                Err(fault) => self.record.sasl_fault = Some(fault),
            }
            return Step::Oauth;
        }
        if !initial.mechanism.starts_with(b"SCRAM-SHA-256") {
            return Step::SaslMechanism;
        }
        match ClientFirst::decode(text) {
            Ok(first) => {
                let (flag, binding_type) = match first.flag {
                    Gs2Flag::No => (b'n', None),
                    Gs2Flag::Yes => (b'y', None),
                    Gs2Flag::Bind(name) => (b'p', Some(name.to_vec())),
                };
                let seen = ClientFirstSeen {
                    at: self.now,
                    flag,
                    binding_type,
                    has_authzid: first.authzid.is_some(),
                    bare: first.bare.to_vec(),
                    user: first.user.to_vec(),
                    nonce: first.nonce.to_vec(),
                };
                self.record.scram.get_or_insert_default().client_first = Some(seen);
            }
            Err(fault) => self.scram_fault(Step::ScramClientFirst, fault),
        }
        Step::ScramClientFirst
    }

    fn client_final(&mut self, body: &[u8]) -> Result<(), WireError> {
        let message = ClientFinal::decode(body)?;
        let scram = self.record.scram.get_or_insert_default();
        let nonce = scram.server_first.as_ref().and_then(|first| nonce_of(&first.text));
        scram.client_final = Some(ClientFinalSeen {
            at: self.now,
            keeps_nonce: nonce == Some(message.nonce),
            without_proof: message.without_proof.to_vec(),
            binding: message.binding,
            proof: Secret::new(message.proof),
        });
        Ok(())
    }

    fn scram_fault(&mut self, step: Step, fault: WireError) {
        self.record.scram.get_or_insert_default().fault.get_or_insert((step, fault));
    }
}

/// What the server sends.
impl Observer {
    fn server_frames(&mut self) {
        loop {
            match self.phase {
                Phase::First => {
                    // Between a declined request and the startup packet the server has nothing to
                    // say. Before any request only another protocol speaks; `server_start` shows it.
                    if self.record.ssl_request.is_some() || self.record.gss_request.is_some() {
                        self.note_injected(Side::Server, self.server.ahead().len());
                    }
                    return;
                }
                Phase::Answer(encryption) => {
                    if !self.answer(encryption) {
                        return;
                    }
                }
                Phase::Clear => return self.clear_error(),
                Phase::Tunnel | Phase::Done(_) => return,
                Phase::Settling => return self.settling_server(),
                Phase::AuthRequest | Phase::Asked(_) | Phase::Answered(_) | Phase::SessionSetup => {
                    if !self.server_frame() {
                        return;
                    }
                }
            }
        }
    }

    /// The one byte that answers SSLRequest or GSSENCRequest. `false` when nothing follows.
    fn answer(&mut self, encryption: Encryption) -> bool {
        let Some(&byte) = self.server.ahead().first() else { return false };
        let answer = Some((byte, self.now));
        let (request, yes) = match encryption {
            Encryption::Tls => (&mut self.record.ssl_request, b'S'),
            Encryption::Gss => (&mut self.record.gss_request, b'G'),
        };
        if let Some(request) = request {
            request.answer = answer;
        }
        match byte {
            b'E' => {
                self.clear_error();
                false
            }
            _ if byte == yes || byte == b'N' => {
                self.server.step(1);
                if byte == b'N' {
                    self.phase = Phase::First;
                    self.client_frames();
                    return true;
                }
                if encryption == Encryption::Gss {
                    self.record.gss_encrypted = true;
                    self.end(Attention::Opaque);
                    return false;
                }
                self.open_tunnel();
                false
            }
            _ => {
                self.record.server_not_postgres = true;
                self.end(Attention::Failed);
                false
            }
        }
    }

    /// The server answers a request for encryption, or a ClientHello, in clear: with an error in
    /// either form once it is whole, or with something that is no PostgreSQL.
    fn clear_error(&mut self) {
        let Some(&byte) = self.server.ahead().first() else { return };
        if byte == b'E' {
            self.server_frame();
        } else {
            self.record.server_not_postgres = true;
            self.end(Attention::Failed);
        }
    }

    /// Reads one message of the server. `false` when more bytes are needed or nothing follows.
    fn server_frame(&mut self) -> bool {
        if self.phase == Phase::AuthRequest
            && self.record.requests.is_empty()
            && self.server.ahead().first().is_some_and(|tag| !b"RENSKZv".contains(tag))
        {
            // Told by the first byte alone: what follows it may never be a whole frame.
            self.record.server_not_postgres = true;
            self.end(Attention::Failed);
            return false;
        }
        let mut server = std::mem::take(&mut self.server);
        let more = if let Some(text) = version_2_text(server.ahead()) {
            let fields = vec![(b'M', text.trim_ascii_end().to_vec())];
            self.record.error = Some(ErrorSeen { at: self.now, fields, version_2: true });
            self.end(Attention::Failed);
            false
        } else if is_unfinished_version_2(server.ahead()) {
            false
        } else {
            match server.next(Kind::Tagged) {
                None | Some(Frame::Untagged { .. }) => false,
                Some(Frame::Tagged { tag, body }) => {
                    self.message(tag, body);
                    true
                }
                Some(Frame::Oversize { .. }) if !self.in_clear_before_startup() => {
                    self.server_fault(invalid("message length"));
                    true
                }
                Some(Frame::Oversize { .. } | Frame::Broken { .. }) => {
                    self.server_fault(invalid("message length"));
                    self.record.server_not_postgres |=
                        self.phase == Phase::AuthRequest || self.in_clear_before_startup();
                    self.end(Attention::Failed);
                    false
                }
            }
        };
        if !matches!(self.phase, Phase::Done(_)) {
            self.server = server;
        }
        more
    }

    /// Whether only an error may come from the server.
    fn in_clear_before_startup(&self) -> bool {
        matches!(self.phase, Phase::Answer(_) | Phase::Clear)
    }

    fn server_fault(&mut self, fault: WireError) {
        let step = self.step();
        self.record.server_fault.get_or_insert((step, fault));
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        match Backend::decode(tag, body) {
            Ok(Backend::Authentication(request)) => self.authentication(&request),
            Ok(Backend::Error(fields)) => {
                self.record.error = Some(ErrorSeen::new(self.now, &fields));
                self.end(Attention::Failed);
            }
            Ok(Backend::Notice(fields)) => {
                if self.record.notices.len() < MAX_NOTICES {
                    self.record.notices.push(ErrorSeen::new(self.now, &fields));
                }
            }
            Ok(Backend::ParameterStatus { name, value }) => {
                let parameters = &mut self.record.session.parameters;
                let kept: usize = parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
                let room = kept + name.len() + value.len() <= MAX_PARAMETER_BYTES;
                if room && parameters.len() < MAX_PARAMETER_STATUS {
                    parameters.push((name.to_vec(), value.to_vec()));
                }
            }
            Ok(Backend::BackendKeyData { pid, secret }) => {
                self.record.session.pid = Some(pid);
                self.record.session.secret_length = Some(secret.len());
                self.key = Secret::new(body.to_vec());
            }
            Ok(Backend::ReadyForQuery(_)) if self.phase == Phase::SessionSetup => {
                self.record.session.ready = Some(self.now);
                self.ready();
            }
            Ok(Backend::NegotiateProtocolVersion { newest, unrecognized }) => {
                if self.record.negotiations.len() < MAX_NOTICES {
                    let options = unrecognized.iter().map(|option| option.to_vec()).collect();
                    self.record.negotiations.push((newest, options));
                }
            }
            Ok(Backend::Other { .. } | Backend::ReadyForQuery(_)) => {
                self.server_fault(invalid("message type"));
                if self.phase == Phase::AuthRequest && self.record.requests.is_empty() {
                    self.record.server_not_postgres = true;
                    self.end(Attention::Failed);
                }
            }
            Err(fault) => self.broken_message(tag, fault),
        }
    }

    /// A message of the right type that breaks its grammar. An error stays an error: it ends the
    /// login whatever its fields are.
    fn broken_message(&mut self, tag: u8, fault: WireError) {
        self.server_fault(fault);
        if tag == b'E' {
            self.record.error = Some(ErrorSeen { at: self.now, ..ErrorSeen::default() });
            self.end(Attention::Failed);
        }
    }

    fn authentication(&mut self, request: &Authentication<'_>) {
        if !matches!(
            request,
            Authentication::Ok | Authentication::SaslContinue(_) | Authentication::SaslFinal(_)
        ) {
            self.record.requests.truncate(MAX_REQUESTS - 1);
            self.record.requests.push(Request { code: request.code(), at: self.now });
        }
        self.phase = match request {
            Authentication::Ok => {
                self.record.session.authenticated = Some(self.now);
                Phase::SessionSetup
            }
            Authentication::Cleartext => Phase::Asked(Step::Password),
            Authentication::Md5(salt) => {
                self.record.md5 = Some(Md5Seen { salt: *salt, response: None });
                Phase::Asked(Step::Md5)
            }
            Authentication::Sasl(mechanisms) => {
                self.record.mechanisms = mechanisms.iter().map(|name| name.to_vec()).collect();
                Phase::Asked(Step::SaslMechanism)
            }
            Authentication::SaslContinue(text) => self.sasl_continue(text),
            Authentication::SaslFinal(text) => {
                match ServerFinal::decode(text) {
                    Ok(last) => {
                        let last = match last {
                            ServerFinal::Signature(bytes) => ServerFinalSeen::Signature(Secret::new(bytes)),
                            ServerFinal::Error(reason) => ServerFinalSeen::Error(reason.to_vec()),
                        };
                        self.record.scram.get_or_insert_default().server_final = Some(last);
                    }
                    Err(fault) => self.scram_fault(Step::ScramServerFinal, fault),
                }
                Phase::Answered(Step::ScramServerFinal)
            }
            Authentication::GssContinue(_) => {
                self.record.gss_tokens.1 += 1;
                Phase::Asked(Step::Gss)
            }
            Authentication::Gss | Authentication::Sspi => Phase::Asked(Step::Gss),
            Authentication::Kerberos(_)
            | Authentication::Crypt(_)
            | Authentication::Scm
            | Authentication::Digest(_)
            | Authentication::Unknown { .. } => Phase::Asked(Step::AuthRequest),
        };
        self.client_frames();
    }

    fn sasl_continue(&mut self, text: &[u8]) -> Phase {
        if let Some(oauth) = &mut self.record.oauth {
            oauth.discovery = Some(text.to_vec());
            return Phase::Asked(Step::Oauth);
        }
        match ServerFirst::decode(text) {
            Ok(first) => {
                let scram = self.record.scram.get_or_insert_default();
                let client_nonce = scram.client_first.as_ref().map(|first| first.nonce.as_slice());
                scram.server_first = Some(ServerFirstSeen {
                    at: self.now,
                    text: text.to_vec(),
                    extends_nonce: client_nonce.is_some_and(|nonce| {
                        first.nonce.starts_with(nonce) && first.nonce.len() > nonce.len()
                    }),
                    salt: first.salt,
                    iterations: first.iterations,
                });
            }
            Err(fault) => self.scram_fault(Step::ScramServerFirst, fault),
        }
        Phase::Asked(Step::ScramServerFirst)
    }
}

/// `E` and a length word that no error has: the rest of a version 2 error is still to come.
fn is_unfinished_version_2(ahead: &[u8]) -> bool {
    match ahead {
        [b'E', rest @ ..] => rest.first_chunk::<4>().is_some_and(|word| {
            !(8..=30_000).contains(&u32::from_be_bytes(*word)) && rest.len() < MAX_VERSION_2
        }),
        _ => false,
    }
}

fn nonce_of(server_first: &[u8]) -> Option<&[u8]> {
    let rest = server_first.strip_prefix(b"r=")?;
    rest.split(|&byte| byte == b',').next()
}

/// How many of the client's first bytes are kept: none that could be a secret.
fn start_kept(first: Option<First>) -> usize {
    match first {
        Some(First::Startup { length, .. }) => length.min(FIRST_BYTES),
        Some(First::SslRequest | First::GssEncRequest | First::CancelRequest) => 8,
        Some(First::Malformed { .. }) => 4,
        Some(First::Http | First::Tls) | None => FIRST_BYTES,
    }
}

/// Keeps the first bytes of a side.
fn keep(kept: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(kept.len());
    kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
}
