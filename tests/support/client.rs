//! Real clients. Each logs in once, asks `select 1`, and says how it went.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::peer::Wire;
use super::{DEADLINE, in_tests, install, keeper};

/// Who logs in.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// psql 15 (libpq 15).
    Psql,
    /// node-postgres 8.23 on the machine's Node.
    Pg,
    /// node-postgres 7.8.2, the last without SCRAM, on Node 10.
    Pg7,
    /// postgres.js 3.4.
    PostgresJs,
    /// asyncpg 0.32.
    Asyncpg,
    /// asyncpg 0.30.
    Asyncpg030,
    /// psycopg 3.3 with its own libpq 18.
    Psycopg,
    /// pg8000 1.31.
    Pg8000,
    /// pgjdbc of Debian 12 (42.5).
    Pgjdbc,
    /// tokio-postgres 0.7 without a TLS implementation.
    TokioPostgres,
    /// openssl's s_client with these arguments behind `-connect`.
    OpenSsl(&'static [&'static str]),
    /// Bytes of our own, for what no driver would do.
    Raw(fn(&mut Wire) -> std::io::Result<()>),
}

/// What it logs in with.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// A Unix socket's directory or a host in place of 127.0.0.1.
    pub host: Option<String>,
    pub user: String,
    pub password: Option<String>,
    pub database: Option<String>,
    /// libpq's word; "disable" when empty.
    pub sslmode: &'static str,
    /// The CA file for the verifying modes.
    pub ca: Option<PathBuf>,
    /// Startup parameters (drivers that have an option for them).
    pub settings: Vec<(&'static str, String)>,
    /// The driver's own options: libpq keywords, or keys of the driver's options object.
    pub options: Vec<(&'static str, String)>,
    /// Environment variables.
    pub env: Vec<(&'static str, String)>,
    /// What to put behind `postgres://user:password@host:port/database` (postgres.js).
    pub url_query: Option<&'static str>,
    /// TLS options of node-postgres, as JSON.
    pub tls: Option<&'static str>,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The login worked and the query answered.
    pub ok: bool,
    /// What the client told its user.
    pub error: String,
}

impl Who {
    /// Logs in once at `addr`.
    pub fn log_in(self, addr: SocketAddr, login: &Login) -> Answer {
        match self {
            Self::Psql => psql(addr, login),
            Self::Pg => {
                node(&install::need("node", "apt-get install nodejs"), "login-pg.js", Some("pg"), addr, login)
            }
            Self::Pg7 => node(&install::node_10(), "login-pg.js", Some("pg-7"), addr, login),
            Self::PostgresJs => {
                node(&install::need("node", "apt-get install nodejs"), "login-postgres.js", None, addr, login)
            }
            Self::Asyncpg => python(install::python_current(), "asyncpg", addr, login),
            Self::Asyncpg030 => python(install::python_asyncpg_030(), "asyncpg", addr, login),
            Self::Psycopg => python(install::python_current(), "psycopg", addr, login),
            Self::Pg8000 => python(install::python_current(), "pg8000", addr, login),
            Self::Pgjdbc => pgjdbc(addr, login),
            Self::TokioPostgres => tokio_postgres(addr, login),
            Self::OpenSsl(args) => openssl(addr, args),
            Self::Raw(talk) => match Wire::connect(addr).and_then(|mut wire| talk(&mut wire)) {
                Ok(()) => Answer { ok: true, error: String::new() },
                Err(error) => Answer { ok: false, error: error.to_string() },
            },
        }
    }
}

fn psql(addr: SocketAddr, login: &Login) -> Answer {
    let mut command = clean(install::client_program("psql"));
    let mut keywords: Vec<(&str, String)> = vec![
        ("host", host(addr, login)),
        ("port", addr.port().to_string()),
        ("user", login.user.clone()),
        ("sslmode", sslmode(login).to_owned()),
        ("connect_timeout", "20".to_owned()),
    ];
    keywords.extend(login.database.iter().map(|name| ("dbname", name.clone())));
    keywords.extend(login.ca.iter().map(|path| ("sslrootcert", path.display().to_string())));
    keywords.extend(login.options.iter().cloned());
    if let Some(password) = &login.password {
        command.env("PGPASSWORD", password);
    }
    command.envs(login.env.iter().cloned());
    // -w: never prompt. The connection string is last so that no part of it is read as an option.
    command.args(["-X", "-q", "-w", "-At", "-c", "select 1"]).arg(conninfo(&keywords));
    let (ok, out, err) = run(command);
    Answer { ok: ok && out.trim() == "1", error: err.trim().to_owned() }
}

/// A connection string in libpq's keyword form.
pub fn conninfo(keywords: &[(&str, String)]) -> String {
    let quoted = keywords.iter().map(|(key, value)| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        format!("{key}='{value}'")
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn node(
    program: &std::path::Path,
    script: &str,
    package: Option<&str>,
    addr: SocketAddr,
    login: &Login,
) -> Answer {
    let mut command = clean(program.to_owned());
    command.env("NODE_PATH", install::node_modules()).envs(login.env.iter().cloned());
    command.arg(in_tests("clients").join(script)).args(package).arg(as_json(addr, login));
    one_line(run(command))
}

fn python(path: &std::path::Path, driver: &str, addr: SocketAddr, login: &Login) -> Answer {
    let mut command = clean(install::need("python3", "apt-get install python3"));
    command.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1").envs(login.env.iter().cloned());
    command.arg(in_tests("clients/login.py")).arg(driver).arg(as_json(addr, login));
    one_line(run(command))
}

fn pgjdbc(addr: SocketAddr, login: &Login) -> Answer {
    let mut command = clean(install::need("java", "apt-get install openjdk-17-jdk-headless"));
    // A login lasts a second: the JVM need not become fast.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(install::pgjdbc()).arg("Login");
    let database = login.database.as_deref().unwrap_or_default();
    command.arg(format!("jdbc:postgresql://{}:{}/{database}", host(addr, login), addr.port()));
    let mut properties = vec![("user", login.user.clone()), ("sslmode", sslmode(login).to_owned())];
    properties.extend(login.password.iter().map(|password| ("password", password.clone())));
    properties.extend(login.ca.iter().map(|path| ("sslrootcert", path.display().to_string())));
    properties.extend(login.options.iter().cloned());
    command.args(properties.iter().map(|(name, value)| format!("{name}={value}")));
    command.envs(login.env.iter().cloned());
    one_line(run(command))
}

fn as_json(addr: SocketAddr, login: &Login) -> String {
    let options: BTreeMap<_, _> = login.options.iter().cloned().collect();
    let settings: BTreeMap<_, _> = login.settings.iter().cloned().collect();
    let tls: Option<serde_json::Value> =
        login.tls.map(|text| serde_json::from_str(text).expect("the row's TLS options"));
    let mut value = json!({
        "host": host(addr, login), "port": addr.port(), "user": login.user, "password": login.password,
        "database": login.database, "sslmode": sslmode(login), "ca": login.ca, "options": options,
        "settings": settings, "tls": tls,
    });
    if let Some(query) = login.url_query {
        let (user, password) = (&login.user, login.password.as_deref().unwrap_or_default());
        let database = login.database.as_deref().unwrap_or_default();
        value["url"] = json!(format!("postgres://{user}:{password}@{addr}/{database}{query}"));
    }
    value.to_string()
}

fn host(addr: SocketAddr, login: &Login) -> String {
    login.host.clone().unwrap_or_else(|| addr.ip().to_string())
}

fn sslmode(login: &Login) -> &'static str {
    if login.sslmode.is_empty() { "disable" } else { login.sslmode }
}

fn tokio_postgres(addr: SocketAddr, login: &Login) -> Answer {
    let mut config = tokio_postgres::Config::new();
    config.host(addr.ip().to_string()).port(addr.port()).user(&login.user);
    config.ssl_mode(match sslmode(login) {
        "require" => tokio_postgres::config::SslMode::Require,
        "prefer" => tokio_postgres::config::SslMode::Prefer,
        _ => tokio_postgres::config::SslMode::Disable,
    });
    if let Some(password) = &login.password {
        config.password(password);
    }
    if login.options.contains(&("target_session_attrs", "read-write".to_owned())) {
        config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    }
    if let Some(database) = &login.database {
        config.dbname(database);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        client.simple_query("select 1").await?;
        drop(client);
        driver.await.expect("the connection task ends")
    });
    match result {
        Ok(()) => Answer { ok: true, error: String::new() },
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Answer { ok: false, error: format!("{error}{}", cause.unwrap_or_default()) }
        }
    }
}

fn openssl(addr: SocketAddr, args: &[&str]) -> Answer {
    let mut command = clean(install::need("openssl", "apt-get install openssl"));
    command.arg("s_client").args(["-connect", &addr.to_string()]).args(args);
    let (ok, _, err) = run(command);
    Answer { ok, error: err.trim().to_owned() }
}

/// A command with none of the environment of whoever runs the tests.
pub fn clean(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").env("LANG", "C.UTF-8").env("TZ", "UTC");
    // pyenv's python3 is a shim that looks for its root.
    if let Some(root) = std::env::var_os("PYENV_ROOT") {
        command.env("PYENV_ROOT", root);
    }
    command
}

/// Runs a command to its end, or kills it at the deadline.
pub fn run(command: Command) -> (bool, String, String) {
    run_until(command, DEADLINE)
}

/// As [`run`], with a deadline of its own.
pub fn run_until(mut command: Command, deadline: Duration) -> (bool, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id();
    keeper::watch(pid);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = match receiver.recv_timeout(deadline) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            let raw = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
            // It may end at this very moment.
            let _ = kill_process(raw, Signal::KILL);
            let mut output = receiver.recv().expect("the waiting thread answers").expect("its output");
            output.stderr.extend_from_slice(format!("\nkilled after {deadline:?}: {command:?}").as_bytes());
            output
        }
    };
    keeper::forget(pid);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn one_line((_, out, err): (bool, String, String)) -> Answer {
    let last = out.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    match last {
        Some(value) => {
            Answer { ok: value["ok"] == true, error: value["error"].as_str().unwrap_or_default().to_owned() }
        }
        None => Answer { ok: false, error: format!("the client program said nothing: {out}{err}") },
    }
}
