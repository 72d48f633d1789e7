//! `pgwhy proxy`, and the running proxy that the demo shares with it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use clap::ValueEnum as _;
use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::net::{self, Limits, PeerAddr, Proxy, ProxyHandle, TlsConfig, Upstream};

use super::capture::{self, Keeper, Recorder};
use super::clerk::{Clerk, Setting};
use super::cli::ProxyArgs;
use super::config::{Target, listen, target};
use super::desk::{Desk, Inbox, Outputs};
use super::output::Dress;
use super::sources::Sources;
use super::tls::{self, Renewal};
use super::{Failure, baseline, stderr};

/// Runs until it is told to stop.
pub(super) fn run(args: &ProxyArgs) -> Result<(), Failure> {
    let target = target(args.upstream.as_deref(), args.context.password_file.as_deref())?;
    let dress = Dress::new(args.format, args.show);
    let sources = Sources::open(&args.context)?;
    let admin = sources.admin.clone();
    let clerk = Clerk::new(Setting {
        expected: target.expected.clone(),
        demands: target.demands.clone(),
        host: target.host.clone(),
        sources,
        baseline: args.context.baseline.as_deref().map(baseline::read).transpose()?,
    });
    let outputs = Outputs { dress, written: None, capture: capture(args, &target)? };
    let (desk, inbox) = Desk::open(clerk, outputs)?;
    let inbox = Arc::new(inbox);
    let config = config(args, &target)?;
    let runtime = runtime(config.tls.identity.is_some() || config.tls.server != net::ServerTls::Mirror)?;
    let handle = runtime.block_on(async { bind(config, &inbox) })?;
    // Before the first line: whoever reads it may send a signal at once.
    let signals = {
        let _inside = runtime.enter();
        let of = |kind: SignalKind| signal(kind);
        // Of a file that may grow no further the failed write tells; the signal would end the program.
        drop(of(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Signals {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        }
    };
    if let Some(warning) = admin.and_then(|admin| admin.never_through(handle.addrs())) {
        stderr::say(warning);
    }
    for addr in handle.addrs() {
        inbox.line(dress.listening(&addr.to_string(), &target.shown(), target.through(addr).as_deref()));
    }
    runtime.block_on(until_told(&handle, args.drain_timeout, signals, Renewal::of(&args.tls)));
    desk.close();
    Ok(())
}

fn tls_word(mode: tls::ClientTls) -> String {
    mode.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Opens the capture, where one is wanted, before anybody can connect.
fn capture(args: &ProxyArgs, target: &Target) -> Result<Option<(Arc<Keeper>, Recorder)>, Failure> {
    let proxy = format!(
        "listening on {} with --client-tls {}",
        args.listen.join(", "),
        tls_word(args.tls.client_tls)
    );
    let options = capture::Options::new(&args.capture, &target.shown(), &proxy)?;
    options.as_ref().map(capture::open).transpose()
}

fn config(args: &ProxyArgs, target: &Target) -> Result<net::Config, Failure> {
    let relay_threads = args.threads.unwrap_or_else(net::default_relay_threads);
    let mut limits = limits(args.max_connections, relay_threads)?;
    limits.login_deadline = args.login_timeout;
    limits.unfinished = args.max_unfinished.unwrap_or(limits.unfinished);
    limits.unfinished_per_address = args.max_unfinished_per_address.unwrap_or(limits.unfinished_per_address);
    Ok(net::Config {
        listen: listeners(&args.listen)?,
        upstream: target.upstream.clone(),
        tls: tls::config(&args.tls, target, &args.listen)?,
        limits,
        relay_threads,
    })
}

/// The limits of this process, with the number of connections that was asked for.
fn limits(connections: Option<usize>, threads: usize) -> Result<Limits, Failure> {
    let limits = Limits::for_this_process(threads);
    match connections {
        None if limits.connections == 0 => Err(Failure::failed(format!(
            "the limit of open files is {}, which leaves none for connections beside {threads} relay threads \
             (--threads): {MORE_FILES}",
            net::open_files()
        ))),
        None => Ok(limits),
        Some(wanted) => {
            if wanted > limits.connections {
                stderr::say(format_args!(
                    "--max-connections {wanted} takes {} open files, and the limit is {}: {MORE_FILES}",
                    Limits::files_for(wanted, threads),
                    net::open_files()
                ));
            }
            Ok(Limits { connections: wanted, ..limits })
        }
    }
}

const MORE_FILES: &str = "raise it (ulimit -n, or LimitNOFILE= of the service)";

fn listeners(texts: &[String]) -> Result<Vec<net::Listen>, Failure> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(listen(text)?);
    }
    Ok(all)
}

/// Logins are short and mostly wait; one thread serves them with no hand-over between threads, and
/// the sessions' bytes are carried by the engine's own threads. Only the signatures of TLS are work enough to
/// share.
fn runtime(tls: bool) -> Result<Runtime, Failure> {
    let mut builder = if tls { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    Ok(builder.enable_all().build()?)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

fn bind(config: net::Config, inbox: &Arc<Inbox>) -> Result<ProxyHandle, Failure> {
    // What is said from here on may be said by a thread that carries logins.
    stderr::detach()?;
    Proxy::run(config, Arc::clone(inbox) as Arc<dyn net::Sink>).map_err(|error| match &error {
        net::StartError::Listen(_, reason) => Failure::failed(format!("{error}; {}", mend(reason))),
        net::StartError::Other(reason) if reason.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            Failure::failed(format!(
                "the limit of open files is {}, too few for --threads: {MORE_FILES}",
                net::open_files()
            ))
        }
        net::StartError::Other(reason) => Failure::failed(format!("can't start: {reason}")),
    })
}

/// What to do where an address can't be had.
pub(super) fn mend(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "another program is there: choose another with --listen",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 and other users' directories need rights: choose another with --listen"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::NotFound => "the socket's directory does not exist",
        _ => "choose another with --listen",
    }
}

/// The first SIGTERM or SIGINT drains, the second ends.
async fn until_told(handle: &ProxyHandle, drain: Duration, mut signals: Signals, mut renewal: Renewal) {
    let mut told = false;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.hangup.recv() => {
                renewal.look(handle, true);
                continue;
            }
            () = tokio::time::sleep(Renewal::PAUSE), if renewal.has_files() => {
                renewal.look(handle, false);
                continue;
            }
            () = handle.ended(), if told => return,
        }
        if !told && handle.connections() > 0 {
            let open = handle.connections();
            stderr::say(format_args!(
                "no new connections; open ones ({open}) may go on for {drain:?}, a second signal ends them"
            ));
        }
        told = true;
        handle.shutdown(drain);
    }
}

