//! TLS of the administrator's connection: the words of libpq against real servers.

use std::io::Result;
use std::path::Path;

use pgwhy::app::admin::{Admin, AdminProblem};

use crate::support::DEADLINE;
use crate::support::certs::{Authority, Issued, Wish};
use crate::support::client::{Login, Who};
use crate::support::keeper::Scratch;
use crate::support::peer::Wire;
use crate::support::proxy::Proxy;
use crate::support::server::{Plan, Server, Version};
use crate::{PATIENT, VERSIONS, peer_says};

const HBA: &str = "hostssl all normal 127.0.0.1/32 scram-sha-256
hostssl all cert 127.0.0.1/32 cert
hostnossl all clear 127.0.0.1/32 scram-sha-256
host all either 127.0.0.1/32 scram-sha-256
";
const SQL: &str = "CREATE ROLE normal LOGIN PASSWORD 'adm1n-pass'; CREATE ROLE cert LOGIN;
CREATE ROLE clear LOGIN PASSWORD 'adm1n-pass'; CREATE ROLE either LOGIN PASSWORD 'adm1n-pass';";

/// What becomes of the connection.
enum Wants {
    /// It is encrypted.
    Tls,
    /// It is not.
    Clear,
    /// There is no TLS, and these words say why.
    NoTls(&'static str),
    /// The server refuses the login.
    Refused,
    /// It breaks, and the words say how.
    Broken(&'static str),
}

struct Row {
    claim: &'static str,
    user: &'static str,
    /// Behind `host=localhost hostaddr=127.0.0.1`; `DIR` is where the files are.
    words: &'static str,
    wants: Wants,
}

fn rows(version: Version) -> Vec<Row> {
    let row = |claim, user, words, wants| Row { claim, user, words, wants };
    let direct = if version == Version::V18 { Wants::Tls } else { Wants::NoTls("") };
    vec![
        row("TLS is preferred where nothing is said", "either", "", Wants::Tls),
        row("without TLS if it must not be", "either", "sslmode=disable", Wants::Clear),
        row("a line for TLS refuses plaintext", "normal", "sslmode=disable", Wants::Refused),
        row("allow begins in clear", "either", "sslmode=allow", Wants::Clear),
        row("allow goes on to TLS where plaintext is refused", "normal", "sslmode=allow", Wants::Tls),
        row("prefer goes on to plaintext where TLS is refused", "clear", "sslmode=prefer", Wants::Clear),
        row("require stays with TLS", "clear", "sslmode=require", Wants::Refused),
        row("require takes any certificate", "normal", "sslmode=require", Wants::Tls),
        row(
            "require verifies where there is a root",
            "normal",
            "sslmode=require sslrootcert=DIR/other.crt",
            Wants::NoTls("not accepted"),
        ),
        row("the chain is good", "normal", "sslmode=verify-ca sslrootcert=DIR/root.crt", Wants::Tls),
        row("chain and name are good", "normal", "sslmode=verify-full sslrootcert=DIR/root.crt", Wants::Tls),
        row(
            "the name is another",
            "normal",
            "host=db.example sslmode=verify-full sslrootcert=DIR/root.crt",
            Wants::NoTls("db.example"),
        ),
        row(
            "verify-ca does not mind the name",
            "normal",
            "host=db.example sslmode=verify-ca sslrootcert=DIR/root.crt",
            Wants::Tls,
        ),
        row(
            "the certificate was revoked",
            "normal",
            "sslmode=verify-ca sslrootcert=DIR/root.crt sslcrl=DIR/revoked.crl",
            Wants::NoTls("revo"),
        ),
        row(
            "prefer goes on in clear when the certificate is not good",
            "either",
            "sslmode=prefer sslrootcert=DIR/other.crt",
            Wants::Clear,
        ),
        row(
            "where plaintext is refused as well, TLS is named as the reason",
            "normal",
            "sslmode=prefer sslrootcert=DIR/other.crt",
            Wants::NoTls("not accepted"),
        ),
        row("SCRAM binds to the channel", "normal", "sslmode=require channel_binding=require", Wants::Tls),
        row(
            "there is no channel to bind to in clear",
            "clear",
            "sslmode=disable channel_binding=require",
            Wants::Broken("channel binding"),
        ),
        row("TLS at once", "normal", "sslmode=require sslnegotiation=direct", direct),
        row(
            "a certificate of ours",
            "cert",
            "sslmode=require sslcert=DIR/cert.crt sslkey=DIR/cert.key",
            Wants::Tls,
        ),
        row("none of ours where one is wanted", "cert", "sslmode=require", Wants::Refused),
    ]
}

fn write(scratch: &Scratch, root: &Authority, server: &Issued) {
    let client = root.issue(&Wish::client("cert"));
    scratch.write("root.crt", root.pem());
    scratch.write("other.crt", Authority::root("another root").pem());
    scratch.write("revoked.crl", root.revocation_list(server));
    scratch.write("cert.crt", &client.pem);
    scratch.write("cert.key", &client.key);
}

fn start(version: Version, issued: &Issued, ca: &str) -> Server {
    let conf =
        "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n";
    let plan = Plan {
        hba: HBA.into(),
        sql: SQL.into(),
        conf: conf.into(),
        files: issued.files(ca),
        ..Plan::default()
    };
    Server::start(version, &plan)
}

fn conninfo(server: &Server, dir: &Path, user: &str, words: &str) -> String {
    let words = words.replace("DIR", &dir.display().to_string());
    let port = server.port;
    format!(
        "host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres user={user} password=adm1n-pass {words}"
    )
}

fn check(row: &Row, server: &Server, dir: &Path) -> Option<String> {
    let admin = Admin::new(&conninfo(server, dir, row.user, row.words)).expect(row.claim);
    let answer = admin.ask("either", "postgres", PATIENT);
    let encrypted = server.sql(
        "select coalesce(bool_and(ssl)::text, 'gone') from pg_stat_ssl join pg_stat_activity using (pid) \
         where application_name = 'pgwhy admin' and state = 'idle'",
    );
    let right = match (&row.wants, &answer) {
        (Wants::Tls, Ok(_)) => encrypted.trim() == "true",
        (Wants::Clear, Ok(_)) => encrypted.trim() == "false",
        (Wants::NoTls(said), Err(AdminProblem::Tls(why))) => why.contains(said),
        (Wants::Refused, Err(AdminProblem::Refused { sqlstate, .. })) => sqlstate == "28000",
        (Wants::Broken(said), Err(AdminProblem::Broken(why))) => why.contains(said),
        _ => false,
    };
    drop(admin);
    // The next one is not to meet this one's connection.
    let gone = "select count(*) from pg_stat_activity where application_name = 'pgwhy admin'";
    let until = std::time::Instant::now() + DEADLINE;
    while server.sql(gone).trim() != "0" {
        assert!(std::time::Instant::now() < until, "{}: its connection stays", row.claim);
        std::thread::yield_now();
    }
    (!right).then(|| format!("{}: {:?} (ssl {})", row.claim, answer.map(|_| "facts"), encrypted.trim()))
}

#[test]
fn the_words_of_libpq_mean_what_they_mean_to_libpq() {
    for version in VERSIONS {
        let (scratch, root) = (Scratch::new(), Authority::root("the root"));
        let issued = root.issue(&Wish::server(&["localhost"]));
        write(&scratch, &root, &issued);
        let server = start(version, &issued, &root.pem());
        let faults: Vec<_> =
            rows(version).iter().filter_map(|row| check(row, &server, scratch.path())).collect();
        assert!(faults.is_empty(), "{version:?}:\n{}", faults.join("\n"));
    }
}

#[test]
fn a_certificate_out_of_date_and_a_server_without_tls() {
    let (scratch, root) = (Scratch::new(), Authority::root("the root"));
    let old = root.issue(&Wish::server(&["localhost"]).within(-30, -1));
    write(&scratch, &root, &old);
    let server = start(Version::V15, &old, &root.pem());
    let ask = |server: &Server, words: &str| {
        let admin = Admin::new(&conninfo(server, scratch.path(), "either", words)).unwrap();
        admin.ask("either", "postgres", PATIENT).map(|_| ()).unwrap_err().to_string()
    };
    let expired = ask(&server, "sslmode=verify-ca sslrootcert=DIR/root.crt");
    assert!(expired.contains("no TLS") && expired.contains("ended on"), "{expired}");
    let plan = Plan { hba: HBA.into(), sql: SQL.into(), ..Plan::default() };
    let without = Server::start(Version::V15, &plan);
    let none = ask(&without, "sslmode=require");
    assert!(none.contains("the server has none"), "{none}");
    let admin = Admin::new(&conninfo(&without, scratch.path(), "either", "sslmode=prefer")).unwrap();
    assert!(admin.ask("either", "postgres", PATIENT).is_ok(), "prefer does without");
}

/// TLS that can't be had is what the report lacks, and never the login's cause.
#[test]
fn what_was_missing_is_in_the_report() {
    let (scratch, root) = (Scratch::new(), Authority::root("the root"));
    let issued = root.issue(&Wish::server(&["localhost"]));
    write(&scratch, &root, &issued);
    let server = start(Version::V15, &issued, &root.pem());
    let login = Login {
        user: "either".into(),
        password: Some("wr0ng-pass".into()),
        database: Some("postgres".into()),
        ..Login::default()
    };
    for (words, cause, confidence, said) in [
        ("sslmode=verify-full sslrootcert=DIR/root.crt", "password_rejected", "possible", "stored password"),
        ("sslmode=verify-full sslrootcert=DIR/other.crt", "password_rejected", "possible", "no TLS"),
    ] {
        let admin = conninfo(&server, scratch.path(), "normal", words);
        let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &["--admin".to_owned(), admin]);
        Who::Psql.log_in(proxy.addr, &login);
        let seen = proxy.wait_handshakes(1, DEADLINE);
        let lines = proxy.finish();
        assert_eq!(
            (&seen[0]["cause"], &seen[0]["confidence"]),
            (&cause.into(), &confidence.into()),
            "{seen:?}"
        );
        assert!(seen[0]["evidence"].to_string().contains(said), "{said}: {seen:?}");
        assert!(
            lines.iter().all(|line| !line.contains("adm1n-pass")) && !proxy.stderr().contains("adm1n-pass")
        );
    }
}

#[test]
fn a_server_that_answers_the_request_for_tls_with_something_else() {
    let http: fn(&mut Wire) -> Result<()> = |wire| wire.send(b"HTTP/1.1 400 Bad Request");
    let error: fn(&mut Wire) -> Result<()> = |wire| wire.read_packet().and_then(|_| wire.send(b"E"));
    let nothing: fn(&mut Wire) -> Result<()> = |wire| wire.read_packet().map(drop);
    for (behaviour, said) in [(http, "'H'"), (error, "'E'"), (nothing, "asked for TLS")] {
        let problem = peer_says(behaviour);
        assert!(matches!(&problem, AdminProblem::Broken(why) if why.contains(said)), "{problem}");
    }
    // No TLS follows the S: with `prefer` it is tried without, which this server does not know either.
    let problem = peer_says(|wire| wire.read_packet().and_then(|_| wire.send(&[b'S'; 40])));
    assert!(matches!(problem, AdminProblem::Tls(_)), "{problem}");
}
