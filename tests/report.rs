//! `pgwhy report`: pages of real logins, in a real browser, without a secret on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

#[path = "capture/stage.rs"]
#[allow(dead_code, reason = "shared with the tests of captures")]
mod stage;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use md5::{Digest as _, Md5};
use stage::{PASSWORD, log_in, proxy, reports, server, tool};
use support::client::Who;
use support::install;
use support::keeper::Scratch;
use support::server::Version;

/// Runs `pgwhy report`; what it wrote to standard output and standard error, and its exit code.
fn report(args: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwhy"));
    command.env_clear().env("HOME", "/nonexistent").arg("report").args(args).stdin(Stdio::null());
    let output = command.output().expect("pgwhy can be run");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// Logins of every method and outcome, with their secrets: the server's port too.
fn capture(file: &Path) -> u16 {
    let server = server(Version::V15);
    let mut proxy = proxy(&server, file, &["--keep-secrets"]);
    let mut count = 0;
    for user in ["scram", "md5", "password"] {
        for password in sent() {
            log_in(&proxy, Who::Psql, user, &password);
            count += 1;
        }
    }
    for user in ["trusted", "rejected", "<b>nobody\u{202e}</b>"] {
        log_in(&proxy, Who::Psql, user, PASSWORD);
        count += 1;
    }
    reports(&mut proxy, count);
    server.port
}

fn sent() -> [String; 3] {
    [PASSWORD.into(), format!("\"{PASSWORD}\""), PASSWORD.to_uppercase()]
}

#[test]
fn a_page_of_a_capture_with_secrets_has_none() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    capture(&file);
    let name = file.display().to_string();
    let mut forms: Vec<String> = ["Pl4nted", "pl4nted", "PL4NTED"].map(String::from).into();
    for text in sent() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        forms.extend([hex(text.as_bytes()), STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)]);
        forms.push(hex(&Md5::digest(format!("{text}md5"))));
    }
    // Context given: everything is diagnosed anew, with the secrets at hand.
    let password = dir.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let password = password.display().to_string();
    for more in [vec![], vec!["--password-file", &password]] {
        for format in ["html", "markdown"] {
            let (page, log, code) = report(&[&["--format", format, &name], more.as_slice()].concat());
            assert_eq!(code, Some(0), "{log}");
            assert!(page.contains("quotes_kept") && page.contains("SCRAM client-final"), "{format}: {page}");
            for form in &forms {
                assert!(!page.contains(form.as_str()) && !log.contains(form.as_str()), "{format}: {form}");
            }
            // A proof or a signature is 44 characters of base64, an MD5 response `md5` and 32 digits.
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            let proof = page.split(|c| !word(c)).find(|word| word.len() == 44 && word.ends_with('='));
            assert_eq!(proof, None, "{format}");
            let digits = |rest: &str| rest.len() > 32 && rest.bytes().take(32).all(|b| b.is_ascii_hexdigit());
            assert!(!page.match_indices("md5").any(|(at, _)| digits(&page[at + 3..])), "{format}");
        }
    }
}

#[test]
fn the_filter_on_the_page_finds_the_login_and_its_verdict() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let port = capture(&file).to_string();
    let name = file.display().to_string();
    let plain = dir.path().join("plain.pcap").display().to_string();
    tool("tshark", &["-r", &name, "-Y", "tcp", "-F", "pcap", "-w", &plain]);
    for (name, user, mark) in [(&name, "scram", "28P01"), (&plain, "rejected", "28000")] {
        let (page, log, _) =
            report(&["--format", "markdown", "--failed", "--user", user, "--port", &port, name]);
        let line = |begin: &str| {
            let found = page.lines().find_map(|line| line.strip_prefix(begin)).map(str::trim);
            found.unwrap_or_else(|| panic!("{begin}: {page}{log}"))
        };
        let show = |filter: &str| {
            let decode = format!("tcp.port=={port},pgsql");
            let fields = ["-T", "fields", "-e", "tcp.stream", "-e", "pgsql.code", "-e", "tcp.flags.syn"];
            let text =
                tool("tshark", &[&["-r", name, "-d", &decode, "-Y", filter], fields.as_slice()].concat());
            text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect::<Vec<Vec<_>>>()
        };
        let frames = show(line("filter:"));
        let mut streams: Vec<_> = frames.iter().map(|frame| &frame[0]).collect();
        streams.sort();
        streams.dedup();
        assert_eq!(streams.len(), if user == "scram" { 2 } else { 1 }, "{frames:?}");
        assert!(frames[0][2] != "0", "it begins with a SYN: {frames:?}");
        let verdict = show(line("the verdict:"));
        assert!(verdict.iter().any(|frame| frame[1] == mark), "{name}: {verdict:?}");
    }
}

