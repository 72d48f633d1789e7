//! What a row is made of.

use serde_json::Value;

use crate::support::client::{Login, Who};
use crate::support::peer::Behaviour;
use crate::support::server::Version;
use crate::support::verdict::{inconsistencies, mismatches};

/// Where pgwhy goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// A good certificate for localhost, 127.0.0.1 and ::1, and no client certificates.
    Good,
    /// No TLS at all.
    Plain,
    /// Expired yesterday.
    Expired,
    /// Valid from tomorrow on.
    Future,
    /// Good, and for db.example.
    OtherName,
    /// Good, with a common name and no alternative ones.
    CommonName,
    /// Of an authority that nobody was told of.
    OtherCa,
    /// Below an intermediate that is not sent.
    NoIntermediate,
    /// Below an intermediate that is sent.
    Intermediate,
    /// Its own issuer, and no authority.
    SelfSigned,
    /// On the list of revoked certificates.
    Revoked,
    /// Of X.509 version 1, for localhost.
    VersionOne,
    /// The same with TLS 1.2.
    VersionOne12,
    /// The same below an intermediate.
    VersionOneBelow,
    /// For TLS clients only.
    ForClients,
    /// Asks for client certificates, and wants them of some roles.
    ClientCa,
    /// The same with TLS 1.2.
    ClientCa12,
    /// TLS 1.1 and older.
    Tls11,
    /// TLS 1.2 and older.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
    /// TLS 1.2 with a cipher suite that nobody should have.
    OldCipher,
    /// No real server.
    Fake(&'static str),
}

/// A login and what the report must say.
#[derive(Clone, Debug)]
pub struct Row {
    pub claim: &'static str,
    pub at: At,
    /// What stands for the server, where it is no real one.
    pub fake: Option<Behaviour>,
    pub versions: &'static [Version],
    /// Arguments of `pgwhy proxy`; `{ca}` and the like are files of [`crate::files`].
    pub args: &'static str,
    /// `user:password`, which pgwhy is given with the connection string.
    pub knows: &'static str,
    /// The host in pgwhy's connection string.
    pub host: &'static str,
    /// The query of pgwhy's connection string.
    pub query: &'static str,
    pub who: Who,
    pub login: Login,
    /// A login before this one, whose report is not looked at.
    pub after: Option<Login>,
    pub expect: Expect,
    /// A part of what the client says; nothing in particular, when empty.
    pub says: &'static str,
    /// A part of the evidence.
    pub evidence: &'static str,
}

/// Both versions.
pub const BOTH: &[Version] = &[Version::V15, Version::V18];

/// psql as the role app with its password, in clear.
pub fn login() -> Login {
    Login {
        user: "app".into(),
        password: Some("correct-pw-1".into()),
        database: Some("app".into()),
        ..Login::default()
    }
}

/// The same with libpq's sslmode.
pub fn with(sslmode: &'static str) -> Login {
    Login { sslmode, ..login() }
}

impl Row {
    /// psql in clear, pgwhy without options.
    pub fn new(claim: &'static str, at: At) -> Self {
        Self {
            claim,
            at,
            fake: None,
            versions: BOTH,
            args: "",
            knows: "",
            host: "localhost",
            query: "",
            who: Who::Psql,
            login: login(),
            after: None,
            expect: works(),
            says: "",
            evidence: "",
        }
    }

    pub fn args(self, args: &'static str) -> Self {
        Self { args, ..self }
    }

    pub fn knows(self, knows: &'static str) -> Self {
        Self { knows, ..self }
    }

    pub fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    pub fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    pub fn only(self, versions: &'static [Version]) -> Self {
        Self { versions, ..self }
    }

    pub fn by(self, who: Who, login: Login) -> Self {
        Self { who, login, ..self }
    }

    pub fn psql(self, login: Login) -> Self {
        Self { login, ..self }
    }

    pub fn after(self, login: Login) -> Self {
        Self { after: Some(login), ..self }
    }

    pub fn fake(self, behaviour: Behaviour) -> Self {
        Self { fake: Some(behaviour), ..self }
    }

    pub fn expect(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    pub fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    pub fn evidence(self, evidence: &'static str) -> Self {
        Self { evidence, ..self }
    }
}

/// What the last report must say. Words are alternatives between `|`; `*` is anything, `-` nothing.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    outcome: &'static str,
    step: &'static str,
    cause: &'static str,
    variant: &'static str,
    confidence: &'static str,
    leg: &'static str,
    client_tls: &'static str,
    server_tls: &'static str,
    warning: &'static str,
}

const ANY: Expect = Expect {
    outcome: "*",
    step: "*",
    cause: "*",
    variant: "*",
    confidence: "*",
    leg: "*",
    client_tls: "*",
    server_tls: "*",
    warning: "*",
};

/// The login works, and pgwhy has seen it.
pub fn works() -> Expect {
    Expect { outcome: "ok", cause: "-", ..ANY }
}

/// TLS was passed through.
pub fn opaque() -> Expect {
    Expect { outcome: "opaque", cause: "-", ..ANY }
}

/// It fails at this step, for this cause, and that is proven.
pub fn fails(step: &'static str, cause: &'static str, variant: &'static str) -> Expect {
    Expect { outcome: "failed", step, cause, variant, confidence: "proven", ..ANY }
}

macro_rules! setters {
    ($($name:ident),*) => {
        impl Expect {
            $(pub fn $name(self, $name: &'static str) -> Self {
                Self { $name, ..self }
            })*
        }
    };
}
setters!(confidence, leg, client_tls, server_tls, warning);

impl Expect {
    pub fn is_success(&self) -> bool {
        matches!(self.outcome, "ok" | "opaque" | "ok|opaque")
    }

    pub fn or_opaque(self) -> Self {
        Self { outcome: "ok|opaque", ..self }
    }

    /// What is wrong with a report, or nothing.
    pub fn faults(&self, seen: &Value) -> Vec<String> {
        let fields = [
            ("outcome", self.outcome, &seen["outcome"]),
            ("failed_step", self.step, &seen["failed_step"]),
            ("cause", self.cause, &seen["cause"]),
            ("variant", self.variant, &seen["variant"]),
            ("confidence", self.confidence, &seen["confidence"]),
            ("leg", self.leg, &seen["leg"]),
            ("client_tls.version", self.client_tls, &seen["client_tls"]["version"]),
            ("server_tls.version", self.server_tls, &seen["server_tls"]["version"]),
        ];
        let mut faults = mismatches(&fields);
        let warnings = seen["warnings"].as_array().cloned().unwrap_or_default();
        let has = |word: &str| warnings.iter().any(|one| one["cause"] == word);
        if self.warning != "*" && !self.warning.split('|').any(has) {
            faults.push(format!("warnings: expected {}, got {}", self.warning, seen["warnings"]));
        }
        faults.extend(inconsistencies(seen));
        faults
    }
}
