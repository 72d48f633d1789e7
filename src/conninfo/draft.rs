//! Keywords and values before they mean anything: the middle between every notation and [`Conninfo`].

use std::net::IpAddr;
use std::time::Duration;

use super::problem::{ConninfoError, Problem, Severity};
use super::{Conninfo, DEFAULT_PORT, DEFAULT_SOCKET_DIR, Host, HostName, PasswordSource, SslMode};
use crate::secret::Secret;

/// Where a value stands.
#[derive(Clone)]
pub(super) struct Slot {
    value: String,
    /// From 1; 0 for the environment.
    column: usize,
    origin: &'static str,
}

/// The keywords of libpq that matter here, as text (`PQconninfoOption`).
#[derive(Default)]
pub(super) struct Draft {
    pub(super) host: Option<Slot>,
    hostaddr: Option<Slot>,
    pub(super) port: Option<Slot>,
    user: Option<String>,
    database: Option<String>,
    password: Option<Secret<String>>,
    raw_password: Option<Secret<String>>,
    password_source: Option<PasswordSource>,
    sslmode: Option<Slot>,
    connect_timeout: Option<Slot>,
    passfile: Option<String>,
    service: Option<Slot>,
    params: Vec<(String, String)>,
    pub(super) problems: Vec<Problem>,
}

