//! Both legs of a connection until the client's startup packet may go to the server: who asks whom
//! for TLS, who opens it, and what happens where one of them says no.
//!
//! ```text
//! client ── SSLRequest ──▶ open here? ── no ──▶ carry everything as it is
//!                             │ yes
//!                             ▼
//!              ask the server (mirror) ── N ──▶ N, in clear on both legs
//!                             │ S
//!                             ▼
//!        S, read the ClientHello ─▶ TLS with the server ─▶ TLS with the client ─▶ first packet
//!                                        │ auto, and it would not do
//!                                        ▼
//!                            dial again, pass the ClientHello on unopened
//! ```

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::certs::Certificate;
use crate::handshake::opened::{Awaits, FaultKind, FellBack, PassedThrough, TlsFault};
use crate::handshake::{Close, Side};
use crate::password::bridge::Worth;
use crate::wire::error_fields::ErrorFields;
use crate::wire::first::First;
use crate::wire::frontend::Untagged;
use crate::wire::tls::{ClientHello, Records, Seen};

use super::attempt::Ending;
use super::endpoint::{PeerAddr, Stream};
use super::greeting::{ENCRYPTION_REQUEST, greet, more};
use super::login::{Ends, Facts, NO_SERVER_TLS, Step, Verdict, over, while_awaited};
use super::shared::Shared;
use super::tls::{ALPN, ClientTls, PATIENCE, ServerTls};
use super::watch::Watch;

/// Where the meeting has led.
pub(super) enum Met {
    /// Both ends are there, and what the client sent is on its way.
    Both,
    /// A cancel request waits to be brought to its server.
    Cancel,
}

/// What follows an encryption request.
enum Next {
    /// The client's next first packet.
    Greet,
    /// Everything passes as it is.
    Carry,
}

/// Meets the client, and the server as far as the client's wishes need it.
pub(super) async fn meet(
    shared: &Shared,
    ends: &mut Ends,
    facts: &mut Facts,
    watch: &mut Watch<'_>,
) -> Step<Met> {
    loop {
        let Some(client) = &mut ends.client else { return over(Ending::Closed) };
        let first = match greet(&shared.tls, client, facts, watch).await {
            Ok(first) => first,
            Err(ending) => return over(ending),
        };
        let inside = client.is_tls();
        let opens = !inside && shared.tls.opens(facts.peer.ip());
        let mut meeting = Meeting { shared, ends, facts, watch };
        let next = match first {
            First::CancelRequest => return Ok(Met::Cancel),
            // Carried, it would lead around all that TLS is asked for here.
            First::SslRequest | First::GssEncRequest | First::Tls
                if inside || meeting.facts.declined.contains(&first) =>
            {
                return meeting.asks_again(first);
            }
            First::SslRequest if opens => Box::pin(meeting.ssl_request()).await?,
            First::SslRequest if !meeting.mirrors() => Box::pin(meeting.relay_request(first)).await?,
            First::GssEncRequest if opens => Box::pin(meeting.relay_request(first)).await?,
            First::Tls if opens => Box::pin(meeting.direct()).await?,
            // On the heap, as the others: a login that is carried as it is has no need of their room.
            First::Startup { .. } if !meeting.is_plain() => {
                Box::pin(meeting.startup()).await?;
                return Ok(Met::Both);
            }
            _ => Next::Carry,
        };
        if matches!(next, Next::Carry) {
            meeting.plain_server().await?;
            return Ok(Met::Both);
        }
    }
}

/// One meeting.
struct Meeting<'m, 'w> {
    shared: &'m Shared,
    ends: &'m mut Ends,
    facts: &'m mut Facts,
    watch: &'m mut Watch<'w>,
}

impl Meeting<'_, '_> {
    /// The client asks for TLS, and we mean to open it.
    async fn ssl_request(&mut self) -> Step<Next> {
        self.request_alone()?;
        self.dial_to_meet().await?;
        if self.meets_server_first() {
            let answer = self.ask_for_tls().await?;
            if answer != b'S' {
                return self.relay_answer(First::SslRequest, answer).await;
            }
        }
        self.answer(b"S").await?;
        let hello = self.hello().await?;
        self.open(hello, false).await
    }