/// A proxy that runs on a thread of its own.
pub(super) struct Running {
    addrs: Vec<PeerAddr>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    desk: Desk,
    inbox: Arc<Inbox>,
    written: Receiver<()>,
}

/// Starts a proxy on a thread of its own.
pub(super) fn start(
    clerk: Clerk,
    dress: Dress,
    upstream: Upstream,
    listen: &[String],
) -> Result<Running, Failure> {
    let (report_written, written) = sync_channel(64);
    let outputs = Outputs { dress, written: Some(report_written), capture: None };
    let (desk, inbox) = Desk::open(clerk, outputs)?;
    let inbox = Arc::new(inbox);
    let config = net::Config {
        listen: listeners(listen)?,
        upstream,
        tls: TlsConfig { client: net::ClientTls::Passthrough, ..TlsConfig::default() },
        limits: limits(None, 1)?,
        relay_threads: 1,
    };
    let runtime = runtime(false)?;
    let handle = runtime.block_on(async { bind(config, &inbox) })?;
    let addrs = handle.addrs().to_vec();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
        runtime.block_on(async {
            // An error is the sender's drop: told to stop as well.
            let _ = stopped.await;
            handle.shutdown(Duration::ZERO);
            handle.ended().await;
        });
    })?;
    Ok(Running { addrs, stop, thread, desk, inbox, written })
}

impl Running {
    /// The first TCP address it listens on.
    pub(super) fn first_tcp(&self) -> Option<SocketAddr> {
        self.addrs.iter().find_map(|addr| match addr {
            PeerAddr::Tcp(addr) => Some(*addr),
            PeerAddr::Unix(_) => None,
        })
    }

    /// Prints a line among the reports.
    pub(super) fn say(&self, line: String) {
        self.inbox.line(line);
    }

    /// Waits until a report was written.
    pub(super) fn wait_for_report(&self) {
        // A report that never comes is a defect that the reader sees; the demo goes on.
        let _ = self.written.recv_timeout(Duration::from_secs(20));
    }

    /// Ends it and waits for the last report.
    pub(super) fn stop(self) {
        // The thread may have ended by itself; then there is nobody to tell.
        let _ = self.stop.send(());
        let _ = self.thread.join();
        self.desk.close();
    }
}
