//! TLS options: from files and words to what the proxy needs, and new certificates while it runs.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use crate::certs::Certificate;
use crate::net::{self, Identity, Login, ProxyHandle, Roots, RootsError, TlsConfig};
use crate::secret::Secret;

use super::ca;
use super::config::Target;
use super::{Failure, stderr};

/// TLS of `pgwhy proxy`.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// How clients that ask for TLS are met
    #[arg(long, value_enum, default_value_t = ClientTls::Auto, value_name = "MODE")]
    pub client_tls: ClientTls,

    /// How the server is met; the six words are libpq's sslmode
    #[arg(long, value_enum, default_value_t = ServerTls::Mirror, value_name = "MODE")]
    pub server_tls: ServerTls,

    /// The certificate that clients are shown, with its intermediates (PEM) [default: one is made for this run]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key (PEM, not encrypted)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Who signs the clients' certificates, for --client-tls verify-ca and verify-full (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Who signs the server's certificate: a PEM file, or `system` for this machine's trusted ones
    #[arg(long, value_name = "FILE")]
    pub server_ca: Option<PathBuf>,

    /// Certificates that the server's authorities have revoked (PEM)
    #[arg(long, value_name = "FILE", requires = "server_ca")]
    pub server_crl: Option<PathBuf>,

    /// The certificate that the server is shown where it asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub server_cert: Option<PathBuf>,

    /// Its private key (PEM, not encrypted)
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub server_key: Option<PathBuf>,

    /// Append the secrets of all TLS sessions that are opened here to this file (SSLKEYLOGFILE): whoever has it
    /// can read the traffic
    #[arg(long, value_name = "FILE")]
    pub tls_keylog: Option<PathBuf>,
}

/// `--client-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientTls {
    /// Opened where that can't break a login (the server's own key, or the password, is known), else passed through
    Auto,
    /// Opened always: everything is seen; channel binding may break
    Open,
    /// Never opened: only the outside of an encrypted login is seen
    Passthrough,
    /// Answer N: clients that allow plaintext are seen whole
    Disable,
    /// TLS ends here for clients that ask for it
    Allow,
    /// The same
    Prefer,
    /// TLS ends here, and clients without it are turned away
    Require,
    /// As require, and clients show a certificate that --tls-client-ca signed
    VerifyCa,
    /// As verify-ca, and its common name (or whole distinguished name) is the user's name
    VerifyFull,
}

/// `--server-tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServerTls {
    /// TLS if and only if the client asked for it
    Mirror,
    /// Never
    Disable,
    /// Only if the server refuses plaintext
    Allow,
    /// If the server has it
    Prefer,
    /// Always, with any certificate (of --server-ca, if that is given)
    Require,
    /// Always, with a certificate that --server-ca signed
    VerifyCa,
    /// As verify-ca, and for this host
    VerifyFull,
}

impl ClientTls {
    fn mode(self) -> net::ClientTls {
        match self {
            Self::Auto => net::ClientTls::Auto,
            Self::Open => net::ClientTls::Open,
            Self::Passthrough => net::ClientTls::Passthrough,
            Self::Disable => net::ClientTls::Disable,
            Self::Allow | Self::Prefer => net::ClientTls::Allow,
            Self::Require => net::ClientTls::Require,
            Self::VerifyCa => net::ClientTls::VerifyCa,
            Self::VerifyFull => net::ClientTls::VerifyFull,
        }
    }
}

impl ServerTls {
    fn mode(self) -> net::ServerTls {
        match self {
            Self::Mirror => net::ServerTls::Mirror,
            Self::Disable => net::ServerTls::Disable,
            Self::Allow => net::ServerTls::Allow,
            Self::Prefer => net::ServerTls::Prefer,
            Self::Require => net::ServerTls::Require,
            Self::VerifyCa => net::ServerTls::VerifyCa,
            Self::VerifyFull => net::ServerTls::VerifyFull,
        }
    }
}

