//! The one table of causes: id, title, steps, side, variants and page. Reports, `pgwhy explain`, the
//! tests and docs/causes.toml all follow it; ids are never renamed.

use crate::handshake::Step;

use super::leg::Leg;

macro_rules! causes {
    ($($name:ident $id:literal $leg:ident [$($step:ident)*] $title:literal [$($variant:literal)*] [$($fix:literal)*])*) => {
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

            /// The shortest changes that mend it, the most frequent first.
            pub fn fixes(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($fix),*],)* }
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
        ["print the connection string that the process really has; it points elsewhere"]
    UrlInvalid "url_invalid" Client [Resolve]
        "The connection string does not say what its author meant"
        ["quotes_kept" "blank_around" "unencoded_at" "unencoded_hash" "unencoded_slash" "unencoded_question" "bad_percent" "scheme" "variable_unexpanded" "empty" "param_unknown" "jdbc_userinfo" "doubled_key"]
        ["percent-encode the special characters of the password in the URL"]
    DnsNotFound "dns_not_found" Server [Resolve]
        "The host name does not resolve here"
        ["not_found" "temporary" "blank_in_name"]
        ["correct the host name; inside a container network use the service's name, outside it localhost"]
    AddressFamilyUnreachable "address_family_unreachable" Server [Resolve Connect]
        "The name has only addresses of a family that this machine can't reach"
        []
        ["use a host name with an IPv4 address (a pooler's, for Supabase), or give this machine IPv6"]
    ConnectionRefused "connection_refused" Server [Connect]
        "Nothing listens on that address and port"
        ["all_addresses" "ipv6_only" "ipv4_only"]
        ["check host and port; in a container `localhost` is the container itself" "on the server: listen_addresses and port, then restart"]
    ConnectTimeout "connect_timeout" Server [Connect]
        "Packets vanish on the way (firewall, security group, wrong network)"
        []
        ["open the firewall or security group for this machine's address and the database port"]
    UnixSocketMissing "unix_socket_missing" Server [Connect]
        "No server socket at that path"
        []
        ["name the host (-h 127.0.0.1), or the directory in unix_socket_directories"]
    NotPostgres "not_postgres" Server [Connect SslRequest AuthRequest]
        "What answers there does not speak PostgreSQL"
        ["http" "mysql" "ssh" "tls" "redis" "unknown"]
        ["correct host or port: this one belongs to another service"]
    WrongServer "wrong_server" Server [AuthRequest Md5 ScramClientFinal SessionSetup]
        "A PostgreSQL answers, but not the one that was meant"
        []
        ["another PostgreSQL owns this address: stop it, or publish the right one on another port"]
    ClosedWithoutAnswer "closed_without_answer" Server [Connect SslRequest Startup]
        "The connection was accepted and closed before any byte came back"
        []
        ["look behind the load balancer or port forwarding: it accepts, and no healthy backend is there"]
    NoAnswer "no_answer" Server [SslRequest GssRequest AuthRequest]
        "The request was sent and nothing came back"
        []
        ["look for a firewall or proxy that swallows the request; try from the server's own machine"]
    NotAClient "not_a_client" Client [Startup SslRequest]
        "What connected to the proxy is no PostgreSQL client (health check, scanner, HTTP)"
        ["tcp_probe" "http" "tls_probe" "garbage" "ssl_probe"]
        ["nothing to fix: a health check or scanner; it is counted apart from failed logins"]
    StartupMalformed "startup_malformed" Client [Startup]
        "The startup packet is broken or larger than PostgreSQL allows (10,000 bytes)"
        []
        ["shorten the `options` of the connection string, or mend the program that sends this"]
    StartupTimeout "startup_timeout" Client [Startup]
        "The client connected and never sent a startup packet"
        []
        ["look at the program that opened the connection and sent nothing"]
    ProtocolVersionUnsupported "protocol_version_unsupported" Client [Startup AuthRequest]
        "Client and server share no protocol version, or something between them can't negotiate one"
        ["too_new" "too_old" "grease_not_negotiated" "minimum_not_met"]
        ["remove min_protocol_version from the connection string, or upgrade the server or the pooler"]
    UserMissingInStartup "user_missing_in_startup" Client [AuthRequest]
        "No user name in the startup packet"
        []
        ["put the user into the connection string: postgresql://USER@host/database"]
    GssRequestUnhandled "gss_request_unhandled" Server [GssRequest]
        "Something does not understand GSSENCRequest"
        []
        ["add gssencmode=disable to the connection string (PGGSSENCMODE=disable)"]
    GssFailed "gss_failed" Server [Gss AuthRequest]
        "Kerberos/SSPI authentication failed"
        ["rejected" "unsupported_by_client" "principal_mismatch"]
        ["check ticket, realm, keytab and clock: klist; the server's log has the principal"]
    ServerHasNoTls "server_has_no_tls" Server [SslRequest]
        "The client insists on TLS and the server has none"
        ["client_gave_up" "hello_after_n"]
        ["turn TLS on at the server (ssl = on), or allow plaintext: sslmode=prefer or disable"]
    TlsRequiredByProxy "tls_required_by_proxy" Client [SslRequest]
        "The client came without TLS, and pgwhy was told to accept nothing else"
        []
        ["put sslmode=require into the client's connection string" "or run pgwhy with --client-tls allow"]
    SslRequestError "ssl_request_error" Server [SslRequest]
        "The server answered the SSLRequest with an error that drivers hide"
        []
        ["read the error: the server could not start a backend, or is no PostgreSQL"]
    PlaintextInjected "plaintext_injected" Client [SslRequest]
        "Unencrypted bytes arrived behind the SSLRequest or its answer"
        []
        ["find what writes into the connection before TLS begins; until then treat it as an attack"]
    TlsAbandonedByClient "tls_abandoned_by_client" Client [TlsHandshake]
        "The server agreed to TLS and the client never began (no CA file, no TLS support)"
        []
        ["give the client its CA file (sslrootcert=…, or sslrootcert=system), or a driver built with TLS"]
    DirectTlsUnsupported "direct_tls_unsupported" Server [TlsHandshake]
        "The client starts with TLS at once (sslnegotiation=direct) and the server does not know that"
        []
        ["remove sslnegotiation=direct from the connection string: servers before 17, and those with ssl=off, do not take it"]
    AlpnMissing "alpn_missing" Server [TlsHandshake]
        "Direct TLS without the ALPN name postgresql"
        []
        ["let whatever terminates TLS speak ALPN `postgresql`, or drop sslnegotiation=direct"]
    TlsVersionMismatch "tls_version_mismatch" Client [TlsHandshake]
        "No TLS version in common"
        []
        ["upgrade the client's TLS library, or lower ssl_min_protocol_version at the server"]
    TlsCipherMismatch "tls_cipher_mismatch" Client [TlsHandshake]
        "No cipher, curve or key strength in common"
        []
        ["align ssl_ciphers and key sizes: RSA 2048 or more, or ECDSA"]
    TlsCut "tls_cut" Server [TlsHandshake]
        "The TLS handshake was cut without an alert"
        []
        ["look for a device that cuts TLS between here and the server; see the server's log"]
    ServerCertUntrusted "server_cert_untrusted" Client [TlsHandshake]
        "The client does not trust the server's certificate"
        ["unknown_ca" "self_signed" "expired" "not_yet_valid" "hostname_mismatch" "intercepted"]
        ["give the client the CA that signed the server's certificate (sslrootcert=…), and the name in it"]
    ClientCertMissing "client_cert_missing" Client [TlsHandshake AuthRequest]
        "The server demands a client certificate and the client sent none"
        []
        ["give the client its certificate and key: sslcert=… sslkey=…"]
    ClientCertRejected "client_cert_rejected" Client [TlsHandshake AuthRequest Password Md5 ScramServerFinal]
        "The client's certificate is not accepted"
        ["unknown_ca" "expired" "user_mismatch"]
        ["use a certificate of the server's CA, valid today, with the role's name as CN"]
    SniRequired "sni_required" Client [AuthRequest TlsHandshake]
        "The front end needs the server name (SNI) or a tenant to know which database is meant"
        []
        ["use a driver that sends the server name, or name the endpoint: options=endpoint%3DNAME"]
    HbaNoEntry "hba_no_entry" Server [AuthRequest]
        "No line of pg_hba.conf matches this host, user, database and encryption"
        ["address" "database" "user" "address_family" "replication" "nat_address"]
        ["add a line for this host, user and database to pg_hba.conf, then SELECT pg_reload_conf()"]
    HbaRequiresTls "hba_requires_tls" Client [AuthRequest]
        "The server accepts this login only over TLS and the client did not use it"
        ["client_never_asks" "fallback_after_failure"]
        ["add sslmode=require to the connection string (in node-postgres: ssl)"]
    HbaForbidsTls "hba_forbids_tls" Client [AuthRequest]
        "Only hostnossl lines match and the client used TLS"
        []
        ["add sslmode=disable to the connection string, or turn hostnossl into host"]
    HbaReject "hba_reject" Server [AuthRequest]
        "A reject line of pg_hba.conf matches"
        []
        ["change the reject line, or put a line before it that lets this connection in"]
    HbaNotReloaded "hba_not_reloaded" Server [AuthRequest Md5 ScramClientFinal SessionSetup Password]
        "pg_hba.conf was edited, but the running server still follows the old rules"
        ["not_reloaded" "reload_failed" "other_file"]
        ["SELECT pg_reload_conf(); then look at pg_hba_file_rules for errors"]
    RetryMasksFailure "retry_masks_failure" Client [AuthRequest]
        "The error shown is the second attempt's: the driver failed over TLS and tried again in plaintext (or the reverse)"
        []
        ["mend what the first attempt failed of"]
    IdentFailed "ident_failed" Server [AuthRequest]
        "The matching line uses ident or peer"
        []
        ["change ident or peer in the matching pg_hba.conf line to scram-sha-256, then SELECT pg_reload_conf()"]
    TooManyConnections "too_many_connections" Server [AuthRequest SessionSetup]
        "The server is out of connection slots"
        ["server" "reserved" "role" "database" "walsender"]
        ["close idle connections or put a pooler in between; raise max_connections last"]
    ServerNotAccepting "server_not_accepting" Server [AuthRequest]
        "The server is starting, stopping, recovering or a standby that takes no connections"
        ["starting_up" "shutting_down" "recovery" "standby"]
        ["wait and retry; if it stays, read the server's log"]
    AuthMethodUnsupportedByClient "auth_method_unsupported_by_client" Client [SaslMechanism Md5 Password AuthRequest Oauth Gss]
        "The client can't do the authentication that the server asks for"
        ["scram" "oauth" "gss" "sha256_redshift" "md5_fips" "obsolete"]
        ["upgrade the driver"]
    MethodRejectedByClient "method_rejected_by_client" Client [AuthRequest SaslMechanism]
        "The client's own settings (require_auth, channel_binding=require) forbid what the server offers"
        []
        ["remove require_auth or channel_binding=require from the connection string, or mend pg_hba.conf"]
    VerifierMethodConflict "verifier_method_conflict" Server [Md5 ScramClientFinal SaslMechanism]
        "The stored password's kind does not fit the pg_hba method (md5 hash under scram-sha-256, or still SCRAM under md5)"
        ["md5_secret_under_scram" "scram_secret_under_md5"]
        ["set the password again while password_encryption = 'scram-sha-256': \\password ROLE in psql"]
    PasswordMissing "password_missing" Client [Password Md5 SaslMechanism ScramServerFirst]
        "The client has no password to send"
        []
        ["give the client its password: in the connection string, PGPASSWORD or .pgpass (mode 0600)"]
    PasswordEmpty "password_empty" Client [Password Md5 ScramClientFinal]
        "The client sent an empty password"
        []
        ["the password is empty: is the variable set where the program runs?"]
    PasswordMismatch "password_mismatch" Client [Password Md5 ScramClientFinal]
        "The client sent another password than the one that should be used"
        ["quotes_kept" "trailing_newline" "trailing_cr" "trailing_space" "leading_space" "bom" "percent_encoded_kept" "percent_decoded_twice" "percent_decoded_once_too_often" "plus_as_space" "space_as_plus" "cut_at_hash" "cut_at_at" "cut_at_slash" "cut_at_question" "cut_at_ampersand" "cut_at_colon" "cut_at_space" "cut_at_dollar" "cut_at_percent" "dollar_expanded" "dollar_doubled" "backslash_kept" "backslash_removed" "newline_escape_kept" "case_changed" "caps_lock" "unicode_form" "not_saslprepped" "latin1" "truncated" "literal_undefined" "literal_null" "variable_unexpanded" "user_name" "other_variable" "previous_password" "hashed_value" "unknown"]
        ["compare what the program reads with what it should read"]
    PasswordDiffersOnServer "password_differs_on_server" Server [Password Md5 ScramClientFinal]
        "The client sent exactly the expected password; the server has another one (or none) for this role"
        []
        ["set it at the server (ALTER ROLE … PASSWORD), or find the password that is in force there"]
    PasswordRejected "password_rejected" Client [Password Md5 ScramClientFinal]
        "The server refused the password; nothing that was given tells which of the reasons applies"
        []
        ["give pgwhy the password that should work (--upstream with password, or --password-file) to learn more"]
    RoleMissing "role_missing" Server [Password Md5 ScramClientFinal SessionSetup]
        "There is no such role on this server"
        ["absent" "case_differs" "blank_in_name" "name_truncated"]
        ["create the role, or correct the user's name (case and blanks count)"]
    RoleWithoutPassword "role_without_password" Server [Password Md5 ScramClientFinal]
        "The role exists and has no password"
        []
        ["ALTER ROLE … PASSWORD '…'"]
    PasswordExpired "password_expired" Server [Password Md5 ScramClientFinal]
        "The role's password has expired (VALID UNTIL)"
        []
        ["ALTER ROLE … VALID UNTIL 'infinity', or set a new date"]
    ExternalAuthFailed "external_auth_failed" Server [Password AuthRequest]
        "LDAP, PAM or RADIUS behind the server refused"
        ["ldap" "pam" "radius" "bsd"]
        ["the directory behind the server refused: its answer is in the server's log"]
    CloudTokenInvalid "cloud_token_invalid" Client [Password]
        "The password is a cloud access token that can't be valid"
        ["expired" "wrong_user" "wrong_host" "wrong_audience" "not_a_token" "truncated" "encoded"]
        ["get a new token for every connection, for this host and this user"]
    UserNameFormat "user_name_format" Client [AuthRequest ScramClientFinal Password]
        "The front end expects another form of user name (user@server, user.tenant)"
        ["azure_at_server" "tenant_suffix"]
        ["write the user's name as the service wants it: user.tenant, or user@server"]
    SaslResponseInvalid "sasl_response_invalid" Client [SaslMechanism ScramClientFirst ScramClientFinal]
        "The client's SASL message is malformed or out of turn"
        []
        ["upgrade the driver or pooler that sent this message"]
    ScramNonceMismatch "scram_nonce_mismatch" Server [ScramServerFirst ScramClientFinal]
        "The nonce was changed on the way"
        []
        ["something between client and server rewrites SCRAM messages: take it out"]
    ScramIterationsRefused "scram_iterations_refused" Client [ScramServerFirst]
        "The client refuses the server's iteration count, or it is zero"
        []
        ["raise the driver's limit (scramMaxIterations), or set the password again with fewer scram_iterations"]
    ChannelBindingDowngrade "channel_binding_downgrade" Proxy [ScramClientFirst ScramClientFinal]
        "The client can bind to the channel and thinks the server can't: something in between took SCRAM-SHA-256-PLUS away"
        []
        ["whatever terminates TLS in between must not take SCRAM-SHA-256-PLUS away; or channel_binding=disable"]
    ChannelBindingMismatch "channel_binding_mismatch" Proxy [ScramClientFirst ScramClientFinal]
        "The client bound to another certificate than the server's: TLS is opened in between"
        ["terminated_in_between" "driver_hash"]
        ["pass TLS through unopened, or give what opens it the server's own certificate; or channel_binding=disable"]
    PlusOverPlaintext "plus_over_plaintext" Proxy [SaslMechanism]
        "SCRAM-SHA-256-PLUS was offered on an unencrypted leg: TLS ends in between and the offer was passed on"
        []
        ["let the client speak TLS too, or take PLUS out of the offer where TLS ends"]
    ServerSignatureInvalid "server_signature_invalid" Server [ScramServerFinal]
        "The server could not prove that it knows the password"
        []
        ["the other end may be an impostor: check where this address leads"]
    ClientLeft "client_left" Client [Password Md5 SaslMechanism ScramClientFirst ScramServerFirst ScramClientFinal ScramServerFinal AuthRequest SessionSetup]
        "The client closed in the middle of the handshake without saying why"
        []
        ["look at the client's own error and log"]
    AuthTimeout "auth_timeout" Server [Password Md5 SaslMechanism ScramServerFirst ScramClientFinal ScramServerFinal AuthRequest Gss Oauth SessionSetup]
        "The login took longer than authentication_timeout"
        []
        ["find what made the client wait (a prompt, a debugger, a slow back-end)"]
    OauthFailed "oauth_failed" Client [Oauth]
        "The OAuth token was refused or none could be had"
        []
        ["get a token of the issuer and scope that the server names"]
    DatabaseMissing "database_missing" Server [SessionSetup]
        "The login worked; there is no such database"
        ["absent" "default_is_user_name" "cr_in_name" "percent_in_name" "case_differs"]
        ["create the database, or correct its name in the connection string"]
    DatabaseNotAccepting "database_not_accepting" Server [SessionSetup]
        "The database accepts no connections"
        []
        ["connect to another database: template0 and closed ones take no connections"]
    ConnectPrivilegeMissing "connect_privilege_missing" Server [SessionSetup]
        "The role may not connect to this database"
        []
        ["GRANT CONNECT ON DATABASE … TO …"]
    RoleCannotLogin "role_cannot_login" Server [SessionSetup]
        "The role exists and the password was right, but it has no LOGIN right"
        []
        ["ALTER ROLE … LOGIN"]
    ReplicationDenied "replication_denied" Server [SessionSetup]
        "The role may not open a replication connection"
        []
        ["ALTER ROLE … REPLICATION"]
    StartupParameterRefused "startup_parameter_refused" Client [SessionSetup AuthRequest]
        "A parameter in the connection string became a server setting that the server refuses"
        ["unknown" "invalid_value" "not_permitted" "bad_options" "pooler_unsupported" "needs_restart"]
        ["remove the parameter from the connection string, or correct its value"]
    TargetSessionMismatch "target_session_mismatch" Client [Ready]
        "The login worked and the client left: it wanted a primary (or a standby)"
        []
        ["name the host of the primary, or change target_session_attrs"]
    MiddleRefused "middle_refused" Server [AuthRequest ScramClientFinal Md5 Password SessionSetup]
        "A pooler or gateway between here and the server refused, for a reason of its own"
        ["no_such_user" "no_such_database" "server_login_failed" "limit" "blocked" "allow_list" "credentials_lookup" "shutting_down" "suspended"]
        ["look at the pooler's or gateway's own configuration and log"]
    ServerError "server_error" Server [AuthRequest SessionSetup Startup]
        "The server refused with an error that is none of the above"
        []
        ["read what the server said; its log may say more"]
    PoolExhausted "pool_exhausted" Proxy [Pool]
        "No server connection came free in time"
        []
        ["raise the pool's size, or find who holds the connections"]
    PoolCredentials "pool_credentials" Proxy [Pool]
        "Our own login to the server failed or can't be made; the server's cause is given whole"
        []
        ["give pgwhy the credentials for this user"]
    ProxyLimit "proxy_limit" Proxy [Connect Startup Pool]
        "One of our own limits refused the connection"
        []
        ["raise the limit (see `pgwhy proxy --help`)"]
    ServerLeft "server_left" Server [SslRequest Password Md5 SaslMechanism ScramClientFirst ScramServerFirst ScramClientFinal ScramServerFinal Gss Oauth SessionSetup]
        "The server ended the connection in the middle of the handshake without an error"
        []
        ["read the server's log at this moment: a crash, a restart, or a device in between"]
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
            TOML.lines()
                .filter_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"'))
                .map(String::from)
                .collect()
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
