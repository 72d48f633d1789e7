//! Tables of cases; a row's name is its claim. Which answers are PostgreSQL's own, tests/hba_differential.rs
//! asks real servers.

use std::path::{Path, PathBuf};

use super::*;

fn read(text: &str, version: u32) -> HbaFile {
    parse_text("pg_hba.conf", text, &Server::of_version(version))
}

fn problems(file: &HbaFile) -> Vec<(&'static str, usize, usize)> {
    file.problems.iter().map(|problem| (problem.id, problem.place.line, problem.place.column)).collect()
}

/// One line, its version, and the id and column of what refuses it (nothing if it is taken).
#[track_caller]
fn line(text: &str, version: u32, expected: Option<(&'static str, usize)>) {
    let file = read(text, version);
    let found: Vec<_> = file
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| (problem.id, problem.place.column))
        .collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "PostgreSQL {version}: {text}");
    assert_eq!(file.would_load, expected.is_none(), "PostgreSQL {version}: {text}");
}

#[test]
fn lines_that_are_taken_or_refused() {
    line("local all all peer", 18, None);
    line("host all all 10.0.0.0/8 md5", 18, None);
    line("host all all 10.0.0.0 255.0.0.0 md5", 18, None);
    line("host all all 10.0.0.1 md5", 18, Some(("mask_missing", 23)));
    line("host all all 10.0.0.1", 18, Some(("mask_missing", 14)));
    line("host all all db.example.org/24 md5", 18, Some(("host_with_mask", 14)));
    line("host all all 10.0.0.0/33 md5", 18, Some(("invalid_mask", 14)));
    line("host all all ::1 255.0.0.0 md5", 18, Some(("invalid_mask", 18)));
    line("hosts all all all md5", 18, Some(("invalid_type", 1)));
    line("local,host all all md5", 18, Some(("multiple_values", 7)));
    line("local all", 18, Some(("field_missing", 10)));
    line("local all all", 18, Some(("field_missing", 14)));
    line("local all all scram", 18, Some(("invalid_method", 15)));
    line("host all all all peer", 18, Some(("method_not_here", 18)));
    line("local all all gss", 18, Some(("method_not_here", 15)));
    line("host all all all cert", 18, Some(("method_not_here", 18)));
    line("hostssl all all all cert map=x", 18, None);
    line("host all all all md5 map=x", 18, Some(("option_wrong_method", 22)));
    line("host all all all md5 # comment", 18, None);
    line("host all all all md5 comment", 18, Some(("option_syntax", 22)));
    line("host all all all md5 colour=red", 18, Some(("option_unknown", 22)));
    line("host all all all bsd", 18, Some(("method_not_built_in", 18)));
    line("local all all ldap ldapserver=x", 18, Some(("option_missing", 15)));
    line("local all all ldap ldapprefix=a ldapbasedn=b", 18, Some(("option_conflict", 15)));
    line("local all all ldap ldapbasedn=b ldapport=x", 18, Some(("option_value", 33)));
    line("# only a comment", 18, Some(("no_entries", 0)));
    line("", 18, Some(("no_entries", 0)));
}

#[test]
fn what_changes_with_the_version() {
    line("hostssl all all all md5 clientcert=1", 13, None);
    line("hostssl all all all md5 clientcert=1", 14, Some(("option_value", 25)));
    line("hostssl all all all cert clientcert=verify-ca", 13, None);
    line("hostssl all all all cert clientcert=verify-ca", 14, Some(("option_conflict", 26)));
    line("hostssl all all all cert clientname=DN", 13, Some(("option_unknown", 26)));
    line("hostssl all all all cert clientname=DN", 14, None);
    line("host all all \\\n all md5", 14, None);
    line("host all all all md5 \\", 13, Some(("option_syntax", 22)));
    line("local all /( trust", 15, None);
    line("local all /( trust", 16, Some(("invalid_regex", 11)));
    line("include other.conf", 15, Some(("invalid_type", 1)));
    line("include other.conf", 16, Some(("file_unreadable", 9)));
    line("local all all radius radiusservers=10.0.0.1 radiussecrets=x", 18, None);
    line("local all all radius radiusservers=10.0.0.1 radiussecrets=x", 19, Some(("invalid_method", 15)));
    line("host all all all oauth issuer=x scope=y", 17, Some(("invalid_method", 18)));
    line("host all all all oauth issuer=x scope=y", 18, None);
    line("host all all all oauth issuer=x", 18, Some(("option_missing", 18)));
    let long = format!("local {} all trust", "x".repeat(10_240));
    line(&long, 15, Some(("token_too_long", 7)));
    line(&long, 16, None);
    line(&long, 13, Some(("token_too_long", 7)));
    let long = format!("local {}all all trust", "x,".repeat(10_300));
    line(&long, 13, Some(("line_too_long", 1)));
    line(&long, 14, None);
}

