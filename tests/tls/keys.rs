//! Certificates and keys as people have them: every form of key, and what is said of those that can't be used.

use std::process::{Command, Stdio};

use crate::files::{HERE, files};
use crate::running::shown_at;
use crate::support::certs::Wish;
use crate::support::client::clean;
use crate::support::install;
use crate::support::keeper::Scratch;
use crate::support::proxy::Proxy;

fn openssl(args: &[&str]) {
    let mut command = clean(install::need("openssl", "apt-get install openssl"));
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_form_of_key_can_be_shown() {
    let dir = Scratch::new();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let kinds = [
        ("ecdsa", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("rsa", &rcgen::PKCS_RSA_SHA256),
    ];
    for (kind, algorithm) in kinds {
        let issued = files().ca.issue(&Wish::server(HERE).keyed(algorithm));
        dir.write("cert", &issued.pem);
        dir.write("pkcs8", &issued.key);
        // PKCS#1 for RSA, SEC1 for ECDSA.
        openssl(&["pkey", "-traditional", "-in", &file("pkcs8"), "-out", &file("old")]);
        // What `openssl ecparam -genkey` writes before the key.
        let old = std::fs::read_to_string(file("old")).unwrap();
        dir.write(
            "behind-parameters",
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{old}"),
        );
        for key in ["pkcs8", "old", "behind-parameters"] {
            let args = [
                "--client-tls",
                "require",
                "--server-tls",
                "disable",
                "--tls-cert",
                &file("cert"),
                "--tls-key",
                &file(key),
            ];
            let proxy = Proxy::start("127.0.0.1:1", &args.map(str::to_owned));
            assert_eq!(shown_at(proxy.addr).2, issued.der, "{kind}, {key}");
        }
    }
}

#[test]
fn what_cant_be_used_is_named() {
    let dir = Scratch::new();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (one, other) = (files().ca.issue(&Wish::server(HERE)), files().ca.issue(&Wish::server(HERE)));
    dir.write("cert", &one.pem);
    dir.write("key", &one.key);
    dir.write("other-key", &other.key);
    dir.write("text", "no PEM at all\n");
    dir.write("broken", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    openssl(&["pkey", "-in", &file("key"), "-aes256", "-passout", "pass:x", "-out", &file("encrypted")]);
    openssl(&["ec", "-in", &file("key"), "-aes256", "-passout", "pass:x", "-out", &file("old-encrypted")]);
    for (cert, key, said) in [
        ("cert", "encrypted", "encrypted with a passphrase"),
        ("cert", "old-encrypted", "encrypted with a passphrase"),
        ("cert", "other-key", "does not belong to the certificate"),
        ("cert", "text", "no \"BEGIN … PRIVATE KEY\""),
        ("cert", "cert", "no \"BEGIN … PRIVATE KEY\""),
        ("cert", "broken", "private key"),
        ("cert", "missing", "No such file"),
        ("text", "key", "no \"BEGIN CERTIFICATE\""),
        ("key", "key", "no \"BEGIN CERTIFICATE\""),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
        command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
        command.args([
            "proxy",
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            "127.0.0.1:1",
            "--client-tls",
            "require",
        ]);
        let output = command.args(["--tls-cert", &file(cert), "--tls-key", &file(key)]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{cert}, {key}: expected «{said}»: {text}");
        assert_eq!(output.status.code(), Some(2), "{cert}, {key}: {text}");
        assert!(!text.contains("AAAA"), "no part of a key is shown: {text}");
    }
}