/// Reads what the options name.
pub(super) fn config(args: &TlsArgs, target: &Target, listen: &[String]) -> Result<TlsConfig, Failure> {
    let hints = target.tls_hints();
    let client = args.client_tls.mode();
    let server = args.server_tls.mode();
    let login = target.expected.as_ref().map(|expected| Login {
        user: expected.user.clone(),
        database: target.database(),
        password: expected.password.clone(),
    });
    let named = login.as_ref().is_some_and(|login| login.user.is_some());
    let auto_opens = client == net::ClientTls::Auto && named && !hints.clients_verify;
    let client_roots = client_roots(args, client)?;
    let server_roots = server_roots(args, server)?.map(Arc::new);
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(read_identity(("--tls-cert", cert), ("--tls-key", key))?),
        _ if auto_opens
            || !matches!(
                client,
                net::ClientTls::Auto | net::ClientTls::Passthrough | net::ClientTls::Disable
            ) =>
        {
            Some(made(target, listen, auto_opens)?)
        }
        _ => None,
    };
    if identity.as_ref().is_some_and(|identity| !identity.is_given()) && login.is_none() {
        stderr::say(
            "clients that bind to the channel (libpq's default) will be refused under TLS, and with sslmode=prefer go on in clear: give the password, or the server's own --tls-cert and --tls-key; or use --client-tls auto",
        );
    }
    if identity.is_none() && client != net::ClientTls::Disable && server != net::ServerTls::Mirror {
        stderr::say(
            "--server-tls is for clients in clear: TLS of clients passes through unopened, as --client-tls says (or has nothing to open it with)",
        );
    }
    if args.server_cert.is_some() && client != net::ClientTls::VerifyFull {
        stderr::say(
            "whoever reaches pgwhy logs in as the roles that --server-cert stands for, where the server asks for no more than that: --client-tls verify-full lets in only who has a certificate of their own",
        );
    }
    let server_identity = match (&args.server_cert, &args.server_key) {
        (Some(cert), Some(key)) => Some(read_identity(("--server-cert", cert), ("--server-key", key))?),
        _ => None,
    };
    let keylog = match &args.tls_keylog {
        Some(file) => Some(keylog(file)?),
        None => None,
    };
    Ok(TlsConfig {
        client,
        server,
        identity,
        client_roots,
        server_roots,
        server_identity,
        direct: hints.direct,
        clients_verify: hints.clients_verify,
        login,
        keylog,
    })
}

fn client_roots(args: &TlsArgs, mode: net::ClientTls) -> Result<Option<Arc<Roots>>, Failure> {
    match &args.tls_client_ca {
        Some(file) => Ok(Some(Arc::new(roots("--tls-client-ca", file, None)?))),
        None if matches!(mode, net::ClientTls::VerifyCa | net::ClientTls::VerifyFull) => Err(Failure::usage(
            "--client-tls verify-ca and verify-full need --tls-client-ca FILE: who signs the clients' certificates",
        )),
        None => Ok(None),
    }
}

fn server_roots(args: &TlsArgs, mode: net::ServerTls) -> Result<Option<Roots>, Failure> {
    let crl = args.server_crl.as_deref();
    if let Some(file) = &args.server_ca {
        if file.as_os_str() != "system" {
            return roots("--server-ca", file, crl).map(Some);
        }
        if matches!(mode, net::ServerTls::VerifyFull | net::ServerTls::Mirror) {
            let revoked = crl.map(|file| read("--server-crl", file)).transpose()?;
            let found = Roots::system(revoked.as_deref());
            return found.map(Some).map_err(|error| bad_roots("--server-ca", file, crl, &error));
        }
        // libpq's own rule (fe-connect.c, connectOptions2): public authorities sign for anybody, so
        // that the chain alone proves nothing.
        return Err(Failure::usage(
            "--server-ca system needs --server-tls verify-full: without the host's name a public authority's signature proves nothing",
        ));
    }
    if !matches!(mode, net::ServerTls::VerifyCa | net::ServerTls::VerifyFull) {
        return Ok(None);
    }
    let usual = std::env::var_os("HOME").map(|home| Path::new(&home).join(".postgresql/root.crt"));
    match usual.filter(|file| file.exists()) {
        Some(file) => roots("~/.postgresql/root.crt", &file, crl).map(Some),
        None => Err(Failure::usage(
            "--server-tls verify-ca and verify-full need --server-ca FILE (who signs the server's certificate), or `system` with verify-full; there is no ~/.postgresql/root.crt either",
        )),
    }
}

fn roots(option: &str, file: &Path, crl: Option<&Path>) -> Result<Roots, Failure> {
    let pem = read(option, file)?;
    let revoked = crl.map(|file| read("--server-crl", file)).transpose()?;
    Roots::from_pem(&pem, revoked.as_deref()).map_err(|error| bad_roots(option, file, crl, &error))
}

/// Names the one of the two files that is at fault.
fn bad_roots(option: &str, file: &Path, crl: Option<&Path>, error: &RootsError) -> Failure {
    let (option, file) = match (error, crl) {
        (RootsError::Revocations(_) | RootsError::NoRevocations, Some(crl)) => ("--server-crl", crl),
        _ => (option, file),
    };
    Failure::usage(format!("{option} {}: {error}", file.display()))
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    read_pem(option, file).map_err(Failure::usage)
}

/// Files of keys and certificates are small: whatever is larger is something else. An error names option and file.
pub(super) fn read_pem(option: &str, file: &Path) -> Result<Vec<u8>, String> {
    let bad = |what: String| format!("{option} {}: {what}", file.display());
    let length = std::fs::metadata(file).map_err(|error| bad(error.to_string()))?.len();
    if length > MAX_FILE {
        return Err(bad(format!("it has {length} bytes, and is no certificate or key")));
    }
    std::fs::read(file).map_err(|error| bad(error.to_string()))
}

fn read_identity(cert: (&str, &Path), key: (&str, &Path)) -> Result<Identity, Failure> {
    let chain = read(cert.0, cert.1)?;
    let secret = Secret::new(read(key.0, key.1)?);
    let identity = Identity::from_pem(&chain, &secret).map_err(|error| {
        Failure::usage(format!("{} {}, {} {}: {error}", cert.0, cert.1.display(), key.0, key.1.display()))
    })?;
    if std::fs::metadata(key.1).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        tracing::warn!(file = %key.1.display(), "the private key can be read by others: chmod 600");
    }
    if let Some(complaint) = complaint(&identity) {
        stderr::say(format_args!("{} {}: {complaint}", cert.0, cert.1.display()));
    }
    Ok(identity)
}

