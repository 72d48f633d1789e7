use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use super::*;

const USER: &[u8] = b"app_user";
const SALT: &[u8] = b"0123456789abcdef";

/// What a client would send that used `password` as it stands, played for all three methods.
struct Played {
    md5: String,
    proof: Vec<u8>,
}

const BARE: &[u8] = b"n=,r=abc";
const SERVER_FIRST: &[u8] = b"r=abcdef,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=2";
const FINAL: &[u8] = b"c=biws,r=abcdef";

fn play(password: &[u8]) -> Played {
    let inner = mutate::hex(&Md5::new().chain_update(password).chain_update(USER).finalize());
    let outer = mutate::hex(&Md5::new().chain_update(inner).chain_update([1, 2, 3, 4]).finalize());
    let key = scram::client_key(&scram::salted_password(password, SALT, 2));
    let proof = scram::client_proof(&key, &scram::auth_message(BARE, SERVER_FIRST, FINAL));
    Played { md5: format!("md5{outer}"), proof: proof.expose().to_vec() }
}

impl Played {
    fn md5(&self) -> Exchange<'_> {
        Exchange::Md5 { user: USER, salt: [1, 2, 3, 4], response: self.md5.as_bytes() }
    }

    fn scram(&self) -> Exchange<'_> {
        Exchange::Scram {
            client_first_bare: BARE,
            server_first: SERVER_FIRST,
            client_final_without_proof: FINAL,
            proof: &self.proof,
            salt: SALT,
            iterations: 2,
        }
    }
}

fn expected(password: &str) -> Expected {
    Expected {
        user: Some("app_user".to_owned()),
        password: Secret::new(password.to_owned()),
        raw: None,
        source: "DATABASE_URL".to_owned(),
        other_variables: vec![
            ("ADMIN_PASSWORD".to_owned(), Secret::new("another-value".to_owned())),
            ("name".to_owned(), Secret::new("-value-of-name-".to_owned())),
        ],
        previous: vec![Secret::new("earlier-value".to_owned())],
    }
}

fn id(fit: &Fit) -> &'static str {
    match fit {
        Fit::Expected => "expected",
        Fit::Variant(variant, _) => variant.id(),
        Fit::Empty => "empty",
        Fit::Nothing => "nothing",
        Fit::NotTested(_) => "not_tested",
    }
}

fn quiet(password: &str, judgement: &Judgement) {
    if password.len() > 3 {
        let shown = format!("{judgement:?} {}", judgement.explanation);
        assert!(!shown.contains(password), "{shown}");
    }
}

/// Judges `sent` under cleartext, MD5 and SCRAM; `scram` is the id expected there.
#[track_caller]
fn check_all(expected: &Expected, sent: &[u8], cleartext: &str, md5: &str, scram: &str) {
    let played = play(sent);
    let cases = [(Exchange::Cleartext { sent }, cleartext), (played.md5(), md5), (played.scram(), scram)];
    for (exchange, claim) in cases {
        let judgement = judge(Some(expected), USER, &exchange, Budget::default());
        quiet(expected.password.expose(), &judgement);
        assert_eq!(id(&judgement.fit), claim, "{exchange:?}: {judgement:?}");
        assert!(judgement.against_expected);
    }
}

#[track_caller]
fn check(password: &str, sent: impl AsRef<[u8]>, claim: &str) {
    check_all(&expected(password), sent.as_ref(), claim, claim, claim);
}

