//! TLS between the client and pgwhy: opened, ended, and refused.

use crate::row::{At, Row, fails, login, opaque, with, works};
use crate::support::client::{Login, Who};
use crate::support::peer::{SSL_REQUEST, V3, startup};
use crate::support::server::Version;

/// TLS is opened with a certificate of the test authority, and SCRAM held on both legs.
const OPEN: &str = "--client-tls open --tls-cert {shown.crt} --tls-key {shown.key}";
const KNOWN: &str = "app:correct-pw-1";
const VERIFY_CA: &str =
    "--client-tls verify-ca --tls-client-ca {ca} --tls-cert {shown.crt} --tls-key {shown.key}";
const VERIFY_FULL: &str =
    "--client-tls verify-full --tls-client-ca {ca} --tls-cert {shown.crt} --tls-key {shown.key}";

pub fn rows() -> Vec<Row> {
    [opened(), distrusted(), handshakes(), client_certificates(), refused()].concat()
}

fn verifying(mode: &'static str, ca: &'static str) -> Login {
    Login { ca: Some(ca.into()), ..with(mode) }
}

/// libpq's client certificate.
fn showing(user: &'static str, cert: &'static str, key: &'static str) -> Login {
    let options = vec![("sslcert", cert.to_owned()), ("sslkey", key.to_owned())];
    Login { options, user: user.into(), ..with("require") }
}

