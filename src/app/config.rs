//! From the command line and the environment to what the proxy needs: addresses and the expected
//! password.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use crate::conninfo::{
    Conninfo, Host, HostName, PasswordSource, Problem, Severity, SslMode, env_file, may_hold_password,
    passfile,
};
use crate::diagnose::context::Demands;
use crate::net::{Listen, PeerAddr, Upstream, UpstreamHost};
use crate::password::Expected;
use crate::secret::Secret;

use super::{Failure, stderr};

/// Where the proxy leads, and what is known about it.
pub(super) struct Target {
    /// The servers.
    pub(super) upstream: Upstream,
    conninfo: Conninfo,
    /// The first host's name, for what depends on the service.
    pub(super) host: Option<String>,
    /// The password that clients should send.
    pub(super) expected: Option<Expected>,
    /// What else the connection string makes clients insist on.
    pub(super) demands: Option<Demands>,
}

/// The variables of libpq that name a server.
const PG_SERVER: [&str; 2] = ["PGHOST", "PGHOSTADDR"];

/// Where a connection string was found.
struct Source {
    text: String,
    /// In words.
    place: String,
    /// Other variables of the same file.
    others: Vec<(String, Secret<String>)>,
}

/// Reads the upstream from the options, `DATABASE_URL`, `./.env` or the `PG*` variables.
pub(super) fn target(upstream: Option<&str>, password_file: Option<&Path>) -> Result<Target, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let source = source(upstream)?;
    let (conninfo, place, others) = match source {
        Some(source) => {
            let conninfo = Conninfo::parse(&source.text, &environment)
                .map_err(|error| Failure::usage(format!("{}: {error}", source.place)))?;
            (conninfo, source.place, source.others)
        }
        None if PG_SERVER.iter().any(|name| environment(name).is_some()) => {
            let conninfo = Conninfo::from_environment(&environment)
                .map_err(|error| Failure::usage(format!("the PG* environment: {error}")))?;
            (conninfo, "the PG* environment".to_owned(), Vec::new())
        }
        None => {
            let look = if Path::new(".env").exists() { " (./.env does not set it)" } else { "" };
            return Err(Failure::usage(format!(
                "which server? give --upstream (host:port or any connection string), or set DATABASE_URL{look}"
            )));
        }
    };
    let worth_telling = |problem: &&Problem| problem.severity > Severity::Info;
    for problem in conninfo.problems.iter().filter(worth_telling) {
        stderr::say(format_args!("{place}: {problem}"));
    }
    let expected = expected(password_file, &conninfo, &place, others)?;
    let demands = demands(&conninfo, &place, &environment);
    let host = first_host(&conninfo);
    let upstream = Upstream {
        hosts: conninfo.hosts.iter().map(upstream_host).collect(),
        connect_timeout: conninfo.connect_timeout,
    };
    Ok(Target { upstream, host, expected, demands, conninfo })
}

/// What a connection string says about TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hints {
    /// `sslnegotiation=direct`
    pub(super) direct: bool,
    /// Whoever uses it verifies certificates.
    pub(super) clients_verify: bool,
}

impl Target {
    /// What the connection string says about TLS.
    pub(super) fn tls_hints(&self) -> Hints {
        let given = |name: &str, value: &str| {
            self.conninfo.params.iter().any(|(key, found)| key == name && found == value)
        };
        Hints {
            direct: given("sslnegotiation", "direct"),
            clients_verify: matches!(self.conninfo.sslmode, Some(SslMode::VerifyCa | SslMode::VerifyFull))
                || given("sslrootcert", "system"),
        }
    }

    /// The database that the connection string names.
    pub(super) fn database(&self) -> Option<String> {
        self.conninfo.database.clone()
    }

    /// The connection string, to show, without its password.
    pub(super) fn shown(&self) -> String {
        self.conninfo.display_redacted()
    }

    /// The same with the proxy in the server's place: what the application is to be given.
    pub(super) fn through(&self, proxy: &PeerAddr) -> Option<String> {
        let PeerAddr::Tcp(addr) = proxy else { return None };
        if addr.ip().is_unspecified() || self.conninfo.user.is_none() {
            return None;
        }
        let host = Host { name: HostName::Addr(addr.ip()), hostaddr: None, port: addr.port() };
        Some(Conninfo { hosts: vec![host], ..self.conninfo.clone() }.display_redacted())
    }
}

fn first_host(conninfo: &Conninfo) -> Option<String> {
    conninfo.hosts.first().map(|host| match &host.name {
        HostName::Name(name) | HostName::UnixDir(name) => name.clone(),
        HostName::Addr(addr) => addr.to_string(),
    })
}

