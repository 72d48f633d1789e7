//! What `auto` can't know before it has happened: the first login fails, and the next one is passed through.

use crate::support::client::{Login, Who};
use crate::support::proxy::handshakes;
use crate::table::{Cell, Knows, Mode, Stage, cell};

/// An exception: what the first login and the next one come to.
#[derive(Debug)]
pub struct Exception {
    pub who: &'static str,
    pub first: Cell,
    pub next: Cell,
}

/// pgwhy knows the password of `app`, and shows a certificate that it made.
pub fn try_all(stage: &Stage) -> Vec<Exception> {
    let login = |user: &str, password: &str| Login {
        user: user.into(),
        password: Some(password.into()),
        database: Some("app".into()),
        sslmode: "require",
        ..Login::default()
    };
    let app = || login("app", "correct-pw-1");
    let verifying = Login { sslmode: "verify-full", ca: Some(stage.ca.clone().into()), ..app() };
    let second = login("second", "second-pw-2");
    [
        (
            "a client that verifies the server's certificate (psql, sslmode=verify-full)",
            Who::Psql,
            verifying.clone(),
        ),
        ("the same (psycopg)", Who::Psycopg, verifying),
        ("another user than the connection string's, with channel binding (psql)", Who::Psql, second.clone()),
        ("another user, without channel binding (node-postgres)", Who::Pg, second),
    ]
    .into_iter()
    .map(|(who, client, login)| {
        let mode = Mode { client_tls: "auto", knows: Knows::Password };
        let mut proxy = stage.proxy(mode, true);
        let first = client.log_in(proxy.addr, &login);
        let told = proxy.wait_handshakes(1, crate::support::DEADLINE);
        let next = client.log_in(proxy.addr, &login);
        let all = handshakes(&proxy.finish());
        let after = all.get(told.len()..).unwrap_or_default();
        assert!(next.ok, "{who}: not even the next login works: {}", next.error);
        Exception { who, first: cell(first.ok, &told), next: cell(next.ok, after) }
    })
    .collect()
}
