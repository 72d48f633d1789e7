//! What an entry says, whatever language it says it in.

use super::catalogue;
use super::kind::Kind;
use super::{Entry, Severity, redact};

/// A thing that the log knows and the client was not told, or was told less exactly. Names are as
/// the server wrote them; who believes a fact compares them with those on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `Role "…" does not exist.`
    RoleMissing {
        /// The role.
        user: String,
    },
    /// `User "…" has no password assigned.`
    NoPassword {
        /// The role.
        user: String,
    },
    /// `User "…" has an expired password.`
    Expired {
        /// The role.
        user: String,
    },
    /// `User "…" does not have a valid SCRAM secret.`: its stored password is an MD5 hash.
    NotScram {
        /// The role.
        user: String,
    },
    /// `User "…" has a password that cannot be used with MD5 authentication.`
    NotMd5 {
        /// The role.
        user: String,
    },
    /// `Password does not match for user "…".` (md5 and password only: SCRAM does not say it)
    PasswordMismatch {
        /// The role.
        user: String,
    },
    /// `Password of user "…" is in unrecognized format.`
    UnknownSecret {
        /// The role.
        user: String,
    },
    /// `Connection matched …`: the line of pg_hba.conf that decided. Secret options are hidden.
    Matched {
        /// The file, which PostgreSQL 16 and newer name.
        file: Option<String>,
        /// The line.
        line: u32,
        /// The whole line as the server read it.
        text: String,
    },
    /// What the server found when it looked up the client's name for a rule with a host name.
    HostName {
        /// The name that the address resolved to.
        name: Option<String>,
        /// What came of it.
        outcome: LookUp,
    },
    /// A service that the server asked did not confirm the user.
    Service {
        /// Which one.
        service: Service,
        /// What was wrong.
        trouble: Trouble,
        /// The server's words.
        text: String,
    },
    /// The name that was proved is another one than the role, and no map joins them.
    NamesDiffer {
        /// The role that was asked for.
        role: String,
        /// The name that was proved.
        authenticated: String,
        /// The map of pg_ident.conf that was asked.
        map: Option<String>,
    },
    /// `connection requires a valid client certificate`
    CertificateMissing,
    /// `canceling authentication due to timeout`, which the client is never told.
    Timeout,
    /// `could not accept SSL connection: …`
    TlsFailed {
        /// The TLS library's words.
        text: String,
    },
    /// `invalid length of startup packet` or `incomplete startup packet`
    StartupBroken,
    /// `no pg_hba.conf entry for …`
    NoEntry {
        /// The client's address as the server sees it.
        host: String,
        /// The user.
        user: String,
    },
    /// `pg_hba.conf rejects …`
    Rejected {
        /// The client's address as the server sees it.
        host: String,
        /// The user.
        user: String,
    },
    /// `connection authenticated: …` (14 and newer, `log_connections`)
    Authenticated {
        /// Who was proved (of `trust`: the role).
        identity: String,
        /// The method of the line.
        method: String,
        /// The file.
        file: String,
        /// The line that decided.
        line: u32,
    },
    /// `connection authorized: …`
    Authorized,
    /// The postmaster got SIGHUP and reads its files again.
    Reloading,
    /// `… was not reloaded`: the old rules hold on.
    NotReloaded {
        /// The file.
        file: String,
    },
    /// A line of a configuration file that the server can't use.
    ConfigFault {
        /// The file.
        file: String,
        /// The line.
        line: u32,
        /// What is wrong with it.
        text: String,
    },
    /// None of these.
    Other,
}

impl Fact {
    /// The user whose stored password was looked at, where that is what it is about.
    pub fn judged_user(&self) -> Option<&str> {
        match self {
            Self::RoleMissing { user }
            | Self::NoPassword { user }
            | Self::Expired { user }
            | Self::NotScram { user }
            | Self::NotMd5 { user }
            | Self::PasswordMismatch { user }
            | Self::UnknownSecret { user } => Some(user),
            _ => None,
        }
    }
}

