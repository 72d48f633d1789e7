//! pg_hba.conf: a server whose file changes from row to row, and files that are not what it loaded.

use super::case::{Case, case, play_all};
use super::stage::conninfo;
use crate::support::DEADLINE;
use crate::support::keeper::Scratch;
use crate::support::peer::Forwarder;
use crate::support::server::{Plan, Server, Version};

/// Rows that the server meets with one pg_hba.conf loaded.
pub struct Phase {
    /// What the server has loaded, behind the line that lets the tests in.
    loaded: &'static str,
    /// The file that is given with `--hba`; `None` for the loaded one.
    given: Option<&'static str>,
    /// The given text is written over the server's own file and never reloaded.
    in_place: bool,
    /// `--admin` too.
    admin: bool,
    /// `--hba`.
    hba: bool,
    /// `--pg-version` too.
    versioned: bool,
    /// Something between the proxy and the server changes the client's address to 127.0.0.2.
    nat: bool,
    pub cases: Vec<Case>,
}

fn phase(loaded: &'static str, case: Case) -> Phase {
    let cases = vec![case];
    Phase {
        loaded,
        given: None,
        in_place: false,
        admin: false,
        hba: true,
        versioned: true,
        nat: false,
        cases,
    }
}

fn edited(loaded: &'static str, given: &'static str, case: Case) -> Phase {
    Phase { given: Some(given), ..phase(loaded, case) }
}

/// `--admin` without `--hba`: the server's own view of its file.
fn viewed(loaded: &'static str, case: Case) -> Phase {
    Phase { admin: true, hba: false, ..phase(loaded, case) }
}

const SCRAM: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
const OTHER: &str = "host all other 127.0.0.1/32 scram-sha-256\n";
const BARE: &str = "hba_no_entry likely";
const REJECTED: &str = "password_rejected possible";

pub fn phases() -> Vec<Phase> {
    [by_file(), by_administrator(), behind_nat()].into_iter().flatten().collect()
}

/// Patterns came with PostgreSQL 16: what nobody said about the version is not held against the server.
fn unversioned(version: Version) -> Vec<Phase> {
    let patterns = "host all /^a 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let app = |claim, bare, wants| case(claim, "app", [], bare, wants);
    let phase = |case| Phase { versioned: false, ..phase(patterns, case) };
    match version {
        Version::V15 => vec![phase(
            app("a pattern is a name to a server of before", REJECTED, REJECTED)
                .says("as PostgreSQL 15 reads it"),
        )],
        Version::V18 => vec![phase(app("a pattern decides", "hba_reject proven", "hba_reject proven"))],
    }
}

