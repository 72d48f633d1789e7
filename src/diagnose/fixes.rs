//! The shortest fix of every cause, as reports show it; the whole story is on the cause's page.

use super::Cause;

/// What to change, the most frequent first.
pub(super) fn of(cause: Cause) -> Vec<String> {
    lines(cause).iter().map(|line| String::from(*line)).collect()
}

fn lines(cause: Cause) -> &'static [&'static str] {
    use Cause as C;
    match cause {
        C::NeverArrived => &["print the connection string that the process really has; it points elsewhere"],
        C::UrlInvalid => &["percent-encode the special characters of the password in the URL"],
        C::DnsNotFound => &[
            "correct the host name; inside a container network use the service's name, outside it localhost",
        ],
        C::AddressFamilyUnreachable => {
            &["use a host name with an IPv4 address (a pooler's, for Supabase), or give this machine IPv6"]
        }
        C::ConnectionRefused => &[
            "check host and port; in a container `localhost` is the container itself",
            "on the server: listen_addresses and port, then restart",
        ],
        C::ConnectTimeout => {
            &["open the firewall or security group for this machine's address and the database port"]
        }
        C::UnixSocketMissing => {
            &["name the host (-h 127.0.0.1), or the directory in unix_socket_directories"]
        }
        C::NotPostgres => &["correct host or port: this one belongs to another service"],
        C::WrongServer => {
            &["another PostgreSQL owns this address: stop it, or publish the right one on another port"]
        }
        C::ClosedWithoutAnswer => {
            &["look behind the load balancer or port forwarding: it accepts, and no healthy backend is there"]
        }
        C::NoAnswer => {
            &["look for a firewall or proxy that swallows the request; try from the server's own machine"]
        }
        C::NotAClient => {
            &["nothing to fix: a health check or scanner; it is counted apart from failed logins"]
        }
        C::StartupMalformed => {
            &["shorten the `options` of the connection string, or mend the program that sends this"]
        }
        C::StartupTimeout => &["look at the program that opened the connection and sent nothing"],
        C::ProtocolVersionUnsupported => {
            &["remove min_protocol_version from the connection string, or upgrade the server or the pooler"]
        }
        C::UserMissingInStartup => {
            &["put the user into the connection string: postgresql://USER@host/database"]
        }
        C::GssRequestUnhandled => &["add gssencmode=disable to the connection string (PGGSSENCMODE=disable)"],
        C::GssFailed => &["check ticket, realm, keytab and clock: klist; the server's log has the principal"],
        C::ServerHasNoTls => {
            &["turn TLS on at the server (ssl = on), or allow plaintext: sslmode=prefer or disable"]
        }
        C::SslRequestError => &["read the error: the server could not start a backend, or is no PostgreSQL"],
        C::PlaintextInjected => {
            &["find what writes into the connection before TLS begins; until then treat it as an attack"]
        }
        C::TlsAbandonedByClient => &[
            "give the client its CA file (sslrootcert=…, or sslrootcert=system), or a driver built with TLS",
        ],
        C::DirectTlsUnsupported => {
            &["remove sslnegotiation=direct from the connection string: servers before 17 do not know it"]
        }
        C::AlpnMissing => {
            &["let whatever terminates TLS speak ALPN `postgresql`, or drop sslnegotiation=direct"]
        }
        C::TlsVersionMismatch => {
            &["upgrade the client's TLS library, or lower ssl_min_protocol_version at the server"]
        }
        C::TlsCipherMismatch => &["align ssl_ciphers and key sizes: RSA 2048 or more, or ECDSA"],
        C::TlsCut => &["look for a device that cuts TLS between here and the server; see the server's log"],
        C::ServerCertUntrusted => &[
            "give the client the CA that signed the server's certificate (sslrootcert=…), and the name in it",
        ],
        C::ClientCertMissing => &["give the client its certificate and key: sslcert=… sslkey=…"],
        C::ClientCertRejected => {
            &["use a certificate of the server's CA, valid today, with the role's name as CN"]
        }
        C::SniRequired => {
            &["use a driver that sends the server name, or name the endpoint: options=endpoint%3DNAME"]
        }
        C::HbaNoEntry => {
            &["add a line for this host, user and database to pg_hba.conf, then SELECT pg_reload_conf()"]
        }
        C::HbaRequiresTls => &["add sslmode=require to the connection string (in node-postgres: ssl)"],
        C::HbaForbidsTls => &["add sslmode=disable to the connection string, or turn hostnossl into host"],
        C::HbaReject => {
            &["a reject line matches this connection: change it, or put an allowing line before it"]
        }
        C::HbaNotReloaded => &["SELECT pg_reload_conf(); then look at pg_hba_file_rules for errors"],
        C::RetryMasksFailure => &["mend what the first attempt failed of"],
        C::IdentFailed => &[
            "change ident or peer in the matching pg_hba.conf line to scram-sha-256, then SELECT pg_reload_conf()",
        ],
        C::TooManyConnections => {
            &["close idle connections or put a pooler in between; raise max_connections last"]
        }
        C::ServerNotAccepting => &["wait and retry; if it stays, read the server's log"],
        C::AuthMethodUnsupportedByClient => &["upgrade the driver"],
        C::MethodRejectedByClient => &[
            "remove require_auth or channel_binding=require from the connection string, or mend pg_hba.conf",
        ],
        C::VerifierMethodConflict => {
            &["set the password again while password_encryption = 'scram-sha-256': \\password ROLE in psql"]
        }
        C::PasswordMissing => {
            &["give the client its password: in the connection string, PGPASSWORD or .pgpass (mode 0600)"]
        }
        C::PasswordEmpty => &["the password is empty: is the variable set where the program runs?"],
        C::PasswordMismatch => &["compare what the program reads with what it should read"],
        C::PasswordDiffersOnServer => {
            &["set it at the server (ALTER ROLE … PASSWORD), or find the password that is in force there"]
        }
        C::PasswordRejected => &[
            "give pgwhy the password that should work (--upstream with password, or --password-file) to learn more",
        ],
        C::RoleMissing => &["create the role, or correct the user's name (case and blanks count)"],
        C::RoleWithoutPassword => &["ALTER ROLE … PASSWORD '…'"],
        C::PasswordExpired => &["ALTER ROLE … VALID UNTIL 'infinity', or set a new date"],
        C::ExternalAuthFailed => {
            &["the directory behind the server refused: its answer is in the server's log"]
        }
        C::CloudTokenInvalid => &["get a new token for every connection, for this host and this user"],
        C::UserNameFormat => &["write the user's name as the service wants it: user.tenant, or user@server"],
        C::SaslResponseInvalid => &["upgrade the driver or pooler that sent this message"],
        C::ScramNonceMismatch => {
            &["something between client and server rewrites SCRAM messages: take it out"]
        }
        C::ScramIterationsRefused => &[
            "raise the driver's limit (scramMaxIterations), or set the password again with fewer scram_iterations",
        ],
        C::ChannelBindingDowngrade => &[
            "whatever terminates TLS in between must not take SCRAM-SHA-256-PLUS away; or channel_binding=disable",
        ],
        C::ChannelBindingMismatch => &[
            "pass TLS through unopened, or give what opens it the server's own certificate; or channel_binding=disable",
        ],
        C::PlusOverPlaintext => {
            &["let the client speak TLS too, or take PLUS out of the offer where TLS ends"]
        }
        C::ServerSignatureInvalid => &["the other end may be an impostor: check where this address leads"],
        C::ClientLeft => &["look at the client's own error and log"],
        C::AuthTimeout => &["find what made the client wait (a prompt, a debugger, a slow back-end)"],
        C::OauthFailed => &["get a token of the issuer and scope that the server names"],
        C::DatabaseMissing => &["create the database, or correct its name in the connection string"],
        C::DatabaseNotAccepting => {
            &["connect to another database: template0 and closed ones take no connections"]
        }
        C::ConnectPrivilegeMissing => &["GRANT CONNECT ON DATABASE … TO …"],
        C::RoleCannotLogin => &["ALTER ROLE … LOGIN"],
        C::ReplicationDenied => &["ALTER ROLE … REPLICATION"],
        C::StartupParameterRefused => {
            &["remove the parameter from the connection string, or correct its value"]
        }
        C::TargetSessionMismatch => &["name the host of the primary, or change target_session_attrs"],
        C::MiddleRefused => &["look at the pooler's or gateway's own configuration and log"],
        C::ServerError => &["read what the server said; its log may say more"],
        C::PoolExhausted => &["raise the pool's size, or find who holds the connections"],
        C::PoolCredentials => &["give pgwhy the credentials for this user"],
        C::ProxyLimit => &["raise the limit (see `pgwhy proxy --help`)"],
        C::ServerLeft => {
            &["read the server's log at this moment: a crash, a restart, or a device in between"]
        }
    }
}

