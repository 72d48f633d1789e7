//! The two connections of a login differ where they did: Unix sockets, IPv6, encryption, no server at all.

use std::net::{Shutdown, TcpStream};
use std::path::Path;

use super::stage::{PASSWORD, facts, reports, server};
use super::support::client::{Login, Who};
use super::support::keeper::Scratch;
use super::support::port::Port;
use super::support::proxy::Proxy;
use super::support::server::{Server, Version};
use super::wireshark::{fields, the_facts_are_those_of_the_live_run};

/// Runs a proxy in front of `upstream`, does something to it, and looks at the capture.
fn check(
    row: &str,
    listen: &str,
    upstream: &str,
    more: &[&str],
    act: impl Fn(&Proxy),
    count: usize,
    look: impl Fn(&Path),
) {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let mut args = vec!["--capture".to_owned(), file.display().to_string()];
    args.extend(more.iter().map(|word| (*word).to_owned()));
    let mut proxy = Proxy::start_listening(listen, upstream, &args);
    act(&proxy);
    let reports = reports(&mut proxy, count);
    println!("{row}");
    the_facts_are_those_of_the_live_run(&file, &reports);
    look(&file);
}

fn psql(proxy: &Proxy, host: Option<&str>, sslmode: &'static str) {
    let login = Login {
        host: host.map(str::to_owned),
        user: "scram".into(),
        password: Some(PASSWORD.into()),
        database: Some("postgres".into()),
        sslmode,
        ..Login::default()
    };
    let answer = Who::Psql.log_in(proxy.addr, &login);
    assert!(answer.ok, "{answer:?}");
}

fn info(file: &Path, server: &Server, filter: &str) -> Vec<String> {
    let names = ["ip.src", "ipv6.src", "tcp.dstport", "_ws.col.Info"];
    fields(file, server.port, filter, &names).into_iter().map(|line| line.join(" ")).collect()
}

const ANY: &str = "127.0.0.1:0";

#[test]
fn the_legs_are_those_that_were_there() {
    let server = server(Version::V15);
    let (here, six) = (format!("127.0.0.1:{}", server.port), format!("[::1]:{}", server.port));
    let client = "frame.interface_name == \"client leg\"";
    let other = "frame.interface_name == \"server leg\"";

    check(
        "IPv6 on one leg",
        ANY,
        &six,
        &[],
        |proxy| psql(proxy, None, "disable"),
        1,
        |file| {
            assert!(info(file, &server, client).iter().all(|line| line.starts_with("127.0.0.1 ")));
            assert!(info(file, &server, other).iter().all(|line| line.starts_with(" ::1 ")));
        },
    );

    let socket = format!("host={} port={}", server.socket_dir().display(), server.port);
    let login = |proxy: &Proxy| {
        let mut wire = super::support::peer::Wire::connect(proxy.addr).unwrap();
        wire.startup(super::support::peer::V3, &[("user", "postgres")]).unwrap();
        wire.read_until(b'Z').unwrap();
    };
    check("a Unix socket on one leg", ANY, &socket, &[], login, 1, |file| {
        let lines = info(file, &server, other);
        assert!(lines.len() > 4 && lines.iter().all(|line| line.starts_with("127.0.0.1 ")), "{lines:?}");
        let facts = facts(file);
        assert!(facts[0].server_leg.as_ref().unwrap().to.starts_with('/'), "the truth stands in the facts");
    });

    let prefer = |proxy: &Proxy| psql(proxy, None, "prefer");
    check("encryption declined by pgwhy", ANY, &here, &["--client-tls", "disable"], prefer, 1, |file| {
        let asked = |leg: &str| {
            info(file, &server, &format!("{leg} && tcp.payload[0:8] == 00:00:00:08:04:d2:16:2f")).len()
        };
        assert_eq!((asked(client), asked(other)), (1, 0), "the server never saw the request");
        let lost = info(file, &server, "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment");
        assert_eq!(lost, Vec::<String>::new());
    });

    let require = |proxy: &Proxy| psql(proxy, None, "require");
    check("TLS that passes through", ANY, &here, &[], require, 1, |file| {
        let hellos = info(file, &server, "tls.handshake.type == 1");
        // A server may ask for another hello.
        assert!([2, 4].contains(&hellos.len()), "Wireshark sees the hello on both legs: {hellos:?}");
    });
}

