//! `pg_hba_file_rules`: the file as the server itself reads it (PostgreSQL: `fill_hba_line`).
//!
//! A row holds what was parsed, so the line is written again from its columns and read like any other.
//! One thing is lost on the way: the view does not say which words were quoted, so a role that is
//! really named `all` can't be told from the keyword. Words are taken for the keywords that they spell.

use std::net::IpAddr;

use super::address::numeric;
use super::{HbaFile, Place, Problem, RuleRef, Server, parse_text};

/// One row of `pg_hba_file_rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewRow {
    /// `file_name` (PostgreSQL 16 and later).
    pub file: Option<String>,
    /// `line_number`.
    pub line: Option<i32>,
    /// `rule_number` (PostgreSQL 16 and later; none for a line in error).
    pub rule_number: Option<i32>,
    /// `type`: local, host, hostssl, ….
    pub kind: Option<String>,
    /// `database`.
    pub databases: Vec<String>,
    /// `user_name`.
    pub users: Vec<String>,
    /// `address`.
    pub address: Option<String>,
    /// `netmask`.
    pub netmask: Option<String>,
    /// `auth_method`.
    pub method: Option<String>,
    /// `options`, as `name=value`.
    pub options: Vec<String>,
    /// `error`: why the server can't read the line.
    pub error: Option<String>,
}

impl ViewRow {
    /// Why the server refuses the line. A line that it takes may have a complaint as well: hostssl where
    /// ssl is off, hostgssenc without GSSAPI (`parse_hba_line` goes on there, and the columns are filled).
    pub fn refusal(&self) -> Option<&str> {
        self.error.as_deref().filter(|_| self.kind.is_none())
    }
}

/// Makes a file of the view's rows, in their order. `name` is what `hba_file` says: before version 16
/// the rows do not. `None` when a row is none that this program can read: a guess would be worse.
pub fn from_view(rows: &[ViewRow], name: &str, version: u32) -> Option<HbaFile> {
    // What the server accepted was compiled in.
    let server = Server { bsd: true, sspi: true, ..Server::of_version(version) };
    let mut file = HbaFile { version, would_load: !rows.is_empty(), ..HbaFile::default() };
    for row in rows {
        let name = row.file.as_deref().unwrap_or(name);
        let line = usize::try_from(row.line?).ok()?;
        let at = RuleRef { file: name.into(), line };
        if let Some(error) = row.refusal() {
            let place = Place { file: at.file.clone(), line, column: 0, length: 0 };
            file.problems.push(Problem::error("refused_by_server", &place, error, "correct the line"));
            file.refused.push(at);
            file.would_load = false;
            continue;
        }
        let mut read = parse_text(name, &written(row)?, &server);
        let (true, [_]) = (read.would_load, read.rules.as_slice()) else { return None };
        let mut rule = read.rules.pop()?;
        rule.at = at;
        for place in [&mut rule.place, &mut rule.address_place, &mut rule.method_place] {
            place.line = line;
        }
        file.rules.push(rule);
    }
    Some(file)
}

/// The row as a line of the file.
fn written(row: &ViewRow) -> Option<String> {
    let mut fields = vec![row.kind.clone()?, words(&row.databases)?, words(&row.users)?];
    match (&row.address, &row.netmask) {
        (Some(address), Some(mask)) => match (numeric(address)?, numeric(mask)?) {
            (ip, mask) if length(mask).is_some() => fields.push(format!("{ip}/{}", length(mask)?)),
            (ip, mask) => fields.extend([ip.to_string(), mask.to_string()]),
        },
        (Some(address), None) => fields.push(word(address)?),
        (None, _) => {}
    }
    fields.push(word(row.method.as_deref()?)?);
    // The view tells the scope of every ldap line (`get_hba_options`); in the file it stands within ldapurl only.
    for option in row.options.iter().filter(|option| !option.starts_with("ldapscope=")) {
        fields.push(word(option)?);
    }
    Some(fields.join(" "))
}

fn words(list: &[String]) -> Option<String> {
    let words: Option<Vec<String>> = list.iter().map(|text| word(text)).collect();
    words.filter(|words| !words.is_empty()).map(|words| words.join(","))
}

/// A word as a file would write it: quoted where it must be, but not before a `+` or `/`, which mean
/// something only without a quote.
fn word(text: &str) -> Option<String> {
    if text.contains(['\n', '\r', '\0']) {
        return None;
    }
    let plain = |c: char| !c.is_whitespace() && !",\"#\\".contains(c);
    if !text.is_empty() && !text.starts_with('@') && text.chars().all(plain) {
        return Some(text.to_owned());
    }
    let (sign, rest) = match text.strip_prefix(['+', '/']) {
        Some(rest) => text.split_at(text.len() - rest.len()),
        None => ("", text),
    };
    Some(format!("{sign}\"{}\"", rest.replace('"', "\"\"")))
}

