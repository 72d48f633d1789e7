//! Fills the table: each client without pgwhy, and through a fresh pgwhy in each mode.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::Value;

use crate::clients::{self, Client};
use crate::support::certs::{Authority, Wish};
use crate::support::keeper::Scratch;
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::{Plan, Server, Version};

/// A column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub client_tls: &'static str,
    pub knows: Knows,
}

/// What pgwhy is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    Password,
    ServerKey,
    Nothing,
}

/// The columns; where TLS is not opened it does not matter what is known.
pub fn modes() -> Vec<Mode> {
    let opened = ["auto", "open", "allow"].into_iter().flat_map(|client_tls| {
        [Knows::Password, Knows::ServerKey, Knows::Nothing].map(|knows| Mode { client_tls, knows })
    });
    let closed = ["passthrough", "disable"].map(|client_tls| Mode { client_tls, knows: Knows::Nothing });
    opened.chain(closed).collect()
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It works, and its conversation was seen under TLS.
    Opened,
    /// It works under TLS that was passed through.
    Unopened,
    /// It works without TLS.
    Clear,
    /// It fails for this cause.
    Fails(String),
}

impl Cell {
    pub fn works(&self) -> bool {
        !matches!(self, Self::Fails(_))
    }

    fn is_encrypted(&self) -> bool {
        matches!(self, Self::Opened | Self::Unopened)
    }
}

/// The servers, and the files that pgwhy is given.
pub struct Stage {
    pub with_tls: Server,
    pub without_tls: Server,
    dir: Scratch,
    pub ca: String,
}

impl Stage {
    pub fn start() -> Self {
        let ca = Authority::root("Test CA");
        let identity = ca.issue(&Wish::server(&["localhost", "127.0.0.1"]));
        let dir = Scratch::new();
        dir.write("server.crt", &identity.pem);
        dir.write("server.key", &identity.key);
        let plain = Plan {
            hba: "host all all all scram-sha-256\n".into(),
            sql: "CREATE ROLE app LOGIN PASSWORD 'correct-pw-1'; CREATE DATABASE app; \
                  CREATE ROLE second LOGIN PASSWORD 'second-pw-2';"
                .into(),
            ..Plan::default()
        };
        let tls = Plan {
            tls: true,
            files: identity.files(&ca.pem()),
            conf: "ssl_ca_file = ''\n".into(),
            ..plain.clone()
        };
        let ca_file = dir.write("ca.crt", ca.pem()).display().to_string();
        Self {
            with_tls: Server::start(Version::V18, &tls),
            without_tls: Server::start(Version::V18, &plain),
            dir,
            ca: ca_file,
        }
    }

    fn server(&self, tls: bool) -> &Server {
        if tls { &self.with_tls } else { &self.without_tls }
    }

    pub fn proxy(&self, mode: Mode, tls: bool) -> Proxy {
        let login = if mode.knows == Knows::Password { "app:correct-pw-1@" } else { "" };
        let upstream = format!("postgres://{login}localhost:{}/app", self.server(tls).port);
        let mut args = vec!["--client-tls".to_owned(), mode.client_tls.to_owned()];
        if mode.knows == Knows::ServerKey {
            for (option, file) in [("--tls-cert", "server.crt"), ("--tls-key", "server.key")] {
                args.extend([option.to_owned(), self.dir.path().join(file).display().to_string()]);
            }
        }
        Proxy::start(&upstream, &args)
    }
}

/// A client's row for one kind of server: directly, and by mode.
#[derive(Debug)]
pub struct Row {
    pub client: Client,
    pub tls: bool,
    pub direct: Cell,
    pub cells: Vec<Cell>,
}

#[derive(Debug)]
pub struct Table {
    pub rows: Vec<Row>,
}

impl Table {
    /// Every login that works directly and does not so through `auto`.
    pub fn broken_by_auto(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for row in &self.rows {
            for (mode, cell) in modes().iter().zip(&row.cells).filter(|(mode, _)| mode.client_tls == "auto") {
                let lost = row.direct.works()
                    && (!cell.works() || (row.direct.is_encrypted() && !cell.is_encrypted()));
                if lost {
                    let Client { name, setting, .. } = row.client;
                    broken.push(format!("{name} {setting}, {mode:?}, server TLS {}: {cell:?}", row.tls));
                }
            }
        }
        broken
    }
}

/// Logs everybody in everywhere, three at a time.
pub fn fill(stage: &Stage) -> Table {
    let clients = clients::all();
    let width = modes().len() + 1;
    let places =
        [true, false].into_iter().flat_map(|tls| (0..clients.len()).map(move |client| (tls, client)));
    let places: Vec<(bool, usize)> = places.collect();
    let jobs = places.iter().enumerate().flat_map(|(row, _)| (0..width).map(move |column| (row, column)));
    let queue: Mutex<VecDeque<(usize, usize)>> = Mutex::new(jobs.collect());
    let cells: Mutex<BTreeMap<(usize, usize), Cell>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((row, column)) = queue.lock().unwrap().pop_front() else { return };
                    let (tls, client) = places[row];
                    let mode = column.checked_sub(1).map(|index| modes()[index]);
                    let cell = log_in(stage, &clients[client], tls, mode);
                    cells.lock().unwrap().insert((row, column), cell);
                }
            });
        }
    });
    let mut cells = cells.into_inner().unwrap();
    let rows = places.iter().enumerate().map(|(row, (tls, client))| Row {
        client: clients[*client],
        tls: *tls,
        direct: cells.remove(&(row, 0)).expect("a cell"),
        cells: (1..width).map(|column| cells.remove(&(row, column)).expect("a cell")).collect(),
    });
    Table { rows: rows.collect() }
}

fn log_in(stage: &Stage, client: &Client, tls: bool, mode: Option<Mode>) -> Cell {
    let Some(mode) = mode else {
        let addr = SocketAddr::from(([127, 0, 0, 1], stage.server(tls).port));
        let answer = client.log_in(addr, tls);
        return match answer.ok {
            true if tls => Cell::Unopened,
            true => Cell::Clear,
            false => Cell::Fails(String::new()),
        };
    };
    let mut proxy = stage.proxy(mode, tls);
    let answer = client.log_in(proxy.addr, tls);
    let reports = handshakes(&proxy.finish());
    cell(answer.ok, &reports)
}

/// What the reports of one login come to. A login that was tried again in clear has two.
pub fn cell(works: bool, reports: &[Value]) -> Cell {
    if !works {
        let causes = reports.iter().filter_map(|report| report["cause"].as_str());
        return Cell::Fails(causes.map(str::to_owned).next().unwrap_or_else(|| "no cause".to_owned()));
    }
    let last = reports.last().expect("a report");
    match last["outcome"].as_str() {
        Some("opaque") => Cell::Unopened,
        _ if last["client_tls"]["version"].is_string() => Cell::Opened,
        _ => Cell::Clear,
    }
}
