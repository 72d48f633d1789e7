//! A client's first packet.

use tokio::io::AsyncWriteExt;

use crate::handshake::{Close, Side};
use crate::wire::first::{First, classify};

use super::attempt::Ending;
use super::endpoint::Stream;
use super::login::Facts;
use super::tls::{ClientTls, ServerTls, Tls};
use super::watch::Watch;

/// Reads until the first packet is whole; answers encryption requests where that is our part.
///
/// Nothing is dialled before that, so health checks, port scans and slow senders don't reach the
/// server.
pub(super) async fn greet(
    tls: &Tls,
    client: &mut Stream,
    facts: &mut Facts,
    watch: &mut Watch<'_>,
) -> Result<First, Ending> {
    let declines = |first: First| match first {
        First::SslRequest => tls.config.client == ClientTls::Disable,
        // Under GSSAPI nothing could be said of the server's leg, either.
        First::GssEncRequest => {
            tls.config.client == ClientTls::Disable
                || tls.terminates()
                || tls.config.server != ServerTls::Mirror
        }
        _ => false,
    };
    loop {
        let first = classify(watch.first_bytes());
        let length = watch.first_bytes().len();
        match first {
            Some(First::Http) => return Err(turned_away(watch, Ending::Http)),
            Some(First::Malformed { length }) => {
                return Err(turned_away(watch, Ending::Malformed { length }));
            }
            Some(First::Tls) if tls.config.client == ClientTls::Disable => {
                return Err(turned_away(watch, Ending::TlsRefused));
            }
            Some(request) if declines(request) && !client.is_tls() && !facts.declined.contains(&request) => {
                watch.look_at_first_bytes();
                let behind = length.saturating_sub(ENCRYPTION_REQUEST);
                if behind > 0 {
                    return Err(Ending::PlaintextInjected { bytes: behind });
                }
                if client.write_all(b"N").await.is_err() {
                    watch.note_close(Side::Client, Close::Reset);
                    return Err(Ending::Closed);
                }
                watch.look(Side::Server, b"N");
                facts.ssl_answered_by_us = true;
                facts.declined.push(request);
            }
            Some(First::Startup { length: whole, .. }) if length < whole => {}
            Some(First::CancelRequest) => match cancel_length(watch.first_bytes()) {
                Ok(whole) if length < whole => {}
                Ok(_) => return Ok(First::CancelRequest),
                Err(length) => return Err(turned_away(watch, Ending::Malformed { length })),
            },
            Some(first) => return Ok(first),
            None => {}
        }
        more(client, watch, facts.asked || facts.ssl_answered_by_us).await?;
    }
}

/// Reads once more; an end of stream or a broken connection is the attempt's ending. `asked` if the
/// client has already asked for encryption.
pub(super) async fn more(client: &mut Stream, watch: &mut Watch<'_>, asked: bool) -> Result<(), Ending> {
    let count = match client.readable().await {
        Ok(()) => watch.read_first(client).await,
        Err(error) => Err(error),
    };
    let how = match count {
        Ok(1..) => return Ok(()),
        Ok(0) => Close::Eof,
        Err(_) => Close::Reset,
    };
    let spoke = asked || !watch.first_bytes().is_empty();
    watch.look_at_first_bytes();
    watch.note_close(Side::Client, how);
    Err(if spoke { Ending::Closed } else { Ending::Silent })
}

fn turned_away(watch: &mut Watch<'_>, ending: Ending) -> Ending {
    watch.look_at_first_bytes();
    ending
}

/// The length of a cancel request; `Err` with the length word where it can't hold a key.
fn cancel_length(bytes: &[u8]) -> Result<usize, u32> {
    let length = bytes.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word));
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if CANCEL_REQUEST.contains(&size) { Ok(size) } else { Err(length) }
}

/// SSLRequest and GSSENCRequest are this long.
pub(super) const ENCRYPTION_REQUEST: usize = 8;

/// A cancel request's length: a process id and a secret of 4 to 256 bytes behind length and code.
const CANCEL_REQUEST: std::ops::RangeInclusive<usize> = 16..=268;