#[test]
fn one_wrong_line_refuses_the_file() {
    let file = read("local all all peer\nlocal all all pear\nhost all all all md5\n", 18);
    assert_eq!(file.rules.len(), 2);
    assert_eq!(file.refused, [RuleRef { file: "pg_hba.conf".into(), line: 2 }]);
    assert!(!file.would_load);
    let decision = decide(&file, &tcp("10.0.0.1"), &World::default());
    assert_eq!((decision.certain, &decision.missing[..]), (false, &[Missing::FileRefused][..]));
}

#[test]
fn tls_and_gssapi_lines_of_a_server_without_them_are_taken() {
    let mut server = Server::of_version(18);
    (server.ssl, server.gss) = (Some(false), false);
    let file = parse_text("f", "hostssl all all all md5\nhostgssenc all all all md5\n", &server);
    assert_eq!(problems(&file), [("hostssl_without_tls", 1, 1), ("hostgssenc_without_gss", 2, 1)]);
    assert!(file.would_load);
    assert!(lint(&file, &server, None).iter().all(|problem| problem.id != "shadowed_line"));
}

fn tcp(address: &str) -> Connection {
    Connection {
        address: address.parse().ok(),
        user: "joe".to_owned(),
        database: "shop".to_owned(),
        ..Connection::default()
    }
}

fn local() -> Connection {
    Connection { kind: Kind::Local, address: None, ..tcp("10.0.0.1") }
}

/// The line that decides, if it is certain, or `?` and the lines that might.
#[track_caller]
fn decides(text: &str, connection: &Connection, world: &World, expected: &str) {
    let decision = decide(&read(text, 18), connection, world);
    let lines = |lines: &[RuleRef]| lines.iter().map(|at| at.line.to_string()).collect::<Vec<_>>().join(",");
    let line = decision.line.as_ref().map_or("none".to_owned(), |at| at.line.to_string());
    let shown = match decision.certain {
        true => line,
        false => format!("{line} ?{}", lines(&decision.could_be)),
    };
    assert_eq!(shown, expected, "{text}\n{connection:?}\n{decision:#?}");
    assert_eq!(decision.certain, decision.missing.is_empty());
}

#[test]
fn addresses() {
    let world = World::default();
    let file = "host all all 10.0.0.0/8 md5\nhost all all 10.1.2.3 255.0.255.0 md5\nhost all all ::/0 md5";
    decides(file, &tcp("10.9.9.9"), &world, "1");
    decides(file, &tcp("11.0.0.1"), &world, "none");
    decides(file, &tcp("2001:db8::1"), &world, "3");
    decides(file, &local(), &world, "none");
    let masked = "host all all 10.1.2.3 255.0.255.0 md5";
    decides(masked, &tcp("10.77.2.9"), &world, "1");
    decides(masked, &tcp("10.77.3.9"), &world, "none");
    // A server has a socket for each family: it never sees an IPv4 client as ::ffff:….
    decides("host all all 10.0.0.0/8 md5", &tcp("::ffff:10.0.0.1"), &world, "1");
    decides("host all all ::ffff:10.0.0.0/104 md5", &tcp("10.0.0.1"), &world, "none");
    decides("host all all 0.0.0.0/0 md5", &tcp("::1"), &world, "none");
    decides("host all all all md5", &Connection { address: None, ..tcp("::") }, &world, "1");
    decides("host all all 10.0.0.0/8 md5", &Connection { address: None, ..tcp("::") }, &world, "none ?1");
}

#[test]
fn encryption() {
    let world = World::default();
    let file = "hostssl all all all md5\nhostgssenc all all all md5\nhostnossl all all all md5";
    decides(file, &tcp("10.0.0.1"), &world, "3");
    decides(file, &Connection { tls: true, ..tcp("10.0.0.1") }, &world, "1");
    decides(file, &Connection { gss: true, ..tcp("10.0.0.1") }, &world, "2");
    let file = "hostnogssenc all all all md5\nhost all all all md5";
    decides(file, &Connection { gss: true, ..tcp("10.0.0.1") }, &world, "2");
}

