//! The net room and nothing else: `bare_proxy --listen ADDR --upstream HOST:PORT`, for measurements.

use std::sync::Arc;
use std::time::Duration;

use pgwhy::net::{
    Attempt, ClientTls, Config, Limits, Listen, Proxy, Sink, TlsConfig, Upstream, UpstreamHost,
    default_relay_threads,
};

/// Drops everything: what reports cost is not the relay's.
struct Nobody;

impl Sink for Nobody {
    fn attempt(&self, attempt: Attempt) {
        drop(attempt);
    }
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = option("--listen").ok_or("--listen ADDR is missing")?.parse()?;
    let upstream = option("--upstream").ok_or("--upstream HOST:PORT is missing")?;
    let (name, port) = upstream.rsplit_once(':').ok_or("--upstream wants HOST:PORT")?;
    let host = UpstreamHost { name: name.into(), hostaddr: None, port: port.parse()? };
    let threads = option("--threads").map(|count| count.parse()).transpose()?;
    let relay_threads = threads.unwrap_or_else(default_relay_threads);
    let config = Config {
        listen: vec![Listen::Tcp(listen)],
        upstream: Upstream { hosts: vec![host], connect_timeout: Some(Duration::from_secs(10)) },
        tls: TlsConfig { client: ClientTls::Passthrough, ..TlsConfig::default() },
        limits: Limits { unfinished_per_address: 1_000, ..Limits::for_this_process(relay_threads) },
        relay_threads,
    };
    let mut runtime = match option("--workers").map(|count| count.parse()).transpose()? {
        Some(workers) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        let proxy = Proxy::run(config, Arc::new(Nobody))?;
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
        proxy.shutdown(Duration::ZERO);
        proxy.ended().await;
        Ok(())
    })
}
