//! A login held against pg_hba.conf: the line that should have decided, and whether the server follows
//! the file.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::handshake::ladder::text;
use crate::handshake::{Record, Step};
use crate::hba::{
    Because, Connection, Decision, HbaFile, Kind, Method, Missing, Replication, Roles, RuleRef, Verdict,
    World, decide, from_view,
};

use super::admin::{AdminFacts, Answer};
use super::context::Context;
use super::finding::{Confidence, Warning};
use super::refusal::seen_address;
use super::{Cause, Finding, postgres, proof};

/// The rules that a login is held against: the file that was given, or what the administrator's
/// connection reads in `pg_hba_file_rules`.
struct Sheet<'a> {
    file: Cow<'a, HbaFile>,
    older: &'a [HbaFile],
    world: World,
    /// How reports call it.
    name: &'static str,
    /// The server itself reads it: it can't be another file.
    view: bool,
    /// The administrator's connection shows that it was changed after the server loaded it.
    changed: bool,
}

impl<'a> Sheet<'a> {
    fn new(record: &Record, context: &Context<'a>) -> Option<Self> {
        let admin = context.admin.filter(|admin| proof::doubt(record, context, admin).is_none());
        let mut sheet = match context.rules {
            Some(rules) => Self {
                file: Cow::Borrowed(&rules.file),
                older: &rules.older,
                world: rules.world.clone(),
                name: "the given pg_hba.conf",
                view: false,
                changed: false,
            },
            None => Self::of_view(admin?)?,
        };
        let address = context.dials.last().and_then(|dial| dial.address.as_deref());
        sheet.world.own_address =
            address.and_then(|text| text.parse::<SocketAddr>().ok()).map(|address| address.ip());
        if let Some(admin) = admin {
            sheet.learn_memberships(record, admin);
            sheet.changed = admin.settings.hba_changed_after_load() == Some(true);
        }
        Some(sheet)
    }

    fn of_view(admin: &AdminFacts) -> Option<Self> {
        let rows = admin.hba_rules.known().filter(|rows| !rows.is_empty())?;
        let name = admin.settings.hba_file.as_deref().unwrap_or("pg_hba.conf");
        let version = u32::try_from(admin.server_version_num / 10_000).ok()?;
        let file = Cow::Owned(from_view(rows, name, version)?);
        let (world, name) = (World::default(), "pg_hba_file_rules");
        Some(Self { file, older: &[], world, name, view: true, changed: false })
    }

    fn learn_memberships(&mut self, record: &Record, admin: &AdminFacts) {
        learn_memberships(&mut self.world.roles, &self.file, record.database().map(text), admin);
    }

    fn decide(&self, connection: &Connection) -> Decision {
        decide(&self.file, connection, &self.world)
    }

    fn raw(&self, line: &RuleRef) -> &str {
        self.file.rule(line).map_or("", |rule| rule.raw.trim())
    }
}

/// What `+role` and `samerole` mean for the role that was asked about; of others they say nothing.
pub fn learn_memberships(roles: &mut Roles, file: &HbaFile, database: Option<String>, admin: &AdminFacts) {
    match &admin.role {
        // A role that does not exist is a member of nothing.
        Answer::Known(None) => roles.existing = Some(BTreeSet::new()),
        Answer::Known(Some(role)) => {
            let Some(member_of) = role.member_of.known() else { return };
            let named = file.rules.iter().flat_map(|rule| &rule.users);
            let groups = named.filter_map(|user| user.token.group()).map(str::to_owned);
            for group in groups.chain(database) {
                let members = roles.members.entry(group.clone()).or_default();
                if member_of.contains(&group) {
                    members.insert(role.name.clone());
                }
            }
            roles.members.entry(role.name.clone()).or_default();
        }
        Answer::Hidden(_) => {}
    }
}

/// What the server did, as far as pg_hba.conf decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    NoEntry,
    Reject,
    /// Let in, or refused, without being asked for anything.
    Unasked,
    /// `R3`
    Cleartext,
    /// `R5`
    Md5,
    /// `R7` or `R9`
    Gss,
    /// `R10` with SCRAM
    Scram,
    /// `R10` with OAUTHBEARER
    Oauth,
}

