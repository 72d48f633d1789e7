//! TLS in captures, opened with a key log: real logins through tcpdump, on both legs of a proxy that opens
//! TLS and writes its keys down, and the same in Wireshark.

use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;
use serde_json::Value;

use crate::support::client::{Login, Who};
use crate::support::install;
use crate::support::keeper::Scratch;
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::{Plan, Server, Version};
use crate::tcpdump::{Tcpdump, show};

const PASSWORD: &str = "Pl4nted-s3cret";

fn server(conf: &str) -> Server {
    let hba = "host all refused all reject\nhostnossl all app all reject\nhost all app all scram-sha-256\n\
               host all plain all password\nhost all all all md5\n";
    let sql = format!(
        "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}';\nCREATE ROLE plain LOGIN PASSWORD '{PASSWORD}';\n\
         SET password_encryption = 'md5';\nCREATE ROLE old LOGIN PASSWORD '{PASSWORD}';\n"
    );
    Server::start(
        Version::V15,
        &Plan { hba: hba.into(), sql, tls: true, conf: conf.into(), ..Plan::default() },
    )
}

/// User, database, password and environment of every login.
fn logins() -> Vec<Login> {
    let rows = [
        ("app", "postgres", PASSWORD.to_owned(), None),
        ("app", "postgres", format!("\"{PASSWORD}\""), None),
        ("app", "postgres", format!("'{PASSWORD}'"), Some("TLSv1.2")),
        ("app", "nowhere", PASSWORD.to_owned(), None),
        ("plain", "postgres", format!("{PASSWORD}\r"), Some("TLSv1.2")),
        ("old", "postgres", "wrong".to_owned(), None),
        ("refused", "postgres", PASSWORD.to_owned(), None),
    ];
    let login = |(user, database, password, most): (&str, &str, String, Option<&str>)| Login {
        user: user.into(),
        password: Some(password),
        database: Some(database.into()),
        sslmode: "require",
        env: most.into_iter().map(|most| ("PGSSLMAXPROTOCOLVERSION", most.to_owned())).collect(),
        ..Login::default()
    };
    rows.into_iter().map(login).collect()
}

/// Failures are told when both sides are done with it, so the order is that of the beginnings.
fn verdicts(list: &[Value]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort_by_key(|one| one["time"].to_string());
    let verdict = |one: &Value| {
        let names = ["outcome", "failed_step", "cause", "auth_method"];
        let said: Vec<&str> = names.iter().map(|name| one[*name].as_str().unwrap_or("-")).collect();
        format!("{} {} {}", one["client"]["user"], said.join(" "), one["server_error"]["sqlstate"])
    };
    list.iter().map(verdict).collect()
}

