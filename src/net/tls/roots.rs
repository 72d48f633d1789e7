//! Certificates of authorities that are trusted.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;

use super::seen::{chain, provider};

/// Authorities, and what they have revoked.
#[derive(Debug)]
pub struct Roots {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    system: bool,
}

/// Why authorities can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// There is none.
    #[error("there is no certificate in it (\"BEGIN CERTIFICATE\")")]
    Empty,
    /// The system has none.
    #[error(
        "this system's trusted certificates were not found{0}; on Debian they are in the package ca-certificates"
    )]
    NoSystem(String),
    /// Broken PEM.
    #[error("it is not PEM as it should be: {0}")]
    Broken(String),
    /// None of the certificates can be used.
    #[error("none of its certificates can be used as an authority's")]
    Unusable,
    /// A list of revoked certificates can't be used.
    #[error("the list of revoked certificates can't be used: {0}")]
    Revocations(String),
    /// A file that should list revoked certificates holds none such.
    #[error("there is no list of revoked certificates in it (\"BEGIN X509 CRL\")")]
    NoRevocations,
}

impl Roots {
    /// Reads PEM texts: certificates, and lists of revoked ones.
    pub fn from_pem(certificates: &[u8], revoked: Option<&[u8]>) -> Result<Self, RootsError> {
        let certificates = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| RootsError::Broken(error.to_string()))?;
        Self::new(certificates, revoked, false)
    }

    /// The authorities that this system trusts.
    pub fn system(revoked: Option<&[u8]>) -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(RootsError::NoSystem(why));
        }
        Self::new(found.certs, revoked, true)
    }

    fn new(
        certificates: Vec<CertificateDer<'static>>,
        revoked: Option<&[u8]>,
        system: bool,
    ) -> Result<Self, RootsError> {
        if certificates.is_empty() {
            return Err(RootsError::Empty);
        }
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if added == 0 {
            return Err(RootsError::Unusable);
        }
        let revoked = match revoked {
            None => Vec::new(),
            Some(pem) => CertificateRevocationListDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| RootsError::Revocations(error.to_string()))
                .and_then(
                    |lists| if lists.is_empty() { Err(RootsError::NoRevocations) } else { Ok(lists) },
                )?,
        };
        let roots = Self { certificates, store: Arc::new(store), revoked, system };
        // Found out now, with the file's name at hand, rather than at the first login.
        roots.server_verifier().map_err(|error| RootsError::Revocations(error.to_string()))?;
        Ok(roots)
    }

    /// Whether they are the system's.
    pub fn are_systems(&self) -> bool {
        self.system
    }

    /// Whether they come with lists of what they revoked.
    pub(super) fn has_revocations(&self) -> bool {
        !self.revoked.is_empty()
    }

    /// The certificates in DER, where they came from a file: the system's are too many to show.
    pub(super) fn shown(&self) -> Vec<Vec<u8>> {
        if self.system { Vec::new() } else { chain(self.certificates.iter().take(64)) }
    }

    /// Whether this very certificate is among them: OpenSSL trusts it then, whoever signed it.
    pub(super) fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|root| root.as_ref() == certificate.as_ref())
    }

    pub(super) fn server_verifier(
        &self,
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
        let provider = Arc::new(provider());
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.store), provider);
        if !self.revoked.is_empty() {
            // libpq's X509_V_FLAG_CRL_CHECK_ALL wants a list for every authority; OpenSSL and we differ
            // where one is missing, so what is not known is let through.
            builder = builder.with_crls(self.revoked.iter().cloned()).allow_unknown_revocation_status();
        }
        builder.build()
    }

    pub(super) fn client_verifier(
        &self,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, rustls::client::VerifierBuilderError>
    {
        let provider = Arc::new(provider());
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.store), provider).build()
    }
}