/// Holds a finding against the file.
pub(super) fn settle(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let (cause, confidence) = (finding.cause, finding.confidence);
    let mut after = held_against(record, context, finding);
    let settled =
        after.confidence == Confidence::Proven && (after.cause, after.confidence) != (cause, confidence);
    if settled && context.rules.is_some_and(|rules| rules.changed_since) {
        after.confidence = Confidence::Likely;
        after = after.and(
            "but the given pg_hba.conf was changed after this login: it may have said something else then",
        );
        return if after.cause == cause { after } else { after.or(&[cause]) };
    }
    after
}

fn held_against(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let Some(seen) = seen(record, &finding) else { return finding };
    let Some(rules) = &Sheet::new(record, context) else { return finding };
    // A refusal by rule names the address that the server saw.
    let told = record.error.as_ref().filter(|_| record.requests.is_empty());
    let told = told.and_then(|error| seen_address(error, context.our_ip));
    let Some(connection) = connection(record, told.or(context.our_ip), context.server_is_local) else {
        return finding;
    };
    let decision = rules.decide(&connection);
    let finding = hidden_address(rules, record, context, &decision, finding);
    let by_address = || elsewhere(rules, &connection, seen).filter(|_| told.is_none());
    if !decision.certain && decision.missing == [Missing::FileRefused] && !follows(decision.verdict, seen) {
        return match by_address() {
            Some(line) => another_address(rules, &decision, &connection, &line, finding),
            None => refused_file(rules, &decision, seen, finding),
        };
    }
    if !decision.certain {
        let missing: Vec<String> = decision.missing.iter().map(ToString::to_string).collect();
        return finding.and(format!(
            "which line of the given pg_hba.conf decides is open without {}",
            missing.join(", ")
        ));
    }
    if !follows(decision.verdict, seen) {
        if let Some(file) = rules.older.iter().rev().find(|file| explains(rules, file, &connection, seen)) {
            return finding
                .and(format!(
                    "pg_hba.conf fits as PostgreSQL {} reads it, and not as later ones do",
                    file.version
                ))
                .ask(&["--pg-version"]);
        }
        // What fails behind the authentication fails under any rule, but for a role that a wrong
        // `trust` let through; and so does a password under any line that asks for the stored one.
        let behind = finding.step == Step::SessionSetup && finding.cause != Cause::RoleMissing;
        if behind || fails_either_way(record, context, decision.verdict, seen, &finding) {
            let line = decision.line.as_ref();
            let line = line.map(|line| format!("{line} should decide: {}", rules.raw(line)));
            return finding
                .and_maybe(line)
                .and(format!("the server does not follow {}: not reloaded, or another file", rules.name));
        }
        if let Some(line) = by_address() {
            return another_address(rules, &decision, &connection, &line, finding);
        }
        return contradicted(record, context, rules, &decision, seen, finding);
    }
    let finding = match &decision.line {
        Some(line) => finding.and(format!("{line} decides: {}", rules.raw(line))),
        None => finding,
    };
    let declined = !context.ssl_answered_by_us
        && record.ssl_request.is_some_and(|request| matches!(request.answer, Some((b'N', _))));
    match (seen, finding.cause) {
        (Seen::NoEntry, Cause::HbaNoEntry | Cause::HbaRequiresTls | Cause::HbaForbidsTls) => {
            let direct = Connection { address: context.our_ip, ..connection.clone() };
            no_entry(rules, &connection, &direct, &decision, declined, finding)
        }
        _ => finding,
    }
}

/// A login that worked, but not by the rules of the file.
pub(super) fn warning(record: &Record, context: &Context<'_>) -> Option<Warning> {
    let rules = &Sheet::new(record, context)?;
    let connection = connection(record, context.our_ip, context.server_is_local)?;
    let decision = rules.decide(&connection);
    let seen = asked(record).or(record.session.authenticated.map(|_| Seen::Unasked))?;
    let encrypted = record.is_server_encrypted();
    if encrypted || !decision.certain || follows(decision.verdict, seen) {
        return None;
    }
    let explained = rules.older.iter().any(|file| explains(rules, file, &connection, seen));
    if explained || elsewhere(rules, &connection, seen).is_some() {
        return None;
    }
    let should = match &decision.line {
        Some(line) => format!("{line} should have decided: {}", rules.raw(line)),
        None => "no line of the file matches it".into(),
    };
    let summary = format!(
        "this login was not decided by the given pg_hba.conf ({should}): not reloaded, or another file"
    );
    Some(Warning { id: Cause::HbaNotReloaded.id().into(), summary })
}

