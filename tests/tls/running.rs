//! What a running proxy does with files: new certificates are shown, and secrets are logged for who wants them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use crate::files::{HERE, files};
use crate::row::{login, with};
use crate::support::DEADLINE;
use crate::support::certs::{Issued, Wish};
use crate::support::client::{Login, Who};
use crate::support::keeper::Scratch;
use crate::support::peer::SSL_REQUEST;
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::{Plan, Server, Version};
use rustls::pki_types::ServerName;

/// A good server for `app`.
pub fn server() -> Server {
    Server::start(Version::V15, &plan())
}

pub fn plan() -> Plan {
    Plan {
        hba: "host all all all scram-sha-256\n".into(),
        sql: "CREATE ROLE app LOGIN PASSWORD 'correct-pw-1'; CREATE DATABASE app OWNER app;".into(),
        tls: true,
        files: files().good.files(&files().ca.pem()),
        conf: "ssl_ca_file = ''\n".into(),
        ..Plan::default()
    }
}

/// TLS as any client would begin it; the certificate that it was shown.
pub fn shown_at(addr: SocketAddr) -> (rustls::ClientConnection, TcpStream, Vec<u8>) {
    let mut roots = rustls::RootCertStore::empty();
    let ca = files().ca.pem();
    let ca = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        ca.as_bytes(),
    );
    roots.add(ca.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(SSL_REQUEST).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    let leaf = tls.peer_certificates().unwrap()[0].to_vec();
    (tls, stream, leaf)
}

fn put(dir: &Scratch, issued: &Issued) {
    // Both at once, as a rename would do it: a key without its certificate is looked at again later.
    dir.write("shown.crt", &issued.pem);
    let key = dir.write("shown.key", &issued.key);
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A proxy that shows what [`put`] has put there.
fn showing(dir: &Scratch, server: &Server) -> Proxy {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let args = ["--client-tls", "open", "--tls-cert", &path("shown.crt"), "--tls-key", &path("shown.key")];
    Proxy::start(&format!("127.0.0.1:{}", server.port), &args.map(str::to_owned))
}

fn comes(proxy: &Proxy, issued: &Issued) {
    let began = Instant::now();
    while shown_at(proxy.addr).2 != issued.der {
        assert!(began.elapsed() < DEADLINE, "the new certificate never comes");
    }
}

/// A connection of before goes on with what it has.
fn goes_on((mut tls, mut stream, _): (rustls::ClientConnection, TcpStream, Vec<u8>)) {
    tls.writer().write_all(&crate::support::peer::startup(196_608, &[("user", "app")])).unwrap();
    tls.complete_io(&mut stream).unwrap();
    let mut answer = [0];
    while tls.reader().read(&mut answer).is_err() {
        tls.complete_io(&mut stream).unwrap();
    }
    assert_eq!(answer, [b'R']);
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let server = server();
    let dir = Scratch::new();
    let (first, second) = (files().ca.issue(&Wish::server(HERE)), files().ca.issue(&Wish::server(HERE)));
    put(&dir, &first);
    let proxy = showing(&dir, &server);
    let old = shown_at(proxy.addr);
    assert_eq!(old.2, first.der);
    put(&dir, &second);
    comes(&proxy, &second);
    goes_on(old);
    dir.write("shown.crt", "this is no certificate\n");
    let began = Instant::now();
    while !proxy.stderr().contains("the old certificate stays") {
        assert!(began.elapsed() < DEADLINE, "nothing is said about a bad file");
        assert_eq!(shown_at(proxy.addr).2, second.der, "the good one stays");
    }
}

#[test]
fn a_keylog_has_the_secrets_of_both_legs_and_nobody_else_may_read_it() {
    let server = server();
    let dir = Scratch::new();
    let log = dir.path().join("keys");
    let (cert, key) = (files().fill("{shown.crt}"), files().fill("{shown.key}"));
    let log_arg = log.display().to_string();
    let args = ["--client-tls", "open", "--tls-cert", &cert, "--tls-key", &key, "--tls-keylog", &log_arg];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let upstream = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    let proxy = Proxy::start(&upstream, &args);
    let answer = Who::Psql.log_in(proxy.addr, &with("require"));
    assert!(answer.ok, "{answer:?}");
    let randoms = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 "));
        lines.filter_map(|line| line.split(' ').nth(1).map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    let began = Instant::now();
    while randoms().len() < 3 {
        assert!(began.elapsed() < DEADLINE, "{:?}", randoms());
    }
    assert_eq!(randoms().len(), 3, "one session a leg, and the login that pgwhy tries first");
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(proxy.stderr().contains("can read the traffic"), "{}", proxy.stderr());
}

#[test]
fn a_keylog_that_stalls_holds_up_no_login() {
    let dir = Scratch::new();
    let pipe = dir.path().join("keys");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened, so that pgwhy may write, and never read: a pipe holds the secrets of some 80 sessions.
    let _unread = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let (cert, key) = (files().fill("{shown.crt}"), files().fill("{shown.key}"));
    let log = pipe.display().to_string();
    let args = ["--client-tls", "require", "--server-tls", "disable", "--tls-cert", &cert, "--tls-key", &key];
    let args: Vec<String> = args.into_iter().chain(["--tls-keylog", &log]).map(str::to_owned).collect();
    let proxy = Proxy::start("127.0.0.1:1", &args);
    for _ in 0..300 {
        shown_at(proxy.addr);
    }
}

/// A verifying client comes through with nothing changed but the port, as the README promises for `auto` with
/// the server's own certificate.
#[test]
fn many_clients_at_once_are_opened() {
    let server = server();
    let (cert, key) = (files().fill("{good.crt}"), files().fill("{good.key}"));
    let args: Vec<String> =
        ["--tls-cert", &cert, "--tls-key", &key].iter().map(|arg| (*arg).to_owned()).collect();
    let proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
    let login = Login {
        ca: Some(files().fill("{ca}").into()),
        options: vec![("channel_binding", "require".to_owned())],
        sslmode: "verify-full",
        ..login()
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = Who::Psql.log_in(proxy.addr, &login);
                assert!(answer.ok, "{answer:?}");
            });
        }
    });
    let seen = proxy.wait_handshakes(8, DEADLINE);
    assert_eq!(seen.len(), 8);
    assert!(
        seen.iter().all(|report| report["outcome"] == "ok" && report["client_tls"]["version"] == "TLSv1.3"),
        "{seen:?}"
    );
}

