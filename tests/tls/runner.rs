//! Runs the table: a few rows at a time, every failing row printed with what was expected and seen.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::files::files;
use crate::row::Row;
use crate::stage::Stage;
use crate::support::client::Login;
use crate::support::peer::FakeServer;
use crate::support::proxy::{Proxy, handshakes};
use crate::support::server::Version;
use crate::support::{DEADLINE, schema};

/// Runs all rows that are for this version, on so many threads.
pub fn run(version: Version, rows: Vec<Row>, threads: usize) {
    let only = std::env::var("PGWHY_ROWS").unwrap_or_default();
    let stage = Stage::new(version);
    let rows: VecDeque<Row> =
        rows.into_iter().filter(|row| row.versions.contains(&version) && row.claim.contains(&only)).collect();
    let total = rows.len();
    let (queue, failures) = (Mutex::new(rows), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(row) = queue.lock().unwrap().pop_front() else { return };
                    // A row whose setting up panics must not take the other rows of its thread with it.
                    let result = catch_unwind(AssertUnwindSafe(|| run_row(&stage, &row)));
                    if let Err(text) = result.unwrap_or_else(|_| Err("panicked".to_owned())) {
                        println!("FAILED {version:?} {}\n{text}", row.claim);
                        failures.lock().unwrap().push(row.claim);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("PostgreSQL {version:?}: {} of {total} rows passed", total - failures.len());
    assert!(
        failures.is_empty(),
        "{} rows failed on {version:?}:\n  {}",
        failures.len(),
        failures.join("\n  ")
    );
}

fn run_row(stage: &Stage, row: &Row) -> Result<(), String> {
    let fake = row.fake.map(FakeServer::start);
    let port = fake.as_ref().map_or_else(|| stage.port(row.at), |fake| fake.addr.port());
    let knows = if row.knows.is_empty() { String::new() } else { format!("{}@", row.knows) };
    let query = files().fill(row.query);
    let upstream = format!("postgres://{knows}{}:{port}/app{query}", row.host);
    let fill = |arg: &str| match arg {
        "{admin}" => stage.admin(row.at),
        arg => files().fill(arg),
    };
    let args: Vec<String> = row.args.split_whitespace().map(fill).collect();
    let mut proxy = Proxy::start(&upstream, &args);
    if let Some(first) = &row.after {
        row.who.log_in(proxy.addr, &filled(first));
        proxy.wait_handshakes(1, DEADLINE);
    }
    let before = proxy.handshakes().len();
    let answer = row.who.log_in(proxy.addr, &filled(&row.login));
    proxy.wait_handshakes(before + 1, DEADLINE);
    let lines = proxy.finish();
    let seen = handshakes(&lines);
    let mut faults: Vec<String> = lines.iter().flat_map(|line| schema::faults(line)).collect();
    match seen.get(before) {
        Some(report) => {
            faults.extend(row.expect.faults(report));
            if !report["evidence"].to_string().contains(row.evidence) {
                faults.push(format!("evidence: no «{}»", row.evidence));
            }
        }
        None => faults.push("there is no report".to_owned()),
    }
    if answer.ok != row.expect.is_success() {
        faults.push(format!("the login should {}have worked", if answer.ok { "not " } else { "" }));
    }
    if !answer.error.contains(row.says) {
        faults.push(format!("the client does not say «{}»", row.says));
    }
    let output = format!("{}{}", lines.join("\n"), proxy.stderr());
    if ["correct-pw-1", "second-pw-2"].iter().any(|secret| output.contains(secret)) {
        faults.push("a password is in the output".to_owned());
    }
    if faults.is_empty() {
        return Ok(());
    }
    let mut text: String = faults.iter().map(|fault| format!("   ✗ {fault}\n")).collect();
    text.push_str(&format!("   the client said: {} {}\n", answer.ok, answer.error.trim()));
    for report in &seen {
        text.push_str(&format!("   got {report}\n"));
    }
    let log = proxy.stderr();
    for line in log.lines().map(str::to_owned).chain(stage.log(row.at)) {
        text.push_str(&format!("   log {line}\n"));
    }
    Err(text)
}

/// The login with paths in the place of names.
fn filled(login: &Login) -> Login {
    let mut filled = login.clone();
    filled.ca = login.ca.as_ref().map(|ca| files().fill(&ca.display().to_string()).into());
    for (_, value) in filled.options.iter_mut().chain(&mut filled.env) {
        *value = files().fill(value);
    }
    filled
}