/// What the server asked for.
fn asked(record: &Record) -> Option<Seen> {
    match record.requests.first()?.code {
        3 => Some(Seen::Cleartext),
        5 => Some(Seen::Md5),
        7 | 9 => Some(Seen::Gss),
        10 if record.offers(b"OAUTHBEARER") => Some(Seen::Oauth),
        10 => Some(Seen::Scram),
        _ => None,
    }
}

fn seen(record: &Record, finding: &Finding) -> Option<Seen> {
    let from_postgres = record.error.as_ref().is_none_or(|error| error.is_from_postgres());
    if !from_postgres {
        return None;
    }
    if !record.requests.is_empty() {
        return asked(record);
    }
    Some(match finding.cause {
        Cause::HbaNoEntry | Cause::HbaRequiresTls | Cause::HbaForbidsTls => Seen::NoEntry,
        Cause::HbaReject => Seen::Reject,
        Cause::IdentFailed | Cause::ExternalAuthFailed => Seen::Unasked,
        _ if record.session.authenticated.is_some() => Seen::Unasked,
        _ => return None,
    })
}

fn connection(record: &Record, our_ip: Option<IpAddr>, local: bool) -> Option<Connection> {
    let replication = match postgres::replication(record) {
        Some(postgres::Replication::Database) => Replication::Database,
        Some(postgres::Replication::Physical) => Replication::Physical,
        None => Replication::None,
    };
    Some(Connection {
        kind: if local { Kind::Local } else { Kind::Tcp },
        address: our_ip,
        user: text(record.user()?),
        database: text(record.database()?),
        tls: record.is_server_encrypted() && !record.gss_encrypted,
        gss: record.gss_encrypted,
        replication,
    })
}

/// Whether what was seen is what a line with this verdict does.
fn follows(verdict: Verdict, seen: Seen) -> bool {
    match (verdict, seen) {
        (Verdict::NoEntry, Seen::NoEntry) | (Verdict::Reject, Seen::Reject) => true,
        (Verdict::Trust, Seen::Unasked) => true,
        (Verdict::Asks(method), seen) => match method {
            Method::Password | Method::Ldap | Method::Radius | Method::Bsd => seen == Seen::Cleartext,
            // It asks only where one of its modules does.
            Method::Pam => matches!(seen, Seen::Cleartext | Seen::Unasked),
            // A role whose password is stored for SCRAM gets SCRAM under md5 too (CheckPWChallengeAuth).
            Method::Md5 => matches!(seen, Seen::Md5 | Seen::Scram),
            Method::ScramSha256 => seen == Seen::Scram,
            Method::Gss | Method::Sspi => seen == Seen::Gss,
            Method::Ident | Method::Peer | Method::Cert => seen == Seen::Unasked,
            Method::Oauth => seen == Seen::Oauth,
            Method::Trust | Method::Reject => false,
        },
        _ => false,
    }
}

/// Whether the login would fail for the same reason by the line of the file: both ask for the stored password, and
/// what is wrong with it is known.
fn fails_either_way(
    record: &Record,
    context: &Context<'_>,
    verdict: Verdict,
    seen: Seen,
    finding: &Finding,
) -> bool {
    let by_line = matches!(verdict, Verdict::Asks(Method::Password | Method::Md5 | Method::ScramSha256));
    let by_server = matches!(seen, Seen::Cleartext | Seen::Md5 | Seen::Scram);
    if !by_line || !by_server {
        return false;
    }
    let settled = proof::settle(record, context, finding.clone());
    match settled.cause {
        Cause::PasswordMissing | Cause::PasswordEmpty => true,
        // A stored MD5 hash is of no use under SCRAM, and of use under the line.
        Cause::PasswordDiffersOnServer if seen == Seen::Scram => {
            verdict == Verdict::Asks(Method::ScramSha256)
        }
        Cause::PasswordMismatch
        | Cause::PasswordDiffersOnServer
        | Cause::RoleMissing
        | Cause::RoleWithoutPassword
        | Cause::PasswordExpired => settled.confidence == Confidence::Proven,
        _ => false,
    }
}

