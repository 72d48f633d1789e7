//! Much data through TLS of ours on both legs, and what Wireshark makes of a session with its keys.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::files;
use crate::row::with;
use crate::running::server;
use crate::support::client::{Who, clean, conninfo, run, run_until};
use crate::support::keeper::{self, Scratch};
use crate::support::proxy::Proxy;
use crate::support::{DEADLINE, install};

fn psql(port: u16, sslmode: &str) -> String {
    let keywords = [
        ("host", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("user", "app".to_owned()),
        ("dbname", "app".to_owned()),
        ("password", "correct-pw-1".to_owned()),
        ("sslmode", sslmode.to_owned()),
    ];
    let program = install::client_program("psql").display().to_string();
    format!("{program} -X -q -At -v ON_ERROR_STOP=1 \"{}\"", conninfo(&keywords))
}

fn sh(script: &str) -> String {
    let mut command = clean("/bin/sh".into());
    command.args(["-c", script]);
    let (ok, out, err) = run_until(command, Duration::from_secs(240));
    assert!(ok && err.is_empty(), "{script}: {out}{err}");
    out
}

/// 200 MB, no two lines alike.
const ROWS: &str = "select repeat(md5(i::text), 32) as line from generate_series(1, 200000) i";

#[test]
fn two_hundred_megabytes_pass_unchanged_both_ways() {
    let server = server();
    let (cert, key) = (files().fill("{good.crt}"), files().fill("{good.key}"));
    let args = ["--client-tls", "open", "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned);
    let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
    let (direct, through) = (psql(server.port, "disable"), psql(proxy.addr.port(), "require"));
    let out = format!("-c 'copy ({ROWS}) to stdout'");
    let expected = sh(&format!("{direct} {out} | sha256sum"));
    assert_eq!(sh(&format!("{through} {out} | sha256sum")), expected, "from the server");
    sh(&format!("{through} -c 'create unlogged table lines (line text)'"));
    sh(&format!("{direct} {out} | {through} -c 'copy lines from stdin'"));
    let back = "-c 'copy lines to stdout'";
    assert_eq!(sh(&format!("{direct} {back} | sha256sum")), expected, "to the server");
    let lines = proxy.finish();
    let closed: Vec<_> = lines.iter().filter(|line| line.contains("\"outcome\":\"ok\"")).collect();
    assert_eq!(closed.len(), 3, "{lines:?}");
    assert!(closed.iter().all(|line| line.contains("\"version\":\"TLSv1.3\"")), "{closed:?}");
}

#[test]
fn the_keylog_opens_both_legs_to_wireshark() {
    let server = server();
    let dir = Scratch::new();
    let (cert, key) = (files().fill("{good.crt}"), files().fill("{good.key}"));
    let (keys, dump) = (dir.path().join("keys").display().to_string(), dir.path().join("dump.pcap"));
    let args = ["--client-tls", "open", "--tls-cert", &cert, "--tls-key", &key, "--tls-keylog", &keys];
    let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args.map(str::to_owned));
    let filter = format!("tcp port {} or tcp port {}", server.port, proxy.addr.port());
    let mut tcpdump = Command::new(install::need("tcpdump", "apt-get install tcpdump"))
        .args(["-i", "lo", "-s", "0", "-U", "--immediate-mode", "-Z", "root", "-w"])
        .arg(&dump)
        .arg(&filter)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    keeper::watch(tcpdump.id());
    let mut stderr = BufReader::new(tcpdump.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
    }
    for version in ["TLSv1.3", "TLSv1.2"] {
        let options = vec![("ssl_max_protocol_version", version.to_owned())];
        let answer =
            Who::Psql.log_in(proxy.addr, &crate::support::client::Login { options, ..with("require") });
        assert!(answer.ok, "{answer:?}");
    }
    proxy.wait_handshakes(2, DEADLINE);
    // What tcpdump has not written yet when it is told to end is lost.
    let began = Instant::now();
    let out = loop {
        let out = queries(&dump, &keys, [server.port, proxy.addr.port()]);
        if out.lines().count() >= 4 || began.elapsed() > DEADLINE {
            break out;
        }
    };
    kill_process(Pid::from_raw(i32::try_from(tcpdump.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
    tcpdump.wait().unwrap();
    keeper::forget(tcpdump.id());
    for port in [server.port, proxy.addr.port()] {
        let count = out.lines().filter(|line| line.starts_with(&format!("{port}\t"))).count();
        assert_eq!(count, 2, "port {port} in «{out}»");
    }
    assert!(out.contains("select 1"), "{out}");
}

/// What tshark reads with the keys: a line of port and query for each.
fn queries(dump: &Path, keys: &str, ports: [u16; 2]) -> String {
    let mut tshark = clean(install::need("tshark", "apt-get install tshark"));
    tshark.arg("-r").arg(dump).args(["-o", &format!("tls.keylog_file:{keys}")]);
    for port in ports {
        tshark.args(["-d", &format!("tcp.port=={port},pgsql")]);
    }
    tshark.args(["-Y", "pgsql.query", "-T", "fields", "-e", "tcp.dstport", "-e", "pgsql.query"]);
    run(tshark).1
}
