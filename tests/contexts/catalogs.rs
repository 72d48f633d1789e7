//! Roles, passwords, databases and limits: the administrator's connection, the log, the control data.

use super::case::With::{
    Admin, AdminAs, AdminBreaks, AdminDead, AdminElsewhere, AdminEmpty, AdminHttp, AdminStalled, Control,
    ControlElsewhere, Hba, Log, LogElsewhere, LogGarbage, LogMissing,
};
use super::case::{Case, case, play_all};
use super::stage::Stage;
use crate::support::server::Version;

const LIKELY: &str = "password_rejected possible";

pub fn run(version: Version) {
    let stage = Stage::new(version);
    play_all(&format!("PostgreSQL {version:?}, catalogs"), cases(), |case| stage.play(case));
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let scram = |claim: &str, user: &str, with, wants| case(claim, user, vec![with], LIKELY, wants);
    // The reasons that PostgreSQL hides behind one message, by every context that can tell them apart.
    for (what, user, wants) in [
        ("a missing role", "ghost", "role_missing/absent proven"),
        ("a role with a blank in its name", "app ", "role_missing/blank_in_name proven"),
        ("a role without password", "nopw", "role_without_password proven"),
        ("an expired password", "expired", "password_expired proven"),
        ("an MD5 secret under scram", "md5secret", "verifier_method_conflict/md5_secret_under_scram proven"),
    ] {
        for (by, with) in [
            ("the administrator", Admin),
            ("stderr", Log("log")),
            ("csvlog", Log("csv")),
            ("jsonlog", Log("json")),
        ] {
            all.push(scram(&format!("{what} is proven by {by}"), user, with, wants));
        }
        all.push(
            scram(&format!("{what} is likely by its mock salt"), user, Control, "role_missing likely")
                .says("mock salt"),
        );
        all.push(scram(&format!("{what} is proven by the default log"), user, Log("log"), wants).quiet());
    }
    all.extend([
        scram(
            "a role in another case is proven by the administrator",
            "APP",
            Admin,
            "role_missing/case_differs proven",
        )
        .says("\"app\""),
        scram(
            "a log does not say whether the role is there in another case",
            "APP",
            Log("log"),
            "role_missing/- proven",
        ),
        scram("a wrong password is proven by the administrator", "app", Admin, "password_mismatch proven"),
        scram("a wrong password is likely by stderr", "app", Log("log"), "password_rejected likely"),
        scram("a wrong password is likely by csvlog", "app", Log("csv"), "password_rejected likely"),
        scram("a wrong password is likely by jsonlog", "app", Log("json"), "password_rejected likely"),
        scram("a wrong password has no mock salt", "app", Control, "password_rejected unproven")
            .says("has a SCRAM secret"),
        scram("a wrong password in the default log", "app", Log("log"), "password_rejected unproven").quiet(),
        case(
            "a wrong password by all contexts",
            "app",
            [Admin, Log("json"), Control, Hba],
            LIKELY,
            "password_mismatch proven",
        )
        .says("scram-sha-256"),
        case(
            "a missing role by all contexts",
            "ghost",
            [Admin, Log("csv"), Control, Hba],
            LIKELY,
            "role_missing/absent proven",
        ),
        case(
            "an expired MD5 secret has expired, by all contexts",
            "md5exp",
            [Admin, Log("log"), Control],
            LIKELY,
            "password_expired proven",
        ),
        scram(
            "a role of seventy letters is missing, and the server cuts it, by the administrator",
            &"y".repeat(70),
            Admin,
            "role_missing/name_truncated proven",
        ),
        scram(
            "a role of seventy letters is missing, and the server cuts it, by the log",
            &"y".repeat(70),
            Log("json"),
            "role_missing/name_truncated proven",
        ),
        case(
            "an administrator of another cluster names no line",
            "rejected",
            [AdminElsewhere],
            "hba_reject proven",
            "hba_reject proven",
        )
        .says("perhaps another server")
        .denies("decides: "),
        // With the expected password.
        case(
            "the expected password is not the server's, by the administrator",
            "app",
            [Admin],
            "password_differs_on_server proven",
            "password_differs_on_server proven",
        )
        .knows("wr0ng-pass")
        .says("not the expected one"),
        case(
            "the expected password for a role without one",
            "nopw",
            [Admin],
            "password_differs_on_server proven",
            "role_without_password proven",
        )
        .knows("wr0ng-pass"),
        case(
            "the expected password for a missing role",
            "ghost",
            [Log("log")],
            "password_differs_on_server proven",
            "role_missing proven",
        )
        .knows("wr0ng-pass"),
        case("the right password of an expired role", "expired", [Admin], LIKELY, "password_expired proven")
            .sends("r1ght-pass"),
        case(
            "quotes around the password, which is right on the server",
            "app",
            [Admin],
            "password_mismatch/quotes_kept proven",
            "password_mismatch/quotes_kept proven",
        )
        .knows("r1ght-pass")
        .sends("\"r1ght-pass\"")
        .says("fits what is stored"),
        // Cleartext and MD5.
        case("cleartext: a wrong password", "clear", [Admin], LIKELY, "password_mismatch proven"),
        case("cleartext: a missing role", "ghostclear", [Admin], LIKELY, "role_missing proven"),
        case(
            "cleartext: a missing role by the log",
            "ghostclear",
            [Log("log")],
            LIKELY,
            "role_missing proven",
        ),
        case(
            "cleartext: no password by the log",
            "nopwclear",
            [Log("json")],
            LIKELY,
            "role_without_password proven",
        ),
        case("cleartext: expired", "expclear", [Admin], LIKELY, "password_expired proven"),
        case("md5: a wrong password", "md5user", [Admin], LIKELY, "password_mismatch proven"),
        case("md5: a wrong password by the log", "md5user", [Log("log")], LIKELY, "password_rejected likely"),
        case("md5: a SCRAM secret, wrong password", "md5scram", [Admin], LIKELY, "password_mismatch proven"),
        case("md5: a missing role", "ghostmd5", [Admin], LIKELY, "role_missing proven"),
        case("md5: no password", "nopwmd5", [Log("csv")], LIKELY, "role_without_password proven"),
        // Behind the authentication.
        case(
            "trust: a role in another case",
            "Trusty",
            [Admin],
            "role_missing proven",
            "role_missing/case_differs proven",
        )
        .says("trusty"),
        case(
            "trust: a missing role with capitals, and none like it",
            "Nobody",
            [Admin],
            "role_missing/- proven",
            "role_missing/absent proven",
        ),
        case(
            "trust: a database in another case",
            "t",
            [Admin],
            "database_missing proven",
            "database_missing/case_differs proven",
        )
        .database("Shop")
        .says("shop"),
        case(
            "trust: a role's limit, with counts",
            "roled",
            [Admin],
            "too_many_connections/role proven",
            "too_many_connections/role proven",
        )
        .says("client connections now"),
        case(
            "trust: a database's limit, with counts",
            "small",
            [Admin],
            "too_many_connections/database proven",
            "too_many_connections/database proven",
        )
        .database("tiny")
        .says("client connections now"),
        case(
            "the ident line is named by the file",
            "identuser",
            [Hba],
            "ident_failed proven",
            "ident_failed proven",
        )
        .says("ident"),
        case(
            "the ident line is named by the log",
            "identuser",
            [Log("log")],
            "ident_failed proven",
            "ident_failed proven",
        )
        .says("127.0.0.1/32 ident"),
        case(
            "the reject line is named by the file",
            "rejected",
            [Hba],
            "hba_reject proven",
            "hba_reject proven",
        )
        .says("127.0.0.1/32 reject"),
        case("no entry, and TLS is off", "nobody", [Admin], "hba_no_entry likely", "hba_no_entry proven")
            .says("ssl is off"),
        case(
            "no entry, TLS asked for and declined, a hostssl line",
            "tlsonly",
            [Hba],
            "hba_no_entry unproven",
            "hba_no_entry|hba_requires_tls/!client_never_asks any",
        )
        .sslmode("prefer"),
        // Less than a superuser.
        case(
            "pg_monitor can't see a wrong password",
            "app",
            [AdminAs("monitor")],
            LIKELY,
            "password_rejected unproven",
        )
        .says("pg_authid"),
        case(
            "a plain role can't see a wrong password",
            "app",
            [AdminAs("plain")],
            LIKELY,
            "password_rejected unproven",
        )
        .says("pg_authid"),
        case(
            "a plain role sees that a role is missing",
            "ghost",
            [AdminAs("plain")],
            LIKELY,
            "role_missing/absent proven",
        ),
        case(
            "a plain role can't see that there is no password",
            "nopw",
            [AdminAs("plain")],
            LIKELY,
            "password_rejected unproven",
        )
        .says("pg_authid"),
        case(
            "pg_monitor sees that a password expired, not that there is one",
            "expired",
            [AdminAs("monitor")],
            LIKELY,
            "password_expired any",
        ),
        case(
            "no password and VALID UNTIL past: the superuser",
            "nopwexp",
            [Admin],
            LIKELY,
            "role_without_password proven",
        ),
        case(
            "no password and VALID UNTIL past: a plain role can't say which",
            "nopwexp",
            [AdminAs("plain")],
            LIKELY,
            "password_expired|role_without_password|password_rejected unproven",
        ),
        case(
            "a plain role can't see an MD5 secret",
            "md5secret",
            [AdminAs("plain")],
            LIKELY,
            "password_rejected unproven",
        )
        .says("pg_authid"),
        // Context that is dead, stalled or lies.
        case("a dead administrator", "app", [AdminDead], LIKELY, LIKELY).says("--admin"),
        case("a stalled administrator", "app", [AdminStalled], LIKELY, LIKELY).says("--admin"),
        case("an administrator that is no PostgreSQL", "app", [AdminHttp], LIKELY, LIKELY).says("--admin"),
        case("an administrator that breaks off", "app", [AdminBreaks], LIKELY, LIKELY).says("--admin"),
        case(
            "an administrator that says nothing at length",
            "app",
            [AdminEmpty],
            LIKELY,
            "password_rejected unproven",
        ),
        case(
            "an administrator of another cluster that lacks the role",
            "onlyhere",
            [AdminElsewhere],
            LIKELY,
            "password_rejected|role_missing|wrong_server unproven",
        ),
        case(
            "an administrator of another cluster, and the control data",
            "onlyhere",
            [AdminElsewhere, Control],
            LIKELY,
            "password_rejected|role_missing|wrong_server unproven",
        ),
        case(
            "an administrator of another cluster, and the log",
            "onlyhere",
            [AdminElsewhere, Log("log")],
            LIKELY,
            "password_rejected|role_missing|wrong_server unproven",
        ),
        case(
            "an administrator of another cluster that has the role",
            "spare",
            [AdminElsewhere],
            LIKELY,
            "password_rejected|wrong_server unproven",
        ),
        case(
            "cleartext: an administrator of another cluster",
            "clear",
            [AdminElsewhere],
            LIKELY,
            "password_rejected|password_mismatch|wrong_server unproven",
        ),
        case("a log that does not exist", "app", [LogMissing], LIKELY, LIKELY).says("--server-log"),
        case("a log that is none", "app", [LogGarbage], LIKELY, LIKELY).says("--server-log"),
        case("the log of another cluster", "ghost", [LogElsewhere], LIKELY, LIKELY).says("--server-log"),
        case(
            "the control data of another cluster, a missing role",
            "ghost",
            [ControlElsewhere],
            LIKELY,
            "password_rejected unproven",
        ),
        case(
            "the control data of another cluster, and the administrator",
            "nopw",
            [ControlElsewhere, Admin],
            LIKELY,
            "role_without_password any",
        ),
        case(
            "dead administrator, missing log: both are told",
            "ghost",
            [AdminDead, LogMissing],
            LIKELY,
            LIKELY,
        )
        .says("--server-log")
        .says("--admin"),
        case(
            "a dead administrator does not hide the log",
            "nopw",
            [AdminStalled, Log("log")],
            LIKELY,
            "role_without_password proven",
        )
        .says("--admin"),
    ]);
    all.extend(super::adversarial::cases());
    all
}
