//! The page that shows the table.

use std::fmt::Write as _;

use crate::exceptions::Exception;
use crate::table::{Cell, Knows, Mode, Row, Table, modes};

/// The page as it should be.
pub fn render(table: &Table, exceptions: &[Exception]) -> String {
    let mut page = String::from(HEAD);
    for (tls, title) in [(true, "A server with TLS"), (false, "A server without TLS")] {
        let rows: Vec<&Row> = table.rows.iter().filter(|row| row.tls == tls).collect();
        write!(page, "\n## {title}\n\n| client | directly |").unwrap();
        for mode in modes() {
            write!(page, " {} |", column(mode)).unwrap();
        }
        page.push_str("\n|---|---|");
        page.push_str(&"---|".repeat(modes().len()));
        page.push('\n');
        for row in rows {
            let setting = match row.client.setting {
                "" => String::new(),
                setting => format!(", `{setting}`"),
            };
            write!(page, "| {}{setting} | {} |", row.client.name, direct(row)).unwrap();
            for cell in &row.cells {
                write!(page, " {} |", sign(cell)).unwrap();
            }
            page.push('\n');
        }
    }
    page.push_str(EXCEPTIONS);
    for Exception { who, first, next } in exceptions {
        writeln!(page, "| {who} | {} | {} |", sign(first), sign(next)).unwrap();
    }
    page
}

fn column(mode: Mode) -> String {
    let knows = match mode.knows {
        _ if matches!(mode.client_tls, "passthrough" | "disable") => "",
        Knows::Password => ", password",
        Knows::ServerKey => ", server's key",
        Knows::Nothing => ", nothing",
    };
    format!("`{}`{knows}", mode.client_tls)
}

fn direct(row: &Row) -> &'static str {
    match row.direct {
        Cell::Fails(_) => "✗",
        Cell::Clear => "clear",
        _ => "TLS",
    }
}

fn sign(cell: &Cell) -> String {
    match cell {
        Cell::Opened => "seen".into(),
        Cell::Unopened => "unseen".into(),
        Cell::Clear => "clear".into(),
        Cell::Fails(cause) => format!("✗ {cause}"),
    }
}

/// Lines that only one of two texts has.
pub fn differences(known: &str, now: &str) -> Vec<String> {
    let gone = known.lines().filter(|line| !now.lines().any(|other| other == *line));
    let new = now.lines().filter(|line| !known.lines().any(|other| other == *line));
    gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect()
}

const HEAD: &str = "# Channel binding through pgwhy

SCRAM-SHA-256-PLUS binds a login to the certificate of the TLS session that it runs in. Whoever ends TLS in between
breaks that, unless it has the server's own certificate and key or logs in on both sides itself. These tables say what
that comes to, for each client, for each `--client-tls`, and for what pgwhy was given: the password of the user (in
`--upstream` or `DATABASE_URL`), the server's own certificate and key (`--tls-cert`, `--tls-key`), or neither.

They are made by `cargo test --test binding` with real clients and a real PostgreSQL 18, each login through a pgwhy that
was just started. A login that works directly never fails through `auto`, and never loses its TLS: the test says so.

- **seen**: the login works under TLS, and pgwhy reports its inside
- **unseen**: it works under TLS that passes through unopened (outcome `opaque`)
- **clear**: it works without TLS
- **✗**: it fails; the word is the cause in the report

Clients that know `sslmode=prefer` use it; the others use TLS where the server has it.
";

const EXCEPTIONS: &str = "
## What `auto` learns from a first failure

With the password of one user, `auto` opens TLS with a certificate of its own before it can know who comes. Two kinds of
client can't stand that. Each is told why (in pgwhy's report, and where it can read it, in the error), and every client of
that address is passed through unopened from then on. `--client-tls passthrough` avoids the first failure, and so does a
connection string with `sslmode=verify-ca` or `verify-full`, or the server's own certificate and key.

| client | first login | next login |
|---|---|---|
";
