//! No capture holds a secret, whatever the method; and what is kept on demand says so.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::stage::{PASSWORD, log_in, proxy, reports, server, tool};
use super::support::client::Who;
use super::support::keeper::Scratch;
use super::support::peer::{V3, Wire};
use super::support::server::Version;

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzZWNyZXQiOiJUMGtlbiJ9.c2lnbmF0dXJl";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every form of some bytes that a file could hold.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![bytes.to_vec(), hex(bytes).into_bytes(), hex(bytes).to_uppercase().into_bytes()];
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        forms.push(engine.encode(bytes).into_bytes());
    }
    forms
}

fn holds(file: &[u8], secret: &[u8]) -> bool {
    file.windows(secret.len()).any(|part| part == secret)
}

/// The texts that clients send as passwords, here and there.
fn sent() -> Vec<String> {
    vec![PASSWORD.into(), format!("\"{PASSWORD}\""), PASSWORD.to_uppercase(), format!("{PASSWORD}\r")]
}

/// Every SCRAM proof, MD5 response and key that tshark finds in a capture, and everything else that it
/// takes for a password.
fn dissected(file: &std::path::Path, port: u16) -> Vec<String> {
    let decode = format!("tcp.port=={port},pgsql");
    let name = file.display().to_string();
    let mut args = vec!["-r", &name, "-d", &decode, "-Y", "pgsql", "-T", "fields"];
    for field in ["pgsql.password", "pgsql.auth.sasl.data", "pgsql.key", "pgsql.auth.gssapi_sspi.data"] {
        args.extend(["-e", field]);
    }
    tool("tshark", &args).split_whitespace().map(str::to_owned).collect()
}

/// Logs in by every method, rightly and wrongly; also a cancel request and a token for a server that
/// never asked.
fn everything(file: &std::path::Path, more: &[&str]) -> u16 {
    let server = server(Version::V15);
    let mut proxy = proxy(&server, file, more);
    let mut count = 0;
    for user in ["scram", "md5", "password", "trusted"] {
        for password in sent() {
            log_in(&proxy, Who::Psql, user, &password);
            count += 1;
        }
    }
    for token in [format!("OAUTHBEARER\0\0\0\0\x50n,,\x01auth=Bearer {TOKEN}\x01\x01"), format!("{TOKEN}\0")]
    {
        let mut wire = Wire::connect(proxy.addr).unwrap();
        wire.startup(V3, &[("user", "scram"), ("database", "postgres")]).unwrap();
        wire.read_message().unwrap();
        wire.message(b'p', token.as_bytes()).unwrap();
        wire.end().unwrap();
        count += 1;
    }
    let mut session = Wire::connect(proxy.addr).unwrap();
    session.startup(V3, &[("user", "trusted"), ("database", "postgres")]).unwrap();
    let key = session.read_until(b'K').unwrap();
    let mut wire = Wire::connect(proxy.addr).unwrap();
    wire.send(&[b"\0\0\0\x10\x04\xd2\x16\x2e".as_slice(), &key].concat()).unwrap();
    wire.end().unwrap();
    count += 2;
    session.message(b'Q', b"select 'pr1vate-query'\0").unwrap();
    session.message(b'X', b"").unwrap();
    session.read_to_end().unwrap();
    reports(&mut proxy, count);
    // The key is a secret, too: whoever has it can cancel.
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(holds(&bytes, &key), more.contains(&"--keep-secrets"), "a cancel key");
    server.port
}

#[test]
fn a_capture_holds_no_secret_of_any_method() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let port = everything(&file, &[]);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() > 20_000, "there is something in it: {}", bytes.len());
    let mut secrets: Vec<Vec<u8>> = vec![TOKEN.into(), "c2lnbmF0dXJl".into(), "pr1vate-query".into()];
    secrets.extend(["Pl4nted", "pl4nted", "PL4NTED"].map(Vec::from));
    for text in sent() {
        secrets.push(text.clone().into_bytes());
        secrets.push(Sha256::digest(&text).to_vec());
        for user in ["scram", "md5", "password", "trusted"] {
            let digest = Md5::digest(format!("{text}{user}"));
            secrets.push(digest.to_vec());
        }
    }
    for secret in secrets {
        for form in forms(&secret) {
            assert!(!holds(&bytes, &form), "{:?}", String::from_utf8_lossy(&form));
        }
    }
    // What Wireshark takes for a secret is blank: stars, zeros, and SCRAM without proof and signature.
    let shown = dissected(&file, port);
    assert!(shown.len() > 20, "{shown:?}");
    let blank = |text: &String| {
        text.bytes().all(|byte| matches!(byte, b'*' | b'0' | b'x' | b',' | b'd' | b'm' | b'5'))
    };
    let open: Vec<_> = shown.iter().filter(|text| !blank(text)).collect();
    assert!(!open.is_empty(), "SCRAM's messages can be read");
    for text in open {
        let bytes: Vec<u8> = text
            .split(',')
            .flat_map(|part| {
                part.as_bytes()
                    .chunks(2)
                    .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap_or(b'?'))
                    .collect::<Vec<_>>()
            })
            .collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for mark in ["p=", "v="] {
            let values =
                text.match_indices(mark).filter(|(at, _)| *at == 0 || text.as_bytes()[at - 1] == b',');
            for (at, _) in values {
                let value = &text[at + 2..];
                assert!(value.bytes().all(|byte| matches!(byte, b'A' | b'=')), "{text}");
            }
        }
    }
}

#[test]
fn secrets_are_kept_when_that_is_asked_for_and_the_file_says_so() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    everything(&file, &["--keep-secrets"]);
    let bytes = std::fs::read(&file).unwrap();
    for secret in [PASSWORD, TOKEN, "p="] {
        assert!(holds(&bytes, secret.as_bytes()), "{secret}");
    }
    assert!(!holds(&bytes, b"pr1vate-query"), "queries are another matter");
    let about = tool("capinfos", &[&file.display().to_string()]);
    assert!(about.contains("SECRETS: KEPT"), "{about}");
    assert!(super::stage::facts(&file).iter().all(|facts| facts.secrets_kept));
}

#[test]
fn queries_are_captured_when_that_is_asked_for() {
    let dir = Scratch::new();
    let file = dir.path().join("x.pcapng");
    let port = everything(&file, &["--capture-queries"]);
    let bytes = std::fs::read(&file).unwrap();
    assert!(holds(&bytes, b"pr1vate-query") && !holds(&bytes, PASSWORD.as_bytes()));
    let decode = format!("tcp.port=={port},pgsql");
    let name = file.display().to_string();
    let read = |filter: &str| tool("tshark", &["-r", &name, "-d", &decode, "-Y", filter]);
    let queries = read("pgsql.query contains \"pr1vate\"");
    assert_eq!(queries.lines().count(), 2, "on both legs: {queries}");
    assert!(read("pgsql.type == \"Data row\"").lines().count() >= 2, "and the answers");
    // Two of the clients sent messages that break their grammar; no driver did.
    let session = "(pgsql.query || pgsql.type == \"Data row\") && _ws.malformed";
    for wrong in [session, "tcp.analysis.lost_segment", "tcp.analysis.retransmission"] {
        assert_eq!(read(wrong), "", "{wrong}");
    }
}
