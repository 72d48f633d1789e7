//! What the context proves: the server's log, its control data and an administrator's view tell apart
//! what gives the same bytes on the wire.
//!
//! A finding goes in, a surer one comes out. Context that contradicts the wire is said, not believed.

use std::net::{IpAddr, SocketAddr};

use crate::handshake::ladder::text;
use crate::handshake::{Record, Step};
use crate::password::Fit;
use crate::serverlog::{Certainty, Fact};

use super::admin::{AdminFacts, Answer, Backends, RoleFacts, Salt, SecretKind};
use super::context::{Context, LogFacts};
use super::finding::Confidence;
use super::session::missing_variant;
use super::{Cause, Finding, history, password};

/// Makes a finding as sure as the context allows.
pub(super) fn settle(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let finding = history::settle(record, context, finding);
    let by_salt = mock_salt(context, finding);
    let finding = match context.log {
        Some(log) => logged(record, log, by_salt.clone()),
        None => by_salt.clone(),
    };
    let finding = match context.admin {
        Some(admin) => {
            let before = finding.clone();
            let finding = administered(record, context, admin, finding);
            same_server(record, context, admin, before, finding)
        }
        None => finding,
    };
    let finding = contradicted(record, context, by_salt, finding);
    context.unseen.iter().fold(finding, |finding, text| finding.and(text.clone()))
}

/// The salt of a role without a usable secret is made from its name and a secret of the data directory
/// (`scram_mock_salt`, auth-scram.c).
fn mock_salt(context: &Context<'_>, finding: Finding) -> Finding {
    let Some(is_mock) = context.mock_salt.filter(|_| finding.is_refused_password()) else { return finding };
    if !is_mock {
        let evidence = "the salt is not the mock salt of that data directory: if it is this server's, the role has a SCRAM secret";
        let mut finding = finding.and(evidence);
        finding.alternatives.retain(|(cause, _)| !NO_SECRET.contains(cause));
        return finding;
    }
    let evidence =
        "the salt is the mock salt of this data directory: the role has no SCRAM secret that can be used";
    finding
        .replaced(Cause::RoleMissing, Confidence::Likely, evidence.into())
        .or(&[Cause::RoleWithoutPassword, Cause::PasswordExpired, Cause::VerifierMethodConflict])
        .summary("there is no such role, or it has no password that SCRAM can use")
        .ask(&["--admin", "--server-log"])
}

/// Causes that leave a role without a secret that SCRAM can use: it is shown a mock salt then.
const NO_SECRET: [Cause; 4] =
    [Cause::RoleMissing, Cause::RoleWithoutPassword, Cause::PasswordExpired, Cause::VerifierMethodConflict];

/// A salt that can only be a real secret's speaks against everybody who says that the role has none: they are
/// of another server, or what showed the salt to be real is.
fn contradicted(record: &Record, context: &Context<'_>, by_salt: Finding, after: Finding) -> Finding {
    let no_secret = after.step == Step::ScramClientFinal && NO_SECRET.contains(&after.cause);
    if !no_secret {
        return after;
    }
    let said = format!("what was given says otherwise ({}): it is of another server", after.cause.title());
    if history::is_unchanged(record, context) {
        return by_salt.and(said);
    }
    let name = role_name(record);
    let by_this_login = |log: &LogFacts| {
        let about = |fact| refusal_of(fact).is_some_and(|(user, ..)| *user == name);
        log.certainty == Certainty::Strong && log.facts.iter().any(about)
    };
    let sure = context.log.is_some_and(by_this_login);
    if context.mock_salt != Some(false) || sure || after.confidence != Confidence::Proven {
        return after;
    }
    let mut after = after.and(
        "the control data contradict that, as the salt is not the mock salt of theirs: one of the two is of another server",
    );
    after.confidence = Confidence::Likely;
    after.or(&[Cause::PasswordMismatch, Cause::PasswordDiffersOnServer])
}

/// A role's name as the server keeps it.
fn role_name(record: &Record) -> String {
    let name = record.user().unwrap_or_default();
    text(name.get(..63.min(name.len())).unwrap_or_default())
}

