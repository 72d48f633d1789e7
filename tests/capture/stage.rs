//! A server with every method, and the tools that open captures.

use std::path::Path;
use std::process::Command;

use pgwhy::capture::facts::Facts;
use serde_json::Value;

use super::support::client::{Login, Who};
use super::support::install;
use super::support::proxy::Proxy;
use super::support::server::{Plan, Server, Version};

/// The right password of every role.
pub const PASSWORD: &str = "Pl4nted#s3cret%2F$x";

/// A server whose roles are called by their methods.
pub fn server(version: Version) -> Server {
    let hba = "host all md5 all md5\nhost all password all password\nhost all scram all scram-sha-256\n\
               host all trusted all trust\nhost all rejected all reject\n";
    let mut sql = format!(
        "SET password_encryption = 'md5';\nCREATE ROLE md5 LOGIN PASSWORD '{PASSWORD}';\n\
         SET password_encryption = 'scram-sha-256';\nCREATE ROLE trusted LOGIN;\nCREATE ROLE rejected LOGIN;\n"
    );
    for role in ["password", "scram"] {
        sql.push_str(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';\n"));
    }
    Server::start(version, &Plan { hba: hba.into(), sql, tls: true, ..Plan::default() })
}

/// One login; the database is there.
pub fn log_in(proxy: &Proxy, who: Who, user: &str, password: &str) {
    let login = Login {
        user: user.into(),
        password: Some(password.into()),
        database: Some("postgres".into()),
        ..Login::default()
    };
    who.log_in(proxy.addr, &login);
}

/// The proxy with a capture; it expects the right password.
pub fn proxy(server: &Server, capture: &Path, more: &[&str]) -> Proxy {
    let password = PASSWORD.replace('%', "%25").replace('#', "%23").replace('$', "%24");
    let upstream = format!("postgresql://:{password}@127.0.0.1:{}/postgres", server.port);
    let mut args = vec!["--capture".to_owned(), capture.display().to_string()];
    args.extend(more.iter().map(|word| (*word).to_owned()));
    Proxy::start(&upstream, &args)
}

/// Runs one of Wireshark's programs on a file; it must succeed and find nothing wrong.
pub fn tool(name: &str, args: &[&str]) -> String {
    let program = install::need(name, "apt-get install tshark");
    let output = Command::new(program).args(args).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaint = error.lines().find(|line| !line.contains("Running as user") && !line.trim().is_empty());
    assert!(output.status.success() && complaint.is_none(), "{name} {args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The blocks of a file, by type; they must be whole.
pub fn blocks(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let size = word(at + 4) as usize;
        assert_eq!(word(at + size - 4) as usize, size, "the two lengths of a block at {at}");
        found.push((word(at), &bytes[at + 8..at + size - 4]));
        at += size;
    }
    found
}

/// The facts of every login in a file.
pub fn facts(file: &Path) -> Vec<Facts> {
    let bytes = std::fs::read(file).expect("the capture");
    let customs = blocks(&bytes).into_iter().filter(|(kind, _)| *kind == 0xbad);
    customs.map(|(_, body)| Facts::from_json(&body[4..]).expect("facts")).collect()
}

/// The reports of a run, once there are so many.
pub fn reports(proxy: &mut Proxy, count: usize) -> Vec<Value> {
    let found = proxy.wait_handshakes(count, super::support::DEADLINE);
    assert_eq!(found.len(), count, "{found:#?}\n{}", proxy.stderr());
    proxy.finish();
    found
}