#[test]
fn databases_users_and_replication() {
    let world = World::default();
    let named = |user: &str, database: &str| Connection {
        user: user.to_owned(),
        database: database.to_owned(),
        ..local()
    };
    decides("local sameuser all trust", &named("joe", "joe"), &world, "1");
    decides("local \"sameuser\" all trust", &named("joe", "joe"), &world, "none");
    decides("local \"sameuser\" all trust", &named("joe", "sameuser"), &world, "1");
    decides("local all \"all\" trust\nlocal all all trust", &named("joe", "x"), &world, "2");
    decides("local all \"+staff\" trust", &named("+staff", "x"), &world, "1");
    decides("local shop,joe joe,ann trust", &named("ann", "joe"), &world, "1");
    decides("local all Joe trust", &named("joe", "x"), &world, "none");
    decides("local all \"x y\",\"a,b\",\"q\"\"q\" trust", &named("q\"q", "x"), &world, "1");
    decides("local all /^j trust", &named("joe", "x"), &world, "1");
    decides("local all /(.)\\1 trust\nlocal all all trust", &named("joe", "x"), &world, "2 ?1");
    let physical = Connection { replication: Replication::Physical, ..local() };
    decides("local all all trust\nlocal replication all trust", &physical, &world, "2");
    decides("local \"replication\" all trust", &physical, &world, "none");
    let logical = Connection { replication: Replication::Database, ..local() };
    decides("local replication all trust\nlocal all all trust", &logical, &world, "2");
    decides("local \"replication\" all trust", &named("joe", "replication"), &world, "1");
    // Names are cut at 63 bytes before anybody looks at them.
    let long = "j".repeat(70);
    decides(
        &format!("local all {} trust\nlocal all {} trust", long, &long[..63]),
        &named(&long, "x"),
        &world,
        "2",
    );
}

#[test]
fn membership() {
    let file = "local all +staff trust\nlocal samerole all trust\nlocal all all trust";
    let mut world = World::default();
    decides(file, &local(), &world, "3 ?1,2");
    world.roles.members.insert("staff".to_owned(), ["team".to_owned()].into());
    decides(file, &local(), &world, "3 ?2");
    world.roles.members.insert("team".to_owned(), ["joe".to_owned()].into());
    decides(file, &local(), &world, "1");
    decides("local all +joe trust", &local(), &world, "1");
    decides("local all +joe trust", &local(), &World::default(), "none ?1");
    world.roles.existing = Some(["staff".to_owned(), "team".to_owned()].into());
    decides(file, &local(), &world, "3");
    world.roles.existing = Some(["staff", "team", "joe"].map(str::to_owned).into());
    decides(file, &local(), &world, "1");
    decides("local samerole all trust", &Connection { database: "team".to_owned(), ..local() }, &world, "1");
    decides("local samerole all trust", &Connection { database: "joe".to_owned(), ..local() }, &world, "1");
    decides(
        "local samerole all trust",
        &Connection { database: "none".to_owned(), ..local() },
        &world,
        "none",
    );
}

#[test]
fn host_names_and_interfaces() {
    let file = "host all all .example.org md5\nhost all all all md5";
    let mut world = World::default();
    decides(file, &tcp("10.0.0.1"), &world, "2 ?1");
    world.client_name = ClientName::Nameless;
    decides(file, &tcp("10.0.0.1"), &world, "2");
    let named = |name: &str, addresses: Option<&[&str]>| ClientName::Named {
        name: name.to_owned(),
        addresses: addresses.map(|list| list.iter().map(|a| a.parse().unwrap()).collect()),
    };
    world.client_name = named("a.EXAMPLE.org", None);
    decides(file, &tcp("10.0.0.1"), &world, "2 ?1");
    world.client_name = named("a.EXAMPLE.org", Some(&["10.0.0.2", "10.0.0.1"]));
    decides(file, &tcp("10.0.0.1"), &world, "1");
    world.client_name = named("a.example.org", Some(&["10.0.0.2"]));
    decides(file, &tcp("10.0.0.1"), &world, "2");
    world.client_name = named("example.org", Some(&["10.0.0.1"]));
    decides(file, &tcp("10.0.0.1"), &world, "2");
    let same = "host all all samehost md5\nhost all all samenet md5";
    decides("host all all samenet md5", &tcp("10.0.0.9"), &world, "none ?1");
    world.own_address = Some("::ffff:10.0.0.9".parse().unwrap());
    decides(same, &tcp("10.0.0.9"), &world, "1");
    decides(same, &tcp("10.0.0.8"), &world, "none ?1,2");
    let interface =
        Interface { address: "10.0.0.1".parse().unwrap(), mask: "255.255.255.0".parse().unwrap() };
    world.interfaces = Some(vec![interface]);
    decides(same, &tcp("10.0.0.9"), &world, "2");
    decides(same, &tcp("10.0.0.1"), &world, "1");
}

