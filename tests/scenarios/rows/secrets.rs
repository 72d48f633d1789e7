//! Refused passwords, missing passwords, methods that a client does not know, broken exchanges.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::At;
use crate::row::{Expect, RIGHT, Row, WRONG, failed, ok, row};
use crate::support::client::{Login, Who};
use crate::support::peer::{V3, Wire, error, message};
use crate::support::server::Version;

pub fn rows() -> Vec<Row> {
    let mut rows = rejected_all();
    rows.extend(expected_password());
    rows.extend(missing_and_empty());
    rows.extend(methods());
    rows.extend(client_settings());
    rows.extend(scram_exchanges());
    rows.extend(cloud_tokens());
    rows.extend(external());
    rows
}

/// Logs in with a password of its own, which the server asks for in clear.
fn send_in_clear(wire: &mut Wire, database: &str) -> std::io::Result<()> {
    wire.startup(V3, &[("user", "app_scram"), ("database", database)])?;
    wire.read_until(b'R')?;
    wire.message(b'p', b"the-old-pw-1Q\0")?;
    wire.read_until(b'Z').map(drop)
}

/// Five causes give these bytes: no more than `possible`, and the missing role is among the others.
fn rejected(step: &'static str) -> Expect {
    failed(step, "password_rejected").possible().sqlstate("28P01").alternative("role_missing")
}

fn rejected_rows(who: Who, name: &str) -> Row {
    row(format!("a wrong password of {name} is rejected and nobody can say more"))
        .by(who)
        .password(WRONG)
        .expect(rejected("scram_client_final"))
}

mod clients {
    use super::{Row, Who, rejected_rows};

    pub(super) fn rows() -> Vec<Row> {
        vec![
            rejected_rows(Who::Psql, "psql"),
            rejected_rows(Who::Pg, "node-postgres"),
            rejected_rows(Who::PostgresJs, "postgres.js"),
            rejected_rows(Who::Asyncpg, "asyncpg"),
            rejected_rows(Who::Asyncpg030, "asyncpg 0.30"),
            rejected_rows(Who::Psycopg, "psycopg"),
            rejected_rows(Who::Pg8000, "pg8000"),
            rejected_rows(Who::Pgjdbc, "pgjdbc"),
            rejected_rows(Who::TokioPostgres, "tokio-postgres"),
        ]
    }
}

fn same_bytes() -> Vec<Row> {
    vec![
        row("a role that does not exist looks like a wrong password")
            .user("ghost")
            .expect(rejected("scram_client_final")),
        row("a role without a password looks like a wrong password")
            .user("app_nopw")
            .expect(rejected("scram_client_final")),
        row("an expired password looks like a wrong password")
            .user("app_expired")
            .expect(rejected("scram_client_final")),
        row("an md5 secret under a scram line looks like a wrong password")
            .user("app_md5")
            .expect(rejected("scram_client_final")),
        row("a missing role on an md5 line is asked for SCRAM and refused")
            .user("ghost")
            .database("d_md5")
            .expect(rejected("scram_client_final")),
        row("a wrong password over md5")
            .user("app_md5")
            .database("d_md5")
            .password(WRONG)
            .expect(failed("md5", "password_rejected").possible().sqlstate("28P01")),
        row("a wrong password over md5 from node-postgres 7.8")
            .by(Who::Pg7)
            .user("app_md5")
            .database("d_md5")
            .password(WRONG)
            .expect(failed("md5", "password_rejected").possible().sqlstate("28P01").driver("node-postgres")),
        row("a wrong password in cleartext")
            .user("app_clear")
            .database("d_clear")
            .password(WRONG)
            .expect(failed("password", "password_rejected").possible().sqlstate("28P01")),
        row("a missing role in cleartext").user("ghost").database("d_clear").expect(
            failed("password", "password_rejected").possible().sqlstate("28P01").alternative("role_missing"),
        ),
        row("a role name with another case is a role that does not exist").user("App_Scram").expect(
            rejected("scram_client_final")
                .or(failed("scram_client_final", "role_missing").variant("*").unproven()),
        ),
        row("a role name with a blank behind it is a role that does not exist").user("app_scram ").expect(
            rejected("scram_client_final")
                .or(failed("scram_client_final", "role_missing").variant("blank_in_name").unproven()),
        ),
        row("a client still has the password that worked before")
            .at(At::Fake(|wire| {
                let before = wire.read_packet()?.windows(6).any(|part| part == b"before");
                wire.message(b'R', &3_u32.to_be_bytes())?;
                wire.read_message()?;
                if before {
                    wire.message(b'R', &0_u32.to_be_bytes())?;
                    wire.message(b'Z', b"I")?;
                    return wire.read_to_end().map(drop);
                }
                wire.send(&error("28P01", "password authentication failed for user \"app_scram\""))?;
                wire.end()
            }))
            .after(Who::Raw(|wire| send_in_clear(wire, "before")), Login::default())
            .by(Who::Raw(|wire| send_in_clear(wire, "after")))
            .knows(RIGHT)
            .expect(ok())
            .expect(failed("password", "password_mismatch").variant("previous_password").proven()),
        row("a failure after a success of the same user and database says what differs")
            .after(
                Who::Pg,
                Login {
                    user: "app_scram".into(),
                    password: Some(RIGHT.into()),
                    database: Some("d_scram".into()),
                    ..Login::default()
                },
            )
            .password(WRONG)
            .expect(ok())
            // The salt is that of the success: nothing changed at the server.
            .expect(
                failed("scram_client_final", "password_mismatch")
                    .variant("unknown")
                    .proven()
                    .leg("client")
                    .sqlstate("28P01")
                    .differs(),
            ),
    ]
}

