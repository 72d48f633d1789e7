//! The log of real servers: for every way in which they write it, the entry of a refused login is
//! found by our port, and says what the client was not told. And the salts of roles that do not
//! exist are the ones that the control data predicts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use pgwhy::app::follow::{Answer, Follower, Patience, Source};
use pgwhy::password::{mock, scram};
use pgwhy::serverlog::{Certainty, Fact, Join, Question, control_data, facts};
use pgwhy::wire::backend::{Authentication, Backend};
use pgwhy::wire::frame::{Frame, Framer, Kind};
use pgwhy::wire::frontend::{SaslInitialResponse, Startup, Untagged, encode_tagged};
use pgwhy::wire::sasl::ServerFirst;
use support::server::{Plan, Server, Version, as_postgres};
use support::{DEADLINE, install};

/// A secret in pg_hba.conf that must not get out.
const PLANTED: &str = "planted-s3cret";

fn start(version: Version) -> Server {
    // Debian's server has LDAP and translations, the bundled one has neither.
    let ldap = match version {
        Version::V15 => format!(
            "host all ldap_user 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport=1 ldapbasedn=\"dc=x\" \
             ldapbinddn=\"cn=a\" ldapbindpasswd=\"{PLANTED}\"\n"
        ),
        Version::V18 => String::new(),
    };
    let plan = Plan {
        hba: format!(
            "local all peer_user peer\nlocal all mapped_user peer map=m\n\
             host all ident_user 127.0.0.1/32 ident\n\
             host all rejected 127.0.0.1/32 reject\nhost all md5_user 127.0.0.1/32 md5\n\
             host all clear_user 127.0.0.1/32 password\n\
             host all radius_user 127.0.0.1/32 radius radiusservers=127.0.0.1 radiusports=1 radiussecrets={PLANTED}\n\
             {ldap}host all named ::1/128 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        ),
        sql: "create role app login password 'right'; create role nopw login;\
              create role expired login password 'right' valid until '2001-01-01';\
              create role clear_user login password 'right'; create role ident_user login;\
              create role peer_user login; create role mapped_user login; create role rejected login;\
              create role radius_user login; create role ldap_user login;\
              set password_encryption = 'md5'; create role md5_user login password 'right';\
              create role md5_secret login password 'right';"
            .to_owned(),
        late_conf: "logging_collector = on\nlog_directory = 'log'\nauthentication_timeout = 5\n".to_owned(),
        late_wait: match version {
            Version::V15 => "Logsammelprozess",
            Version::V18 => "collector process",
        },
        german: version == Version::V15,
        ..Plan::default()
    };
    let server = Server::start(version, &plan);
    server.wait_for_sql();
    server
}

/// A way of writing the log.
struct Way {
    name: &'static str,
    destination: &'static str,
    prefix: &'static str,
    connections: bool,
    more: &'static str,
}

const fn way(name: &'static str, destination: &'static str, prefix: &'static str, connections: bool) -> Way {
    Way { name, destination, prefix, connections, more: "" }
}

const WAYS: [Way; 10] = [
    way("default", "stderr", "%m [%p] ", true),
    way("debian", "stderr", "%m [%p] %q%u@%d ", true),
    way("rds", "stderr", "%t:%r:%u@%d:[%p]:", false),
    way("azure", "stderr", "%t-%c-", true),
    way("cloud_sql", "stderr", "%m [%p]: [%l-1] db=%d,user=%u,app=%a,client=%h ", true),
    way("epoch", "stderr", "%n %p %r %e ", false),
    way("csv", "csvlog", "", false),
    way("json", "jsonlog", "", false),
    way("all_three", "stderr,csvlog,jsonlog", "%m [%p] ", true),
    Way {
        more: "alter system set log_error_verbosity = 'verbose';",
        ..way("verbose", "stderr", "%m [%p] ", true)
    },
];

/// Has the server write in this way, into a file of this name, from the next connection on.
fn switch(server: &Server, way: &Way, messages: &str) -> PathBuf {
    let Way { name, destination, prefix, connections, more } = way;
    server.sql(&format!(
        "alter system set log_destination = '{destination}';\nalter system set log_line_prefix = '{prefix}';\n\
         alter system set log_connections = '{}';\nalter system set lc_messages = '{messages}';\n\
         alter system set log_error_verbosity = 'default';\n{more}\n\
         alter system set log_filename = '{name}_{messages}.log';\nselect pg_reload_conf();",
        if *connections { "on" } else { "off" },
    ));
    let current = server.data().join("current_logfiles");
    let until = Instant::now() + DEADLINE;
    let mark = format!("{name}_{messages}.");
    let count = destination.split(',').count();
    loop {
        let list = std::fs::read_to_string(&current).unwrap_or_default();
        if list.lines().count() == count && list.lines().all(|line| line.contains(&mark)) {
            break;
        }
        assert!(Instant::now() < until, "the log does not move to {mark}: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The postmaster gives its settings to the processes that it starts from now on.
    while server.sql("show log_filename") != format!("{name}_{messages}.log") {
        assert!(Instant::now() < until, "the postmaster does not reload");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.data().join("log").join(format!("{name}_{messages}.log"))
}

/// What one login left behind.
struct Login {
    question: Question,
    /// SQLSTATE of the refusal.
    sqlstate: Option<String>,
    salt: Option<Vec<u8>>,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn log_in(addr: SocketAddr, user: &str, password: Option<&str>) -> Login {
    let from_ms = now_ms();
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let ours = stream.local_addr().unwrap();
    let (sqlstate, salt, pid) = talk(stream, user, password);
    let question = Question {
        our_ip: Some(ours.ip()),
        our_port: Some(ours.port()),
        unix: false,
        pid,
        user: Some(user.to_owned()),
        database: Some("postgres".to_owned()),
        from_ms,
        to_ms: now_ms(),
    };
    Login { question, sqlstate, salt }
}

/// Logs in; without a password it only waits for the end.
fn talk(
    mut stream: impl Read + Write,
    user: &str,
    password: Option<&str>,
) -> (Option<String>, Option<Vec<u8>>, Option<u32>) {
    let parameters: Vec<(&[u8], &[u8])> = vec![(b"user", user.as_bytes()), (b"database", b"postgres")];
    let mut out = Vec::new();
    Untagged::Startup(Startup { version: 0x3_0000, parameters }).encode(&mut out);
    stream.write_all(&out).unwrap();
    let (mut framer, mut salt, mut pid) = (Framer::default(), None, None);
    let first_bare = "n=,r=kTV4gqzS1m8pQw0a7Yc2".to_owned();
    loop {
        while let Some(frame) = framer.next(Kind::Tagged) {
            let Frame::Tagged { tag, body } = frame else { panic!("not a message") };
            let mut out = Vec::new();
            let message = Backend::decode(tag, body).unwrap();
            match (&message, password) {
                (Backend::ReadyForQuery(_), _) => return (None, salt, pid),
                (Backend::Error(fields), _) => {
                    let state = fields.get(b'C').map(|state| String::from_utf8_lossy(state).into_owned());
                    return (state, salt, pid);
                }
                (Backend::BackendKeyData { pid: found, .. }, _) => pid = Some(*found),
                (Backend::Authentication(request), Some(password)) => match request {
                    Authentication::Cleartext => {
                        encode_tagged(&mut out, b'p', &[password.as_bytes(), &[0]].concat());
                    }
                    Authentication::Md5(salt) => {
                        let hex =
                            |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
                        let inner = hex(&Md5::digest(format!("{password}{user}")));
                        let outer = hex(&Md5::digest([inner.as_bytes(), &salt[..]].concat()));
                        encode_tagged(&mut out, b'p', format!("md5{outer}\0").as_bytes());
                    }
                    Authentication::Sasl(_) => {
                        let response = format!("n,,{first_bare}");
                        let response = Some(response.as_bytes());
                        SaslInitialResponse { mechanism: b"SCRAM-SHA-256", response }.encode(&mut out);
                    }
                    Authentication::SaslContinue(text) => {
                        let challenge = ServerFirst::decode(text).unwrap();
                        salt = Some(challenge.salt.clone());
                        let last = format!("c=biws,r={}", String::from_utf8_lossy(challenge.nonce));
                        let key = scram::salted_password(
                            password.as_bytes(),
                            &challenge.salt,
                            challenge.iterations,
                        );
                        let message = scram::auth_message(first_bare.as_bytes(), text, last.as_bytes());
                        let proof = scram::client_proof(&scram::client_key(&key), &message);
                        let proof = STANDARD.encode(proof.expose());
                        encode_tagged(&mut out, b'p', format!("{last},p={proof}").as_bytes());
                    }
                    _ => {}
                },
                _ => {}
            }
            stream.write_all(&out).unwrap();
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return (None, salt, pid),
            Ok(count) => framer.push(&buffer[..count]),
            Err(error) => panic!("{user}: {error}"),
        }
    }
}

/// The hba line that a fact is about, without what changes from version to version.
fn short(fact: &Fact) -> String {
    match fact {
        Fact::Matched { line, text, .. } => {
            let method = text.split_whitespace().nth(4).or(text.split_whitespace().nth(3));
            format!("matched {line} {}", method.unwrap_or_default())
        }
        Fact::Service { service, trouble, .. } => format!("{service:?} {trouble:?}"),
        Fact::NoEntry { host, user } => format!("no entry {host} {user}"),
        Fact::Rejected { host, user } => format!("rejected {host} {user}"),
        Fact::Authenticated { .. } => "authenticated".to_owned(),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(way: &str, follower: &Follower, login: &Login, expected: &[&str]) {
    let answers: Vec<Answer> = follower.wait_for(&login.question, Patience::until(Instant::now() + DEADLINE));
    let all: Vec<String> =
        answers.iter().flat_map(|answer| facts(&answer.entry)).map(|fact| short(&fact)).collect();
    let context = || format!("{way}: {:?}\n{answers:#?}\n{:?}", login.question, follower.status());
    assert!(answers.iter().any(|answer| answer.entry.is_fatal()), "{}", context());
    for answer in &answers {
        assert_eq!((answer.certainty, answer.join), (Certainty::Strong, Join::Port), "{}", context());
    }
    for wanted in expected {
        assert!(all.iter().any(|fact| fact == wanted), "{wanted} is not in {all:?}\n{}", context());
    }
    let allowed = |fact: &&String| !expected.contains(&fact.as_str()) && *fact != "Other";
    assert_eq!(all.iter().find(allowed), None, "{}", context());
    assert!(!format!("{answers:?}").contains(PLANTED), "{}", context());
    let fatal = answers.iter().find(|answer| answer.entry.is_fatal()).unwrap();
    if let (Some(logged), Some(sent)) = (&fatal.entry.sqlstate, &login.sqlstate) {
        assert_eq!(logged, sent, "{}", context());
    }
    let zone = fatal.entry.unix_ms.unwrap_or_default();
    assert!((login.question.from_ms - 1_000..login.question.to_ms + 250).contains(&zone), "{}", context());
}

/// Every kind of refusal in one way of logging. Line 1 of pg_hba.conf lets the tests in.
fn refusals(server: &Server, way: &str, follower: &Follower) {
    let last =
        if server.version == Version::V15 { "matched 11 scram-sha-256" } else { "matched 10 scram-sha-256" };
    let named = |kind: &str, user: &str| format!("{kind} {{ user: \"{user}\" }}");
    let (missing, none) = (named("RoleMissing", "ghost"), named("NoPassword", "nopw"));
    let (old, md5) = (named("Expired", "expired"), named("NotScram", "md5_secret"));
    let (wrong, clear) = (named("PasswordMismatch", "md5_user"), named("PasswordMismatch", "clear_user"));
    let table: [(&str, &[&str]); 9] = [
        ("app", &[last]),
        ("ghost", &[&missing, last]),
        ("nopw", &[&none, last]),
        ("expired", &[&old, last]),
        ("md5_secret", &[&md5, last]),
        ("md5_user", &[&wrong, "matched 6 md5"]),
        ("clear_user", &[&clear, "matched 7 password"]),
        ("ident_user", &["Ident Unreachable", "matched 4 ident"]),
        ("rejected", &["rejected 127.0.0.1 rejected"]),
    ];
    for (user, expected) in table {
        let login = log_in(server.addr(), user, Some("wrong"));
        assert!(login.sqlstate.is_some(), "{way} {user}");
        check(&format!("{way} {user}"), follower, &login, expected);
    }
    if support::server::has_ipv6() {
        let addr = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], server.port));
        let login = log_in(addr, "app", Some("wrong"));
        check(&format!("{way} ::1"), follower, &login, &["no entry ::1 app"]);
    }
}

fn follow(path: &Path) -> Follower {
    let follower = Follower::start(Source { path: path.to_owned(), prefix: None }).unwrap();
    assert!(follower.wait_ready(Instant::now() + DEADLINE));
    follower
}

fn every_way(version: Version) {
    let server = start(version);
    for way in &WAYS {
        let file = switch(&server, way, "C");
        // The data directory, the log's directory, a pattern and the file itself all lead to it.
        let path = match way.name {
            "default" | "csv" => server.data(),
            "debian" | "json" => server.data().join("log"),
            "rds" => server.data().join("log/rds*.log"),
            _ => file,
        };
        let follower = follow(&path);
        refusals(&server, way.name, &follower);
        assert_eq!(follower.status().not_understood, 0, "{}: {:?}", way.name, follower.status());
    }
    switch(&server, &way("last", "stderr", "%m [%p] ", true), "C");
    let follower = follow(&server.data());
    slow_and_odd(&server, &follower);
    reload_that_fails(&server, &follower);
}

fn slow_and_odd(server: &Server, follower: &Follower) {
    // Nobody answers a RADIUS request: the line of pg_hba.conf has a secret in it.
    let login = log_in(server.addr(), "radius_user", Some("wrong"));
    let answers = follower.wait_for(&login.question, Patience::until(Instant::now() + DEADLINE));
    let found: Vec<Fact> = answers.iter().flat_map(|answer| facts(&answer.entry)).collect();
    let line = found.iter().any(
        |fact| matches!(fact, Fact::Matched { line: 8, text, .. } if text.contains("radiussecrets=(hidden)")),
    );
    assert!(line && !format!("{answers:?}").contains(PLANTED), "{answers:#?}");
    if server.version == Version::V15 {
        let login = log_in(server.addr(), "ldap_user", Some("wrong"));
        check("ldap", follower, &login, &["Ldap Setup", "matched 9 ldap"]);
    }
    // Nothing is sent to a client that does not answer in time.
    let login = log_in(server.addr(), "app", None);
    assert_eq!(login.sqlstate, None);
    check("timeout", follower, &login, &["Timeout"]);
    // A login that works says which line let it in.
    let login = log_in(server.addr(), "app", Some("right"));
    let deadline = Instant::now() + Duration::from_secs(2);
    let answers = follower.wait_for(&login.question, Patience::until(deadline));
    let found: Vec<Fact> = answers.iter().flat_map(|answer| facts(&answer.entry)).collect();
    let method =
        |fact: &Fact| matches!(fact, Fact::Authenticated { method, .. } if method == "scram-sha-256");
    assert!(found.iter().any(method) && found.contains(&Fact::Authorized), "{answers:#?}");
    let by_pid = Question { our_port: None, our_ip: None, ..login.question.clone() };
    let answers = follower.wait_for(&by_pid, Patience::until(Instant::now() + Duration::from_millis(100)));
    assert!(answers.iter().all(|a| (a.certainty, a.join) == (Certainty::Strong, Join::Pid)), "{answers:#?}");
    assert!(!answers.is_empty());
    // Over a Unix socket there is no port: time and names are no proof.
    for (user, map) in [("peer_user", None), ("mapped_user", Some("m"))] {
        let from_ms = now_ms();
        let path = server.socket_dir().join(format!(".s.PGSQL.{}", server.port));
        talk(UnixStream::connect(path).unwrap(), user, Some("wrong"));
        let question = Question {
            unix: true,
            user: Some(user.to_owned()),
            database: Some("postgres".to_owned()),
            from_ms,
            to_ms: now_ms(),
            ..Question::default()
        };
        let answers = follower.wait_for(&question, Patience::until(Instant::now() + Duration::from_secs(2)));
        assert!(answers.iter().all(|answer| answer.certainty == Certainty::Weak), "{answers:#?}");
        let found: Vec<Fact> = answers.iter().flat_map(|answer| facts(&answer.entry)).collect();
        let names = |fact: &Fact| matches!(fact, Fact::NamesDiffer { role, map: in_map, .. } if role == user && in_map.as_deref() == map);
        assert!(found.iter().any(names), "{answers:#?}");
    }
}

fn reload_that_fails(server: &Server, follower: &Follower) {
    let hba = server.data().join("pg_hba.conf");
    let good = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("{good}host all all all scramm\n")).unwrap();
    server.sql("select pg_reload_conf()");
    let until = Instant::now() + DEADLINE;
    let reloads = loop {
        let found: Vec<Fact> = follower.reloads().iter().flat_map(facts).collect();
        if found.iter().any(|fact| matches!(fact, Fact::NotReloaded { .. })) {
            break found;
        }
        assert!(Instant::now() < until, "{found:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let number = u32::try_from(good.lines().count()).unwrap() + 1;
    let fault = |fact: &Fact| matches!(fact, Fact::ConfigFault { line, file, .. } if *line == number && file.ends_with("pg_hba.conf"));
    assert!(reloads.iter().any(fault), "{reloads:?}");
    std::fs::write(&hba, good).unwrap();
}

#[test]
fn every_way_of_postgresql_15() {
    every_way(Version::V15);
}

#[test]
fn every_way_of_postgresql_18() {
    every_way(Version::V18);
}

/// A translated server, where this machine has what it takes (Debian's catalogues, `localedef`).
#[test]
fn servers_that_speak_other_languages() {
    let german = install::german_locale();
    let mut locales = vec!["de_DE.UTF-8".to_owned()];
    for name in ["fr_FR", "es_ES", "ru_RU", "ja_JP", "zh_CN", "it_IT", "ko_KR"] {
        let target = german.join(format!("{name}.UTF-8"));
        let catalogue = |lang: &str| {
            Path::new("/usr/share/locale").join(lang).join("LC_MESSAGES/postgres-15.mo").exists()
        };
        let translated = catalogue(name) || catalogue(&name[..2]);
        let mut command = Command::new(install::need("localedef", "apt-get install libc-bin locales"));
        let made = target.exists() || command.args(["-i", name, "-f", "UTF-8"]).arg(&target).output().is_ok();
        if made && target.exists() && translated {
            locales.push(format!("{name}.UTF-8"));
        }
    }
    println!("languages: {locales:?}");
    let server = start(Version::V15);
    let files = [&WAYS[0], &WAYS[6]];
    // Started with LC_CTYPE C, a server writes `?` for what ASCII lacks: little is left of Russian.
    for locale in locales.iter().filter(|locale| ["de", "fr", "es", "it"].contains(&&locale[..2])) {
        let file = switch(&server, &way("ascii", "stderr", "%m [%p] ", true), locale);
        refusals(&server, &format!("ascii {locale}"), &follow(&file));
        assert!(std::fs::read(&file).unwrap().is_ascii());
    }
    let _again = restart_in_utf8(&server);
    for locale in &locales {
        for way in files {
            let file = switch(&server, way, locale);
            let follower = follow(&file);
            refusals(&server, &format!("{} {locale}", way.name), &follower);
            if way.name == "default" {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(!text.contains("does not exist."), "{locale} is English:\n{text}");
            }
        }
    }
}

/// A postmaster that is not the harness's; it ends when this is dropped.
struct Again(std::process::Child);

impl Drop for Again {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.0.wait();
        support::keeper::forget(self.0.id());
    }
}

/// Stops the server and starts it on the same data with the environment that most have.
fn restart_in_utf8(server: &Server) -> Again {
    server.signal(rustix::process::Signal::INT);
    let until = Instant::now() + DEADLINE;
    while server.data().join("postmaster.pid").exists() {
        assert!(Instant::now() < until, "the server does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut command = as_postgres(&install::postgres_15().join("postgres"));
    command.env("LOCPATH", install::german_locale()).env("LANG", "de_DE.UTF-8");
    command.arg("-D").arg(server.data()).args(["-p", &server.port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    support::keeper::watch(child.id());
    let again = Again(child);
    server.wait_for_sql();
    again
}

#[test]
fn the_salt_of_a_missing_role_is_the_mock_salt() {
    for version in [Version::V15, Version::V18] {
        let server = start(version);
        let salt = |user: &str| log_in(server.addr(), user, Some("wrong")).salt.expect("a SCRAM challenge");
        let nonce = match version {
            Version::V15 => by_pg_controldata(&server),
            Version::V18 => in_control_file(&server, "ghost", &salt("ghost")),
        };
        let long = "a".repeat(80);
        for user in ["ghost", "Ghöst \u{fb01}", "nopw", "expired", "md5_secret", &long] {
            let seen = salt(user);
            assert_eq!(seen, mock::mock_salt(user.as_bytes(), &nonce), "{version:?} {user}");
            assert!(mock::is_mock_salt(&seen, user.as_bytes(), &nonce));
        }
        assert!(!mock::is_mock_salt(&salt("app"), b"app", &nonce));
    }
}

fn by_pg_controldata(server: &Server) -> [u8; 32] {
    let program = install::postgres_15().join("pg_controldata");
    let output = as_postgres(&program).arg(server.data()).output().unwrap();
    let english = control_data::parse(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(english.version, Some(15));
    let identifier = server.sql("select system_identifier from pg_control_system()");
    assert_eq!(english.system_identifier.map(|id| id.to_string()), Some(identifier));
    let mut german = as_postgres(&program);
    german.env("LOCPATH", install::german_locale()).env("LC_ALL", "de_DE.UTF-8").arg(server.data());
    let text = String::from_utf8(german.output().unwrap().stdout).unwrap();
    assert!(text.contains("Katalogversion"), "{text}");
    assert_eq!(control_data::parse(&text), english);
    english.mock_nonce.expect("a nonce")
}

/// The bundle of 18 has no pg_controldata: the nonce is looked for in the file that it would read.
fn in_control_file(server: &Server, user: &str, salt: &[u8]) -> [u8; 32] {
    let file = std::fs::read(server.data().join("global/pg_control")).unwrap();
    let nonces = file[..512].windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap());
    let found = nonces.into_iter().find(|nonce| mock::mock_salt(user.as_bytes(), nonce) == salt);
    found.expect("the control file has the nonce of this salt")
}
