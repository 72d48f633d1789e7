//! Authentication methods and their options, by version.

use std::fmt;

/// An authentication method (PostgreSQL: `UserAuth`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the method's own")]
pub enum Method {
    Reject,
    Trust,
    Ident,
    Peer,
    Password,
    Md5,
    ScramSha256,
    Gss,
    Sspi,
    Pam,
    Bsd,
    Ldap,
    Cert,
    Radius,
    Oauth,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Reject,
        Self::Trust,
        Self::Ident,
        Self::Peer,
        Self::Password,
        Self::Md5,
        Self::ScramSha256,
        Self::Gss,
        Self::Sspi,
        Self::Pam,
        Self::Bsd,
        Self::Ldap,
        Self::Cert,
        Self::Radius,
        Self::Oauth,
    ];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Trust => "trust",
            Self::Ident => "ident",
            Self::Peer => "peer",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Gss => "gss",
            Self::Sspi => "sspi",
            Self::Pam => "pam",
            Self::Bsd => "bsd",
            Self::Ldap => "ldap",
            Self::Cert => "cert",
            Self::Radius => "radius",
            Self::Oauth => "oauth",
        }
    }

    /// The method of this word, if this version knows it.
    pub fn from_word(word: &str, version: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word && method.versions().contains(&version))
    }

    /// The versions that know it.
    pub fn versions(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Oauth => 18..=u32::MAX,
            Self::Radius => 0..=18,
            _ => 0..=u32::MAX,
        }
    }

    /// It makes the client send its password as it is.
    pub fn takes_cleartext(self) -> bool {
        matches!(self, Self::Password | Self::Pam | Self::Bsd | Self::Ldap | Self::Radius)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was compiled into a server, and the settings that change how it reads the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The major version, 12 to 19.
    pub version: u32,
    /// Built with GSSAPI.
    pub gss: bool,
    /// Built with LDAP.
    pub ldap: bool,
    /// Built with PAM.
    pub pam: bool,
    /// Built with BSD authentication (OpenBSD).
    pub bsd: bool,
    /// Built with SSPI (Windows).
    pub sspi: bool,
    /// `ssl = on`, if that is known.
    pub ssl: Option<bool>,
    /// `oauth_validator_libraries`, if that is known.
    pub oauth_validators: Option<Vec<String>>,
}

impl Server {
    /// A server as Linux distributions build it, with settings unknown.
    pub fn of_version(version: u32) -> Self {
        Self {
            version,
            gss: true,
            ldap: true,
            pam: true,
            bsd: false,
            sspi: false,
            ssl: None,
            oauth_validators: None,
        }
    }

    /// The method was compiled in.
    pub(super) fn has(&self, method: Method) -> bool {
        match method {
            Method::Gss => self.gss,
            Method::Sspi => self.sspi,
            Method::Pam => self.pam,
            Method::Bsd => self.bsd,
            Method::Ldap => self.ldap,
            _ => true,
        }
    }
}

/// An option that a line may carry.
pub(super) struct OptionSpec {
    pub(super) name: &'static str,
    /// The methods it is for; empty: any.
    pub(super) methods: &'static [Method],
    /// The first version that knows it.
    pub(super) since: u32,
    pub(super) value: Value,
}

/// What an option's value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Text,
    /// Anything but `1` means no.
    Flag,
    ClientCert,
    ClientName,
    LdapUrl,
    LdapScheme,
    Port,
    /// Names or addresses of RADIUS servers.
    List,
    Ports,
}

/// The option of this name (PostgreSQL: `parse_hba_auth_opt`).
pub(super) fn option(name: &str, version: u32) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| {
        let gone = spec.methods == [Method::Radius] && version > 18;
        spec.name == name && spec.since <= version && !gone
    })
}

/// The names of the options that this method takes.
pub(super) fn options_of(method: Method, version: u32) -> Vec<&'static str> {
    let fits = |spec: &&OptionSpec| spec.since <= version && spec.methods.contains(&method);
    OPTIONS.iter().filter(fits).map(|spec| spec.name).collect()
}

const fn spec(name: &'static str, methods: &'static [Method], since: u32, value: Value) -> OptionSpec {
    OptionSpec { name, methods, since, value }
}

const MAPPED: &[Method] =
    &[Method::Ident, Method::Peer, Method::Gss, Method::Sspi, Method::Cert, Method::Oauth];
const KERBEROS: &[Method] = &[Method::Gss, Method::Sspi];
const LDAP: &[Method] = &[Method::Ldap];
const RADIUS: &[Method] = &[Method::Radius];
const OAUTH: &[Method] = &[Method::Oauth];

static OPTIONS: [OptionSpec; 29] = [
    spec("map", MAPPED, 0, Value::Text),
    spec("clientcert", &[], 0, Value::ClientCert),
    spec("clientname", &[], 14, Value::ClientName),
    spec("pamservice", &[Method::Pam], 0, Value::Text),
    spec("pam_use_hostname", &[Method::Pam], 0, Value::Flag),
    spec("ldapurl", LDAP, 0, Value::LdapUrl),
    spec("ldaptls", LDAP, 0, Value::Flag),
    spec("ldapscheme", LDAP, 0, Value::LdapScheme),
    spec("ldapserver", LDAP, 0, Value::Text),
    spec("ldapport", LDAP, 0, Value::Port),
    spec("ldapbinddn", LDAP, 0, Value::Text),
    spec("ldapbindpasswd", LDAP, 0, Value::Text),
    spec("ldapsearchattribute", LDAP, 0, Value::Text),
    spec("ldapsearchfilter", LDAP, 0, Value::Text),
    spec("ldapbasedn", LDAP, 0, Value::Text),
    spec("ldapprefix", LDAP, 0, Value::Text),
    spec("ldapsuffix", LDAP, 0, Value::Text),
    spec("krb_realm", KERBEROS, 0, Value::Text),
    spec("include_realm", KERBEROS, 0, Value::Flag),
    spec("compat_realm", &[Method::Sspi], 0, Value::Flag),
    spec("upn_username", &[Method::Sspi], 0, Value::Flag),
    spec("radiusservers", RADIUS, 0, Value::List),
    spec("radiusports", RADIUS, 0, Value::Ports),
    spec("radiussecrets", RADIUS, 0, Value::List),
    spec("radiusidentifiers", RADIUS, 0, Value::List),
    spec("issuer", OAUTH, 18, Value::Text),
    spec("scope", OAUTH, 18, Value::Text),
    spec("validator", OAUTH, 18, Value::Text),
    spec("delegate_ident_mapping", OAUTH, 18, Value::Flag),
];
