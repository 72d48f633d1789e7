//! One row: a login, the context that is given with it, and the two verdicts.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{Login, Who};
use crate::support::proxy::Proxy;
use crate::support::{DEADLINE, schema};

/// What is given beside the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// `--admin` as the superuser of the server.
    Admin,
    /// `--admin` as a role with less rights.
    AdminAs(&'static str),
    /// `--admin` of another cluster, by mistake.
    AdminElsewhere,
    /// `--admin` where nobody listens.
    AdminDead,
    /// `--admin` that accepts and says nothing.
    AdminStalled,
    /// `--admin` that speaks no PostgreSQL.
    AdminHttp,
    /// `--admin` that breaks off in the middle of an answer.
    AdminBreaks,
    /// `--admin` that lets everybody in and answers every question with no rows.
    AdminEmpty,
    /// `--server-log` with a file of this ending.
    Log(&'static str),
    /// `--server-log` of a file that does not exist.
    LogMissing,
    /// `--server-log` of a file that is no log.
    LogGarbage,
    /// `--server-log` of another cluster.
    LogElsewhere,
    /// `--control-data` of the server.
    Control,
    /// `--control-data` of another cluster.
    ControlElsewhere,
    /// `--hba` with the file that the server loaded, or the row's own.
    Hba,
}

/// Which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Many roles; logs in three formats, with `log_connections`.
    Main,
    /// The default logging.
    Quiet,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    pub claim: String,
    pub on: On,
    pub login: Login,
    /// The password that is told to the proxy, for the login's user.
    pub knows: Option<&'static str>,
    pub with: Vec<With>,
    /// `[cause][/variant] confidence` of the run without the context.
    pub bare: &'static str,
    /// The same with it.
    pub wants: &'static str,
    /// What the evidence, the summary or a warning must contain.
    pub says: Vec<&'static str>,
    /// What they must not contain.
    pub denies: Vec<&'static str>,
    /// Connect to the server's IPv6 address.
    pub v6: bool,
}

/// A row on the main cluster: `psql` in database postgres with the password "wr0ng-pass".
pub fn case(
    claim: &str,
    user: &str,
    with: impl Into<Vec<With>>,
    bare: &'static str,
    wants: &'static str,
) -> Case {
    let login = Login {
        user: user.to_owned(),
        password: Some("wr0ng-pass".to_owned()),
        database: Some("postgres".to_owned()),
        ..Login::default()
    };
    let claim = claim.to_owned();
    Case {
        claim,
        on: On::Main,
        login,
        knows: None,
        with: with.into(),
        bare,
        wants,
        says: vec![],
        denies: vec![],
        v6: false,
    }
}

impl Case {
    pub fn says(mut self, text: &'static str) -> Self {
        self.says.push(text);
        self
    }

    pub fn denies(mut self, text: &'static str) -> Self {
        self.denies.push(text);
        self
    }

    pub fn knows(mut self, password: &'static str) -> Self {
        self.knows = Some(password);
        self
    }

    pub fn sends(mut self, password: &str) -> Self {
        self.login.password = Some(password.to_owned());
        self
    }

    pub fn quiet(mut self) -> Self {
        self.on = On::Quiet;
        self
    }

    pub fn database(mut self, name: &str) -> Self {
        self.login.database = Some(name.to_owned());
        self
    }

    pub fn sslmode(mut self, mode: &'static str) -> Self {
        self.login.sslmode = mode;
        self
    }

    pub fn option(mut self, key: &'static str, value: &str) -> Self {
        self.login.options.push((key, value.to_owned()));
        self
    }

    pub fn v6(mut self) -> Self {
        self.v6 = true;
        self
    }

