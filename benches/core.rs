//! What the core costs a login: time and allocations of codec, observer, diagnosis and password tests.
//!
//! `cargo bench --bench core`. The conversations are real ones, from `tests/corpus`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may, and so may what they share"
)]

#[allow(dead_code)]
#[path = "../tests/replay/corpus.rs"]
mod corpus;
#[allow(dead_code)]
#[path = "../tests/replay/expect.rs"]
mod expect;

use std::path::{Path, PathBuf};

use divan::{AllocProfiler, Bencher, black_box};
use pgwhy::diagnose::{Context, diagnose};
use pgwhy::fuzzing::Event;
use pgwhy::handshake::driver::recognise;
use pgwhy::handshake::{Chunk, Observer, Record};
use pgwhy::password::{Budget, Exchange, Expected, judge, scram};
use pgwhy::secret::Secret;
use pgwhy::wire::backend::Backend;
use pgwhy::wire::frontend::{SaslInitialResponse, Untagged};
use pgwhy::wire::sasl::{ClientFinal, ClientFirst, ServerFirst};
use pgwhy::wire::tls::Records;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn conversation(scenario: &str) -> Vec<Event> {
    let mut list = corpus::conversations();
    list.retain(|c| c.client == "libpq-17" && c.scenario == scenario && c.server == "pg15" && !c.inside_tls);
    list.remove(0).events
}

fn watch(events: &[Event]) -> Record {
    let mut observer = Observer::new();
    for event in events {
        match &event.what {
            Ok(bytes) => observer.eat(Chunk { at: event.at, from: event.from, bytes }),
            Err(how) => observer.closed(event.at, event.from, *how),
        }
    }
    observer.finish()
}

mod decode {
    use super::*;

    /// The body of message `number` of the conversation `scenario`.
    fn message(scenario: &str, number: usize) -> Vec<u8> {
        let mut bytes = conversation(scenario).into_iter().filter_map(|event| event.what.ok());
        bytes.nth(number).unwrap_or_default()
    }

    #[divan::bench]
    fn startup(bencher: Bencher<'_, '_>) {
        let packet = message("scram_plain_ok", 0);
        bencher.bench_local(|| Untagged::decode(black_box(&packet[4..])).is_ok());
    }

    #[divan::bench]
    fn authentication_sasl(bencher: Bencher<'_, '_>) {
        let packet = message("scram_plain_ok", 1);
        bencher.bench_local(|| Backend::decode(b'R', black_box(&packet[5..])).is_ok());
    }

    #[divan::bench]
    fn scram_messages(bencher: Bencher<'_, '_>) {
        let [first, challenge, last] = [2, 3, 4].map(|number| message("scram_plain_ok", number));
        bencher.bench_local(|| {
            let initial = SaslInitialResponse::decode(black_box(&first[5..]));
            let first =
                ClientFirst::decode(initial.ok().and_then(|i| i.response).unwrap_or_default()).is_ok();
            let challenge = ServerFirst::decode(black_box(&challenge[9..])).is_ok();
            first && challenge && ClientFinal::decode(black_box(&last[5..])).is_ok()
        });
    }

    #[divan::bench]
    fn session_data(bencher: Bencher<'_, '_>) {
        let packet = message("trust_plain_ok", 1);
        bencher.bench_local(|| {
            let mut rest = black_box(packet.as_slice());
            let mut count = 0;
            while let Some((&tag, behind)) = rest.split_first() {
                let length = u32::from_be_bytes([behind[0], behind[1], behind[2], behind[3]]) as usize;
                count += usize::from(Backend::decode(tag, &behind[4..length]).is_ok());
                rest = &behind[length..];
            }
            count
        });
    }

    #[divan::bench]
    fn error_response(bencher: Bencher<'_, '_>) {
        let packet = message("scram_wrong_pw", 5);
        bencher.bench_local(|| Backend::decode(b'E', black_box(&packet[5..])).is_ok());
    }

    #[divan::bench]
    fn client_hello(bencher: Bencher<'_, '_>) {
        let hello = super::hello().remove(2).what.unwrap_or_default();
        bencher.bench_local(|| {
            let mut seen = 0;
            Records::default().push(black_box(&hello), |_| seen += 1);
            seen
        });
    }
}