fn rejected_all() -> Vec<Row> {
    [clients::rows(), same_bytes()].concat()
}

fn expected_password() -> Vec<Row> {
    let on_server =
        |step| failed(step, "password_differs_on_server").proven().leg("server").sqlstate("28P01");
    // The response fits neither the expected password nor a mistake of it.
    let unknown = |step| failed(step, "password_mismatch").variant("unknown").provable().leg("client");
    vec![
        row("the expected password is sent and the server has another")
            .password("the-new-pw-4K")
            .knows("the-new-pw-4K")
            .expect(on_server("scram_client_final")),
        row("the expected password is sent by node-postgres and the server has another")
            .by(Who::Pg)
            .password("the-new-pw-4K")
            .knows("the-new-pw-4K")
            .expect(on_server("scram_client_final")),
        row("the expected password is sent and the role does not exist")
            .user("ghost")
            .knows(RIGHT)
            .expect(on_server("scram_client_final")),
        row("the expected password is sent and the role has none")
            .user("app_nopw")
            .knows(RIGHT)
            .expect(on_server("scram_client_final")),
        row("the expected password is sent and has expired")
            .user("app_expired")
            .knows(RIGHT)
            .expect(on_server("scram_client_final")),
        row("the expected password is sent and the server keeps md5 under a scram line")
            .user("app_md5")
            .knows(RIGHT)
            .expect(on_server("scram_client_final")),
        row("a user's name is too long for md5, and so the right password is refused")
            .role(&"n".repeat(63), "md500112233445566778899aabbccddeeff")
            .user(&"n".repeat(70))
            .database("d_md5")
            .password(RIGHT)
            .knows(RIGHT)
            .expect(
                failed("md5", "password_rejected")
                    .confidence("likely")
                    .alternative("password_differs_on_server"),
            ),
        row("the expected password is sent over md5 and the server has another")
            .user("app_md5")
            .database("d_md5")
            .password("the-new-pw-4K")
            .knows("the-new-pw-4K")
            .expect(on_server("md5")),
        row("the expected password is sent in cleartext and the server has another")
            .user("app_clear")
            .database("d_clear")
            .password("the-new-pw-4K")
            .knows("the-new-pw-4K")
            .expect(on_server("password")),
        row("quite another password is sent")
            .password(WRONG)
            .knows(RIGHT)
            .expect(unknown("scram_client_final")),
        row("quite another password is sent over md5")
            .user("app_md5")
            .database("d_md5")
            .password(WRONG)
            .knows(RIGHT)
            .expect(unknown("md5")),
        row("quite another password is sent in cleartext")
            .user("app_clear")
            .database("d_clear")
            .password(WRONG)
            .knows(RIGHT)
            .expect(unknown("password")),
        // A server with a SCRAM secret takes either form: the expected password is not the one that it stores.
        row("the expected password is sent in cleartext in another normal form")
            .user("app_clear")
            .database("d_clear")
            .password("pa\u{308}ss-w0rd")
            .knows("p\u{e4}ss-w0rd")
            .expect(
                failed("password", "password_mismatch")
                    .variant("unicode_form")
                    .unproven()
                    .alternative("password_differs_on_server"),
            ),
        row("the expected password stands in a file, with a newline that is not part of it")
            .password("\"correct-pw-7Q\"")
            .knows("correct-pw-7Q\n")
            .by_file()
            .expect(failed("scram_client_final", "password_mismatch").variant("quotes_kept").proven()),
        // What is known is another user's password: it proves nothing about this one.
        row("the client logs in as another user than the connection string names")
            .password(WRONG)
            .knows_user("somebody_else", "some-other-pw-2M")
            .expect(
                rejected("scram_client_final")
                    .or(failed("scram_client_final", "password_mismatch").variant("unknown").unproven()),
            ),
        row("the password of the connection string's user is sent for another user")
            .password("some-other-pw-2M")
            .knows_user("somebody_else", "some-other-pw-2M")
            .expect(
                rejected("scram_client_final")
                    .or(failed("scram_client_final", "password_differs_on_server").unproven())
                    .or(failed("scram_client_final", "password_mismatch").variant("*").unproven()),
            ),
    ]
}