fn logged(record: &Record, log: &LogFacts, mut finding: Finding) -> Finding {
    let confidence = match log.certainty {
        Certainty::Strong => Confidence::Proven,
        Certainty::Weak | Certainty::Disputed => Confidence::Likely,
    };
    let name = role_name(record);
    let mut told = false;
    // A sentence about a name with line ends may be one that we can't read, or made up by the name.
    let readable = !name.contains(['\n', '\r']);
    for fact in &log.facts {
        if !readable && matches!(fact, Fact::Matched { .. }) {
            continue;
        }
        if let Some(refusal) = refusal_of(fact).filter(|_| finding.is_refused_password()) {
            let before = finding.clone();
            finding = refused_by_log(record, log, refusal, finding);
            told |= finding != before;
        }
        finding = detail(record, fact, confidence, finding);
    }
    let matched =
        log.facts.iter().any(|fact| matches!(fact, Fact::Matched { .. } | Fact::PasswordMismatch { .. }));
    if matched
        && readable
        && !told
        && confidence == Confidence::Proven
        && finding.cause == Cause::PasswordRejected
    {
        // The server names every other reason in the same line (auth_failed, crypt.c).
        finding.confidence = Confidence::Likely;
        finding
            .alternatives
            .retain(|(cause, _)| matches!(cause, Cause::PasswordMismatch | Cause::PasswordDiffersOnServer));
        finding.ask.retain(|context| !context.starts_with("--"));
        finding = finding
            .and("the server's log names no other reason: the role exists, and what was sent is not its password")
            .summary("the role exists and its password is in force; what the client sent is another one");
    }
    finding
}

/// The log says why the password was refused.
fn refused_by_log(record: &Record, log: &LogFacts, refusal: Refusal<'_>, finding: Finding) -> Finding {
    let (user, cause, variant, words) = refusal;
    let name = role_name(record);
    // A name in a log line may be forged by a user name with a line end in it: it must be ours.
    if *user != name {
        return finding;
    }
    let evidence =
        format!("the server's log, joined by {}, says that the role \"{name}\" {words}", log.joined_by);
    let disputed = log.certainty == Certainty::Disputed;
    let but = "but of another attempt of these moments it says otherwise, and only our port would tell which is this one (%r in log_line_prefix, or log_connections)";
    if disputed && finding.confidence == Confidence::Proven {
        return finding.and(evidence).and(but);
    }
    let others = [finding.cause].into_iter().chain(finding.alternatives.iter().map(|(cause, _)| *cause));
    let others: Vec<_> = others.filter(|other| *other != cause).collect();
    // The fact is about the role at this moment, whichever connection made the server say it.
    let confidence = if disputed { Confidence::Likely } else { Confidence::Proven };
    let mut finding = finding.replaced(cause, confidence, evidence);
    if disputed {
        finding = finding.and(but).or(&others);
    }
    let by_name = missing_variant(record.user().unwrap_or_default()).filter(|_| cause == Cause::RoleMissing);
    by_name.into_iter().chain(variant).fold(finding, Finding::variant)
}

type Refusal<'a> = (&'a String, Cause, Option<&'static str>, &'static str);

/// Facts that explain a refused password.
fn refusal_of(fact: &Fact) -> Option<Refusal<'_>> {
    Some(match fact {
        Fact::RoleMissing { user } => (user, Cause::RoleMissing, None, "does not exist"),
        Fact::NoPassword { user } => (user, Cause::RoleWithoutPassword, None, "has no password"),
        Fact::Expired { user } => (user, Cause::PasswordExpired, None, "has an expired password"),
        Fact::NotScram { user } => (
            user,
            Cause::VerifierMethodConflict,
            Some("md5_secret_under_scram"),
            "has no SCRAM secret: its password is stored as an MD5 hash",
        ),
        Fact::NotMd5 { user } => (
            user,
            Cause::VerifierMethodConflict,
            Some("scram_secret_under_md5"),
            "has a password that can't be used with MD5",
        ),
        _ => return None,
    })
}

