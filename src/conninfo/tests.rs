use super::*;

fn nothing(_: &str) -> Option<String> {
    None
}

/// What a text is read as, on one line: `user|password|raw|hosts|database|sslmode|problems`.
fn line(text: &str) -> String {
    match Conninfo::parse(text, &nothing) {
        Err(error) => format!("error {} at {}", error.problem.id, error.problem.column),
        Ok(info) => {
            let secret = |value: &Option<Secret<String>>| {
                value.as_ref().map_or("-".to_owned(), |v| v.expose().clone())
            };
            let hosts: Vec<String> = info.hosts.iter().map(Host::to_string).collect();
            let problems: Vec<String> =
                info.problems.iter().map(|p| format!("{}@{}", p.id, p.column)).collect();
            [
                info.user.clone().unwrap_or("-".to_owned()),
                secret(&info.password),
                secret(&info.raw_password),
                hosts.join(","),
                info.database.clone().unwrap_or("-".to_owned()),
                info.sslmode.map_or("-", SslMode::as_str).to_owned(),
                problems.join(" "),
            ]
            .join("|")
        }
    }
}

#[track_caller]
fn check(text: &str, claim: &str) {
    assert_eq!(line(text), claim, "{text}");
}

#[test]
fn uris_as_libpq_reads_them() {
    // Cases of src/interfaces/libpq/t/001_uri.pl among them.
    check("postgresql://uri-user:secret@host:12345/db", "uri-user|secret|secret|host:12345|db|-|");
    check("postgresql://uri-user@host/db", "uri-user|-|-|host:5432|db|-|");
    check("postgresql://host:12345/", "-|-|-|host:12345|-|-|");
    check("postgres://u:@h/db", "u|-|-|h:5432|db|-|");
    check("postgresql://%68ost/", "-|-|-|host:5432|-|-|");
    check("postgresql://host/db?user=uri-user", "uri-user|-|-|host:5432|db|-|");
    check("postgresql://host?sslmode=require", "-|-|-|host:5432|-|require|");
    check("postgresql://host/?ssl=true", "-|-|-|host:5432|-|require|");
    check("postgresql://[2001:db8::1234]:5433/db", "-|-|-|[2001:db8::1234]:5433|db|-|");
    check("postgresql://[::1]", "-|-|-|[::1]:5432|-|-|");
    check("postgresql://[::1", "error host_invalid at 14");
    check("postgresql://[::1]x/", "error host_invalid at 14");
    check("postgres://h1:1,h2:2,[::1]/db", "-|-|-|h1:1,h2:2,[::1]:5432|db|-|");
    check("postgres://h1,h2/db?port=7", "-|-|-|h1:7,h2:7|db|-|");
    check("postgres://%2Fvar%2Flib/db", "-|-|-|%2Fvar%2Flib:5432|db|-|");
    check("postgres:///db?host=/tmp&port=6543", "-|-|-|%2Ftmp:6543|db|-|");
    check("postgres://", "-|-|-|%2Fvar%2Frun%2Fpostgresql:5432|-|-|");
    check("postgres://h/db?host=other", "-|-|-|other:5432|db|-|");
    check("postgres://h/a%2Fb?options=-c%20a%3Db", "-|-|-|h:5432|a/b|-|");
    check("postgres://h/db?options=x@y", "-|-|-|h:5432|db|-|");
    check("postgres://h:0/db", "error port_invalid at 14");
    check("postgres://h:54321234/db", "error port_invalid at 14");
    check("postgres://h/db?sslmode=yes", "-|-|-|h:5432|db|-|param_unknown@17");
    check("postgres://h/db?connection_limit=1", "-|-|-|h:5432|db|-|param_unknown@17");
}

#[test]
fn passwords_that_were_not_encoded() {
    // The upstream is found each time.
    check("postgres://app:pa#ss@h", "app|pa#ss|pa#ss|h:5432|-|-|unencoded_hash@18");
    check("postgres://app:12#34@h", "app|12#34|12#34|h:5432|-|-|unencoded_hash@18");
    check("postgres://app:pa@ss@h", "app|pa@ss|pa@ss|h:5432|-|-|unencoded_at@18");
    check("postgres://app:pa/ss@h", "app|pa/ss|pa/ss|h:5432|-|-|unencoded_slash@18");
    check("postgres://app:12/34@h/db", "app|12/34|12/34|h:5432|db|-|unencoded_slash@18");
    check("postgres://app:p@a/ss@h/db", "app|p@a/ss|p@a/ss|h:5432|db|-|unencoded_at@17 unencoded_slash@19");
    check("postgres://app:pa?ss@h", "app|pa?ss|pa?ss|h:5432|-|-|unencoded_question@18");
    check(
        "postgres://app:pa?ss@h/d?sslmode=disable",
        "app|pa?ss|pa?ss|h:5432|d|disable|unencoded_question@18",
    );
    check("postgres://app:pa%ss@h", "app|pa%ss|pa%ss|h:5432|-|-|bad_percent@18");
    check("postgres://app:pa%23ss@h", "app|pa#ss|pa%23ss|h:5432|-|-|");
    check("postgres://app:50%off%2Fx@h", "app|50%off%2Fx|50%off%2Fx|h:5432|-|-|bad_percent@18");
    check("postgres://app:p %2Fs@h", "app|p /s|p %2Fs|h:5432|-|-|");
    check("postgres://app:pa[ss]@h", "app|pa[ss]|pa[ss]|h:5432|-|-|");
    check("postgres://app:pa%E9ss@h", "app|pa%E9ss|pa%E9ss|h:5432|-|-|bad_percent@16");
    check("postgres://app:a%00b@h", "app|a%00b|a%00b|h:5432|-|-|bad_percent@17");
    check("postgres://user@server:pw@h/db", "user@server|pw|pw|h:5432|db|-|unencoded_at@16");
    check("postgres://app:12/34@h", "app|12/34|12/34|h:5432|-|-|unencoded_slash@18");
    check("postgres://db.example:5432/a@b", "-|-|-|db.example:5432|a@b|-|");
}