#[test]
fn every_reason_has_words() {
    let file = "local all all trust\nhostssl all all all trust\nhost all all ::/0 trust\n\
                host all all 10.0.0.0/8 trust\nhost shop,\"x y\" all all trust\nhost all +staff all trust\n\
                host all ann all trust\nhost all all all ldap ldapbasedn=x ldapbindpasswd=hunter2";
    let connection = Connection { database: "wiki".to_owned(), ..tcp("11.0.0.1") };
    let decision = decide(&read(file, 18), &connection, &World::default());
    let reasons: Vec<_> = decision.passed_over.iter().map(|(_, because)| because.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "it is for Unix sockets, the client came over TCP",
            "it wants TLS, the client uses none",
            "11.0.0.1 is an IPv4 address, ::/0 holds IPv6 addresses only",
            "11.0.0.1 is not in 10.0.0.0/8",
            "the database wiki is not in: shop,\"x y\"",
            "not known: who the members of the role staff are",
            "the user joe is not in: ann",
        ]
    );
    assert!(!format!("{:?}", read(file, 18)).contains("hunter2"));
}

#[test]
fn a_password_is_never_quoted() {
    let texts = [
        "local all all ldap ldapbasedn=x ldapbindpasswd=hunter2 oops",
        "local all all ldap ldapbasedn=x ldapbindpasswd = hunter2",
        "local all all ldapbindpasswd=hunter2",
        "local all all ldap ldapbasedn=x\n  ldapbindpasswd=hunter2",
        "local all all radius radiusservers=10.0.0.1 radiussecrets=\"hunter2,,\"",
        "local all all radius radiussecrets=a,hunter2",
        "local all all md5 ldapbindpasswd=\"hunter2\"",
        "host all all ldapbindpasswd=hunter2 md5 map",
    ];
    for text in texts {
        let file = read(text, 18);
        assert!(!format!("{:?}", file.sources).contains("hunter2"), "{text}");
        assert!(!format!("{:?}", file.problems).contains("hunter2"), "{text}\n{:?}", file.problems);
        assert!(!format!("{:?}", lint(&file, &Server::of_version(18), None)).contains("hunter2"), "{text}");
    }
}

/// What the tests' disk holds.
fn disk(version: u32, files: &[(&str, &str)]) -> HbaFile {
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| path == Path::new("/etc/pg").join(name));
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(FileError::missing)
    };
    let list = |dir: &Path| match dir == Path::new("/etc/pg/hba.d") {
        true => {
            Ok(files.iter().filter_map(|(name, _)| name.strip_prefix("hba.d/")).map(str::to_owned).collect())
        }
        false => Err(FileError::missing()),
    };
    parse(
        &PathBuf::from("/etc/pg/pg_hba.conf"),
        &Files { read: &read, list: &list },
        &Server::of_version(version),
    )
}

#[test]
fn included_files() {
    let file = disk(
        16,
        &[
            (
                "pg_hba.conf",
                "include one.conf\ninclude_dir hba.d\ninclude_if_exists none.conf\nlocal all @u all",
            ),
            ("one.conf", "local a all trust\ninclude ./hba.d/../two.conf"),
            ("two.conf", "\nlocal b all trust"),
            ("hba.d/z.conf", "local z all trust"),
            ("hba.d/c.conf", "local c all trust"),
            ("hba.d/.h.conf", "wrong"),
            ("hba.d/note.txt", "wrong"),
            ("u", "joe ann\n@v"),
            ("v", "\"all\" # bob"),
        ],
    );
    let lines: Vec<_> = file.rules.iter().map(|rule| rule.at.to_string()).collect();
    let expected = ["one.conf:1", "two.conf:2", "hba.d/c.conf:1", "hba.d/z.conf:1"];
    assert_eq!(lines, expected.map(|line| format!("/etc/pg/{line}")));
    // `all` is no method: the words of @u are three users, and the last quoted.
    assert_eq!(problems(&file), [("invalid_method", 4, 14)]);
    let file = disk(15, &[("pg_hba.conf", "local all @u trust"), ("u", "joe ann\n@v"), ("v", "\"all\"")]);
    let users: Vec<_> = file.rules[0].users.iter().map(|user| user.token.written()).collect();
    assert_eq!(users, ["joe", "ann", "\"all\""]);
}