/// SSLRequest, S, ClientHello.
fn hello() -> Vec<Event> {
    let mut list = corpus::conversations();
    list.retain(|c| c.client == "libpq-17" && c.scenario == "scram_tls_ok" && c.server == "pg15");
    list.remove(0).outside
}

mod observer {
    use super::*;

    #[divan::bench(args = ["scram_plain_ok", "trust_plain_ok", "md5_plain_ok", "scram_wrong_pw", "no_hba_line"])]
    fn login(bencher: Bencher<'_, '_>, scenario: &str) {
        let events = conversation(scenario);
        bencher.bench_local(|| watch(black_box(&events)));
    }

    #[divan::bench]
    fn tls_hello(bencher: Bencher<'_, '_>) {
        let events = hello();
        bencher.bench_local(|| watch(black_box(&events)));
    }

    #[divan::bench]
    fn scram_byte_by_byte(bencher: Bencher<'_, '_>) {
        let events = conversation("scram_plain_ok");
        bencher.bench_local(|| pgwhy::fuzzing::play(black_box(&events), pgwhy::fuzzing::Cutting::Bytes));
    }
}

mod verdict {
    use super::*;

    #[divan::bench(args = ["scram_plain_ok", "scram_wrong_pw", "no_hba_line", "missing_db"])]
    fn diagnosis(bencher: Bencher<'_, '_>, scenario: &str) {
        let record = watch(&conversation(scenario));
        bencher.bench_local(|| diagnose(black_box(&record), &Context::default()));
    }

    #[divan::bench]
    fn with_judgement(bencher: Bencher<'_, '_>) {
        let record = watch(&conversation("scram_wrong_pw"));
        let judgement =
            judge(Some(&expected("correct-pw")), b"app_scram", &exchange(&record), Budget::default());
        let context = Context { judgement: Some(&judgement), ..Context::default() };
        bencher.bench_local(|| diagnose(black_box(&record), &context));
    }

    #[divan::bench]
    fn driver(bencher: Bencher<'_, '_>) {
        let record = watch(&conversation("scram_wrong_pw"));
        bencher.bench_local(|| recognise(black_box(&record)));
    }
}

fn expected(password: &str) -> Expected {
    Expected {
        user: Some("app_scram".into()),
        password: Secret::new(password.into()),
        source: "DATABASE_URL".into(),
        ..Expected::default()
    }
}

fn exchange(record: &Record) -> Exchange<'_> {
    let scram = record.scram.as_ref().expect("a SCRAM login");
    let (first, challenge) = (scram.client_first.as_ref().unwrap(), scram.server_first.as_ref().unwrap());
    let last = scram.client_final.as_ref().unwrap();
    Exchange::Scram {
        client_first_bare: &first.bare,
        server_first: &challenge.text,
        client_final_without_proof: &last.without_proof,
        proof: last.proof.expose(),
        salt: &challenge.salt,
        iterations: challenge.iterations,
    }
}

/// Testing candidate passwords against a SCRAM proof, 4,096 iterations each.
#[divan::bench_group(max_time = 4)]
mod judgement {
    use super::*;

    #[divan::bench]
    fn one_candidate(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| scram::salted_password(black_box(b"correct-pw"), b"0123456789abcdef", 4096));
    }

    /// The expected password is `correct-pw`; what was sent differs from row to row.
    #[divan::bench(args = ["correct-pw", "\"correct-pw\"", "wrong-pw"])]
    fn scram_proof(bencher: Bencher<'_, '_>, sent: &str) {
        let (salt, challenge) = (b"0123456789abcdef", b"r=abcdef,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096");
        let key = scram::client_key(&scram::salted_password(sent.as_bytes(), salt, 4096));
        let message = scram::auth_message(b"n=,r=abc", challenge, b"c=biws,r=abcdef");
        let proof = scram::client_proof(&key, &message);
        let exchange = Exchange::Scram {
            client_first_bare: b"n=,r=abc",
            server_first: challenge,
            client_final_without_proof: b"c=biws,r=abcdef",
            proof: proof.expose(),
            salt,
            iterations: 4096,
        };
        let expected = expected("correct-pw");
        let judgement = judge(Some(&expected), b"app_scram", &exchange, Budget::default());
        eprintln!("sent {sent}: {}", judgement.explanation);
        bencher.bench_local(|| judge(Some(&expected), b"app_scram", &exchange, Budget::default()));
    }
}
