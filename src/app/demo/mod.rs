//! `pgwhy demo`: a real server, the proxy, and a dozen logins that go wrong.

use std::net::SocketAddr;
use std::path::Path;

use crate::net::{Upstream, UpstreamHost};
use crate::password::Expected;
use crate::secret::Secret;

use super::clerk::{Clerk, Setting};
use super::cli::DemoArgs;
use super::output::{Dress, Format, Show};
use super::proxy::{Running, start};
use super::{Failure, print};

mod client;
mod postgres;

use client::{Answer, Login, log_in};
use postgres::Postgres;

/// The password of the demo's connection string. It has what breaks passwords: `#`, `$` and `%`.
const PASSWORD: &str = "s3cret#100%$HOME";

/// The demo's rules. The proxy reaches the server through its Unix socket, so they are `local` lines.
const HBA: &str = "\
local all     rejected  reject
local all     clear     password
local all     ghost     trust
local all     nologin   scram-sha-256
local app     all       scram-sha-256
local missing app       scram-sha-256
";

/// One role a mistake; single-user mode wants a statement a line.
const SQL: &str = "\
CREATE ROLE app LOGIN PASSWORD 's3cret#100%$HOME'
CREATE ROLE clear LOGIN PASSWORD 's3cret#100%$HOME'
CREATE ROLE changed LOGIN PASSWORD 'a new one since Monday'
CREATE ROLE nologin NOLOGIN PASSWORD 's3cret#100%$HOME'
CREATE ROLE crowded LOGIN CONNECTION LIMIT 1 PASSWORD 's3cret#100%$HOME'
CREATE ROLE rejected LOGIN
CREATE DATABASE app
";

/// One login of the demo.
struct Scene {
    title: &'static str,
    login: Login,
}

/// Runs the demo.
pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let server = Postgres::start(args.pg_bin.as_deref(), HBA, &[("max_connections", "20")], SQL)?;
    let version = &server.version;
    let title = format!(
        "A throw-away {version} behind a pgwhy proxy. Its connection string would be\n  postgresql://app:***@127.0.0.1/app\n\n"
    );
    print(title.as_bytes())?;
    let running = proxy(&server.socket)?;
    let Some(addr) = running.first_tcp() else {
        return Err(Failure::failed("the demo's proxy has no address"));
    };
    let result = play(addr, &running);
    running.stop();
    drop(server);
    result?;
    print(b"\nEverything is gone again. Now your own: pgwhy proxy --upstream \"$DATABASE_URL\"\n")
}

fn proxy(socket: &Path) -> Result<Running, Failure> {
    let host = UpstreamHost { name: socket.display().to_string(), hostaddr: None, port: 5432 };
    let expected = Expected {
        password: Secret::new(PASSWORD.into()),
        raw: Some(Secret::new("s3cret%23100%25%24HOME".into())),
        source: "the connection string".into(),
        ..Expected::default()
    };
    let dress = Dress::new(Some(Format::Human), Show::All);
    let clerk = Clerk::new(Setting { expected: Some(expected), ..Setting::default() });
    let upstream = Upstream { hosts: vec![host], connect_timeout: None };
    start(clerk, dress, upstream, &["127.0.0.1:0".to_owned()])
}

fn play(addr: SocketAddr, running: &Running) -> Result<(), Failure> {
    // Holds the one session that the role `crowded` may have.
    let mut held = Vec::new();
    for (at, scene) in scenes().into_iter().enumerate() {
        running.say(format!("\n{:>2}. {}\n", at + 1, scene.title));
        let session = log_in(addr, &scene.login)?;
        if scene.title.contains("first of two") {
            held.extend(session);
        }
        running.wait_for_report();
    }
    Ok(())
}

fn scenes() -> Vec<Scene> {
    let node = |user: &str, database: &str| {
        vec![
            ("user", user.to_owned()),
            ("database", database.to_owned()),
            ("client_encoding", "UTF8".to_owned()),
        ]
    };
    let with = |parameters: Vec<(&'static str, String)>, password: &str| Login {
        parameters,
        answer: Answer::Password(password.into()),
        insists_on_tls: false,
    };
    let sends = |title, password: &str| Scene { title, login: with(node("app", "app"), password) };
    let logs_in =
        |title, user: &str, database: &str| Scene { title, login: with(node(user, database), PASSWORD) };
    let psql = vec![
        ("user", "app".to_owned()),
        ("database", "app".to_owned()),
        ("application_name", "psql".to_owned()),
    ];
    let old = vec![
        ("user", "app".to_owned()),
        ("database", "app".to_owned()),
        ("client_encoding", "'utf-8'".to_owned()),
    ];
    let mut schema = node("app", "app");
    schema.insert(2, ("schema", "public".to_owned()));
    let leaves = |parameters| Login { parameters, answer: Answer::Leave, insists_on_tls: false };
    let tls = Login { parameters: Vec::new(), answer: Answer::Leave, insists_on_tls: true };
    vec![
        sends("The right password", PASSWORD),
        sends("docker --env-file kept the quotes", "\"s3cret#100%$HOME\""),
        sends("dotenv cut an unquoted value at #", "s3cret"),
        sends("a secret file that was written by echo", "s3cret#100%$HOME\n"),
        sends("the URL's encoded password in a plain field", "s3cret%23100%25%24HOME"),
        sends("a variable that was not set", "undefined"),
        logs_in("the password was changed at the server", "changed", "app"),
        Scene { title: "psql without a password", login: leaves(psql) },
        Scene { title: "a driver older than SCRAM", login: leaves(old) },
        sends("an empty password", ""),
        logs_in("a database that does not exist", "app", "missing"),
        logs_in("a role without LOGIN", "nologin", "app"),
        logs_in("a role that does not exist, on a trust line", "ghost", "app"),
        logs_in("a reject line in pg_hba.conf", "rejected", "app"),
        logs_in("no line in pg_hba.conf", "app", "postgres"),
        Scene { title: "Prisma's ?schema= in another driver", login: with(schema, PASSWORD) },
        logs_in("a role with a connection limit, the first of two", "crowded", "app"),
        logs_in("… and the second", "crowded", "app"),
        Scene { title: "sslmode=require at a server without TLS", login: tls },
    ]
}