fn missing_and_empty() -> Vec<Row> {
    // A client that leaves after the request may lack a password, or refuse the method by its settings.
    let missing = |step| failed(step, "password_missing").confidence("likely|possible").leg("client");
    let empty = |step| failed(step, "password_empty").proven().leg("client");
    vec![
        row("psql has no password for SCRAM").no_password().expect(missing("sasl_mechanism")),
        row("psql has no password for md5")
            .user("app_md5")
            .database("d_md5")
            .no_password()
            .expect(missing("md5")),
        row("psql has no password for cleartext")
            .user("app_clear")
            .database("d_clear")
            .no_password()
            .expect(missing("password")),
        row("psycopg has no password for SCRAM")
            .by(Who::Psycopg)
            .no_password()
            .expect(missing("sasl_mechanism")),
        row("tokio-postgres has no password for SCRAM")
            .by(Who::TokioPostgres)
            .no_password()
            .expect(missing("sasl_mechanism")),
        row("pgjdbc has no password for SCRAM")
            .by(Who::Pgjdbc)
            .no_password()
            .expect(missing("sasl_mechanism").driver("pgjdbc")),
        // node-postgres sends its first message and fails when it needs the password.
        row("node-postgres has no password for SCRAM")
            .by(Who::Pg)
            .no_password()
            .expect(failed("scram_server_first", "password_missing").confidence("proven|likely|possible")),
        // Its first message is out already when it trips over the missing password.
        row("pg8000 has no password for SCRAM").by(Who::Pg8000).no_password().expect(
            failed("scram_server_first|sasl_mechanism", "password_missing")
                .confidence("likely|possible")
                .or(failed("scram_server_first|sasl_mechanism", "client_left").possible()),
        ),
        row("asyncpg without a password sends an empty one")
            .by(Who::Asyncpg)
            .no_password()
            .expect(empty("scram_client_final")),
        row("postgres.js without a password sends an empty one")
            .by(Who::PostgresJs)
            .no_password()
            .expect(empty("scram_client_final")),
        // Its `null + user` makes the word null of the missing password.
        row("node-postgres without a password sends the word null over md5")
            .by(Who::Pg)
            .user("app_md5")
            .database("d_md5")
            .no_password()
            .expect(
                failed("md5", "password_mismatch").variant("literal_null").unproven().or(failed(
                    "md5",
                    "password_missing|password_rejected",
                )
                .unproven()),
            ),
        row("asyncpg without a password sends an empty one over md5")
            .by(Who::Asyncpg)
            .user("app_md5")
            .database("d_md5")
            .no_password()
            .expect(empty("md5")),
        row("an empty password in cleartext")
            .by(Who::Asyncpg)
            .user("app_clear")
            .database("d_clear")
            .no_password()
            .expect(empty("password")),
        row("an empty password is told from a mistake of the expected one")
            .by(Who::Asyncpg)
            .no_password()
            .knows(RIGHT)
            .expect(empty("scram_client_final")),
    ]
}