    /// The client asks for an encryption that is the server's business. Where that declines, the next request is ours
    /// to look at.
    async fn relay_request(&mut self, request: First) -> Step<Next> {
        self.request_alone()?;
        let answer = match request {
            First::GssEncRequest => self.ask(Untagged::GssEncRequest).await?,
            _ => self.ask(Untagged::SslRequest).await?,
        };
        self.relay_answer(request, answer).await
    }

    /// A second request for an encryption that was declined, or one inside TLS: to PostgreSQL that is a protocol version
    /// that it does not know (`ProcessStartupPacket`).
    fn asks_again<T>(&mut self, request: First) -> Step<T> {
        self.watch.look_at_first_bytes();
        let message = match request {
            First::GssEncRequest => {
                "unsupported frontend protocol 1234.5680: encryption was asked for before"
            }
            _ => "unsupported frontend protocol 1234.5679: encryption was asked for before",
        };
        Err(Box::new(Verdict::Refused(Ending::Failed, "0A000", message)))
    }

    /// The client begins with TLS at once.
    async fn direct(&mut self) -> Step<Next> {
        let hello = self.hello().await?;
        let named = |hello: &ClientHello| hello.alpn.iter().any(|name| name.as_bytes() == ALPN);
        if !hello.as_ref().is_some_and(named) {
            if self.shared.tls.config.client == ClientTls::Auto {
                // The server has its own way to refuse that.
                return Ok(Next::Carry);
            }
            self.look_at_hello();
            return self.fail(TlsFault { leg: Side::Client, ..self.fault(FaultKind::Alpn) });
        }
        self.dial_to_meet().await?;
        if self.meets_server_first() && self.shared.tls.config.client == ClientTls::Auto {
            self.plain_server().await?;
        } else if self.meets_server_first() {
            let answer = self.ask_for_tls().await?;
            if answer != b'S' {
                self.look_at_hello();
                return self.fail(self.fault(FaultKind::Declined(answer)));
            }
        }
        self.open(hello, true).await
    }

    /// An encryption request is one packet alone; what comes behind it before the answer was put there
    /// by somebody in between (CVE-2021-23214 and its kin).
    fn request_alone(&mut self) -> Step<()> {
        let behind = self.watch.first_bytes().len().saturating_sub(ENCRYPTION_REQUEST);
        self.watch.look_at_first_bytes();
        self.facts.asked = true;
        if behind > 0 { over(Ending::PlaintextInjected { bytes: behind }) } else { Ok(()) }
    }

    /// Nothing to decide: the server is met in clear, as the client has been.
    fn is_plain(&self) -> bool {
        let tls = &self.shared.tls;
        self.mirrors() && !tls.terminates()
    }

    fn mirrors(&self) -> bool {
        self.shared.tls.config.server == ServerTls::Mirror
    }

    /// Whether TLS with the server comes before TLS with the client: so that the client gets the server's own answer,
    /// and `auto` knows what it would break. On a Unix socket there is none, as in libpq, unless the client's is mirrored.
    fn meets_server_first(&self) -> bool {
        let config = &self.shared.tls.config;
        let begins = !matches!(config.server, ServerTls::Disable | ServerTls::Allow);
        self.mirrors() || (config.client == ClientTls::Auto && begins && !self.is_on_socket())
    }

    /// Whether the server that was reached is on a Unix socket: libpq uses no TLS there, whatever sslmode says.
    fn is_on_socket(&self) -> bool {
        matches!(self.facts.server, Some(PeerAddr::Unix(_)))
    }

    /// Whether TLS with the server is up already.
    fn has_server_tls(&self) -> bool {
        self.ends.server.as_ref().is_some_and(Stream::is_tls)
    }

    /// Only who has been reached is known to be on a Unix socket.
    async fn dial_to_meet(&mut self) -> Step<()> {
        if !self.mirrors() && self.meets_server_first() { self.plain_server().await } else { Ok(()) }
    }

