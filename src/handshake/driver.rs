//! Which driver is this? Told by the startup packet, the SCRAM message and the ClientHello.
//!
//! Drivers do not name themselves, but the order of their startup parameters and the way they fill
//! in client-first-message differ. Measured with the drivers themselves; unknown is an answer.

use super::record::Record;

/// A driver family as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The name.
    pub name: &'static str,
    /// Whether this family, in the version that the packet shows, may lack SCRAM altogether.
    pub may_lack_scram: bool,
    /// How it behaves when it has no password.
    pub without_password: WithoutPassword,
}

/// What a driver does when the server wants a password and it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutPassword {
    /// Closes without a word after the authentication request.
    LeavesAfterRequest,
    /// Closes after server-first-message.
    LeavesAfterServerFirst,
    /// Sends an empty password.
    SendsEmpty,
}

use WithoutPassword::{LeavesAfterRequest, LeavesAfterServerFirst, SendsEmpty};

const fn driver(name: &'static str, without_password: WithoutPassword) -> Driver {
    Driver { name, may_lack_scram: false, without_password }
}

const LIBPQ: Driver = driver("libpq", LeavesAfterRequest);
const NODE_POSTGRES: Driver = driver("node-postgres", LeavesAfterServerFirst);
/// Releases before 8.1 quote the encoding's name; SCRAM came with 7.9.0.
const OLD_NODE_POSTGRES: Driver = Driver { may_lack_scram: true, ..NODE_POSTGRES };
const POSTGRES_JS: Driver = driver("postgres.js", SendsEmpty);
const ASYNCPG: Driver = driver("asyncpg", SendsEmpty);
const PG8000: Driver = driver("pg8000", LeavesAfterServerFirst);
const PGJDBC: Driver = driver("pgjdbc", LeavesAfterRequest);
const NPGSQL: Driver = driver("Npgsql", LeavesAfterRequest);
const LIB_PQ: Driver = driver("lib/pq", SendsEmpty);
const TOKIO_POSTGRES: Driver = driver("tokio-postgres", LeavesAfterRequest);
const SQLX: Driver = driver("sqlx", SendsEmpty);

/// Names the driver, or does not.
pub fn recognise(record: &Record) -> Option<Driver> {
    let startup = record.startup.as_ref()?;
    let names: Vec<&[u8]> = startup.parameters.iter().map(|(name, _)| name.as_slice()).collect();
    let value = |name: &str| startup.get(name).unwrap_or_default();
    let encoding = value("client_encoding");
    // lib/pq's order is random, so it comes before the drivers that are told by their order.
    if !value("datestyle").is_empty() && names.contains(&b"extra_float_digits".as_slice()) {
        return Some(LIB_PQ);
    }
    match names.as_slice() {
        [b"client_encoding", b"user", b"database", ..] if encoding == b"'utf-8'" => return Some(ASYNCPG),
        [b"client_encoding", b"user", ..] if encoding == b"UTF8" => return Some(TOKIO_POSTGRES),
        [b"user", b"client_encoding", b"database", ..] => return Some(NPGSQL),
        [b"user", b"database", b"DateStyle", b"client_encoding", b"TimeZone", b"extra_float_digits", ..] => {
            return Some(SQLX);
        }
        [b"user", b"database", b"client_encoding", b"DateStyle", b"TimeZone", ..] => return Some(PGJDBC),
        [b"user", b"database", b"client_encoding", b"application_name", ..] => return Some(POSTGRES_JS),
        _ => {}
    }
    if value("application_name") == b"postgres.js" {
        return Some(POSTGRES_JS);
    }
    if names.last() == Some(&b"client_encoding".as_slice()) && encoding == b"'utf-8'" {
        return Some(OLD_NODE_POSTGRES);
    }
    by_scram(record, &names, encoding).or_else(|| by_circumstance(record, &names))
}

/// client-first-message: its user name and nonce. Other drivers fill them in alike (everything on
/// ongres' SCRAM library sends `*`), so the startup packet must fit too.
fn by_scram(record: &Record, names: &[&[u8]], encoding: &[u8]) -> Option<Driver> {
    let first = record.scram.as_ref()?.client_first.as_ref()?;
    let user = record.user().unwrap_or_default();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_base64 = first.nonce.iter().all(base64);
    match (first.user.as_slice(), first.nonce.len(), names) {
        (b"*", 24, [b"user", b"database", .., b"client_encoding"]) if is_base64 && encoding == b"UTF8" => {
            Some(NODE_POSTGRES)
        }
        (b"", 24, [b"user", b"database", ..] | [b"user"]) if is_base64 => Some(LIBPQ),
        (name, 64, _) if name == user && first.nonce.iter().all(u8::is_ascii_hexdigit) => Some(PG8000),
        _ => None,
    }
}

