//! The one table of causes: id, title, steps, side, variants and page. Reports, `pgwhy explain`, the
//! tests and docs/causes.toml all follow it; ids are never renamed.

use crate::handshake::Step;

use super::Leg;

macro_rules! causes {
    ($($name:ident $id:literal $leg:ident [$($step:ident)*] $title:literal [$($variant:literal)*])*) => {
        /// Why a login failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause {
            $(#[doc = $title] $name,)*
        }

        impl Cause {
            /// Every cause, in the order of a login.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The id used in reports.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// One sentence without a full stop.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Whose side it is usually on.
            pub fn leg(self) -> Leg {
                match self { $(Self::$name => Leg::$leg,)* }
            }

            /// The steps it can show up in.
            pub fn steps(self) -> &'static [Step] {
                match self { $(Self::$name => &[$(Step::$step),*],)* }
            }

            /// Its variants; empty where it has none.
            pub fn variants(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($variant),*],)* }
            }

            /// The page that `pgwhy explain` prints.
            pub fn page(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../docs/causes/", $id, ".md")),)*
                }
            }
        }
    };
}

causes! {
    NeverArrived "never_arrived" Client [Connect]
        "The application never connected to the proxy: its URL is not the one you think"
        []
    UrlInvalid "url_invalid" Client [Resolve]
        "The connection string does not say what its author meant"
        ["quotes_kept" "blank_around" "unencoded_at" "unencoded_hash" "unencoded_slash" "unencoded_question" "bad_percent" "scheme" "variable_unexpanded" "empty" "param_unknown" "jdbc_userinfo" "doubled_key"]
    DnsNotFound "dns_not_found" Server [Resolve]
        "The host name does not resolve here"
        ["not_found" "temporary" "blank_in_name"]
    AddressFamilyUnreachable "address_family_unreachable" Server [Resolve Connect]
        "The name has only addresses of a family that this machine can't reach"
        []
    ConnectionRefused "connection_refused" Server [Connect]
        "Nothing listens on that address and port"
        ["all_addresses" "ipv6_only" "ipv4_only"]
    ConnectTimeout "connect_timeout" Server [Connect]
        "Packets vanish on the way (firewall, security group, wrong network)"
        []
    UnixSocketMissing "unix_socket_missing" Server [Connect]
        "No server socket at that path"
        []
    NotPostgres "not_postgres" Server [Connect SslRequest AuthRequest]
        "What answers there does not speak PostgreSQL"
        ["http" "mysql" "ssh" "tls" "redis" "unknown"]
    WrongServer "wrong_server" Server [AuthRequest Md5 ScramClientFinal SessionSetup]
        "A PostgreSQL answers, but not the one that was meant"
        []
    ClosedWithoutAnswer "closed_without_answer" Server [Connect SslRequest Startup]
        "The connection was accepted and closed before any byte came back"
        []
    NoAnswer "no_answer" Server [SslRequest GssRequest AuthRequest]
        "The request was sent and nothing came back"
        []
    NotAClient "not_a_client" Client [Startup SslRequest]
        "What connected to the proxy is no PostgreSQL client (health check, scanner, HTTP)"
        ["tcp_probe" "http" "tls_probe" "garbage" "ssl_probe"]
    StartupMalformed "startup_malformed" Client [Startup]
        "The startup packet is broken or larger than PostgreSQL allows (10,000 bytes)"
        []
    StartupTimeout "startup_timeout" Client [Startup]
        "The client connected and never sent a startup packet"
        []
    ProtocolVersionUnsupported "protocol_version_unsupported" Client [Startup AuthRequest]
        "Client and server share no protocol version, or something between them can't negotiate one"
        ["too_new" "too_old" "grease_not_negotiated" "minimum_not_met"]
    UserMissingInStartup "user_missing_in_startup" Client [AuthRequest]
        "No user name in the startup packet"
        []
    GssRequestUnhandled "gss_request_unhandled" Server [GssRequest]
        "Something does not understand GSSENCRequest"
        []
    GssFailed "gss_failed" Server [Gss AuthRequest]
        "Kerberos/SSPI authentication failed"
        ["rejected" "unsupported_by_client" "principal_mismatch"]
    ServerHasNoTls "server_has_no_tls" Server [SslRequest]
        "The client insists on TLS and the server has none"
        ["client_gave_up" "hello_after_n"]
    SslRequestError "ssl_request_error" Server [SslRequest]
        "The server answered the SSLRequest with an error that drivers hide"
        []
    PlaintextInjected "plaintext_injected" Client [SslRequest]
        "Unencrypted bytes arrived behind the SSLRequest or its answer"
        []
    TlsAbandonedByClient "tls_abandoned_by_client" Client [TlsHandshake]
        "The server agreed to TLS and the client never began (no CA file, no TLS support)"
        []
    DirectTlsUnsupported "direct_tls_unsupported" Server [TlsHandshake]
        "The client starts with TLS at once (sslnegotiation=direct) and the server does not know that"
        []
    AlpnMissing "alpn_missing" Server [TlsHandshake]
        "Direct TLS without the ALPN name postgresql"
        []
    TlsVersionMismatch "tls_version_mismatch" Client [TlsHandshake]
        "No TLS version in common"
        []
    TlsCipherMismatch "tls_cipher_mismatch" Client [TlsHandshake]
        "No cipher, curve or key strength in common"
        []
    TlsCut "tls_cut" Server [TlsHandshake]
        "The TLS handshake was cut without an alert"
        []
    ServerCertUntrusted "server_cert_untrusted" Client [TlsHandshake]
        "The client does not trust the server's certificate"
        ["unknown_ca" "self_signed" "expired" "not_yet_valid" "hostname_mismatch" "intercepted"]
    ClientCertMissing "client_cert_missing" Client [TlsHandshake AuthRequest]
        "The server demands a client certificate and the client sent none"
        []
    ClientCertRejected "client_cert_rejected" Client [TlsHandshake AuthRequest]
        "The client's certificate is not accepted"
        ["unknown_ca" "expired" "user_mismatch"]
    SniRequired "sni_required" Client [AuthRequest TlsHandshake]
        "The front end needs the server name (SNI) or a tenant to know which database is meant"
        []
    HbaNoEntry "hba_no_entry" Server [AuthRequest]
        "No line of pg_hba.conf matches this host, user, database and encryption"
        ["address" "database" "user" "address_family" "replication" "nat_address"]
    HbaRequiresTls "hba_requires_tls" Client [AuthRequest]
        "The server accepts this login only over TLS and the client did not use it"
        ["client_never_asks" "fallback_after_failure"]
    HbaForbidsTls "hba_forbids_tls" Client [AuthRequest]
        "Only hostnossl lines match and the client used TLS"
        []
    HbaReject "hba_reject" Server [AuthRequest]
        "A reject line of pg_hba.conf matches"
        []
    HbaNotReloaded "hba_not_reloaded" Server [AuthRequest Md5 ScramClientFinal SessionSetup Password]
        "pg_hba.conf was edited, but the running server still follows the old rules"
        ["not_reloaded" "reload_failed" "other_file"]
    RetryMasksFailure "retry_masks_failure" Client [AuthRequest]
        "The error shown is the second attempt's: the driver failed over TLS and tried again in plaintext (or the reverse)"
        []
    IdentFailed "ident_failed" Server [AuthRequest]
        "The matching line uses ident or peer"
        []
    TooManyConnections "too_many_connections" Server [AuthRequest SessionSetup]
        "The server is out of connection slots"
        ["server" "reserved" "role" "database" "walsender"]
    ServerNotAccepting "server_not_accepting" Server [AuthRequest]
        "The server is starting, stopping, recovering or a standby that takes no connections"
        ["starting_up" "shutting_down" "recovery" "standby"]
    AuthMethodUnsupportedByClient "auth_method_unsupported_by_client" Client [SaslMechanism Md5 Password AuthRequest Oauth Gss]
        "The client can't do the authentication that the server asks for"
        ["scram" "oauth" "gss" "sha256_redshift" "md5_fips" "obsolete"]
    MethodRejectedByClient "method_rejected_by_client" Client [AuthRequest SaslMechanism]
        "The client's own settings (require_auth, channel_binding=require) forbid what the server offers"
        []
    VerifierMethodConflict "verifier_method_conflict" Server [Md5 ScramClientFinal SaslMechanism]
        "The stored password's kind does not fit the pg_hba method (md5 hash under scram-sha-256, or still SCRAM under md5)"
        ["md5_secret_under_scram" "scram_secret_under_md5"]
    PasswordMissing "password_missing" Client [Password Md5 SaslMechanism ScramServerFirst]
        "The client has no password to send"
        []
    PasswordEmpty "password_empty" Client [Password Md5 ScramClientFinal]
        "The client sent an empty password"
        []
    PasswordMismatch "password_mismatch" Client [Password Md5 ScramClientFinal]
        "The client sent another password than the one that should be used"
        ["quotes_kept" "trailing_newline" "trailing_cr" "trailing_space" "leading_space" "bom" "percent_encoded_kept" "percent_decoded_twice" "percent_decoded_once_too_often" "plus_as_space" "space_as_plus" "cut_at_hash" "cut_at_at" "cut_at_slash" "cut_at_question" "cut_at_ampersand" "cut_at_colon" "cut_at_space" "cut_at_dollar" "cut_at_percent" "dollar_expanded" "dollar_doubled" "backslash_kept" "backslash_removed" "newline_escape_kept" "case_changed" "caps_lock" "unicode_form" "not_saslprepped" "latin1" "truncated" "literal_undefined" "literal_null" "variable_unexpanded" "user_name" "other_variable" "previous_password" "hashed_value" "unknown"]
    PasswordDiffersOnServer "password_differs_on_server" Server [Password Md5 ScramClientFinal]
        "The client sent exactly the expected password; the server has another one (or none) for this role"
        []
    PasswordRejected "password_rejected" Client [Password Md5 ScramClientFinal]
        "The server refused the password; nothing that was given tells which of the reasons applies"
        []
    RoleMissing "role_missing" Server [Password Md5 ScramClientFinal SessionSetup]
        "There is no such role on this server"
        ["absent" "case_differs" "blank_in_name" "name_truncated"]
    RoleWithoutPassword "role_without_password" Server [Password Md5 ScramClientFinal]
        "The role exists and has no password"
        []
    PasswordExpired "password_expired" Server [Password Md5 ScramClientFinal]
        "The role's password has expired (VALID UNTIL)"
        []
    ExternalAuthFailed "external_auth_failed" Server [Password]
        "LDAP, PAM or RADIUS behind the server refused"
        ["ldap" "pam" "radius" "bsd"]
    CloudTokenInvalid "cloud_token_invalid" Client [Password]
        "The password is a cloud access token that can't be valid"
        ["expired" "wrong_user" "wrong_host" "wrong_audience" "not_a_token" "truncated" "encoded"]
    UserNameFormat "user_name_format" Client [AuthRequest ScramClientFinal Password]
        "The front end expects another form of user name (user@server, user.tenant)"
        ["azure_at_server" "tenant_suffix"]
    SaslResponseInvalid "sasl_response_invalid" Client [SaslMechanism ScramClientFirst ScramClientFinal]
        "The client's SASL message is malformed or out of turn"
        []
    ScramNonceMismatch "scram_nonce_mismatch" Server [ScramServerFirst ScramClientFinal]
        "The nonce was changed on the way"
        []
    ScramIterationsRefused "scram_iterations_refused" Client [ScramServerFirst]
        "The client refuses the server's iteration count, or it is zero"
        []
    ChannelBindingDowngrade "channel_binding_downgrade" Proxy [ScramClientFirst ScramClientFinal]
        "The client can bind to the channel and thinks the server can't: something in between took SCRAM-SHA-256-PLUS away"
        []
    ChannelBindingMismatch "channel_binding_mismatch" Proxy [ScramClientFinal]
        "The client bound to another certificate than the server's: TLS is opened in between"
        ["terminated_in_between" "driver_hash"]
    PlusOverPlaintext "plus_over_plaintext" Proxy [SaslMechanism]
        "SCRAM-SHA-256-PLUS was offered on an unencrypted leg: TLS ends in between and the offer was passed on"
        []
    ServerSignatureInvalid "server_signature_invalid" Server [ScramServerFinal]
        "The server could not prove that it knows the password"
        []
    ClientLeft "client_left" Client [Password Md5 SaslMechanism ScramClientFirst ScramServerFirst ScramClientFinal ScramServerFinal AuthRequest SessionSetup]
        "The client closed in the middle of the handshake without saying why"
        []
    AuthTimeout "auth_timeout" Server [Password Md5 SaslMechanism ScramServerFirst AuthRequest]
        "The login took longer than authentication_timeout"
        []
    OauthFailed "oauth_failed" Client [Oauth]
        "The OAuth token was refused or none could be had"
        []
    DatabaseMissing "database_missing" Server [SessionSetup]
        "The login worked; there is no such database"
        ["absent" "default_is_user_name" "cr_in_name" "percent_in_name" "case_differs"]
    DatabaseNotAccepting "database_not_accepting" Server [SessionSetup]
        "The database accepts no connections"
        []
    ConnectPrivilegeMissing "connect_privilege_missing" Server [SessionSetup]
        "The role may not connect to this database"
        []
    RoleCannotLogin "role_cannot_login" Server [SessionSetup]
        "The role exists and the password was right, but it has no LOGIN right"
        []
    ReplicationDenied "replication_denied" Server [SessionSetup]
        "The role may not open a replication connection"
        []
    StartupParameterRefused "startup_parameter_refused" Client [SessionSetup AuthRequest]
        "A parameter in the connection string became a server setting that the server refuses"
        ["unknown" "invalid_value" "not_permitted" "bad_options" "pooler_unsupported" "needs_restart"]
    TargetSessionMismatch "target_session_mismatch" Client [Ready]
        "The login worked and the client left: it wanted a primary (or a standby)"
        []
    MiddleRefused "middle_refused" Server [AuthRequest ScramClientFinal Md5 SessionSetup]
        "A pooler or gateway between here and the server refused, for a reason of its own"
        ["no_such_user" "no_such_database" "server_login_failed" "limit" "blocked" "allow_list" "credentials_lookup" "shutting_down" "suspended"]
    ServerError "server_error" Server [AuthRequest SessionSetup Startup]
        "The server refused with an error that is none of the above"
        []
    PoolExhausted "pool_exhausted" Proxy [Pool]
        "No server connection came free in time"
        []
    PoolCredentials "pool_credentials" Proxy [Pool]
        "Our own login to the server failed or can't be made; the server's cause is given whole"
        []
    ProxyLimit "proxy_limit" Proxy [Connect Startup Pool]
        "One of our own limits refused the connection"
        []
    ServerLeft "server_left" Server [Password Md5 SaslMechanism ScramClientFirst ScramServerFirst ScramClientFinal ScramServerFinal Gss Oauth SessionSetup]
        "The server ended the connection in the middle of the handshake without an error"
        []
}

impl Cause {
    /// Finds a cause by its id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as other programs read it.
    const TOML: &str = include_str!("../../docs/causes.toml");

    #[test]
    fn the_table_and_its_toml_agree() {
        let values = |key: &str| -> Vec<String> {
            let prefix = format!("{key} = \"");
            TOML.lines().filter_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"')).map(String::from).collect()
        };
        let ids: Vec<&str> = Cause::ALL.iter().map(|cause| cause.id()).collect();
        let titles: Vec<&str> = Cause::ALL.iter().map(|cause| cause.title()).collect();
        assert_eq!(values("id"), ids);
        assert_eq!(values("title"), titles);
        for cause in Cause::ALL {
            for variant in cause.variants() {
                assert!(TOML.contains(&format!("\"{variant}\"")), "{}: {variant}", cause.id());
            }
        }
    }

    #[test]
    fn every_page_names_its_cause_and_variants() {
        for cause in Cause::ALL {
            let page = cause.page();
            assert!(page.starts_with(&format!("# {}\n", cause.id())), "{}", cause.id());
            for variant in cause.variants() {
                assert!(page.contains(&format!("`{variant}`")), "{}: {variant}", cause.id());
            }
        }
    }
}