    async fn dial(&mut self) -> Step<()> {
        self.ends.server = None;
        let dialling = self.shared.dialer.dial(self.facts.accepted, &mut self.facts.dials);
        let Some(reached) = while_awaited(self.ends.client.as_ref(), dialling).await else {
            return self.left(Ending::NoServer);
        };
        let Some(reached) = reached else {
            self.watch.look_at_first_bytes();
            let message = "pgwhy could not reach the database server (see pgwhy's report)";
            return Err(Box::new(Verdict::Refused(Ending::NoServer, "08001", message)));
        };
        self.facts.reached(&reached);
        self.ends.server = Some(Stream::Plain(reached.socket));
        Ok(())
    }

    /// The client is gone, and nobody has answered it.
    fn left<T>(&mut self, ending: Ending) -> Step<T> {
        self.watch.look_at_first_bytes();
        self.watch.note_close(Side::Client, Close::Eof);
        over(ending)
    }

    async fn plain_server(&mut self) -> Step<()> {
        if self.ends.server.is_none() { self.dial().await } else { Ok(()) }
    }

    /// Asks the server for TLS, unless it is to begin without a question (`sslnegotiation=direct`).
    async fn ask_for_tls(&mut self) -> Step<u8> {
        match self.shared.tls.config.direct {
            true => self.plain_server().await.map(|()| b'S'),
            false => self.ask(Untagged::SslRequest).await,
        }
    }

    /// Asks the server, and gives its one byte; nothing may follow an `S` in clear.
    async fn ask(&mut self, request: Untagged<'_>) -> Step<u8> {
        self.plain_server().await?;
        self.awaits(Some(Awaits::ServerAnswer));
        let Some(server) = &mut self.ends.server else { return over(Ending::Closed) };
        let mut packet = Vec::with_capacity(ENCRYPTION_REQUEST);
        request.encode(&mut packet);
        let mut answer = [0; 16];
        let asked = async {
            server.write_all(&packet).await?;
            server.read(&mut answer).await
        };
        let Some(count) = while_awaited(self.ends.client.as_ref(), asked).await else {
            return self.left(Ending::Closed);
        };
        self.awaits(None);
        match count {
            Ok(0) | Err(_) => {
                let how = if count.is_ok() { Close::Eof } else { Close::Reset };
                self.watch.note_close(Side::Server, how);
                over(Ending::Closed)
            }
            Ok(count) => {
                let byte = answer.first().copied().unwrap_or_default();
                if !matches!(byte, b'S' | b'G' | b'N') {
                    // An error message, or another protocol: whoever asked gets it whole.
                    self.watch.put(Side::Server, answer.get(..count).unwrap_or_default());
                } else if count > 1 && byte == b'S' {
                    return self.fail(self.fault(FaultKind::Injected(count - 1)));
                }
                Ok(byte)
            }
        }
    }

    /// Gives the server's own answer to the client.
    async fn relay_answer(&mut self, request: First, answer: u8) -> Step<Next> {
        let granted = if request == First::GssEncRequest { b'G' } else { b'S' };
        if answer == b'N' {
            self.facts.declined.push(request);
            self.answer(b"N").await?;
            return Ok(Next::Greet);
        }
        if answer != granted && (self.shared.tls.terminates() || !self.mirrors()) {
            // Some clients take anything else for an `N`: carried, it would lead around what TLS is asked for here.
            return self.last_words(answer).await;
        }
        if matches!(answer, b'S' | b'G') {
            self.answer(&[answer]).await?;
        }
        Ok(Next::Carry)
    }

    /// The client gets what the server says instead of an answer, and the server hears nothing more.
    async fn last_words<T>(&mut self, answer: u8) -> Step<T> {
        let mut words = self.watch.drop_put(Side::Server);
        if words.is_empty() {
            words.push(answer);
        }
        if let Some(server) = &mut self.ends.server {
            let mut rest = vec![0; MOST_WORDS];
            // Who goes on, or says nothing more, has said enough.
            if let Ok(Ok(count)) = timeout(A_MOMENT, server.read(&mut rest)).await {
                words.extend_from_slice(rest.get(..count).unwrap_or_default());
            }
        }
        self.ends.server = None;
        self.answer(&words).await?;
        Err(Box::new(Verdict::Told(Ending::Failed)))
    }

