//! One row of the table: who logs in where, and what the report must say.

use std::any::Any;

use serde_json::Value;

use crate::support::client::{Login, Who};
use crate::support::peer::Behaviour;
use crate::support::server::{Server, Version};
use crate::support::verdict::{inconsistencies, mismatches};

/// Where the proxy's upstream is.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// The main server: TLS on.
    Main,
    /// The main server by its Unix socket.
    MainSocket,
    /// The same roles and lines, TLS off.
    Plain,
    /// The same by two addresses, of which it listens on the second only.
    PlainByBoth,
    /// Five connections at most.
    Full,
    /// Ends a login after a second.
    Impatient,
    /// TLS 1.3 only.
    Tls13,
    /// One cipher only.
    OneCipher,
    /// A standby that takes no connections.
    Standby,
    /// A standby that takes connections.
    HotStandby,
    /// Still replaying its first write-ahead log.
    Starting,
    /// In a smart shutdown.
    Stopping,
    /// The same in German.
    StoppingInGerman,
    /// Speaks German.
    German,
    /// PgBouncer in front of the main server.
    Bouncer,
    /// A PgBouncer that takes one client.
    SmallBouncer,
    /// Something that is no server.
    Fake(Behaviour),
    /// A port where nobody listens.
    Nobody,
    /// A listener whose queue is full: SYNs vanish; we wait two seconds for it.
    Blackhole,
    /// The same, for which we wait as long as the system does.
    BlackholeForEver,
    /// This text, whatever it means.
    Text(&'static str),
}

/// Something that must be so while the row runs, and is undone when it is dropped.
pub type Prepare = fn(&Server) -> Box<dyn Any>;

/// One login and its report.
#[derive(Clone, Debug)]
pub struct Row {
    pub claim: String,
    pub versions: &'static [Version],
    pub at: At,
    pub who: Who,
    pub login: Login,
    /// The user and password of the upstream's connection string.
    pub knows: Option<(String, String)>,
    /// The expected password stands in a file instead.
    pub by_file: bool,
    /// The query of the upstream's connection string.
    pub upstream_query: &'static str,
    pub args: Vec<String>,
    pub prepare: Option<Prepare>,
    /// A login that goes through the same proxy first.
    pub first: Option<(Who, Login)>,
    /// A role made for this row, with this text behind `PASSWORD`.
    pub role: Option<(String, String)>,
    pub expect: Vec<Expect>,
}

/// A row in its shortest form: psql as app_scram, plaintext, both servers.
pub fn row(claim: impl Into<String>) -> Row {
    let login = Login {
        user: "app_scram".to_owned(),
        password: Some(RIGHT.to_owned()),
        database: Some("d_scram".to_owned()),
        ..Login::default()
    };
    Row {
        claim: claim.into(),
        versions: BOTH,
        at: At::Main,
        who: Who::Psql,
        login,
        knows: None,
        by_file: false,
        upstream_query: "",
        args: Vec::new(),
        prepare: None,
        first: None,
        role: None,
        expect: Vec::new(),
    }
}

/// The password of the roles in the setup.
pub const RIGHT: &str = "correct-pw-7Q";
/// A password of nobody.
pub const WRONG: &str = "another-pw-8R";

const BOTH: &[Version] = &[Version::V15, Version::V18];

impl Row {
    pub fn only(mut self, version: Version) -> Self {
        self.versions = match version {
            Version::V15 => &[Version::V15],
            Version::V18 => &[Version::V18],
        };
        self
    }

    pub fn at(mut self, at: At) -> Self {
        self.at = at;
        self
    }

    pub fn by(mut self, who: Who) -> Self {
        self.who = who;
        self
    }

    pub fn user(mut self, user: &str) -> Self {
        self.login.user = user.to_owned();
        self
    }

    pub fn password(mut self, password: &str) -> Self {
        self.login.password = Some(password.to_owned());
        self
    }

    pub fn no_password(mut self) -> Self {
        self.login.password = None;
        self
    }

    pub fn database(mut self, database: &str) -> Self {
        self.login.database = Some(database.to_owned());
        self
    }

    pub fn no_database(mut self) -> Self {
        self.login.database = None;
        self
    }

    pub fn sslmode(mut self, sslmode: &'static str) -> Self {
        self.login.sslmode = sslmode;
        self
    }

    pub fn option(mut self, key: &'static str, value: &str) -> Self {
        self.login.options.push((key, value.to_owned()));
        self
    }

    pub fn setting(mut self, key: &'static str, value: &str) -> Self {
        self.login.settings.push((key, value.to_owned()));
        self
    }

    pub fn env(mut self, key: &'static str, value: &str) -> Self {
        self.login.env.push((key, value.to_owned()));
        self
    }

    pub fn tls(mut self, options: &'static str) -> Self {
        self.login.tls = Some(options);
        self
    }

    pub fn ca(mut self, ca: std::path::PathBuf) -> Self {
        self.login.ca = Some(ca);
        self
    }

    pub fn url_query(mut self, query: &'static str) -> Self {
        self.login.url_query = Some(query);
        self
    }

    /// The upstream's connection string names the row's user and this password.
    pub fn knows(mut self, password: &str) -> Self {
        self.knows = Some((self.login.user.clone(), password.to_owned()));
        self
    }

    pub fn knows_user(mut self, user: &str, password: &str) -> Self {
        self.knows = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// The upstream's connection string has this query, as the application's has.
    pub fn upstream_query(mut self, query: &'static str) -> Self {
        self.upstream_query = query;
        self
    }

    pub fn by_file(mut self) -> Self {
        self.by_file = true;
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = Some(prepare);
        self
    }

    pub fn after(mut self, who: Who, login: Login) -> Self {
        self.first = Some((who, login));
        self
    }

    /// A role of its own, whose name becomes the row's user.
    pub fn role(mut self, name: &str, password: &str) -> Self {
        self.role = Some((name.to_owned(), password.to_owned()));
        self.user(name)
    }

    /// The next handshake that must be reported.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect.push(expect);
        self
    }