/// The expected password, what the client used, and what it is called.
const ROWS: &[(&str, &str, &str)] = &[
    ("correct-pw", "correct-pw", "expected"),
    ("correct-pw", "", "empty"),
    ("correct-pw", "\"correct-pw\"", "quotes_kept"),
    ("correct-pw", "'correct-pw'", "quotes_kept"),
    ("correct-pw", "\"correct-pw", "quotes_kept"),
    ("correct-pw", "correct-pw'", "quotes_kept"),
    ("correct-pw", "correct-pw\n", "trailing_newline"),
    ("correct-pw", "correct-pw\r", "trailing_cr"),
    ("correct-pw", "correct-pw\r\n", "trailing_cr"),
    ("correct-pw", "correct-pw ", "trailing_space"),
    ("correct-pw", "correct-pw\t", "trailing_space"),
    ("correct-pw", "\tcorrect-pw", "leading_space"),
    ("correct-pw", "\u{feff}correct-pw", "bom"),
    ("p@ss w/rd", "p%40ss%20w%2Frd", "percent_encoded_kept"),
    ("p@ss w/rd", "p%40ss%20w%2frd", "percent_encoded_kept"),
    ("p@ss w/rd", "p%40ss+w%2Frd", "percent_encoded_kept"),
    ("p@ss w/rd", "p%40ss w/rd", "percent_encoded_kept"),
    ("p@ss#w", "p%2540ss%2523w", "percent_encoded_kept"),
    ("pa%2523ss", "pa#ss", "percent_decoded_twice"),
    ("pa%23ss", "pa#ss", "percent_decoded_once_too_often"),
    ("50%off%2Fx", "50%off/x", "percent_decoded_once_too_often"),
    ("pa+ss+x", "pa ss x", "plus_as_space"),
    ("pa ss", "pa+ss", "space_as_plus"),
    ("pa#ss", "pa", "cut_at_hash"),
    ("pa #ss", "pa", "cut_at_hash"),
    ("pa@ss", "pa", "cut_at_at"),
    ("pa/ss", "pa", "cut_at_slash"),
    ("pa?ss", "pa", "cut_at_question"),
    ("pa&ss", "pa", "cut_at_ampersand"),
    ("pa:ss", "pa", "cut_at_colon"),
    ("pa ss", "pa", "cut_at_space"),
    ("pa$5.s", "pa", "cut_at_dollar"),
    ("pa%ss", "pa", "cut_at_percent"),
    ("pa$ss", "pa", "dollar_expanded"),
    ("pa${ss}x", "pax", "dollar_expanded"),
    ("pa$$ss", "pa$", "dollar_expanded"),
    ("pa$name/x", "pa-value-of-name-/x", "dollar_expanded"),
    ("pa$$5", "pa$5", "dollar_doubled"),
    ("pa$5", "pa$$5", "dollar_doubled"),
    ("pa$s!x", "pa\\$s\\!x", "backslash_kept"),
    ("pa!s$x", "pa\\!s$x", "backslash_kept"),
    ("pa\\ss\\\\t", "pass\\t", "backslash_removed"),
    ("pa\\ns", "pa\ns", "backslash_removed"),
    ("correct-pw", "correct-pw\\n", "newline_escape_kept"),
    ("Correct-Pw", "correct-pw", "case_changed"),
    ("Correct-Pw", "CORRECT-PW", "case_changed"),
    ("Correct-Pw", "cORRECT-pW", "caps_lock"),
    ("pässwörd-é", "pa\u{308}sswo\u{308}rd-e\u{301}", "unicode_form"),
    ("pässwörd", "pÃ¤sswÃ¶rd", "latin1"),
    ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnop", "truncated"),
    ("correct-pw", "undefined", "literal_undefined"),
    ("correct-pw", "null", "literal_null"),
    ("correct-pw", "None", "literal_null"),
    ("correct-pw", "${DATABASE_URL}", "variable_unexpanded"),
    ("correct-pw", "$DB_PASSWORD", "variable_unexpanded"),
    ("correct-pw", "%PGPASSWORD%", "variable_unexpanded"),
    ("correct-pw", "{{PASSWORD}}", "variable_unexpanded"),
    ("correct-pw", "app_user", "user_name"),
    ("correct-pw", "another-value", "other_variable"),
    ("correct-pw", "earlier-value", "previous_password"),
    ("correct-pw", "md5d41d8cd98f00b204e9800998ecf8427e", "nothing"),
    ("correct-pw", "something else", "nothing"),
    ("correct-pw", "\"correct-pw\"\r", "trailing_cr"),
    ("p@ss", "\"p%40ss\"", "quotes_kept"),
];

