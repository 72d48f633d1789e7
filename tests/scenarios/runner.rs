//! Runs the table: a few rows at a time, every failing row printed with what was expected and seen.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

use super::row::{At, Row};
use super::world::{Upstream, World};
use crate::support::client::{Answer, Login};
use crate::support::keeper::Scratch;
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::Version;
use crate::support::{DEADLINE, schema};

/// Runs all rows that are for this version, on so many threads.
pub fn run(version: Version, rows: Vec<Row>, threads: usize) {
    let only = std::env::var("PGWHY_ROWS").unwrap_or_default();
    let direct = std::env::var_os("PGWHY_DIRECT").is_some();
    let world = World::new(version, &rows);
    let rows: VecDeque<Row> =
        rows.into_iter().filter(|row| row.versions.contains(&version) && row.claim.contains(&only)).collect();
    let total = rows.len();
    let (queue, failures) = (Mutex::new(rows), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(row) = queue.lock().unwrap().pop_front() else { return };
                    if let Err(text) = run_row(&world, &row, direct) {
                        println!("FAILED {version:?} {}\n{text}", row.claim);
                        failures.lock().unwrap().push(row.claim.clone());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let passed = total - failures.len();
    println!(
        "PostgreSQL {version:?}: {passed} of {total} scenarios passed in {:.1} s",
        began.elapsed().as_secs_f32()
    );
    assert!(
        failures.is_empty(),
        "{} scenarios failed on {version:?}:\n  {}",
        failures.len(),
        failures.join("\n  ")
    );
}

fn run_row(world: &World, row: &Row, direct: bool) -> Result<(), String> {
    // A row whose setting up panics must not take the other rows of its thread with it.
    let result =
        catch_unwind(AssertUnwindSafe(
            || if direct { run_direct(world, row) } else { run_proxied(world, row) },
        ));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "panicked".to_owned()))
    })
}

