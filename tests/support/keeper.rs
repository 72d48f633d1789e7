//! Nothing outlives the tests: processes that were started and directories that were made are noted
//! with a small shell that waits for the end of its input. When the test process ends, even by
//! SIGKILL, the pipe closes and the shell ends and removes what is still on its list.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};

static KEEPER: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Mutex::new(command.spawn().expect("sh starts"))
});

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
pids= dirs=
without() { for one in $1; do [ "$one" = "$2" ] || printf '%s ' "$one"; done; }
while read -r what value; do
    case $what in
    +pid) pids="$pids $value" ;;
    -pid) pids=$(without "$pids" "$value") ;;
    +dir) dirs="$dirs $value" ;;
    -dir) dirs=$(without "$dirs" "$value") ;;
    esac
done
alive() { [ -r "/proc/$1/stat" ] && ! grep -q ') Z ' "/proc/$1/stat"; }
for pid in $pids; do kill -QUIT "$pid"; done
for pid in $pids; do
    tries=0
    while alive "$pid" && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    if alive "$pid"; then kill -KILL "$pid"; fi
done
[ -z "$dirs" ] || rm -rf $dirs
"#;

fn tell(line: &str) {
    let mut keeper = KEEPER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // A keeper that was itself killed must not fail a test that otherwise passes.
    let _ = keeper.stdin.as_mut().map(|stdin| writeln!(stdin, "{line}"));
}

/// Notes a process that must not outlive the tests.
pub fn watch(pid: u32) {
    tell(&format!("+pid {pid}"));
}

/// Forgets a process that has ended and was waited for.
pub fn forget(pid: u32) {
    tell(&format!("-pid {pid}"));
}

/// A directory that anyone may enter and that goes away with this value or with the tests.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty one under the system's directory for temporary files.
    pub fn new() -> Self {
        // Short: a Unix socket's path must fit 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("pgwhy-t")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let path = dir.keep();
        tell(&format!("+dir {}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and returns the file's path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, text).expect("a temporary file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_ok() {
            tell(&format!("-dir {}", self.path.display()));
        }
    }
}