#[test]
fn every_variant_has_a_row() {
    for (password, sent, claim) in ROWS {
        check(password, sent, claim);
    }
    let reached: Vec<&str> = ROWS.iter().map(|row| row.2).collect();
    for variant in Variant::all() {
        // Rows of their own below: `hashed_value`, `not_saslprepped`; `unknown` is the caller's word for Nothing.
        let elsewhere = [Variant::HashedValue, Variant::NotSaslprepped, Variant::Unknown].contains(variant);
        assert!(elsewhere || reached.contains(&variant.id()), "{variant}");
    }
}

#[test]
fn hashes_of_the_password() {
    let stored = mutate::hex(&Md5::digest(b"correct-pwapp_user"));
    check("correct-pw", format!("md5{stored}"), "hashed_value");
    check("correct-pw", mutate::hex(&Md5::digest(b"correct-pw")), "hashed_value");
    check("correct-pw", BASE64.encode("correct-pw"), "hashed_value");
    let secret = scram::ScramSecret::build(b"correct-pw", SALT, 2).to_text();
    check_all(&expected("correct-pw"), secret.expose().as_bytes(), "nothing", "nothing", "hashed_value");
}

#[test]
fn forms_that_only_some_methods_can_tell() {
    // A prepared password is the right one under SCRAM, and a compatibility form elsewhere.
    check_all(
        &expected("pa\u{a0}\u{2168}ss"),
        "pa IXss".as_bytes(),
        "unicode_form",
        "unicode_form",
        "expected",
    );
    check_all(
        &expected("pa\u{2168}ss"),
        "pa\u{2168}ss".as_bytes(),
        "expected",
        "expected",
        "not_saslprepped",
    );
    check_all(&expected("pa\u{2168}ss"), "paIXss".as_bytes(), "unicode_form", "unicode_form", "expected");
    check_all(&expected("pa\u{ad}ss"), b"pass", "nothing", "nothing", "expected");
    check("p\u{e4}ss", b"p\xe4ss", "latin1");
    check_all(&expected("abcdefghijklmn"), b"abcdefghijk", "truncated", "truncated", "truncated");
    // Every prefix is tried where it costs little; under SCRAM only the shorter ones.
    let long = "0123456789".repeat(9);
    check_all(&expected(&long), &long.as_bytes()[..77], "truncated", "truncated", "nothing");
    check_all(&expected("pa$$ss"), b"pa4711ss", "dollar_expanded", "nothing", "nothing");
    check_all(&expected("pa$$ss"), b"pa47x1ss", "nothing", "nothing", "nothing");
    check_all(&expected("abcdefghijklmn"), b"abcdefg", "nothing", "nothing", "nothing");
}

#[test]
fn raw_text_of_the_url() {
    let mut context = expected("pa#ss");
    context.raw = Some(Secret::new("pa%23s%73".to_owned()));
    check_all(&context, b"pa%23s%73", "percent_encoded_kept", "percent_encoded_kept", "percent_encoded_kept");
}

#[test]
fn the_first_explanation_wins_and_the_others_are_named() {
    let judgement =
        judge(Some(&expected("pa$ss")), USER, &Exchange::Cleartext { sent: b"pa" }, Budget::default());
    assert!(matches!(judgement.fit, Fit::Variant(Variant::DollarExpanded, _)));
    assert_eq!(judgement.alternatives, [Variant::CutAtDollar]);
    let judgement =
        judge(Some(&expected("#secret")), USER, &Exchange::Cleartext { sent: b"" }, Budget::default());
    assert_eq!((id(&judgement.fit), &judgement.alternatives[..]), ("empty", &[Variant::CutAtHash][..]));
    let judgement = judge(Some(&expected("")), USER, &Exchange::Cleartext { sent: b"" }, Budget::default());
    assert_eq!(
        judgement.explanation,
        "the password it sent fits the empty string; the password of DATABASE_URL is empty itself"
    );
    let judgement =
        judge(Some(&expected("abc")), USER, &Exchange::Cleartext { sent: b"ABC" }, Budget::default());
    assert_eq!(judgement.alternatives, [Variant::CapsLock]);
    // What changes nothing explains nothing, unprepared neither.
    let (unprepared, played) = (expected("Pa\u{2168}ss"), play("Pa\u{2168}ss".as_bytes()));
    let judgement = judge(Some(&unprepared), USER, &played.scram(), Budget::default());
    assert_eq!((id(&judgement.fit), &judgement.alternatives[..]), ("not_saslprepped", &[][..]));
}