/// What a file that is given decides.
fn by_file() -> Vec<Phase> {
    let app = |claim: &str, bare, wants| case(claim, "app", [], bare, wants);
    vec![
        phase(
            "host all all 10.0.0.0/8 scram-sha-256\n",
            app("no entry: another address", BARE, "hba_no_entry/address proven").says("10.0.0.0/8"),
        ),
        phase(
            "host shop app 127.0.0.1/32 scram-sha-256\n",
            app("no entry: another database", BARE, "hba_no_entry/database proven"),
        ),
        phase(OTHER, app("no entry: another user", BARE, "hba_no_entry/user proven")),
        phase(
            SCRAM,
            app(
                "no entry: replication",
                "hba_no_entry/replication likely",
                "hba_no_entry/replication proven",
            )
            .option("replication", "true"),
        ),
        phase(
            SCRAM,
            app("no entry: IPv6 and a line for IPv4", BARE, "hba_no_entry/address_family proven").v6(),
        ),
        phase(
            "host all other 127.0.0.1/32 trust\nhost all app 10.0.0.0/8 scram-sha-256\n",
            app("no entry: the user's own line has another address", BARE, "hba_no_entry/address proven"),
        ),
        phase(
            "host all other 127.0.0.1/32 trust\nhost shop app 127.0.0.1/32 scram-sha-256\n",
            app("no entry: the user's own line has another database", BARE, "hba_no_entry/database proven"),
        ),
        phase(
            "host all other 127.0.0.1/32 trust\nhost all app ::1/128 scram-sha-256\n",
            app("no entry: the user's own line is for IPv6", BARE, "hba_no_entry/address_family proven"),
        ),
        phase(
            "host all other all scram-sha-256\nhost all all 10.0.0.0/8 scram-sha-256\n",
            app(
                "no entry: everybody's line for another address is closer than another user's",
                BARE,
                "hba_no_entry/address proven",
            ),
        ),
        phase(
            "host all other all scram-sha-256\nhost all all samehost scram-sha-256\n",
            app("we come from the server's own address", REJECTED, REJECTED)
                .says("decides: host all all samehost"),
        ),
        edited(
            SCRAM,
            "host all all samenet md5\nhost all all samehost trust\nhost all all samenet reject\n",
            app("and that is in each of its networks", REJECTED, REJECTED)
                .says("decides: host all all samenet md5"),
        ),
        edited(
            SCRAM,
            "host all all samehost trust\n",
            app(
                "a line for the server's own address that it has not loaded",
                REJECTED,
                "hba_not_reloaded/not_reloaded proven",
            ),
        ),
        phase(
            "hostssl all app 127.0.0.1/32 scram-sha-256\n",
            app("a hostssl line wants TLS", BARE, "hba_requires_tls/client_never_asks proven")
                .says("hostssl"),
        ),
        phase(
            "hostssl all all 0.0.0.0/0 scram-sha-256\nhost all other 127.0.0.1/32 trust\n",
            app("a hostssl line for all wants TLS", BARE, "hba_requires_tls/client_never_asks proven"),
        ),
        phase(
            "hostssl all app 10.0.0.0/8 scram-sha-256\n",
            app("a hostssl line for another address does not help", BARE, "hba_no_entry/address proven"),
        ),
        phase(
            "hostssl all app 127.0.0.1/32 reject\n",
            app("a hostssl line that rejects does not help", BARE, "hba_no_entry proven"),
        ),
        phase(
            "host all app 127.0.0.1/32 reject\n",
            app("a reject line is named", "hba_reject proven", "hba_reject proven")
                .says("host all app 127.0.0.1/32 reject"),
        ),
        phase(
            SCRAM,
            app("the line that asked is named", REJECTED, REJECTED).says("127.0.0.1/32 scram-sha-256"),
        ),
        edited(
            OTHER,
            SCRAM,
            app("no entry, and the file has one", BARE, "hba_not_reloaded/not_reloaded proven"),
        ),
        edited(
            OTHER,
            "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 nonsense\n",
            app("no entry, and the file has one and an error", BARE, "hba_not_reloaded/reload_failed proven"),
        ),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 trust\n",
            app("SCRAM, and the file trusts", REJECTED, "hba_not_reloaded/not_reloaded proven"),
        ),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 password\nhost all\n",
            app(
                "SCRAM, and the file with an error asks for cleartext",
                REJECTED,
                "hba_not_reloaded/reload_failed proven",
            ),
        ),
        edited(
            SCRAM,
            "host all app 127.0.0.1/32 reject\n",
            app("SCRAM, and the file rejects", REJECTED, "hba_not_reloaded proven"),
        ),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 md5\n",
            app("SCRAM, and the file says md5, which may be the same", REJECTED, REJECTED),
        ),
        edited(
            "host all app 127.0.0.1/32 reject\n",
            SCRAM,
            app("reject, and the file has none", "hba_reject proven", "hba_not_reloaded proven"),
        ),
        edited(
            "host all all 127.0.0.1/32 trust\n",
            SCRAM,
            app("trust, and the file asks for SCRAM", "ok -", "ok hba_not_reloaded"),
        ),
        phase("host all all 127.0.0.1/32 trust\n", app("trust, as the file says", "ok -", "ok -")),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 scram-sha-256\nhost all all 10.0.0.0/8 trust\n",
            app("an edit that decides the same is no cause", REJECTED, REJECTED),
        ),
        edited(
            SCRAM,
            "host all all db.invalid trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
            app("a file that needs the resolver proves nothing", REJECTED, "password_rejected unproven"),
        ),
        edited(
            OTHER,
            "host all +staff 127.0.0.1/32 scram-sha-256\n",
            app("a file that needs a role's members proves nothing", BARE, "hba_no_entry unproven"),
        ),
        Phase {
            in_place: true,
            admin: true,
            ..edited(
                OTHER,
                SCRAM,
                app(
                    "no entry, edited in place, with the administrator",
                    BARE,
                    "hba_not_reloaded/not_reloaded proven",
                )
                .says("was changed after"),
            )
        },
        Phase {
            in_place: true,
            admin: true,
            ..edited(
                SCRAM,
                "host all all 127.0.0.1/32 trust\nhost all x y z\n",
                app(
                    "SCRAM, edited in place with an error, with the administrator",
                    REJECTED,
                    "hba_not_reloaded/reload_failed proven",
                ),
            )
        },
        Phase {
            admin: true,
            ..phase(
                SCRAM,
                app("a wrong password by file and administrator", REJECTED, "password_mismatch proven"),
            )
        },
        Phase {
            admin: true,
            ..phase(
                "hostssl all app 127.0.0.1/32 scram-sha-256\n",
                app("a hostssl line wants TLS, with the administrator", BARE, "hba_requires_tls proven"),
            )
        },
    ]
}