/// The line by which the server did what it did, if it saw this login come from another address: behind
/// NAT, or through the published port of a container, it does, even where we dial 127.0.0.1.
fn elsewhere(rules: &Sheet<'_>, connection: &Connection, seen: Seen) -> Option<RuleRef> {
    let anywhere = rules.decide(&Connection { address: None, ..connection.clone() });
    let mut lines = anywhere.could_be.into_iter().chain(anywhere.line);
    lines.find(|line| rules.file.rule(line).is_some_and(|rule| follows(Verdict::of(rule.method), seen)))
}

/// The file may be in force all the same.
fn another_address(
    rules: &Sheet<'_>,
    decision: &Decision,
    connection: &Connection,
    line: &RuleRef,
    finding: Finding,
) -> Finding {
    let ours = connection.address.map_or_else(|| "this socket".to_owned(), |address| address.to_string());
    let should = match &decision.line {
        Some(line) => format!("{line} should decide for {ours}: {}", rules.raw(line)),
        None => format!("no line of {} is for {ours}", rules.name),
    };
    finding
        .and(should)
        .and(format!(
            "the server did otherwise: it does not follow that file, or it sees another address (NAT, a container's port), for which {line} would decide: {}",
            rules.raw(line)
        ))
        .or(&[Cause::HbaNotReloaded])
}

/// Whether this reading of the file, by an older server, is what the server did.
fn explains(rules: &Sheet<'_>, file: &HbaFile, connection: &Connection, seen: Seen) -> bool {
    let decision = decide(file, connection, &rules.world);
    file.would_load == rules.file.would_load && follows(decision.verdict, seen)
}

/// The server does not do what the rules say, wherever the login came from.
fn contradicted(
    record: &Record,
    context: &Context<'_>,
    rules: &Sheet<'_>,
    decision: &Decision,
    seen: Seen,
    before: Finding,
) -> Finding {
    let (cause, step) = (before.cause, before.step);
    let mut finding = not_reloaded(rules, decision, seen, before);
    let admin = context.admin.filter(|admin| proof::doubt(record, context, admin).is_none());
    // The view does not say which words are quoted, so a contradiction alone proves nothing. And a pooler asks by
    // its own rules: nothing but an error of PostgreSQL's shows that this is none.
    if (rules.view && !rules.changed) || record.error.is_none() {
        finding.confidence = Confidence::Likely;
        finding = finding.or(&[cause]);
    }
    if rules.view {
        return finding;
    }
    let own = admin.and_then(Sheet::of_view);
    let Some(mut own) = own.filter(|own| own.file.would_load) else { return finding };
    own.world.own_address = rules.world.own_address;
    if let Some(admin) = admin {
        own.learn_memberships(record, admin);
    }
    let told = record.error.as_ref().and_then(|error| seen_address(error, context.our_ip));
    let Some(connection) = connection(record, told.or(context.our_ip), context.server_is_local) else {
        return finding;
    };
    let theirs = own.decide(&connection);
    if theirs.certain && follows(theirs.verdict, seen) && !rules.changed {
        let line = match &theirs.line {
            Some(line) => format!("--admin: in the server's own file {line} decides: {}", own.raw(line)),
            None => "--admin: in the server's own file no line matches either".to_owned(),
        };
        let own = admin.and_then(|admin| admin.settings.hba_file.clone());
        finding = Finding { variant: Some("other_file"), step, ..finding }.and(line);
        finding =
            finding.summary("the server does what its own pg_hba.conf says, and the given file is another");
        if let Some(own) = own {
            finding = finding.fix(format!("edit the file that the server reads, and reload it: {own}"));
        }
    }
    finding
}