fn methods() -> Vec<Row> {
    let unsupported =
        |step, variant| failed(step, "auth_method_unsupported_by_client").variant(variant).leg("client");
    vec![
        // pg 7.18 sends the same startup packet and knows SCRAM: the fingerprint alone proves nothing.
        row("node-postgres 7.8 does not know SCRAM")
            .by(Who::Pg7)
            .expect(unsupported("sasl_mechanism|auth_request", "scram").provable().driver("node-postgres")),
        row("the server can't load its OAuth validator")
            .only(Version::V18)
            .database("d_oauth")
            .by(Who::Raw(|wire| bearer(wire, "Bearer t0ken-of-alice")))
            .expect(failed("oauth", "oauth_failed").confidence("likely").leg("server").sqlstate("58P01")),
        // No validator is packaged with a server that the tests can have, so a stand-in refuses as 18 does.
        row("a validator refuses the token")
            .at(At::Fake(refuses_tokens))
            .by(Who::Raw(|wire| bearer(wire, "Bearer t0ken-of-alice")))
            .expect(failed("oauth", "oauth_failed").proven().leg("client").sqlstate("28000").method("oauth")),
        row("a client sends an empty token to learn where to get one")
            .at(At::Fake(refuses_tokens))
            .by(Who::Raw(|wire| bearer(wire, "")))
            .expect(failed("oauth", "oauth_failed").confidence("likely").leg("client")),
        row("psycopg can't get a token from the issuer that the server names")
            .at(At::Fake(refuses_tokens))
            .by(Who::Psycopg)
            .no_password()
            .option("oauth_issuer", "https://issuer.invalid")
            .option("oauth_client_id", "psycopg")
            .option("require_auth", "oauth")
            .expect(failed("oauth", "oauth_failed").confidence("likely").leg("client")),
        row("psql 15 does not know OAuth")
            .only(Version::V18)
            .database("d_oauth")
            .expect(unsupported("sasl_mechanism|auth_request|oauth", "oauth").provable()),
        row("node-postgres does not know OAuth")
            .only(Version::V18)
            .by(Who::Pg)
            .database("d_oauth")
            .expect(unsupported("sasl_mechanism|auth_request|oauth", "oauth").provable()),
        row("node-postgres does not know Kerberos").only(Version::V15).by(Who::Pg).database("d_gss").expect(
            unsupported("auth_request|gss", "gss").confidence("proven|likely|possible").or(failed(
                "gss|auth_request",
                "gss_failed",
            )
            .variant("unsupported_by_client|-")
            .confidence("proven|likely|possible")),
        ),
        row("psql knows Kerberos and has no ticket").only(Version::V15).database("d_gss").expect(
            failed("gss|auth_request", "gss_failed")
                .variant("*")
                .confidence("proven|likely|possible")
                .or(unsupported("auth_request|gss", "gss").unproven()),
        ),
        row("a server that asks as Redshift does is too new for libpq")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0d\0\0\0\x02saltsaltsaltsalt\0\0\x10\0")?;
                wire.read_to_end().map(drop)
            }))
            .expect(unsupported("auth_request|password", "sha256_redshift").provable()),
        row("a server that asks for Kerberos 5 is too old for everybody")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x02")?;
                wire.read_to_end().map(drop)
            }))
            .expect(unsupported("auth_request", "obsolete").provable()),
        row("a mechanism that nobody knows yet")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-512\0\0")?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("sasl_mechanism", "auth_method_unsupported_by_client").unproven()),
        row("a pooler negotiates the protocol version twice")
            .by(Who::Psycopg)
            .option("max_protocol_version", "3.2")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'v', b"\0\x03\0\0\0\0\0\0")?;
                wire.message(b'v', b"\0\x03\0\0\0\0\0\0")?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("startup", "protocol_version_unsupported").unproven().leg("server")),
        row("SCRAM-SHA-256-PLUS is offered in plaintext")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("sasl_mechanism", "plus_over_plaintext").provable()),
        row("SCRAM-SHA-256-PLUS is offered in plaintext to a driver that does not mind, and has no password")
            .by(Who::Pgjdbc)
            .no_password()
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("sasl_mechanism", "password_missing").unproven()),
    ]
}

