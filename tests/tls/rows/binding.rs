//! Channel binding through pgwhy: what `auto` may open, and what opening breaks.

use crate::row::{At, Row, fails, login, opaque, with, works};
use crate::support::client::{Login, Who};

const KNOWN: &str = "app:correct-pw-1";
const BEFORE: &str = "app:password-of-before";

fn binding(mode: &'static str) -> Login {
    Login { options: vec![("channel_binding", "require".to_owned())], ..with(mode) }
}

fn second(options: bool) -> Login {
    let base = if options { binding("require") } else { with("require") };
    Login { user: "second".into(), password: Some("second-pw-2".into()), ..base }
}

pub fn rows() -> Vec<Row> {
    let seen = || works().client_tls("TLSv1.3").server_tls("TLSv1.3");
    vec![
        Row::new("auto with the password: opened, and bound on both legs", At::Good)
            .knows(KNOWN)
            .psql(binding("require"))
            .expect(seen()),
        Row::new("auto with the password: psycopg", At::Good)
            .knows(KNOWN)
            .by(Who::Psycopg, binding("require"))
            .expect(seen()),
        Row::new("auto with the password: a client without binding", At::Good)
            .knows(KNOWN)
            .by(Who::Pg, with("require"))
            .expect(seen()),
        Row::new("auto with the server's own certificate: opened, and nothing breaks", At::Good)
            .args("--tls-cert {good.crt} --tls-key {good.key}")
            .psql(Login { ca: Some("{ca}".into()), ..binding("verify-full") })
            .expect(seen()),
        Row::new("open with a SCRAM secret that is not the server's", At::Good)
            .args("--client-tls open")
            .knows("app:SCRAM-SHA-256%244096%3AQSXCR%2BQ6sek8bf92%24AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D%3AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D")
            .psql(binding("require"))
            .expect(fails("scram_client_final", "password_differs_on_server", "-").leg("proxy"))
            .evidence("another salt or iteration count"),
        // Whatever is said of the server's leg, `auto` breaks nothing.
        Row::new("auto with the server's own certificate, and require", At::Good)
            .args("--server-tls require --tls-cert {good.crt} --tls-key {good.key}")
            .psql(binding("require"))
            .expect(seen()),
        Row::new("auto with the server's own certificate, and verify-full", At::Good)
            .args("--server-tls verify-full --server-ca {ca} --tls-cert {good.crt} --tls-key {good.key}")
            .by(Who::Psycopg, with("require"))
            .expect(seen()),
        Row::new("auto with the server's own certificate, and prefer", At::Good)
            .args("--server-tls prefer --tls-cert {good.crt} --tls-key {good.key}")
            .psql(binding("require"))
            .expect(seen()),
        Row::new("auto with a password of before, and require: passed through", At::Good)
            .args("--server-tls require")
            .knows(BEFORE)
            .psql(with("require"))
            .expect(opaque()),
        Row::new("auto with another certificate, and require: passed through", At::Good)
            .args("--server-tls require --tls-cert {shown.crt} --tls-key {shown.key}")
            .psql(binding("require"))
            .expect(opaque()),
        Row::new(
            "auto and require: a server that asks for client certificates is passed through",
            At::ClientCa,
        )
        .args("--server-tls require")
        .knows(KNOWN)
        .psql(binding("require"))
        .expect(opaque()),
        Row::new("auto, and verify-full of another authority: refused, as was said", At::Good)
            .args("--server-tls verify-full --server-ca {other-ca}")
            .knows(KNOWN)
            .psql(with("require"))
            .expect(fails("tls_handshake", "server_cert_untrusted", "unknown_ca").leg("proxy")),
        Row::new("auto, and require: a server whose TLS is none of pgwhy's is passed through", At::OldCipher)
            .args("--server-tls require")
            .knows(KNOWN)
            .psql(with("require"))
            .expect(opaque()),
        Row::new("auto with nothing, and require: a server without TLS is not met in clear", At::Plain)
            .args("--server-tls require")
            .psql(with("prefer"))
            .expect(fails("ssl_request", "server_has_no_tls", "*").leg("proxy")),
        Row::new("open and require with the server's own certificate: nothing is lost", At::Good)
            .args("--client-tls open --server-tls require --tls-cert {good.crt} --tls-key {good.key}")
            .psql(binding("require"))
            .expect(seen()),
        Row::new("auto with another certificate and no password: passed through", At::Good)
            .args("--tls-cert {shown.crt} --tls-key {shown.key}")
            .psql(binding("require"))
            .expect(opaque()),
        Row::new("auto with nothing: passed through", At::Good).psql(binding("require")).expect(opaque()),
        Row::new("auto: a server that asks for client certificates is passed through", At::ClientCa)
            .knows(KNOWN)
            .psql(binding("require"))
            .expect(works().or_opaque()),
        Row::new("auto with the password: the client's is wrong", At::Good)
            .knows(KNOWN)
            .psql(Login { password: Some("correct-pw-1 ".into()), ..with("require") })
            .expect(fails("scram_client_final", "password_mismatch", "*"))
            .evidence("the server accepted it")
            .says("password authentication failed for user \"app\""),
        Row::new("auto with a password of before: the client's right one still gets in", At::Good)
            .knows("app:password-of-before")
            .psql(with("require"))
            .expect(works().or_opaque()),
        Row::new("auto with a password of before: the client's right one binds", At::Good)
            .knows(BEFORE)
            .psql(binding("require"))
            .expect(opaque()),
        Row::new("auto with a password of before, which is the client's too", At::Good)
            .knows(BEFORE)
            .psql(Login { password: Some("password-of-before".into()), ..with("require") })
            .expect(fails("scram_client_final", "password_differs_on_server", "-").confidence("likely"))
            .evidence("the server refused the expected password when pgwhy tried it"),
        Row::new(
            "the server's own certificate and a password of before: the client binds to the server",
            At::Good,
        )
        .args("--tls-cert {good.crt} --tls-key {good.key}")
        .knows(BEFORE)
        .psql(binding("require"))
        .expect(seen()),
        Row::new("open with a password of before: a client without binding is carried", At::Good)
            .args("--client-tls open")
            .knows(BEFORE)
            .by(Who::Pg, with("require"))
            .expect(seen()),
        Row::new(
            "open with a password of before: a client that binds can't get in, and that is our doing",
            At::Good,
        )
        .args("--client-tls open")
        .knows(BEFORE)
        .psql(binding("require"))
        .expect(fails("scram_client_final", "password_mismatch", "*").confidence("likely").leg("proxy"))
        .evidence("the server refused it"),
        Row::new("open with the client's password, which the server does not have", At::Good)
            .args("--client-tls open")
            .knows(BEFORE)
            .psql(Login { password: Some("password-of-before".into()), ..binding("require") })
            .expect(fails("scram_client_final", "password_differs_on_server", "-").leg("server")),
        Row::new(
            "a client in clear, a server with TLS, a password of before: the client's is carried",
            At::Good,
        )
        .args("--server-tls require")
        .knows(BEFORE)
        .psql(login())
        .expect(works().client_tls("-").server_tls("TLSv1.3")),
        Row::new("auto with a password and no user: nobody's TLS is opened for it", At::Good)
            .knows(":correct-pw-1")
            .psql(binding("require"))
            .expect(opaque()),
        Row::new("auto with the password: another user without binding", At::Good)
            .knows(KNOWN)
            .by(Who::Pg, second(false))
            .expect(works().or_opaque()),
        Row::new("auto with the password: another user who needs binding is told", At::Good)
            .knows(KNOWN)
            .psql(second(true))
            .expect(
                fails(
                    "scram_client_first|scram_client_final",
                    "channel_binding_mismatch",
                    "terminated_in_between",
                )
                .leg("proxy"),
            ),
        Row::new("auto with the password: another user who needs binding is passed through then", At::Good)
            .knows(KNOWN)
            .after(second(true))
            .psql(second(true))
            .expect(opaque()),
        Row::new("auto: a client that verifies is passed through after its first refusal", At::Good)
            .knows(KNOWN)
            .after(Login { ca: Some("{ca}".into()), ..with("verify-full") })
            .psql(Login { ca: Some("{ca}".into()), ..with("verify-full") })
            .expect(opaque()),
        Row::new("open without the password: binding breaks", At::Good)
            .args("--client-tls open")
            .psql(binding("require"))
            .expect(
                fails("scram_client_final", "channel_binding_mismatch", "terminated_in_between").leg("proxy"),
            ),
        Row::new("open without the password: clients without binding are warned", At::Good)
            .args("--client-tls open")
            .by(Who::Pg, with("require"))
            .expect(seen().warning("channel_binding_lost")),
        Row::new("a client in clear, a server with TLS: PLUS is not offered to it", At::Good)
            .args("--server-tls require")
            .psql(login())
            .expect(works().client_tls("-").server_tls("TLSv1.3").warning("channel_binding_lost")),
        Row::new("a client in clear, a server with TLS, the password known: bound to the server", At::Good)
            .args("--server-tls require")
            .knows(KNOWN)
            .psql(login())
            .expect(works().client_tls("-").server_tls("TLSv1.3")),
    ]
}