    async fn answer(&mut self, bytes: &[u8]) -> Step<()> {
        let Some(client) = &mut self.ends.client else { return over(Ending::Closed) };
        if client.write_all(bytes).await.is_err() {
            self.watch.note_close(Side::Client, Close::Reset);
            return over(Ending::Closed);
        }
        self.watch.look(Side::Server, bytes);
        Ok(())
    }

    /// Reads the ClientHello; it stays among the first bytes. `None` where they are no TLS.
    async fn hello(&mut self) -> Step<Option<ClientHello>> {
        self.awaits(Some(Awaits::Client));
        loop {
            let bytes = self.watch.first_bytes();
            let (mut hello, mut other) = (None, false);
            let mut records = Records::default();
            records.push(bytes, |seen| match seen {
                Seen::ClientHello(seen) => hello = Some(seen),
                Seen::NotTls => other = true,
                _ => {}
            });
            if hello.is_some() || other || bytes.len() > MAX_HELLO {
                return Ok(hello);
            }
            let Some(client) = &mut self.ends.client else { return over(Ending::Closed) };
            if let Err(ending) = more(client, self.watch, true).await {
                return over(ending);
            }
        }
    }

    /// Notes whose turn it is, for a deadline that passes meanwhile.
    fn awaits(&mut self, whom: Option<Awaits>) {
        self.watch.observer.legs().awaits = whom;
    }

    fn look_at_hello(&mut self) {
        self.watch.look_at_first_bytes();
    }

    /// TLS on both legs; the server first, so that nothing is promised that can't be kept.
    async fn open(&mut self, hello: Option<ClientHello>, direct: bool) -> Step<Next> {
        let name = hello.as_ref().and_then(|hello| hello.server_name.clone());
        if self.meets_server_first()
            && let Some(why) = self.open_server(name.as_deref()).await?
        {
            return self.pass(why, direct).await;
        }
        let Some(side) = self.shared.tls.server_side() else { return over(Ending::Closed) };
        let bytes = self.watch.first_bytes().to_vec();
        self.look_at_hello();
        let Some(socket) = self.ends.client.take().and_then(Stream::into_socket) else {
            return over(Ending::Closed);
        };
        let accepted = self.facts.accepted;
        self.awaits(Some(Awaits::Client));
        let shaken = side.accept(socket, bytes, accepted).await;
        self.awaits(None);
        match shaken {
            Ok((stream, mut seen)) => {
                self.ends.client = Some(stream);
                seen.direct = direct;
                seen.shown = Some(side.leaf().to_vec());
                self.watch.observer.legs().client = Some(seen);
                self.compare_certificates();
                self.watch.opened();
                Ok(Next::Greet)
            }
            Err((mut fault, seen)) => {
                if fault.kind == FaultKind::Cipher && hello.is_some_and(|hello| is_too_old(&hello)) {
                    // What such a client lacks first depends on the library's order of looking.
                    fault.kind = FaultKind::Version;
                }
                self.watch.observer.legs().client = Some(seen);
                if is_ours(&fault.kind)
                    && self.meets_server_first()
                    && self.shared.tls.pass_from_now_on(self.facts.peer.ip())
                {
                    self.watch.observer.legs().passed_through = Some(PassedThrough::ClientNeeds);
                }
                self.fail(fault)
            }
        }
    }