/// What is wrong with a certificate that can be used all the same.
fn complaint(identity: &Identity) -> Option<String> {
    let leaf = Certificate::parse(identity.leaf()).ok()?;
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    if now > leaf.not_after {
        return Some("the certificate has expired; clients that verify it will refuse it".into());
    }
    (now < leaf.not_before)
        .then(|| "the certificate is not valid yet; clients that verify it will refuse it".into())
}

/// A certificate for this run, signed by the local authority where `pgwhy ca` has made one.
fn made(target: &Target, listen: &[String], quiet: bool) -> Result<Identity, Failure> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let listening = listen.iter().filter_map(|addr| addr.rsplit_once(':')).map(|(host, _)| host);
    let hosts = target.upstream.hosts.iter().map(|host| host.name.as_str());
    for name in listening.chain(hosts) {
        let name = name.trim_matches(['[', ']']).to_owned();
        if !name.is_empty() && !name.starts_with('/') && !names.contains(&name) {
            names.push(name);
        }
    }
    let authority = ca::load()?;
    let signer = authority.as_ref().map(|authority| (authority.certificate.as_str(), &authority.key));
    let identity = Identity::make(&names, signer).map_err(|error| {
        Failure::failed(format!("no certificate for clients: {error}; give --tls-cert and --tls-key"))
    })?;
    if !quiet {
        let print = Certificate::parse(identity.leaf()).map(|leaf| leaf.fingerprint()).unwrap_or_default();
        let by = if authority.is_some() {
            "signed by your pgwhy ca"
        } else {
            "signed by nobody; pgwhy ca makes an authority"
        };
        stderr::say(format_args!(
            "clients are shown a certificate made for this run ({by}), SHA-256 {print}"
        ));
    }
    Ok(identity)
}

/// Shows clients new certificates as their files change.
pub(super) struct Renewal {
    files: Option<(PathBuf, PathBuf)>,
    stamp: Stamp,
}

type Stamp = [Option<(SystemTime, u64)>; 2];

impl Renewal {
    pub(super) fn of(args: &TlsArgs) -> Self {
        let files = args.tls_cert.clone().zip(args.tls_key.clone());
        let stamp = files.as_ref().map(stamp).unwrap_or_default();
        Self { files, stamp }
    }

    /// Whether there are files that may change.
    pub(super) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    /// How often the files are looked at.
    pub(super) const PAUSE: Duration = Duration::from_secs(2);

    /// Looks at the files; `told` reads them whatever they look like. What can't be used is named, and the old
    /// certificate stays.
    pub(super) fn look(&mut self, handle: &ProxyHandle, told: bool) {
        let Some(files) = &self.files else { return };
        let now = stamp(files);
        if !told && (now == self.stamp || now.iter().any(Option::is_none)) {
            return;
        }
        self.stamp = now;
        let renewed = read_identity(("--tls-cert", &files.0), ("--tls-key", &files.1))
            .and_then(|identity| handle.show_certificate(&identity).map_err(Failure::usage));
        match renewed {
            Ok(()) => {
                stderr::say(format_args!("clients are shown the new certificate of {}", files.0.display()))
            }
            Err(failure) => stderr::say(format_args!("the old certificate stays: {}", failure.text)),
        }
    }
}

fn stamp(files: &(PathBuf, PathBuf)) -> Stamp {
    let of = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    [of(&files.0), of(&files.1)]
}

fn keylog(file: &Path) -> Result<Arc<dyn rustls::KeyLog>, Failure> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    let opened =
        opened.map_err(|error| Failure::usage(format!("--tls-keylog {}: {error}", file.display())))?;
    stderr::say(format_args!(
        "the secrets of TLS sessions go to {}: whoever has that file can read the traffic, passwords in it too",
        file.display()
    ));
    let (log, lines) = sync_channel::<String>(SECRETS);
    let write = move || {
        let mut opened = opened;
        for line in lines {
            // A full disk costs the secrets of this session and nothing else.
            let _ = opened.write_all(line.as_bytes());
        }
    };
    let started = std::thread::Builder::new().name("tls-keylog".into()).spawn(write);
    started.map_err(|error| Failure::usage(format!("--tls-keylog: {error}")))?;
    Ok(Arc::new(KeyLogFile(log)))
}

/// Secrets in the format of SSLKEYLOGFILE, a whole line a write. No handshake waits for the file.
#[derive(Debug)]
struct KeyLogFile(SyncSender<String>);

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Where the file stalls, later sessions stay closed.
        let _ = self.0.try_send(format!("{label} {} {}\n", hex(client_random), hex(secret)));
    }
}

/// Secrets that may wait for the file: of some 200 sessions.
const SECRETS: usize = 1_024;

/// Certificates and keys are a few kilobytes, bundles of authorities some hundred.
const MAX_FILE: u64 = 4 * 1024 * 1024;