/// The password, what else the connection string insists on, and the server's name.
pub(super) type Expectations = (Option<Expected>, Option<Demands>, Option<String>);

/// The password that a captured client should have sent, and the server's name: from `--expect` and
/// `--password-file`. Without them nothing is held against it.
pub(super) fn expectation(
    expect: Option<&str>,
    password_file: Option<&Path>,
) -> Result<Expectations, Failure> {
    let environment = |name: &str| if expect.is_some() { std::env::var(name).ok() } else { None };
    let Some(text) = expect else {
        let Some(file) = password_file else { return Ok((None, None, None)) };
        let (password, source) = (first_line(file)?, file.display().to_string());
        return Ok((Some(Expected { password, source, ..Expected::default() }), None, None));
    };
    let conninfo =
        Conninfo::parse(text, &environment).map_err(|error| Failure::usage(format!("--expect: {error}")))?;
    let expected = expected(password_file, &conninfo, "--expect", dotenv_values())?;
    Ok((expected, demands(&conninfo, "--expect", &environment), first_host(&conninfo)))
}

fn source(upstream: Option<&str>) -> Result<Option<Source>, Failure> {
    if let Some(text) = upstream {
        return Ok(Some(Source {
            text: text.to_owned(),
            place: "--upstream".into(),
            others: dotenv_values(),
        }));
    }
    if let Some(text) = std::env::var_os("DATABASE_URL") {
        let text = text.into_string().map_err(|_| Failure::usage("DATABASE_URL is not UTF-8 text"))?;
        return Ok(Some(Source { text, place: "DATABASE_URL".into(), others: dotenv_values() }));
    }
    let text = match std::fs::read_to_string(".env") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The PG* variables may serve all the same.
        Err(_) if PG_SERVER.iter().any(|name| std::env::var_os(name).is_some()) => return Ok(None),
        Err(error) => {
            let what = match error.kind() {
                io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
                _ => error.to_string(),
            };
            return Err(Failure::usage(format!(
                "./.env can't be read ({what}); mend it, or give --upstream"
            )));
        }
    };
    let file = env_file::parse(&text);
    let Some(entry) = file.get("DATABASE_URL") else { return Ok(None) };
    let place = format!("DATABASE_URL of .env, line {}", entry.line);
    Ok(Some(Source { text: file.expanded(entry).expose().clone(), place, others: values(&file) }))
}

/// The other values of `./.env`: a client may have sent one of them by mistake.
fn dotenv_values() -> Vec<(String, Secret<String>)> {
    std::fs::read_to_string(".env").map(|text| values(&env_file::parse(&text))).unwrap_or_default()
}

fn values(file: &env_file::EnvFile) -> Vec<(String, Secret<String>)> {
    file.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}

/// The password that clients should send: `--password-file`, the connection string, PGPASSWORD, then
/// .pgpass, in this order.
fn expected(
    password_file: Option<&Path>,
    conninfo: &Conninfo,
    place: &str,
    other_variables: Vec<(String, Secret<String>)>,
) -> Result<Option<Expected>, Failure> {
    let user = conninfo.user.clone();
    let expected = |password: Secret<String>, raw: Option<Secret<String>>, source: &str| Expected {
        user: user.clone(),
        password,
        raw,
        source: source.into(),
        other_variables: other_variables.clone(),
        previous: Vec::new(),
    };
    if let Some(file) = password_file {
        let password = first_line(file)?;
        return Ok(Some(expected(password, None, &format!("{}", file.display()))));
    }
    if let Some(password) = &conninfo.password {
        let source = match conninfo.password_source {
            Some(PasswordSource::Environment) => "PGPASSWORD",
            _ => place,
        };
        // `$NAME` and `${NAME}` of the same file: what the application sends is that one's value.
        let of = |name: &str| [format!("${name}"), format!("${{{name}}}")].contains(password.expose());
        if let Some((name, value)) = other_variables.iter().find(|(name, _)| of(name)) {
            return Ok(Some(expected(value.clone(), None, &format!("{source} ({name})"))));
        }
        return Ok(Some(expected(password.clone(), conninfo.raw_password.clone(), source)));
    }
    let file = conninfo.passfile.as_ref().map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".pgpass"))
    });
    let (Some(file), Some(host), Some(user)) = (file, conninfo.hosts.first(), conninfo.user.as_deref())
    else {
        return Ok(None);
    };
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(None) };
    let database = conninfo.database.as_deref().unwrap_or(user);
    let found = passfile::lookup(&text, &host.name, host.port, database, user);
    Ok(found.map(|password| expected(password, None, &format!("{}", file.display()))))
}