    /// TLS with the server on the client's behalf; the answer is why `auto` had better not.
    async fn open_server(&mut self, client_sni: Option<&str>) -> Step<Option<PassedThrough>> {
        let auto = self.shared.tls.config.client == ClientTls::Auto;
        let passes = auto && !self.shared.tls.insists();
        let Some(socket) = self.ends.server.take().and_then(Stream::into_socket) else {
            return over(Ending::Closed);
        };
        let connector = &self.shared.tls.connector;
        let host = self.facts.host.clone();
        self.awaits(Some(Awaits::ServerTls));
        let connecting =
            connector.connect(socket, &host, client_sni, self.shared.tls.verify(), self.facts.accepted);
        let connected = if passes {
            match timeout(PATIENCE, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    self.awaits(None);
                    return Ok(Some(PassedThrough::ServerFailed));
                }
            }
        } else {
            match while_awaited(self.ends.client.as_ref(), connecting).await {
                Some(connected) => connected,
                None => return self.left(Ending::Closed),
            }
        };
        self.awaits(None);
        match connected {
            Ok((stream, seen)) => {
                let side = self.shared.tls.server_side();
                let leaf = seen.chain.first().map(Vec::as_slice);
                let own = side.as_ref().is_some_and(|side| side.is_given() && leaf == Some(side.leaf()));
                let login = self.shared.tls.config.login.as_ref().filter(|_| auto && !own);
                let unfit = if seen.certificate_requested && !connector.has_certificate() {
                    Some(PassedThrough::CertificateRequested)
                } else if !own && self.shared.tls.config.login.is_none() {
                    Some(PassedThrough::OtherCertificate)
                } else {
                    None
                };
                if let Some(why) = unfit.filter(|_| passes) {
                    self.shared.tls.pass_from_now_on(self.facts.peer.ip());
                    return Ok(Some(why));
                }
                if let Some(login) = login
                    && passes
                    && self.shared.worth(login, true).await == Worth::Fails
                {
                    return Ok(Some(PassedThrough::PasswordRefused));
                }
                self.watch.observer.legs().server = Some(seen);
                self.ends.server = Some(stream);
                Ok(None)
            }
            // A certificate that was to be verified is refused; anything else may be for want of what the client has.
            Err(refused)
                if passes && (self.mirrors() || !matches!(refused.fault.kind, FaultKind::Certificate(_))) =>
            {
                Ok(Some(PassedThrough::ServerFailed))
            }
            Err(refused) => {
                let legs = self.watch.observer.legs();
                (legs.server, legs.fault) = (Some(refused.seen), Some(refused.fault));
                self.tell_inside().await
            }
        }
    }

    /// The client has been promised TLS: it is opened, so that the reason arrives.
    async fn tell_inside<T>(&mut self) -> Step<T> {
        let bytes = self.watch.first_bytes().to_vec();
        self.look_at_hello();
        let socket = self.ends.client.take().and_then(Stream::into_socket);
        if let (Some(side), Some(socket)) = (self.shared.tls.server_side(), socket)
            && let Ok((stream, seen)) = side.accept(socket, bytes, self.facts.accepted).await
        {
            self.watch.observer.legs().client = Some(seen);
            self.ends.client = Some(stream);
        }
        Err(Box::new(Verdict::Refused(Ending::Failed, "08006", NO_SERVER_TLS)))
    }

    /// Back to carrying TLS unopened, with a fresh connection: the server's has begun with us.
    async fn pass(&mut self, why: PassedThrough, direct: bool) -> Step<Next> {
        let hello = self.watch.drop_put(Side::Client);
        self.dial().await?;
        if !direct && self.ask_for_tls().await? != b'S' {
            return over(Ending::Closed);
        }
        self.watch.put(Side::Client, &hello);
        self.watch.observer.legs().passed_through = Some(why);
        Ok(Next::Carry)
    }

    /// Notes whether the client was shown the server's own certificate, once both legs have TLS.
    fn compare_certificates(&mut self) {
        let legs = self.watch.observer.legs();
        let servers = legs.server.as_ref().and_then(|server| server.chain.first());
        if let Some(client) = &mut legs.client {
            client.has_servers_certificate = servers.is_some() && servers == client.shown.as_ref();
        }
    }

    fn fault(&self, kind: FaultKind) -> TlsFault {
        self.shared.tls.connector.fault(kind, &self.facts.host)
    }

    fn fail<T>(&mut self, fault: TlsFault) -> Step<T> {
        self.watch.observer.legs().fault = Some(fault);
        over(Ending::Failed)
    }
}

