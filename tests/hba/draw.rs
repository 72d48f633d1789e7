//! Random files and logins from a seed: mostly sound lines whose methods can be told apart on the wire,
//! with every way of writing that PostgreSQL knows, and now and then a wrong one.

use std::collections::{BTreeMap, BTreeSet};

use pgwhy::hba::{Connection, Kind, Replication, Roles};

/// The roles of the servers.
pub const ROLES_SQL: &str = "
create role joe login; create role ann login; create role bob login superuser; create role \"Joe\" login;
create role \"all\" login; create role \"x y\" login; create role \"a,b\" login; create role \"ü\" login;
create role sameuser login; create role \"/joe\" login; create role \"+staff\" login; create role root login;
create role staff; create role team; create role shop; create role replication login;
grant staff to joe; grant team to ann; grant staff to team; grant shop to \"x y\"; grant team to \"a,b\";
create database shop; create database joe; create database db1;
";

const EXISTING: [&str; 17] = [
    "postgres",
    "joe",
    "ann",
    "bob",
    "Joe",
    "all",
    "x y",
    "a,b",
    "ü",
    "sameuser",
    "/joe",
    "+staff",
    "root",
    "staff",
    "team",
    "shop",
    "replication",
];

const USERS: [&str; 15] = [
    "joe", "joe", "ann", "root", "bob", "Joe", "all", "x y", "a,b", "ü", "sameuser", "/joe", "+staff",
    "root", "ghost",
];

const DATABASES: [&str; 15] = [
    "shop",
    "shop",
    "joe",
    "ann",
    "db1",
    "db22",
    "all",
    "x y",
    "staff",
    "team",
    "replication",
    "sameuser",
    "ü",
    "q\"q",
    "bob",
];

/// What the statements above make.
pub fn roles() -> Roles {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut members = BTreeMap::new();
    members.insert("staff".to_owned(), set(&["joe", "team"]));
    members.insert("team".to_owned(), set(&["ann", "a,b"]));
    members.insert("shop".to_owned(), set(&["x y"]));
    Roles { members, existing: Some(set(&EXISTING)) }
}

/// SplitMix64, and the version whose language is drawn.
pub struct Draw {
    state: u64,
    version: u32,
}

impl Draw {
    pub fn new(seed: u64, version: u32) -> Self {
        Self { state: seed ^ u64::from(version) << 40, version }
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// A set of files; wild ones are for reading only.
    pub fn files(&mut self, wild: bool) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        files.insert("users.list".to_owned(), "joe, \"x y\"\n+team # comment\n\nall\\\n\n".to_owned());
        files.insert("dbs.list".to_owned(), "shop\n@more.list".to_owned());
        files.insert("more.list".to_owned(), "db1 joe,\"all\"\r\n".to_owned());
        files.insert("empty.list".to_owned(), "# nothing\n".to_owned());
        let mut broken = if wild { 25 } else { usize::from(self.percent(10)) * 8 };
        let count = 3 + self.below(12);
        let text = self.text(count, broken);
        files.insert("pg_hba.conf".to_owned(), text);
        broken /= 2;
        for name in ["extra.conf", "hba.d/b.conf", "hba.d/a.conf", "hba.d/.c.conf", "hba.d/d.txt"] {
            let count = self.below(4);
            let text = self.text(count, broken);
            files.insert(name.to_owned(), text);
        }
        // Files that include each other end at the depth limit; only sound ones are worth a login.
        if !wild {
            for name in ["extra.conf", "hba.d/b.conf", "hba.d/a.conf"] {
                let text = files[name].lines().filter(|line| !line.contains("include")).collect::<Vec<_>>();
                files.insert(name.to_owned(), text.join("\n"));
            }
        }
        let ident = self.ident(if wild { 20 } else { 1 });
        files.insert("pg_ident.conf".to_owned(), ident);
        files
    }

