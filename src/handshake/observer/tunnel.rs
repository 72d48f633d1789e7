//! TLS that passes through: what both directions show in clear, and servers that answer it in clear.

use std::time::Duration;

use crate::handshake::record::{MAX_ENCRYPTED_RECORDS, MAX_NOTICES, Tls};
use crate::handshake::{Attention, Side};
use crate::wire::frame::Framer;
use crate::wire::tls::{Records, Seen};

use super::{Observer, Phase};

/// Both directions of a TLS connection.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    client: Records,
    server: Records,
    client_spoke: bool,
    early: usize,
}

impl Tunnel {
    /// Bytes that wait for the rest of their record or message.
    pub(super) fn held(&self) -> usize {
        self.client.held() + self.server.held()
    }
}

impl Observer {
    /// Takes what both sides have sent already, in the order in which it would have come byte by
    /// byte: `opener` sent the byte that opened the tunnel, so what the other side has sent is older
    /// than what follows that byte.
    pub(super) fn open_tunnel(&mut self, opener: Side) {
        self.phase = Phase::Tunnel;
        self.record.tls.get_or_insert_default();
        let client_spoke = opener == Side::Client;
        self.tunnel = Some(Box::new(Tunnel { client_spoke, ..Tunnel::default() }));
        let order = match opener {
            Side::Client => [Side::Server, Side::Client],
            Side::Server => [Side::Client, Side::Server],
        };
        for from in order {
            let framer = match from {
                Side::Client => &mut self.client,
                Side::Server => &mut self.server,
            };
            let ahead = framer.ahead().to_vec();
            framer.abandon();
            let open = matches!(self.phase, Phase::Tunnel | Phase::Done(Attention::Opaque));
            if open && !ahead.is_empty() {
                self.tunnel_bytes(from, &ahead);
            }
        }
    }

    pub(super) fn tunnel_bytes(&mut self, from: Side, bytes: &[u8]) {
        let Some(tunnel) = &mut self.tunnel else { return };
        if from == Side::Server && !tunnel.client_spoke {
            // Nobody may speak between the server's `S` and the ClientHello.
            tunnel.early += bytes.len();
            let early = tunnel.early;
            return self.note_injected(Side::Server, early);
        }
        tunnel.client_spoke = true;
        let (now, tls) = (self.now, self.record.tls.get_or_insert_default());
        let records = match from {
            Side::Client => &mut tunnel.client,
            Side::Server => &mut tunnel.server,
        };
        let mut in_clear = false;
        records.push(bytes, |seen| {
            // Once both sides have sent encrypted data nothing else can be told from outside.
            if seen != Seen::NotTls {
                note_tls(tls, from, now, seen);
            } else if !is_encrypted(tls) {
                tls.not_tls.get_or_insert(from);
                in_clear = from == Side::Server;
            }
        });
        if in_clear {
            self.server = Framer::default();
            self.server.push(records.not_tls());
            self.phase = Phase::Clear;
            self.clear_error();
        } else if self.phase == Phase::Tunnel && is_encrypted(tls) {
            self.phase = Phase::Done(Attention::Opaque);
        }
    }
}

/// Whether both sides have sent encrypted records.
fn is_encrypted(tls: &Tls) -> bool {
    let has = |side| tls.encrypted.iter().any(|(from, ..)| *from == side);
    has(Side::Client) && has(Side::Server)
}

fn note_tls(tls: &mut Tls, from: Side, now: Duration, seen: Seen) {
    match seen {
        Seen::ClientHello(hello) => {
            tls.client_hello.get_or_insert((hello, now));
        }
        Seen::ServerHello(hello) if hello.retry => {}
        Seen::ServerHello(hello) => {
            tls.server_hello.get_or_insert((hello, now));
        }
        Seen::Certificates(count) if from == Side::Server => tls.server_certificates = Some(count),
        Seen::Certificates(count) => tls.client_certificates = Some(count),
        Seen::CertificateRequest => tls.certificate_requested = true,
        Seen::Alert(alert) if tls.alerts.len() < MAX_NOTICES => tls.alerts.push((from, alert, now)),
        Seen::Encrypted(size) => {
            let of_this_side = tls.encrypted.iter().filter(|(side, ..)| *side == from).count();
            if of_this_side < MAX_ENCRYPTED_RECORDS / 2 {
                tls.encrypted.push((from, size, now));
            }
        }
        _ => {}
    }
}