/// What `pg_hba_file_rules` and the catalogs add.
fn by_administrator() -> Vec<Phase> {
    let app = |claim: &str, bare, wants| case(claim, "app", [], bare, wants);
    const GROUPS: &str =
        "host samerole all 127.0.0.1/32 scram-sha-256\nhost postgres +staff 127.0.0.1/32 scram-sha-256\n";
    let with_admin = |phase| Phase { admin: true, ..phase };
    vec![
        viewed(
            SCRAM,
            app("the view names the line that asked", REJECTED, "password_mismatch proven")
                .says("pg_hba.conf:2 decides: host all all 127.0.0.1/32 scram-sha-256"),
        ),
        viewed(
            "host all other 127.0.0.1/32 trust\nhost all app 10.0.0.0/8 scram-sha-256\n",
            app("no entry by the view: another address", BARE, "hba_no_entry/address proven")
                .says("pg_hba.conf:3 does not match"),
        ),
        viewed(
            "hostssl all \"app\",other 127.0.0.0/8 scram-sha-256 clientcert=verify-ca\n",
            app("a hostssl line in the view wants TLS", BARE, "hba_requires_tls/client_never_asks proven")
                .says("pg_hba.conf:2 would match with TLS"),
        ),
        viewed(
            "host all all 127.0.0.1 255.255.255.255 reject\n",
            app("the view names the reject line", "hba_reject proven", "hba_reject proven")
                .says("pg_hba.conf:2 decides: host all all 127.0.0.1/32 reject"),
        ),
        viewed(
            "host all all 127.0.0.1/32 ident\n",
            app("the view names the ident line", "ident_failed proven", "ident_failed proven")
                .says("pg_hba.conf:2 decides: host all all 127.0.0.1/32 ident"),
        ),
        Phase {
            in_place: true,
            admin: true,
            hba: false,
            ..edited(
                OTHER,
                SCRAM,
                app(
                    "the view has a line that the server has not",
                    BARE,
                    "hba_not_reloaded/not_reloaded proven",
                )
                .says("was changed after"),
            )
        },
        Phase {
            in_place: true,
            admin: true,
            hba: false,
            ..edited(
                OTHER,
                "hostssl all all 127.0.0.1/32 scram-sha-256\n",
                app("a hostssl line that is not loaded is no proof", BARE, "hba_requires_tls likely")
                    .says("was changed after"),
            )
        },
        Phase {
            in_place: true,
            admin: true,
            hba: false,
            ..edited(
                SCRAM,
                "host all all 127.0.0.1/32 trust\nhost all x y z\n",
                app(
                    "the view shows an error and the server asks",
                    REJECTED,
                    "hba_not_reloaded/reload_failed proven",
                ),
            )
        },
        with_admin(edited(
            SCRAM,
            "host all all 127.0.0.1/32 trust\n",
            app(
                "the server reads another file than the given one",
                REJECTED,
                "hba_not_reloaded/other_file proven",
            )
            .says("in the server's own file"),
        )),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 password\n",
            app(
                "quotes are wrong under the line, too",
                "password_mismatch/quotes_kept proven",
                "password_mismatch/quotes_kept proven",
            )
            .knows("r1ght-pass")
            .sends("\"r1ght-pass\"")
            .says("does not follow the given pg_hba.conf"),
        ),
        edited(
            SCRAM,
            "host all all 127.0.0.1/32 password\n",
            app(
                "a password that may be right under the line",
                REJECTED,
                "hba_not_reloaded/not_reloaded proven",
            ),
        ),
        with_admin(edited(
            SCRAM,
            "host all all 127.0.0.1/32 password\n",
            case(
                "who does not exist does not exist under the line",
                "ghost",
                [],
                REJECTED,
                "role_missing/absent proven",
            ),
        )),
        with_admin(edited(
            OTHER,
            SCRAM,
            app(
                "no entry, and the given file is not the server's",
                BARE,
                "hba_not_reloaded/other_file proven",
            ),
        )),
        phase(
            GROUPS,
            app(
                "samerole can't be decided without the administrator",
                REJECTED,
                "password_rejected unproven",
            )
            .database("shop")
            .says("who the members of the role shop are"),
        ),
        with_admin(phase(
            GROUPS,
            app("samerole is decided with the administrator", REJECTED, "password_mismatch proven")
                .database("shop")
                .says("decides: host samerole all"),
        )),
        viewed(
            GROUPS,
            app("samerole is decided by the view", REJECTED, "password_mismatch proven")
                .database("shop")
                .says("decides: host samerole all"),
        ),
        with_admin(phase(
            GROUPS,
            app("a group is decided with the administrator", REJECTED, "password_mismatch proven")
                .says("decides: host postgres +staff"),
        )),
        with_admin(phase(
            GROUPS,
            case("no entry for who is in no group", "other", [], BARE, "hba_no_entry proven")
                .database("shop"),
        )),
        with_admin(phase(
            GROUPS,
            case("no entry for a role that does not exist", "ghost", [], BARE, "hba_no_entry proven"),
        )),
    ]
}