#[test]
fn a_hangup_reads_the_files_again_and_no_connection_is_lost() {
    let server = server();
    let dir = Scratch::new();
    let (first, second) = (files().ca.issue(&Wish::server(HERE)), files().ca.issue(&Wish::server(HERE)));
    put(&dir, &first);
    let stamps = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
    let before = ["shown.crt", "shown.key"].map(stamps);
    let proxy = showing(&dir, &server);
    let old = shown_at(proxy.addr);
    assert_eq!(old.2, first.der);
    put(&dir, &second);
    // Files that look as before: only the signal makes pgwhy read them.
    for (name, time) in ["shown.crt", "shown.key"].iter().zip(before) {
        let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(proxy.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    comes(&proxy, &second);
    goes_on(old);
}

/// `prefer` goes the other way where the server refuses a login for its TLS, also where TLS with it came first.
#[test]
fn a_login_that_is_refused_over_tls_goes_in_clear_under_prefer() {
    let plan = Plan { hba: "hostnossl all all all scram-sha-256\n".into(), ..plan() };
    let server = Server::start(Version::V15, &plan);
    let known = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    let mut proxy = Proxy::start(&known, &["--server-tls", "prefer"].map(str::to_owned));
    let answer = Who::Psql.log_in(proxy.addr, &with("require"));
    assert!(answer.ok, "{answer:?}");
    let seen = handshakes(&proxy.finish());
    assert!(seen[0]["warnings"].to_string().contains("server_tls_fallback"), "{}", seen[0]);
}

/// A server behind a Unix socket has no TLS for anybody, and its clients of pgwhy's port may have.
#[test]
fn a_client_has_tls_although_the_servers_socket_has_none() {
    let plan = Plan { hba: "local all all scram-sha-256\n".into(), ..plan() };
    let server = Server::start(Version::V15, &plan);
    let directory = server.socket_dir().display().to_string().replace('/', "%2F");
    let known = format!("postgresql://app:correct-pw-1@{directory}:{}/app", server.port);
    for mode in ["require", "prefer"] {
        let mut proxy = Proxy::start(&known, &["--server-tls", mode].map(str::to_owned));
        let answer = Who::Psql.log_in(proxy.addr, &with("require"));
        assert!(answer.ok, "{mode}: {answer:?}");
        let seen = handshakes(&proxy.finish());
        assert_eq!(seen[0]["client_tls"]["version"], "TLSv1.3", "{mode}: {}", seen[0]);
    }
}

/// libpq tries again in clear after any error under `sslmode=prefer`: that must not pass in silence.
#[test]
fn a_login_that_gave_tls_up_because_of_us_is_warned_of() {
    let base = plan();
    let sql = format!("{} CREATE ROLE second LOGIN PASSWORD 'second-pw-2';", base.sql);
    let server = Server::start(Version::V15, &Plan { sql, ..base });
    let known = format!("postgres://app:correct-pw-1@127.0.0.1:{}/app", server.port);
    let mut proxy = Proxy::start(&known, &[]);
    let second = Login { user: "second".into(), password: Some("second-pw-2".into()), ..with("prefer") };
    assert!(Who::Psql.log_in(proxy.addr, &second).ok);
    let seen = handshakes(&proxy.finish());
    assert_eq!(seen[0]["cause"], "channel_binding_mismatch", "{}", seen[0]);
    assert_eq!(seen[1]["outcome"], "ok", "{}", seen[1]);
    assert_eq!(seen[1]["warnings"][0]["cause"], "tls_given_up", "{}", seen[1]);
}

/// pg_hba.conf is read for the connection that the server sees, which has TLS although the client's has none.
#[test]
fn lines_for_tls_decide_where_the_servers_leg_has_it() {
    let hba = "hostssl all all all scram-sha-256\nhostnossl all all all reject\n";
    let plan = Plan { hba: hba.into(), ..plan() };
    let server = Server::start(Version::V15, &plan);
    let dir = Scratch::new();
    let file = dir.write("pg_hba.conf", hba).display().to_string();
    let args = ["--server-tls", "require", "--hba", &file, "--pg-version", "15"].map(str::to_owned);
    let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
    let wrong = Login { password: Some("wrong-pw-3".into()), ..with("disable") };
    assert!(!Who::Psql.log_in(proxy.addr, &wrong).ok);
    assert!(Who::Psql.log_in(proxy.addr, &with("disable")).ok);
    let seen = handshakes(&proxy.finish());
    assert_eq!(seen[0]["cause"], "password_rejected", "{}", seen[0]);
    assert_eq!(seen[1]["outcome"], "ok", "{}", seen[1]);
    let warned = seen[1]["warnings"].to_string();
    assert!(!warned.contains("hba_not_reloaded"), "{warned}");
}

/// Cause, confidence and leg of a psql login through a server that has only this line.
fn told(hba: &str, args: [&str; 4], sslmode: &'static str) -> [serde_json::Value; 3] {
    let server = Server::start(Version::V15, &Plan { hba: hba.into(), ..plan() });
    let dir = Scratch::new();
    let file = dir.write("pg_hba.conf", hba).display().to_string();
    let args: Vec<String> =
        args.into_iter().chain(["--hba", &file, "--pg-version", "15"]).map(str::to_owned).collect();
    let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args);
    assert!(!Who::Psql.log_in(proxy.addr, &with(sslmode)).ok);
    let seen = handshakes(&proxy.finish());
    ["cause", "confidence", "leg"].map(|field| seen[0][field].clone())
}

/// Only a line without TLS would match: the client, or pgwhy on its own leg, must do without.
#[test]
fn a_line_without_tls_is_named_where_the_login_has_it() {
    for (args, sslmode, leg) in [
        (["--client-tls", "open", "--server-tls", "mirror"], "require", "client"),
        (["--client-tls", "auto", "--server-tls", "require"], "disable", "proxy"),
    ] {
        let told = told("hostnossl all all all scram-sha-256\n", args, sslmode);
        assert_eq!(told, ["hba_forbids_tls", "proven", leg], "{args:?}");
    }
}

/// A hostssl line, and a client that pgwhy kept from using TLS: it is not the client who must change.
#[test]
fn who_declines_tls_is_named_where_a_line_wants_it() {
    for (args, sslmode) in [
        (["--client-tls", "disable", "--server-tls", "mirror"], "prefer"),
        (["--client-tls", "require", "--server-tls", "disable"], "require"),
    ] {
        let told = told("hostssl all all all scram-sha-256\n", args, sslmode);
        assert_eq!(told, ["hba_requires_tls", "proven", "proxy"], "{args:?}");
    }
}
