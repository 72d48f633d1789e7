//! Throw-away real PostgreSQL servers.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::keeper::{self, Scratch};
use super::port::{self, Port};
use super::{DEADLINE, install};

/// Which PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Debian's PostgreSQL 15.
    V15,
    /// PostgreSQL 18 of the npm bundle.
    V18,
}

/// What a cluster is made of; everything else has small, safe defaults.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The whole of pg_hba.conf, without the first line that lets the tests in over the Unix socket.
    pub hba: String,
    /// Lines for the end of postgresql.conf.
    pub conf: String,
    /// Run as superuser once the server accepts connections (before `late_conf`).
    pub sql: String,
    /// Lines for postgresql.conf that hold from a second start on (for servers that then accept nobody).
    pub late_conf: String,
    /// What it logs when that second start has come as far as the test needs; ready to accept, if empty.
    pub late_wait: &'static str,
    /// Files to make empty in the data directory before that second start, such as `standby.signal`.
    pub late_files: Vec<&'static str>,
    /// TLS with the tests' own certificate.
    pub tls: bool,
    /// Other certificates than the tests' own, or other files: names in the data directory, and texts.
    pub files: Vec<(&'static str, String)>,
    /// Speaks German.
    pub german: bool,
}

/// A running server; it stops and its data goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Its port on 127.0.0.1 and ::1, also the number in the name of its Unix socket.
    pub port: u16,
    _reserved: Port,
    /// Which one it is.
    pub version: Version,
    dir: Scratch,
    child: Mutex<Option<Child>>,
    pid: u32,
    log: Arc<Log>,
    german: bool,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Server {
    /// Makes a cluster and starts it.
    pub fn start(version: Version, plan: &Plan) -> Self {
        let dir = Scratch::new();
        let data = dir.path().join("data");
        copy_tree(&template(version).path().join("data"), &data);
        std::fs::write(data.join("pg_hba.conf"), format!("local all postgres trust\n{}", plan.hba))
            .expect("pg_hba.conf");
        if plan.tls {
            certificates().install(&data);
        }
        for (name, text) in &plan.files {
            let file = data.join(name);
            std::fs::write(&file, text).expect("a file of the plan");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            give_to_postgres(&file);
        }
        let mut server = Self::launch(version, dir, plan);
        if !plan.sql.is_empty() {
            server.sql(&plan.sql);
        }
        if !plan.late_conf.is_empty() || !plan.late_files.is_empty() {
            server.signal(Signal::INT);
            server.wait_exit();
            for file in &plan.late_files {
                std::fs::write(server.data().join(file), "").expect("a signal file");
                give_to_postgres(&server.data().join(file));
            }
            append(&server.data().join("postgresql.conf"), &plan.late_conf);
            match plan.late_wait {
                "" => server.start_up(&READY),
                text => server.start_up(&[text]),
            }
        }
        server
    }

    fn launch(version: Version, dir: Scratch, plan: &Plan) -> Self {
        let mut conf = String::from(BASE_CONF);
        if plan.tls {
            conf.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n");
        }
        if plan.german {
            conf.push_str("lc_messages = 'de_DE.UTF-8'\n");
        }
        conf.push_str(&format!("unix_socket_directories = '{}'\n", dir.path().display()));
        conf.push_str(&plan.conf);
        append(&dir.path().join("data/postgresql.conf"), &conf);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
        // It keeps its port while it is down between two starts.
        let reserved = Port::reserve();
        let mut server = Self {
            port: reserved.number,
            _reserved: reserved,
            version,
            dir,
            pid: 0,
            child: Mutex::default(),
            log: Arc::default(),
            german: plan.german,
        };
        server.start_up(&READY);
        server
    }

    /// Starts the postmaster and waits until it has logged one of these.
    fn start_up(&mut self, reached: &[&str]) {
        self.spawn();
        let there = |line: &str| reached.iter().any(|text| line.contains(text));
        self.wait_log(|line| there(line) || line.contains("database system is shut down"));
        assert!(self.log_has(reached), "PostgreSQL {:?} does not start:\n{}", self.version, self.log_text());
    }

    fn spawn(&mut self) {
        let mut command = as_postgres(&bin(self.version).join("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        if self.german {
            command.env("LOCPATH", install::german_locale());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("postgres can be run");
        keeper::watch(child.id());
        self.pid = child.id();
        self.log = Arc::default();
        let log = Arc::clone(&self.log);
        let stderr = child.stderr.take().expect("stderr is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                log.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                log.changed.notify_all();
            }
            log.lines.lock().unwrap().push("(the database system is shut down: end of its log)".to_owned());
            log.changed.notify_all();
        });
        self.child = Mutex::new(Some(child));
    }

    /// Where it listens for IPv4.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Signals the postmaster.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).expect("a pid")).expect("a pid");
        // It may have ended already: then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }

    fn wait_exit(&self) {
        let child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut child) = child {
            child.wait().expect("postgres ends");
            keeper::forget(self.pid);
        }
    }

    /// Runs SQL as superuser over the Unix socket and returns what psql prints.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// As [`Server::sql`], in another database.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        // Tests share a server: each statement file has a name of its own.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let file = self.dir.write(&format!("{}.sql", NUMBER.fetch_add(1, Ordering::Relaxed)), sql);
        let output =
            self.psql(database).args(["-v", "ON_ERROR_STOP=1", "-f"]).arg(file).output().expect("psql runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "SQL failed: {error}\n{}", self.log_text());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// psql as superuser over the Unix socket, with nothing of the environment.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(install::client_program("psql"));
        command.env_clear().args(["-X", "-q", "-At", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(self.socket_dir()).args(["-p", &self.port.to_string()]);
        command
    }

    /// Waits until it takes statements (again).
    pub fn wait_for_sql(&self) {
        let until = Instant::now() + DEADLINE;
        while !self.psql("postgres").args(["-c", "select 1"]).output().expect("psql runs").status.success() {
            assert!(Instant::now() < until, "the server takes too long to start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a line of its log fits; false when the deadline passes first.
    pub fn wait_log(&self, fits: impl Fn(&str) -> bool) -> bool {
        let start = Instant::now();
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if lines.iter().any(|line| fits(line)) {
                return true;
            }
            let Some(left) = DEADLINE.checked_sub(start.elapsed()) else { return false };
            lines = self.log.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Everything it logged so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// The lines that it logged, from this one (counted from 0) on.
    pub fn log_lines(&self, from: usize) -> Vec<String> {
        self.log.lines.lock().unwrap().get(from..).unwrap_or_default().to_vec()
    }

    fn log_has(&self, texts: &[&str]) -> bool {
        self.log.lines.lock().unwrap().iter().any(|line| texts.iter().any(|text| line.contains(text)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        // A stopped process takes no SIGQUIT before it goes on.
        self.signal(Signal::CONT);
        self.wait_exit();
    }
}

const READY: [&str; 3] =
    ["ready to accept connections", "bereit, um Verbindungen anzunehmen", "read-only connections"];

const BASE_CONF: &str = "
listen_addresses = '127.0.0.1,::1'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 100
log_line_prefix = '%m [%p] '
log_connections = on
timezone = 'UTC'
log_timezone = 'UTC'
";

/// An initialised data directory of each version, copied for every cluster: initdb takes a second.
fn template(version: Version) -> &'static Scratch {
    static V15: LazyLock<Scratch> = LazyLock::new(|| initdb(Version::V15));
    static V18: LazyLock<Scratch> = LazyLock::new(|| initdb(Version::V18));
    match version {
        Version::V15 => &V15,
        Version::V18 => &V18,
    }
}

fn initdb(version: Version) -> Scratch {
    let dir = Scratch::new();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let mut command = as_postgres(&bin(version).join("initdb"));
    command.arg("-D").arg(dir.path().join("data"));
    command.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]);
    let output = command.output().expect("initdb can be run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "initdb of {version:?} failed:\n{out}{err}");
    dir
}

/// The server's programs, somewhere the user it runs as can reach.
fn bin(version: Version) -> PathBuf {
    static COPY: LazyLock<Option<Scratch>> = LazyLock::new(|| {
        let native = install::postgres_18();
        if !rustix::process::getuid().is_root() || everyone_may_enter(&native) {
            return None;
        }
        // A checkout under a private home directory: the user `postgres` can't run programs there.
        let dir = Scratch::new();
        copy_tree(&native, &dir.path().join("native"));
        Some(dir)
    });
    match version {
        Version::V15 => install::postgres_15(),
        Version::V18 => match &*COPY {
            Some(dir) => dir.path().join("native/bin"),
            None => install::postgres_18().join("bin"),
        },
    }
}

fn everyone_may_enter(path: &Path) -> bool {
    path.ancestors().all(|dir| dir.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, or as `nobody` where there is none.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user `postgres` or `nobody`"))
}

/// A command that runs as the servers' user.
pub fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C")
        .current_dir("/");
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Hands a file to the servers' user.
pub fn give_to_postgres(path: &Path) {
    if let Some((uid, gid)) = server_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp -a {} {}: {status}", from.display(), to.display());
}

fn append(path: &Path, text: &str) {
    let old = std::fs::read_to_string(path).expect("a configuration file");
    std::fs::write(path, format!("{old}\n{text}\n")).expect("a configuration file");
}

/// Whether this machine has ::1.
pub fn has_ipv6() -> bool {
    port::has_ipv6()
}

/// A certificate authority, the servers' certificate from it, and one that nobody knows.
#[derive(Debug)]
pub struct Certificates {
    dir: Scratch,
}

impl Certificates {
    /// The authority that signed the servers' certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// An authority that signed nothing.
    pub fn other_ca(&self) -> PathBuf {
        self.dir.path().join("other.crt")
    }

    /// The servers' certificate and key.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("server.crt"), self.dir.path().join("server.key"))
    }

    fn install(&self, data: &Path) {
        for name in ["ca.crt", "server.crt", "server.key"] {
            let target = data.join(name);
            std::fs::copy(self.dir.path().join(name), &target).expect("a certificate is copied");
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            give_to_postgres(&target);
        }
    }
}

/// The tests' certificates, made once in a process.
pub fn certificates() -> &'static Certificates {
    static MADE: LazyLock<Certificates> = LazyLock::new(|| {
        let dir = Scratch::new();
        let openssl = install::need("openssl", "apt-get install openssl");
        let script = r#"
            key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            "$0" req -x509 $key -days 30 -subj '/CN=pgwhy test CA' -keyout ca.key -out ca.crt
            "$0" req -x509 $key -days 30 -subj '/CN=another CA' -keyout other.key -out other.crt
            "$0" req $key -subj '/CN=localhost' -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n' > san
            "$0" x509 -req -in server.csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 30 -extfile san -out server.crt
        "#;
        let output = Command::new("sh").args(["-ec", script]).arg(openssl).current_dir(dir.path()).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "openssl failed: {}", String::from_utf8_lossy(&output.stderr));
        Certificates { dir }
    });
    &MADE
}
