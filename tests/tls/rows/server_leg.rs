//! TLS between pgwhy and the server: libpq's six words, with the client in clear.

use crate::row::{At, Row, fails, login, works};
use crate::support::client::Login;
use crate::support::peer::{SSL_REQUEST, Wire};
use crate::support::server::Version;

const FULL: &str = "--server-tls verify-full --server-ca {ca}";
const CA: &str = "--server-tls verify-ca --server-ca {ca}";

pub fn rows() -> Vec<Row> {
    [trusted(), untrusted(), handshakes(), client_certificates(), not_servers()].concat()
}

/// Without a password: the certificate is all.
fn certain() -> Login {
    Login { user: "certain".into(), password: None, ..login() }
}

fn twofold() -> Login {
    Login { user: "twofold".into(), ..login() }
}

fn trusted() -> Vec<Row> {
    let tls13 = || works().server_tls("TLSv1.3").client_tls("-");
    vec![
        Row::new("verify-full: authority and name are right", At::Good).args(FULL).expect(tls13()),
        Row::new("verify-full: by address", At::Good).args(FULL).host("127.0.0.1").expect(tls13()),
        Row::new("verify-full: by a common name alone, as libpq does", At::CommonName)
            .args(FULL)
            .expect(tls13()),
        Row::new("verify-full: the intermediate is sent", At::Intermediate).args(FULL).expect(tls13()),
        Row::new("verify-ca: the name does not matter", At::OtherName).args(CA).expect(tls13()),
        Row::new("verify-full: a self-signed certificate that is trusted itself", At::SelfSigned)
            .args("--server-tls verify-full --server-ca {self-ca}")
            .expect(tls13()),
        Row::new("verify-ca: a revocation list without it", At::Good)
            .args("--server-tls verify-ca --server-ca {ca} --server-crl {crl}")
            .expect(tls13()),
        // The manual's own recipe makes such a certificate, and libpq takes it in every mode.
        Row::new("require: a certificate of X.509 version 1", At::VersionOne)
            .args("--server-tls require")
            .expect(tls13()),
        Row::new("require: a certificate of X.509 version 1 with TLS 1.2", At::VersionOne12)
            .args("--server-tls require")
            .expect(works().server_tls("TLSv1.2")),
        Row::new("verify-full: a certificate of X.509 version 1", At::VersionOne).args(FULL).expect(tls13()),
        Row::new("verify-ca: version 1 below an intermediate that is trusted", At::VersionOneBelow)
            .args("--server-tls verify-ca --server-ca {intermediate}")
            .expect(tls13()),
        Row::new("require: any certificate will do", At::OtherCa)
            .args("--server-tls require")
            .expect(tls13()),
        Row::new("require: also an expired one", At::Expired).args("--server-tls require").expect(tls13()),
        Row::new("prefer: TLS where there is some", At::Good).args("--server-tls prefer").expect(tls13()),
        Row::new("prefer: clear where there is none", At::Plain)
            .args("--server-tls prefer")
            .expect(works().server_tls("-")),
        Row::new("allow: clear where that is enough", At::Good)
            .args("--server-tls allow")
            .expect(works().server_tls("-")),
        Row::new("disable: clear", At::Good).args("--server-tls disable").expect(works().server_tls("-")),
        Row::new("mirror: a client in clear stays in clear", At::Good).expect(works().server_tls("-")),
    ]
}

