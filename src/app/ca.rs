//! `pgwhy ca`: a local authority that a person can trust once.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::certs::Certificate;
use crate::secret::Secret;

use super::{Failure, print, stderr};

/// Options of `pgwhy ca`.
#[derive(Debug, Args)]
#[command(after_help = "\
The proxy signs the certificates that it makes with this authority, where it is in its usual place. A \
client trusts it by its root certificate, for example:
  psql \"host=localhost port=7432 sslmode=verify-full sslrootcert=CA.CRT\"
  NODE_EXTRA_CA_CERTS=CA.CRT node app.js

The key stays in the same directory, readable by you alone. Who has it can make certificates that your \
clients believe: trust it where you debug, not everywhere.")]
pub struct CaArgs {
    /// Where the authority is kept [default: $XDG_DATA_HOME/pgwhy or ~/.local/share/pgwhy]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The authority's certificate and key, in PEM.
pub(super) struct Authority {
    pub(super) certificate: String,
    pub(super) key: Secret<String>,
}

/// Makes the authority, unless there is one, and says where it is.
pub(super) fn run(args: &CaArgs) -> Result<(), Failure> {
    let dir = match args.dir.clone().or_else(usual) {
        Some(dir) => dir,
        None => return Err(Failure::usage("there is no home directory: say where with --dir DIR")),
    };
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    if certificate.exists() && key.exists() {
        print(format!("{}\n", certificate.display()).as_bytes())?;
        stderr::say(format_args!(
            "the authority was there already; remove both files of {} for a new one",
            dir.display()
        ));
        return Ok(());
    }
    let failed = |what: &Path, error: io::Error| Failure::failed(format!("{}: {error}", what.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| failed(&dir, error))?;
    let made =
        make().map_err(|error| Failure::failed(format!("the authority could not be made: {error}")))?;
    write(&key, 0o600, made.key.expose()).map_err(|error| failed(&key, error))?;
    write(&certificate, 0o644, &made.certificate).map_err(|error| failed(&certificate, error))?;
    print(format!("{}\n", certificate.display()).as_bytes())?;
    stderr::say("made; clients that trust this certificate believe those that pgwhy proxy makes");
    Ok(())
}

/// The authority of the usual place, where there is one.
pub(super) fn load() -> Result<Option<Authority>, Failure> {
    let Some(dir) = usual() else { return Ok(None) };
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    if !certificate.exists() || !key.exists() {
        return Ok(None);
    }
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
    };
    Ok(Some(Authority { certificate: read(&certificate)?, key: Secret::new(read(&key)?) }))
}

fn usual() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let data = data.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".local/share")));
    data.map(|dir| dir.join("pgwhy"))
}

fn make() -> Result<Authority, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let owner = std::env::var("USER").unwrap_or_default();
    let name =
        if owner.is_empty() { "pgwhy local CA".to_owned() } else { format!("pgwhy local CA ({owner})") };
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    debug_assert!(Certificate::parse(certificate.der()).is_ok_and(|made| made.is_ca));
    Ok(Authority { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
}

fn write(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    opened.write_all(text.as_bytes())
}

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
