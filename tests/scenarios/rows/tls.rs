//! TLS as far as it shows when it is not opened.

use crate::At;
use crate::row::{RIGHT, Row, WRONG, failed, opaque, row};
use crate::support::client::Who;
use crate::support::peer::{SSL_REQUEST, Wire};
use crate::support::server::{Version, certificates};

pub fn rows() -> Vec<Row> {
    let mut rows = negotiation();
    rows.extend(handshakes());
    rows.extend(verification());
    rows.extend(retries());
    rows
}

fn negotiation() -> Vec<Row> {
    let no_tls = |claim: &str| row(claim).at(At::Plain).sslmode("require");
    let gave_up =
        || failed("ssl_request", "server_has_no_tls").variant("client_gave_up").provable().leg("server");
    vec![
        no_tls("psql insists on TLS and the server has none").expect(gave_up()),
        no_tls("node-postgres insists on TLS and the server has none").by(Who::Pg).expect(gave_up()),
        no_tls("asyncpg insists on TLS and the server has none").by(Who::Asyncpg).expect(gave_up()),
        no_tls("tokio-postgres insists on TLS and the server has none")
            .by(Who::TokioPostgres)
            .expect(gave_up()),
        no_tls("postgres.js sends its ClientHello although the server said no")
            .by(Who::PostgresJs)
            .expect(failed("ssl_request", "server_has_no_tls").variant("hello_after_n").proven()),
        row("psql insists on TLS and we were told to answer no")
            .sslmode("require")
            .args(&["--client-tls", "disable"])
            .expect(
                failed("ssl_request", "server_has_no_tls")
                    .variant("client_gave_up")
                    .provable()
                    .leg("proxy|server"),
            ),
        row("psql wants to verify and has no root certificate")
            .sslmode("verify-full")
            .expect(failed("tls_handshake", "tls_abandoned_by_client").provable()),
        row("tokio-postgres insists on TLS and was built without")
            .by(Who::TokioPostgres)
            .sslmode("require")
            .expect(failed("tls_handshake", "tls_abandoned_by_client").provable()),
    ]
}

fn handshakes() -> Vec<Row> {
    vec![
        row("libpq starts with TLS at once and PostgreSQL 15 does not know that")
            .only(Version::V15)
            .by(Who::Psycopg)
            .sslmode("require")
            .option("sslnegotiation", "direct")
            .expect(failed("tls_handshake", "direct_tls_unsupported").provable()),
        // The server closes after a whole TLS handshake without saying why, and openssl leaves by itself.
        row("direct TLS without an ALPN name")
            .only(Version::V18)
            .by(Who::OpenSsl(&["-servername", "localhost", "-brief"]))
            .expect(failed("tls_handshake", "alpn_missing").confidence("proven|likely|possible").or(opaque())),
        row("direct TLS with another ALPN name")
            .only(Version::V18)
            .by(Who::OpenSsl(&["-servername", "localhost", "-alpn", "h2", "-brief"]))
            .expect(failed("tls_handshake", "alpn_missing").provable()),
        row("the client ends at TLS 1.2 and the server begins at 1.3")
            .at(At::Tls13)
            .sslmode("require")
            .option("ssl_max_protocol_version", "TLSv1.2")
            .expect(failed("tls_handshake", "tls_version_mismatch").provable()),
        row("client and server share no cipher")
            .at(At::OneCipher)
            .by(Who::Pg)
            .sslmode("require")
            .tls(r#"{"rejectUnauthorized": false, "maxVersion": "TLSv1.2", "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}"#)
            .expect(failed("tls_handshake", "tls_cipher_mismatch").provable()),
        row("something cuts the TLS handshake after the ClientHello")
            .at(At::Fake(cut_after_hello))
            .sslmode("require")
            .expect(failed("tls_handshake", "tls_cut").provable()),
        row("a client asks for TLS, is promised it and leaves")
            .by(Who::Raw(|wire| {
                wire.send(SSL_REQUEST)?;
                assert_eq!(wire.read(1)?, b"S");
                Ok(())
            }))
            .expect(failed("tls_handshake", "tls_abandoned_by_client").provable()),
    ]
}

fn cut_after_hello(wire: &mut Wire) -> std::io::Result<()> {
    wire.read(8)?;
    wire.send(b"S")?;
    let head = wire.read(5)?;
    wire.read(usize::from(u16::from_be_bytes([head[3], head[4]]))).map(drop)
}

fn verification() -> Vec<Row> {
    vec![
        // TLS 1.2 shows the client's alert in clear.
        row("libpq does not know the server's authority and says so in a TLS 1.2 alert")
            .sslmode("verify-ca")
            .ca(certificates().other_ca())
            .option("ssl_max_protocol_version", "TLSv1.2")
            .expect(
                failed("tls_handshake", "server_cert_untrusted")
                    .variant("unknown_ca|self_signed|-")
                    .unproven(),
            ),
        // In TLS 1.3 the alert is encrypted: its size and who closes are all there is.
        row("libpq does not know the server's authority in TLS 1.3")
            .sslmode("verify-ca")
            .ca(certificates().other_ca())
            .expect(untrusted_at_most()),
        row("node-postgres does not know the server's authority")
            .by(Who::Pg)
            .sslmode("verify-full")
            .expect(untrusted_at_most()),
        row("asyncpg does not know the server's authority")
            .by(Who::Asyncpg)
            .sslmode("verify-full")
            .ca(certificates().other_ca())
            .expect(untrusted_at_most()),
        row("a verified TLS login is opaque").sslmode("verify-full").ca(certificates().ca()).expect(opaque()),
    ]
}

fn untrusted_at_most() -> crate::row::Expect {
    failed("tls_handshake", "server_cert_untrusted").variant("*").unproven().or(opaque())
}

fn retries() -> Vec<Row> {
    // The first attempt is inside TLS: what failed there can't be seen, only that it ended.
    let masked =
        || failed("auth_request", "retry_masks_failure").unproven().related().sqlstate("28000").leg("client");
    let retry = |claim: &str, who| {
        row(claim).by(who).database("d_ssl").sslmode("prefer").expect(opaque()).expect(masked())
    };
    vec![
        retry("asyncpg 0.30 shows the error of its second try and hides the first", Who::Asyncpg030)
            .password(WRONG),
        retry("asyncpg tries again in plaintext after a wrong password", Who::Asyncpg).password(WRONG),
        retry("psql tries again in plaintext after a wrong password", Who::Psql).password(WRONG),
        retry("psycopg tries again in plaintext after a wrong password", Who::Psycopg).password(WRONG),
        retry("psql tries again in plaintext, where a line rejects it", Who::Psql)
            .database("d_tls_only")
            .password(WRONG),
        row("a TLS login is not taken for the first half of a later plaintext failure")
            .after(Who::Psql, works_over_tls())
            .by(Who::Pg)
            .database("d_ssl")
            .password(RIGHT)
            .expect(opaque())
            .expect(failed("auth_request", "hba_no_entry|hba_requires_tls").variant("*").unproven()),
    ]
}

fn works_over_tls() -> crate::support::client::Login {
    crate::support::client::Login {
        user: "app_scram".to_owned(),
        password: Some(RIGHT.to_owned()),
        database: Some("d_ssl".to_owned()),
        sslmode: "require",
        ..Default::default()
    }
}