fn untrusted() -> Vec<Row> {
    let cert = |variant, leg| fails("tls_handshake", "server_cert_untrusted", variant).leg(leg);
    vec![
        Row::new("verify-full: the name is another", At::OtherName)
            .args(FULL)
            .expect(cert("hostname_mismatch", "server"))
            .evidence("db.example"),
        Row::new("verify-ca: expired", At::Expired)
            .args(CA)
            .expect(cert("expired", "server"))
            .evidence("1 day later"),
        Row::new("verify-ca: not yet valid", At::Future)
            .args(CA)
            .expect(cert("not_yet_valid", "server"))
            .evidence("too early"),
        Row::new("verify-ca: of another authority", At::OtherCa)
            .args(CA)
            .expect(cert("unknown_ca", "proxy"))
            .evidence("Another CA"),
        Row::new("verify-ca: the intermediate is missing", At::NoIntermediate)
            .args(CA)
            .expect(cert("unknown_ca", "proxy"))
            .evidence("Test Intermediate, which was not sent"),
        Row::new("verify-ca: version 1 of another authority", At::VersionOne)
            .args("--server-tls verify-ca --server-ca {other-ca}")
            .expect(cert("unknown_ca", "proxy"))
            .evidence("Test CA"),
        Row::new("verify-ca: version 1 of an authority of the same name", At::VersionOne)
            .args("--server-tls verify-ca --server-ca {namesake-ca}")
            .expect(cert("unknown_ca", "proxy"))
            .evidence("its key did not sign localhost"),
        Row::new("verify-ca: version 1, and a list of what was revoked", At::VersionOne)
            .args("--server-tls verify-ca --server-ca {ca} --server-crl {crl}")
            .expect(cert("-", "proxy"))
            .evidence("X.509 version 1"),
        Row::new("verify-ca: version 1 below an intermediate", At::VersionOneBelow)
            .args(CA)
            .expect(cert("-", "proxy"))
            .evidence("X.509 version 1"),
        Row::new("verify-ca: self-signed", At::SelfSigned)
            .args(CA)
            .expect(cert("self_signed", "proxy"))
            .evidence("its own issuer"),
        Row::new("require with a CA file verifies, as libpq does", At::OtherCa)
            .args("--server-tls require --server-ca {ca}")
            .expect(cert("unknown_ca", "proxy")),
        Row::new("system: a private authority is not among them", At::Good)
            .args("--server-tls verify-full --server-ca system")
            .expect(cert("unknown_ca", "proxy"))
            .evidence("Test CA"),
        Row::new("verify-ca: revoked", At::Revoked)
            .args("--server-tls verify-ca --server-ca {ca} --server-crl {crl}")
            .expect(cert("-", "*"))
            .evidence("revocation list"),
        Row::new("verify-ca: a certificate for clients", At::ForClients)
            .args(CA)
            .expect(cert("-", "*"))
            .evidence("TLS clients only"),
    ]
}

fn handshakes() -> Vec<Row> {
    let require = "--server-tls require";
    vec![
        Row::new("a server with TLS 1.2 only", At::Tls12).args(FULL).expect(works().server_tls("TLSv1.2")),
        Row::new("a server with TLS 1.3 only", At::Tls13).args(FULL).expect(works().server_tls("TLSv1.3")),
        Row::new("a server with TLS 1.1 at most", At::Tls11)
            .args(require)
            .expect(fails("tls_handshake", "tls_version_mismatch", "-").leg("server")),
        Row::new("a server with a cipher suite of old", At::OldCipher)
            .args(require)
            .expect(fails("tls_handshake", "tls_cipher_mismatch", "-").leg("server")),
        Row::new("a server without TLS, and it is required", At::Plain)
            .args(require)
            .expect(fails("ssl_request", "server_has_no_tls", "*").leg("proxy")),
        Row::new("direct TLS to a server that knows it", At::Good)
            .args(FULL)
            .query("?sslmode=verify-full&sslrootcert={ca}&sslnegotiation=direct")
            .only(&[Version::V18])
            .expect(works().server_tls("TLSv1.3")),
        Row::new("direct TLS to a server that does not", At::Good)
            .args(require)
            .query("?sslmode=require&sslnegotiation=direct")
            .only(&[Version::V15])
            .expect(
                fails("tls_handshake", "direct_tls_unsupported", "-")
                    .confidence("proven|likely")
                    .leg("server|proxy"),
            ),
    ]
}

