//! TLS of the administrator's connection, as libpq's `sslmode` and its fellows mean it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::config::ChannelBinding;

use super::{AdminProblem, NotUsable};
use crate::app::tls::read_pem;
use crate::certs;
use crate::conninfo::{Conninfo, SslMode};
use crate::diagnose::opened::untrusted_server;
use crate::handshake::opened::{FaultKind, OpenedTls, TlsFault};
use crate::net::{Identity, OwnTls, Roots};
use crate::secret::Secret;
use crate::wire::frontend::Untagged;
use crate::wire::tls::Alert;

/// How the server is met.
#[derive(Debug)]
pub(super) struct Encryption {
    pub(super) mode: SslMode,
    /// Without SSLRequest (`sslnegotiation=direct`).
    direct: bool,
    pub(super) binding: ChannelBinding,
    tls: Option<OwnTls>,
}

/// The bytes of a connection, in clear or not.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A way to the server on which TLS was wanted.
pub(super) enum Opened {
    /// Encrypted, with the hash of the server's certificate that SCRAM binds to.
    Tls(Box<dyn Socket>, Option<Vec<u8>>),
    /// The server declined.
    Declined(TcpStream),
}

impl Encryption {
    /// Reads what the connection string and the environment say, and the files that they name.
    pub(super) fn of(
        conninfo: &Conninfo,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, NotUsable> {
        let word = |key: &str, variable: &str| {
            let given = conninfo.params.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.clone());
            given.or_else(|| environment(variable)).filter(|value| !value.is_empty())
        };
        let root = word("sslrootcert", "PGSSLROOTCERT");
        let system = root.as_deref() == Some("system");
        let mode = conninfo.sslmode.unwrap_or(if system { SslMode::VerifyFull } else { SslMode::Prefer });
        let direct = match word("sslnegotiation", "PGSSLNEGOTIATION").as_deref() {
            None | Some("postgres") => false,
            Some("direct") => true,
            Some(_) => return Err(unusable("sslnegotiation is postgres or direct")),
        };
        let binding = match word("channel_binding", "PGCHANNELBINDING").as_deref() {
            None | Some("prefer") => ChannelBinding::Prefer,
            Some("require") => ChannelBinding::Require,
            Some("disable") => ChannelBinding::Disable,
            Some(_) => return Err(unusable("channel_binding is disable, prefer or require")),
        };
        if word("gssencmode", "PGGSSENCMODE").as_deref() == Some("require") {
            return Err(unusable("--admin has no GSSAPI encryption: leave gssencmode=require out"));
        }
        // As connectOptions2 (fe-connect.c) has it: both would be in vain where plaintext may follow.
        for (wanted, name, least) in [
            (direct, "sslnegotiation=direct", SslMode::Require),
            (system, "sslrootcert=system", SslMode::VerifyFull),
        ] {
            if wanted && mode < least {
                let (mode, least) = (mode.as_str(), least.as_str());
                return Err(NotUsable(format!("{name} needs sslmode={least}, and here it is {mode}")));
            }
        }
        let tls = if mode == SslMode::Disable {
            None
        } else {
            let files = Files { word: &word, home: environment("HOME").map(PathBuf::from) };
            let roots = files.roots(root, mode)?;
            let tls = OwnTls::new(roots.map(Arc::new), files.identity()?, mode == SslMode::VerifyFull);
            Some(tls.map_err(|error| NotUsable(error.to_string()))?)
        };
        Ok(Self { mode, direct, binding, tls })
    }

    /// Asks for TLS on a fresh connection.
    pub(super) async fn open(&self, mut socket: TcpStream, host: &str) -> Result<Opened, AdminProblem> {
        let Some(tls) = &self.tls else { return Ok(Opened::Declined(socket)) };
        if !self.direct {
            let broke = |error: std::io::Error| AdminProblem::Broken(format!("asked for TLS: {error}"));
            let mut request = Vec::new();
            Untagged::SslRequest.encode(&mut request);
            socket.write_all(&request).await.map_err(broke)?;
            let mut answer = [0];
            socket.read_exact(&mut answer).await.map_err(broke)?;
            match answer[0] {
                b'S' => {}
                b'N' if self.mode < SslMode::Require => return Ok(Opened::Declined(socket)),
                b'N' => {
                    let mode = self.mode.as_str();
                    return Err(AdminProblem::Tls(format!("the server has none, and sslmode is {mode}")));
                }
                other => {
                    let shown = char::from(other).escape_default();
                    let what =
                        format!("it answered the request for TLS with '{shown}', which PostgreSQL does not");
                    return Err(AdminProblem::Broken(what));
                }
            }
        }
        match tls.connect(socket, host).await {
            Ok((stream, seen)) => {
                let hash = seen.chain.first().and_then(|leaf| certs::end_point_hash(leaf));
                Ok(Opened::Tls(Box::new(stream), hash))
            }
            Err(refused) => Err(AdminProblem::Tls(words(&refused.0, &refused.1))),
        }
    }
}