/// libpq's other keywords (`PQconninfoOptions`, fe-connect.c, PostgreSQL 18): passed on as they are.
pub(super) const LIBPQ_PARAMS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];
/// The keywords that this room reads itself.
pub(super) const OWN_PARAMS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "ssl",
    "connect_timeout",
    "passfile",
    "service",
];
/// Parameters that other drivers know and libpq refuses (`invalid URI query parameter`).
pub(super) const DRIVER_PARAMS: &[&str] = &[
    "schema",
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "statement_cache_size",
    "sslaccept",
    "sslidentity",
    "currentschema",
    "applicationname",
    "logintimeout",
    "sockettimeout",
    "connecttimeout",
    "preparethreshold",
    "sslfactory",
    "targetservertype",
    "stringtype",
    "rewritebatchedinserts",
    "tcpkeepalive",
    "search_path",
    "timezone",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "pool_max_conns",
    "pool_min_conns",
    "default_query_exec_mode",
    "prepared_statement_cache_size",
    "max",
    "idle_timeout",
    "uselibpqcompat",
    "pool_mode",
];
/// Values that must not be kept, not even for the caller: nobody here needs them.
const SECRET_PARAMS: [&str; 4] =
    ["sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

impl Draft {
    /// Sets one keyword; the last of two wins, as in libpq.
    pub(super) fn set(&mut self, key: &str, value: String, column: usize) {
        let lower = key.to_ascii_lowercase();
        let slot = Slot { value, column, origin: "" };
        match lower.as_str() {
            "host" => self.host = Some(slot),
            "hostaddr" => self.hostaddr = Some(slot),
            "port" => self.port = Some(slot),
            "user" => self.user = Some(slot.value).filter(|v| !v.is_empty()),
            "dbname" => self.database = Some(slot.value).filter(|v| !v.is_empty()),
            "sslmode" => self.sslmode = Some(slot),
            "ssl" => self.ssl(slot),
            "connect_timeout" => self.connect_timeout = Some(slot),
            "passfile" => self.passfile = Some(slot.value).filter(|v| !v.is_empty()),
            "service" => self.service = Some(slot),
            "password" => self.set_password(slot.value, None, PasswordSource::Parameter),
            secret if SECRET_PARAMS.contains(&secret) => self.params.push((lower, "***".to_owned())),
            _ => {
                let known = |list: &[&str]| list.iter().any(|name| name.eq_ignore_ascii_case(&lower));
                if !known(LIBPQ_PARAMS) {
                    self.unknown(known(DRIVER_PARAMS).then_some(lower.as_str()), column);
                }
                self.params.push((key.to_owned(), slot.value));
            }
        }
    }

    /// `ssl=true` is libpq's one concession to JDBC (`conninfo_uri_parse_params`).
    fn ssl(&mut self, slot: Slot) {
        match slot.value.as_str() {
            "true" | "require" | "1" => self.sslmode = Some(Slot { value: "require".to_owned(), ..slot }),
            other => self.params.push(("ssl".to_owned(), other.to_owned())),
        }
    }

    /// The name is only shown when it is one that we know: an unknown one may be a piece of a password.
    fn unknown(&mut self, name: Option<&str>, column: usize) {
        let name = name.map_or_else(|| "this parameter".to_owned(), |name| format!("the parameter {name}"));
        self.problems.push(Problem::new(
            "param_unknown",
            Severity::Warning,
            column,
            format!("{name} is none of libpq's: psql and other libpq clients refuse it, some drivers send it to the server"),
            "leave it out for those, or check its spelling",
        ));
    }

    pub(super) fn set_password(&mut self, value: String, raw: Option<&str>, source: PasswordSource) {
        let value = Secret::new(value);
        if value.expose().is_empty() {
            return;
        }
        self.raw_password = raw.map(|raw| Secret::new(raw.to_owned()));
        self.password = Some(value);
        self.password_source = Some(source);
    }

    /// Gives `raw` to a password that was set as a parameter of a URL.
    pub(super) fn set_raw_password(&mut self, raw: &str) {
        self.raw_password = self.password.as_ref().map(|_| Secret::new(raw.to_owned()));
    }

    /// Fills what is missing from the environment (`conninfo_add_defaults`); libpq takes an empty
    /// variable for a value, but an empty value then means the default: so it is left out.
    fn fill(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        let get = |name: &'static str| environment(name).filter(|value| !value.is_empty());
        let slot = |name: &'static str| get(name).map(|value| Slot { value, column: 0, origin: name });
        // A host that was written must not be led elsewhere by an address of the environment.
        if self.host.is_none() && self.hostaddr.is_none() {
            self.host = slot("PGHOST");
            self.hostaddr = slot("PGHOSTADDR");
        }
        self.port = self.port.take().or_else(|| slot("PGPORT"));
        self.user = self.user.take().or_else(|| get("PGUSER"));
        self.database = self.database.take().or_else(|| get("PGDATABASE"));
        self.sslmode = self.sslmode.take().or_else(|| slot("PGSSLMODE"));
        self.connect_timeout = self.connect_timeout.take().or_else(|| slot("PGCONNECT_TIMEOUT"));
        self.passfile = self.passfile.take().or_else(|| get("PGPASSFILE"));
        self.service = self.service.take().or_else(|| slot("PGSERVICE"));
        if let Some(password) = get("PGPASSWORD").filter(|_| self.password.is_none()) {
            self.set_password(password, None, PasswordSource::Environment);
        }
    }

    /// Makes a [`Conninfo`] of the keywords and the environment.
    pub(super) fn finish(
        mut self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Conninfo, ConninfoError> {
        self.fill(environment);
        let parts = self.hosts();
        let hosts = match parts {
            Ok(hosts) => hosts,
            Err(error) => return Err(ConninfoError { before: self.problems, ..error }),
        };
        let sslmode = self.sslmode();
        let connect_timeout = self.timeout();
        if let Some(service) = self.service.take() {
            self.problems.push(Problem::new(
                "service",
                Severity::Warning,
                service.column,
                "connection service files (pg_service.conf) are not read yet",
                "give host, port, user and database themselves",
            ));
        }
        for (what, value) in [("user", self.user.as_deref()), ("database", self.database.as_deref())] {
            if value.is_some_and(unexpanded) {
                self.problems.push(unexpanded_problem(what, 1));
            }
        }
        Ok(Conninfo {
            hosts,
            user: self.user,
            database: self.database,
            password: self.password,
            raw_password: self.raw_password,
            password_source: self.password_source,
            sslmode,
            connect_timeout,
            passfile: self.passfile,
            params: self.params,
            problems: self.problems,
        })
    }

    /// `connectOptions2` (fe-connect.c): lists of host, hostaddr and port side by side.
    fn hosts(&self) -> Result<Vec<Host>, ConninfoError> {
        let list = |slot: &Option<Slot>| -> Vec<String> {
            slot.as_ref()
                .map(|s| s.value.split(',').map(|v| v.trim().to_owned()).collect())
                .unwrap_or_default()
        };
        let (names, addresses, ports) = (list(&self.host), list(&self.hostaddr), list(&self.port));
        let written: Vec<&str> = self.host.as_ref().map_or_else(Vec::new, |s| s.value.split(',').collect());
        let count = names.len().max(addresses.len()).max(1);
        let place = |slot: &Option<Slot>| slot.as_ref().map_or((0, ""), |s| (s.column, s.origin));
        let mismatch = |slot: &Option<Slot>, what: &str| {
            let (column, origin) = place(slot);
            let text = format!("{origin}{}the number of {what} does not match that of hosts", colon(origin));
            Err(ConninfoError::at("syntax", column, text, "give one for each host"))
        };
        if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
            return mismatch(&self.hostaddr, "host addresses");
        }
        if ports.len() > 1 && ports.len() != count {
            return mismatch(&self.port, "ports");
        }
        (0..count)
            .map(|at| {
                let hostaddr = match addresses.get(at).filter(|text| !text.is_empty()) {
                    Some(text) => {
                        Some(text.parse::<IpAddr>().map_err(|_| host_error(place(&self.hostaddr)))?)
                    }
                    None => None,
                };
                let name = match (written.get(at).filter(|name| !name.trim().is_empty()), hostaddr) {
                    (Some(name), _) => host_name(name, place(&self.host))?,
                    (None, Some(address)) => HostName::Addr(address),
                    (None, None) => HostName::UnixDir(DEFAULT_SOCKET_DIR.to_owned()),
                };
                let text = ports.get(at).or_else(|| ports.first().filter(|_| ports.len() == 1));
                let port = text.filter(|text| !text.is_empty());
                let port = port.map_or(Ok(DEFAULT_PORT), |text| port_number(text, place(&self.port)))?;
                Ok(Host { name, hostaddr, port })
            })
            .collect()
    }

    fn sslmode(&mut self) -> Option<SslMode> {
        let slot = self.sslmode.take().filter(|slot| !slot.value.is_empty())?;
        let mode = SslMode::parse(&slot.value);
        if mode.is_none() {
            self.problems.push(Problem::new(
                "param_unknown",
                Severity::Error,
                slot.column,
                format!("{}{}sslmode has a value that libpq does not know", slot.origin, colon(slot.origin)),
                "use disable, allow, prefer, require, verify-ca or verify-full",
            ));
        }
        mode
    }

    /// Seconds; zero and negative numbers wait for ever, as in libpq (`PQconnectPoll`).
    fn timeout(&mut self) -> Option<Duration> {
        let slot = self.connect_timeout.take().filter(|slot| !slot.value.is_empty())?;
        match slot.value.trim().parse::<i32>() {
            Ok(seconds) => u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs),
            Err(_) => {
                self.problems.push(Problem::new(
                    "param_unknown",
                    Severity::Error,
                    slot.column,
                    format!(
                        "{}{}connect_timeout is not a number of seconds",
                        slot.origin,
                        colon(slot.origin)
                    ),
                    "use a whole number of seconds",
                ));
                None
            }
        }
    }
}