/// PostgreSQL can't have loaded this file, and what can be read of it decides otherwise than the server
/// did. A line that can't be read may have been meant for this login.
fn refused_file(rules: &Sheet<'_>, decision: &Decision, seen: Seen, before: Finding) -> Finding {
    let alike =
        decision.line.is_none() || (before.step == Step::SessionSetup && before.cause != Cause::RoleMissing);
    if alike {
        return before.and("the file has errors: a server that is told to reload it keeps the old rules");
    }
    let deciding = decision.line.as_ref().map_or(0, |line| line.line);
    let earlier = rules.file.problems.iter().any(|problem| problem.place.line <= deciding);
    let (cause, alternatives) = (before.cause, before.alternatives.clone());
    let mut finding = not_reloaded(rules, decision, seen, before);
    if earlier {
        finding.confidence = Confidence::Likely;
        finding = finding.or(&[cause]);
        finding.alternatives.extend(alternatives);
    }
    finding
}

fn not_reloaded(rules: &Sheet<'_>, decision: &Decision, seen: Seen, before: Finding) -> Finding {
    let should = match &decision.line {
        Some(line) => format!("{line} should decide: {}", rules.raw(line)),
        None => "no line of the file matches this login".into(),
    };
    let did = match seen {
        Seen::NoEntry => "refused it for want of a line",
        Seen::Reject => "refused it by a reject line",
        Seen::Unasked => "asked for nothing",
        Seen::Cleartext => "asked for the password in clear",
        Seen::Md5 => "asked for an MD5 response",
        Seen::Gss => "asked for GSSAPI or SSPI",
        Seen::Scram => "asked for SCRAM",
        Seen::Oauth => "asked for an OAuth token",
    };
    let variant = if rules.file.would_load { "not_reloaded" } else { "reload_failed" };
    let mut finding = Finding::new(before.step, Cause::HbaNotReloaded, Confidence::Proven, should)
        .and(format!("the server {did}: it does not follow this file"))
        .variant(variant)
        .ask(&["--admin"]);
    if !rules.file.would_load {
        finding = finding.and("the file has errors: a server that is told to reload it keeps the old rules");
    }
    finding.evidence.extend(before.evidence);
    finding
}

/// No line matches, by the server's word and by the file: what would have to be different?
fn no_entry(
    rules: &Sheet<'_>,
    connection: &Connection,
    direct: &Connection,
    decision: &Decision,
    declined: bool,
    before: Finding,
) -> Finding {
    let admits = |other: &Connection| {
        let other = rules.decide(other);
        other.certain && !other.verdict.refuses()
    };
    let sheltered = connection.tls || connection.gss;
    let plain = Connection { tls: false, gss: false, ..connection.clone() };
    if sheltered && admits(&plain) {
        return forbids_tls(rules, &plain, before);
    }
    let encrypted = Connection { tls: true, gss: false, ..connection.clone() };
    let with_tls = rules.decide(&encrypted);
    if !connection.tls && admits(&encrypted) {
        let line = with_tls.line;
        let line = line
            .map_or_else(String::new, |line| format!("{line} would match with TLS: {}", rules.raw(&line)));
        if declined {
            let mut finding = before.and(line).and("the client asked for TLS, and the server has none");
            finding.cause = Cause::HbaNoEntry;
            finding.confidence = if rules.changed { Confidence::Likely } else { Confidence::Proven };
            finding.alternatives.clear();
            return finding
                .summary("only lines for TLS (hostssl) match this login, and TLS is off at the server")
                .fix("turn TLS on at the server (ssl = on, with a certificate), or write host instead of hostssl, and reload");
        }
        let mut finding =
            Finding::proven(Step::AuthRequest, Cause::HbaRequiresTls, line).variant("client_never_asks");
        if rules.changed {
            finding.confidence = Confidence::Likely;
            finding = finding
                .and("but the file was changed after the server loaded it")
                .or(&[Cause::HbaNotReloaded]);
        }
        finding.evidence.extend(before.evidence);
        return finding;
    }
    let mut finding = before.and("the file agrees: no line matches, with TLS or without");
    finding.cause = Cause::HbaNoEntry;
    finding.confidence = Confidence::Proven;
    finding.alternatives.clear();
    finding.ask.clear();
    // Another address is at fault only where ours would have been let in.
    let nat = finding.variant == Some("nat_address") && admits(direct);
    if finding.variant.is_none() || (finding.variant == Some("nat_address") && !nat) {
        finding.variant = nearest(rules, connection, &[decision, &with_tls]);
    }
    let nearest = decision.passed_over.iter().take(MOST_LINES);
    nearest.fold(finding, |finding, (line, because)| finding.and(format!("{line} does not match: {because}")))
}