/// What is left when there was no SCRAM: a name only where nobody else does the same. `user`,
/// `database` and `application_name` are also pg8000's; with `client_encoding=UTF8` behind them they
/// are node-postgres's, and also Django's over a Unix socket or with `sslmode=disable`.
fn by_circumstance(record: &Record, names: &[&[u8]]) -> Option<Driver> {
    let offers_alpn = |tls: &super::record::Tls| {
        tls.client_hello.as_ref().is_some_and(|(hello, _)| hello.alpn.iter().any(|name| name == "postgresql"))
    };
    let application =
        record.startup.as_ref().and_then(|startup| startup.get("application_name")).unwrap_or_default();
    if application == b"psql" || application.starts_with(b"pg_") || application.starts_with(b"pgAdmin") {
        return Some(LIBPQ);
    }
    match names {
        // Only libpq puts these before the application's name and nothing but the encoding behind it.
        [b"user", b"database", b"replication" | b"options", .., b"application_name"]
        | [b"user", b"database", b"replication" | b"options", .., b"application_name", b"client_encoding"] => {
            Some(LIBPQ)
        }
        _ if record.gss_request.is_some() || record.tls.as_ref().is_some_and(offers_alpn) => Some(LIBPQ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{ClientFirstSeen, ScramSeen, StartupSeen};
    use super::*;

    fn record(parameters: &[(&str, &str)], scram: Option<(&str, usize)>) -> Record {
        let own = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let parameters = parameters.iter().map(own).collect();
        let client_first = scram.map(|(user, nonce)| ClientFirstSeen {
            at: Default::default(),
            flag: b'n',
            binding_type: None,
            has_authzid: false,
            bare: Vec::new(),
            user: user.as_bytes().to_vec(),
            nonce: vec![b'a'; nonce],
        });
        Record {
            startup: Some(StartupSeen { at: Default::default(), version: 0x3_0000, parameters }),
            scram: client_first.map(|first| ScramSeen { client_first: Some(first), ..Default::default() }),
            ..Record::default()
        }
    }

    #[test]
    fn drivers_are_told_by_their_packets() {
        let (user, database) = (("user", "app"), ("database", "app"));
        let quoted = ("client_encoding", "'utf-8'");
        let utf8 = ("client_encoding", "UTF8");
        let rows: [(&str, Record); 11] = [
            ("asyncpg", record(&[quoted, user, database], None)),
            ("tokio-postgres", record(&[utf8, user, database], None)),
            ("Npgsql", record(&[user, utf8, database], None)),
            ("postgres.js", record(&[user, database, utf8, ("application_name", "postgres.js")], None)),
            ("pgjdbc", record(&[user, database, utf8, ("DateStyle", "ISO"), ("TimeZone", "UTC")], None)),
            ("node-postgres", record(&[user, database, utf8], Some(("*", 24)))),
            ("node-postgres", record(&[user, database, quoted], None)),
            ("libpq", record(&[user, database, ("application_name", "psql")], None)),
            ("libpq", record(&[user, database], Some(("", 24)))),
            ("pg8000", record(&[user, database], Some(("app", 64)))),
            ("lib/pq", record(&[utf8, ("extra_float_digits", "2"), user, ("datestyle", "ISO, MDY")], None)),
        ];
        for (name, record) in rows {
            let found = recognise(&record).map(|driver| driver.name);
            assert_eq!(found, Some(name), "{:?}", record.startup);
        }
    }

    #[test]
    fn what_several_drivers_send_has_no_name() {
        let (user, database, utf8) = (("user", "app"), ("database", "app"), ("client_encoding", "UTF8"));
        let name = ("application_name", "billing");
        let rows: [(&str, Record); 6] = [
            ("many", record(&[user, database], None)),
            ("pg8000, libpq, pgx", record(&[user, database, name], None)),
            ("node-postgres, Django over a Unix socket", record(&[user, database, utf8], None)),
            ("node-postgres, psycopg", record(&[user, database, name, utf8], None)),
            (
                "lib/pq 1.11, libpq with PGDATESTYLE",
                record(&[user, database, name, utf8, ("datestyle", "ISO, MDY")], None),
            ),
            ("pgx", record(&[database, user], Some(("", 24)))),
        ];
        for (row, record) in rows {
            assert_eq!(recognise(&record), None, "{row}");
        }
    }
}