#[test]
fn explanation_reads_like_the_specification() {
    let judgement =
        judge(Some(&expected("s3cr3t-x")), USER, &play(b"\"s3cr3t-x\"").scram(), Budget::default());
    assert_eq!(
        judgement.explanation,
        "its proof fits «\"…\"» (double quotes kept) and does not fit the password itself"
    );
    let judgement = judge(Some(&expected("s3cr3t-x")), USER, &play(b"s3cr3t-x").scram(), Budget::default());
    assert_eq!(judgement.explanation, "its proof fits the password of DATABASE_URL");
}

#[test]
fn a_password_that_names_another_variable_may_be_the_mistake_itself() {
    for (password, named) in [
        ("pre-$ADMIN_PASSWORD", true),
        ("${ADMIN_PASSWORD:-x}", true),
        ("%ADMIN_PASSWORD%", true),
        ("ADMIN_PASSWORD", false),
        ("pa$$word", false),
    ] {
        let sent = play(password.as_bytes());
        let judgement = judge(Some(&expected(password)), USER, &sent.scram(), Budget::default());
        assert_eq!(id(&judgement.fit), "expected", "{password}");
        assert_eq!(judgement.alternatives.contains(&Variant::VariableUnexpanded), named, "{password}");
    }
}

#[test]
fn without_an_expected_password() {
    for (sent, claim) in [
        ("", "empty"),
        ("app_user", "user_name"),
        ("undefined", "literal_undefined"),
        ("nil", "literal_null"),
        ("${POSTGRES_PASSWORD}", "variable_unexpanded"),
        ("s3cr3t", "nothing"),
    ] {
        let played = play(sent.as_bytes());
        for exchange in [Exchange::Cleartext { sent: sent.as_bytes() }, played.md5(), played.scram()] {
            let judgement = judge(None, USER, &exchange, Budget::default());
            assert_eq!(id(&judgement.fit), claim);
            assert!(!judgement.against_expected);
        }
    }
}

#[test]
fn long_user_names_under_md5() {
    let name = [b'u'; 70];
    let made = |user: &[u8]| {
        let inner = mutate::hex(&Md5::new().chain_update(b"pw").chain_update(user).finalize());
        format!("md5{}", mutate::hex(&Md5::new().chain_update(inner).chain_update([9; 4]).finalize()))
    };
    for (hashed, note) in [(&name[..], "longer than 63"), (&name[..63], "cut to 63")] {
        let response = made(hashed);
        let exchange = Exchange::Md5 { user: &name, salt: [9; 4], response: response.as_bytes() };
        let judgement = judge(Some(&expected("pw")), &name, &exchange, Budget::default());
        assert_eq!(id(&judgement.fit), "expected");
        assert!(judgement.explanation.contains(note), "{}", judgement.explanation);
    }
}

fn scram_with(iterations: u32, proof: &[u8]) -> Exchange<'_> {
    Exchange::Scram {
        client_first_bare: BARE,
        server_first: SERVER_FIRST,
        client_final_without_proof: FINAL,
        proof,
        salt: SALT,
        iterations,
    }
}

#[test]
fn budget_and_limits() {
    let context = expected("correct-pw");
    let reason = |exchange: &Exchange<'_>, budget| judge(Some(&context), USER, exchange, budget).fit;
    let small = Budget { max_hash_rounds: 3000 };
    assert_eq!(reason(&scram_with(0, &[0; 32]), small), Fit::NotTested(Reason::Iterations));
    assert_eq!(reason(&scram_with(u32::MAX, &[0; 32]), small), Fit::NotTested(Reason::Iterations));
    assert_eq!(reason(&scram_with(4096, &[0; 31]), small), Fit::NotTested(Reason::Proof));
    assert_eq!(reason(&scram_with(4096, &[0; 32]), small), Fit::NotTested(Reason::Budget));
    let md5 = Exchange::Md5 { user: USER, salt: [0; 4], response: b"md5xyz" };
    assert_eq!(reason(&md5, small), Fit::NotTested(Reason::Md5Response));
    let judgement = judge(Some(&context), USER, &scram_with(1000, &[0; 32]), small);
    assert_eq!((&judgement.fit, judgement.tried), (&Fit::Nothing, 3));
    assert!(judgement.untested > 50 && judgement.explanation.contains("not tested"), "{judgement:?}");
    // The default budget covers the whole list of an ordinary password at 4096 iterations.
    let all =
        Candidates::build(Some(&expected("Ab1$x@y#z%/?&:+ \\'\"é")), USER, true, candidates::Prefixes::Some);
    assert!(all.list.len() <= 400, "{}", all.list.len());
}

