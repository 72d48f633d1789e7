//! The questions: one read-only transaction over the catalogs of PostgreSQL 12 to 18 and of what
//! speaks like it. Every part may be refused by itself; then the rest goes on without it.
//!
//! Nothing is set for the session, so that a pooler between us and the server keeps nothing of ours.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Error, Row};

use super::AdminProblem;
use super::link::{Link, problem, words};
use super::sql;
use crate::diagnose::admin::{
    AdminFacts, Answer, Backends, DatabaseFacts, HbaRow, RoleFacts, SettingsFacts, StoredSecret, ValidUntil,
    name_cut, name_looked_up,
};
use crate::secret::Secret;

/// Lines of pg_hba.conf that are looked at; of a longer file none, as the missing ones could decide.
const MAX_HBA_ROWS: i64 = 10_000;
/// Roles that one role may be a member of; of more none, as above.
const MAX_MEMBERSHIPS: i64 = 5_000;
/// Names alike that are worth showing.
const MAX_SIMILAR: i64 = 8;
/// Settings that are asked for, and rows that have just one line each, fit well below this.
const MAX_OTHER_ROWS: i64 = 64;
/// One value: the longest real ones are lists of names in a line of pg_hba.conf.
const MAX_VALUE: usize = 64 << 10;
/// What people put around a name by mistake.
const AROUND: &str = " \t\r\n\u{b}\u{c}\u{a0}\u{feff}\"'`";

/// What the administrator's role may read, so that a refusal is not provoked (and logged by the
/// server) at every failure.
#[derive(Clone, Copy)]
struct Rights {
    authid: bool,
    hba: bool,
    stat: bool,
}

/// Asks everything. `left` bounds each statement at the server as well.
pub(super) async fn gather(
    link: &Link,
    user: &str,
    database: &str,
    gathered: i64,
    left: Duration,
) -> Result<AdminFacts, AdminProblem> {
    link.reset_meter();
    let begin =
        format!("{}; SET LOCAL statement_timeout = {}; {}", sql::BEGIN, left.as_millis(), sql::LIMITS);
    link.client.batch_execute(&begin).await.map_err(|error| problem(&error))?;
    let mut asker = Asker { link, unseen: Vec::new() };
    let hello = rows(link, sql::HELLO, &[], 1).await.and_then(|rows| hello(&rows));
    let (version, connected_as, in_recovery, now) = hello.map_err(Fault::into_problem)?;
    let rights = asker.rights().await?;
    let role_name = name_looked_up(user, version).to_owned();
    let database_name = name_looked_up(database, version).to_owned();
    let mut settings = asker.settings(version).await?;
    settings.now = now;
    asker.file_times(&mut settings, version, rights).await?;
    let facts = AdminFacts {
        gathered,
        server_version_num: version,
        address: link.address,
        role: asker.role(&role_name, &connected_as, rights).await?,
        similar_roles: asker.similar("roles of similar names", sql::SIMILAR_ROLES, user).await?,
        database: asker.database(&database_name, &role_name).await?,
        similar_databases: asker
            .similar("databases of similar names", sql::SIMILAR_DATABASES, database)
            .await?,
        hba_rules: asker.hba(version, &connected_as, rights).await?,
        backends: asker.backends(&role_name, &database_name).await?,
        settings,
        in_recovery,
        connected_as,
        unseen: asker.unseen,
    };
    link.client.batch_execute("ROLLBACK").await.map_err(|error| problem(&error))?;
    Ok(facts)
}

/// Why a part has no answer.
enum Fault {
    /// The server, or the connection to it.
    Postgres(Error),
    /// The answer itself.
    Answer(String),
}