/// The server's leg, where it does not mirror the client's.
impl Meeting<'_, '_> {
    /// The client's startup packet is there: the server is met as `server_tls` says.
    async fn startup(&mut self) -> Step<()> {
        let client_tls = self.ends.client.as_ref().is_some_and(Stream::is_tls);
        if self.shared.tls.requires_client_tls() && !client_tls {
            self.watch.look_at_first_bytes();
            let fault = TlsFault { leg: Side::Client, ..self.fault(FaultKind::Required) };
            self.watch.observer.legs().fault = Some(fault);
            let message = "pgwhy accepts only TLS here (--client-tls)";
            return Err(Box::new(Verdict::Refused(Ending::Failed, "28000", message)));
        }
        if self.shared.tls.config.client == ClientTls::VerifyFull {
            self.certificate_names_user()?;
        }
        match self.shared.tls.config.server {
            mode if self.has_server_tls() && mode != ServerTls::Prefer => Ok(()),
            ServerTls::Mirror | ServerTls::Disable => self.plain_server().await,
            ServerTls::Prefer => self.first_then_other(true).await,
            ServerTls::Allow => self.first_then_other(false).await,
            ServerTls::Require | ServerTls::VerifyCa | ServerTls::VerifyFull => {
                self.dial().await?;
                self.insist_on_tls().await
            }
        }
    }

    /// As PostgreSQL's `clientcert=verify-full`: the common name is the user's, or (`clientname=DN`) the whole
    /// distinguished name is.
    fn certificate_names_user(&mut self) -> Step<()> {
        let startup = self.watch.first_bytes();
        let user = startup_user(startup);
        let legs = self.watch.observer.legs();
        let leaf = legs.client.as_ref().and_then(|client| client.chain.first());
        let subject = leaf.and_then(|leaf| Certificate::parse(leaf).ok()).map(|leaf| leaf.subject);
        let is_user = |name: &str| !name.is_empty() && Some(name.as_bytes()) == user.as_deref();
        if let Some(subject) = &subject
            && (subject.common_name.as_deref().is_some_and(is_user) || is_user(&subject.rfc2253))
        {
            return Ok(());
        }
        let common_name = subject.and_then(|subject| subject.common_name);
        self.watch.look_at_first_bytes();
        let kind = FaultKind::UserMismatch { common_name };
        self.watch.observer.legs().fault = Some(TlsFault { leg: Side::Client, ..self.fault(kind) });
        let message = "the client certificate does not name this user (pgwhy, --client-tls verify-full)";
        Err(Box::new(Verdict::Refused(Ending::Failed, "28000", message)))
    }

    /// Asks the server for TLS and does the handshake; the inner error is a reason to fall back.
    async fn begin_tls(&mut self) -> Step<Result<(), Box<TlsFault>>> {
        if self.is_on_socket() {
            return Ok(Ok(()));
        }
        if !self.shared.tls.config.direct {
            let answer = self.ask(Untagged::SslRequest).await?;
            self.watch.observer.legs().server_answer = Some(answer);
            if answer != b'S' {
                self.watch.drop_put(Side::Server);
                return Ok(Err(Box::new(self.fault(FaultKind::Declined(answer)))));
            }
        }
        let Some(socket) = self.ends.server.take().and_then(Stream::into_socket) else {
            return over(Ending::Closed);
        };
        let connector = &self.shared.tls.connector;
        let verify = self.shared.tls.verify();
        let host = self.facts.host.clone();
        let asked = self.watch.observer.legs().client.as_ref().and_then(|client| client.server_name.clone());
        self.awaits(Some(Awaits::ServerTls));
        let connecting = connector.connect(socket, &host, asked.as_deref(), verify, self.facts.accepted);
        let Some(connected) = while_awaited(self.ends.client.as_ref(), connecting).await else {
            return self.left(Ending::Closed);
        };
        self.awaits(None);
        match connected {
            Ok((stream, mut seen)) => {
                seen.direct = self.shared.tls.config.direct;
                self.ends.server = Some(stream);
                self.watch.observer.legs().server = Some(seen);
                self.compare_certificates();
                Ok(Ok(()))
            }
            Err(mut refused) => {
                refused.seen.direct = self.shared.tls.config.direct;
                self.watch.observer.legs().server = Some(refused.seen);
                Ok(Err(Box::new(refused.fault)))
            }
        }
    }

