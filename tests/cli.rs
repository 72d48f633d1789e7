//! The command line as a stranger meets it: the real binary, its output and exit codes.
//!
//! A password is planted in everything that is tried; none of the outputs may show it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use tempfile::TempDir;

/// The planted password. It has no character that means something in a URL.
const PLANTED: &str = "Planted-5ecret";

#[test]
fn every_command_has_help_that_fits_a_terminal() {
    for command in [
        "",
        "proxy",
        "show",
        "diff",
        "report",
        "replay",
        "hba",
        "ca",
        "explain",
        "demo",
        "completions",
        "man",
    ] {
        for flag in ["-h", "--help"] {
            let arguments: Vec<&str> = [command, flag].into_iter().filter(|word| !word.is_empty()).collect();
            let run = run(&arguments);
            run.succeeds();
            assert!(run.out.contains("Usage: pgwhy"), "{arguments:?}: {}", run.out);
            let long = run.out.lines().find(|line| line.chars().count() > 100);
            assert_eq!(long, None, "{arguments:?}: a line of help is too long");
            assert_eq!(broken_twice(&run.out), None, "{arguments:?}");
            let examples = run.out.lines().skip_while(|line| *line != "Examples:").skip(1);
            let torn = examples.take_while(|line| !line.is_empty()).find(|line| !line.starts_with("  "));
            assert_eq!(torn, None, "{arguments:?}: an example is one line");
        }
    }
    let help = run(&["proxy", "--help"]).out;
    for said in ["DATABASE_URL", "127.0.0.1:7432", "60s", "1000", "200", "one a core", "SIGTERM"] {
        assert!(help.contains(said), "the help of proxy says {said}:\n{help}");
    }
}

/// A line of a paragraph that ended although the next one's first word had room on it.
fn broken_twice(help: &str) -> Option<&str> {
    let text = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
    let lines: Vec<&str> = help.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair.iter().all(|line| text(line)))
        .map(|pair| (pair[0], pair[1]))
        .find_map(|(line, next)| {
            let word = next.split(' ').next().unwrap_or_default();
            (line.chars().count() + 1 + word.chars().count() <= 100).then_some(line)
        })
}

#[test]
fn what_is_not_understood_is_usage_and_names_what_is_meant() {
    let check = |arguments: &[&str], said: &[&str]| run(arguments).is_usage(said);
    check(&["proxy", "--upstrem", "x"], &["--upstrem", "similar", "--upstream"]);
    check(&["prox"], &["prox", "proxy"]);
    check(&["proxy", "--format", "xml"], &["xml", "human, json"]);
    check(&["proxy", "--client-tls", "opne"], &["auto, open, passthrough, disable", "verify-full"]);
    check(&["proxy", "--show", "none"], &["all, failed"]);
    check(&["proxy", "--login-timeout", "5x"], &["60s or 500ms"]);
    check(&["proxy", "--login-timeout", "0"], &["60s or 500ms"]);
    check(&["proxy", "--max-connections", "0"], &["at least 1"]);
    check(&["proxy", "--threads", "0"], &["at least 1"]);
    check(&["proxy", "--threads", "many"], &["whole number"]);
    check(&["proxy", "--max-connections", "99999999999999999999999"], &["too large"]);
    check(&["completions", "tcsh"], &["bash"]);
    check(&["man", "nonsense"], &["nonsense", "--help"]);
}

#[test]
fn a_wrong_cause_gets_the_one_alike_and_not_all_of_them() {
    let run = run(&["explain", "password_mismach"]);
    run.is_usage(&["password_mismach", "password_mismatch", "pgwhy explain"]);
    assert!(!run.err.contains("hba_reject"), "{}", run.err);
    assert!(run.err.lines().count() < 10, "{}", run.err);
}

#[test]
fn explain_lists_every_cause_and_prints_its_page() {
    let list = run(&["explain"]);
    list.succeeds();
    let ids: Vec<&str> = list.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(ids.len() > 70, "{ids:?}");
    for id in ids {
        let page = run(&["explain", id]);
        page.succeeds();
        assert!(page.out.starts_with(&format!("# {id}\n")), "{id}");
        assert!(page.out.contains("## Fix"), "{id} says what to do");
    }
}