/// How many leading bits a mask has, if it is a row of them.
fn length(mask: IpAddr) -> Option<u32> {
    let (bits, all) = match mask {
        IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, 32),
        IpAddr::V6(mask) => (mask.to_bits(), 128),
    };
    let ones = bits.leading_ones();
    (bits.checked_shl(ones).unwrap_or_default() == 0).then_some(ones.min(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hba::{Connection, Verdict, World, decide};

    fn row(line: i32, kind: &str, databases: &[&str], users: &[&str], method: &str) -> ViewRow {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ViewRow {
            line: Some(line),
            kind: Some(kind.into()),
            databases: own(databases),
            users: own(users),
            method: Some(method.into()),
            ..ViewRow::default()
        }
    }

    fn host(row: ViewRow, address: &str, netmask: Option<&str>) -> ViewRow {
        ViewRow { address: Some(address.into()), netmask: netmask.map(str::to_owned), ..row }
    }

    #[test]
    fn a_complaint_is_no_refusal() {
        let tls_off = ViewRow {
            error: Some("hostssl record cannot match because SSL is disabled".into()),
            ..host(row(1, "hostssl", &["all"], &["all"], "md5"), "all", None)
        };
        let refused = ViewRow {
            line: Some(2),
            error: Some("invalid authentication method".into()),
            ..ViewRow::default()
        };
        let file = from_view(std::slice::from_ref(&tls_off), "pg_hba.conf", 15).unwrap();
        assert!(file.would_load && file.rules.len() == 1 && file.refused.is_empty());
        let file = from_view(&[tls_off, refused], "pg_hba.conf", 15).unwrap();
        assert!(!file.would_load && file.rules.len() == 1 && file.refused.len() == 1);
    }

    #[test]
    fn a_row_is_the_line_that_it_was() {
        let all = |line| row(line, "host", &["all"], &["all"], "scram-sha-256");
        let rows = [
            ("a local line", row(1, "local", &["all"], &["all"], "peer"), "local all all peer"),
            ("IPv4", host(all(1), "10.0.0.0", Some("255.0.0.0")), "host all all 10.0.0.0/8 scram-sha-256"),
            ("all of IPv4", host(all(1), "0.0.0.0", Some("0.0.0.0")), "host all all 0.0.0.0/0 scram-sha-256"),
            (
                "IPv6",
                host(all(1), "::1", Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
                "host all all ::1/128 scram-sha-256",
            ),
            (
                "a mask with a hole",
                host(all(1), "10.0.0.1", Some("255.0.0.255")),
                "host all all 10.0.0.1 255.0.0.255 scram-sha-256",
            ),
            ("a name", host(all(1), ".example.org", None), "host all all .example.org scram-sha-256"),
            ("a keyword", host(all(1), "samenet", None), "host all all samenet scram-sha-256"),
            (
                "words that need quotes",
                host(row(1, "host", &["my db", "a,b"], &["+the staff", "q\"q"], "md5"), "all", None),
                "host \"my db\",\"a,b\" +\"the staff\",\"q\"\"q\" all md5",
            ),
        ];
        for (claim, row, line) in rows {
            let file = from_view(&[row], "pg_hba.conf", 15).unwrap_or_else(|| panic!("{claim}"));
            assert_eq!(file.rules[0].raw, line, "{claim}");
        }
    }

    #[test]
    fn rows_decide_as_lines_do() {
        let rows = [
            host(row(90, "host", &["all"], &["+staff"], "reject"), "all", None),
            ViewRow {
                file: Some("/etc/more.conf".into()),
                ..host(row(3, "host", &["all"], &["/^a.*$"], "trust"), "10.0.0.0", Some("255.0.0.0"))
            },
        ];
        let file = from_view(&rows, "/etc/pg_hba.conf", 18).unwrap();
        let mut world = World::default();
        world.roles.members.insert("staff".into(), Default::default());
        let connection = Connection {
            address: "10.1.2.3".parse().ok(),
            user: "app".into(),
            database: "d".into(),
            ..Connection::default()
        };
        let decision = decide(&file, &connection, &world);
        assert!(decision.certain && decision.verdict == Verdict::Trust, "{decision:?}");
        assert_eq!(decision.line.unwrap().to_string(), "/etc/more.conf:3");
        assert_eq!(decision.passed_over[0].0.to_string(), "/etc/pg_hba.conf:90");
    }

    #[test]
    fn a_row_in_error_is_a_file_that_is_not_loaded() {
        let error =
            ViewRow { line: Some(7), error: Some("end-of-line before method".into()), ..ViewRow::default() };
        let good = row(1, "local", &["all"], &["all"], "trust");
        let file = from_view(&[good, error], "pg_hba.conf", 15).unwrap();
        assert!(!file.would_load && file.rules.len() == 1 && file.refused[0].line == 7);
    }

    #[test]
    fn no_secret_of_the_options_is_kept_and_no_guess_is_made() {
        let mut secret = host(row(1, "host", &["all"], &["all"], "ldap"), "all", None);
        secret.options = ["ldapserver=h", "ldapbasedn=dc=x", "ldapbindpasswd=hunter2 x", "ldapscope=2"]
            .map(String::from)
            .into();
        let file = from_view(&[secret], "pg_hba.conf", 15).unwrap();
        assert!(!format!("{file:?}").contains("hunter2"), "{file:?}");
        for (claim, row) in [
            ("a method of tomorrow", row(1, "local", &["all"], &["all"], "telepathy")),
            ("no line number", ViewRow { line: None, ..row(1, "local", &["all"], &["all"], "trust") }),
            ("a line end in a name", row(1, "local", &["all"], &["a\nb"], "trust")),
            ("no database", row(1, "local", &[], &["all"], "trust")),
        ] {
            assert_eq!(from_view(&[row], "pg_hba.conf", 15).map(|file| file.rules.len()), None, "{claim}");
        }
    }
}