    /// Whether some expectation of this row names the cause.
    pub fn names(&self, cause: &str) -> bool {
        self.expect
            .iter()
            .flat_map(|expect| &expect.any)
            .any(|pattern| pattern.cause.split('|').any(|id| id == cause))
    }
}

/// What one handshake object must say: one of several honest answers.
#[derive(Clone, Debug)]
pub struct Expect {
    any: Vec<Pattern>,
}

/// One answer. Words are separated by `|`; `-` stands for null and `*` for anything.
#[derive(Clone, Debug)]
struct Pattern {
    outcome: &'static str,
    step: &'static str,
    cause: &'static str,
    variant: &'static str,
    confidence: &'static str,
    leg: &'static str,
    driver: &'static str,
    method: &'static str,
    sqlstate: &'static str,
    alternative: &'static str,
    warning: &'static str,
    related: bool,
    differs: bool,
}

const ANY: Pattern = Pattern {
    outcome: "*",
    step: "*",
    cause: "*",
    variant: "*",
    confidence: "*",
    leg: "*",
    driver: "*",
    method: "*",
    sqlstate: "*",
    alternative: "*",
    warning: "*",
    related: false,
    differs: false,
};

fn one(pattern: Pattern) -> Expect {
    Expect { any: vec![pattern] }
}

/// The login worked.
pub fn ok() -> Expect {
    one(Pattern { outcome: "ok", step: "-", cause: "-", variant: "-", confidence: "-", ..ANY })
}

/// It failed at this step for this cause, which has no variant unless one is named.
pub fn failed(step: &'static str, cause: &'static str) -> Expect {
    one(Pattern { outcome: "failed", step, cause, variant: "-", ..ANY })
}

/// No login was meant.
pub fn probe(variant: &'static str) -> Expect {
    one(Pattern { outcome: "probe", cause: "not_a_client", variant, ..ANY })
}

/// TLS that was passed through: nothing to say about the login.
pub fn opaque() -> Expect {
    one(Pattern { outcome: "opaque", cause: "-", confidence: "-", ..ANY })
}

/// A cancel request.
pub fn cancel() -> Expect {
    one(Pattern { outcome: "cancel", ..ANY })
}

macro_rules! setters {
    ($($name:ident),*) => {
        impl Expect {
            $(pub fn $name(mut self, words: &'static str) -> Self {
                self.last().$name = words;
                self
            })*
        }
    };
}
setters!(variant, confidence, leg, driver, method, sqlstate, alternative, warning);

impl Expect {
    fn last(&mut self) -> &mut Pattern {
        self.any.last_mut().expect("at least one pattern")
    }

    pub fn proven(self) -> Self {
        self.confidence("proven")
    }

    /// Possible, and no more: the same bytes have other causes that are as frequent.
    pub fn possible(self) -> Self {
        self.confidence("possible")
    }

    /// Anything but `proven`.
    pub fn unproven(self) -> Self {
        self.confidence("likely|possible")
    }

    /// The bytes admit it to be called proven; a more careful answer is honest too.
    pub fn provable(self) -> Self {
        self.confidence("proven|likely")
    }

    pub fn related(mut self) -> Self {
        self.last().related = true;
        self
    }

    pub fn differs(mut self) -> Self {
        self.last().differs = true;
        self
    }

    /// Whether the login itself works.
    pub fn is_success(&self) -> bool {
        self.any.len() == 1 && self.any[0].outcome == "ok"
    }

    /// Another honest answer.
    pub fn or(mut self, other: Expect) -> Self {
        self.any.extend(other.any);
        self
    }

    /// What is wrong with a handshake, or nothing.
    pub fn faults(&self, handshake: &Value) -> Vec<String> {
        let mut faults: Vec<_> = self.any.iter().map(|pattern| pattern.faults(handshake)).collect();
        faults.sort_by_key(Vec::len);
        let mut faults = faults.into_iter().next().unwrap_or_default();
        faults.extend(inconsistencies(handshake));
        faults
    }
}

impl Pattern {
    fn faults(&self, seen: &Value) -> Vec<String> {
        let fields = [
            ("outcome", self.outcome, &seen["outcome"]),
            ("failed_step", self.step, &seen["failed_step"]),
            ("cause", self.cause, &seen["cause"]),
            ("variant", self.variant, &seen["variant"]),
            ("confidence", self.confidence, &seen["confidence"]),
            ("leg", self.leg, &seen["leg"]),
            ("client.driver", self.driver, &seen["client"]["driver"]),
            ("auth_method", self.method, &seen["auth_method"]),
            ("server_error.sqlstate", self.sqlstate, &seen["server_error"]["sqlstate"]),
        ];
        let mut faults = mismatches(&fields);
        for (name, words) in [("alternatives", self.alternative), ("warnings", self.warning)] {
            let listed = seen[name].as_array().cloned().unwrap_or_default();
            let has = |word: &str| listed.iter().any(|one| one["cause"] == word);
            if words != "*" && !words.split('|').any(has) {
                faults.push(format!("{name}: expected one of {words}, got {}", seen[name]));
            }
        }
        if self.related && seen["related"].as_array().is_none_or(Vec::is_empty) {
            faults.push("related: expected the id of another attempt, got none".to_owned());
        }
        if self.differs && seen["differs"].as_array().is_none_or(Vec::is_empty) {
            faults.push("differs: expected what differs from the last success, got nothing".to_owned());
        }
        faults
    }
}