fn client_settings() -> Vec<Row> {
    // Without the URL nothing tells these from a missing password: all three are honest, none proven.
    let left = |step| {
        failed(step, "password_missing")
            .unproven()
            .or(failed(step, "method_rejected_by_client").unproven())
            .or(failed(step, "client_left").possible())
            .or(failed(step, "auth_method_unsupported_by_client").variant("*").possible())
    };
    // With it there is no other: libpq looks at these settings before it looks for a password.
    let forbidden = |step| failed(step, "method_rejected_by_client").proven();
    // psycopg's startup packet alone does not show that it is libpq.
    let unsure = |step| failed(step, "method_rejected_by_client").confidence("likely");
    vec![
        row("require_auth forbids cleartext")
            .by(Who::Psycopg)
            .user("app_clear")
            .database("d_clear")
            .option("require_auth", "scram-sha-256")
            .expect(left("password")),
        row("require_auth forbids md5")
            .by(Who::Psycopg)
            .user("app_md5")
            .database("d_md5")
            .option("require_auth", "scram-sha-256")
            .expect(left("md5")),
        row("channel binding is required in plaintext")
            .option("channel_binding", "require")
            .expect(left("sasl_mechanism")),
        row("channel binding is required and the server asks for md5")
            .user("app_md5")
            .database("d_md5")
            .option("channel_binding", "require")
            .expect(left("md5")),
        // AuthenticationOk was on its way already: libpq leaves instead of waiting for the rest.
        row("require_auth forbids trust")
            .by(Who::Psycopg)
            .user("trust_any")
            .no_password()
            .database("d_trust")
            .option("require_auth", "scram-sha-256")
            .expect(left("session_setup|auth_request").or(ok())),
        row("require_auth forbids cleartext, and stands in the upstream's URL")
            .by(Who::Psycopg)
            .user("app_clear")
            .database("d_clear")
            .option("require_auth", "scram-sha-256")
            .upstream_query("?require_auth=scram-sha-256")
            .expect(unsure("auth_request")),
        row("require_auth forbids md5, and stands in the upstream's URL")
            .by(Who::Psycopg)
            .user("app_md5")
            .database("d_md5")
            .knows(RIGHT)
            .option("require_auth", "!md5,!password")
            .upstream_query("?require_auth=!md5,!password")
            .expect(unsure("auth_request")),
        row("channel binding is required in plaintext, and the URL says so")
            .option("channel_binding", "require")
            .upstream_query("?channel_binding=require")
            .expect(forbidden("sasl_mechanism")),
        row("channel binding is required, the URL says so, and the server asks for md5")
            .user("app_md5")
            .database("d_md5")
            .option("channel_binding", "require")
            .upstream_query("?channel_binding=require")
            .expect(forbidden("auth_request")),
        row("the URL asks for channel binding, and another user's client leaves")
            .no_password()
            .knows_user("somebody", "else-1")
            .upstream_query("?channel_binding=require")
            .expect(left("sasl_mechanism")),
        row("the URL allows what the server asks for, and the client has no password")
            .by(Who::Psycopg)
            .no_password()
            .upstream_query("?require_auth=scram-sha-256,md5")
            .expect(left("sasl_mechanism")),
        row("pgwhy took PLUS away from a client that needs it")
            .option("channel_binding", "require")
            .args(&["--server-tls", "require"])
            .upstream_query("?channel_binding=require")
            .expect(forbidden("sasl_mechanism").leg("proxy")),
    ]
}

const FIRST: &[u8] = b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL";

/// The nonce of it.
const NONCE: &[u8] = b"fyko+d2lbbFgONRv9qkxdawL";

fn begin_scram(wire: &mut Wire) -> std::io::Result<()> {
    wire.startup(V3, &[("user", "app_scram"), ("database", "d_scram")])?;
    wire.read_until(b'R').map(drop)
}

fn send_first(wire: &mut Wire, first: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(first.len()).expect("a short message").to_be_bytes();
    wire.send(&message(b'p', &[b"SCRAM-SHA-256\0", &length[..], first].concat()))
}