#[test]
fn values_that_were_mangled_on_the_way() {
    check("\"postgres://u:p@h/db\"", "u|p|p|h:5432|db|-|quotes_kept@1");
    check("'postgres://u:p@h/db", "u|p|p|h:5432|db|-|quotes_kept@1");
    check("postgres://u:p@h/db\"", "u|p|p|h:5432|db|-|quotes_kept@20");
    check(" postgres://u:p@h/db", "u|p|p|h:5432|db|-|blank_around@1");
    check("postgres://u:p@h/db\r", "u|p|p|h:5432|db|-|blank_around@20");
    check("\u{feff}postgres://u:p@h/db", "u|p|p|h:5432|db|-|blank_around@1");
    check("DATABASE_URL=postgres://u:p@h/db", "u|p|p|h:5432|db|-|doubled_key@1");
    check("export DATABASE_URL=\"postgres://u:p@h/db\"", "u|p|p|h:5432|db|-|doubled_key@1 quotes_kept@21");
    check("postgress://u:p@h/db", "u|p|p|h:5432|db|-|scheme@1");
    check("POSTGRES://u:p@h/db", "u|p|p|h:5432|db|-|scheme@1");
    check("postgresql+asyncpg://u:p@h/db", "u|p|p|h:5432|db|-|scheme@1");
    check("postgres:/u:p@h/db", "u|p|p|h:5432|db|-|scheme@1");
    check("u:p@h:5433/db", "u|p|p|h:5433|db|-|scheme@1");
    check("mysql://u:p@h/db", "error scheme at 1");
    check("https://u:p@h/db", "error scheme at 1");
    check("jdbc:mysql://h/db", "error scheme at 6");
    check("jdbc:oracle:thin:@h", "error scheme at 6");
    check("jdbc:postgresql://h:1/db?user=u&password=p%23w", "u|p#w|p%23w|h:1|db|-|");
    check("jdbc:postgresql://u:p@h/db", "u|p|p|h:5432|db|-|jdbc_userinfo@19");
    check("", "error empty at 1");
    check(" \n", "error empty at 1");
    check("undefined", "error empty at 1");
    check("${DATABASE_URL}", "error variable_unexpanded at 1");
    check("$DATABASE_URL", "error variable_unexpanded at 1");
    check("postgres://u:${PW}@h/db", "u|${PW}|${PW}|h:5432|db|-|variable_unexpanded@14");
    check("postgres://u:p@${HOST}/db", "error variable_unexpanded at 16");
    check("postgres://u:p@h:${PORT}/db", "error variable_unexpanded at 18");
}

#[test]
fn keyword_strings() {
    check("host=h port=5433 user=u password='p w' dbname=d", "u|p w|-|h:5433|d|-|");
    check("host = 'a\\'b'", "error host_invalid at 1");
    check("password=a\\ b\\\\c host=h", "-|a b\\c|-|h:5432|-|-|");
    check("host=h password='open", "error syntax at 17");
    check("host=h password=a secret", "error syntax at 19");
    check("host=a,b hostaddr=10.0.0.1,10.0.0.2 sslmode=verify-full", "-|-|-|a:5432,b:5432|-|verify-full|");
    check("host=a,b hostaddr=10.0.0.1", "error syntax at 10");
    check("host=a,b,c port=1,2", "error syntax at 12");
    check("hostaddr=10.0.0.1", "-|-|-|10.0.0.1:5432|-|-|");
    check("host=/tmp connect_timeout=x", "-|-|-|%2Ftmp:5432|-|-|param_unknown@11");
    check("Host=h;Port=7;Username=u;Password='p;';Database=d", "u|'p|-|h:7|d|-|scheme@1");
    check("Server=h;User Id=u;Password=p;SSL Mode=VerifyFull;", "u|p|-|h:5432|-|verify-full|scheme@1");
}