#[test]
fn of_tls_that_pgwhy_opened_each_leg_shows_what_was_said_on_it() {
    let server = server(Version::V15);
    let expected = PASSWORD.replace('%', "%25").replace('#', "%23").replace('$', "%24");
    let upstream = format!("postgresql://scram:{expected}@127.0.0.1:{}/postgres", server.port);
    // Who, their password, whether the client's leg has TLS, and what is said of the password on either leg.
    let rows: [(&str, &str, &'static str, [bool; 2]); 4] = [
        ("scram", PASSWORD, "require", [true, true]),
        // The server gets a wrong proof, too, and the client its refusal.
        ("scram", "wrong", "require", [false, false]),
        ("scram", PASSWORD, "disable", [true, true]),
        ("md5", "wrong", "require", [false, false]),
    ];
    for (user, password, sslmode, accepted) in rows {
        let login = |proxy: &Proxy| {
            let login = Login {
                user: user.into(),
                password: Some(password.into()),
                database: Some("postgres".into()),
                sslmode,
                ..Login::default()
            };
            let answer = Who::Psql.log_in(proxy.addr, &login);
            assert_eq!(answer.ok, accepted[0], "{answer:?}");
        };
        let row = format!("{user} {password} {sslmode}");
        let options = ["--client-tls", "open", "--server-tls", "require"];
        check(&row, ANY, &upstream, &options, login, 1, |file| {
            let bad =
                info(file, &server, "_ws.malformed || tcp.analysis.flags || !(tcp || frame.number == 1)");
            assert_eq!(bad, Vec::<String>::new(), "{row}");
            for (leg, accepted) in ["client", "server"].into_iter().zip(accepted) {
                let leg = format!("frame.interface_name == \"{leg} leg\"");
                let count = |what: &str| info(file, &server, &format!("{leg} && {what}")).len();
                assert_eq!(
                    count("frame.comment contains \"inside of TLSv1.3\""),
                    usize::from(sslmode == "require" || leg.contains("server")),
                    "{row}, {leg}"
                );
                let signed = count("frame.comment contains \"server-final-message\"");
                assert_eq!(signed, usize::from(accepted), "{row}, {leg}");
                assert_eq!(count("pgsql.code") > 0, !accepted, "{row}, {leg}");
                let data = fields(file, server.port, &leg, &["pgsql.auth.sasl.data", "pgsql.password"])
                    .concat()
                    .concat();
                let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
                for begins in [",p=", "v="] {
                    let proofs: Vec<&str> = data.split(&hex(begins)).skip(1).collect();
                    assert!(
                        proofs.iter().all(|proof| proof.starts_with(&hex("AAAAAAAA"))),
                        "{row}, {leg}: {data}"
                    );
                }
            }
        });
    }
}

#[test]
fn what_never_reached_a_server_is_captured_too() {
    let server = server(Version::V15);
    let port = Port::reserve();
    let nobody = port.addr().to_string();
    let login = |proxy: &Proxy| {
        let login = Login { user: "scram".into(), password: Some(PASSWORD.into()), ..Login::default() };
        Who::Psql.log_in(proxy.addr, &login);
    };
    check("nothing listens", ANY, &nobody, &[], login, 1, |file| {
        let comments = fields(file, server.port, "tcp", &["frame.comment"]).concat().concat();
        assert!(comments.contains("FAILED at connect"), "{comments}");
        assert!(facts(file)[0].server_leg.is_none());
    });
    let scan = |proxy: &Proxy| TcpStream::connect(proxy.addr).unwrap().shutdown(Shutdown::Both).unwrap();
    check("a port scan", ANY, &nobody, &[], scan, 1, |file| {
        let flags = fields(file, server.port, "tcp", &["tcp.flags"]).concat();
        assert_eq!(flags, ["0x0002", "0x0012", "0x0010", "0x0011", "0x0011", "0x0010"]);
    });
}