fn client_certificates() -> Vec<Row> {
    let rejected = |variant| fails("tls_handshake", "client_cert_rejected", variant).leg("proxy");
    // In TLS 1.3 the server's verdict comes when our handshake is over, and its reset may overtake the alert.
    let afterwards = |variant| rejected(variant).confidence("proven|likely");
    let require = "--server-tls require";
    vec![
        Row::new("the server's line wants a certificate, and pgwhy shows it", At::ClientCa)
            .args("--server-tls require --server-cert {certain.crt} --server-key {certain.key}")
            .psql(certain())
            .expect(works().server_tls("TLSv1.3")),
        Row::new("the server's line wants a certificate, and pgwhy has none", At::ClientCa)
            .args(require)
            .psql(certain())
            .expect(fails("auth_request", "client_cert_missing", "-").leg("proxy")),
        Row::new("clientcert=verify-ca, and pgwhy has no certificate", At::ClientCa)
            .args(require)
            .psql(twofold())
            .expect(fails("auth_request", "client_cert_missing", "-").leg("proxy")),
        Row::new("clientcert=verify-ca with a password", At::ClientCa)
            .args("--server-tls require --server-cert {app.crt} --server-key {app.key}")
            .psql(twofold())
            .expect(works()),
        Row::new("pgwhy's certificate is of another authority than the server's", At::ClientCa)
            .args("--server-tls require --server-cert {certain-other.crt} --server-key {certain-other.key}")
            .psql(certain())
            .expect(afterwards("unknown_ca|-")),
        Row::new("TLS 1.2: pgwhy's certificate is of another authority than the server's", At::ClientCa12)
            .args("--server-tls require --server-cert {certain-other.crt} --server-key {certain-other.key}")
            .psql(certain())
            .expect(rejected("unknown_ca")),
        Row::new("TLS 1.2: pgwhy's certificate has expired", At::ClientCa12)
            .args(
                "--server-tls require --server-cert {certain-expired.crt} --server-key {certain-expired.key}",
            )
            .psql(certain())
            .expect(rejected("expired")),
        Row::new("pgwhy's certificate has expired", At::ClientCa)
            .args(
                "--server-tls require --server-cert {certain-expired.crt} --server-key {certain-expired.key}",
            )
            .psql(certain())
            .expect(afterwards("expired|-")),
        Row::new(
            "clientcert=verify-full with a password: the proof is accepted, the name is not",
            At::ClientCa,
        )
        .args("--server-tls require --server-cert {app.crt} --server-key {app.key}")
        .psql(Login { user: "named".into(), ..login() })
        .expect(fails("scram_server_final", "client_cert_rejected", "user_mismatch").leg("proxy")),
        // In clear nothing shows what the server looked at last.
        Row::new("clientcert=verify-full with a password in clear", At::ClientCa)
            .args("--server-tls require --server-cert {app.crt} --server-key {app.key}")
            .psql(Login { user: "named_clear".into(), ..login() })
            .expect(fails("password", "password_rejected", "-").confidence("possible")),
        Row::new("the same, and an administrator knows the password", At::ClientCa)
            .args("--server-tls require --server-cert {app.crt} --server-key {app.key} --admin {admin}")
            .psql(Login { user: "named_clear".into(), ..login() })
            .expect(
                fails("password", "client_cert_rejected", "user_mismatch").confidence("likely").leg("proxy"),
            ),
        Row::new("clientcert=verify-full with the expected password in clear", At::ClientCa)
            .args("--server-tls require --server-cert {app.crt} --server-key {app.key}")
            .knows("named_clear:correct-pw-1")
            .psql(Login { user: "named_clear".into(), ..login() })
            .expect(fails("password", "password_differs_on_server", "-").confidence("likely")),
        Row::new("pgwhy's certificate is another role's", At::ClientCa)
            .args("--server-tls require --server-cert {app.crt} --server-key {app.key}")
            .psql(certain())
            .expect(
                fails("auth_request", "client_cert_rejected", "user_mismatch").confidence("proven|likely"),
            ),
    ]
}

fn not_servers() -> Vec<Row> {
    let fake = |claim, what| Row::new(claim, At::Fake(what)).host("127.0.0.1").args("--server-tls require");
    vec![
        fake("bytes in clear behind the server's S", "injected")
            .fake(|wire| {
                asked(wire)?;
                wire.send(b"SR\0\0\0\x08\0\0\0\0")?;
                wire.end()
            })
            .expect(fails("ssl_request", "plaintext_injected", "-").leg("server")),
        fake("the server agrees and closes", "cut")
            .fake(|wire| {
                asked(wire)?;
                wire.send(b"S")?;
                wire.read(5)?;
                wire.end()
            })
            .expect(fails("tls_handshake", "tls_cut", "-").leg("server")),
        fake("the server agrees and speaks something else", "no TLS")
            .fake(|wire| {
                asked(wire)?;
                wire.send(b"S")?;
                wire.read(5)?;
                wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
                wire.end()
            })
            .expect(fails("tls_handshake", "tls_cut|not_postgres", "-").confidence("proven|likely|possible")),
        fake("the server answers with an error", "error")
            .fake(|wire| {
                asked(wire)?;
                wire.send(b"Ecould not fork new process for connection: Cannot allocate memory\n\0")?;
                wire.end()
            })
            .expect(fails("ssl_request", "ssl_request_error", "-").leg("server")),
    ]
}

/// Reads an SSLRequest.
fn asked(wire: &mut Wire) -> std::io::Result<()> {
    assert_eq!(wire.read(SSL_REQUEST.len())?, SSL_REQUEST);
    Ok(())
}