fn scram_exchanges() -> Vec<Row> {
    vec![
        row("a client answers an md5 response to a SASL request")
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                wire.message(b'p', b"md500112233445566778899aabbccddeeff\0")?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(
                failed("sasl_mechanism|scram_client_first", "sasl_response_invalid")
                    .provable()
                    .sqlstate("08P01"),
            ),
        row("a client sends a query instead of a SASL response")
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                wire.message(b'Q', b"select 1\0")?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(
                failed("sasl_mechanism|scram_client_first", "sasl_response_invalid")
                    .provable()
                    .sqlstate("08P01"),
            ),
        row("a client-first message that is no SCRAM")
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                send_first(wire, b"n,,hello")?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(failed("scram_client_first|sasl_mechanism", "sasl_response_invalid").provable()),
        row("a nonce that changes on the way")
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                send_first(wire, FIRST)?;
                wire.read_until(b'R')?;
                wire.message(b'p', b"c=biws,r=another+nonce,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(
                failed("scram_client_final", "scram_nonce_mismatch").provable().or(failed(
                    "scram_client_final",
                    "sasl_response_invalid",
                )
                .provable()),
            ),
        row("a client of no known driver leaves after server-first")
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                send_first(wire, b"n,,n=somebody,r=fyko+d2lbbFgONRv9qkxdawL")?;
                wire.read_until(b'R').map(drop)
            }))
            .expect(
                failed("scram_server_first|scram_client_final", "client_left").possible().or(failed(
                    "scram_server_first",
                    "password_missing",
                )
                .unproven()),
            ),
        row("node-postgres refuses too many iterations")
            .by(Who::Pg)
            .user("app_slow")
            .expect(failed("scram_server_first", "scram_iterations_refused").provable()),
        row("the server can't prove that it knows the password")
            .role("bad_server", &bad_server_key())
            .by(Who::Pg)
            .password(RIGHT)
            .knows(RIGHT)
            .expect(failed("scram_server_final", "server_signature_invalid").provable()),
        row("a client has the server's signature, waits for AuthenticationOk and gives up")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")?;
                wire.read_message()?;
                wire.message(b'R', &[b"\0\0\0\x0br=", NONCE, b"srv,s=QSXCR+Q6sek8bf92,i=4096"].concat())?;
                wire.read_message()?;
                wire.message(b'R', b"\0\0\0\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")?;
                wire.read_to_end().map(drop)
            }))
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                send_first(wire, FIRST)?;
                wire.read_until(b'R')?;
                let last =
                    [b"c=biws,r=", NONCE, b"srv,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="].concat();
                wire.message(b'p', &last)?;
                wire.read_until(b'R')?;
                std::thread::sleep(std::time::Duration::from_millis(1_100));
                Ok(())
            }))
            .expect(failed("session_setup", "client_left").possible()),
        row("a client stops after the request until the server gives up")
            .at(At::Impatient)
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("sasl_mechanism", "auth_timeout").confidence("proven|likely|possible")),
        row("a client stops after the request until we give up")
            .args(&["--login-timeout", "3s"])
            .by(Who::Raw(|wire| {
                begin_scram(wire)?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("sasl_mechanism", "auth_timeout").confidence("proven|likely|possible")),
        // The server says nothing and it is too early for its timeout: no cause is proven by that.
        row("the server dies in the middle of the exchange")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")?;
                wire.read_message().map(drop)
            }))
            .expect(failed("*", "server_left|auth_timeout|server_error").unproven()),
    ]
}

/// A verifier of RIGHT whose server key is another's.
fn bad_server_key() -> String {
    let verifier = postgres_protocol::password::scram_sha_256(RIGHT.as_bytes());
    let (head, _) = verifier.rsplit_once(':').expect("a verifier ends with its server key");
    format!("{head}:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
}

fn jwt(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"RS256","typ":"JWT"}"#),
        part(claims),
        part(&"a signature of 256 bytes ".repeat(11)[..256])
    )
}

/// An AWS token as `aws rds generate-db-auth-token` prints it.
fn rds_token(user: &str, made: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(made).to_string();
    let date: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!(
        "mydb.abcdefghijkl.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser={user}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F{}%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date={date}\
         &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        &date[..8],
        "0123456789abcdef".repeat(4)
    )
}