/// The codes of the errors that tshark finds in the same file with the same keys.
fn dissected(file: &Path, keys: &Path, port: u16) -> Vec<String> {
    let program = install::need("tshark", "apt-get install tshark");
    let mut command = Command::new(program);
    command.arg("-r").arg(file).args(["-d", &format!("tcp.port=={port},pgsql"), "-Y", "pgsql.code"]);
    command.args(["-o", &format!("tls.keylog_file:{}", keys.display()), "-T", "fields", "-e", "pgsql.code"]);
    let output = command.output().expect("tshark runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut codes: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    codes.sort();
    codes
}

/// Not the login by which pgwhy tries the password that it knows.
fn is_clients(one: &Value) -> bool {
    one["client"]["application_name"] != "pgwhy"
}

fn check(conf: &str, version: &str) {
    let dir = Scratch::new();
    let server = server(conf);
    let keys = dir.path().join("keys");
    let args = ["--client-tls", "open", "--tls-keylog", &keys.display().to_string()].map(str::to_owned);
    let mut proxy =
        Proxy::start(&format!("postgresql://app:{PASSWORD}@127.0.0.1:{}/postgres", server.port), &args);
    let legs = [proxy.addr.port(), server.port];
    let files = ["client.pcap", "server.pcap"].map(|name| dir.path().join(name));
    let dumps: Vec<Tcpdump> =
        files.iter().zip(legs).map(|(file, port)| Tcpdump::start(file, &[port])).collect();
    let logins = logins();
    for login in &logins {
        Who::Psql.log_in(proxy.addr, login);
    }
    proxy.wait_handshakes(logins.len(), crate::support::DEADLINE);
    let live = handshakes(&proxy.finish());
    dumps.into_iter().for_each(Tcpdump::stop);
    let keylog = keys.display().to_string();
    for (file, port) in files.iter().zip(legs) {
        let (name, port_text) = (file.display().to_string(), port.to_string());
        let (sealed, _, _) = show(&["--port", &port_text, &name]);
        assert!(sealed.iter().all(|one| one["outcome"] == "opaque"), "{version}, {port}: {sealed:#?}");
        let expect = format!("postgresql://app:{PASSWORD}@/");
        let args = ["--port", &port_text, "--keylog", &keylog, "--expect", &expect, &name];
        let (mut opened, log, _) = show(&args);
        opened.retain(is_clients);
        // With the client's wrong proof in hand pgwhy sends the server another wrong one.
        let wanted = verdicts(&live);
        assert_eq!(verdicts(&opened), wanted, "{version}, {port}: {log}\n{opened:#?}");
        // What the clients sent is seen where they sent it.
        if port == proxy.addr.port() {
            let mut opened = opened.clone();
            opened.sort_by_key(|one| one["time"].to_string());
            let variants: Vec<_> = opened.iter().map(|one| one["variant"].as_str().unwrap_or("-")).collect();
            assert_eq!(variants, ["-", "quotes_kept", "quotes_kept", "absent", "-", "-", "-"], "{log}");
        } else {
            assert!(opened.iter().all(|one| one["server_tls"]["version"] == version), "{opened:#?}");
        }
        assert!(!format!("{opened:?}{log}").contains(PASSWORD), "the password is shown");
        // Wireshark finds the same refusals, and the keys inside a file do what those beside it do.
        let codes = |list: &[Value]| {
            let mut codes: Vec<String> = list
                .iter()
                .filter_map(|one| Some(one["server_error"]["sqlstate"].as_str()?.to_owned()))
                .collect();
            codes.sort();
            codes
        };
        assert_eq!(dissected(file, &keys, port), codes(&opened), "{version}, {port}");
        let inside = dir.path().join("inside.pcapng").display().to_string();
        let editcap = install::need("editcap", "apt-get install wireshark-common");
        let inject = format!("tls,{keylog}");
        let done =
            Command::new(editcap).args(["--inject-secrets", &inject, &name, &inside]).status().unwrap();
        assert!(done.success());
        let args = ["--port", &port_text, "--expect", &expect, &inside];
        let mut inside = show(&args).0;
        inside.retain(is_clients);
        assert_eq!(verdicts(&inside), verdicts(&opened), "{version}: keys in the file");
    }
    others_open_it_too(&files[0], &keylog, legs[0]);
}

/// `diff` and `report` take a key log as well.
fn others_open_it_too(file: &Path, keylog: &str, port: u16) {
    let (name, port) = (file.display().to_string(), port.to_string());
    let run = |command: &str, more: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
        program.arg(command).args(["--port", &port, "--keylog", keylog]).args(more).arg(&name);
        String::from_utf8(program.output().unwrap().stdout).unwrap()
    };
    let difference = run("diff", &["--format", "human", "--user", "app"]);
    assert!(difference.contains("startup.database") && difference.contains("nowhere"), "{difference}");
    let page = run("report", &["--format", "markdown"]);
    assert!(page.contains("StartupMessage") && page.contains("28P01") && page.contains("--keylog"), "{page}");
    assert!(!page.contains(PASSWORD) && !page.contains("opaque"), "{page}");
}

#[test]
fn logins_inside_of_tls_are_seen_with_a_key_log() {
    if !geteuid().is_root() {
        println!("skipped: tcpdump may capture only for root");
        return;
    }
    check("", "TLSv1.3");
    check("ssl_max_protocol_version = 'TLSv1.2'\nssl_ciphers = 'ECDHE-ECDSA-CHACHA20-POLY1305'\n", "TLSv1.2");
    check("ssl_max_protocol_version = 'TLSv1.2'\nssl_ciphers = 'ECDHE-ECDSA-AES128-GCM-SHA256'\n", "TLSv1.2");
}

#[test]
fn a_key_log_without_use_is_told_and_changes_nothing() {
    let scratch = Scratch::new();
    let login = crate::command::file(&scratch, "x.pcap", &[("pg", "scram_wrong_pw")]).display().to_string();
    let empty = scratch.write("empty", b"").display().to_string();
    let broken = scratch.write("broken", b"CLIENT_RANDOM 00 11\n").display().to_string();
    let (wanted, _, _) = show(&[&login]);
    let rows: [(&str, &str, usize, i32); 3] = [
        (&empty, "there are no keys in it", 1, 1),
        (&broken, "there are no keys in it", 1, 1),
        ("/nonexistent", "No such file", 0, 2),
    ];
    for (keylog, said, count, code) in rows {
        let (found, log, exit) = show(&["--keylog", keylog, &login]);
        assert_eq!((found.len(), exit), (count, Some(code)), "{keylog}: {log}");
        assert!(log.contains(said) && log.contains(keylog), "{log}");
        assert!(found.is_empty() || found == wanted, "{keylog}");
    }
}