/// Facts that add to a finding.
fn detail(record: &Record, fact: &Fact, confidence: Confidence, finding: Finding) -> Finding {
    match fact {
        Fact::Matched { file, line, text } => {
            let file = file.as_deref().unwrap_or("pg_hba.conf");
            finding.and(format!("{file} line {line} decided: {text}"))
        }
        Fact::Timeout
            if matches!(
                finding.cause,
                Cause::ServerLeft | Cause::AuthTimeout | Cause::ClosedWithoutAnswer
            ) =>
        {
            let evidence = "the server's log says that it ended the login at authentication_timeout";
            finding.replaced(Cause::AuthTimeout, confidence, evidence.into())
        }
        Fact::NamesDiffer { role, authenticated, .. } if *role == role_name(record) => {
            let evidence = format!(
                "the server's log says that {authenticated} was proved, and \"{role}\" was asked for"
            );
            match finding.cause {
                Cause::GssFailed => {
                    finding.replaced(Cause::GssFailed, confidence, evidence).variant("principal_mismatch")
                }
                // Behind a password only `clientcert=verify-full` compares names, and only where it was right.
                _ if finding.is_refused_password()
                    && (confidence == Confidence::Proven || finding.confidence != Confidence::Proven) =>
                {
                    let finding = finding.replaced(Cause::ClientCertRejected, confidence, evidence);
                    password::names_another(record, finding.variant("user_mismatch"))
                }
                _ => finding.and(evidence),
            }
        }
        Fact::Service { text, .. } => finding.and(format!("the server's log: {text}")),
        Fact::HostName { name: Some(name), .. } => {
            finding.and(format!("the server resolves the client's address to {name}"))
        }
        Fact::NotReloaded { file } => {
            finding.and(format!("the server's log says that {file} was not reloaded"))
        }
        _ => finding,
    }
}

/// What the catalogs say.
fn administered(record: &Record, context: &Context<'_>, admin: &AdminFacts, finding: Finding) -> Finding {
    let finding = admin.unseen.iter().fold(finding, |finding, text| finding.and(format!("--admin: {text}")));
    match finding.cause {
        _ if finding.is_refused_password() => refused_password(record, context, admin, finding),
        Cause::RoleMissing if finding.step == Step::SessionSetup => missing_role(record, admin, finding),
        Cause::DatabaseMissing => match admin.similar_databases.first() {
            Some(similar) if admin.known_database().is_none() => {
                let evidence = format!("--admin: there is a database \"{similar}\"");
                let asked = text(record.database().unwrap_or_default());
                if similar.eq_ignore_ascii_case(&asked) {
                    return finding.variant("case_differs").and(evidence);
                }
                finding.and(evidence).fix(format!(
                    "name the database as the server does: \"{similar}\", with no blank around it"
                ))
            }
            _ => finding,
        },
        Cause::TooManyConnections => match admin.backends.known() {
            Some(backends) => limit(admin, backends, finding).and(format!(
                "--admin: {} client connections now, {} of the role, {} of the database",
                backends.total, backends.by_role, backends.by_database
            )),
            None => finding,
        },
        Cause::HbaNoEntry if admin.settings.ssl == Some(false) => {
            let mut finding = finding.and("--admin: ssl is off, so no hostssl line could match either");
            finding.alternatives.retain(|(cause, _)| *cause != Cause::HbaRequiresTls);
            finding.confidence = Confidence::Proven;
            finding
        }
        Cause::HbaRequiresTls if admin.settings.ssl == Some(false) => {
            let evidence = "--admin: ssl is off: the server can't give the TLS that the line wants";
            finding.replaced(Cause::HbaNoEntry, Confidence::Likely, evidence.into())
        }
        Cause::HbaNotReloaded => match admin.settings.hba_changed_after_load() {
            Some(true) => finding.and("--admin: pg_hba.conf was changed after the server last loaded it"),
            _ => finding,
        },
        _ => finding,
    }
}

/// The limit that was reached, and how much of it is taken now.
fn limit(admin: &AdminFacts, backends: &Backends, finding: Finding) -> Finding {
    let settings = &admin.settings;
    let taken = |taken: i64, most: Option<i64>, what: &str| {
        most.map(|most| format!("--admin: {taken} of {most} {what} are taken now"))
    };
    let limit = match finding.variant {
        Some("role") => {
            let most = admin.known_role().and_then(|role| role.connection_limit);
            taken(backends.by_role, most.map(i64::from), "connections of the role")
        }
        Some("database") => {
            let most = admin.known_database().and_then(|database| database.connection_limit);
            taken(backends.by_database, most.map(i64::from), "connections of the database")
        }
        Some("walsender") => taken(backends.wal_senders, settings.max_wal_senders, "WAL senders"),
        _ => settings.max_connections.map(|most| {
            let number = |setting: Option<i64>| setting.map_or_else(|| "?".to_owned(), |n| n.to_string());
            format!(
                "--admin: max_connections is {most}, of which {} + {} are reserved (superusers, pg_use_reserved_connections)",
                number(settings.superuser_reserved_connections),
                number(settings.reserved_connections)
            )
        }),
    };
    finding.and_maybe(limit)
}

