//! tcpdump beside the live proxy, between it and the server.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::row::{At, Row};
use crate::rows;
use crate::support::keeper::{self, Scratch};
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::Version;
use crate::support::{DEADLINE, install, schema};
use crate::world::{Upstream, World};

/// A running tcpdump on the loopback interface.
pub struct Tcpdump {
    child: Child,
    file: PathBuf,
    stderr: BufReader<std::process::ChildStderr>,
    /// Sends itself the last packet of the capture.
    mark: UdpSocket,
    /// What was lost before the filter was there: packets of others.
    lost_before: String,
}

impl Tcpdump {
    pub fn start(file: &Path, ports: &[u16]) -> Self {
        let mark = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let mut filter: Vec<String> = ports.iter().map(|port| format!("tcp port {port}")).collect();
        filter.push(format!("udp port {}", mark.local_addr().expect("its address").port()));
        let program = install::need("tcpdump", "apt-get install tcpdump");
        let mut child = Command::new(program)
            // The kernel's buffer has room for a moment without tcpdump: as many packets, each of its longest.
            .args(["-i", "lo", "-s", "65535", "-B", "65536", "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(file)
            .arg(filter.join(" or "))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump can be run");
        keeper::watch(child.id());
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(stderr.read_line(&mut line).is_ok_and(|count| count > 0), "tcpdump does not listen");
        }
        let mut tcpdump = Self { child, file: file.to_owned(), stderr, mark, lost_before: String::new() };
        // With this signal it tells what it tells at its end.
        tcpdump.signal(Signal::USR1);
        tcpdump.lost_before = tcpdump.lost();
        tcpdump
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).expect("tcpdump runs");
    }

    /// How many packets it has lost, in its words.
    fn lost(&mut self) -> String {
        let mut line = String::new();
        while !line.contains("dropped by kernel") {
            line.clear();
            assert!(self.stderr.read_line(&mut line).is_ok_and(|count| count > 0), "tcpdump tells nothing");
        }
        line.trim().rsplit(", ").next().unwrap_or_default().to_owned()
    }