/// What came of looking up a client's host name (`ClientAuthentication`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// The name leads back to the address.
    Matches,
    /// The name leads to other addresses.
    Differs,
    /// No rule needed the way back.
    NotChecked,
    /// The address has no name.
    NoName,
    /// The name has no address.
    NoAddress,
}

/// Who proves a user for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `ident`
    Ident,
    /// `peer`
    Peer,
    /// `ldap`
    Ldap,
    /// `pam`
    Pam,
    /// `radius`
    Radius,
    /// `gss` and `sspi`
    Gss,
    /// `cert` and `clientcert`
    Certificate,
    /// `oauth`
    Oauth,
}

/// What was wrong with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It can't be reached or did not answer in time.
    Unreachable,
    /// It refused the user or the password.
    Refused,
    /// It does not know the user.
    UnknownUser,
    /// Its answer can't be used.
    BadAnswer,
    /// The server's own account or settings for it are wrong.
    Setup,
}

/// Everything that an entry says; [`Fact::Other`] alone when it is nothing that we know.
pub fn facts(entry: &Entry) -> Vec<Fact> {
    let mut found = Vec::new();
    if entry.severity != Severity::Log && entry.severity != Severity::Warning {
        found.extend(of_message(entry, &FATAL));
        if let Some(detail) = &entry.detail {
            found.extend(detail.lines().filter_map(of_detail));
            found.extend(of_long_name(detail));
        }
    }
    if matches!(entry.severity, Severity::Log | Severity::Unknown | Severity::Warning) {
        let fact = of_message(entry, &LOG);
        found.extend(fact.filter(|_| found.is_empty()));
        // DETAIL under a word that we do not know stands alone.
        let lines = entry.message.lines().filter(|_| entry.severity == Severity::Unknown);
        found.extend(lines.filter_map(matched_anyhow));
        let line = entry.context.iter().find_map(|context| {
            context.lines().find_map(|line| catalogue::recognise(line, &[Kind::ConfigLine]))
        });
        if let Some((_, args)) = line
            && let [line, file] = args[..]
            && let Ok(line) = line.parse()
        {
            let text = redact::secrets(&entry.message).into_owned();
            found.push(Fact::ConfigFault { file: file.to_owned(), line, text });
        }
    }
    if found.is_empty() {
        found.push(Fact::Other);
    }
    found
}

const FATAL: [Kind; 7] = [
    Kind::CertificateMissing,
    Kind::Timeout,
    Kind::NoEntry,
    Kind::Rejected,
    Kind::GssFailed,
    Kind::StartupBroken,
    Kind::TlsFailed,
];

const LOG: [Kind; 30] = [
    Kind::IdentUnreachable,
    Kind::IdentBadAnswer,
    Kind::PeerFailed,
    Kind::NamesDiffer,
    Kind::NoMapEntry,
    Kind::LdapRefused,
    Kind::LdapBindFailed,
    Kind::LdapSearchFailed,
    Kind::LdapUnknownUser,
    Kind::LdapSetup,
    Kind::PamRefused,
    Kind::PamFailed,
    Kind::RadiusTimeout,
    Kind::RadiusBadSecret,
    Kind::RadiusFailed,
    Kind::GssFailed,
    Kind::CertificateNoName,
    Kind::CertificateNameDiffers,
    Kind::TlsFailed,
    Kind::StartupBroken,
    Kind::Received,
    Kind::Authenticated,
    Kind::Trusted,
    Kind::Authorized,
    Kind::Reloading,
    Kind::NotReloaded,
    // A server whose words we do not know may say FATAL in them.
    Kind::CertificateMissing,
    Kind::Timeout,
    Kind::NoEntry,
    Kind::Rejected,
];

