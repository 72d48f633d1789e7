//! Something in the middle refuses: PgBouncer itself, and the words of those that can't run here.

use crate::At;
use crate::row::{Expect, RIGHT, Row, WRONG, failed, ok, row};
use crate::support::client::Who;
use crate::support::peer::{Behaviour, Wire, message};
use crate::support::server::Version;

pub fn rows() -> Vec<Row> {
    let mut rows = pgbouncer();
    rows.extend(gateways());
    rows
}

fn middle(step: &'static str, variant: &'static str) -> Expect {
    failed(step, "middle_refused").variant(variant).provable().leg("server")
}

fn pgbouncer() -> Vec<Row> {
    let bouncer = |claim: &str| row(format!("PgBouncer: {claim}")).only(Version::V15).at(At::Bouncer);
    vec![
        bouncer("a login works").expect(ok().method("scram-sha-256")),
        bouncer("a login works, with node-postgres").by(Who::Pg).expect(ok()),
        bouncer("no such database").database("no_such_db").expect(
            middle("auth_request|session_setup|scram_client_final|scram_server_final", "no_such_database")
                .sqlstate("08P01|3D000"),
        ),
        // It runs the exchange to its end with a made-up secret, so that names can't be tried.
        bouncer("no such user").user("ghost").expect(
            middle("auth_request|scram_client_final", "no_such_user|credentials_lookup|-")
                .sqlstate("08P01|28P01")
                .or(failed("scram_client_final", "password_rejected").possible()),
        ),
        bouncer("a wrong password").password(WRONG).expect(
            middle("scram_client_final", "*").sqlstate("08P01|28P01").or(failed(
                "scram_client_final",
                "password_rejected",
            )
            .possible()
            .sqlstate("08P01|28P01")),
        ),
        bouncer("quotes kept around the password")
            .password("\"correct-pw-7Q\"")
            .knows(RIGHT)
            .expect(failed("scram_client_final", "password_mismatch").variant("quotes_kept").proven()),
        bouncer("its own login at the server fails")
            .user("app_md5")
            .database("d_md5")
            .password("stale-pw-of-the-pooler")
            .expect(middle(
                "session_setup|scram_client_final|scram_server_final|auth_request",
                "server_login_failed|-",
            )),
        bouncer("a startup parameter that it does not know")
            .by(Who::Asyncpg)
            .setting("search_path", "shop")
            .expect(
                failed("auth_request|session_setup", "startup_parameter_refused")
                    .variant("pooler_unsupported")
                    .provable()
                    .sqlstate("08P01"),
            ),
        row("PgBouncer: its limit of clients is reached")
            .only(Version::V15)
            .at(At::SmallBouncer)
            .expect(middle("auth_request|session_setup", "limit")),
    ]
}