#[test]
fn plain_places() {
    check("db.example", "-|-|-|db.example:5432|-|-|");
    check("db.example:5433", "-|-|-|db.example:5433|-|-|");
    check("[::1]:5433", "-|-|-|[::1]:5433|-|-|");
    check("::1", "-|-|-|[::1]:5432|-|-|");
    check("127.0.0.1", "-|-|-|127.0.0.1:5432|-|-|");
    check("/var/run/pg", "-|-|-|%2Fvar%2Frun%2Fpg:5432|-|-|");
    check("a:1,b:2", "-|-|-|a:1,b:2|-|-|");
    check("h:x", "error port_invalid at 1");
    check("not a host", "error host_invalid at 1");
}

#[test]
fn environment_fills_what_is_missing() {
    let environment = |name: &str| {
        let value = match name {
            "PGHOST" => "envhost",
            "PGHOSTADDR" => "10.1.1.1",
            "PGPORT" => "7777",
            "PGUSER" => "envuser",
            "PGPASSWORD" => "envpw",
            "PGDATABASE" => "envdb",
            "PGSSLMODE" => "require",
            "PGCONNECT_TIMEOUT" => "9",
            "PGPASSFILE" => "/pgpass",
            "PGSERVICE" => "svc",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let info = Conninfo::from_environment(&environment).unwrap();
    assert_eq!(info.hosts[0].to_string(), "envhost:7777");
    assert_eq!(info.hosts[0].hostaddr, Some("10.1.1.1".parse().unwrap()));
    assert_eq!((info.user.as_deref(), info.database.as_deref()), (Some("envuser"), Some("envdb")));
    assert_eq!(info.password_source, Some(PasswordSource::Environment));
    assert_eq!((info.sslmode, info.connect_timeout), (Some(SslMode::Require), Some(Duration::from_secs(9))));
    assert_eq!((info.passfile.as_deref(), info.problems[0].id), (Some("/pgpass"), "service"));
    let info =
        Conninfo::parse("postgres://u:p@h:1/d?sslmode=disable&connect_timeout=0", &environment).unwrap();
    assert_eq!((info.hosts[0].to_string().as_str(), info.hosts[0].hostaddr), ("h:1", None));
    assert_eq!((info.password.unwrap().expose().as_str(), info.connect_timeout), ("p", None));
    let error =
        Conninfo::from_environment(&|name| (name == "PGPORT").then(|| "${P}x".to_owned())).unwrap_err();
    assert_eq!(error.problem.id, "variable_unexpanded");
}

#[test]
fn nothing_shows_the_password() {
    let texts = [
        "postgres://u:planted@h/db?sslpassword=planted&planted=planted",
        "postgres://u:x#planted@h/db",
        "postgres://u:x/planted@h/db",
        "postgres://u:x?planted@h/db",
        "postgres://u:12/planted@h",
        "postgres://u:%zzplanted@h:bad/db",
        "postgres://u:planted/x:y",
        "postgres://u:planted:x@y@z:planted",
        "host=h password=x planted",
        "host=h password='planted",
        "host=h password=x planted=1",
        "host=h;password=planted",
        "planted planted",
        "h:planted",
        "postgres://h/db?password=a&planted",
        "postgres://h/db?password=a%planted&b=c",
        "\"DATABASE_URL=postgres://u:planted@h/db\"",
    ];
    for text in texts {
        let shown = match Conninfo::parse(text, &nothing) {
            Ok(info) => format!("{info:?} {}", info.display_redacted()),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("planted"), "{text}: {shown}");
    }
    let info =
        Conninfo::parse("postgres://u:p@h/a%20b?sslmode=require&application_name=x%20y&foo=bar", &nothing)
            .unwrap();
    assert_eq!(
        info.display_redacted(),
        "postgres://u:***@h:5432/a%20b?sslmode=require&application_name=x%20y&…"
    );
}

/// xorshift64: the same texts in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

#[test]
fn never_panics() {
    let pieces = [
        "postgres://",
        "postgresql:",
        "jdbc:",
        "u:p",
        "@",
        ":",
        "/",
        "?",
        "#",
        "%",
        "%2",
        "%41",
        "%E9",
        "[",
        "]",
        "::1",
        "host=",
        "'",
        "\"",
        "\\",
        " ",
        "\n",
        "\r\n",
        "=",
        "&",
        ";",
        ",",
        "${A}",
        "$",
        "{{",
        "}}",
        "é",
        "\u{feff}",
        "5432",
        "password=",
        "sslmode=",
        "A=",
        "export ",
        "undefined",
        "\0",
        "`",
        "port=",
        "hostaddr=",
        ".",
        "*:",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60_000 {
        let count = random.below(9);
        let text: String = (0..count).map(|_| pieces[random.below(pieces.len())]).collect();
        let _ = Conninfo::parse(&text, &nothing).map(|info| format!("{info:?}"));
        let _ = passfile::lookup(&text, &HostName::Name("h".to_owned()), 1, "d", "u");
        let _ = env_file::parse(&text);
    }
    for _ in 0..5_000 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.next().to_le_bytes()[0]).collect();
        let text = String::from_utf8_lossy(&bytes);
        let _ = Conninfo::parse(&text, &nothing);
        let _ = env_file::parse(&text);
    }
}