const DETAIL: [Kind; 15] = [
    Kind::RoleMissing,
    Kind::NoPassword,
    Kind::Expired,
    Kind::NotScram,
    Kind::NotMd5,
    Kind::PasswordMismatch,
    Kind::UnknownSecret,
    Kind::MatchedLine,
    Kind::MatchedFile,
    Kind::TokenRefused,
    Kind::LookupMatches,
    Kind::LookupDiffers,
    Kind::LookupUnchecked,
    Kind::LookupReverseFailed,
    Kind::LookupForwardFailed,
];

fn of_detail(line: &str) -> Option<Fact> {
    let Some((kind, args)) = catalogue::recognise(line, &DETAIL) else { return matched_anyhow(line) };
    let user = || args.first().map(|name| (*name).to_owned()).unwrap_or_default();
    let host_name = |outcome| Fact::HostName { name: args.first().map(|name| (*name).to_owned()), outcome };
    Some(match kind {
        Kind::RoleMissing => Fact::RoleMissing { user: user() },
        Kind::NoPassword => Fact::NoPassword { user: user() },
        Kind::Expired => Fact::Expired { user: user() },
        Kind::NotScram => Fact::NotScram { user: user() },
        Kind::NotMd5 => Fact::NotMd5 { user: user() },
        Kind::PasswordMismatch => Fact::PasswordMismatch { user: user() },
        Kind::UnknownSecret => Fact::UnknownSecret { user: user() },
        Kind::MatchedLine => matched(None, args.first()?, args.get(1)?)?,
        Kind::MatchedFile => matched(Some(args.first()?), args.get(1)?, args.get(2)?)?,
        Kind::TokenRefused => service(Service::Oauth, Trouble::Refused, line),
        Kind::LookupMatches => host_name(LookUp::Matches),
        Kind::LookupDiffers => host_name(LookUp::Differs),
        Kind::LookupUnchecked => host_name(LookUp::NotChecked),
        Kind::LookupReverseFailed => Fact::HostName { name: None, outcome: LookUp::NoName },
        Kind::LookupForwardFailed => host_name(LookUp::NoAddress),
        _ => return None,
    })
}

/// What a DETAIL says about a role with line ends in its name: the sentence goes over several lines.
fn of_long_name(detail: &str) -> Option<Fact> {
    let ends = detail.match_indices('\n').map(|(at, _)| at).chain([detail.len()]);
    // Names have 63 bytes: there can't be more line ends in them.
    ends.skip(1).take(MAX_NAME).find_map(|end| {
        let fact = of_detail(detail.get(..end)?)?;
        let long = match &fact {
            Fact::RoleMissing { user }
            | Fact::NoPassword { user }
            | Fact::Expired { user }
            | Fact::NotScram { user }
            | Fact::NotMd5 { user }
            | Fact::PasswordMismatch { user } => user.contains('\n'),
            _ => false,
        };
        long.then_some(fact)
    })
}

/// `NAMEDATALEN - 1`.
const MAX_NAME: usize = 63;

fn matched(file: Option<&str>, line: &str, text: &str) -> Option<Fact> {
    let text = redact::secrets(text).into_owned();
    Some(Fact::Matched { file: file.map(str::to_owned), line: line.parse().ok()?, text })
}

