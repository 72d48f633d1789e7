//! What goes wrong before the server has read a startup packet: the way there, who answers, who calls.

use crate::At;
use crate::row::{Row, failed, ok, probe, row};
use crate::support::client::Who;
use crate::support::peer::{GSS_REQUEST, SSL_REQUEST, V3, Wire, error, packet, startup};
use crate::support::server::Version;

pub fn rows() -> Vec<Row> {
    let mut rows = the_way_there();
    rows.extend(who_answers());
    rows.extend(who_calls());
    rows.extend(startup_packets());
    rows
}

fn the_way_there() -> Vec<Row> {
    vec![
        row("nobody listens on the upstream's port")
            .at(At::Nobody)
            .expect(failed("connect", "connection_refused").variant("all_addresses|-").proven()),
        row("node-postgres, too, gets a report when nobody listens").at(At::Nobody).by(Who::Pg).expect(
            failed("connect", "connection_refused").variant("all_addresses|-").proven().leg("server"),
        ),
        row("there is no server socket at the path")
            .at(At::Text("host=/nonexistent/sockets port=5432"))
            .expect(failed("connect", "unix_socket_missing").proven()),
        // Without a resolver the machine says "try again", which is the variant `temporary`.
        row("the upstream's name does not exist")
            .at(At::Text("no-such-host.invalid:5432"))
            .expect(failed("resolve", "dns_not_found").variant("not_found|temporary|-")),
        row("the upstream's name has a blank behind it")
            .at(At::Text("host='localhost ' port=5432"))
            .expect(failed("resolve", "dns_not_found").variant("blank_in_name").proven()),
        // TCP has no route to a multicast address, as it has none to IPv6 where there is none.
        row("the upstream has an IPv6 address and there is no route")
            .at(At::Text("[ff02::1]:5432"))
            .expect(failed("connect", "address_family_unreachable").proven().leg("server")),
        row("there is no route to either address")
            .at(At::Text("host=ff02::1,224.0.0.1 port=5432"))
            .expect(failed("connect", "address_family_unreachable").confidence("likely")),
        row("one of two addresses has no route and nobody listens at the other")
            .at(At::Text("host=ff02::1,127.0.0.1 port=5432,1"))
            .expect(failed("connect", "connection_refused").proven()),
        row("the server listens on one of two addresses")
            .at(At::PlainByBoth)
            .expect(ok().warning("address_failed")),
        row("SYNs vanish until our own deadline passes")
            .at(At::Blackhole)
            .args(&["--login-timeout", "1s"])
            .expect(failed("connect", "connect_timeout").provable()),
        row("SYNs vanish").at(At::Blackhole).expect(failed("connect", "connect_timeout").provable()),
        row("SYNs vanish, and the client gives up long before we do")
            .at(At::BlackholeForEver)
            .args(&["--login-timeout", "10m"])
            .option("connect_timeout", "2")
            .expect(failed("connect", "connect_timeout").provable()),
    ]
}