/// The settings that forbid methods, of the connection string or else of libpq's variables.
fn demands(
    conninfo: &Conninfo,
    place: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Demands> {
    let given = |name: &str| {
        let param = conninfo.params.iter().find(|(key, _)| key == name);
        param.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let (binding, methods) = (given("channel_binding"), given("require_auth"));
    let source = if binding.is_some() || methods.is_some() { place } else { "the PG* environment" };
    let binding = binding.or_else(|| environment("PGCHANNELBINDING"));
    let require_auth = methods.or_else(|| environment("PGREQUIREAUTH")).filter(|list| !list.is_empty());
    let channel_binding = binding.as_deref() == Some("require");
    let demands = Demands { source: source.to_owned(), channel_binding, require_auth };
    (demands.channel_binding || demands.require_auth.is_some()).then_some(demands)
}

/// The path is not repeated in errors: who mistakes the option writes the password itself there.
pub(super) fn first_line(file: &Path) -> Result<Secret<String>, Failure> {
    let bad = |what: &str| {
        Failure::usage(format!(
            "--password-file {what}; give the path of a file whose first line is the password"
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => bad("names no file that exists"),
        io::ErrorKind::InvalidData => bad("is not UTF-8 text"),
        io::ErrorKind::IsADirectory => bad("is a directory"),
        _ => bad(&format!("can't be read ({error})")),
    })?;
    let text = Secret::new(text);
    let line = text.expose().split('\n').next().unwrap_or_default();
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err(bad("has an empty first line")),
        password => Ok(Secret::new(password.to_owned())),
    }
}

fn upstream_host(host: &Host) -> UpstreamHost {
    let name = match &host.name {
        HostName::Name(name) | HostName::UnixDir(name) => name.clone(),
        HostName::Addr(addr) => addr.to_string(),
    };
    UpstreamHost { name, hostaddr: host.hostaddr, port: host.port }
}

/// Reads `--listen`: `host:port`, `:port`, `[::1]:port`, a port alone, or the path of a Unix socket.
/// A name gives all its addresses, so that `localhost` listens on both families.
pub(super) fn listen(text: &str) -> Result<Vec<Listen>, Failure> {
    if may_hold_password(text) {
        let reason = "--listen wants an address of this machine, and was given a connection string; \
                      that belongs to --upstream";
        return Err(Failure::usage(reason));
    }
    let bad = |reason: &str| Failure::usage(format!("--listen {text}: {reason}"));
    if text.contains('/') {
        let path = PathBuf::from(text);
        if path.is_dir() {
            let reason = format!(
                "this is a directory; name the socket in it: {} serves clients with host={text} port=7432",
                path.join(".s.PGSQL.7432").display()
            );
            return Err(bad(&reason));
        }
        return Ok(vec![Listen::Unix(path)]);
    }
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok(vec![Listen::Tcp(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port))]);
    }
    if text.starts_with('*') {
        return Err(bad("write 0.0.0.0:PORT for every IPv4 address, [::]:PORT for IPv6 as well"));
    }
    let port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !port || text.parse::<IpAddr>().is_ok() {
        return Err(bad("there is no port; write host:port, [address]:port, :port, or a socket's path"));
    }
    let addresses = text.to_socket_addrs().map_err(|_| bad("this machine can't resolve the name"))?;
    let all: Vec<Listen> = addresses.map(Listen::Tcp).collect();
    if all.is_empty() { Err(bad("the name has no address")) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_names_a_variable_of_the_file_is_its_value() {
        let rows = [
            ("postgres://app:$DB_PASS@h/d", "Changed77", "DATABASE_URL (DB_PASS)"),
            ("postgres://app:$%7BDB_PASS%7D@h/d", "Changed77", "DATABASE_URL (DB_PASS)"),
            ("postgres://app:$OTHER@h/d", "$OTHER", "DATABASE_URL"),
            ("postgres://app:a$DB_PASS@h/d", "a$DB_PASS", "DATABASE_URL"),
        ];
        for (url, password, source) in rows {
            let conninfo = Conninfo::parse(url, &|_| None).unwrap();
            let others = vec![("DB_PASS".to_owned(), Secret::new("Changed77".to_owned()))];
            let found = expected(None, &conninfo, "DATABASE_URL", others).unwrap().unwrap();
            assert_eq!(
                (found.password.expose().as_str(), found.source.as_str()),
                (password, source),
                "{url}"
            );
        }
    }
}