#[test]
fn circles_of_files_end() {
    let file = disk(
        18,
        &[("pg_hba.conf", "include pg_hba.conf\ninclude pg_hba.conf\nlocal all @pg_hba.conf trust")],
    );
    assert!(file.problems.iter().any(|problem| problem.id == "include_depth"));
    let file = disk(15, &[("pg_hba.conf", "local @pg_hba.conf all trust")]);
    assert_eq!(problems(&file)[0].0, "include_depth");
}

#[test]
fn a_directory_in_place_of_a_file_is_empty() {
    let read = |path: &Path| match path == Path::new("/etc/pg/pg_hba.conf") {
        true => Ok(b"local all,@hba.d all trust\nlocal @hba.d all peer".to_vec()),
        false => Err(FileError::directory()),
    };
    let files = Files { read: &read, list: &|_| Err(FileError::missing()) };
    let file = parse(Path::new("/etc/pg/pg_hba.conf"), &files, &Server::of_version(18));
    assert_eq!(file.rules.len(), 1);
    let expected = [("field_missing", 2, 22), ("directory_as_file", 1, 11), ("directory_as_file", 2, 7)];
    assert_eq!(problems(&file), expected);
}

#[test]
fn a_problem_in_an_included_list_points_there() {
    let file = disk(18, &[("pg_hba.conf", "local all all peer\nlocal all @u trust"), ("u", "joe,\n  /(a")]);
    assert_eq!(file.problems[0].place.file.as_ref(), "/etc/pg/u");
    assert_eq!(problems(&file), [("invalid_regex", 2, 3)]);
    assert_eq!(file.refused[0].to_string(), "/etc/pg/pg_hba.conf:2");
    assert_eq!(file.text(&file.problems[0].place), Some("  /(a"));
}

