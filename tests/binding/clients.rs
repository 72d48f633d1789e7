//! The clients of the table, each in each of its modes.

use std::net::SocketAddr;

use crate::rust_client;
use crate::support::client::{Answer, Login, Who};

/// A client and how it is told to bind.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub name: &'static str,
    /// Its setting, as people write it; empty where it has none.
    pub setting: &'static str,
    by: By,
    option: Option<(&'static str, &'static str)>,
    /// Whether it knows sslmode=prefer: the others are told which kind of server there is.
    prefers: bool,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Program(Who),
    TokioPostgres(tokio_postgres::config::ChannelBinding),
}

/// All of them.
pub fn all() -> Vec<Client> {
    use tokio_postgres::config::ChannelBinding as Rust;
    let mut all = Vec::new();
    for (name, who) in [("psql, libpq 15", Who::Psql), ("psycopg 3, libpq 18", Who::Psycopg)] {
        for (setting, word) in [
            ("channel_binding=disable", "disable"),
            ("channel_binding=prefer", "prefer"),
            ("channel_binding=require", "require"),
        ] {
            let option = Some(("channel_binding", word));
            all.push(Client { name, setting, by: By::Program(who), option, prefers: true });
        }
    }
    let node = |setting, option| Client {
        name: "node-postgres 8.23",
        setting,
        by: By::Program(Who::Pg),
        option,
        prefers: false,
    };
    all.push(node("", None));
    all.push(node("enableChannelBinding: true", Some(("enableChannelBinding", "true"))));
    let plain =
        |name, who, prefers| Client { name, setting: "", by: By::Program(who), option: None, prefers };
    all.push(plain("asyncpg 0.32", Who::Asyncpg, true));
    all.push(plain("pg8000 1.31", Who::Pg8000, false));
    // Before 42.7.4 pgjdbc can't bind.
    all.push(plain("pgjdbc 42.5", Who::Pgjdbc, true));
    for (setting, mode) in [
        ("channel_binding=disable", Rust::Disable),
        ("channel_binding=prefer", Rust::Prefer),
        ("channel_binding=require", Rust::Require),
    ] {
        let by = By::TokioPostgres(mode);
        all.push(Client { name: "tokio-postgres 0.7", setting, by, option: None, prefers: true });
    }
    all
}

impl Client {
    /// One login of `app`, at a server that has TLS or not.
    pub fn log_in(&self, addr: SocketAddr, server_has_tls: bool) -> Answer {
        let sslmode = match (self.prefers, server_has_tls) {
            (true, _) => "prefer",
            (false, true) => "require",
            (false, false) => "disable",
        };
        let login = Login {
            user: "app".into(),
            password: Some("correct-pw-1".into()),
            database: Some("app".into()),
            sslmode,
            options: self.option.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            ..Login::default()
        };
        match self.by {
            By::Program(who) => who.log_in(addr, &login),
            By::TokioPostgres(mode) => rust_client::log_in(addr, &login, mode),
        }
    }
}