    fn text(&mut self, count: usize, broken: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let mut line = match self.percent(broken) {
                true if self.percent(30) => self.soup(),
                true => self.wrong_line(),
                false => self.line(),
            };
            if self.percent(8) {
                line.push_str(self.pick(&[" # comment", "#", " # comment \\", "\t"]));
            }
            text.push_str(&line);
            text.push_str(self.pick(&[
                "\n",
                "\n",
                "\n",
                "\n",
                "\r\n",
                "\n\n",
                "\n# comment\n",
                "\n  \\\n\n",
                "\n \t\n",
            ]));
        }
        if self.percent(15) {
            text.truncate(text.trim_end().len());
        }
        text
    }

    fn line(&mut self) -> String {
        if self.version >= 16 && self.percent(5) {
            return self
                .pick(&[
                    "include extra.conf",
                    "include_dir hba.d",
                    "include_if_exists missing.conf",
                    "include_if_exists ./extra.conf",
                    "\"include\" \"hba.d/a.conf\"",
                ])
                .to_owned();
        }
        let kind = self.pick(&[
            "local",
            "local",
            "local",
            "host",
            "host",
            "host",
            "host",
            "host",
            "host",
            "hostssl",
            "hostssl",
            "hostnossl",
            "hostnossl",
            "hostgssenc",
            "hostnogssenc",
        ]);
        let mut fields = vec![kind.to_owned(), self.list(true), self.list(false)];
        if kind != "local" {
            fields.push(self.address());
        }
        let method = match kind {
            "local" => {
                self.pick(&["peer", "peer", "ident", "password", "md5", "scram-sha-256", "trust", "reject"])
            }
            "hostssl" => self.pick(&["cert", "password", "md5", "scram-sha-256", "trust", "reject"]),
            _ => self.pick(&[
                "password",
                "password",
                "password",
                "md5",
                "scram-sha-256",
                "ident",
                "trust",
                "reject",
            ]),
        };
        fields.push(method.to_owned());
        if matches!(method, "peer" | "ident") && self.percent(60) {
            fields.push(
                self.pick(&["map=m", "map=n", "map=\"m\"", "\"map=m\"", "map=n map=m", "map="]).to_owned(),
            );
        }
        if kind == "hostssl" && method == "password" && self.percent(10) {
            fields.push("clientname=CN".to_owned());
        }
        let mut line = String::new();
        for (index, field) in fields.iter().enumerate() {
            if index > 0 || self.percent(5) {
                line.push_str(self.pick(&[" ", " ", " ", "\t", "   ", " \t ", " \\\n", " ,"]));
            }
            line.push_str(field);
        }
        line
    }

    fn list(&mut self, database: bool) -> String {
        let count = if self.percent(65) { 1 } else { 1 + self.below(3) };
        let mut out = String::new();
        for index in 0..count {
            if index > 0 {
                out.push_str(self.pick(&[",", ",", ", ", ",,", ",\\\n  "]));
            }
            let word = self.word(database);
            out.push_str(&word);
        }
        out
    }

    fn word(&mut self, database: bool) -> String {
        if self.percent(3) {
            // Servers cut names at 63 bytes.
            return format!("j{}", "o".repeat(if self.percent(70) { 62 } else { 69 }));
        }
        if self.percent(40) {
            return "all".to_owned();
        }
        if self.version >= 16 && self.percent(20) {
            let regex = self.pick(&[
                "/^j",
                "/^db\\d+$",
                "/o.$",
                "\"/^(joe|ann)$\"",
                "/^[a-j]{3}$",
                "/\\mshop",
                "/.",
                "/^..$",
                "/(?i)^JOE$",
                "/^\\w+$",
                "/[[:upper:]]",
                "/^.$",
                "/^..$",
                "/^.*$",
                "\"/, \"",
                "/(.)\\1",
                "/***=joe",
                "/a*?b",
                "/^\\+",
                "/x\\sy",
                "\"/^\"\"?j\"",
            ]);
            return regex.to_owned();
        }
        if self.percent(10) {
            return self
                .pick(&["@users.list", "@dbs.list", "@\"users.list\"", "joe,@dbs.list", "\"@users.list\""])
                .to_owned();
        }
        let keyword = match database {
            true => self.pick(&["sameuser", "samerole", "samegroup", "replication", "replication"]),
            false => {
                self.pick(&["+staff", "+team", "+joe", "+ghost", "+shop", "sameuser", "+", "+\"staff\""])
            }
        };
        if self.percent(35) {
            return if self.percent(15) {
                format!("\"{}\"", keyword.replace('"', ""))
            } else {
                keyword.to_owned()
            };
        }
        let name = if database { self.pick(&DATABASES) } else { self.pick(&USERS) };
        let needs_quotes = name.contains([' ', ',', '+', '/', '"']);
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        match self.below(10) {
            0 => quoted,
            1 if !needs_quotes => {
                // A quote inside of a word: the word is as good as without.
                let cut = name.char_indices().nth(1).map_or(name.len(), |(at, _)| at);
                format!("{}\"{}\"", &name[..cut], &name[cut..])
            }
            _ if needs_quotes => quoted,
            _ => name.to_owned(),
        }
    }

    fn address(&mut self) -> String {
        self.pick(&[
            "all",
            "all",
            "0.0.0.0/0",
            "127.0.0.0/8",
            "127.0.0.1/32",
            "127.0.0.2/32",
            "127.0.0.0/30",
            "127.0.0.4/31",
            "127.0.0.0 255.0.0.5",
            "127.0.0.2 255.255.255.255",
            "127.0.0.7/29",
            "::1/128",
            "::/0",
            "all",
            "samehost",
            "samenet",
            "10.0.0.0/8",
            "127.1/32",
            "0x7f.0.0.3/32",
            "127.0.0.1/+32",
            "\"127.0.0.0/ 8\"",
            "localhost",
            "LocalHost",
            ".localdomain",
            "\"all\"",
            "::ffff:127.0.0.1/128",
            "::1 ffff::",
            "127.0.0.5\\\n/32",
            "fe80::%1/10",
            "2130706433/32",
            "127.0.0.1/032",
        ])
        .to_owned()
    }

    fn wrong_line(&mut self) -> String {
        let lines = [
            "host all",
            "host",
            "hostx all all all trust",
            "Local all all trust",
            "host all all 1.2.3.4 trust",
            "host all all 1.2.3.4/33 trust",
            "host all all localhost/32 trust",
            "local all all foo",
            "local all all",
            "host all all all peer",
            "host all all all cert",
            "hostnossl all all all cert",
            "host all all all trust map=x",
            "local all all peer map",
            "host all all all md5 foo=1",
            "host all all all md5 clientcert=verify-ca",
            "hostssl all all all md5 clientcert=1",
            "hostssl all all all md5 clientcert=verify-ca",
            "hostssl all all all cert clientcert=verify-full map=y",
            "hostssl all all all cert clientcert=verify-ca",
            "hostssl all all all md5 clientcert=no-verify",
            "hostssl all all all cert clientname=DN",
            "hostssl all all all cert clientname=cn",
            "local,host all all trust",
            "host all all all,all trust",
            "host all all all trust,reject",
            "host all all 1.2.3.4 255.0.0.0,255.0.0.0 trust",
            "host all all ::1 255.0.0.0 trust",
            "host all all 1.2.3.4 255.0.0.256 trust",
            "local all all gss",
            "local all all ldap ldapserver=x",
            "local all all ldap ldapprefix=a ldapbasedn=b",
            "local all all ldap ldapbasedn=b ldapsearchattribute=a ldapsearchfilter=c",
            "local all all ldap ldapsuffix=x",
            "local all all ldap ldapbasedn=b ldapport=x",
            "local all all ldap ldapbasedn=b ldapscheme=http",
            "local all all ldap ldapurl=ldap://h/dc=x?uid",
            "local all all ldap ldapurl=ldaps://h",
            "local all all ldap ldapurl=http://h/dc=x",
            "local all all ldap ldapbasedn=b ldapbindpasswd=secret",
            "local all all radius",
            "local all all radius radiusservers=127.0.0.1",
            "local all all radius radiusservers=127.0.0.1 radiussecrets=x",
            "local all all radius radiusservers=\"127.0.0.1,127.0.0.2\" radiussecrets=\"x,y\" radiusports=\"1\"",
            "local all all radius radiusservers=127.0.0.1 radiussecrets=\"x,y\"",
            "local all all radius radiusservers=127.0.0.1 radiussecrets=x radiusports=z",
            "local all all radius radiusservers=127.0.0.1 radiussecrets=\"x,,y\"",
            "local all all radius radiusservers=\"\" radiussecrets=x",
            "local all all pam pamservice=x",
            "local all all pam pam_use_hostname=2",
            "host all all all sspi",
            "host all all all bsd",
            "host all all all gss include_realm=0 krb_realm=X",
            "host all all all gss compat_realm=1",
            "host all all all krb5",
            "local @missing.list all trust",
            "local all @missing.list trust",
            "local all @empty.list trust",
            "local @empty.list all all trust",
            "include missing.conf",
            "include",
            "include a b",
            "include_dir missing",
            "include_dir \" \"",
            "include_if_exists extra.conf x",
            "include @dbs.list",
            "include pg_hba.conf",
            "host all /( all trust",
            "host /* all all trust",
            "local all /a{300} trust",
            "local /[z-a] all trust",
            "local all /\\q trust",
            "local all /(a trust",
            "local all \"/[[:foo:]]\" trust",
            "local all all oauth",
            "local all all oauth issuer=x scope=y",
            "local all all oauth issuer=x scope=y map=z delegate_ident_mapping=1",
            "local all all peer map=m issuer=x",
            "host all all \"\" trust",
            "host all all /8 trust",
            "host all all 1.2.3/24 trust",
            "local all all \"trust",
            "\"local\" \"all\" all \"trust\"",
            "local all all trust # x \\\ny",
            "local all all trust ,",
            "host all all 127.0.0.1/ trust",
            "host all all 127.0.0.1/-1 trust",
            "host all all 127.0.0.1/8/8 trust",
            "host all all 127.0.0.1/8x trust",
            "host all all 1.2.3.4.5/8 trust",
            "host all all ::1/129 trust",
            "host all all :::/0 trust",
            "local all all TRUST",
            "host all all \"samehost\" trust",
            "host all all samehost/8 trust",
            "local all all peer =x",
            "local all all peer map==x",
            "local \"\" all trust",
            "local all all trust a\\",
        ];
        self.pick(&lines).to_owned()
    }

    /// Characters that mean something, in no order.
    fn soup(&mut self) -> String {
        let pieces = [
            "local",
            "host",
            "all",
            " ",
            " ",
            " ",
            "\t",
            ",",
            "\"",
            "\"\"",
            "#",
            "@",
            "/",
            "+",
            "\\",
            "\\\n",
            "\r",
            "trust",
            "127.0.0.1",
            "::1",
            "/32",
            "=",
            "map=x",
            "md5",
            "\u{b}",
            "ü",
            "include",
        ];
        let count = 1 + self.below(14);
        (0..count).map(|_| self.pick(&pieces)).collect()
    }

    fn ident(&mut self, broken: usize) -> String {
        let mut text = String::new();
        let count = self.below(6);
        for _ in 0..count {
            if self.percent(broken) {
                let lines = [
                    "m root",
                    "m",
                    "m,n root joe",
                    "m root,x joe",
                    "m /( joe",
                    "m root /(",
                    "m root joe more",
                    "m /a{2,1} x",
                ];
                text.push_str(self.pick(&lines));
            } else {
                let map = self.pick(&["m", "m", "m", "n", "\"m\""]);
                let system = self.pick(&[
                    "root",
                    "root",
                    "/^r(.*)$",
                    "/^(r)oot",
                    "/oo",
                    "\"/^root$\"",
                    "daemon",
                    "/^(.*)$",
                    "/^r",
                    "\"root\"",
                ]);
                let user = self.pick(&[
                    "joe",
                    "ann",
                    "all",
                    "all",
                    "\"all\"",
                    "\\1",
                    "r\\1",
                    "r\\1",
                    "+staff",
                    "\"+staff\"",
                    "/^j",
                    "\"/^j\"",
                    "+team",
                    "root",
                    "x\\1",
                    "\"x y\"",
                    "/(?i)^JOE$",
                    "\\1\\1",
                ]);
                text.push_str(&format!("{map} {system}\t{user}"));
            }
            text.push('\n');
        }
        text
    }

    /// A login from one of the addresses that lines are about.
    pub fn login(&mut self, ipv6: bool) -> Connection {
        let user = match self.below(20) {
            0 | 1 => format!("j{}", "o".repeat(69)),
            _ => self.pick(&USERS).to_owned(),
        };
        let database = if self.percent(25) { user.clone() } else { self.pick(&DATABASES).to_owned() };
        let replication = match self.below(20) {
            0 | 1 => Replication::Physical,
            2 => Replication::Database,
            _ => Replication::None,
        };
        let mut login =
            Connection { user, database, replication, kind: Kind::Local, ..Connection::default() };
        if !self.percent(25) {
            login.kind = Kind::Tcp;
            let source = match self.percent(20) && ipv6 {
                true => "::1",
                false => {
                    self.pick(&["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.5", "127.3.2.1"])
                }
            };
            login.address = source.parse().ok();
            login.tls = self.percent(20);
        }
        login
    }
}