/// Why an administrator's connection may be to another server than this login was: ports that differ
/// make it doubtful, unless the salt on the wire is the stored one.
pub(super) fn doubt(record: &Record, context: &Context<'_>, admin: &AdminFacts) -> Option<String> {
    if admin.settings.db_user_namespace == Some(true) {
        return Some(
            "--admin: db_user_namespace is on, so the server looked for a role of another name".to_owned(),
        );
    }
    let ours = context.dials.last().and_then(|dial| dial.address.as_deref());
    let ours = ours.and_then(|address| address.rsplit([':', '.']).next()?.parse::<i64>().ok());
    let salt = record.scram.as_ref().and_then(|scram| scram.server_first.as_ref());
    let real = salt.and_then(|first| admin.known_role()?.salt_on_wire(&first.salt)) == Some(Salt::Real);
    if real {
        return None;
    }
    if let (Some(ours), Some(theirs)) = (ours, admin.settings.port)
        && ours != theirs
    {
        return Some(format!(
            "--admin: its server listens on port {theirs}, this login went to {ours}: perhaps another server"
        ));
    }
    let address = context.dials.last().and_then(|dial| dial.address.as_deref());
    let ip = address.and_then(|text| text.parse::<SocketAddr>().ok())?.ip().to_canonical();
    stands_elsewhere(ip, context.our_ip, admin.address, admin.settings.listen_addresses.as_deref())
}

/// Why the addresses alone make it doubtful: that of the login, ours on the way there, the one that the
/// administrator's connection reached (none over a Unix socket), and the server's `listen_addresses`.
fn stands_elsewhere(
    login: IpAddr,
    own: Option<IpAddr>,
    admin: Option<IpAddr>,
    listens: Option<&str>,
) -> Option<String> {
    let admin = admin.map(|admin| admin.to_canonical());
    if let Some(admin) = admin.filter(|admin| is_elsewhere(login, *admin, own)) {
        return Some(format!(
            "--admin: it is connected to {admin}, this login went to {login}: perhaps another server"
        ));
    }
    // By another address of this machine, or its Unix socket: servers may share a port, if only one of them
    // listens on each address.
    let listens = listens.filter(|_| admin != Some(login));
    listens.is_some_and(|list| !listens_on(list, login)).then(|| {
        format!(
            "--admin: its server does not listen on {login}, where this login went: perhaps another server"
        )
    })
}

/// Whether `listen_addresses` names this address. What a host name in it stands for is not known here.
fn listens_on(list: &str, ip: IpAddr) -> bool {
    let mut names = list.split(',').map(|name| name.trim().trim_matches('"'));
    names.any(|name| match name.parse::<IpAddr>() {
        Ok(address) => {
            address.to_canonical() == ip || (address.is_unspecified() && address.is_ipv4() == ip.is_ipv4())
        }
        Err(_) if name == "localhost" => ip.is_loopback(),
        Err(_) => !name.is_empty(),
    })
}

/// Whether two addresses may be those of two servers. `own` is ours on the way to the first: equal to it, that
/// server is on this machine, where loopback leads as well.
fn is_elsewhere(login: IpAddr, admin: IpAddr, own: Option<IpAddr>) -> bool {
    let here = own.map(|own| own.to_canonical()) == Some(login);
    let both_loopback = login.is_loopback() && admin.is_loopback() && login.is_ipv4() != admin.is_ipv4();
    login != admin && !both_loopback && !(here && !login.is_loopback() && admin.is_loopback())
}

/// An administrator of another server proves nothing about this one.
fn same_server(
    record: &Record,
    context: &Context<'_>,
    admin: &AdminFacts,
    before: Finding,
    mut after: Finding,
) -> Finding {
    let Some(doubt) = doubt(record, context, admin) else { return after };
    if before.confidence == Confidence::Proven {
        return before.and(doubt);
    }
    if after.confidence == Confidence::Proven {
        after.confidence = Confidence::Likely;
        let others = [before.cause].into_iter().chain(before.alternatives.iter().map(|(cause, _)| *cause));
        let others: Vec<_> = others.filter(|cause| *cause != after.cause).collect();
        after = after.or(&others);
    }
    after.and(doubt)
}