/// A pair of ports is used again: in a capture of days that is another login.
#[test]
fn the_filter_finds_no_later_login_from_the_same_port() {
    let dir = Scratch::new();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let port = capture(&dir.path().join("x.pcapng")).to_string();
    tool("tshark", &["-r", &path("x.pcapng"), "-Y", "tcp", "-F", "pcap", "-w", &path("early.pcap")]);
    tool("editcap", &["-t", "60", &path("early.pcap"), &path("late.pcap")]);
    tool("mergecap", &["-w", &path("both.pcapng"), &path("early.pcap"), &path("late.pcap")]);
    let args = ["--format", "markdown", "--failed", "--user", "rejected", "--port", &port];
    let (page, log, _) = report(&[&args[..], &[&path("both.pcapng")]].concat());
    let filters: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("filter:")).collect();
    assert_eq!(filters.len(), 2, "{page}{log}");
    let streams = |filter: &str| {
        let text =
            tool("tshark", &["-r", &path("both.pcapng"), "-Y", filter, "-T", "fields", "-e", "tcp.stream"]);
        text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let (first, second) = (streams(filters[0].trim()), streams(filters[1].trim()));
    assert_eq!((first.len(), second.len()), (1, 1), "{filters:?}");
    assert_ne!(first, second, "{filters:?}");
}

#[test]
fn names_of_files_decide_and_nothing_is_overwritten_that_is_read() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    capture(&file);
    let before = std::fs::read(&file).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let name = file.display().to_string();
    let link = path("link.html");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let rows: [(&[&str], i32, &str); 9] = [
        (&["-o", &path("a.html"), &name], 0, "8 failed"),
        (&["-o", &path("a.md"), &name], 0, "8 failed"),
        (&["-o", &path("a.pdf"), &name], 2, "--format"),
        (&["-o", &path("b.pdf"), "--format", "md", &name], 0, ""),
        (&["-o", &name, "--format", "html", &name], 2, "that is the capture"),
        (&["-o", &link, &name], 2, "that is the capture"),
        (&["-o", &path("none/a.html"), &name], 2, "No such file"),
        (&["-o", &path("c.html"), &name, "/nonexistent.pcap"], 2, "No such file"),
        // Nothing could be read: the page that is there stays.
        (&["-o", &path("a.html"), "/nonexistent.pcap"], 2, "No such file"),
    ];
    for (args, code, said) in rows {
        let (_, log, exit) = report(args);
        assert!(exit == Some(code) && log.contains(said), "{args:?}: {exit:?} {log}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert!(
        read("a.html").starts_with("<!doctype html>")
            && read("a.html").contains("<svg")
            && read("a.md").starts_with("# ")
    );
    assert!(read("b.pdf").starts_with("# ") && read("c.html").contains("<svg"));
    // Which logins are on it.
    let count = |args: &[&str]| {
        let page = report(&[&["--format", "html", &name], args].concat()).0;
        page.matches("<article").count()
    };
    let rows: [(&[&str], usize); 5] = [
        (&[], 12),
        (&["--failed"], 8),
        (&["--user", "md5"], 3),
        (&["--cause", "hba_reject"], 1),
        (&["--login", "1"], 1),
    ];
    for (args, wanted) in rows {
        assert_eq!(count(args), wanted, "{args:?}");
    }
}

/// What a browser finds in a page at this width: how much wider it is than the window, and what it fetched.
fn in_browser(dir: &Scratch, pages: &[(PathBuf, u32)]) -> Vec<String> {
    let mut frames = String::new();
    for (at, (page, width)) in pages.iter().enumerate() {
        let page = page.display();
        frames.push_str(&format!(
            "<iframe id=f{at} src=\"file://{page}\" style=\"width:{width}px;height:900px;border:0\"></iframe>"
        ));
    }
    let script = "onload = () => { for (const f of document.querySelectorAll('iframe')) { const w = f.contentWindow, d = w.document, \
        e = d.documentElement; document.body.append('«' + [f.id, d.querySelectorAll('article').length, \
        e.scrollWidth - e.clientWidth, w.performance.getEntriesByType('resource').length, \
        d.scripts.length, [...d.querySelectorAll('svg text')].every(t => t.getBoundingClientRect().height > 9)].join(' ') + '»') } }";
    let wrapper = dir.path().join("wrapper.html");
    std::fs::write(&wrapper, format!("<!doctype html><body>{frames}<script>{script}</script>")).unwrap();
    let program = install::need("chromium", "apt-get install chromium");
    let profile = dir.path().join("profile").display().to_string();
    let output = Command::new(program)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .args(["--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={profile}"))
        .arg(&wrapper)
        .env("HOME", dir.path())
        .output()
        .expect("chromium runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<String> =
        text.split("«f").skip(1).filter_map(|rest| Some(rest.split_once('»')?.0.to_owned())).collect();
    assert_eq!(found.len(), pages.len(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    found
}

#[test]
fn a_browser_shows_it_on_a_phone_and_on_a_screen_and_fetches_nothing() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    capture(&file);
    let name = file.display().to_string();
    let page = |name: &str, args: &[&str]| {
        let path = dir.path().join(name);
        let out = path.display().to_string();
        assert_eq!(report(&[&["-o", &out], args].concat()).2, Some(0));
        path
    };
    let (all, one) = (page("all.html", &[&name]), page("one.html", &["--login", "1", &name]));
    let pages = [(all.clone(), 390), (all, 1280), (one.clone(), 390), (one, 1280)];
    // Articles, pixels too wide, things fetched, scripts, whether the picture can be read.
    let wanted = ["0 12 0 0 0 true", "1 12 0 0 0 true", "2 1 0 0 0 true", "3 1 0 0 0 true"];
    assert_eq!(in_browser(&dir, &pages), wanted);
}