/// What to change for a variant of `password_mismatch`.
pub(super) fn of_password(variant: &str) -> Option<&'static str> {
    Some(match variant {
        "quotes_kept" => {
            "remove the quotes from the value: `docker --env-file` and systemd pass them on as part of it"
        }
        "trailing_newline" => "write the secret without a line end: printf %s instead of echo",
        "trailing_cr" => "save the file with Unix line ends (dos2unix .env)",
        "trailing_space" | "leading_space" => "remove the blank around the value",
        "bom" => "save the file without a byte order mark",
        "percent_encoded_kept" => {
            "percent-encode only inside a URL; in a plain variable or field write the password itself"
        }
        "percent_decoded_twice" | "percent_decoded_once_too_often" => {
            "the password itself holds a %: encode it as %25 in the URL, and decode only once"
        }
        "plus_as_space" | "space_as_plus" => "write + as %2B and a blank as %20 in the URL",
        "cut_at_hash" => "quote the value in .env, or write # as %23 in the URL",
        "cut_at_at" => "write @ as %40 in the URL",
        "cut_at_slash" => "write / as %2F in the URL",
        "cut_at_question" => "write ? as %3F in the URL",
        "cut_at_ampersand" => "write & as %26 in the URL, and quote it in a shell",
        "cut_at_colon" => "write : as %3A in the URL",
        "cut_at_space" => "quote the value, or write the blank as %20 in the URL",
        "cut_at_dollar" | "dollar_expanded" | "dollar_doubled" => {
            "escape the $: $$ in docker compose, \\$ in .env with expansion, single quotes in a shell"
        }
        "cut_at_percent" => "write % as %25 in the URL",
        "backslash_kept" | "backslash_removed" | "newline_escape_kept" => {
            "write the value without escapes, or in the quotes that this file format takes literally"
        }
        "case_changed" | "caps_lock" => "write it as it was set: passwords are case-sensitive",
        "unicode_form" | "not_saslprepped" => {
            "use ASCII characters in the password, or a driver that prepares it (SASLprep) like the server"
        }
        "latin1" => "store and send the password as UTF-8",
        "truncated" => "something cuts the value: a field's width, or a character that ends it",
        "literal_undefined" | "literal_null" => {
            "the variable was not set when the value was built: load .env before it is read"
        }
        "variable_unexpanded" => "the variable's name was sent instead of its value: nothing expands it here",
        "user_name" => "the client sent the user's name as password: check the order of its arguments",
        "other_variable" => "the client reads another variable of the same file",
        "previous_password" => {
            "the client still has a password that worked before: restart it with the new one"
        }
        "hashed_value" => "give the client the password itself, not its stored hash",
        _ => return None,
    })
}
