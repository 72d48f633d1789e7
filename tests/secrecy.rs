//! A planted password never appears in any output, in any form, whatever the method, the format and
//! the level of the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test has no public face")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use md5::{Digest as _, Md5};
use support::client::{Login, Who};
use support::proxy::Proxy;
use support::server::{Plan, Server, Version};

/// Has what tempts a program to print, cut or encode it.
const PLANTED: &str = "Pl4nted#s3cret%2F$x";

const METHODS: [&str; 3] = ["password", "md5", "scram-sha-256"];

fn server() -> Server {
    let mut hba = String::new();
    let mut sql = String::from("SET password_encryption = 'md5';\n");
    for method in METHODS {
        let user = user(method);
        hba.push_str(&format!("host all {user} 127.0.0.1/32 {method}\n"));
        if method == "scram-sha-256" {
            sql.push_str("SET password_encryption = 'scram-sha-256';\n");
        }
        sql.push_str(&format!("CREATE ROLE {user} LOGIN PASSWORD '{PLANTED}';\n"));
    }
    Server::start(Version::V15, &Plan { hba, sql, ..Plan::default() })
}

fn user(method: &str) -> &str {
    method.split('-').next().unwrap_or(method)
}

/// What a client may send: the right one, mistakes in it, another one, and a token that holds it.
fn sent() -> Vec<String> {
    let token =
        format!("eyJhbGciOiJub25lIn0.{}.{}", URL_SAFE_NO_PAD.encode(r#"{"exp":1000000000}"#), PLANTED);
    vec![
        PLANTED.into(),
        format!("\"{PLANTED}\""),
        PLANTED.replace('#', "%23"),
        PLANTED.to_uppercase(),
        format!("{PLANTED}\r"),
        format!("not {PLANTED}"),
        token,
    ]
}

/// Every form in which the secret could be printed.
fn forms(user: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for text in sent() {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let md5: String =
            Md5::digest(format!("{text}{user}")).iter().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([hex, STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text), md5]);
    }
    forms.extend(["Pl4nted".into(), "pl4nted".into(), "PL4NTED".into()]);
    forms
}

/// A SCRAM proof is 32 bytes: 44 characters of base64. Nothing else in a report looks like that.
fn proofs(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    text.split(|c| !part(c)).filter(|word| word.len() == 44 && word.ends_with('=')).collect()
}

/// The start of an MD5 response, with its 32 digits behind it.
fn md5_responses(text: &str) -> usize {
    let is_response =
        |rest: &str| rest.len() >= 32 && rest.bytes().take(32).all(|byte| byte.is_ascii_hexdigit());
    text.match_indices("md5").filter(|(at, _)| is_response(&text[at + 3..])).count()
}

fn check(format: &str, upstream: impl Fn(&Server) -> String) {
    let server = server();
    let arguments = ["--format", format].map(String::from);
    let mut proxy = Proxy::start_logging(&upstream(&server), &arguments, "trace");
    for method in METHODS {
        for password in sent() {
            let login = Login {
                user: user(method).into(),
                password: Some(password),
                database: Some("postgres".into()),
                ..Login::default()
            };
            Who::Psql.log_in(proxy.addr, &login);
        }
    }
    let wanted = METHODS.len() * sent().len();
    let mark = if format == "json" { "\"handshake\"" } else { " from 127.0.0.1" };
    assert!(
        proxy.wait_lines(|lines| lines.iter().filter(|line| line.contains(mark)).count() >= wanted),
        "{format}"
    );
    let text = proxy.finish().join("\n") + &proxy.stderr();
    for method in METHODS {
        for form in forms(user(method)) {
            assert!(!text.contains(&form), "{format}: {method}: {form}");
        }
    }
    assert_eq!(proofs(&text), Vec::<&str>::new(), "{format}: a SCRAM proof");
    assert_eq!(md5_responses(&text), 0, "{format}: an MD5 response");
}

#[test]
fn nothing_leaks_when_the_password_is_expected() {
    for format in ["json", "human"] {
        check(format, |server| {
            let password = PLANTED.replace('%', "%25").replace('#', "%23").replace('$', "%24");
            format!("postgresql://:{password}@127.0.0.1:{}/postgres", server.port)
        });
    }
}

#[test]
fn nothing_leaks_when_no_password_is_expected() {
    for format in ["json", "human"] {
        check(format, |server| format!("127.0.0.1:{}", server.port));
    }
}

/// A program that swaps user and password sends the password in clear, and the server repeats it.
#[test]
fn a_password_in_the_users_place_is_not_repeated() {
    let server = server();
    let password = PLANTED.replace('%', "%25").replace('#', "%23").replace('$', "%24");
    let upstream = format!("postgresql://scram:{password}@127.0.0.1:{}/postgres", server.port);
    for format in ["json", "human"] {
        let dir = support::keeper::Scratch::new();
        let capture = dir.path().join("login.pcapng");
        let arguments = ["--format", format, "--capture", capture.to_str().unwrap()].map(String::from);
        let mut proxy = Proxy::start_logging(&upstream, &arguments, "trace");
        let swapped = Login {
            user: PLANTED.into(),
            password: Some("scram".into()),
            database: Some("postgres".into()),
            ..Login::default()
        };
        assert!(!Who::Psql.log_in(proxy.addr, &swapped).ok);
        let text = proxy.finish().join("\n") + &proxy.stderr();
        assert!(!text.contains(PLANTED), "{format}: {text}");
        assert!(text.contains("the two are swapped"), "{format}: {text}");
        let captured = std::fs::read(capture).unwrap();
        let holds = |word: &str| captured.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(holds("user\0*****") && holds("28000"), "{}", String::from_utf8_lossy(&captured));
        assert!(!holds(PLANTED), "{}", String::from_utf8_lossy(&captured));
    }
}

/// Beside the user's name: some servers and poolers read passwords from `options`.
#[test]
fn a_password_in_options_is_not_shown_among_the_differences() {
    let server = server();
    for format in ["json", "human"] {
        let arguments = ["--format", format].map(String::from);
        let mut proxy = Proxy::start_logging(&format!("127.0.0.1:{}", server.port), &arguments, "trace");
        let login = |options: &str, password: &str| Login {
            user: "scram".into(),
            password: Some(password.into()),
            database: Some("postgres".into()),
            options: vec![("options", options.into())],
            ..Login::default()
        };
        assert!(Who::Psql.log_in(proxy.addr, &login("-cgeqo=off", PLANTED)).ok);
        assert!(!Who::Psql.log_in(proxy.addr, &login("-cmy.password=Pl4nted", "wrong")).ok);
        let text = proxy.finish().join("\n") + &proxy.stderr();
        assert!(text.contains("-cmy.password=*******"), "{format}: {text}");
        assert!(!text.contains("Pl4nted"), "{format}: {text}");
    }
}