fn unusable(text: &str) -> NotUsable {
    NotUsable(text.to_owned())
}

/// Why there is no TLS.
fn words(fault: &TlsFault, seen: &OpenedTls) -> String {
    match &fault.kind {
        FaultKind::Certificate(kind) => {
            let finding = untrusted_server(Some(seen), fault, *kind);
            let evidence: Vec<&str> = finding.evidence.iter().map(String::as_str).collect();
            format!("its certificate is not accepted: {}", evidence.join("; "))
        }
        FaultKind::Alert(code) => {
            let name = Alert { level: 2, description: *code }.name();
            let wants = if *code == 116 { "; it wants a certificate: sslcert and sslkey" } else { "" };
            format!("the server sent alert {code} ({name}){wants}")
        }
        FaultKind::Version => "the server has neither TLS 1.2 nor 1.3".into(),
        FaultKind::Cipher => "the server takes none of the cipher suites and groups that pgwhy has".into(),
        FaultKind::Alpn => "the server does not answer as postgresql (ALPN)".into(),
        FaultKind::Closed => "the server closed in the TLS handshake".into(),
        FaultKind::Other(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// What the files beside a connection string say (`initialize_SSL`, fe-secure-openssl.c).
struct Files<'a> {
    word: &'a dyn Fn(&str, &str) -> Option<String>,
    home: Option<PathBuf>,
}

impl Files<'_> {
    /// A file in libpq's own directory, if it is there.
    fn usual(&self, name: &str) -> Option<PathBuf> {
        let path = self.home.as_ref()?.join(".postgresql").join(name);
        path.exists().then_some(path)
    }

    fn roots(&self, given: Option<String>, mode: SslMode) -> Result<Option<Roots>, NotUsable> {
        let list = (self.word)("sslcrl", "PGSSLCRL").map(PathBuf::from).or_else(|| self.usual("root.crl"));
        let revoked = list.map(|file| read("sslcrl", &file)).transpose()?;
        let revoked = revoked.as_deref();
        if given.as_deref() == Some("system") {
            let found = Roots::system(revoked);
            return found.map(Some).map_err(|error| NotUsable(format!("sslrootcert=system: {error}")));
        }
        let named = given.map(PathBuf::from);
        match named.or_else(|| self.usual("root.crt")) {
            Some(file) => {
                let bad = |error: &dyn std::fmt::Display| {
                    NotUsable(format!("sslrootcert {}: {error}", file.display()))
                };
                Roots::from_pem(&read("sslrootcert", &file)?, revoked).map(Some).map_err(|error| bad(&error))
            }
            None if mode >= SslMode::VerifyCa => Err(NotUsable(format!(
                "sslmode={} needs sslrootcert=FILE (who signs the server's certificate) or sslrootcert=system; \
                 there is no ~/.postgresql/root.crt either",
                mode.as_str()
            ))),
            None => Ok(None),
        }
    }

    fn identity(&self) -> Result<Option<Identity>, NotUsable> {
        if (self.word)("sslcertmode", "PGSSLCERTMODE").as_deref() == Some("disable") {
            return Ok(None);
        }
        let file = |key: &str, variable: &str, usual: &str| {
            (self.word)(key, variable).map(PathBuf::from).or_else(|| self.usual(usual))
        };
        let Some(cert) = file("sslcert", "PGSSLCERT", "postgresql.crt") else { return Ok(None) };
        let Some(key) = file("sslkey", "PGSSLKEY", "postgresql.key") else {
            return Err(NotUsable(format!("sslcert {}: there is no sslkey for it", cert.display())));
        };
        let secret = Secret::new(read("sslkey", &key)?);
        let identity = Identity::from_pem(&read("sslcert", &cert)?, &secret);
        identity.map(Some).map_err(|error| {
            NotUsable(format!("sslcert {}, sslkey {}: {error}", cert.display(), key.display()))
        })
    }
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, NotUsable> {
    read_pem(option, file).map_err(NotUsable)
}