/// The control data or the log show that the role has a password in force.
fn role_shown(context: &Context<'_>) -> bool {
    let by_log = |log: &LogFacts| {
        log.certainty == Certainty::Strong
            && log.facts.iter().any(|fact| matches!(fact, Fact::PasswordMismatch { .. }))
    };
    context.mock_salt == Some(false) || context.log.is_some_and(by_log)
}

/// The variant where the catalogs were seen: they have no role of a similar name either.
fn known_missing(record: &Record) -> &'static str {
    missing_variant(record.user().unwrap_or_default()).unwrap_or("absent")
}

fn missing_role(record: &Record, admin: &AdminFacts, finding: Finding) -> Finding {
    let Some(similar) = admin.similar_roles.first() else {
        return match admin.role {
            Answer::Known(None) => finding.variant(known_missing(record)),
            _ => finding,
        };
    };
    let name = role_name(record);
    let variant = match () {
        () if similar.eq_ignore_ascii_case(&name) => "case_differs",
        () if similar.trim() == name.trim() => "blank_in_name",
        () => known_missing(record),
    };
    finding.variant(variant).and(format!("--admin: there is a role \"{similar}\""))
}

fn refused_password(record: &Record, context: &Context<'_>, admin: &AdminFacts, finding: Finding) -> Finding {
    let Some(role) = admin.role.known() else {
        return finding.and("--admin could not see the role");
    };
    if role.is_none() && role_shown(context) {
        return finding.and(
            "--admin knows no such role, which the log or the control data contradict: it is of another server, or the role was dropped since",
        );
    }
    let Some(role) = role else {
        let evidence = format!("--admin: there is no role \"{}\"", role_name(record));
        let finding = finding.replaced(Cause::RoleMissing, Confidence::Proven, evidence);
        return missing_role(record, admin, finding.variant(known_missing(record)));
    };
    if role.has_no_password() {
        let evidence = format!("--admin: the role \"{}\" has no password", role.name);
        return finding.replaced(Cause::RoleWithoutPassword, Confidence::Proven, evidence);
    }
    let salt = record.scram.as_ref().and_then(|scram| scram.server_first.as_ref());
    let salt = salt.and_then(|first| role.salt_on_wire(&first.salt));
    // An expired role is never shown its own salt: it has expired since.
    if role.expired && salt != Some(Salt::Real) {
        let evidence =
            format!("--admin: the password of \"{}\" has expired by the server's clock", role.name);
        // A role without password is refused for that, whatever its VALID UNTIL (get_role_password).
        if role.secret.known().is_none() && finding.cause != Cause::PasswordExpired {
            return finding
                .replaced(Cause::PasswordExpired, Confidence::Likely, evidence)
                .or(&[Cause::RoleWithoutPassword])
                .ask(&["--server-log"]);
        }
        return finding.replaced(Cause::PasswordExpired, Confidence::Proven, evidence);
    }
    if finding.step == Step::ScramClientFinal && matches!(role.secret_kind(), Some(SecretKind::Md5)) {
        let evidence = format!(
            "--admin: the password of \"{}\" is stored as an MD5 hash, and SCRAM was asked for",
            role.name
        );
        let finding = finding.replaced(Cause::VerifierMethodConflict, Confidence::Proven, evidence);
        return finding.variant("md5_secret_under_scram");
    }
    stored_secret(record, context, role, salt, finding)
}