    /// libpq's `prefer` (TLS first) and `allow` (TLS second): the other way where the first one is
    /// declined, fails, or is refused with an error before any authentication request
    /// (fe-connect.c, PQconnectPoll, CONNECTION_AWAITING_RESPONSE). libpq goes on to retry after a refused
    /// password too; we can't, as only the client can log in again.
    async fn first_then_other(&mut self, tls_first: bool) -> Step<()> {
        let begun = self.has_server_tls();
        if !begun {
            self.dial().await?;
        }
        let on_socket = self.is_on_socket();
        let mut why = None;
        if tls_first && !begun && !on_socket {
            match self.begin_tls().await? {
                // The same connection goes on in clear.
                Err(fault) if matches!(fault.kind, FaultKind::Declined(b'N')) => return Ok(()),
                Err(fault) => why = Some(fault.kind.words()),
                Ok(()) => {}
            }
        }
        if why.is_none() {
            if on_socket {
                return Ok(());
            }
            match self.try_startup().await? {
                None => return Ok(()),
                Some(refusal) => {
                    self.watch.first_bytes_sent(false);
                    why = Some(refusal);
                }
            }
        }
        let from_tls = tls_first;
        self.watch.observer.legs().fell_back = Some(FellBack { from_tls, why: why.unwrap_or_default() });
        self.dial().await?;
        if tls_first {
            self.watch.observer.legs().server = None;
            return Ok(());
        }
        self.insist_on_tls().await
    }

    /// TLS with the server, or the end.
    async fn insist_on_tls(&mut self) -> Step<()> {
        let Err(fault) = self.begin_tls().await? else { return Ok(()) };
        self.watch.look_at_first_bytes();
        self.watch.observer.legs().fault = Some(*fault);
        Err(Box::new(Verdict::Refused(Ending::Failed, "08006", NO_SERVER_TLS)))
    }

    /// Sends the startup packet and reads the first answer; an error message is a reason to try the other
    /// way, anything else is put into our hands.
    async fn try_startup(&mut self) -> Step<Option<String>> {
        let startup = self.watch.first_bytes().to_vec();
        self.watch.first_bytes_sent(true);
        let Some(server) = &mut self.ends.server else { return over(Ending::Closed) };
        let mut answer = vec![0; 4096];
        let asked = async {
            server.write_all(&startup).await?;
            server.flush().await?;
            server.read(&mut answer).await
        };
        let Some(count) = while_awaited(self.ends.client.as_ref(), asked).await else {
            return self.left(Ending::Closed);
        };
        let count = count.unwrap_or(0);
        if count == 0 {
            return Ok(Some("the server closed".into()));
        }
        if answer.first() == Some(&b'E') {
            let fields = answer.get(5..count).and_then(|body| ErrorFields::decode(body).ok());
            let said = fields.as_ref().and_then(|fields| fields.get(b'M')).unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(said).into_owned()));
        }
        self.watch.look_at_first_bytes();
        self.watch.put(Side::Server, answer.get(..count).unwrap_or_default());
        Ok(None)
    }
}

/// Whether a client's handshake may have failed because it met us and not the server: what is no TLS would have failed
/// there, too.
fn is_ours(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Alert(_) | FaultKind::Closed | FaultKind::Version | FaultKind::Cipher | FaultKind::Alpn
    )
}

/// Whether a client offers nothing that we speak.
fn is_too_old(hello: &ClientHello) -> bool {
    hello.versions.iter().all(|word| *word < TLS_1_2)
}

/// The user of a startup packet.
fn startup_user(packet: &[u8]) -> Option<Vec<u8>> {
    match Untagged::decode(packet.get(4..)?).ok()? {
        Untagged::Startup(startup) => {
            let user = startup.parameters.iter().rev().find(|(name, _)| *name == b"user");
            user.map(|(_, value)| value.to_vec())
        }
        _ => None,
    }
}

/// Read of an error in the place of an answer to an SSLRequest; PostgreSQL's has a few hundred bytes.
const MOST_WORDS: usize = 8 * 1024;

/// How long the rest of such an error may take.
const A_MOMENT: Duration = Duration::from_secs(1);

/// TLS 1.2 on the wire.
const TLS_1_2: u16 = 0x0303;

/// A ClientHello is a few hundred bytes, with post-quantum key shares some 1,800; rustls reads no
/// longer handshake message than 64 KiB, and ours is in our first buffer.
const MAX_HELLO: usize = 16 * 1024 - 1;