#[test]
fn debug_shows_no_secret() {
    let exchange = Exchange::Cleartext { sent: b"planted-pw" };
    let context = expected("planted-pw");
    assert!(!format!("{exchange:?} {context:?}").contains("planted"));
}

/// Real conversations with PostgreSQL 15: name, client-first-bare, server-first, client-final without its
/// proof, the proof, and what it is called (captures of psql, asyncpg, pgjdbc; the salt of `app_scram`).
const CONVERSATIONS: [(&str, &str, &str, &str, &str, &str); 6] = [
    (
        "psql 15, right password",
        "n=,r=60961ekxwQ51gk14ywK994Uv",
        "r=60961ekxwQ51gk14ywK994Uvhnm2vJyH/4FOtzW+I1+suwOf,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=biws,r=60961ekxwQ51gk14ywK994Uvhnm2vJyH/4FOtzW+I1+suwOf",
        "BAoEXtcJ+mYH8+WuoQUFGNjueGJ4S6gbyiKZi6lgMp8=",
        "expected",
    ),
    (
        "psql 15 over TLS with channel binding, another password",
        "n=,r=2bZ0//JBmKq7mbm/KaStBs25",
        "r=2bZ0//JBmKq7mbm/KaStBs25Pt8Vz68BfYJhum2kbs0PfRXH,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAWU9+bPV2SFMOgmHxIsRNHHmkbHvMY4jLcmuya0aOeY=,r=2bZ0//JBmKq7mbm/KaStBs25Pt8Vz68BfYJhum2kbs0PfRXH",
        "1h6V50GUaB/QNoQf20ZaiUJSd0SZnFt/A+tymrKEeTg=",
        "nothing",
    ),
    (
        "psql 15, line feed behind the password",
        "n=,r=BU03qzCf8fY5TLs6xKgy6WbW",
        "r=BU03qzCf8fY5TLs6xKgy6WbWAGNaKvbZBmD/Txxrs0tOZitY,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=biws,r=BU03qzCf8fY5TLs6xKgy6WbWAGNaKvbZBmD/Txxrs0tOZitY",
        "gkdvrS1bHYUbVxLEARLUKuyMrLI+s0UU27vQtd7ax28=",
        "trailing_newline",
    ),
    (
        "asyncpg without a password",
        "n=app_scram,r=Oc3soizoTnN8VNRUsNn/uBvWGVZU6maE",
        "r=Oc3soizoTnN8VNRUsNn/uBvWGVZU6maEMl1PiLio7u/GqtCp3bFVhkpj,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=biws,r=Oc3soizoTnN8VNRUsNn/uBvWGVZU6maEMl1PiLio7u/GqtCp3bFVhkpj",
        "420DV+/aiRxpjF0EVmL9m6OOJSwlYkdslHtNK5YqqMI=",
        "empty",
    ),
    (
        "pgjdbc, right password",
        "n=*,r=o(1OnIMd(ez3YL4'mj0CYx~s",
        "r=o(1OnIMd(ez3YL4'mj0CYx~s3P7s/wP/Jq0hCWLpOOkwh9uE,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=biws,r=o(1OnIMd(ez3YL4'mj0CYx~s3P7s/wP/Jq0hCWLpOOkwh9uE",
        "/ZTK/ytMndcLtm/VcbpLLmRuGY2FMFzPsAVtksrXod4=",
        "expected",
    ),
    (
        "psql 15, password percent-encoded",
        "n=,r=zZ3PRaPVVQeHwHPwzhDugMzm",
        "r=zZ3PRaPVVQeHwHPwzhDugMzmQO+YDX+T92FWL+3V0WHNLSyQ,s=W0vaVFAWq5CMPb9SU5kcqw==,i=4096",
        "c=biws,r=zZ3PRaPVVQeHwHPwzhDugMzmQO+YDX+T92FWL+3V0WHNLSyQ",
        "H+tal30G1VqmBlgM/1+nfF85ZheN3VyMjI9FYaUxOBk=",
        "percent_encoded_kept",
    ),
];

