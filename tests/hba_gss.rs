//! `hostgssenc` and `hostnogssenc` against a real server, a real KDC and a client that encrypts with GSSAPI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, dead_code, reason = "a test has no public face, and shares its workshop")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pgwhy::hba::{Connection, Files, Server as Reader, Verdict, World, decide, parse};
use rustix::process::{Pid, Signal, kill_process};
use support::keeper::{self, Scratch};
use support::port::Port;
use support::server::{Plan, Server, Version, give_to_postgres};
use support::{DEADLINE, client, install};

const PACKAGES: &str = "apt-get install krb5-kdc krb5-admin-server krb5-user";
const REALM: &str = "PGWHY.TEST";

/// A KDC of its own, with a user and a service.
struct Kdc {
    dir: Scratch,
    child: Option<Child>,
    _port: Port,
}

impl Kdc {
    fn start() -> Self {
        let dir = Scratch::new();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let (reserved, path) = (Port::reserve(), dir.path().display());
        let port = reserved.number;
        let client = format!(
            "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\n\
             rdns = false\nudp_preference_limit = 1\n[realms]\n{REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n"
        );
        let server = format!(
            "[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n{REALM} = {{\n \
             database_name = {path}/principal\n key_stash_file = {path}/stash\n acl_file = {path}/acl\n}}\n\
             [logging]\nkdc = FILE:{path}/kdc.log\n"
        );
        dir.write("krb5.conf", client);
        dir.write("kdc.conf", server);
        let mut kdc = Self { dir, child: None, _port: reserved };
        kdc.run("kdb5_util", &["create", "-s", "-r", REALM, "-P", "master"], "");
        kdc.run("kadmin.local", &["-q", "addprinc -pw t1cket app"], "");
        kdc.run("kadmin.local", &["-q", "addprinc -randkey postgres/localhost"], "");
        let keytab = kdc.keytab();
        kdc.run("kadmin.local", &["-q", &format!("ktadd -k {} postgres/localhost", keytab.display())], "");
        give_to_postgres(&keytab);
        let mut command = kdc.command("krb5kdc");
        let child =
            command.arg("-n").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("krb5kdc runs");
        keeper::watch(child.id());
        kdc.child = Some(child);
        let until = Instant::now() + DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the KDC does not listen");
            std::thread::yield_now();
        }
        kdc.run("kinit", &["app"], "t1cket\n");
        kdc
    }

    fn keytab(&self) -> PathBuf {
        self.dir.path().join("keytab")
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        vec![
            ("KRB5_CONFIG", file("krb5.conf")),
            ("KRB5_KDC_PROFILE", file("kdc.conf")),
            ("KRB5CCNAME", format!("FILE:{}", file("tickets"))),
        ]
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(install::need(program, PACKAGES));
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str], input: &str) {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect(program);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::KILL);
        let _ = child.wait();
        keeper::forget(child.id());
    }
}

/// The file, and what it means for a login with GSSAPI encryption and for one without.
const ROWS: [(&str, Outcome, Outcome); 8] = [
    ("hostgssenc all all 127.0.0.1/32 trust\n", Outcome::Enters, Outcome::NoEntry),
    ("hostnogssenc all all 127.0.0.1/32 trust\n", Outcome::NoEntry, Outcome::Enters),
    ("hostgssenc all all all reject\nhost all all all trust\n", Outcome::Rejected, Outcome::Enters),
    ("hostnogssenc all all all reject\nhost all all all trust\n", Outcome::Enters, Outcome::Rejected),
    ("hostssl all all all trust\n", Outcome::NoEntry, Outcome::NoEntry),
    ("hostnossl all all all trust\n", Outcome::Enters, Outcome::Enters),
    ("hostgssenc all all 10.0.0.0/8 trust\nhost all app all reject\n", Outcome::Rejected, Outcome::Rejected),
    (
        "hostgssenc other all all reject\nhostgssenc all all all gss include_realm=0\n",
        Outcome::Enters,
        Outcome::NoEntry,
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Enters,
    Rejected,
    NoEntry,
    Other,
}

fn at_the_server(server: &Server, kdc: &Kdc, encrypted: bool) -> (Outcome, String) {
    let mut psql = client::clean(install::need("psql", "apt-get install postgresql-client-15"));
    let mode = if encrypted { "require" } else { "disable" };
    psql.envs(kdc.environment())
        .arg("-XAtw")
        .arg("-c")
        .arg("select gss_authenticated, encrypted from pg_stat_gssapi where pid = pg_backend_pid()");
    psql.arg(format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=app dbname=postgres sslmode=disable gssencmode={mode}",
        server.port
    ));
    let output = psql.output().expect("psql runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let word = if encrypted { "|t" } else { "|f" };
    let outcome = match () {
        () if output.status.success() && said.trim().ends_with(word) => Outcome::Enters,
        () if said.contains("pg_hba.conf rejects") => Outcome::Rejected,
        () if said.contains("no pg_hba.conf entry") => Outcome::NoEntry,
        () => Outcome::Other,
    };
    (outcome, said)
}

fn by_us(rules: &str, encrypted: bool) -> Outcome {
    let read = |_: &Path| Ok(rules.as_bytes().to_vec());
    let list = |_: &Path| Ok(Vec::new());
    let file = parse(Path::new("rules"), &Files { read: &read, list: &list }, &Reader::of_version(15));
    let connection = Connection {
        address: Some([127, 0, 0, 1].into()),
        user: "app".into(),
        database: "postgres".into(),
        gss: encrypted,
        ..Connection::default()
    };
    match decide(&file, &connection, &World::default()).verdict {
        // The client has a ticket.
        Verdict::Trust | Verdict::Asks(_) => Outcome::Enters,
        Verdict::Reject => Outcome::Rejected,
        Verdict::NoEntry => Outcome::NoEntry,
    }
}

#[test]
fn lines_for_gssapi_encryption_decide_as_at_the_server() {
    let kdc = Kdc::start();
    let conf = format!("krb_server_keyfile = 'FILE:{}'\n", kdc.keytab().display());
    let plan = Plan { conf, sql: "CREATE ROLE app LOGIN;".into(), ..Plan::default() };
    let server = Server::start(Version::V15, &plan);
    let mut faults = Vec::new();
    for (rules, with, without) in ROWS {
        std::fs::write(server.data().join("pg_hba.conf"), format!("local all all trust\n{rules}")).unwrap();
        let before = server.sql("select pg_conf_load_time()");
        server.sql("select pg_reload_conf()");
        let until = Instant::now() + DEADLINE;
        while server.sql("select pg_conf_load_time()") == before {
            assert!(Instant::now() < until, "the server does not reload");
        }
        for (encrypted, wants) in [(true, with), (false, without)] {
            let (there, said) = at_the_server(&server, &kdc, encrypted);
            let here = by_us(rules, encrypted);
            if there != wants || here != wants {
                faults.push(format!(
                    "{rules:?} gss {encrypted}: {wants:?}, server {there:?} ({said}), we {here:?}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