impl Fault {
    fn into_problem(self) -> AdminProblem {
        match self {
            Self::Postgres(error) => problem(&error),
            Self::Answer(reason) => AdminProblem::Broken(reason),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// All rows, but no more than `most`.
async fn rows(link: &Link, sql: &str, params: Params<'_>, most: i64) -> Result<Vec<Row>, Fault> {
    let params = params.iter().map(|(value, kind)| (*value, kind.clone()));
    let mut stream = pin!(link.client.query_typed_raw(sql, params).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        if i64::try_from(rows.len()).is_ok_and(|count| count >= most) {
            return Err(Fault::Answer(format!("more than {most} rows")));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn hello(rows: &[Row]) -> Result<(i32, String, bool, i64), Fault> {
    let row = rows.first().ok_or_else(|| Fault::Answer("no row where there is always one".into()))?;
    Ok((row.try_get(0)?, text(row, 1)?.unwrap_or_default(), row.try_get(2)?, row.try_get(3)?))
}

struct Asker<'a> {
    link: &'a Link,
    unseen: Vec<String>,
}

impl Asker<'_> {
    /// One part: `what` names it in the reason why it is hidden, `read` makes the facts of its rows.
    async fn part<T>(
        &mut self,
        what: &str,
        sql: &str,
        params: Params<'_>,
        most: i64,
        read: impl FnOnce(&[Row]) -> Result<T, Fault>,
    ) -> Result<Answer<T>, AdminProblem> {
        let read = rows(self.link, sql, params, most).await.and_then(|rows| read(&rows));
        let reason = match read {
            Ok(facts) => return Ok(Answer::Known(facts)),
            Err(Fault::Answer(reason)) => reason,
            Err(Fault::Postgres(error)) => match problem(&error) {
                AdminProblem::Refused { sqlstate, message } => format!("{message} (SQLSTATE {sqlstate})"),
                broken if self.link.is_closed() => return Err(broken),
                // A row that is not what was asked for, on a connection that goes on.
                broken => words(&broken.to_string()),
            },
        };
        // Also where nothing was aborted: then it is a roll-back of nothing.
        let back = self.link.client.batch_execute("ROLLBACK TO SAVEPOINT part").await;
        back.map_err(|error| problem(&error))?;
        Ok(self.hidden(what, &reason))
    }

    fn hidden<T>(&mut self, what: &str, reason: &str) -> Answer<T> {
        let reason = format!("{what}: {reason}");
        self.unseen.push(reason.clone());
        Answer::Hidden(reason)
    }

    async fn rights(&mut self) -> Result<Rights, AdminProblem> {
        let read = |rows: &[Row]| {
            let row = rows.first().ok_or_else(|| Fault::Answer("no row".into()))?;
            let right = |at| row.try_get::<_, Option<bool>>(at).map(|right| right.unwrap_or(true));
            Ok(Rights { authid: right(0)?, hba: right(1)?, stat: right(2)? })
        };
        let all = Rights { authid: true, hba: true, stat: true };
        let answer = self.part("rights", sql::RIGHTS, &[], 1, read).await?;
        // Where they can't be asked, trying is the only way to know.
        Ok(match answer {
            Answer::Known(rights) => rights,
            Answer::Hidden(_) => {
                self.unseen.pop();
                all
            }
        })
    }

    async fn settings(&mut self, version: i32) -> Result<SettingsFacts, AdminProblem> {
        let names: Vec<&str> = sql::SETTINGS.to_vec();
        let params: Params<'_> = &[(&names, Type::TEXT_ARRAY)];
        let read = |rows: &[Row]| {
            let pairs = rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?)));
            pairs.collect::<Result<Vec<_>, Fault>>()
        };
        let pairs = self.part("pg_settings", sql::PG_SETTINGS, params, MAX_OTHER_ROWS, read).await?;
        let pairs = pairs.known().cloned().unwrap_or_default();
        let value = |name: &str| {
            pairs.iter().find(|(key, _)| key.as_deref() == Some(name)).and_then(|(_, value)| value.clone())
        };
        let number = |name: &str| value(name).and_then(|text| text.parse::<i64>().ok());
        let switch = |name: &str| value(name).map(|text| text == "on");
        let older = version < 160_000;
        let facts = SettingsFacts {
            ssl: switch("ssl"),
            password_encryption: value("password_encryption"),
            scram_iterations: match older {
                true => Some(4096),
                false => number("scram_iterations").and_then(|count| u32::try_from(count).ok()),
            },
            max_connections: number("max_connections"),
            superuser_reserved_connections: number("superuser_reserved_connections"),
            reserved_connections: if older { Some(0) } else { number("reserved_connections") },
            max_wal_senders: number("max_wal_senders"),
            port: number("port"),
            listen_addresses: value("listen_addresses"),
            authentication_timeout: number("authentication_timeout"),
            db_user_namespace: switch("db_user_namespace"),
            hba_file: value("hba_file"),
            ident_file: value("ident_file"),
            data_directory: value("data_directory"),
            ..SettingsFacts::default()
        };
        if !pairs.is_empty() && facts.hba_file.is_none() {
            let reason = "only superusers and members of pg_read_all_settings see it";
            let _: Answer<()> = self.hidden("hba_file, ident_file and data_directory", reason);
        }
        Ok(facts)
    }

    /// `pg_conf_load_time()` and `pg_stat_file()`.
    async fn file_times(
        &mut self,
        settings: &mut SettingsFacts,
        version: i32,
        rights: Rights,
    ) -> Result<(), AdminProblem> {
        let one = |rows: &[Row]| match rows.first() {
            Some(row) => Ok(row.try_get::<_, Option<i64>>(0)?),
            None => Ok(None),
        };
        let load = self.part("pg_conf_load_time()", sql::CONF_LOAD_TIME, &[], 1, one).await?;
        settings.conf_load_time = load.known().copied().flatten();
        let (Some(hba), Some(ident)) = (settings.hba_file.clone(), settings.ident_file.clone()) else {
            return Ok(());
        };
        if !rights.stat {
            let reason = "only superusers and roles with EXECUTE on pg_stat_file(text, boolean) see it";
            let _: Answer<()> = self.hidden("when pg_hba.conf was changed", reason);
            return Ok(());
        }
        let included = version >= 160_000 && rights.hba;
        let of_hba = if included { sql::HBA_CHANGED_16 } else { sql::FILE_CHANGED };
        let params: Params<'_> = &[(&hba, Type::TEXT)];
        let changed = self.part("when pg_hba.conf was changed", of_hba, params, 1, one).await?;
        settings.hba_changed = changed.known().copied().flatten();
        let params: Params<'_> = &[(&ident, Type::TEXT)];
        let changed = self.part("when pg_ident.conf was changed", sql::FILE_CHANGED, params, 1, one).await?;
        settings.ident_changed = changed.known().copied().flatten();
        Ok(())
    }

    async fn role(
        &mut self,
        name: &str,
        connected_as: &str,
        rights: Rights,
    ) -> Result<Answer<Option<RoleFacts>>, AdminProblem> {
        let denied = format!(
            "{connected_as} may not read pg_authid (superusers may, or who was granted SELECT on it)"
        );
        let params: Params<'_> = &[(&name, Type::TEXT)];
        let mut why = denied;
        if rights.authid {
            match self.part("pg_authid", sql::PG_AUTHID, params, 1, role_from_authid).await? {
                Answer::Known(role) => return self.with_memberships(role).await.map(Answer::Known),
                Answer::Hidden(reason) => {
                    self.unseen.pop();
                    why = reason;
                }
            }
        }
        let hidden = format!("the role's stored password: {why}");
        self.unseen.push(hidden.clone());
        let read = |rows: &[Row]| role_without_secret(rows, &hidden);
        let mut answer = self.part("pg_roles", sql::PG_ROLES, params, 1, read).await?;
        if matches!(answer, Answer::Hidden(_)) {
            answer = self.part("pg_user", sql::PG_USER, params, 1, read).await?;
        }
        match answer {
            Answer::Known(role) => self.with_memberships(role).await.map(Answer::Known),
            Answer::Hidden(reason) => Ok(Answer::Hidden(reason)),
        }
    }

    async fn with_memberships(&mut self, role: Option<RoleFacts>) -> Result<Option<RoleFacts>, AdminProblem> {
        let Some(mut role) = role else { return Ok(None) };
        let params: Params<'_> = &[(&role.name, Type::TEXT)];
        let what = "which roles the role is a member of";
        role.member_of = self.part(what, sql::MEMBER_OF, params, MAX_MEMBERSHIPS, names).await?;
        Ok(Some(role))
    }

    async fn similar(&mut self, what: &str, sql: &str, name: &str) -> Result<Vec<String>, AdminProblem> {
        let cut = name_cut(name).unwrap_or(name);
        let params: Params<'_> =
            &[(&name, Type::TEXT), (&AROUND, Type::TEXT), (&cut, Type::TEXT), (&MAX_SIMILAR, Type::INT8)];
        let found = self.part(what, sql, params, MAX_SIMILAR, names).await?;
        Ok(found.known().cloned().unwrap_or_default())
    }

    async fn database(
        &mut self,
        name: &str,
        role: &str,
    ) -> Result<Answer<Option<DatabaseFacts>>, AdminProblem> {
        let params: Params<'_> = &[(&name, Type::TEXT), (&role, Type::TEXT)];
        let read = |rows: &[Row]| rows.first().map(database).transpose();
        self.part("pg_database", sql::PG_DATABASE, params, 1, read).await
    }

    async fn hba(
        &mut self,
        version: i32,
        connected_as: &str,
        rights: Rights,
    ) -> Result<Answer<Vec<HbaRow>>, AdminProblem> {
        if !rights.hba {
            let reason = format!(
                "{connected_as} may not read it (superusers may, or who was granted SELECT and EXECUTE)"
            );
            return Ok(self.hidden("pg_hba_file_rules", &reason));
        }
        let sql = if version >= 160_000 { sql::HBA_RULES_16 } else { sql::HBA_RULES };
        let read = |rows: &[Row]| rows.iter().map(hba_row).collect();
        self.part("pg_hba_file_rules", sql, &[], MAX_HBA_ROWS, read).await
    }

    async fn backends(&mut self, role: &str, database: &str) -> Result<Answer<Backends>, AdminProblem> {
        let params: Params<'_> = &[(&role, Type::TEXT), (&database, Type::TEXT)];
        let read = |rows: &[Row]| {
            let row = rows.first().ok_or_else(|| Fault::Answer("no row".into()))?;
            Ok(Backends {
                total: row.try_get(0)?,
                by_role: row.try_get(1)?,
                by_database: row.try_get(2)?,
                wal_senders: row.try_get(3)?,
                exact: row.try_get(4)?,
            })
        };
        self.part("pg_stat_activity", sql::PG_STAT_ACTIVITY, params, 1, read).await
    }
}

fn names(rows: &[Row]) -> Result<Vec<String>, Fault> {
    rows.iter().map(|row| Ok(text(row, 0)?.unwrap_or_default())).collect()
}

fn role_from_authid(rows: &[Row]) -> Result<Option<RoleFacts>, Fault> {
    let Some(row) = rows.first() else { return Ok(None) };
    let stored = row.try_get::<_, Option<Text>>(8)?.map(|text| StoredSecret::new(Secret::new(text.0)));
    role(row, Answer::Known(stored)).map(Some)
}

fn role_without_secret(rows: &[Row], why: &str) -> Result<Option<RoleFacts>, Fault> {
    rows.first().map(|row| role(row, Answer::Hidden(why.to_owned()))).transpose()
}

fn role(row: &Row, secret: Answer<Option<StoredSecret>>) -> Result<RoleFacts, Fault> {
    let valid_until = match (row.try_get(5)?, row.try_get::<_, Option<i64>>(6)?) {
        (true, _) => ValidUntil::Never,
        (false, Some(ms)) => ValidUntil::Until(ms),
        (false, None) => ValidUntil::Always,
    };
    Ok(RoleFacts {
        name: text(row, 0)?.unwrap_or_default(),
        can_login: row.try_get(1)?,
        superuser: row.try_get(2)?,
        replication: row.try_get(3)?,
        connection_limit: limit(row.try_get(4)?),
        valid_until,
        expired: row.try_get(7)?,
        member_of: Answer::Known(Vec::new()),
        secret,
    })
}

fn database(row: &Row) -> Result<DatabaseFacts, Fault> {
    let limit_as_stored: i32 = row.try_get(2)?;
    Ok(DatabaseFacts {
        name: text(row, 0)?.unwrap_or_default(),
        allows_connections: row.try_get(1)?,
        connection_limit: limit(limit_as_stored),
        // DATCONNLIMIT_INVALID_DB of pg_database.h.
        invalid: limit_as_stored == -2,
        is_template: row.try_get(3)?,
        can_connect: row.try_get(4)?,
    })
}

fn limit(stored: i32) -> Option<i32> {
    (stored >= 0).then_some(stored)
}

fn hba_row(row: &Row) -> Result<HbaRow, Fault> {
    let list = |at| -> Result<Vec<String>, Fault> {
        let list: Option<Vec<Text>> = row.try_get(at)?;
        Ok(list.unwrap_or_default().into_iter().map(|text| text.0).collect())
    };
    Ok(HbaRow {
        file: text(row, 0)?,
        rule_number: row.try_get(1)?,
        line: row.try_get(2)?,
        kind: text(row, 3)?,
        databases: list(4)?,
        users: list(5)?,
        address: text(row, 6)?,
        netmask: text(row, 7)?,
        method: text(row, 8)?,
        options: list(9)?,
        error: text(row, 10)?,
    })
}

fn text(row: &Row, at: usize) -> Result<Option<String>, Fault> {
    Ok(row.try_get::<_, Option<Text>>(at)?.map(|text| text.0))
}

/// Text of bounded length in any encoding: shared catalogs hold the bytes of whichever database wrote
/// them.
struct Text(String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        if raw.len() > MAX_VALUE {
            return Err(format!("a value of more than {MAX_VALUE} bytes").into());
        }
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN)
    }
}