fn run_proxied(world: &World, row: &Row) -> Result<(), String> {
    let alone = row.prepare.map(|_| world.alone.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let target = world.target(row.at);
    let _prepared = row.prepare.map(|prepare| prepare(world.server(row.at).expect("a real server")));
    let scratch = Scratch::new();
    let mut args = row.args.clone();
    let mut upstream = upstream(&target.upstream, row);
    if let (true, Some((_, password))) = (row.by_file, &row.knows) {
        upstream = without_password(&target.upstream, row);
        let file = scratch.write("password", password);
        args.extend(["--password-file".to_owned(), file.display().to_string()]);
    }
    let mut proxy = Proxy::start(&upstream, &args);
    let first = row.first.as_ref().map(|(who, login)| who.log_in(proxy.addr, login));
    let answer = row.who.log_in(proxy.addr, &row.login);
    proxy.wait_handshakes(row.expect.len(), DEADLINE);
    let lines = proxy.finish();
    drop(alone);
    let seen = handshakes(&lines);
    let mut faults = judge(row, &lines, &seen, &proxy.stderr());
    if let Some(first) = first.filter(|first| !first.ok) {
        faults.push(format!("the first login should have worked: {}", first.error));
    }
    let wanted = row.expect.last().is_some_and(|expect| expect.is_success());
    if wanted && !answer.ok {
        faults.push(format!("the login should have worked: {}", answer.error));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let mut text: String = faults.iter().map(|fault| format!("   ✗ {fault}\n")).collect();
    text.push_str(&format!("   the client said: {} {}\n", answer.ok, answer.error.trim()));
    for handshake in &seen {
        text.push_str(&format!("   got {}\n", brief(handshake)));
    }
    for line in proxy.stderr().lines().take(20) {
        text.push_str(&format!("   log {line}\n"));
    }
    Err(text)
}

fn judge(row: &Row, lines: &[String], seen: &[Value], log: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for line in lines {
        faults.extend(schema::faults(line).into_iter().map(|fault| format!("schema: {fault}")));
    }
    if seen.len() != row.expect.len() {
        faults.push(format!("expected {} handshakes, got {}", row.expect.len(), seen.len()));
    }
    for (number, (expect, handshake)) in row.expect.iter().zip(seen).enumerate() {
        let where_ = if row.expect.len() > 1 { format!("handshake {}: ", number + 1) } else { String::new() };
        faults.extend(expect.faults(handshake).into_iter().map(|fault| format!("{where_}{fault}")));
    }
    for secret in secrets(row) {
        if lines.iter().any(|line| line.contains(&secret)) || log.contains(&secret) {
            faults.push(format!("the password {secret:?} appears in the output"));
        }
    }
    faults
}

/// The row's passwords that would be unmistakable in an output.
fn secrets(row: &Row) -> Vec<String> {
    let known = row.knows.iter().map(|(_, password)| password.clone());
    let sent = row.login.password.clone();
    let plain = |text: &String| {
        text.len() >= 6
            && text.chars().any(|c| c.is_ascii_digit())
            && !row.login.user.contains(text.as_str())
            && !text.contains("PASSWORD")
    };
    known.chain(sent).filter(plain).collect()
}

fn upstream(target: &Upstream, row: &Row) -> String {
    let Some((user, password)) = &row.knows else {
        return match target {
            Upstream::Port(port) if row.upstream_query.is_empty() => format!("127.0.0.1:{port}"),
            Upstream::Port(port) => format!("postgres://127.0.0.1:{port}/{}", row.upstream_query),
            Upstream::Socket(dir, port) => format!("host={} port={port}", dir.display()),
            Upstream::Text(text) => text.clone(),
        };
    };
    match target {
        Upstream::Port(port) => {
            let user = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
            let password =
                percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
            format!("postgres://{user}:{password}@127.0.0.1:{port}/{}", row.upstream_query)
        }
        Upstream::Socket(..) | Upstream::Text(_) => panic!("no row knows a password there"),
    }
}

fn without_password(target: &Upstream, row: &Row) -> String {
    let user = row.knows.as_ref().map(|(user, _)| user.clone()).unwrap_or_default();
    match target {
        Upstream::Port(port) => format!("postgres://{user}@127.0.0.1:{port}/"),
        Upstream::Socket(..) | Upstream::Text(_) => panic!("no row knows a password there"),
    }
}

fn brief(handshake: &Value) -> String {
    let mut brief = handshake.clone();
    for name in ["event", "schema", "time", "server_tls", "elapsed_ms"] {
        if let Some(map) = brief.as_object_mut() {
            map.remove(name);
        }
    }
    if let Some(steps) = brief["steps"].as_array() {
        let mark = |step: &Value| {
            if step["ok"] == true {
                "✓"
            } else if step["ok"] == false {
                "✗"
            } else {
                "·"
            }
        };
        let told = steps.iter().map(|step| format!("{}{}", mark(step), step["step"].as_str().unwrap_or("?")));
        brief["steps"] = told.collect::<Vec<_>>().join(" ").into();
    }
    brief.to_string()
}

fn run_direct(world: &World, row: &Row) -> Result<(), String> {
    let alone = row.prepare.map(|_| world.alone.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let target = world.target(row.at);
    let _prepared = row.prepare.map(|prepare| prepare(world.server(row.at).expect("a real server")));
    let began = Instant::now();
    let answer = match &target.upstream {
        Upstream::Port(port) => row.who.log_in(SocketAddr::from(([127, 0, 0, 1], *port)), &row.login),
        Upstream::Socket(dir, port) => {
            let login = Login { host: Some(dir.display().to_string()), ..row.login.clone() };
            row.who.log_in(SocketAddr::from(([127, 0, 0, 1], *port)), &login)
        }
        Upstream::Text(_) => Answer { ok: false, error: "(not run directly)".to_owned() },
    };
    drop(alone);
    let wanted = row.expect.last().is_some_and(|expect| expect.is_success());
    let sign = if answer.ok == wanted { " " } else { "?" };
    let at = if let At::Fake(_) = row.at { "Fake".to_owned() } else { format!("{:?}", row.at) };
    println!(
        "{sign} {:5} ms {at:9} {} -> {} {}",
        began.elapsed().as_millis(),
        row.claim,
        if answer.ok { "ok" } else { "failed" },
        answer.error.replace('\n', " / ")
    );
    assert!(began.elapsed() < DEADLINE, "too slow");
    Ok(())
}