#[test]
fn real_conversations() {
    let rows = CONVERSATIONS;
    let salt = BASE64.decode("W0vaVFAWq5CMPb9SU5kcqw==").unwrap();
    for (name, bare, server_first, client_final, proof, claim) in rows {
        let proof = BASE64.decode(proof).unwrap();
        let exchange = Exchange::Scram {
            client_first_bare: bare.as_bytes(),
            server_first: server_first.as_bytes(),
            client_final_without_proof: client_final.as_bytes(),
            proof: &proof,
            salt: &salt,
            iterations: 4096,
        };
        let judgement = judge(Some(&expected("correct-pw")), b"app_scram", &exchange, Budget::default());
        assert_eq!(id(&judgement.fit), claim, "{name}: {judgement:?}");
    }
    let message = scram::auth_message(rows[0].1.as_bytes(), rows[0].2.as_bytes(), rows[0].3.as_bytes());
    let signature = BASE64.decode("qvez1MoVYBHf6A22cWMLl5cabLOfo1TKH7e4pkgA8jw=").unwrap();
    assert!(scram::server_signature_fits("correct-pw", &salt, 4096, &message, &signature));
    let md5 = [
        ([0x92, 0x33, 0x44, 0xec], "md59e5fb38b365e5c904d4c6d8beae6b9c0", "expected"),
        ([0xe9, 0xa6, 0xfc, 0xfe], "md59c937db6f01683ac561381c25bda62f2", "nothing"),
        ([0x49, 0x1b, 0x06, 0x59], "md55cbd7a90b303bf1d541ed0d7f1809a70", "empty"),
    ];
    for (salt, response, claim) in md5 {
        let exchange = Exchange::Md5 { user: b"app_md5", salt, response: response.as_bytes() };
        let judgement = judge(Some(&expected("correct-pw")), b"app_md5", &exchange, Budget::default());
        assert_eq!(id(&judgement.fit), claim, "{judgement:?}");
    }
}

#[test]
fn never_panics_and_never_shows_the_password() {
    let pieces = [
        "$",
        "${",
        "}",
        "a",
        "${a:-b}",
        "%",
        "%4",
        "%41",
        "\\",
        "\\n",
        "é",
        "\u{a0}",
        "\u{feff}",
        "#",
        "@",
        " ",
        "'",
        "\"",
        "\u{1F130}",
        "+",
        "\0",
        "ß",
        "\u{627}",
        "longer piece",
        "eyJ",
        ".",
        "/?Action=connect",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    for round in 0..400 {
        let mut make = || (0..below(7)).map(|_| pieces[below(pieces.len())]).collect::<String>();
        let (password, sent) = (format!("Zq7{}x9K", make()), make());
        let mut context = expected(&password);
        context.raw = Some(Secret::new(make()));
        let played = play(sent.as_bytes());
        let bytes: Vec<u8> = (0..below(30)).map(|_| u8::try_from(below(256)).unwrap()).collect();
        let _ = (token::read(sent.as_bytes()), token::read(&bytes));
        let _ = judge(None, &bytes, &Exchange::Cleartext { sent: &bytes }, Budget::default());
        let mut exchanges = vec![Exchange::Cleartext { sent: sent.as_bytes() }, played.md5()];
        exchanges.extend((round % 8 == 0).then(|| played.scram()));
        for exchange in exchanges {
            quiet(&password, &judge(Some(&context), USER, &exchange, Budget::default()));
        }
    }
}
