//! The servers of the rows: one of each kind, started when the first row needs it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::files::{HERE, files};
use crate::row::At;
use crate::support::certs::{Authority, Issued, Wish};
use crate::support::server::{Plan, Server, Version};
use rcgen::ExtendedKeyUsagePurpose;

/// All servers of one version.
#[derive(Debug)]
pub struct Stage {
    pub version: Version,
    servers: Mutex<BTreeMap<At, Arc<OnceLock<Server>>>>,
}

const SQL: &str = "
CREATE ROLE app LOGIN PASSWORD 'correct-pw-1';
CREATE ROLE \"CN=app\" LOGIN PASSWORD 'correct-pw-1';
CREATE ROLE second LOGIN PASSWORD 'second-pw-2';
CREATE ROLE certain LOGIN PASSWORD 'correct-pw-1';
CREATE ROLE twofold LOGIN PASSWORD 'correct-pw-1';
CREATE ROLE named LOGIN PASSWORD 'correct-pw-1';
CREATE ROLE named_clear LOGIN PASSWORD 'correct-pw-1';
CREATE DATABASE app;
";

/// `certain` logs in with a certificate alone, `twofold` with one of the right authority and a password, the others with
/// one of their name and a password.
const HBA: &str = "
hostssl all certain all cert
hostssl all twofold all scram-sha-256 clientcert=verify-ca
hostssl all named all scram-sha-256 clientcert=verify-full
hostssl all named_clear all password clientcert=verify-full
host    all all     all scram-sha-256
";

impl Stage {
    pub fn new(version: Version) -> Self {
        Self { version, servers: Mutex::default() }
    }

    /// The port of a server.
    pub fn port(&self, at: At) -> u16 {
        let cell = Arc::clone(self.servers.lock().unwrap().entry(at).or_default());
        cell.get_or_init(|| Server::start(self.version, &plan(at))).port
    }

    /// A connection string of its administrator.
    pub fn admin(&self, at: At) -> String {
        let port = self.port(at);
        let cell = self.servers.lock().unwrap().get(&at).cloned();
        let server = cell.as_ref().and_then(|cell| cell.get()).expect("it was started");
        format!("postgres:///postgres?user=postgres&host={}&port={port}", server.socket_dir().display())
    }

    /// What a server logged, for a row that failed.
    pub fn log(&self, at: At) -> Vec<String> {
        let cell = self.servers.lock().unwrap().get(&at).cloned();
        let lines = cell.as_ref().and_then(|cell| cell.get()).map(|server| server.log_lines(0));
        let lines = lines.unwrap_or_default();
        lines.iter().rev().take(4).rev().cloned().collect()
    }
}

fn plan(at: At) -> Plan {
    let plain = Plan { hba: HBA.into(), sql: SQL.into(), ..Plan::default() };
    let tls = |certificate: &Issued, conf: &str| Plan {
        tls: true,
        files: certificate.files(&files().ca.pem()),
        conf: conf.to_owned(),
        ..plain.clone()
    };
    let ca = &files().ca;
    // A server with an ssl_ca_file asks every client for a certificate.
    let asks_nobody = "ssl_ca_file = ''\n";
    let shows = |certificate: &Issued| tls(certificate, asks_nobody);
    let issues = |by: &Authority, wish: &Wish| shows(&by.issue(wish));
    let good = || Wish::server(HERE);
    match at {
        At::Good => shows(&files().good),
        At::Plain | At::Fake(_) => plain.clone(),
        At::Expired => issues(ca, &good().within(-30, -1)),
        At::Future => issues(ca, &good().within(1, 30)),
        At::OtherName => issues(ca, &Wish::server(&["db.example", "*.db.example"])),
        At::CommonName => issues(ca, &Wish { names: Vec::new(), ..good() }),
        At::OtherCa => issues(&files().other, &good()),
        At::NoIntermediate => issues(&files().intermediate, &good()),
        At::Intermediate => shows(&files().intermediate.issue(&good()).behind(&files().intermediate)),
        At::SelfSigned => shows(&files().self_signed),
        At::Revoked => shows(&files().revoked),
        At::VersionOne => shows(&files().version_one),
        At::VersionOne12 => {
            let conf = format!("{asks_nobody}ssl_max_protocol_version = 'TLSv1.2'\n");
            tls(&files().version_one, &conf)
        }
        At::VersionOneBelow => {
            let below = files().intermediate.issue_version_one(&good());
            shows(&below.behind(&files().intermediate))
        }
        At::ForClients => issues(ca, &Wish { purposes: vec![ExtendedKeyUsagePurpose::ClientAuth], ..good() }),
        At::ClientCa => tls(&files().good, ""),
        At::ClientCa12 => tls(&files().good, "ssl_max_protocol_version = 'TLSv1.2'\n"),
        At::Tls11 => {
            let old = "ssl_min_protocol_version = 'TLSv1'\nssl_max_protocol_version = 'TLSv1.1'\nssl_ciphers = 'ALL:@SECLEVEL=0'\n";
            tls(&files().good, &format!("{asks_nobody}{old}"))
        }
        At::Tls12 => tls(&files().good, &format!("{asks_nobody}ssl_max_protocol_version = 'TLSv1.2'\n")),
        At::Tls13 => tls(&files().good, &format!("{asks_nobody}ssl_min_protocol_version = 'TLSv1.3'\n")),
        At::OldCipher => {
            let old = "ssl_max_protocol_version = 'TLSv1.2'\nssl_ciphers = 'AES256-SHA'\n";
            let rsa = ca.issue(&good().keyed(&rcgen::PKCS_RSA_SHA256));
            tls(&rsa, &format!("{asks_nobody}{old}"))
        }
    }
}
