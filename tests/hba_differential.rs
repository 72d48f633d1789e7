//! pg_hba.conf held against real servers: random files and random logins, the same answer from pgwhy and
//! from PostgreSQL 15 and 18.
//!
//! `PGWHY_HBA_PAIRS` sets how many (file, login) pairs each version gets (300), `PGWHY_HBA_SEED` the seed.
#![allow(unreachable_pub, reason = "the test's own modules")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "hba/draw.rs"]
mod draw;
#[path = "hba/login.rs"]
mod login;
mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use draw::Draw;
use login::{Control, Seen};
use pgwhy::hba::{
    self, Address, ClientCert, ClientName, Connection, FileError, Files, HbaFile, IdentFile, Interface,
    Method, Rule, Server as Settings, Verdict, World,
};
use rustix::process::Signal;
use support::server::{Plan, Server, Version, has_ipv6};

#[test]
fn postgresql_15_decides_as_we_do() {
    compare(Version::V15);
}

#[test]
fn postgresql_18_decides_as_we_do() {
    compare(Version::V18);
}

/// Logins with one file.
const LOGINS: usize = 15;

/// Files of which only the reading is compared, for each that is used for logins.
const READ_ONLY: usize = 4;

fn compare(version: Version) {
    let pairs = number("PGWHY_HBA_PAIRS", 300);
    let seed = u64::try_from(number("PGWHY_HBA_SEED", 20_261_121)).unwrap();
    let mut bench = Bench::start(version);
    let (text, logins) = draw::pinned(bench.settings.version);
    bench.write(&[("pg_hba.conf".to_owned(), text), ("pg_ident.conf".to_owned(), String::new())].into());
    bench.compare_reading();
    bench.reload();
    assert!(bench.hba.would_load, "{:?}", bench.hba.problems);
    bench.compare_logins(&logins);
    let (mut done, mut read) = (0, 0);
    let mut round = 0;
    while done < pairs {
        let mut draw = Draw::new(seed.wrapping_mul(1_000_003).wrapping_add(round), bench.settings.version);
        for _ in 0..READ_ONLY {
            bench.write(&draw.files(true));
            bench.compare_reading();
            read += 1;
        }
        bench.write(&draw.files(false));
        bench.compare_reading();
        bench.reload();
        let logins: Vec<_> = (0..LOGINS.min(pairs - done)).map(|_| bench.draw_login(&mut draw)).collect();
        bench.compare_logins(&logins);
        done += logins.len();
        round += 1;
        read += 1;
    }
    println!("{version:?}: {done} logins under {round} files, {read} files read, {:?}", bench.tally);
    assert!(
        bench.differences.is_empty(),
        "{} differences\n{}",
        bench.differences.len(),
        bench.differences.concat()
    );
    assert!(bench.tally.len() >= 12, "the draw is too narrow: {:?}", bench.tally);
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A server, and what pgwhy makes of its files.
struct Bench {
    server: Server,
    control: Control,
    settings: Settings,
    ipv6: bool,
    /// What is written in the data directory, by name.
    files: BTreeMap<String, String>,
    hba: HbaFile,
    ident: IdentFile,
    /// The last ones that the server took.
    hba_in_force: HbaFile,
    ident_in_force: IdentFile,
    text_in_force: String,
    names: BTreeMap<IpAddr, ClientName>,
    world: World,
    log_read: usize,
    markers: usize,
    tally: BTreeMap<String, usize>,
    differences: Vec<String>,
}

impl Bench {
    fn start(version: Version) -> Self {
        let plan = Plan {
            tls: true,
            sql: draw::ROLES_SQL.to_owned(),
            conf: "log_min_messages = log\nrestart_after_crash = off\n".to_owned(),
            ..Plan::default()
        };
        let server = Server::start(version, &plan);
        let mut control = Control::open(&server);
        let settings = built(version, &server, &mut control);
        let own = |address: &str, mask: &str| Interface {
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
        };
        let interfaces =
            vec![own("127.0.0.1", "255.0.0.0"), own("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        let world = World { roles: draw::roles(), interfaces: Some(interfaces), ..World::default() };
        let start = "local all postgres trust\n".to_owned();
        Self {
            hba_in_force: hba::parse_text("start", &start, &settings),
            ident_in_force: IdentFile { version: settings.version, would_load: true, ..IdentFile::default() },
            text_in_force: start,
            hba: HbaFile::default(),
            ident: IdentFile::default(),
            files: BTreeMap::new(),
            ipv6: has_ipv6(),
            names: BTreeMap::new(),
            log_read: 0,
            markers: 0,
            tally: BTreeMap::new(),
            differences: Vec::new(),
            server,
            control,
            settings,
            world,
        }
    }

    /// Draws a login; most of those that no line matches are drawn again.
    fn draw_login(&self, draw: &mut Draw) -> Connection {
        loop {
            let login = draw.login(self.ipv6);
            let decision = hba::decide(&self.hba_in_force, &login, &self.world);
            if decision.verdict != Verdict::NoEntry || draw.percent(4) {
                return login;
            }
        }
    }

    /// Writes the files where the server reads them, and reads them ourselves.
    fn write(&mut self, files: &BTreeMap<String, String>) {
        let data = self.server.data();
        for old in self.files.keys() {
            std::fs::remove_file(data.join(old)).unwrap();
        }
        std::fs::create_dir_all(data.join("hba.d")).unwrap();
        support::server::give_to_postgres(&data.join("hba.d"));
        for (name, text) in files {
            std::fs::write(data.join(name), text).unwrap();
            support::server::give_to_postgres(&data.join(name));
        }
        self.files = files.clone();
        (self.hba, self.ident) = read(&data, &self.settings);
    }

    /// Holds our reading of the files against the server's views.
    fn compare_reading(&mut self) {
        let of_server = self.control.hba_rows(self.settings.version >= 16);
        let of_ours = rows(&self.hba);
        let refused = of_ours.iter().filter(|row| row.ends_with("refused")).count();
        self.count("lines refused", refused);
        self.count("lines taken", of_ours.len() - refused);
        // Where files include each other in a circle, PostgreSQL looks at an errno that some earlier failure
        // left behind, and include_if_exists may or may not complain: only the refusal is compared.
        let circle = self.hba.problems.iter().any(|problem| problem.id == "include_depth");
        if circle {
            self.count("circles", 1);
            if !of_server.iter().any(|row| row.ends_with("refused")) {
                self.differ("a circle of inclusions is not refused");
            }
        } else if of_server != of_ours {
            let differing: Vec<_> = of_server.iter().filter(|row| !of_ours.contains(row)).collect();
            let ours: Vec<_> = of_ours.iter().filter(|row| !of_server.contains(row)).collect();
            self.differ(&format!("pg_hba_file_rules only: {differing:#?}\npgwhy only: {ours:#?}"));
        }
        self.count("map lines", self.ident.mappings.len());
        let of_server = self.control.ident_rows();
        let mut of_ours: Vec<_> = self.ident.mappings.iter().map(|m| m.at.line.to_string()).collect();
        of_ours.extend(self.ident.problems.iter().map(|p| format!("{} refused", p.place.line)));
        of_ours.sort();
        if of_server != of_ours {
            self.differ(&format!("pg_ident_file_mappings: {of_server:?}\npgwhy: {of_ours:?}"));
        }
    }

    fn reload(&mut self) {
        self.server.signal(Signal::HUP);
        // The postmaster handles its signals before it accepts the next connection.
        login::poke(&self.server);
        self.mark();
        let log = self.take_log();
        self.count("files refused", usize::from(!self.hba.would_load));
        let refused =
            |file: &str| log.iter().any(|line| line.contains("was not reloaded") && line.contains(file));
        if refused("pg_hba.conf") == self.hba.would_load {
            self.differ(&format!("would_load is {}, the log says:\n{}", self.hba.would_load, log.join("\n")));
        }
        if refused("pg_ident.conf") == self.ident.would_load {
            self.differ(&format!(
                "pg_ident.conf: would_load is {}:\n{}",
                self.ident.would_load,
                log.join("\n")
            ));
        }
        if !refused("pg_hba.conf") {
            self.hba_in_force = self.hba.clone();
            self.text_in_force = format!("{:?}", self.files);
        }
        if !refused("pg_ident.conf") {
            self.ident_in_force = self.ident.clone();
        }
    }

    /// Waits until everything that was logged so far has arrived.
    fn mark(&mut self) {
        self.markers += 1;
        let marker = format!("marker {} of this run", self.markers);
        self.control.query(&format!("do $$ begin raise log '{marker}'; end $$"));
        assert!(self.server.wait_log(|line| line.ends_with(&marker)), "{}", self.server.log_text());
    }

    fn take_log(&mut self) -> Vec<String> {
        let lines = self.server.log_lines(self.log_read);
        self.log_read += lines.len();
        lines
    }

    fn compare_logins(&mut self, logins: &[Connection]) {
        let seen: Vec<Seen> = logins.iter().map(|login| login::log_in(&self.server, login)).collect();
        self.mark();
        let log = self.take_log();
        let lines = login::matched_lines(&log);
        assert_eq!(
            lines.len(),
            logins.len(),
            "one «connection received» for each login:\n{}",
            log.join("\n")
        );
        for ((login, seen), line) in logins.iter().zip(&seen).zip(lines) {
            self.compare_login(login, seen, line);
        }
    }

    fn compare_login(&mut self, login: &Connection, seen: &Seen, line: Option<(Option<String>, usize)>) {
        let mut world = self.world.clone();
        if let Some(address) = login.address {
            world.client_name = self.names.entry(address).or_insert_with(|| name_of(address)).clone();
        }
        let decision = hba::decide(&self.hba_in_force, login, &world);
        let rule = decision.line.as_ref().and_then(|at| self.hba_in_force.rule(at)).cloned();
        self.count(&format!("{:?}", decision.verdict), 1);
        self.count("lines named by the log", usize::from(line.is_some()));
        self.count("over TLS", usize::from(login.tls));
        self.count("over IPv6", usize::from(login.address.is_some_and(|address| address.is_ipv6())));
        self.count("over the socket", usize::from(login.kind == hba::Kind::Local));
        let mut wrong = Vec::new();
        if !decision.certain {
            // Beyond this program: then it says so, and that is no difference.
            self.count("uncertain", 1);
            return;
        }
        if !fits(decision.verdict, seen) {
            wrong.push(format!("the server: {seen:?}"));
        }
        if let (Some((file, number)), Some(at)) = (&line, &decision.line)
            && (*number != at.line || file.as_ref().is_some_and(|file| **file != *at.file))
        {
            wrong.push(format!("the server matched {file:?} line {number}"));
        }
        if let Some(rule) = rule.filter(|rule| rule.method == Method::Peer) {
            let me = rustix::process::getuid();
            let me = if me.is_root() { "root".to_owned() } else { user_name(me.as_raw()) };
            let mapped = self.ident_in_force.check(rule.option("map"), &login.user, &me, false, &world);
            self.count(&format!("mapped {}", mapped.allowed), 1);
            if mapped.missing.is_empty() && mapped.allowed != seen.let_in {
                wrong.push(format!("the map says {mapped:?}, the server {seen:?}"));
            }
        }
        if !wrong.is_empty() {
            let text = format!("{login:?}\n{decision:#?}\n{}\n{}", wrong.join("\n"), self.text_in_force);
            self.differ(&text);
        }
    }

    fn count(&mut self, what: &str, more: usize) {
        *self.tally.entry(what.to_owned()).or_default() += more;
    }

    fn differ(&mut self, what: &str) {
        let files: String = self.files.iter().map(|(name, text)| format!("--- {name}\n{text}\n")).collect();
        self.differences.push(format!("==== {:?}\n{what}\n{files}", self.settings.version));
        assert!(self.differences.len() < 5, "{}", self.differences.concat());
    }
}

/// What this server was built with, by its own word.
fn built(version: Version, server: &Server, control: &mut Control) -> Settings {
    let mut settings = Settings::of_version(if version == Version::V15 { 15 } else { 18 });
    settings.ssl = Some(true);
    settings.oauth_validators = Some(Vec::new());
    let probe =
        "host all all all gss\nlocal all all pam\nlocal all all ldap ldapprefix=x\nlocal all all bsd\n";
    let path = server.data().join("pg_hba.conf");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, probe).unwrap();
    let rows = control.hba_rows(settings.version >= 16);
    std::fs::write(&path, before).unwrap();
    let has =
        |line: usize| rows.iter().any(|row| row.contains(&format!(":{line} ")) && !row.contains("refused"));
    (settings.gss, settings.pam, settings.ldap, settings.bsd) = (has(1), has(2), has(3), has(4));
    settings
}

fn read(data: &Path, settings: &Settings) -> (HbaFile, IdentFile) {
    let contents = |path: &Path| std::fs::read(path).map_err(|error| FileError::from(&error));
    let list = |path: &Path| {
        let entries = std::fs::read_dir(path).map_err(|error| FileError::from(&error))?;
        Ok(entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect())
    };
    let files = Files { read: &contents, list: &list };
    let path = |name: &str| data.join(name);
    (
        hba::parse(&path("pg_hba.conf"), &files, settings),
        hba::parse_ident(&path("pg_ident.conf"), &files, settings),
    )
}

/// Our reading in the form of the server's view: one text a line, sorted.
fn rows(file: &HbaFile) -> Vec<String> {
    let with_names = file.version >= 16;
    let at = |at: &hba::RuleRef| {
        let name = if with_names { at.file.to_string() } else { String::new() };
        format!("{name}:{}", at.line)
    };
    let mut rows: Vec<String> =
        file.rules.iter().map(|rule| format!("{} {}", at(&rule.at), row(rule))).collect();
    rows.extend(file.refused.iter().map(|line| format!("{} refused", at(line))));
    rows.sort();
    rows
}

fn row(rule: &Rule) -> String {
    let words =
        |list: &[hba::Pattern]| list.iter().map(|p| p.token.text.clone()).collect::<Vec<_>>().join("|");
    let (address, mask) = match &rule.address {
        None => (String::new(), String::new()),
        Some(Address::Net { address, mask }) => (address.to_string(), mask.to_string()),
        Some(address) => (address.to_string(), String::new()),
    };
    let map = rule.option("map").map(|map| format!("map={map}")).unwrap_or_default();
    let cert = match rule.client_cert {
        ClientCert::Off => "",
        ClientCert::VerifyCa => "clientcert=verify-ca",
        ClientCert::VerifyFull => "clientcert=verify-full",
    };
    let kind = rule.kind.as_str();
    let (databases, users) = (words(&rule.databases), words(&rule.users));
    format!("{kind} [{databases}] [{users}] {address} {mask} {} {map} {cert}", rule.method)
}

fn fits(verdict: Verdict, seen: &Seen) -> bool {
    let error = |text: &str| seen.error.contains(text);
    match verdict {
        Verdict::NoEntry => seen.asked.is_empty() && error("no pg_hba.conf entry"),
        Verdict::Reject => seen.asked.is_empty() && error("pg_hba.conf rejects"),
        Verdict::Trust => seen.asked.is_empty() && seen.let_in,
        Verdict::Asks(Method::Password | Method::Ldap | Method::Radius) => seen.asked == [3],
        // The machine's PAM configuration may refuse before it asks for anything.
        Verdict::Asks(Method::Pam) => seen.asked == [3] || error("PAM authentication failed"),
        Verdict::Asks(Method::Gss) => seen.asked == [7],
        Verdict::Asks(Method::Md5) => matches!(seen.asked[..], [5] | [10, ..]),
        Verdict::Asks(Method::ScramSha256) => seen.asked.first() == Some(&10),
        Verdict::Asks(Method::Ident) => seen.asked.is_empty() && error("Ident authentication failed"),
        Verdict::Asks(Method::Peer) => {
            seen.asked.is_empty() && (seen.let_in || error("Peer authentication failed"))
        }
        Verdict::Asks(Method::Cert) => seen.asked.is_empty() && error("valid client certificate"),
        Verdict::Asks(_) => false,
    }
}

/// The name and addresses that the machine's resolver finds, as the server asks it.
fn name_of(address: IpAddr) -> ClientName {
    let ask = |database: &str, key: &str| {
        let output = Command::new("getent").args([database, key]).output().expect("getent");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let reverse = ask("hosts", &address.to_string());
    let Some(name) = reverse.split_whitespace().nth(1).map(str::to_owned) else {
        return ClientName::Nameless;
    };
    let forward = ask("ahosts", &name);
    let addresses = forward.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    ClientName::Named { name, addresses: Some(addresses) }
}

fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    entry.and_then(|line| line.split(':').next()).expect("this user has a name").to_owned()
}