#[track_caller]
fn lints(text: &str, version: u32, expected: &[(&str, usize)]) {
    let server = Server::of_version(version);
    let file = read(text, version);
    let next = read(text, version + 1);
    let found: Vec<_> =
        lint(&file, &server, Some(&next)).iter().map(|problem| (problem.id, problem.place.line)).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn lint_names_lines_that_never_decide() {
    lints(
        "host all all 10.0.0.0/8 scram-sha-256\nhost all joe 10.1.0.0/16 reject",
        18,
        &[("shadowed_reject", 2)],
    );
    lints("host all all all scram-sha-256\nhost shop joe ::1/128 cert", 18, &[("method_not_here", 2)]);
    lints("hostssl all all all scram-sha-256\nhostssl shop all samenet cert", 18, &[("shadowed_line", 2)]);
    lints("local all all peer\nlocal shop joe peer", 18, &[("redundant_line", 2)]);
    lints("local all all peer\nlocal all all peer", 18, &[("duplicate_line", 2)]);
    lints("local all all peer\nlocal all all peer map=x", 18, &[("shadowed_line", 2)]);
    // Each half is covered by another line.
    let halves = "hostssl all all all cert\nhostnossl all all 0.0.0.0/0 reject\nhostnossl all all ::/0 reject\n\
                  host shop joe all scram-sha-256";
    lints(halves, 18, &[("shadowed_line", 4)]);
    lints("host all all 0.0.0.0/0 reject\nhost all all all scram-sha-256", 18, &[]);
    lints("local all all peer\nlocal replication all peer", 18, &[]);
    lints("local all +staff peer\nlocal all staff peer", 18, &[]);
    lints("local all /^j peer\nlocal all joe,jim trust", 18, &[("shadowed_line", 2)]);
    lints("local sameuser all peer\nlocal joe joe trust", 18, &[]);
    lints("host all all .example.org reject\nhost all all a.example.org gss", 18, &[("shadowed_line", 2)]);
}

#[test]
fn lint_names_open_doors() {
    lints("host all all 0.0.0.0/0 trust", 18, &[("trust_from_network", 1)]);
    lints("hostssl all all all trust clientcert=verify-full", 18, &[]);
    lints("host all all all password", 18, &[("cleartext_password", 1)]);
    lints("hostssl all all all password", 18, &[]);
    lints("host all all 10.0.0.0/8 ident", 18, &[("ident_from_network", 1)]);
    lints("host all all samehost trust", 18, &[]);
    lints("host all all all md5\nhost x y ::/0 md5", 18, &[("md5_deprecated", 1), ("redundant_line", 2)]);
}

#[test]
fn lint_knows_that_localhost_has_two_addresses() {
    lints("host all all 127.0.0.1/32 scram-sha-256", 18, &[("loopback_one_family", 1)]);
    lints("host all all ::1/128 scram-sha-256", 18, &[("loopback_one_family", 1)]);
    lints("host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256", 18, &[]);
    lints(
        "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 ident",
        18,
        &[("loopback_differs", 1)],
    );
    lints("host all all localhost scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256", 18, &[]);
}

#[test]
fn lint_names_words_and_addresses_that_mean_something_else() {
    lints("local \"all\" all peer", 18, &[("keyword_quoted", 1)]);
    lints("local all \"+staff\" peer", 18, &[("keyword_quoted", 1)]);
    lints("local * all peer", 18, &[("not_a_wildcard", 1)]);
    lints("local all sameuser peer", 18, &[("not_a_wildcard", 1)]);
    lints("host all all 0.0.0.0/32 cert", 18, &[("method_not_here", 1)]);
    lints("host all all 0.0.0.0/32 reject", 18, &[("never_matches", 1)]);
    lints("host all all ::ffff:10.0.0.0/104 reject", 18, &[("never_matches", 1)]);
    lints("host all all 10.0.0.0 0.0.0.255 reject", 18, &[("mask_inverted", 1)]);
    lints("host all all 10.0.0.7/24 reject", 18, &[("host_bits", 1)]);
}

#[test]
fn lint_looks_ahead_to_the_next_version() {
    let radius = "local all all radius radiusservers=10.0.0.1 radiussecrets=x";
    lints(radius, 17, &[]);
    lints(radius, 18, &[("next_version_refuses", 1)]);
    lints("hostssl all all all scram-sha-256 clientcert=1", 13, &[("next_version_refuses", 1)]);
    lints("local all /joe peer", 15, &[("next_version_reads_otherwise", 1)]);
    lints("local all /joe( peer", 15, &[("next_version_reads_otherwise", 1), ("next_version_refuses", 1)]);
    lints("local all pear\n", 18, &[("field_missing", 1)]);
}

/// Whether the map `m` of `text` lets `system` in as `pg`, and the line that says so.
#[track_caller]
fn maps(version: u32, text: &str, [system, pg]: [&str; 2], expected: Option<usize>) {
    let read = |_: &Path| Ok(text.as_bytes().to_vec());
    let list = |_: &Path| Err(FileError::missing());
    let server = Server::of_version(version);
    let file = parse_ident(Path::new("pg_ident.conf"), &Files { read: &read, list: &list }, &server);
    let mut world = World::default();
    world.roles.members.insert("staff".to_owned(), ["joe".to_owned()].into());
    let decision = file.check(Some("m"), pg, system, false, &world);
    assert_eq!(decision.line.map(|at| at.line), expected, "PostgreSQL {version}: {text}");
    assert_eq!(decision.allowed, expected.is_some());
}

#[test]
fn user_name_maps() {
    maps(15, "n root joe\nm root joe", ["root", "joe"], Some(2));
    maps(15, "m root joe", ["root", "ann"], None);
    maps(15, "m /^(.*)@example\\.org$ \\1", ["joe@example.org", "joe"], Some(1));
    maps(15, "m /^(.*)@example\\.org$ \\1", ["joe@example.com", "joe"], None);
    maps(15, "m \"/^r\" joe", ["root", "joe"], Some(1));
    maps(15, "m /^root$ \\1\nm root joe", ["root", "joe"], None);
    maps(15, "m root all", ["root", "joe"], None);
    maps(16, "m root all", ["root", "joe"], Some(1));
    maps(16, "m root \"all\"", ["root", "joe"], None);
    maps(15, "m root +staff", ["root", "joe"], None);
    maps(16, "m root +staff", ["root", "joe"], Some(1));
    maps(16, "m root /^j", ["root", "joe"], Some(1));
    maps(15, "m root /^j", ["root", "joe"], None);
    maps(16, "m /^(.*)$ \\1", ["all", "joe"], None);
    maps(16, "m root joe,ann", ["root", "joe"], None);
    maps(16, "m root", ["root", "joe"], None);
}

#[test]
fn without_a_map_the_names_must_be_equal() {
    let file = IdentFile { would_load: true, ..IdentFile::default() };
    let check = |pg, system, fold| file.check(None, pg, system, fold, &World::default()).allowed;
    assert!(check("joe", "joe", false) && !check("joe", "Joe", false) && check("joe", "Joe", true));
}