/// `Connection matched …` in a language or version that the table lacks: a number, and behind it in
/// quotes what can only be a line of pg_hba.conf.
fn matched_anyhow(line: &str) -> Option<Fact> {
    const QUOTES: [char; 10] = ['"', '»', '«', '„', '“', '”', '「', '\'', '>', '<'];
    const TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
    let is_rule = |text: &str| text.split([' ', '\t']).next().is_some_and(|word| TYPES.contains(&word));
    let (at, text) = line.char_indices().filter(|(_, c)| QUOTES.contains(c)).find_map(|(at, quote)| {
        let text = line[at + quote.len_utf8()..].trim_start_matches(['>', '<', ' ', '\u{a0}', '\u{202f}']);
        is_rule(text).then_some((at, text))
    })?;
    let before = &line[..at];
    let number = before.split(|c: char| !c.is_ascii_digit()).rfind(|digits| !digits.is_empty())?;
    let mut quoted = before.split(QUOTES).map(str::trim);
    let file = quoted.find(|part| part.starts_with('/') || part.ends_with(".conf"));
    let text = ["<<", ">>"].iter().find_map(|quote| text.strip_suffix(quote)).unwrap_or(text);
    let text = text.strip_suffix(QUOTES).unwrap_or(text).trim_end_matches([' ', '\u{a0}', '\u{202f}']);
    matched(file.filter(|_| before.contains(QUOTES)), number, text)
}

fn service(service: Service, trouble: Trouble, text: &str) -> Fact {
    Fact::Service { service, trouble, text: redact::secrets(text).into_owned() }
}

fn of_message(entry: &Entry, kinds: &[Kind]) -> Option<Fact> {
    let text = entry.message.as_str();
    let (kind, args) = catalogue::recognise(text, kinds)?;
    let arg = |at: usize| args.get(at).map(|text| (*text).to_owned()).unwrap_or_default();
    Some(match kind {
        Kind::NamesDiffer => Fact::NamesDiffer { role: arg(0), authenticated: arg(1), map: None },
        Kind::NoMapEntry => Fact::NamesDiffer { role: arg(1), authenticated: arg(2), map: Some(arg(0)) },
        Kind::CertificateMissing => Fact::CertificateMissing,
        Kind::Timeout => Fact::Timeout,
        Kind::TlsFailed => Fact::TlsFailed { text: arg(0) },
        Kind::StartupBroken => Fact::StartupBroken,
        Kind::NoEntry => Fact::NoEntry { host: arg(0), user: arg(1) },
        Kind::Rejected => Fact::Rejected { host: arg(0), user: arg(1) },
        Kind::Authenticated | Kind::Trusted => {
            let line = arg(3).parse().ok()?;
            Fact::Authenticated { identity: arg(0), method: arg(1), file: arg(2), line }
        }
        Kind::Authorized => Fact::Authorized,
        Kind::Reloading => Fact::Reloading,
        // "SSL configuration was not reloaded" is another matter.
        Kind::NotReloaded if arg(0).ends_with(".conf") || arg(0).contains('/') => {
            Fact::NotReloaded { file: arg(0) }
        }
        kind => {
            let (by, trouble) = service_of(kind)?;
            service(by, trouble, text)
        }
    })
}

fn service_of(kind: Kind) -> Option<(Service, Trouble)> {
    Some(match kind {
        Kind::IdentUnreachable => (Service::Ident, Trouble::Unreachable),
        Kind::IdentBadAnswer => (Service::Ident, Trouble::BadAnswer),
        Kind::PeerFailed => (Service::Peer, Trouble::BadAnswer),
        Kind::LdapRefused => (Service::Ldap, Trouble::Refused),
        Kind::LdapBindFailed | Kind::LdapSetup => (Service::Ldap, Trouble::Setup),
        Kind::LdapSearchFailed => (Service::Ldap, Trouble::Unreachable),
        Kind::LdapUnknownUser => (Service::Ldap, Trouble::UnknownUser),
        Kind::PamRefused => (Service::Pam, Trouble::Refused),
        Kind::PamFailed => (Service::Pam, Trouble::Setup),
        Kind::RadiusTimeout => (Service::Radius, Trouble::Unreachable),
        Kind::RadiusBadSecret => (Service::Radius, Trouble::Setup),
        Kind::RadiusFailed => (Service::Radius, Trouble::BadAnswer),
        Kind::GssFailed => (Service::Gss, Trouble::Refused),
        Kind::CertificateNoName | Kind::CertificateNameDiffers => (Service::Certificate, Trouble::Refused),
        _ => return None,
    })
}
