use super::*;

const UTC: i64 = 1_795_238_700_123; // 2026-11-21 05:25:00.123 UTC

fn all(text: &str) -> Vec<Entry> {
    parse_all(text.as_bytes(), Parser::default())
}

#[track_caller]
fn one(text: &str) -> Entry {
    let mut entries = all(text);
    assert_eq!(entries.len(), 1, "{text}: {entries:?}");
    entries.remove(0)
}

/// pid, user, database, host, port of a prefix in front of a FATAL.
type Seen<'a> = (Option<u32>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<u16>);

#[track_caller]
fn check_prefix(line: &str, expected: Seen<'_>) {
    let entry = one(line);
    let seen: Seen<'_> = (
        entry.pid,
        entry.user.as_deref(),
        entry.database.as_deref(),
        entry.remote_host.as_deref(),
        entry.remote_port,
    );
    assert_eq!(seen, expected, "{line}");
    assert_eq!((entry.severity, entry.message.as_str()), (Severity::Fatal, "x: y"), "{line}");
}

#[test]
fn prefixes_as_people_set_them_are_guessed() {
    let t = "2026-11-21 05:25:00.123 UTC";
    let table: [(String, Seen<'_>); 21] = [
        (format!("{t} [42] FATAL:  x: y"), (Some(42), None, None, None, None)),
        (format!("{t} [42] app@shop FATAL:  x: y"), (Some(42), Some("app"), Some("shop"), None, None)),
        (format!("{t} [42] [unknown]@[unknown] FATAL:  x: y"), (Some(42), None, None, None, None)),
        (
            format!("{t}:10.0.0.5(53122):app@shop:[42]:FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("10.0.0.5"), Some(53_122)),
        ),
        (
            format!("{t}:::1(53122):app@shop:[42]:FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("::1"), Some(53_122)),
        ),
        (
            format!("{t}:2001:db8::7(53122):app@shop:[42]:FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("2001:db8::7"), Some(53_122)),
        ),
        (
            format!("{t}:[local]:app@shop:[42]:FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("[local]"), None),
        ),
        (format!("{t}-65f1a2b3.2a-FATAL:  x: y"), (Some(42), None, None, None, None)),
        (
            format!("{t} [42]: [5-1] db=shop,user=app,app=psql,client=10.0.0.5 FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("10.0.0.5"), None),
        ),
        (
            format!("{t} [42]: [5-1] user=app,db=shop,app=[unknown],client=[local] FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), Some("[local]"), None),
        ),
        (
            format!("{t} 10.0.0.5(53122) [42] FATAL:  x: y"),
            (Some(42), None, None, Some("10.0.0.5"), Some(53_122)),
        ),
        (
            format!("{t} db.example.org(53122) 42 FATAL:  x: y"),
            (Some(42), None, None, Some("db.example.org"), Some(53_122)),
        ),
        (format!("< {t} 42 app shop > FATAL:  x: y"), (Some(42), None, None, None, None)),
        (format!("[42] {t} FATAL:  x: y"), (Some(42), None, None, None, None)),
        (
            format!("Nov 21 05:25:00 db1 postgres[42]: [5-1] {t} [42] FATAL:  x: y"),
            (Some(42), None, None, None, None),
        ),
        (
            "Nov 21 05:25:00 db1 postgres[42]: [5-1] FATAL:  x: y".to_owned(),
            (Some(42), None, None, None, None),
        ),
        (format!("db-1  | {t} [42] FATAL:  x: y"), (Some(42), None, None, None, None)),
        (
            format!("2026-11-21T05:25:00.999999999Z stderr F {t} [42] FATAL:  x: y"),
            (Some(42), None, None, None, None),
        ),
        ("1795238700.123 [42] FATAL:  x: y".to_owned(), (Some(42), None, None, None, None)),
        ("FATAL:  x: y".to_owned(), (None, None, None, None, None)),
        (format!("pid=42 time={t} user=app FATAL:  x: y"), (Some(42), Some("app"), None, None, None)),
    ];
    for (line, expected) in &table {
        check_prefix(line, *expected);
        let has_time = line.contains("1795238700") || line.contains(t);
        assert_eq!(one(line).unix_ms, has_time.then_some(UTC), "{line}");
    }
}

#[test]
fn a_prefix_with_its_template_is_read_exactly() {
    let t = "2026-11-21 05:25:00.123 UTC";
    let table: [(&str, String, Seen<'_>); 8] = [
        (
            "%m [%p] %q%u@%d ",
            format!("{t} [42] a b@c d FATAL:  x: y"),
            (Some(42), Some("a b"), Some("c d"), None, None),
        ),
        ("%m [%p] %q%u@%d ", format!("{t} [42] FATAL:  x: y"), (Some(42), None, None, None, None)),
        (
            "%m,%u,%d,%p,%r,%e ",
            format!("{t},a,d,42,::1(77),28P01 FATAL:  x: y"),
            (Some(42), Some("a"), Some("d"), Some("::1"), Some(77)),
        ),
        (
            "%c %h|%u|",
            "65f1a2b3.2a 10.0.0.5|a=b[7]|FATAL:  x: y".to_owned(),
            (Some(42), Some("a=b[7]"), None, Some("10.0.0.5"), None),
        ),
        (
            "%10p %-8u|",
            "        42 app     |FATAL:  x: y".to_owned(),
            (Some(42), Some("app"), None, None, None),
        ),
        ("%n %p %%: ", "1795238700.123 42 %: FATAL:  x: y".to_owned(), (Some(42), None, None, None, None)),
        (
            "%t:%r:%u@%d:[%p]:",
            "2026-11-21 05:25:00 UTC:[local]:a@d:[42]:FATAL:  x: y".to_owned(),
            (Some(42), Some("a"), Some("d"), Some("[local]"), None),
        ),
        // The template is a wrong one: the prefix is guessed.
        (
            "%p|%u|",
            format!("{t} [42] app@shop FATAL:  x: y"),
            (Some(42), Some("app"), Some("shop"), None, None),
        ),
    ];
    for (template, line, expected) in &table {
        let entries = parse_all(line.as_bytes(), Parser::default().with_prefix(template));
        let [entry] = &entries[..] else { panic!("{template} / {line}: {entries:?}") };
        let user = entry.user.as_deref();
        let seen =
            (entry.pid, user, entry.database.as_deref(), entry.remote_host.as_deref(), entry.remote_port);
        assert_eq!(seen, *expected, "{template} / {line}");
        assert_eq!(entry.message, "x: y", "{template} / {line}");
    }
}

const STDERR: &str = "\
2026-11-21 05:25:00.123 UTC [42] LOG:  connection received: host=127.0.0.1 port=53122\n\
2026-11-21 05:25:00.123 UTC [43] LOG:  connection received: host=[local]\n\
2026-11-21 05:25:00.130 UTC [42] FATAL:  password authentication failed for user \"app\"\n\
2026-11-21 05:25:00.131 UTC [43] LOG:  statement: select 'PASSWORD'\n\
2026-11-21 05:25:00.130 UTC [42] DETAIL:  Role \"app\" does not exist.\n\
\tConnection matched pg_hba.conf line 7: \"host all all 127.0.0.1/32 ldap ldapbindpasswd=\"s3cret\" ldaptls=1\"\n\
2026-11-21 05:25:00.131 UTC [43] DETAIL:  not kept\n";

fn matched() -> Fact {
    let text = "host all all 127.0.0.1/32 ldap ldapbindpasswd=(hidden) ldaptls=1".to_owned();
    Fact::Matched { file: None, line: 7, text }
}

#[test]
fn details_join_their_message_by_process() {
    let entries = all(STDERR);
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0].connection_received, Some(("127.0.0.1".to_owned(), Some(53_122))));
    assert!(entries[1].is_local());
    assert_eq!(facts(&entries[2]), [Fact::RoleMissing { user: "app".to_owned() }, matched()]);
    assert!(!format!("{entries:?}").contains("s3cret"));
    assert!(entries[1].detail.is_none());
}

#[test]
fn cuts_do_not_matter() {
    let csv = format!("{}{}", CSV, CSV.replace("42", "44"));
    for text in [STDERR, &csv, JSON] {
        let (mut pieces, mut single) = (Vec::new(), Vec::new());
        let mut parser = Parser::default();
        parser.feed(text.as_bytes(), &mut |piece| pieces.push(piece));
        let mut parser = Parser::default();
        for byte in text.as_bytes() {
            parser.feed(&[*byte], &mut |piece| single.push(piece));
        }
        assert!(!pieces.is_empty());
        assert_eq!(pieces, single);
        let crlf = text.replace('\n', "\r\n");
        assert_eq!(all(&crlf).len(), all(text).len());
    }
}

const CSV: &str = "2026-11-21 05:25:00.123 UTC,\"a\"\"b\",\"shop\",42,\"::1:53122\",65f1a2b3.2a,2,\"authentication\",2026-11-21 05:25:00 UTC,3/1,0,FATAL,28P01,\"password authentication failed for user \"\"a\"\"b\"\"\",\"Role \"\"a\"\"b\"\" does not exist.\nConnection matched file \"\"/etc/pg_hba.conf\"\" line 7: \"\"host all all ::1/128 scram-sha-256\"\"\",,,,,,,,\"\",\"client backend\",,0\n";

const JSON: &str = "{\"timestamp\":\"2026-11-21 05:25:00.123 UTC\",\"user\":\"a\\\"b\",\"dbname\":\"shop\",\"pid\":42,\"remote_host\":\"::1\",\"remote_port\":53122,\"session_id\":\"65f1a2b3.2a\",\"line_num\":2,\"ps\":\"authentication\",\"error_severity\":\"FATAL\",\"state_code\":\"28P01\",\"message\":\"password authentication failed for user \\\"a\\\"b\\\"\",\"detail\":\"Role \\\"a\\\"b\\\" does not exist.\\nConnection matched file \\\"/etc/pg_hba.conf\\\" line 7: \\\"host all all ::1/128 scram-sha-256\\\"\",\"backend_type\":\"client backend\",\"query_id\":0}\n";

#[test]
fn csvlog_and_jsonlog_say_the_same() {
    let csv = one(CSV);
    assert_eq!(csv, one(JSON));
    let file = Some("/etc/pg_hba.conf".to_owned());
    let text = "host all all ::1/128 scram-sha-256".to_owned();
    assert_eq!(
        facts(&csv),
        [Fact::RoleMissing { user: "a\"b".to_owned() }, Fact::Matched { file, line: 7, text }]
    );
    assert_eq!(
        (csv.unix_ms, csv.remote_port, csv.sqlstate.as_deref()),
        (Some(UTC), Some(53_122), Some("28P01"))
    );
    // 12 has 23 columns, 13 has 24.
    for columns in [23, 24] {
        let rest = CSV.trim_end().rsplitn(27 - columns, ',').last().unwrap();
        assert_eq!(one(&format!("{rest}\n")), csv, "{columns} columns");
    }
    let docker =
        format!("{}\n", serde_json::json!({"log": STDERR.lines().next().unwrap(), "stream": "stderr"}));
    assert_eq!(one(&docker), all(STDERR)[0]);
}

#[test]
fn languages_of_the_server() {
    let table = [
        (
            "2026-11-21 05:25:00.123 UTC [42] FATAL:  Passwort-Authentifizierung für Benutzer »a« fehlgeschlagen\n2026-11-21 05:25:00.123 UTC [42] DETAIL:  Rolle »a« existiert nicht.\n\tVerbindung stimmte mit pg_hba.conf-Zeile 7 überein: »host all all all md5«\n",
            2,
        ),
        (
            "2026-11-21 05:25:00.123 UTC [42] ВАЖНО:  пользователь \"a\" не прошёл проверку подлинности (по паролю)\n2026-11-21 05:25:00.123 UTC [42] ПОДРОБНОСТИ:  Роль \"a\" не существует.\n\tПодключение соответствует строке 7 в pg_hba.conf: \"host all all all md5\"\n",
            2,
        ),
        (
            "2026-11-21 05:25:00.123 UTC [42] 致命错误:  用户 \"a\" Password 认证失败\n2026-11-21 05:25:00.123 UTC [42] 详情:  角色\"a\"不存在.\n\t与 pg_hba.conf 的第 7 行匹配: \"host all all all md5\"\n",
            1,
        ),
        // A language and version without a table: the line of pg_hba.conf still shows itself.
        (
            "2026-11-21 05:25:00.123 UTC [42] FATALO:  x\n2026-11-21 05:25:00.123 UTC [42] DETAIL:  Konekto laŭ dosiero “/e/pg_hba.conf”, linio 7: “host all all all md5”\n",
            1,
        ),
    ];
    for (text, least) in table {
        let entry = one(text);
        let found = facts(&entry);
        assert!(found.len() >= least, "{text}: {found:?}");
        let line = found.iter().any(
            |fact| matches!(fact, Fact::Matched { line: 7, text, .. } if text == "host all all all md5"),
        );
        assert!(line, "{text}: {found:?}");
    }
    let latin1: Vec<u8> = table[0].0.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(parse_all(&latin1, Parser::default()), all(table[0].0));
}

#[test]
fn syslog_splits_lines_and_secrets_do_not_slip_through() {
    let text = "Nov 21 05:25:00 db1 postgres[42]: [5-1] FATAL:  password authentication failed for user \"app\"\n\
        Nov 21 05:25:00 db1 postgres[42]: [5-2] DETAIL:  Role \"app\" does not exist.\n\
        Nov 21 05:25:00 db1 postgres[42]: [5-3] #011Connection matched pg_hba.conf line 7: \"host all all all ldap ldapbindpasswd=\"s3c\n\
        Nov 21 05:25:00 db1 postgres[42]: [5-4] ret\" ldaptls=1\"\n";
    let entry = one(text);
    assert!(facts(&entry).contains(&Fact::RoleMissing { user: "app".to_owned() }));
    assert!(!format!("{entry:?}").contains("ret\\\""), "{entry:?}");
    assert!(entry.cut);
}

#[test]
fn hostile_bytes_are_bounded() {
    let mut parser = Parser::default();
    let mut count = 0;
    let mut sink = |_| count += 1;
    parser.feed(&vec![b'"'; 3 << 20], &mut sink);
    parser.feed(b"\n2026-11-21 05:25:00.123 UTC,\"", &mut sink);
    for _ in 0..8_192 {
        parser.feed(b"line\nline\nline\nline\nline\nline\nline\nline\n", &mut sink);
    }
    parser.feed(&[0, 0xff, b'\t', b':', b' ', b' ', b'\n'], &mut sink);
    parser.feed(CSV.as_bytes(), &mut sink);
    assert_eq!(count, 1, "the record behind the broken one is read");
    let mut correlator = Correlator::default();
    let mut parser = Parser::default();
    for pid in 0..3_000 {
        let line = format!(
            "2026-11-21 05:25:00.123 UTC [{pid}] LOG:  {}\n\t{}\n",
            "x".repeat(900),
            "y".repeat(9_000)
        );
        parser.feed(line.as_bytes(), &mut |piece| correlator.take(piece, 0));
    }
    assert!(correlator.len() <= 8 << 20 >> 13, "{}", correlator.len());
}

#[test]
fn no_bytes_make_it_panic() {
    // A walk over all short texts of bytes that mean something, and every cut of real lines.
    let alphabet = [
        "%",
        "[",
        "]",
        "(",
        ")",
        ":",
        "  ",
        "\"",
        "\n",
        "\t",
        "FATAL:  ",
        "DETAIL:  ",
        "@",
        "=",
        "é",
        ",",
        "2026-11-21 05:25:00",
        "0",
        "{",
    ];
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..3_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push_str(alphabet[usize::try_from(state % alphabet.len() as u64).unwrap()]);
        }
        for template in ["%m [%p] %q%u@%d ", "%5%r%", "%"] {
            let entries = parse_all(text.as_bytes(), Parser::default().with_prefix(template));
            entries.iter().for_each(|entry| drop(facts(entry)));
        }
    }
    for text in [STDERR, CSV, JSON] {
        for end in 0..text.len() {
            drop(parse_all(&text.as_bytes()[..end], Parser::default()));
        }
    }
}

fn correlator(text: &str) -> Correlator {
    let (mut correlator, mut parser) = (Correlator::default(), Parser::default());
    parser.feed(text.as_bytes(), &mut |piece| correlator.take(piece, UTC));
    correlator
}

fn question() -> Question {
    Question {
        our_ip: Some([127, 0, 0, 1].into()),
        our_port: Some(53_122),
        user: Some("app".to_owned()),
        database: Some("shop".to_owned()),
        from_ms: UTC - 10,
        to_ms: UTC + 20,
        ..Question::default()
    }
}

#[track_caller]
fn check_found(text: &str, question: &Question, expected: Option<(Certainty, Join, &str)>) {
    let correlator = correlator(text);
    let found = correlator.find(question);
    let last = found.iter().rfind(|found| found.entry.is_fatal());
    let seen = last.map(|found| (found.certainty, found.join, found.entry.message.as_str()));
    assert_eq!(seen, expected, "{text}{found:?}");
}

#[test]
fn connections_are_found_by_port() {
    let strong = |text| Some((Certainty::Strong, Join::Port, text));
    check_found(STDERR, &question(), strong("password authentication failed for user \"app\""));
    // Port in the prefix, no log_connections.
    let line = "2026-11-21 05:25:00.130 UTC 127.0.0.1(53122) [42] FATAL:  one\n";
    check_found(line, &question(), strong("one"));
    let mapped = "2026-11-21 05:25:00.130 UTC ::ffff:127.0.0.1(53122) [42] FATAL:  one\n";
    check_found(mapped, &question(), strong("one"));
    // Another host with the same port, another user with the same port.
    check_found(&line.replace("127.0.0.1", "10.0.0.1"), &question(), None);
    check_found(&line.replace("[42]", "[42] other@shop"), &question(), None);
    // The port again 300 ms later, by another connection of the same process id.
    let twice = "2026-11-21 05:25:00.123 UTC [42] LOG:  connection received: host=127.0.0.1 port=53122\n\
        2026-11-21 05:25:00.124 UTC [42] FATAL:  first\n\
        2026-11-21 05:25:00.523 UTC [42] LOG:  connection received: host=127.0.0.1 port=53122\n\
        2026-11-21 05:25:00.524 UTC [42] FATAL:  second\n";
    check_found(twice, &question(), strong("first"));
    let later = Question { from_ms: UTC + 395, to_ms: UTC + 410, ..question() };
    check_found(twice, &later, strong("second"));
    // With seconds only, both could be meant.
    let seconds = twice.replace(".123", "").replace(".124", "").replace(".523", "").replace(".524", "");
    check_found(&seconds, &question(), Some((Certainty::Weak, Join::Port, "second")));
    // A clock that is a few seconds off: no proof.
    let off = Question { from_ms: UTC + 3_000, to_ms: UTC + 3_010, ..question() };
    check_found(line, &off, Some((Certainty::Weak, Join::Port, "one")));
}

#[test]
fn connections_are_found_by_process_or_names() {
    let asked = Question { pid: Some(42), our_port: None, ..question() };
    let line = "2026-11-21 05:25:00.130 UTC [42] app@shop FATAL:  one\n";
    check_found(line, &asked, Some((Certainty::Strong, Join::Pid, "one")));
    check_found(&line.replace("[42]", "[43]"), &asked, Some((Certainty::Weak, Join::TimeAndNames, "one")));
    check_found(&line.replace("[42]", "[43] 127.0.0.1(9)"), &question(), None);
    check_found(
        &line.replace("[42]", "[43] 172.17.0.1(9)"),
        &question(),
        Some((Certainty::Weak, Join::TimeAndNames, "one")),
    );
    check_found(
        &line.replace("app@shop", "").replace("one", "no \"app\""),
        &question(),
        Some((Certainty::Weak, Join::TimeAndNames, "no \"app\"")),
    );
    check_found(&line.replace("app@", "other@"), &question(), None);
    let unix = Question { unix: true, our_port: None, our_ip: None, ..question() };
    check_found(
        &line.replace("[42]", "[42] [local]"),
        &unix,
        Some((Certainty::Weak, Join::TimeAndNames, "one")),
    );
    check_found(&line.replace("[42]", "[42] 127.0.0.1(9)"), &unix, None);
    // Names are cut by the server.
    let long = "a".repeat(70);
    let asked = Question { user: Some(long.clone()), ..question() };
    let line =
        format!("2026-11-21 05:25:00.130 UTC 127.0.0.1(53122) [42] {}@shop FATAL:  one\n", &long[..63]);
    check_found(&line, &asked, Some((Certainty::Strong, Join::Port, "one")));
}

#[test]
fn attempts_of_one_user_that_were_judged_otherwise_prove_nothing_about_each_other() {
    let text = "2026-11-21 05:25:00.110 UTC [42] FATAL:  password authentication failed for user \"app\"\n\
        2026-11-21 05:25:00.110 UTC [42] DETAIL:  User \"app\" has an expired password.\n\
        \tConnection matched pg_hba.conf line 3: \"host all all all scram-sha-256\"\n\
        2026-11-21 05:25:00.210 UTC [43] FATAL:  password authentication failed for user \"app\"\n\
        2026-11-21 05:25:00.210 UTC [43] DETAIL:  Connection matched pg_hba.conf line 3: \"host all all all scram-sha-256\"\n";
    let (first, second) = ((UTC - 20, UTC), (UTC + 70, UTC + 100));
    let seconds = text.replace(".110", "").replace(".210", "");
    let alike =
        text.replace("DETAIL:  Connection", "DETAIL:  User \"app\" has an expired password.\n\tConnection");
    let other = text.replacen("\"app\"", "\"app_2\"", 2);
    for (claim, text, here, (from_ms, to_ms), expected) in [
        ("clocks agree, and the first was expired", text, true, first, (Certainty::Weak, 1, true)),
        ("clocks agree, and the second was not", text, true, second, (Certainty::Weak, 1, false)),
        ("another clock", text, false, second, (Certainty::Disputed, 1, false)),
        ("times in seconds", seconds.as_str(), true, second, (Certainty::Disputed, 2, true)),
        ("both are told the same", alike.as_str(), false, second, (Certainty::Weak, 1, true)),
        ("the other is of a longer name", other.as_str(), false, second, (Certainty::Weak, 1, false)),
    ] {
        let ip = if here { [127, 0, 0, 1] } else { [10, 0, 0, 9] };
        let asked = Question { our_ip: Some(ip.into()), from_ms, to_ms, database: None, ..question() };
        let correlator = correlator(text);
        let found = correlator.find(&asked);
        let expired = Fact::Expired { user: "app".to_owned() };
        let expired = found.iter().any(|found| facts(found.entry).contains(&expired));
        assert_eq!((found[0].certainty, found.len(), expired), expected, "{claim}: {found:?}");
    }
}

#[test]
fn the_process_that_had_the_number_before_is_another_one() {
    let text = "2026-11-21 05:25:00.100 UTC [42] FATAL:  before\n\
        2026-11-21 05:25:00.110 UTC [42] LOG:  connection received: host=127.0.0.1 port=53122\n\
        2026-11-21 05:25:00.120 UTC [42] LOG:  could not connect to Ident server at address \"127.0.0.1\", port 113: Connection refused\n\
        2026-11-21 05:25:00.130 UTC [42] FATAL:  ours\n\
        2026-11-21 05:25:00.140 UTC [42] LOG:  connection received: host=127.0.0.1 port=53123\n\
        2026-11-21 05:25:00.150 UTC [42] FATAL:  after\n";
    let correlator = correlator(text);
    let found = correlator.find(&question());
    assert_eq!(found.len(), 3);
    let ident = facts(found[1].entry);
    assert!(matches!(
        &ident[..],
        [Fact::Service { service: Service::Ident, trouble: Trouble::Unreachable, .. }]
    ));
    assert_eq!(found[2].entry.message, "ours");
}

#[test]
fn reloads_that_failed_are_remembered() {
    let text = "2026-11-21 05:25:00.100 UTC [1] LOG:  received SIGHUP, reloading configuration files\n\
        2026-11-21 05:25:00.101 UTC [1] LOG:  invalid authentication method \"scramm\"\n\
        2026-11-21 05:25:00.101 UTC [1] CONTEXT:  line 3 of configuration file \"/d/pg_hba.conf\"\n\
        2026-11-21 05:25:00.102 UTC [1] LOG:  /d/pg_hba.conf was not reloaded\n";
    let found: Vec<_> = correlator(text).reloads().flat_map(facts).collect();
    let fault = Fact::ConfigFault {
        file: "/d/pg_hba.conf".to_owned(),
        line: 3,
        text: "invalid authentication method \"scramm\"".to_owned(),
    };
    assert_eq!(found, [Fact::Reloading, fault, Fact::NotReloaded { file: "/d/pg_hba.conf".to_owned() }]);
}