/// The server sees another address than the one that the proxy dials from.
fn behind_nat() -> Vec<Phase> {
    let app = |claim: &str, bare, wants| case(claim, "app", [], bare, wants);
    let nat = |phase| Phase { nat: true, ..phase };
    const TWO: &str = "host all all 127.0.0.1/32 trust\nhost all all 127.0.0.2/32 scram-sha-256\n";
    vec![
        nat(phase(
            SCRAM,
            app(
                "no entry for the address behind NAT",
                "hba_no_entry/nat_address likely",
                "hba_no_entry/nat_address proven",
            )
            .says("127.0.0.2"),
        )),
        nat(phase(
            OTHER,
            app(
                "no entry behind NAT, and none for our own address either",
                "hba_no_entry/nat_address likely",
                "hba_no_entry/address proven",
            ),
        )),
        nat(phase(
            TWO,
            app(
                "the line for the address behind NAT asks, ours would not",
                REJECTED,
                "password_rejected unproven",
            )
            .says("another address"),
        )),
        nat(phase(
            "host all all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.2/32 reject\n",
            app(
                "the reject line for the address behind NAT is named",
                "hba_reject proven",
                "hba_reject proven",
            )
            .says("127.0.0.2/32 reject"),
        )),
        nat(phase(
            "host all all 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.2/32 trust\n",
            app("trust for the address behind NAT is no warning", "ok -", "ok -"),
        )),
    ]
}

pub fn run(version: Version) {
    let sql = "CREATE ROLE app LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE other LOGIN; CREATE DATABASE shop;
        CREATE ROLE shop; CREATE ROLE team IN ROLE shop; CREATE ROLE staff; GRANT team, staff TO app;";
    let plan = Plan { tls: true, sql: sql.into(), ..Plan::default() };
    let server = Server::start(version, &plan);
    let own = server.data().join("pg_hba.conf");
    let write = |text: &str| std::fs::write(&own, whole(text)).unwrap();
    let scratch = Scratch::new();
    let number = if version == Version::V15 { "15" } else { "18" };
    let mut failed = Vec::new();
    let nat = Forwarder::start(server.port, [127, 0, 0, 2]);
    let only = std::env::var("PGWHY_ROWS").unwrap_or_default();
    let wanted = |phase: &Phase| phase.cases.iter().any(|case| case.claim.contains(&only));
    let phases = phases().into_iter().chain(unversioned(version));
    for (at, phase) in phases.enumerate().filter(|(_, phase)| wanted(phase)) {
        write(phase.loaded);
        reload(&server);
        let given = whole(phase.given.unwrap_or(phase.loaded));
        let mut file = scratch.write(&format!("hba{at}.conf"), &given);
        if phase.in_place {
            write(phase.given.unwrap());
            // File times are compared by whole seconds.
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3);
            std::fs::File::options().write(true).open(&own).unwrap().set_modified(later).unwrap();
            file = own.clone();
        }
        let mut args: Vec<String> = Vec::new();
        if phase.hba {
            args.extend(["--hba", &file.display().to_string()].map(String::from));
        }
        if phase.hba && phase.versioned {
            args.extend(["--pg-version", number].map(String::from));
        }
        if phase.admin {
            args.extend(["--admin".into(), conninfo(&server, "postgres")]);
        }
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            play_all(&format!("PostgreSQL {version:?}, rules"), phase.cases, |case| {
                case.play(if phase.nat { nat.addr.port() } else { server.port }, &args)
            });
        }));
        if let Err(panic) = played {
            failed.push(panic.downcast_ref::<String>().cloned().unwrap_or_default());
        }
    }
    assert!(failed.is_empty(), "{} phases failed:\n{}", failed.len(), failed.join("\n"));
}

fn whole(text: &str) -> String {
    format!("local all all trust\n{text}")
}

/// Has the server load its file, and waits until new connections follow it.
pub fn reload(server: &Server) {
    let before = server.sql("select pg_conf_load_time()");
    server.sql("select pg_reload_conf()");
    let until = std::time::Instant::now() + DEADLINE;
    while server.sql("select pg_conf_load_time()") == before {
        assert!(std::time::Instant::now() < until, "the server does not reload");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
