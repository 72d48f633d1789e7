//! Things that change between two logins through one proxy.

use std::path::Path;

use serde_json::Value;

use super::stage::{conninfo, logging};
use crate::support::DEADLINE;
use crate::support::client::{Login, Who};
use crate::support::keeper::Scratch;
use crate::support::proxy::Proxy;
use crate::support::server::{Plan, Server, Version};

const HBA: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

/// One login more, and its report.
fn next(proxy: &Proxy, user: &str, password: &str) -> Value {
    let before = proxy.handshakes().len();
    let login = Login {
        user: user.into(),
        password: Some(password.into()),
        database: Some("postgres".into()),
        ..Login::default()
    };
    Who::Psql.log_in(proxy.addr, &login);
    proxy.wait_handshakes(before + 1, DEADLINE).into_iter().nth(before).unwrap_or_default()
}

#[track_caller]
fn check(claim: &str, seen: &Value, wants: &str, says: &str) {
    let text = |key: &str| seen[key].as_str().unwrap_or("-").to_owned();
    let got = format!("{} {}", text("cause"), text("confidence"));
    assert!(got == wants && seen["evidence"].to_string().contains(says), "{claim}: {seen}");
}

fn load(server: &Server, text: &str) {
    std::fs::write(server.data().join("pg_hba.conf"), format!("local all all trust\n{text}")).unwrap();
    super::rules::reload(server);
}

pub fn run(version: Version) {
    let plan = |sql: &str| Plan { hba: HBA.into(), sql: sql.into(), ..Plan::default() };
    let role = |name: &str| format!("CREATE ROLE {name} LOGIN PASSWORD 'r1ght-pass';");
    let roles = ["kept", "again", "gone", "anew"].map(role).concat();
    let here = Server::start(version, &plan(&roles));
    let there = Server::start(
        version,
        &plan("CREATE ROLE kept LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';"),
    );
    salts(&here, &there);
    lines(&here);
    let roles =
        "CREATE ROLE late LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01'; CREATE ROLE bare LOGIN;";
    let conf = logging("log_connections = off");
    altered(&Server::start(
        version,
        &Plan { late_conf: conf, late_wait: "collector process", ..plan(roles) },
    ));
}

/// A role is altered behind a login that failed, and the next login comes before anybody looked at the first: the
/// log joins both by their names alone.
fn altered(server: &Server) {
    server.wait_for_sql();
    let log = server.data().join("log/pg.log").display().to_string();
    let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &["--server-log".to_owned(), log]);
    for (user, sql, first) in [
        ("late", "ALTER ROLE late VALID UNTIL 'infinity'", "password_expired"),
        ("nobody", "CREATE ROLE nobody LOGIN PASSWORD 'r1ght-pass'", "role_missing"),
        ("bare", "ALTER ROLE bare PASSWORD 'r1ght-pass'", "role_without_password"),
    ] {
        let before = proxy.handshakes().len();
        let login = Login {
            user: user.into(),
            password: Some("wr0ng-pass".into()),
            database: Some("postgres".into()),
            ..Login::default()
        };
        Who::Psql.log_in(proxy.addr, &login);
        server.sql(sql);
        Who::Psql.log_in(proxy.addr, &login);
        let seen = proxy.wait_handshakes(before + 2, DEADLINE).split_off(before);
        check(sql, &seen[0], &format!("{first} proven"), "joined by time");
        check(sql, &seen[1], "password_rejected possible", "decided");
    }
    proxy.finish();
}

fn salts(here: &Server, there: &Server) {
    let upstream = format!("127.0.0.1:{}", here.port);
    const CHANGED: &str = "the salt changed since the last success";
    let mut proxy = Proxy::start(&upstream, &["--admin".to_owned(), conninfo(there, "postgres")]);
    next(&proxy, "kept", "r1ght-pass");
    let seen = next(&proxy, "kept", "wr0ng-pass");
    check(
        "an administrator elsewhere against the salt",
        &seen,
        "password_mismatch proven",
        "the salt is that of",
    );
    proxy.finish();

    let mut proxy = Proxy::start(&upstream, &[]);
    for user in ["again", "gone", "anew"] {
        assert_eq!(next(&proxy, user, "r1ght-pass")["outcome"], "ok", "{user}");
    }
    here.sql(
        "ALTER ROLE again PASSWORD 'r1ght-pass'; ALTER ROLE gone VALID UNTIL '2001-01-01'; DROP ROLE anew; \
         CREATE ROLE anew LOGIN PASSWORD 'n3w-pass';",
    );
    let seen = next(&proxy, "again", "wr0ng-pass");
    check("the same password was set again", &seen, "password_rejected possible", CHANGED);
    let seen = next(&proxy, "gone", "r1ght-pass");
    check("it has expired since", &seen, "password_rejected possible", CHANGED);
    let seen = next(&proxy, "anew", "r1ght-pass");
    check("the role is another one now", &seen, "password_rejected possible", CHANGED);
    assert_eq!(next(&proxy, "again", "r1ght-pass")["outcome"], "ok");
    let seen = next(&proxy, "again", "wr0ng-pass");
    check("a success in between counts", &seen, "password_mismatch proven", "the salt is that of");
    proxy.finish();

    let mut proxy = Proxy::start(&upstream, &["--admin".to_owned(), conninfo(here, "postgres")]);
    let seen = next(&proxy, "gone", "r1ght-pass");
    check("and the administrator proves it", &seen, "password_expired proven", "--admin");
    proxy.finish();
}

fn lines(server: &Server) {
    let scratch = Scratch::new();
    let given = |text: &str| scratch.write("hba.conf", format!("local all all trust\n{text}"));
    let file = given(HBA);
    let args = |file: &Path| ["--hba".to_owned(), file.display().to_string()];
    let mut proxy = Proxy::start(&format!("127.0.0.1:{}", server.port), &args(&file));
    let seen = next(&proxy, "kept", "wr0ng-pass");
    check("before", &seen, "password_rejected possible", "scram-sha-256");
    let reject = format!("host all kept 127.0.0.1/32 reject\n{HBA}");
    given(&reject);
    load(server, &reject);
    let seen = next(&proxy, "kept", "wr0ng-pass");
    check(
        "file and server changed between two logins",
        &seen,
        "hba_reject proven",
        "host all kept 127.0.0.1/32 reject",
    );
    given("host all all 127.0.0.1/32 scram-sha-256 # and nothing else\n");
    let seen = next(&proxy, "kept", "wr0ng-pass");
    assert_eq!(seen["cause"], "hba_not_reloaded", "the file changed alone: {seen}");
    load(server, HBA);
    let seen = next(&proxy, "kept", "wr0ng-pass");
    check("the server followed", &seen, "password_rejected possible", "scram-sha-256");
    proxy.finish();
}