/// An ErrorResponse as a pooler writes it: no file, line and routine.
fn short_error(wire: &mut Wire, sqlstate: &str, text: &str) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.send(&message(b'E', format!("SFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes()))
}

/// Asks for an MD5 response, and refuses like PgBouncer.
fn passed_on(wire: &mut Wire, text: &str) -> std::io::Result<()> {
    passed_on_as(wire, "08P01", text)
}

fn passed_on_as(wire: &mut Wire, sqlstate: &str, text: &str) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.send(&message(b'R', b"\0\0\0\x05salt"))?;
    wire.read_message()?;
    wire.send(&message(b'E', format!("SFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes()))
}

/// Asks for the password in clear, and accepts it.
fn let_in(wire: &mut Wire) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.message(b'R', &3_u32.to_be_bytes())?;
    wire.read_message()?;
    wire.message(b'R', &0_u32.to_be_bytes())
}

fn gateways() -> Vec<Row> {
    let gateway = |claim: &str, behaviour: Behaviour| row(claim).only(Version::V18).at(At::Fake(behaviour));
    vec![
        gateway("a pooler accepts the password and passes on what the server says to its own login", |wire| {
            let_in(wire)?;
            let text = "database \"shop\" does not exist";
            wire.send(&message(b'E', format!("SFATAL\0C08P01\0M{text}\0\0").as_bytes()))
        })
        .expect(middle("session_setup", "server_login_failed").confidence("likely")),
        gateway("a pooler accepts the password and has no server", |wire| {
            let_in(wire)?;
            wire.read_to_end().map(drop)
        })
        .args(&["--login-timeout", "1s"])
        .expect(failed("session_setup", "auth_timeout").leg("server")),
        gateway("Supavisor does not know the tenant", |wire| short_error(wire, "XX000", "Tenant or user not found"))
            .expect(
                middle("auth_request", "no_such_user|-")
                    .or(failed("auth_request", "user_name_format").variant("tenant_suffix").provable()),
            ),
        gateway("Supavisor does not know a tenant whose name has the right form", |wire| {
            short_error(wire, "XX000", "(ENOTFOUND) tenant/user postgres.abcdef not found")
        })
        .user("postgres.abcdef")
        .expect(middle("auth_request", "no_such_user").confidence("likely").alternative("user_name_format")),
        gateway("PgDog refuses a password with quotes", |wire| {
            passed_on_as(wire, "28000", "password for user \"app\" and database \"app\" is wrong, or the database does not exist")
        })
        .password("\"correct-pw-7Q\"")
        .knows(RIGHT)
        .expect(failed("md5", "password_mismatch").variant("quotes_kept").proven().sqlstate("28000")),
        gateway("PgDog refuses a password that nobody knows", |wire| {
            passed_on_as(wire, "28000", "password for user \"app\" and database \"app\" is wrong, or the database does not exist")
        })
        .expect(failed("md5", "middle_refused").unproven().alternative("password_rejected")),
        gateway("a gateway is full, in words of its own", |wire| short_error(wire, "53300", "come back later"))
            .expect(middle("auth_request", "limit").confidence("likely")),
        gateway("Neon's endpoint is disabled", |wire| {
            short_error(wire, "XX000", "The endpoint has been disabled. Enable it using the Neon API and retry.")
        })
        .expect(middle("auth_request", "suspended")),
        gateway("PgBouncer can't read the startup packet of protocol 3.2", |wire| {
            short_error(wire, "08P01", "bad packet header: '0000002400030002'")
        })
        .by(Who::Psycopg)
        .option("max_protocol_version", "3.2")
        .expect(failed("auth_request", "protocol_version_unsupported").variant("too_new").unproven()),
        gateway("Supavisor is full", |wire| {
            short_error(wire, "XX000", "(EMAXCONN) max client connections reached, limit: 200")
        })
        .expect(middle("auth_request", "limit")),
        gateway("Supavisor wants TLS", |wire| {
            short_error(wire, "XX000", "(ESSLREQUIRED) SSL connection is required for user: postgres")
        })
        .expect(
            failed("auth_request", "hba_requires_tls").variant("*").provable().or(middle("auth_request", "*")),
        ),
        gateway("Supavisor refuses the address", |wire| {
            short_error(wire, "XX000", "(EADDRNOTALLOWED) address not in tenant allow_list: {10, 0, 0, 1}")
        })
        .expect(middle("auth_request", "allow_list|blocked")),
        // PgBouncer's auth_type=md5: it accepted the password, and passes on what the server said to it.
        gateway("a pooler passes on that there is no such database", |wire| {
            passed_on(wire, "database \"nope\" does not exist")
        })
        .knows(RIGHT)
        .expect(failed("md5", "middle_refused").unproven().sqlstate("08P01")),
        gateway("a pooler passes on that its own login failed", |wire| {
            passed_on(wire, "password authentication failed for user \"pooler\"")
        })
        .knows(RIGHT)
        .expect(failed("md5", "middle_refused").variant("server_login_failed").unproven().sqlstate("08P01")),
        gateway("a pooler refuses the password itself", |wire| passed_on(wire, "password authentication failed"))
            .password(WRONG)
            .knows(RIGHT)
            .expect(failed("md5", "password_mismatch").variant("unknown").proven().sqlstate("08P01")),
        gateway("a server says something that begins like an error of PostgreSQL's", |wire| {
            wire.read_packet()?;
            wire.send(b"ERROR\r\n")?;
            wire.end()
        })
        .expect(failed("auth_request", "not_postgres").variant("unknown").unproven().leg("server")),
        gateway("Neon misses the endpoint's name", |wire| {
            short_error(
                wire,
                "08P01",
                "Endpoint ID is not specified. Either please upgrade the postgres client library (libpq) for SNI support or pass the endpoint ID (first part of the domain name) as a parameter: '?options=endpoint%3D<endpoint-id>'.",
            )
        })
        .expect(failed("auth_request", "sni_required").provable()),
        gateway("Azure's gateway wants user@server", |wire| {
            short_error(
                wire,
                "28000",
                "Invalid Username specified. Please check the Username and retry connection. The Username should be in <username@hostname> format.",
            )
        })
        .expect(failed("auth_request", "user_name_format").variant("azure_at_server").provable()),
        // A routine and an SQLSTATE that no table knows: shown whole, and nothing made of it.
        gateway("a server refuses with an error of its own", |wire| {
            wire.read_packet()?;
            wire.send(&crate::support::peer::error("XX001", "something that no table knows"))
        })
        .expect(failed("auth_request", "server_error").provable().sqlstate("XX001")),
    ]
}