    /// Ends it when it has written all that it saw.
    pub fn stop(mut self) {
        // Packets are written in their order: with this one in the file all that came before it are there.
        self.mark.send_to(LAST, self.mark.local_addr().expect("its address")).expect("a packet to itself");
        let until = Instant::now() + DEADLINE;
        let written = |file: &Path| {
            std::fs::read(file).is_ok_and(|bytes| bytes.windows(LAST.len()).any(|piece| piece == LAST))
        };
        while !written(&self.file) {
            assert!(Instant::now() < until, "tcpdump writes nothing");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(Signal::INT);
        let lost = self.lost();
        self.child.wait().expect("tcpdump ends");
        keeper::forget(self.child.id());
        assert_eq!(lost, self.lost_before, "packets were lost");
    }
}

/// What stands in the last packet.
const LAST: &[u8] = b"the last packet of this capture";

/// Runs `pgwhy show --format json`; its handshakes and what it said on standard error.
pub fn show(args: &[&str]) -> (Vec<Value>, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    command.env_clear().env("HOME", "/nonexistent").args(["show", "--format", "json"]).args(args);
    let output = command.stdin(Stdio::null()).output().expect("pgwhy can be run");
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    for line in &lines {
        let faults = schema::faults(line);
        assert!(faults.is_empty(), "{faults:?}\n{line}");
    }
    (handshakes(&lines), String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// What both must agree on.
fn verdict(handshake: &Value, with_password: bool) -> String {
    let text = |name: &str| handshake[name].as_str().unwrap_or("-").to_owned();
    let mut parts = vec![text("outcome"), text("failed_step"), text("cause")];
    if with_password {
        parts.extend([text("variant"), text("confidence")]);
    }
    // Of a connection that was never made only the proxy heard who wanted it.
    let unmade = handshake["failed_step"] == "connect";
    let user = handshake["client"]["user"].as_str().filter(|_| !unmade).unwrap_or("-");
    format!("{} of {user}, {}, {}", parts.join(" "), text("auth_method"), handshake["server_error"])
}

/// Whether tcpdump sees what the proxy sees: one TCP upstream, and nothing done by the proxy alone.
fn comparable(row: &Row) -> bool {
    !matches!(row.at, At::MainSocket | At::Text(_) | At::Blackhole)
        && row.args.is_empty()
        && row.versions.contains(&Version::V15)
        && !row.by_file
}

fn run(world: &World, row: &Row) -> Result<usize, String> {
    let scratch = Scratch::new();
    let file = scratch.path().join("login.pcap");
    let target = world.target(row.at);
    // A name or a socket: tcpdump is told ports.
    let Upstream::Port(port) = target.upstream else { return Ok(0) };
    let _prepared = row.prepare.map(|prepare| prepare(world.server(row.at).expect("a real server")));
    let upstream = match &row.knows {
        Some((user, password)) => {
            let encode =
                |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
            format!("postgres://{}:{}@127.0.0.1:{port}/", encode(user), encode(password))
        }
        None => format!("127.0.0.1:{port}"),
    };
    let tcpdump = Tcpdump::start(&file, &[port]);
    let own = scratch.path().join("own.pcapng");
    let mut proxy = Proxy::start(&upstream, &["--capture".to_owned(), own.display().to_string()]);
    if let Some((who, login)) = &row.first {
        who.log_in(proxy.addr, login);
    }
    row.who.log_in(proxy.addr, &row.login);
    proxy.wait_handshakes(row.expect.len(), DEADLINE);
    let live = handshakes(&proxy.finish());
    tcpdump.stop();
    let own_lines = show(&[&own.display().to_string()]).0;
    let mut text = String::new();
    if own_lines != live {
        text = "pgwhy's own capture says something else:\n".to_owned();
        for (one, other) in live.iter().zip(&own_lines).filter(|(one, other)| one != other) {
            text.push_str(&format!("live {one}\nshow {other}\n"));
        }
        text.push_str(&format!("{} and {} of them\n", live.len(), own_lines.len()));
    }
    // A client that never said what it is was never brought to the server.
    let mut live: Vec<&Value> = live.iter().filter(|one| one["server"]["addr"].is_string()).collect();
    live.sort_by_key(|one| one["time"].as_str().unwrap_or_default().to_owned());
    let (port, path) = (port.to_string(), file.display().to_string());
    let args = ["--port", port.as_str(), "--expect", upstream.as_str(), path.as_str()];
    let (mut shown, log, _) = show(&args);
    shown.sort_by_key(|one| one["time"].as_str().unwrap_or_default().to_owned());
    let verdicts = |list: &[&Value]| list.iter().map(|one| verdict(one, true)).collect::<Vec<_>>();
    let (there, here) = (verdicts(&live), verdicts(&shown.iter().collect::<Vec<_>>()));
    if let Some((_, password)) =
        row.knows.as_ref().filter(|(user, password)| password.len() > 6 && user != password)
    {
        let printed = format!("{shown:?}{log}");
        assert!(!printed.contains(password.as_str()), "{}: the password is shown", row.claim);
    }
    if there == here && text.is_empty() {
        return Ok(there.len());
    }
    if there != here {
        text.push_str(&format!("live {there:#?}\nshow {here:#?}\n{log}"));
    }
    if let Ok(folder) = std::env::var("PGWHY_KEEP") {
        let name = row.claim.replace(|c: char| !c.is_alphanumeric(), "_");
        std::fs::copy(&own, Path::new(&folder).join(name.clone() + ".pcapng")).unwrap();
        std::fs::copy(&file, Path::new(&folder).join(name + ".pcap")).unwrap();
        for (one, other) in live.iter().zip(&shown) {
            text.push_str(&format!("{one}\n{other}\n"));
        }
    }
    Err(text)
}

#[test]
fn what_tcpdump_saw_gives_the_verdict_of_the_live_proxy() {
    if !geteuid().is_root() {
        println!("skipped: tcpdump may capture only for root");
        return;
    }
    let only = std::env::var("PGWHY_ROWS").unwrap_or_default();
    let all = rows::all();
    let world = World::new(Version::V15, &all);
    let rows: Vec<Row> = all.into_iter().filter(|row| comparable(row) && row.claim.contains(&only)).collect();
    let (mut same, mut different) = (0, Vec::new());
    for row in &rows {
        match run(&world, row) {
            Ok(0) => println!("nothing reached the server: {}", row.claim),
            Ok(_) => same += 1,
            Err(text) => different.push(format!("{}\n{text}", row.claim)),
        }
    }
    println!("{same} scenarios are read as they were reported live");
    // Some rows play what a capture on this side of the proxy does not show; they are named.
    println!("{} differ:\n{}", different.len(), different.join("\n"));
    assert!(different.len() <= MAY_DIFFER, "{} differ", different.len());
    assert!(same >= 40 || !only.is_empty(), "only {same} scenarios were compared");
}

/// Rows that may differ, of some two hundred: those that end by what the proxy alone sees or does.
const MAY_DIFFER: usize = 20;