impl Slot {
    pub(super) fn new(value: String, column: usize) -> Self {
        Self { value, column, origin: "" }
    }
}

fn colon(origin: &str) -> &'static str {
    if origin.is_empty() { "" } else { ": " }
}

/// What a host name may be; anything else is a piece of something else, so it is not even quoted. Blanks around it
/// stay, as with libpq: the resolver then knows no such name, which is what the application meets.
fn host_name(written: &str, (column, origin): (usize, &'static str)) -> Result<HostName, ConninfoError> {
    let text = written.trim();
    if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(HostName::Addr(address));
    }
    // libpq: a directory, or with @ the abstract socket name space of Linux (`is_unixsock_path`).
    if text.starts_with('/') || text.starts_with('@') {
        return Ok(HostName::UnixDir(text.to_owned()));
    }
    if unexpanded(text) {
        return Err(ConninfoError { problem: unexpanded_problem("host", column), before: Vec::new() });
    }
    let fits = |c: char| c.is_alphanumeric() || "-_.:%*".contains(c);
    if text.len() > 255 || !text.chars().all(fits) {
        return Err(host_error((column, origin)));
    }
    Ok(HostName::Name(written.to_owned()))
}

fn host_error((column, origin): (usize, &'static str)) -> ConninfoError {
    ConninfoError::at(
        "host_invalid",
        column,
        format!("{origin}{}what stands in the host's place is not a host name or address", colon(origin)),
        "percent-encode special characters of the password (@ is %40, # %23, / %2F, ? %3F), and check the host",
    )
}

fn port_number(text: &str, (column, origin): (usize, &'static str)) -> Result<u16, ConninfoError> {
    if unexpanded(text) {
        return Err(ConninfoError { problem: unexpanded_problem("port", column), before: Vec::new() });
    }
    text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
        ConninfoError::at(
            "port_invalid",
            column,
            format!("{origin}{}what stands in the port's place is not a number from 1 to 65535", colon(origin)),
            "check the port; if a piece of the password stands there, percent-encode it (: is %3A, / %2F, # %23)",
        )
    })
}

/// `${NAME}`, `$NAME`, `$(NAME)`, `{{NAME}}`, `%NAME%` in a place where a value should be.
pub(super) fn unexpanded(text: &str) -> bool {
    let name = |t: &str| t.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let word = |t: &str| name(t) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let braces = text.find("${").is_some_and(|at| name(&text[at + 2..]) && text[at..].contains('}'));
    let dollar =
        text.strip_prefix('$').is_some_and(|t| word(t.trim_start_matches('(').trim_end_matches(')')));
    let percent = text.strip_prefix('%').and_then(|t| t.strip_suffix('%')).is_some_and(word);
    braces || dollar || percent || (text.contains("{{") && text.contains("}}"))
}

pub(super) fn unexpanded_problem(what: &str, column: usize) -> Problem {
    Problem::new(
        "variable_unexpanded",
        Severity::Error,
        column,
        format!("the {what} is the name of a variable, not its value"),
        "this file or program does not expand variables: write the value itself",
    )
}
