//! What nobody thought of: two causes at once, names that look like log lines, context that lies.

use super::case::With::{Admin, AdminAs, AdminElsewhere, Control, ControlElsewhere, Hba, Log, LogElsewhere};
use super::case::{Case, With, case};

/// The database whose line of pg_hba.conf asks everybody for a password.
pub const DATABASE: &str = "adv";

pub const LINES: &str = "host adv,samerole all 127.0.0.1/32 scram-sha-256\n";

/// On both clusters.
pub const SQL: &str = r#"
CREATE DATABASE adv;
CREATE ROLE "Ünï" LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE "we""ird, name" LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE U&"nl\000aDETAIL:  Role ""nl"" does not exist." LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE "all" LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE "Mixed" LOGIN PASSWORD 'r1ght-pass';
CREATE ROLE full LOGIN CONNECTION LIMIT 0 PASSWORD 'r1ght-pass';
CREATE ROLE nolog2 PASSWORD 'r1ght-pass'; CREATE ROLE nolog3;
CREATE ROLE expfull LOGIN CONNECTION LIMIT 0 PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';
CREATE ROLE zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz LOGIN PASSWORD 'r1ght-pass';
"#;

/// What differs between the clusters: the same role is in force in one and not in the other.
pub const HERE: &str =
    "CREATE ROLE twoface LOGIN PASSWORD 'r1ght-pass'; CREATE ROLE twoempty LOGIN PASSWORD 'r1ght-pass';
    CREATE ROLE janus LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';";
pub const THERE: &str = "CREATE ROLE twoface LOGIN PASSWORD 'r1ght-pass' VALID UNTIL '2001-01-01';
    CREATE ROLE twoempty LOGIN; CREATE ROLE janus LOGIN PASSWORD 'r1ght-pass';";

const REJECTED: &str = "password_rejected possible";
const NEWLINE: &str = "nl\nDETAIL:  Role \"nl\" does not exist.";

fn adv(claim: &str, user: &str, with: &[With], wants: &'static str) -> Case {
    case(claim, user, with.to_vec(), REJECTED, wants).database(DATABASE)
}

pub fn cases() -> Vec<Case> {
    [names(), two_causes(), lies()].concat()
}

fn names() -> Vec<Case> {
    let mut all = Vec::new();
    for (by, with) in [("stderr", Log("log")), ("csvlog", Log("csv")), ("jsonlog", Log("json"))] {
        let case = |what: &str, user: &str, wants| adv(&format!("{what}, by {by}"), user, &[with], wants);
        all.extend([
            case(
                "a role with a line end in its name that speaks of another",
                NEWLINE,
                "password_rejected unproven",
            ),
            case(
                "a missing role whose name is a sentence of the log",
                "app\" does not exist. Role \"",
                "role_missing proven",
            ),
            case(
                "a missing role whose name ends a line",
                "ghost\nDETAIL:  User \"ghost\" has no password assigned.",
                "role_missing proven",
            ),
            case("a role with quotes and a comma in its name", "we\"ird, name", "password_rejected likely"),
            case(
                "a missing role with quotes and a comma in its name",
                "we\"ird, nome",
                "role_missing proven",
            ),
            case("a role in letters beyond ASCII", "Ünï", "password_rejected likely"),
            case("a missing role in letters beyond ASCII", "Ûnî", "role_missing proven"),
        ]);
    }
    let zs = "z".repeat(70);
    all.extend([
        adv("a role beyond ASCII, by the administrator", "Ünï", &[Admin], "password_mismatch proven"),
        adv("a role beyond ASCII in another case", "ÜNÏ", &[Admin], "role_missing proven"),
        adv("a role with a line end, by the administrator", NEWLINE, &[Admin], "password_mismatch proven"),
        adv(
            "a role with quotes, by everything",
            "we\"ird, name",
            &[Admin, Log("csv"), Control, Hba],
            "password_mismatch proven",
        ),
        adv("a role called all", "all", &[Admin, Hba], "password_mismatch proven"),
        adv("a role with capitals, written small", "mixed", &[Admin], "role_missing/case_differs proven"),
        adv(
            "a name of seventy letters meets a role of sixty-three",
            &zs,
            &[Admin],
            "password_mismatch proven",
        ),
        adv("the same by the log", &zs, &[Log("json")], "password_rejected likely"),
    ]);
    all
}

