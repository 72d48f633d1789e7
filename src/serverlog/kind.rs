//! The kinds of messages that pgwhy knows.

/// What a known message is; [`super::facts`] says what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    // DETAIL of a refused login: get_role_password, md5_crypt_verify, plain_crypt_verify (crypt.c),
    // scram_init (auth-scram.c), auth_failed (auth.c).
    RoleMissing,
    NoPassword,
    Expired,
    NotScram,
    NotMd5,
    PasswordMismatch,
    UnknownSecret,
    MatchedLine,
    MatchedFile,
    TokenRefused,
    // DETAIL of "no pg_hba.conf entry": ClientAuthentication (auth.c).
    LookupMatches,
    LookupDiffers,
    LookupUnchecked,
    LookupReverseFailed,
    LookupForwardFailed,
    // LOG before the refusal: auth.c and hba.c.
    IdentUnreachable,
    IdentBadAnswer,
    PeerFailed,
    NamesDiffer,
    NoMapEntry,
    LdapRefused,
    LdapBindFailed,
    LdapSearchFailed,
    LdapUnknownUser,
    LdapSetup,
    PamRefused,
    PamFailed,
    RadiusTimeout,
    RadiusBadSecret,
    RadiusFailed,
    GssFailed,
    CertificateNoName,
    CertificateNameDiffers,
    TlsFailed,
    StartupBroken,
    // FATAL.
    CertificateMissing,
    Timeout,
    NoEntry,
    Rejected,
    // log_connections.
    Received,
    Authenticated,
    Trusted,
    Authorized,
    // The postmaster.
    Reloading,
    NotReloaded,
    ConfigLine,
    // What is not kept.
    Statement,
}
