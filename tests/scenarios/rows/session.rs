//! After AuthenticationOk: role, database, limits, parameters.

use crate::At;
use crate::row::{Expect, Row, failed, ok, row};
use crate::support::client::Who;
use crate::support::peer::V3;
use crate::support::server::Version;

pub fn rows() -> Vec<Row> {
    let mut rows = databases();
    rows.extend(roles());
    rows.extend(parameters());
    rows
}

fn databases() -> Vec<Row> {
    let missing = |variant| {
        failed("session_setup", "database_missing").variant(variant).proven().sqlstate("3D000").leg("server")
    };
    let any = |claim: &str| row(claim).user("anydb");
    vec![
        any("there is no such database").database("no_such_db").expect(missing("absent")),
        any("there is no such database, with node-postgres")
            .by(Who::Pg)
            .database("no_such_db")
            .expect(missing("absent")),
        any("there is no such database, with asyncpg")
            .by(Who::Asyncpg)
            .database("no_such_db")
            .expect(missing("absent")),
        any("there is no such database, with tokio-postgres")
            .by(Who::TokioPostgres)
            .database("no_such_db")
            .expect(missing("absent")),
        // libpq writes the default into the packet: that it is one is an inference, that it is missing is not.
        any("psql without a database asks for one named as the user")
            .no_database()
            .expect(missing("default_is_user_name|absent")),
        any("a startup packet without a database means one named as the user")
            .by(Who::Raw(|wire| {
                wire.startup(V3, &[("user", "trust_any")])?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(missing("default_is_user_name")),
        any("a carriage return in the database's name").database("d_scram\r").expect(missing("cr_in_name")),
        any("percent-encoding in the database's name")
            .database("d%5Fscram")
            .expect(missing("percent_in_name")),
        any("another case in the database's name").database("D_SCRAM").expect(missing("absent|case_differs")),
        row("the database takes no connections")
            .database("d_closed")
            .expect(failed("session_setup", "database_not_accepting").proven().sqlstate("55000")),
        row("the role has no CONNECT right")
            .database("d_private")
            .expect(failed("session_setup", "connect_privilege_missing").proven().sqlstate("42501")),
    ]
}

fn roles() -> Vec<Row> {
    vec![
        row("a role on a trust line does not exist").user("ghost").no_password().database("d_trust").expect(
            failed("session_setup", "role_missing")
                .variant("absent|-")
                .proven()
                .sqlstate("28000")
                .leg("server"),
        ),
        row("a role on a trust line does not exist, with postgres.js")
            .by(Who::PostgresJs)
            .user("ghost")
            .database("d_trust")
            .expect(failed("session_setup", "role_missing").variant("absent|-").proven()),
        row("a role on a trust line has a blank behind its name")
            .user("trust_any ")
            .database("d_trust")
            .expect(failed("session_setup", "role_missing").variant("blank_in_name|absent|-").proven()),
        row("a role name of seventy letters is cut by the server")
            .user(&"x".repeat(70))
            .database("d_trust")
            .expect(failed("session_setup", "role_missing").variant("name_truncated|absent|-").proven()),
        row("the role may not log in")
            .user("app_nologin")
            .expect(failed("session_setup", "role_cannot_login").proven().sqlstate("28000")),
        row("the role may not log in, with pg8000")
            .by(Who::Pg8000)
            .user("app_nologin")
            .expect(failed("session_setup", "role_cannot_login").proven()),
        row("the role may not replicate")
            .option("replication", "true")
            .expect(failed("session_setup", "replication_denied").proven().sqlstate("42501")),
    ]
}

fn parameters() -> Vec<Row> {
    let refused = |variant| -> Expect {
        failed("session_setup", "startup_parameter_refused").variant(variant).proven().leg("client")
    };
    vec![
        row("a URL parameter of Prisma becomes a setting in asyncpg")
            .by(Who::Asyncpg)
            .setting("schema", "public")
            .expect(refused("unknown").sqlstate("42704")),
        row("a URL parameter of Prisma becomes a setting in postgres.js")
            .by(Who::PostgresJs)
            .url_query("?pgbouncer=true")
            .expect(refused("unknown").sqlstate("42704")),
        row("channel_binding in the URL becomes a setting in postgres.js")
            .by(Who::PostgresJs)
            .url_query("?channel_binding=prefer")
            .expect(refused("unknown").sqlstate("42704")),
        row("an encoding that does not exist")
            .env("PGCLIENTENCODING", "UTF9")
            .expect(refused("invalid_value").sqlstate("22023")),
        row("a time zone that does not exist")
            .env("PGTZ", "Asia/Nowhere")
            .expect(refused("invalid_value").sqlstate("22023")),
        row("a setting that only a superuser may change")
            .option("options", "-c log_statement=all")
            .expect(refused("not_permitted").sqlstate("42501")),
        row("a setting that needs a restart")
            .option("options", "-c max_connections=7")
            .expect(refused("needs_restart").sqlstate("55P02")),
        row("a setting that nothing changes")
            .option("options", "-c server_version=9")
            .expect(refused("-").sqlstate("55P02")),
        row("options of Neon at a plain PostgreSQL")
            .option("options", "endpoint=ep-cool-name")
            .expect(refused("bad_options").sqlstate("42601")),
        // It is read with the startup packet, before pg_hba.conf.
        row("a replication word that does not exist").option("replication", "maybe").expect(
            failed("auth_request|startup", "startup_parameter_refused").variant("invalid_value").provable(),
        ),
        row("application_name is reported").env("PGAPPNAME", "the shop").expect(ok()),
        row("a client gives up before the server lets it in")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\0")?;
                std::thread::sleep(std::time::Duration::from_millis(1_500));
                wire.message(b'Z', b"I")?;
                wire.read_to_end().map(drop)
            }))
            .by(Who::Raw(|wire| {
                wire.startup(V3, &[("user", "app"), ("database", "app")])?;
                wire.read_until(b'R')?;
                std::thread::sleep(std::time::Duration::from_millis(1_000));
                Ok(())
            }))
            .expect(failed("session_setup", "client_left").possible()),
        row("a login trigger refuses")
            .only(Version::V18)
            .database("d_trigger")
            .expect(failed("session_setup", "server_error").provable().sqlstate("P0001")),
        row("a login trigger refuses with the SQLSTATE of a missing database")
            .only(Version::V18)
            .database("d_trigger_2")
            .expect(failed("session_setup", "server_error").unproven().sqlstate("3D000")),
        row("a login trigger fails with the SQLSTATE of a database that takes no connections")
            .only(Version::V18)
            .database("d_trigger_3")
            .expect(failed("session_setup", "server_error").unproven().sqlstate("55000")),
        row("a library that the role's sessions load is missing")
            .user("app_preload")
            .expect(failed("session_setup", "server_error").provable().sqlstate("58P01")),
    ]
}
