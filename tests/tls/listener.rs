//! What OpenSSL finds at our listener: versions, suites, renegotiation, compression, resumption.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::{HERE, files};
use crate::support::certs::Wish;
use crate::support::client::clean;
use crate::support::keeper::{self, Scratch};
use crate::support::proxy::Proxy;
use crate::support::{DEADLINE, install};

/// A listener that ends TLS, before a server that nobody reaches; it shows an ECDSA or an RSA certificate.
fn listener(dir: &Scratch, rsa: bool) -> Proxy {
    let wish = Wish::server(HERE);
    let issued = files().ca.issue(&if rsa { wish.keyed(&rcgen::PKCS_RSA_SHA256) } else { wish });
    let cert = dir.write("shown.crt", &issued.pem).display().to_string();
    let key = dir.write("shown.key", &issued.key).display().to_string();
    let args = format!(
        "--client-tls require --server-tls disable --tls-cert {cert} --tls-key {key} --login-timeout 5s"
    );
    let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
    Proxy::start("127.0.0.1:1", &args)
}

/// Runs s_client: says `input`, goes on until `until` was printed, and gives all that was printed.
fn s_client(addr: SocketAddr, args: &str, input: &str, until: &str) -> (bool, String) {
    let mut command: Command = clean(install::need("openssl", "apt-get install openssl"));
    command.arg("s_client").args(["-connect", &addr.to_string()]).args(args.split(' '));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    keeper::watch(child.id());
    let (sender, printed) = mpsc::channel();
    let pipes: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for mut pipe in pipes {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
        });
    }
    drop(sender);
    let mut stdin = child.stdin.take();
    if !input.is_empty() {
        let _ = stdin.as_mut().unwrap().write_all(input.as_bytes());
    }
    let began = Instant::now();
    let mut all = String::new();
    loop {
        if all.contains(until) {
            stdin = None;
        }
        match printed.recv_timeout(Duration::from_millis(200)) {
            Ok(text) => all.push_str(&text),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(_) if began.elapsed() > DEADLINE => {
                let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
                let _ = kill_process(pid, Signal::KILL);
            }
            Err(_) => {}
        }
    }
    drop(stdin);
    let ok = child.wait().unwrap().success();
    keeper::forget(child.id());
    (ok, all)
}

#[test]
fn openssl_finds_nothing_weak() {
    let dirs = [Scratch::new(), Scratch::new()];
    let proxies = [listener(&dirs[0], false), listener(&dirs[1], true)];
    let ca = files().fill("-CAfile {ca} -verify_return_error -verify_hostname localhost");
    let shaken = [
        ("TLS 1.3 by SSLRequest", "-starttls postgres -tls1_3", "TLSv1.3"),
        ("TLS 1.2 by SSLRequest", "-starttls postgres -tls1_2", "TLSv1.2"),
        ("direct TLS", "-alpn postgresql", "ALPN protocol: postgresql"),
        ("no compression", "-starttls postgres -tls1_2 -comp", "Compression: NONE"),
        ("renegotiation is protected", "-starttls postgres -tls1_2", "Secure Renegotiation IS supported"),
        ("the curve of most", "-starttls postgres -groups P-256", "ECDH, prime256v1"),
    ];
    let refused = [
        ("TLS 1.1", "-starttls postgres -tls1_1 -cipher ALL:@SECLEVEL=0"),
        ("TLS 1.0", "-starttls postgres -tls1 -cipher ALL:@SECLEVEL=0"),
        (
            "a key exchange that keeps nothing secret",
            "-starttls postgres -tls1_2 -cipher ALL:!ECDHE:@SECLEVEL=0",
        ),
        ("CBC", "-starttls postgres -tls1_2 -cipher ECDHE:!AESGCM:!CHACHA20:@SECLEVEL=0"),
        ("nobody's certificate, or no cipher", "-starttls postgres -tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0"),
        ("SHA-1", "-starttls postgres -tls1_2 -sigalgs RSA+SHA1:ECDSA+SHA1 -cipher ALL:@SECLEVEL=0"),
        ("finite fields", "-starttls postgres -tls1_3 -groups ffdhe2048"),
        ("direct TLS for another protocol", "-alpn http/1.1"),
        ("direct TLS for no protocol in particular", "-tls1_3"),
    ];
    for proxy in &proxies {
        for (claim, args, printed) in shaken {
            let (ok, text) = s_client(proxy.addr, &format!("{args} {ca}"), "", "Verify return code");
            assert!(ok && text.contains(printed), "{claim}: {text}");
        }
        for (claim, args) in refused {
            let (ok, text) = s_client(proxy.addr, args, "", "---");
            assert!(!ok && text.contains("Cipher is (NONE)"), "{claim} should be refused: {text}");
        }
        // Told at once, not when the login deadline ends it.
        let began = Instant::now();
        let (_, text) = s_client(proxy.addr, "-starttls postgres -tls1_2", "R\n", "no renegotiation");
        let (_, after) = text.split_once("RENEGOTIATING").unwrap();
        assert!(!after.contains("depth=") && after.contains("no renegotiation"), "renegotiated: {text}");
        assert!(began.elapsed() < DEADLINE, "{text}");
    }
}

#[test]
fn a_session_is_resumed() {
    let dir = Scratch::new();
    let proxy = listener(&dir, false);
    let file = dir.path().join("session").display().to_string();
    for (version, wait) in [("-tls1_2", "Verify return code"), ("-tls1_3", "Session Ticket arrived")] {
        let first = format!("-starttls postgres {version} -sess_out {file}");
        let (_, text) = s_client(proxy.addr, &first, "", wait);
        assert!(text.contains("New, TLSv1"), "{version}: {text}");
        let (_, text) =
            s_client(proxy.addr, &format!("-starttls postgres {version} -sess_in {file}"), "", "Reused, ");
        assert!(text.contains("Reused, TLSv1"), "{version} is not resumed: {text}");
    }
}
