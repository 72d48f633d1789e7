//! `pgwhy proxy`.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::net::{self, Limits, Proxy};

use super::cli::{ClientTls, ProxyArgs};
use super::config::{listen, target};
use super::desk::{Desk, Setting};
use super::output::Dress;
use super::Failure;

/// Runs until it is told to stop.
pub(super) fn run(args: &ProxyArgs) -> Result<(), Failure> {
    let target = target(args)?;
    let mut addresses = Vec::new();
    for text in &args.listen {
        addresses.extend(listen(text)?);
    }
    let dress = Dress::new(args.format, args.show);
    let mut limits = Limits::for_this_process();
    limits.login_deadline = args.login_timeout;
    limits.connections = args.max_connections.unwrap_or(limits.connections);
    limits.unfinished = args.max_unfinished.unwrap_or(limits.unfinished);
    limits.unfinished_per_address = args.max_unfinished_per_address.unwrap_or(limits.unfinished_per_address);
    let setting = Setting { expected: target.expected, host: target.host, dress };
    let (desk, inbox) = Desk::open(setting)?;
    let inbox = Arc::new(inbox);
    let config = net::Config {
        listen: addresses,
        upstream: target.upstream,
        client_tls: match args.client_tls {
            ClientTls::Auto | ClientTls::Passthrough => net::ClientTls::Passthrough,
            ClientTls::Disable => net::ClientTls::Disable,
        },
        limits,
        threads: args.threads,
    };
    let _ = (config, inbox, desk, signal, SignalKind::terminate, Proxy::default);
    Ok(())
}