fn cloud_tokens() -> Vec<Row> {
    let now = SystemTime::now();
    let old = now - std::time::Duration::from_secs(3 * 24 * 3600);
    let expiry = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() + 3600;
    let token = |claim: &str, who, token: &str| {
        row(claim).by(who).user("app_clear").database("d_clear").password(token)
    };
    let invalid =
        |variant| failed("password", "cloud_token_invalid").variant(variant).provable().leg("client");
    vec![
        token(
            "an Entra token that expired",
            Who::Psycopg,
            &jwt(r#"{"aud":"https://ossrdbms-aad.database.windows.net","iss":"https://sts.windows.net/t/","exp":1600000000,"upn":"app_clear"}"#),
        )
        .expect(invalid("expired")),
        token(
            "an Entra token for another resource",
            Who::Asyncpg,
            &jwt(&format!(r#"{{"aud":"https://management.azure.com/","iss":"https://sts.windows.net/t/","exp":{expiry},"upn":"app_clear","oid":"o-1"}}"#)),
        )
        .expect(invalid("wrong_audience")),
        token("an AWS token that expired", Who::Psycopg, &rds_token("app_clear", old))
            .expect(invalid("expired")),
        token("an AWS token that expired, from node-postgres", Who::Pg, &rds_token("app_clear", old))
            .expect(invalid("expired")),
        token("an AWS token of another user", Who::Psycopg, &rds_token("somebody", now))
            .expect(invalid("wrong_user")),
        token(
            "an AWS token that was cut",
            Who::Psycopg,
            rds_token("app_clear", now).split("&X-Amz-Expires").next().unwrap_or_default(),
        )
        .expect(invalid("truncated")),
        token(
            "an AWS token that was percent-encoded",
            Who::Psycopg,
            &percent_encoding::utf8_percent_encode(
                &rds_token("app_clear", now),
                percent_encoding::NON_ALPHANUMERIC,
            )
            .to_string(),
        )
        .expect(invalid("encoded")),
        // Every claim of it is in order: why the server refuses can't be seen.
        token("an AWS token with nothing wrong in it", Who::Psycopg, &rds_token("app_clear", now)).expect(
            failed("password", "password_rejected")
                .possible()
                .or(failed("password", "cloud_token_invalid").variant("*").unproven())
                .or(failed("password", "external_auth_failed").variant("*").unproven()),
        ),
    ]
}

fn external() -> Vec<Row> {
    // A refused password of the server's own is 28P01, so 28000 is another's; only the text says whose.
    let refused =
        |variant| failed("password", "external_auth_failed").variant(variant).provable().sqlstate("28000");
    vec![
        row("LDAP behind the server refuses").only(Version::V15).database("d_ldap").expect(refused("ldap|-")),
        row("RADIUS behind the server does not answer").database("d_radius").expect(refused("radius|-")),
    ]
}

/// Chooses OAUTHBEARER with this token, and does as RFC 7628 says when it is refused.
fn bearer(wire: &mut Wire, token: &str) -> std::io::Result<()> {
    wire.startup(V3, &[("user", "app_scram"), ("database", "d_oauth")])?;
    wire.read_until(b'R')?;
    let initial = format!("n,,\x01auth={token}\x01\x01");
    let length = u32::try_from(initial.len()).expect("a short token").to_be_bytes();
    wire.message(b'p', &[b"OAUTHBEARER\0", &length[..], initial.as_bytes()].concat())?;
    wire.read_until(b'R')?;
    wire.message(b'p', b"\x01")?;
    wire.read_until(b'Z').map(drop)
}

/// Offers OAUTHBEARER and refuses whatever comes, in the words of PostgreSQL 18.
fn refuses_tokens(wire: &mut Wire) -> std::io::Result<()> {
    wire.read_packet()?;
    wire.message(b'R', b"\0\0\0\x0aOAUTHBEARER\0\0")?;
    wire.read_message()?;
    let document = r#"{ "status": "invalid_token", "openid-configuration": "https://issuer.invalid/.well-known/openid-configuration", "scope": "openid" }"#;
    wire.message(b'R', &[b"\0\0\0\x0b", document.as_bytes()].concat())?;
    wire.read_message()?;
    wire.send(&error("28000", "OAuth bearer authentication failed for user \"app_scram\""))?;
    wire.end()
}