fn with_options(login: Login, options: &[(&'static str, &str)]) -> Login {
    Login { options: options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), ..login }
}

fn opened() -> Vec<Row> {
    let row = |claim| Row::new(claim, At::Good).args(OPEN).knows(KNOWN);
    let seen = || works().client_tls("TLSv1.3").server_tls("TLSv1.3");
    vec![
        row("open: psql").psql(with("require")).expect(seen()),
        row("open: psql with verify-full").psql(verifying("verify-full", "{ca}")).expect(seen()),
        row("open: node-postgres").by(Who::Pg, with("require")).expect(seen()),
        row("open: asyncpg").by(Who::Asyncpg, with("require")).expect(seen()),
        row("open: asyncpg that verifies").by(Who::Asyncpg, verifying("verify-full", "{ca}")).expect(seen()),
        row("open: psycopg with libpq 18").by(Who::Psycopg, with("require")).expect(seen()),
        row("open: psycopg that verifies").by(Who::Psycopg, verifying("verify-full", "{ca}")).expect(seen()),
        row("open: pg8000").by(Who::Pg8000, with("require")).expect(seen()),
        row("open: pgjdbc").by(Who::Pgjdbc, with("require")).expect(seen()),
        row("open: pgjdbc that verifies").by(Who::Pgjdbc, verifying("verify-full", "{ca}")).expect(seen()),
        row("open: direct TLS, the server is asked in the usual way")
            .by(Who::Psycopg, with_options(with("require"), &[("sslnegotiation", "direct")]))
            .expect(seen()),
        row("open: TLS 1.2 here, 1.3 there")
            .psql(with_options(with("require"), &[("ssl_max_protocol_version", "TLSv1.2")]))
            .expect(works().client_tls("TLSv1.2").server_tls("TLSv1.3")),
        Row::new("open: TLS 1.3 here, 1.2 there", At::Tls12)
            .args(OPEN)
            .knows(KNOWN)
            .psql(with_options(with("require"), &[("ssl_min_protocol_version", "TLSv1.3")]))
            .expect(works().client_tls("TLSv1.3").server_tls("TLSv1.2")),
        Row::new("allow: TLS ends here", At::Good)
            .args("--client-tls allow --server-tls disable")
            .knows(KNOWN)
            .psql(with("require"))
            .expect(works().client_tls("TLSv1.3").server_tls("-").warning("server_leg_plaintext")),
        Row::new("require: TLS ends here, and goes on", At::Good)
            .args("--client-tls require --server-tls verify-full --server-ca {ca}")
            .knows(KNOWN)
            .psql(with("require"))
            .expect(seen()),
        Row::new("open: pgwhy shows a certificate of X.509 version 1", At::VersionOne)
            .args("--client-tls open --tls-cert {shown-version-one.crt} --tls-key {shown-version-one.key}")
            .knows(KNOWN)
            .psql(verifying("verify-ca", "{ca}"))
            .expect(seen()),
        Row::new("passthrough: direct TLS to a server that knows it", At::Good)
            .args("--client-tls passthrough")
            .only(&[Version::V18])
            .by(Who::Psycopg, with_options(with("require"), &[("sslnegotiation", "direct")]))
            .expect(opaque()),
        Row::new("passthrough: direct TLS to a server that does not", At::Good)
            .args("--client-tls passthrough")
            .only(&[Version::V15])
            .by(Who::Psycopg, with_options(with("require"), &[("sslnegotiation", "direct")]))
            .expect(fails("tls_handshake", "direct_tls_unsupported", "-").confidence("proven|likely")),
    ]
}

fn distrusted() -> Vec<Row> {
    let row = |claim| Row::new(claim, At::Good).args(OPEN).knows(KNOWN);
    let ours = || fails("tls_handshake", "server_cert_untrusted", "intercepted").leg("proxy");
    let quiet = || ours().confidence("proven|likely");
    vec![
        row("psql does not trust pgwhy's certificate")
            .psql(verifying("verify-ca", "{other-ca}"))
            .expect(ours())
            .says("certificate verify failed"),
        row("psycopg does not trust pgwhy's certificate")
            .by(Who::Psycopg, verifying("verify-full", "{other-ca}"))
            .expect(ours()),
        row("pgjdbc does not trust pgwhy's certificate")
            .by(Who::Pgjdbc, verifying("verify-ca", "{other-ca}"))
            .expect(ours())
            .says("certification path"),
        // Python's asyncio drops the connection without sending the alert: the wire shows no reason.
        row("asyncpg does not trust pgwhy's certificate")
            .by(Who::Asyncpg, verifying("verify-full", "{other-ca}"))
            .expect(quiet()),
        row("node-postgres does not trust pgwhy's certificate")
            .by(Who::Pg, with("verify-full"))
            .expect(quiet())
            .says("certificate"),
        Row::new("psql finds that pgwhy's certificate has expired", At::Good)
            .args("--client-tls open --tls-cert {shown-expired.crt} --tls-key {shown-expired.key}")
            .knows(KNOWN)
            .psql(verifying("verify-ca", "{ca}"))
            .expect(fails("tls_handshake", "server_cert_untrusted", "expired").leg("proxy|client")),
        Row::new("psql finds another name in pgwhy's certificate", At::Good)
            .args("--client-tls open --tls-cert {shown-elsewhere.crt} --tls-key {shown-elsewhere.key}")
            .knows(KNOWN)
            .psql(verifying("verify-full", "{ca}"))
            .expect(
                fails("tls_handshake", "server_cert_untrusted", "hostname_mismatch|intercepted")
                    .confidence("proven|likely"),
            )
            .says("does not match host name"),
    ]
}

const OLD_NODE: &str = r#"{"minVersion":"TLSv1","maxVersion":"TLSv1.1","ciphers":"DEFAULT@SECLEVEL=0"}"#;
const ODD_NODE: &str = r#"{"maxVersion":"TLSv1.2","ciphers":"AES256-SHA"}"#;

fn handshakes() -> Vec<Row> {
    let row = |claim| Row::new(claim, At::Good).args(OPEN).knows(KNOWN);
    let node = |tls| Login { tls: Some(tls), ..with("require") };
    vec![
        row("a client with TLS 1.1 at most")
            .by(Who::Pg, node(OLD_NODE))
            .expect(fails("tls_handshake", "tls_version_mismatch", "-").leg("client")),
        row("a client with TLS 1.3 only")
            .by(Who::Pg, node(r#"{"minVersion":"TLSv1.3"}"#))
            .expect(works().client_tls("TLSv1.3")),
        row("a client with a cipher suite of old")
            .by(Who::Pg, node(ODD_NODE))
            .expect(fails("tls_handshake", "tls_cipher_mismatch", "-").leg("client")),
        row("direct TLS that does not name the protocol")
            .by(Who::OpenSsl(&[]), login())
            .expect(fails("tls_handshake", "alpn_missing", "-").leg("client")),
        row("a startup packet glued to the SSLRequest, opened").by(GLUED, login()).expect(injected()),
        Row::new("a startup packet glued to the SSLRequest, auto", At::Good)
            .knows(KNOWN)
            .by(GLUED, login())
            .expect(injected()),
        Row::new("a startup packet glued to the SSLRequest, ended here", At::Good)
            .args("--client-tls allow --server-tls disable")
            .by(GLUED, login())
            .expect(injected()),
        row("a startup packet behind the S, in clear").by(CLEAR_AFTER_S, login()).expect(
            fails("ssl_request|tls_handshake", "plaintext_injected|not_a_client|tls_cut", "-")
                .confidence("proven|likely|possible"),
        ),
        Row::new("a client that insists on TLS, a server without", At::Plain)
            .args(OPEN)
            .knows(KNOWN)
            .psql(with("require"))
            .expect(fails("ssl_request", "server_has_no_tls", "client_gave_up").leg("server"))
            .says("server does not support SSL"),
        Row::new("open: the server's certificate is not accepted", At::Expired)
            .args("--client-tls open --server-ca {ca} --server-tls mirror")
            .knows(KNOWN)
            .psql(with("require"))
            .expect(fails("tls_handshake", "server_cert_untrusted", "expired").leg("server"))
            .says("pgwhy could not establish TLS"),
    ]
}

fn injected() -> crate::row::Expect {
    fails("ssl_request", "plaintext_injected", "-").leg("client")
}

/// An SSLRequest with more behind it, in one packet (CVE-2021-23214).
const GLUED: Who = Who::Raw(|wire| {
    let packet = [SSL_REQUEST, &startup(V3, &[("user", "app"), ("database", "app")])].concat();
    wire.send(&packet)?;
    // The answer may be an S of before; what counts is that the login does not go on.
    wire.read_to_end()?;
    Err(std::io::Error::other("refused"))
});

const CLEAR_AFTER_S: Who = Who::Raw(|wire| {
    wire.send(SSL_REQUEST)?;
    wire.read(1)?;
    wire.startup(V3, &[("user", "app"), ("database", "app")])?;
    wire.read_to_end()?;
    Err(std::io::Error::other("refused"))
});

fn client_certificates() -> Vec<Row> {
    let rejected = |variant| fails("tls_handshake", "client_cert_rejected", variant).leg("client");
    let row = |claim, args| Row::new(claim, At::Good).args(args).knows(KNOWN);
    vec![
        row("verify-ca: a good certificate", VERIFY_CA)
            .psql(showing("app", "{certain.crt}", "{certain.key}"))
            .expect(works().client_tls("TLSv1.3")),
        row("verify-ca: no certificate", VERIFY_CA)
            .psql(with("require"))
            .expect(fails("tls_handshake", "client_cert_missing", "-").leg("client")),
        row("verify-ca: a certificate of another authority", VERIFY_CA)
            .psql(showing("app", "{app-other.crt}", "{app-other.key}"))
            .expect(rejected("unknown_ca"))
            .evidence("Another CA"),
        row("verify-ca: a certificate of X.509 version 1", VERIFY_CA)
            .psql(showing("app", "{app-version-one.crt}", "{app-version-one.key}"))
            .expect(works().client_tls("TLSv1.3")),
        row("verify-ca: a certificate of version 1, of another authority", VERIFY_CA)
            .psql(showing("app", "{app-other-version-one.crt}", "{app-other-version-one.key}"))
            .expect(rejected("unknown_ca"))
            .evidence("Another CA"),
        row("verify-ca: an expired certificate", VERIFY_CA)
            .psql(showing("app", "{app-expired.crt}", "{app-expired.key}"))
            .expect(rejected("expired")),
        row("verify-full: the certificate is the user's", VERIFY_FULL)
            .psql(showing("app", "{app.crt}", "{app.key}"))
            .expect(works()),
        Row::new("verify-full: the whole distinguished name is the user's", At::Good)
            .args(VERIFY_FULL)
            .knows("CN%3Dapp:correct-pw-1")
            .psql(showing("CN=app", "{app.crt}", "{app.key}"))
            .expect(works()),
        row("verify-full: the certificate is another user's", VERIFY_FULL)
            .psql(showing("app", "{certain.crt}", "{certain.key}"))
            .expect(fails("auth_request", "client_cert_rejected", "user_mismatch").leg("client")),
    ]
}

fn refused() -> Vec<Row> {
    let clear = || fails("ssl_request", "tls_required_by_proxy", "-").leg("client");
    vec![
        Row::new("require: a client in clear", At::Good)
            .args("--client-tls require")
            .expect(clear())
            .says("pgwhy accepts only TLS"),
        Row::new("verify-ca: a client in clear", At::Good).args(VERIFY_CA).expect(clear()),
    ]
}