/// The role has a password in force: what was sent is held against what is stored.
fn stored_secret(
    record: &Record,
    context: &Context<'_>,
    role: &RoleFacts,
    salt: Option<Salt>,
    finding: Finding,
) -> Finding {
    if salt == Some(Salt::Other) {
        let evidence = "--admin: the salt on the wire is not that of the stored secret: the login met another server, or the password was changed in between";
        return finding.replaced(Cause::WrongServer, Confidence::Likely, evidence.into());
    }
    let fits = context.exchange.as_ref().and_then(|exchange| role.explains(exchange));
    match (fits, finding.cause) {
        (Some(true), cause) => {
            let evidence = "--admin: what the client sent fits the stored password, and the server refused it all the same";
            if password::shows_certificate(record) && finding.step != Step::ScramClientFinal {
                let finding =
                    finding.replaced(Cause::ClientCertRejected, Confidence::Likely, evidence.into());
                return password::names_another(record, finding.variant("user_mismatch"))
                    .or(&[Cause::PasswordDiffersOnServer]);
            }
            let mut finding = finding.and(evidence);
            if cause == Cause::PasswordDiffersOnServer {
                finding.confidence = Confidence::Likely;
            }
            finding
        }
        (Some(false), Cause::PasswordRejected) => {
            let evidence = format!(
                "--admin: the role \"{}\" exists and its password is in force; what the client sent does not fit it",
                role.name
            );
            finding
                .replaced(Cause::PasswordMismatch, Confidence::Proven, evidence)
                .variant("unknown")
                .summary("the client sent another password than the one stored for the role")
        }
        (Some(false), Cause::PasswordDiffersOnServer) => {
            finding.and("--admin: the role exists, its password is in force, and it is not the expected one")
        }
        (Some(false), Cause::PasswordMismatch) => {
            let expected = context.expected_fits_stored;
            match expected {
                Some(true) => finding.and("--admin: the expected password fits what is stored"),
                Some(false) => {
                    finding.and("--admin: the expected password does not fit what is stored either")
                }
                None => finding,
            }
        }
        (None, Cause::PasswordRejected)
            if context.judgement.is_none_or(|judged| judged.fit != Fit::Expected) =>
        {
            let mut finding = finding.and(format!("--admin: the role \"{}\" exists", role.name));
            finding.alternatives.retain(|(cause, _)| *cause != Cause::RoleMissing);
            finding
        }
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_at_another_address_may_be_at_another_server() {
        for (claim, login, admin, own, elsewhere) in [
            ("one address", "10.0.0.5", "10.0.0.5", "10.0.0.9", false),
            ("two addresses", "10.0.0.5", "10.0.0.6", "10.0.0.9", true),
            ("both loopbacks of this machine", "127.0.0.1", "::1", "127.0.0.1", false),
            ("two loopback addresses", "127.0.0.1", "127.0.0.2", "127.0.0.1", true),
            ("this machine by its own address, and by loopback", "10.0.0.9", "127.0.0.1", "10.0.0.9", false),
            ("another machine, and loopback", "10.0.0.5", "127.0.0.1", "10.0.0.9", true),
            ("loopback, and another machine", "127.0.0.1", "10.0.0.5", "127.0.0.1", true),
        ] {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            assert_eq!(is_elsewhere(ip(login), ip(admin), Some(ip(own))), elsewhere, "{claim}");
        }
    }

    #[test]
    fn two_servers_may_share_a_port_of_this_machine() {
        for (claim, login, admin, listens, elsewhere) in [
            ("localhost leads to both families of one server", "127.0.0.1", Some("::1"), "localhost", false),
            ("a server for each family", "127.0.0.1", Some("::1"), "::1", true),
            ("the same the other way round", "::1", Some("127.0.0.1"), "127.0.0.1", true),
            (
                "one address, in a container that listens on its own",
                "127.0.0.1",
                Some("127.0.0.1"),
                "10.8.0.2",
                false,
            ),
            (
                "this machine's own address, and a server on loopback",
                "10.0.0.9",
                Some("127.0.0.1"),
                "localhost",
                true,
            ),
            ("the Unix socket of a server that does not listen there", "127.0.0.1", None, "::1", true),
            ("the Unix socket of one that does", "127.0.0.1", None, "*", false),
        ] {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            let own = if ip(login).is_loopback() { ip("127.0.0.1") } else { ip(login) };
            let doubt = stands_elsewhere(ip(login), Some(own), admin.map(ip), Some(listens));
            assert_eq!(doubt.is_some(), elsewhere, "{claim}: {doubt:?}");
        }
    }

    #[test]
    fn a_server_listens_where_its_setting_says() {
        for (list, login, listens) in [
            ("*", "10.0.0.5", true),
            ("localhost", "127.0.0.1", true),
            ("localhost", "10.0.0.5", false),
            ("", "127.0.0.1", false),
            ("127.0.0.1, 10.0.0.5", "10.0.0.5", true),
            ("0.0.0.0", "10.0.0.5", true),
            ("0.0.0.0", "::1", false),
            ("db.internal", "10.0.0.5", true),
        ] {
            assert_eq!(listens_on(list, login.parse().unwrap()), listens, "{list}: {login}");
        }
    }
}