fn two_causes() -> Vec<Case> {
    vec![
        adv(
            "no role and no database: the role comes first",
            "ghost2",
            &[Admin],
            "role_missing/absent proven",
        )
        .database("adv"),
        case(
            "a wrong password, and a role without a free connection",
            "full",
            vec![Admin],
            REJECTED,
            "password_mismatch proven",
        )
        .database(DATABASE),
        case(
            "the right password, and a role without a free connection",
            "full",
            vec![Admin],
            "too_many_connections/role proven",
            "too_many_connections/role proven",
        )
        .database(DATABASE)
        .sends("r1ght-pass"),
        adv("a wrong password, and no right to log in", "nolog2", &[Admin], "password_mismatch proven"),
        case(
            "the right password, and no right to log in",
            "nolog2",
            vec![Admin, Log("log")],
            "role_cannot_login proven",
            "role_cannot_login proven",
        )
        .database(DATABASE)
        .sends("r1ght-pass"),
        adv("no password, and no right to log in", "nolog3", &[Admin], "role_without_password proven"),
        adv(
            "no password, and no right to log in, by the log",
            "nolog3",
            &[Log("log")],
            "role_without_password proven",
        ),
        adv("expired, full, and the right password", "expfull", &[Admin], "password_expired proven")
            .sends("r1ght-pass"),
        adv(
            "expired, full, and the right password, by the log",
            "expfull",
            &[Log("csv")],
            "password_expired proven",
        )
        .sends("r1ght-pass"),
        case(
            "expired, and a line end behind the password",
            "expfull",
            vec![Admin],
            "password_mismatch/trailing_newline proven",
            "password_expired proven",
        )
        .database(DATABASE)
        .knows("r1ght-pass")
        .sends("r1ght-pass\n"),
        case(
            "the user's name as password of a role that is missing",
            "ghost3",
            vec![Log("json")],
            "password_mismatch/user_name any",
            "role_missing proven",
        )
        .database(DATABASE)
        .knows("r1ght-pass")
        .sends("ghost3"),
        case(
            "a replication connection that no line is for",
            "app",
            vec![Hba],
            "hba_no_entry any",
            "hba_no_entry proven",
        )
        .option("replication", "true")
        .says("replication"),
        adv(
            "a logical replication connection is an ordinary one",
            "Mixed",
            &[Admin, Hba],
            "password_mismatch proven",
        )
        .option("replication", "database"),
    ]
}

fn lies() -> Vec<Case> {
    vec![
        adv(
            "an administrator of a cluster where the role has expired",
            "twoface",
            &[AdminElsewhere],
            "any unproven",
        ),
        adv(
            "an administrator of a cluster where the role has no password",
            "twoempty",
            &[AdminElsewhere],
            "any unproven",
        ),
        adv(
            "an administrator of a cluster where the role is in force",
            "janus",
            &[AdminElsewhere],
            "any unproven",
        ),
        adv(
            "an administrator elsewhere, and the log here: the log counts",
            "janus",
            &[AdminElsewhere, Log("json")],
            "password_expired proven",
        ),
        adv(
            "an administrator elsewhere, and the control data here, which know better",
            "twoface",
            &[AdminElsewhere, Control],
            "any unproven",
        )
        .says("has a SCRAM secret"),
        adv(
            "control data of another cluster contradict the administrator",
            "janus",
            &[ControlElsewhere, Admin],
            "password_expired unproven",
        )
        .says("contradict")
        // A hostssl line has an `error` in the view where ssl is off, and is taken all the same.
        .denies("refuses this file"),
        adv(
            "control data of another cluster and the line that our port joins",
            "janus",
            &[ControlElsewhere, Log("log")],
            "password_expired proven",
        ),
        adv(
            "a log elsewhere does not hide the administrator",
            "janus",
            &[LogElsewhere, Admin],
            "password_expired proven",
        ),
        adv(
            "a log elsewhere and an administrator elsewhere agree with each other",
            "twoface",
            &[LogElsewhere, AdminElsewhere],
            "any unproven",
        ),
        adv("an administrator who is refused", "app2", &[AdminAs("nobody-there")], REJECTED).says("--admin"),
        case(
            "control data elsewhere and a log that is joined by names alone",
            "janus",
            vec![ControlElsewhere, Log("log")],
            REJECTED,
            "password_rejected|password_mismatch unproven",
        )
        .database(DATABASE)
        .quiet(),
    ]
}