#[test]
fn completions_and_manual_pages_are_rendered() {
    // fish's script has no values of a command's arguments: clap_complete leaves them out.
    for (shell, value) in
        [("bash", "password_mismatch"), ("zsh", "password_mismatch"), ("fish", "passthrough")]
    {
        let run = run(&["completions", shell]);
        run.succeeds();
        for word in ["proxy", "explain", "upstream", value] {
            assert!(run.out.contains(word), "{shell} completes {word}");
        }
    }
    let page = run(&["man"]);
    page.succeeds();
    assert!(page.out.contains(".TH pgwhy 1"), "{}", page.out);
    let page = run(&["man", "proxy"]);
    page.succeeds();
    assert!(page.out.contains(".TH pgwhy-proxy 1") && page.out.contains("\\-\\-upstream"), "{}", page.out);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for arguments in [&["explain"][..], &["completions", "zsh"], &["man"], &["proxy", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let home = TempDir::new().unwrap();
        let done = pgwhy(home.path()).args(arguments).stdout(writer).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_connection_string_in_the_wrong_place_is_not_repeated() {
    let url = format!("postgres://app:{PLANTED}@db.example/app");
    let words = format!("host=db.example password={PLANTED}");
    for wrong in [&url, &words] {
        run(&[wrong]).is_usage(&["--upstream"]);
        run(&["proxy", wrong]).is_usage(&["--upstream"]);
        run(&["proxy", "--format", wrong]).is_usage(&["--upstream", "human, json"]);
        run(&["proxy", &format!("--format={wrong}")]).is_usage(&["--upstream"]);
        run(&["proxy", "-u", "db.example", "--listen", wrong]).is_usage(&["--upstream"]);
        run(&["explain", wrong]).is_usage(&["pgwhy explain"]);
        run(&["replay", "x.pcapng", "--to", wrong]).is_usage(&["--to", "host:port"]);
        run(&["replay", "x.pcapng", "--listen", wrong]).is_usage(&["--listen", "host:port"]);
    }
}

#[test]
fn a_wrong_upstream_is_told_with_its_mend() {
    let check = |upstream: &str, said: &[&str]| {
        run(&["proxy", "--listen", "127.0.0.1:0", "--upstream", upstream]).is_usage(said);
    };
    check("", &["--upstream", "empty", "set the variable"]);
    check("undefined", &["missing value"]);
    check("${DATABASE_URL}", &["--upstream"]);
    check(&format!("mysql://app:{PLANTED}@h/d"), &["scheme", "postgres://"]);
    check(&format!("postgres://app:{PLANTED}@h:54x/d"), &["port", "column", "percent-encode"]);
    check(&format!("postgres://app:{PLANTED}@h:99999/d"), &["port"]);
    check(&format!("host=h password='{PLANTED}"), &["no end", "close it"]);
    run(&["proxy"]).is_usage(&["--upstream", "DATABASE_URL"]);
}

#[test]
fn a_wrong_listen_address_is_told_with_its_mend() {
    let check =
        |listen: &str, said: &[&str]| run(&["proxy", "-u", "db.example", "--listen", listen]).is_usage(said);
    check("127.0.0.1", &["no port", "host:port"]);
    check("localhost", &["no port"]);
    check("5433x", &["no port"]);
    check("::1", &["no port", "[address]:port"]);
    check("*:7432", &["0.0.0.0:PORT"]);
    check("127.0.0.1:99999", &["no port"]);
    check("nowhere.invalid:7432", &["resolve"]);
    check("/", &["directory", ".s.PGSQL.7432"]);
}

#[test]
fn an_address_that_can_not_be_had_is_a_failure_with_its_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let run = run(&["proxy", "-u", "db.example", "-l", &addr]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    run.says(&[&addr, "in use", "--listen"]);
    let second = self::run(&["proxy", "-u", "db.example", "-l", "127.0.0.1:0", "-l", &addr]);
    second.says(&[&format!("can't listen on {addr}: "), "in use"]);
    assert!(!second.err.contains("127.0.0.1:0"), "only the one at fault is named: {}", second.err);
    let missing = self::run(&["proxy", "-u", "db.example", "-l", "/nonexistent/directory/socket"]);
    assert_eq!(missing.code, Some(1), "{}", missing.err);
    missing.says(&["/nonexistent/directory/socket", "directory does not exist"]);
}

/// The proxy with so many open files.
fn with_open_files(limit: &str, home: &Path, more: &[&str]) -> Command {
    let mut shell = at_home(Command::new("sh"), home);
    shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_pgwhy")]);
    shell.args(["proxy", "-u", "127.0.0.1:1", "-l", "127.0.0.1:0"]).args(more);
    shell
}

#[test]
fn too_few_open_files_are_told_with_their_mend() {
    let home = TempDir::new().unwrap();
    let start = |limit: &str, more: &[&str]| with_open_files(limit, home.path(), more);
    let few = Run::of(start("64", &[]));
    assert_eq!(few.code, Some(1), "{}{}", few.out, few.err);
    few.says(&["open files", "64", "ulimit -n", "LimitNOFILE"]);
    // Who gives a number is served, and told.
    let told = Proxy::start(start("100", &["--max-connections", "1000"])).stop();
    told.says(&["--max-connections 1000", "100", "ulimit -n"]);
    let threads = Run::of(start("100", &["--threads", "1000"]));
    assert_eq!(threads.code, Some(1), "{}", threads.err);
    threads.says(&["open files", "--threads"]);
}

/// They come and go many times in a second: that is one message, and no login is forgotten.
#[test]
fn open_files_that_run_out_are_told_once() {
    let home = TempDir::new().unwrap();
    let mut proxy = Proxy::start(with_open_files(
        "60",
        home.path(),
        &["--max-connections", "1000", "--login-timeout", "1s", "--drain-timeout", "0"],
    ));
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(proxy.addr).unwrap()).collect();
    for _ in &silent {
        let mut line = String::new();
        proxy.out.read_line(&mut line).unwrap();
        assert!(line.contains("startup_timeout"), "{line}");
    }
    let told = proxy.stop();
    told.says(&["accept failed", "ulimit -n"]);
    assert_eq!(told.err.matches("accept failed").count(), 1, "{}", told.err);
}

#[test]
fn half_a_startup_packet_is_told_as_that() {
    let mut proxy = {
        let home = TempDir::new().unwrap();
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-u", "127.0.0.1:1", "-l", "127.0.0.1:0"]);
        Proxy::start(command)
    };
    TcpStream::connect(proxy.addr).unwrap().write_all(b"\0\0\0\x20\0\x03\0\0user\0").unwrap();
    let mut line = String::new();
    proxy.out.read_line(&mut line).unwrap();
    assert!(line.contains("13 bytes came") && line.contains(r#""cause":"startup_malformed""#), "{line}");
    assert!(line.contains(r#""confidence":"likely""#), "{line}");
    assert!(
        line.contains(r#"{"step":"startup","leg":"client","ok":false"#),
        "it was the client's turn: {line}"
    );
    assert!(!line.contains("server's last message"), "no server has said anything: {line}");
    proxy.stop();
}

#[test]
fn what_is_given_beside_the_wire_is_tried_at_the_start() {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("directory")).unwrap();
    fs::write(home.path().join("garbage"), "no list").unwrap();
    let made = pgwhy(home.path()).args(["ca", "--dir", "authority"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let authority = fs::read_dir(home.path().join("authority")).unwrap().map(|entry| entry.unwrap().path());
    let authority = authority.filter(|path| path.extension().is_some_and(|end| end == "crt")).max().unwrap();
    let check = |arguments: &[&str], said: &[&str]| {
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-u", "db.example", "-l", "127.0.0.1:0"]).args(arguments);
        let run = Run::of(command);
        run.is_usage(said);
        assert_eq!(run.err.lines().count(), 1, "{arguments:?}: {}", run.err);
    };
    check(&["--hba", "directory"], &["--hba directory", "directory"]);
    let authority = authority.to_str().unwrap();
    let revoked = ["--server-tls", "verify-ca", "--server-ca", authority, "--server-crl", "garbage"];
    check(&revoked, &["--server-crl garbage", "BEGIN X509 CRL"]);
    check(&["--client-tls", "verify-full"], &["--tls-client-ca"]);
}

#[test]
fn what_may_surprise_later_is_told_at_the_start() {
    let home = TempDir::new().unwrap();
    let check = |arguments: &[&str], said: &[&str]| {
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-u", "127.0.0.1:1", "-l", "127.0.0.1:0"]).args(arguments);
        Proxy::start(command).stop().says(said);
    };
    check(&["--server-log", "postgresql.log"], &["--server-log postgresql.log: No such file", "again"]);
    check(&["--server-log", "x*.log"], &["no log file there fits x*.log"]);
    check(&["--capture", "x.pcapng", "--keep-secrets"], &["--keep-secrets", "x.pcapng", "can log in"]);
    check(&[], &[]);
}

#[test]
fn a_full_standard_output_is_named() {
    for arguments in [&["explain"][..], &["man"], &["completions", "bash"], &["hba", "/dev/null"]] {
        let home = TempDir::new().unwrap();
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = pgwhy(home.path()).args(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("standard output: No space left"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_wrong_password_file_is_told_and_a_password_in_its_place_is_not_repeated() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("empty"), "").unwrap();
    fs::write(home.path().join("binary"), [&b"\xff\xfe"[..], PLANTED.as_bytes()].concat()).unwrap();
    for (file, said) in
        [(PLANTED, "no file"), ("empty", "empty first line"), ("binary", "not UTF-8"), (".", "directory")]
    {
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-u", "db.example", "-l", "127.0.0.1:0", "--password-file", file]);
        Run::of(command).is_usage(&["--password-file", said, "first line"]);
    }
}

#[test]
fn a_log_filter_that_is_wrong_is_told() {
    let home = TempDir::new().unwrap();
    let mut command = pgwhy(home.path());
    command.args(["explain", "hba_reject"]).env("PGWHY_LOG", "pgwhy=loud");
    let run = Run::of(command);
    run.succeeds();
    run.says(&["PGWHY_LOG", "debug"]);
}

#[test]
fn the_server_is_found_in_the_environment_in_the_file_and_in_pg_variables() {
    let check = |file: Option<&str>, environment: &[(&str, &str)], shown: &str| {
        let home = TempDir::new().unwrap();
        if let Some(text) = file {
            fs::write(home.path().join(".env"), text).unwrap();
        }
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-l", "127.0.0.1:0", "--format", "human"]).envs(environment.iter().copied());
        let told = Proxy::start(command).stop();
        assert!(told.out.contains(shown), "{shown} in {}", told.out);
    };
    let url = |host: &str| format!("postgres://app:{PLANTED}@{host}/app");
    let (shell, file) = (url("shell"), format!("DATABASE_URL=\"{}\"\n", url("file")));
    check(None, &[("DATABASE_URL", &shell)], "in front of postgres://app:***@shell:5432/app");
    check(Some(&file), &[], "in front of postgres://app:***@file:5432/app");
    check(Some(&file), &[("DATABASE_URL", &shell)], "in front of postgres://app:***@shell:5432/app");
    // As dotenv-expand, compose files and shells do.
    let parts = "DB_HOST=parts\nDATABASE_URL=\"postgres://app:x@${DB_HOST}:5432/app\"\n";
    check(Some(parts), &[], "in front of postgres://app:***@parts:5432/app");
    check(None, &[("PGHOST", "pg"), ("PGPORT", "6432")], "pg:6432");
    check(Some(&file), &[], "point the application at postgres://app:***@127.0.0.1:");
    let home = TempDir::new().unwrap();
    fs::write(home.path().join(".env"), "POSTGRES_URL=x\n").unwrap();
    let mut command = pgwhy(home.path());
    command.arg("proxy");
    Run::of(command).is_usage(&["DATABASE_URL", ".env does not set it"]);
}

#[test]
fn an_env_file_that_can_not_be_read_is_named() {
    let check = |make: &dyn Fn(&Path), said: &str| {
        let home = TempDir::new().unwrap();
        make(&home.path().join(".env"));
        let mut command = pgwhy(home.path());
        command.arg("proxy");
        Run::of(command).is_usage(&["./.env", said, "--upstream"]);
    };
    check(&|path| fs::create_dir(path).unwrap(), "directory");
    check(&|path| fs::write(path, b"DATABASE_URL=postgres://u:\xff@h/d\n").unwrap(), "not UTF-8");
}

#[test]
fn a_connection_string_that_drivers_read_differently_is_told_and_taken() {
    let home = TempDir::new().unwrap();
    let mut command = pgwhy(home.path());
    command.args(["proxy", "-l", "127.0.0.1:0", "--format", "human", "--upstream"]);
    command.arg(format!("postgres://app:a#{PLANTED}@db.example/app"));
    let told = Proxy::start(command).stop();
    told.says(&["--upstream: the password holds a bare #", "%23"]);
}

#[test]
fn the_password_of_the_env_file_is_what_clients_are_held_against() {
    let home = TempDir::new().unwrap();
    let (server, addr) = refusing_server();
    let file = format!("NAME=x\nDATABASE_URL='postgres://app:{PLANTED}@{addr}/app'\n");
    fs::write(home.path().join(".env"), file).unwrap();
    let mut command = pgwhy(home.path());
    command.args(["proxy", "-l", "127.0.0.1:0"]);
    let proxy = Proxy::start(command);
    log_in(proxy.addr, &format!("\"{PLANTED}\""));
    server.join().unwrap();
    let told = proxy.stop();
    let line = told.out.lines().find(|line| line.contains("handshake")).unwrap();
    let report: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(report["cause"], "password_mismatch", "{line}");
    assert_eq!(report["variant"], "quotes_kept", "{line}");
    assert_eq!(report["confidence"], "proven", "{line}");
    assert!(line.contains("DATABASE_URL of .env, line 2"), "{line}");
}

#[test]
fn the_password_file_comes_before_the_connection_string() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("password"), format!("{PLANTED}\r\nsecond line\n")).unwrap();
    let (server, addr) = refusing_server();
    let mut command = pgwhy(home.path());
    command.args(["proxy", "-l", "127.0.0.1:0", "--password-file", "password"]);
    command.args(["-u", &format!("postgres://app:another@{addr}/app")]);
    let proxy = Proxy::start(command);
    log_in(proxy.addr, &format!("{PLANTED}\n"));
    server.join().unwrap();
    let told = proxy.stop();
    assert!(told.out.contains("\"variant\":\"trailing_newline\""), "{}", told.out);
}

#[test]
fn a_terminal_gets_text_in_colour_and_no_color_takes_the_colour_off() {
    for (no_color, escapes) in [(None, true), (Some("1"), false), (Some(""), true)] {
        let home = TempDir::new().unwrap();
        let (server, addr) = refusing_server();
        let mut command = pgwhy(home.path());
        command.args(["proxy", "-l", "127.0.0.1:0"]);
        command.env("DATABASE_URL", format!("postgres://app:{PLANTED}@{addr}/app"));
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let proxy = Proxy::start_on_terminal(command);
        log_in(proxy.addr, "undefined");
        server.join().unwrap();
        let told = proxy.stop();
        assert!(told.out.contains("literal_undefined"), "{}", told.out);
        assert_eq!(told.out.contains('\x1b'), escapes, "NO_COLOR={no_color:?}: {}", told.out);
    }
}

#[test]
fn a_pipe_gets_no_colour() {
    let home = TempDir::new().unwrap();
    let (server, addr) = refusing_server();
    let mut command = pgwhy(home.path());
    command.args(["proxy", "-l", "127.0.0.1:0", "--format", "human", "-u", &addr.to_string()]);
    let proxy = Proxy::start(command);
    log_in(proxy.addr, PLANTED);
    server.join().unwrap();
    let told = proxy.stop();
    assert!(told.out.contains('✗') && !told.out.contains('\x1b'), "{}", told.out);
}

/// The program in an empty home, with nothing of ours in its environment.
fn pgwhy(home: &Path) -> Command {
    at_home(Command::new(env!("CARGO_BIN_EXE_pgwhy")), home)
}

fn at_home(mut command: Command, home: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("PG") || ["DATABASE_URL", "NO_COLOR"].contains(&&*name_text) {
            command.env_remove(&name);
        }
    }
    command.current_dir(home).env("HOME", home).stdin(Stdio::null());
    command
}

#[track_caller]
fn run(arguments: &[&str]) -> Run {
    let home = TempDir::new().unwrap();
    let mut command = pgwhy(home.path());
    command.args(arguments);
    Run::of(command)
}

/// A run that is over.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn of(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (over, watch) = channel::<()>();
        // What should have been a complaint may be a proxy that runs: that one is ended.
        let watch = std::thread::spawn(move || {
            if watch.recv_timeout(Duration::from_secs(20)) == Err(RecvTimeoutError::Timeout) {
                kill_process(pid, Signal::KILL).unwrap();
            }
        });
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        drop(over);
        watch.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), out: text(stdout), err: text(stderr) }.keeps_secrets()
    }

    #[track_caller]
    fn keeps_secrets(self) -> Self {
        for text in [&self.out, &self.err] {
            assert!(!text.contains(PLANTED), "the planted password is shown:\n{text}");
        }
        self
    }

    #[track_caller]
    fn succeeds(&self) {
        assert_eq!(self.code, Some(0), "{}", self.err);
    }

    #[track_caller]
    fn is_usage(&self, said: &[&str]) {
        assert_eq!(self.code, Some(2), "{}{}", self.out, self.err);
        assert_eq!(self.out, "", "complaints go to standard error");
        self.says(said);
    }

    #[track_caller]
    fn says(&self, said: &[&str]) {
        for word in said {
            assert!(self.err.contains(word), "{word:?} is not in:\n{}", self.err);
        }
    }
}

/// A running `pgwhy proxy`.
struct Proxy {
    child: Child,
    addr: SocketAddr,
    first: String,
    out: BufReader<Box<dyn Read>>,
}

impl Proxy {
    #[track_caller]
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        Self::wait_for_it(child, Box::new(out))
    }

    #[track_caller]
    fn start_on_terminal(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        let child = command.stdout(terminal).stderr(Stdio::piped()).spawn().unwrap();
        // The command holds the terminal's other end: without it the last read would wait for ever.
        drop(command);
        Self::wait_for_it(child, Box::new(File::from(master)))
    }

    #[track_caller]
    fn wait_for_it(mut child: Child, out: Box<dyn Read>) -> Self {
        let mut out = BufReader::new(out);
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let port = first.split("127.0.0.1:").nth(1).map(|rest| {
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>().unwrap()
        });
        let Some(port) = port else {
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("it does not listen: {first}{err}");
        };
        Self { child, addr: SocketAddr::from(([127, 0, 0, 1], port)), first, out }
    }

    /// SIGTERM, and everything that was said.
    #[track_caller]
    fn stop(mut self) -> Run {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut out = self.first.into_bytes();
        // A terminal whose programs are gone ends with an error.
        let _ = self.out.read_to_end(&mut out);
        let status = self.child.wait().unwrap();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(status.success(), "{status}: {err}");
        Run { code: status.code(), out: String::from_utf8(out).unwrap(), err }.keeps_secrets()
    }
}

/// Asks one client for its password in clear, and refuses it.
fn refusing_server() -> (JoinHandle<()>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = move || {
        let (mut client, _) = listener.accept().unwrap();
        packet(&mut client);
        client.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
        client.read_exact(&mut [0]).unwrap();
        packet(&mut client);
        let fields = b"SFATAL\0VFATAL\0C28P01\0Mno\0Rauth_failed\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap();
        client.write_all(&[&b"E"[..], &length.to_be_bytes(), fields].concat()).unwrap();
    };
    (std::thread::spawn(serve), addr)
}

/// Logs in as `app` with a password, and reads until the connection ends.
fn log_in(addr: SocketAddr, password: &str) {
    let mut server = TcpStream::connect(addr).unwrap();
    let startup = b"\0\x03\0\0user\0app\0database\0app\0\0";
    let length = u32::try_from(startup.len() + 4).unwrap();
    server.write_all(&[&length.to_be_bytes()[..], startup].concat()).unwrap();
    server.read_exact(&mut [0; 9]).unwrap();
    let length = u32::try_from(password.len() + 5).unwrap();
    server.write_all(&[&b"p"[..], &length.to_be_bytes(), password.as_bytes(), b"\0"].concat()).unwrap();
    server.read_to_end(&mut Vec::new()).unwrap();
}

/// Reads a length and what follows it.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    body
}