fn who_answers() -> Vec<Row> {
    let not_postgres = |claim: &str, behaviour| row(claim).at(At::Fake(behaviour));
    vec![
        not_postgres("the upstream is a web server", |wire| {
            wire.read(8)?;
            wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("http").proven()),
        not_postgres("the upstream is a web server and the client asks for TLS", |wire| {
            wire.read(8)?;
            wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            wire.end()
        })
        .sslmode("require")
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("http").proven()),
        not_postgres("the upstream is an SSH server", |wire| {
            wire.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("ssh").proven()),
        not_postgres("the upstream is a MySQL server", |wire| {
            wire.send(b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0\xff\xf7\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0caching\0")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("mysql").proven()),
        not_postgres("the upstream is a Redis server", |wire| {
            wire.read(8)?;
            wire.send(b"-ERR unknown command\r\n")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("redis").proven()),
        not_postgres("the upstream is a Redis server with a password", |wire| {
            wire.read(8)?;
            wire.send(b"-NOAUTH Authentication required.\r\n")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("redis").proven()),
        // Its greeting is 69 bytes long, and that is an E.
        not_postgres("a MySQL server that refuses this host is asked for TLS", |wire| {
            wire.send(b"\x45\0\0\0\xff\x6a\x04Host '192.168.113.7' is not allowed to connect to this MySQL server")?;
            wire.read_to_end().map(drop)
        })
        .sslmode("require")
        .expect(failed("ssl_request", "not_postgres").variant("mysql").proven()),
        not_postgres("a web server behind something that answers S", |wire| {
            wire.read(8)?;
            wire.send(b"S")?;
            wire.read(1)?;
            wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
            wire.end()
        })
        .sslmode("require")
        .expect(failed("ssl_request", "not_postgres").variant("http").proven()),
        not_postgres("the upstream is ready before it has authenticated anybody", |wire| {
            wire.read(8)?;
            wire.send(b"Z\0\0\0\x05I")?;
            wire.end()
        })
        .expect(failed("auth_request", "not_postgres").variant("unknown").provable()),
        not_postgres("the upstream speaks TLS only", |wire| {
            wire.read(8)?;
            wire.send(b"\x15\x03\x03\0\x02\x02\x46")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("tls").proven()),
        not_postgres("the upstream speaks something unknown", |wire| {
            wire.read(8)?;
            wire.send(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a")?;
            wire.end()
        })
        .expect(failed("connect|ssl_request|auth_request", "not_postgres").variant("unknown").provable()),
        not_postgres("the upstream accepts and closes at once", |_| Ok(()))
            .expect(failed("connect|ssl_request|startup", "closed_without_answer").provable()),
        not_postgres("the upstream closes after the startup packet", |wire| wire.read_packet().map(drop))
            .expect(failed("connect|startup", "closed_without_answer").provable()),
        not_postgres("the upstream closes after an SSLRequest", |wire| wire.read(8).map(drop))
            .sslmode("require")
            .expect(failed("ssl_request", "closed_without_answer").provable()),
        not_postgres("the upstream says nothing to a startup packet", |wire| wire.read_to_end().map(drop))
            .args(&["--login-timeout", "1s"])
            .expect(failed("auth_request", "no_answer").provable()),
        not_postgres("the upstream says nothing to an SSLRequest", |wire| wire.read_to_end().map(drop))
            .sslmode("require")
            .args(&["--login-timeout", "1s"])
            .expect(failed("ssl_request", "no_answer").provable()),
        not_postgres("the upstream says nothing to a startup packet, and the client gives up", |wire| {
            wire.read_to_end().map(drop)
        })
        .option("connect_timeout", "2")
        .expect(failed("auth_request", "no_answer").unproven().leg("server")),
        not_postgres("the upstream says nothing to an SSLRequest, and the client gives up", |wire| {
            wire.read_to_end().map(drop)
        })
        .sslmode("require")
        .option("connect_timeout", "2")
        .expect(failed("ssl_request", "no_answer").unproven().leg("server")),
        not_postgres("the upstream says nothing to a ClientHello, and the client gives up", |wire| {
            wire.read(8)?;
            wire.send(b"S")?;
            wire.read_to_end().map(drop)
        })
        .sslmode("require")
        .option("connect_timeout", "2")
        .expect(failed("tls_handshake", "tls_cut").unproven().leg("server")),
        not_postgres("the upstream answers an SSLRequest with an error", |wire| {
            wire.read(8)?;
            wire.send(&error("53300", "sorry, too many clients already"))
        })
        .sslmode("require")
        .expect(failed("ssl_request", "ssl_request_error").proven()),
        not_postgres("the upstream can't fork and says so in protocol 2", |wire| {
            wire.read(8)?;
            wire.send(b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0")
        })
        .sslmode("prefer")
        .expect(failed("ssl_request", "ssl_request_error").proven()),
        not_postgres("the upstream answers an SSLRequest with the beginning of an error", |wire| {
            wire.read(8)?;
            wire.send(&error("53300", "sorry, too many clients already")[..40])?;
            wire.read_to_end().map(drop)
        })
        .sslmode("require")
        .expect(failed("ssl_request", "ssl_request_error").proven()),
        not_postgres("a client asks for Kerberos encryption, is promised it and leaves", |wire| {
            wire.read(8)?;
            wire.send(b"G")?;
            wire.read_to_end().map(drop)
        })
        .by(Who::Raw(|wire| {
            wire.send(GSS_REQUEST)?;
            wire.read(1).map(drop)
        }))
        .expect(failed("gss", "gss_failed").unproven().leg("client")),
        not_postgres("the server promises Kerberos encryption and closes on the ticket", |wire| {
            wire.read(8)?;
            wire.send(b"G")?;
            wire.read(8).map(drop)
        })
        .by(Who::Raw(|wire| {
            wire.send(GSS_REQUEST)?;
            wire.read(1)?;
            wire.send(b"\0\0\0\x04tick")?;
            wire.read_to_end().map(drop)
        }))
        .expect(failed("gss", "gss_failed").variant("rejected").unproven().leg("server")),
        not_postgres("something closes at a GSSENCRequest", |wire| wire.read(8).map(drop))
            .by(Who::Raw(|wire| {
                wire.send(GSS_REQUEST)?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("gss_request", "gss_request_unhandled").provable()),
    ]
}

fn who_calls() -> Vec<Row> {
    vec![
        row("a health check that only connects is a probe")
            .by(Who::Raw(|_| Ok(())))
            .expect(probe("tcp_probe").confidence("likely")),
        row("an HTTP request is a probe")
            .by(Who::Raw(|wire| {
                wire.send(b"GET /healthz HTTP/1.1\r\nHost: db\r\n\r\n")?;
                wire.read_to_end().map(drop)
            }))
            .expect(probe("http")),
        row("an HTTP request of another method is a probe")
            .by(Who::Raw(|wire| {
                wire.send(b"DELETE /db HTTP/1.1\r\nHost: db\r\n\r\n")?;
                wire.read_to_end().map(drop)
            }))
            .expect(probe("http")),
        row("a scanner's empty lines are no PROXY protocol header")
            .by(Who::Raw(|wire| {
                wire.send(b"\r\n\r\n")?;
                wire.read_to_end().map(drop)
            }))
            .expect(probe("garbage")),
        row("pg_isready does not want to log in")
            .by(Who::Raw(|wire| {
                let parameters =
                    [("user", "app_scram"), ("database", "d_scram"), ("application_name", "pg_isready")];
                wire.startup(V3, &parameters)?;
                wire.read_until(b'R').map(drop)
            }))
            .expect(probe("-").unproven()),
        row("HAProxy's pgsql-check does not want to log in")
            .at(At::Fake(|wire| {
                wire.read_packet()?;
                wire.message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")?;
                wire.read_to_end().map(drop)
            }))
            .by(Who::Raw(|wire| {
                wire.startup(V3, &[("user", "app_scram")])?;
                wire.read_until(b'R').map(drop)
            }))
            .expect(probe("-").unproven()),
        // An SSLRequest and nothing more is what checks do; a driver that gives up on `N` has read the answer.
        row("an SSLRequest and an end is a probe")
            .by(Who::Raw(|wire| {
                wire.send(SSL_REQUEST)?;
                wire.half_close()?;
                wire.read_to_end().map(drop)
            }))
            .expect(probe("ssl_probe")),
        // Its length word is absurd: either name is honest.
        row("garbage is no login")
            .by(Who::Raw(|wire| {
                wire.send(b"\xde\xad\xbe\xef\xde\xad\xbe\xef\xde\xad\xbe\xef")?;
                wire.read_to_end().map(drop)
            }))
            .expect(
                probe("garbage").or(failed("startup", "startup_malformed")).or(failed(
                    "startup",
                    "not_a_client",
                )
                .variant("garbage")),
            ),
        row("a client that connects and says nothing runs into our deadline")
            .args(&["--login-timeout", "1s"])
            .by(Who::Raw(|wire| wire.read_to_end().map(drop)))
            .expect(failed("startup", "startup_timeout").provable()),
        row("a client that stops in the middle of its startup packet runs into our deadline")
            .args(&["--login-timeout", "1s"])
            .by(Who::Raw(|wire| {
                let bytes = startup(V3, &[("user", "trust_any"), ("database", "d_trust")]);
                wire.send(&bytes[..20])?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("startup", "startup_timeout").provable()),
        row("bytes behind an SSLRequest are reported")
            .args(&["--login-timeout", "3s"])
            .by(Who::Raw(|wire| {
                let login = startup(V3, &[("user", "trust_any"), ("database", "d_trust")]);
                wire.send(&[SSL_REQUEST, &login].concat())?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("ssl_request", "plaintext_injected").proven()),
        row("bytes behind the server's answer to an SSLRequest are reported")
            .at(At::Fake(|wire| {
                wire.read(8)?;
                wire.send(b"SELECT")?;
                wire.read_to_end().map(drop)
            }))
            .sslmode("require")
            .args(&["--login-timeout", "3s"])
            .expect(failed("ssl_request", "plaintext_injected").proven().leg("client|server")),
    ]
}

fn startup_packets() -> Vec<Row> {
    vec![
        row("a load balancer puts a PROXY protocol header before the client's bytes")
            .by(Who::Raw(|wire| {
                wire.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 5432\r\n")?;
                wire.startup(V3, &[("user", "app_scram")])?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("startup", "startup_malformed").confidence("likely").leg("client")),
        row("options longer than a startup packet may be")
            .option("options", &format!("-c search_path={}", "a".repeat(11_000)))
            .expect(failed("startup", "startup_malformed").proven()),
        row("a startup packet without its last zero")
            .by(Who::Raw(|wire| {
                let mut body = V3.to_be_bytes().to_vec();
                body.extend_from_slice(b"user\0trust_any\0database\0d_trust");
                wire.send(&packet(&body))?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(failed("startup", "startup_malformed").proven()),
        row("a cancel request without a key")
            .by(Who::Raw(|wire| {
                wire.send(b"\0\0\0\x08\x04\xd2\x16\x2e")?;
                wire.read_to_end().map(drop)
            }))
            .expect(failed("startup", "startup_malformed").proven()),
        row("a startup packet without a user")
            .by(Who::Raw(|wire| {
                wire.startup(V3, &[("database", "d_trust")])?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(failed("auth_request", "user_missing_in_startup").proven().sqlstate("28000")),
        row("a startup packet with an empty user")
            .by(Who::Raw(|wire| {
                wire.startup(V3, &[("user", ""), ("database", "d_trust")])?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(failed("auth_request", "user_missing_in_startup").proven()),
        row("a client of protocol 4")
            .by(Who::Raw(|wire| {
                wire.startup(4 << 16, &[("user", "trust_any"), ("database", "d_trust")])?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(
                failed("startup|auth_request", "protocol_version_unsupported")
                    .variant("too_new")
                    .proven()
                    .sqlstate("0A000"),
            ),
        row("a client of protocol 2")
            .by(Who::Raw(|wire| {
                let mut body = (2_u32 << 16).to_be_bytes().to_vec();
                body.resize(292, 0);
                wire.send(&packet(&body))?;
                wire.read_until(b'Z').map(drop)
            }))
            .expect(
                failed("startup|auth_request", "protocol_version_unsupported").variant("too_old").proven(),
            ),
        row("a client of protocol 3.9999 that understands no negotiation is told 3.0 or 3.2")
            .by(Who::Raw(grease))
            .expect(ok()),
        // Nothing says why it leaves; that it leaves at a lower version than it asked for does.
        row("libpq 18 insists on protocol 3.2 and the server knows 3.0")
            .only(Version::V15)
            .by(Who::Psycopg)
            .option("max_protocol_version", "latest")
            .option("min_protocol_version", "3.2")
            .expect(
                failed("startup|auth_request", "protocol_version_unsupported")
                    .variant("minimum_not_met")
                    .unproven(),
            ),
    ]
}

fn grease(wire: &mut Wire) -> std::io::Result<()> {
    let parameters = [("user", "trust_any"), ("database", "d_trust"), ("_pq_.test_protocol_negotiation", "")];
    wire.startup((3 << 16) + 9999, &parameters)?;
    let (kind, _) = wire.read_message()?;
    assert_eq!(kind, b'v', "NegotiateProtocolVersion comes first");
    wire.read_until(b'Z').map(drop)
}