    /// Plays it twice; what is wrong, in lines.
    pub fn play(&self, port: u16, args: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, args, wants) in [("without", &[][..], self.bare), ("with", args, self.wants)] {
            let run = self.once(port, args);
            let before = faults.len();
            faults.extend(verdict(wants, &run.handshake).into_iter().map(|fault| format!("{name}: {fault}")));
            faults.extend(run.faults.iter().map(|fault| format!("{name}: {fault}")));
            if name == "with" {
                let told = told(&run.handshake);
                let missing = self.says.iter().filter(|text| !told.contains(**text));
                faults.extend(missing.map(|text| format!("{name}: {text:?} is not said")));
                let untrue = self.denies.iter().filter(|text| told.contains(**text));
                faults.extend(untrue.map(|text| format!("{name}: {text:?} is said")));
            }
            if faults.len() > before {
                faults.push(format!("{name}: got {}", brief(&run.handshake)));
                faults.push(format!("{name}: client {} log {}", run.said, run.log));
            }
        }
        faults
    }

    fn once(&self, port: u16, args: &[String]) -> Run {
        let host = if self.v6 { "[::1]" } else { "127.0.0.1" };
        let user =
            percent_encoding::utf8_percent_encode(&self.login.user, percent_encoding::NON_ALPHANUMERIC);
        let upstream = match self.knows {
            Some(password) => format!("postgres://{user}:{password}@{host}:{port}/"),
            None => format!("{host}:{port}"),
        };
        let mut proxy = Proxy::start(&upstream, args);
        let began = Instant::now();
        let answer = Who::Psql.log_in(proxy.addr, &self.login);
        let took = began.elapsed();
        let seen = proxy.wait_handshakes(1, DEADLINE);
        let lines = proxy.finish();
        let mut faults: Vec<_> = lines.iter().flat_map(|line| schema::faults(line)).collect();
        if seen.len() != 1 {
            faults.push(format!("{} handshakes", seen.len()));
        }
        let handshake = seen.into_iter().next().unwrap_or_default();
        // No context is ever waited for by the login; the clock is the test's and the proxy's own.
        if took > Duration::from_secs(8) || handshake["elapsed_ms"].as_f64().unwrap_or(0.0) > 3_000.0 {
            faults.push(format!("the login took {took:?}, elapsed_ms {}", handshake["elapsed_ms"]));
        }
        if answer.ok != (handshake["outcome"] == "ok") {
            faults.push("the report and the client do not agree".to_owned());
        }
        let log = proxy.stderr();
        for secret in ["wr0ng-pass", "r1ght-pass", "adm1n-pass"] {
            if log.contains(secret) || lines.iter().any(|line| line.contains(secret)) {
                faults.push(format!("the password {secret:?} is in the output"));
            }
        }
        Run { handshake, faults, said: answer.error, log }
    }
}

struct Run {
    handshake: Value,
    faults: Vec<String>,
    said: String,
    log: String,
}

fn verdict(wants: &str, handshake: &Value) -> Vec<String> {
    let (what, confidence) = wants.split_once(' ').expect("cause and confidence");
    if what == "ok" {
        let warned = told(handshake).contains("hba_not_reloaded");
        let right = handshake["outcome"] == "ok" && warned == (confidence == "hba_not_reloaded");
        return if right { vec![] } else { vec![format!("expected {wants}")] };
    }
    let (causes, variant) =
        what.split_once('/').map_or((what, None), |(cause, variant)| (cause, Some(variant)));
    let text = |key: &str| handshake[key].as_str().unwrap_or("-").to_owned();
    let right = handshake["outcome"] == "failed"
        && causes.split('|').any(|cause| cause == "any" || text("cause") == cause)
        && variant.is_none_or(|variant| match variant.strip_prefix('!') {
            Some(not) => text("variant") != not,
            None => text("variant") == variant,
        })
        && match confidence {
            "unproven" => text("confidence") != "proven",
            "any" => true,
            word => text("confidence") == word,
        };
    if right { vec![] } else { vec![format!("expected {wants}")] }
}

/// All sentences of a report.
fn told(handshake: &Value) -> String {
    let parts = ["summary", "evidence", "warnings", "alternatives"].map(|key| handshake[key].to_string());
    parts.join("\n").replace("\\\"", "\"")
}

fn brief(handshake: &Value) -> String {
    let text = |key: &str| handshake[key].as_str().unwrap_or("-").to_owned();
    format!(
        "{}/{} {} step={} alternatives={} evidence={} warnings={}",
        text("cause"),
        text("variant"),
        text("confidence"),
        text("failed_step"),
        handshake["alternatives"],
        handshake["evidence"],
        handshake["warnings"]
    )
}

/// Runs rows on a few threads and fails with those that fail.
pub fn play_all(name: &str, cases: Vec<Case>, play: impl Fn(&Case) -> Vec<String> + Sync) {
    let only = std::env::var("PGWHY_ROWS").unwrap_or_default();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.claim.contains(&only)).collect();
    let total = cases.len();
    let queue = std::sync::Mutex::new(cases.into_iter());
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { return };
                    let faults = play(&case);
                    if !faults.is_empty() {
                        println!("FAILED {name} {}\n   {}", case.claim, faults.join("\n   "));
                        failed.lock().unwrap().push(case.claim);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{name}: {} of {total} rows passed", total - failed.len());
    assert!(failed.is_empty(), "{name}: {} rows failed:\n  {}", failed.len(), failed.join("\n  "));
}