/// The login came encrypted, and only without encryption does a line match.
fn forbids_tls(rules: &Sheet<'_>, plain: &Connection, before: Finding) -> Finding {
    let line = rules.decide(plain).line.map_or_else(String::new, |line| {
        format!("{line} would match without encryption: {}", rules.raw(&line))
    });
    let mut finding = Finding::proven(Step::AuthRequest, Cause::HbaForbidsTls, line);
    if rules.changed {
        finding.confidence = Confidence::Likely;
        finding =
            finding.and("but the file was changed after the server loaded it").or(&[Cause::HbaNotReloaded]);
    }
    finding.evidence.extend(before.evidence);
    finding
}

/// Lines that a report explains; a longer file is explained by `pgwhy hba`.
const MOST_LINES: usize = 5;

/// What the last obstacle was on the line that came closest: one that names the user, if there is one.
fn nearest(rules: &Sheet<'_>, connection: &Connection, decisions: &[&Decision]) -> Option<&'static str> {
    let rank = |because: &Because| match because {
        // PostgreSQL looks at address, database and user in this order (check_hba).
        Because::User(..) => Some((4, "user")),
        Because::Database(..) => Some((3, "database")),
        Because::NotReplication(_) => Some((3, "replication")),
        Because::Address(..) | Because::HostName(..) | Because::NotForward(_) => Some((2, "address")),
        Because::Family(..) => Some((1, "address_family")),
        _ => None,
    };
    // Lines for this user by name, then those for everybody, come closer than any for somebody else.
    let names_user = |line: &RuleRef| {
        let rule = rules.file.rule(line);
        rule.is_some_and(|rule| rule.users.iter().any(|user| user.token.text == connection.user))
    };
    let names_all = |line: &RuleRef| {
        let rule = rules.file.rule(line);
        rule.is_some_and(|rule| rule.users.iter().any(|user| user.token.is_keyword("all")))
    };
    let names_database = |line: &RuleRef| {
        let rule = rules.file.rule(line);
        rule.is_some_and(|rule| rule.databases.iter().any(|name| name.token.text == connection.database))
    };
    // The lines for replication that every new cluster has are for no database.
    let is_for_databases = |line: &RuleRef| {
        let rule = rules.file.rule(line);
        rule.is_none_or(|rule| !rule.databases.iter().all(|name| name.token.is_keyword("replication")))
    };
    let plain = connection.replication == Replication::None;
    let among = |close: &dyn Fn(&RuleRef) -> bool| {
        let passed_over = decisions.iter().flat_map(|decision| &decision.passed_over);
        let passed_over = passed_over.filter(|(line, _)| !plain || is_for_databases(line));
        passed_over.filter(|(line, _)| close(line)).filter_map(|(_, because)| rank(because)).max()
    };
    let best = among(&names_user)
        .or_else(|| among(&names_database))
        .or_else(|| among(&names_all))
        .or_else(|| among(&|_| true));
    best.map(|(_, variant)| variant)
}

/// The server sees our address; the line that the client's own would meet may be another.
fn hidden_address(
    rules: &Sheet<'_>,
    record: &Record,
    context: &Context<'_>,
    decision: &Decision,
    finding: Finding,
) -> Finding {
    let Some(theirs) = context.client_ip.filter(|theirs| Some(*theirs) != context.our_ip) else {
        return finding;
    };
    let Some(connection) = connection(record, Some(theirs), false) else { return finding };
    let direct = rules.decide(&connection);
    match &direct.line {
        Some(line) if direct.certain && direct.line != decision.line => finding
            .and(format!("without pgwhy in between ({theirs}) {line} would decide: {}", rules.raw(line))),
        None if direct.certain && decision.line.is_some() => {
            finding.and(format!("without pgwhy in between ({theirs}) no line would match"))
        }
        _ => finding,
    }
}
