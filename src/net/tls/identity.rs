//! A certificate chain and its private key.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::certs;
use crate::secret::Secret;

/// A certificate chain (leaf first) and the key of its leaf.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    given: bool,
}

/// Why a certificate and a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate file holds no certificate.
    #[error("the certificate file has no \"BEGIN CERTIFICATE\" in it")]
    NoCertificate,
    /// The key file holds no private key.
    #[error("the key file has no \"BEGIN … PRIVATE KEY\" in it")]
    NoKey,
    /// The key is encrypted.
    #[error(
        "the private key is encrypted with a passphrase, and pgwhy can't ask for one: decrypt it (openssl pkey -in KEY -out NEWKEY)"
    )]
    EncryptedKey,
    /// The file is broken.
    #[error("the {0} file is not PEM as it should be: {1}")]
    Broken(&'static str, String),
    /// The key's kind is not supported.
    #[error("this kind of private key can't be used for TLS: {0}")]
    Unsupported(String),
    /// They don't belong together.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Unmade(String),
}

impl Identity {
    /// Reads PEM texts: PKCS#8, PKCS#1 and SEC1 keys, unencrypted.
    pub fn from_pem(certificates: &[u8], key: &Secret<Vec<u8>>) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Broken("certificate", error.to_string()))?;
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let key = private_key(key.expose())?;
        Self::new(chain, &key, true)
    }

    /// Makes a certificate for these names (DNS names and addresses), signed by the given authority's
    /// certificate and key in PEM, or by itself.
    pub fn make(names: &[String], authority: Option<(&str, &Secret<String>)>) -> Result<Self, IdentityError> {
        let unmade = |error: rcgen::Error| IdentityError::Unmade(error.to_string());
        let key = rcgen::KeyPair::generate().map_err(unmade)?;
        let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(unmade)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "pgwhy");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = match authority {
            Some((certificate, secret)) => {
                let key_pair = rcgen::KeyPair::from_pem(secret.expose()).map_err(unmade)?;
                let issuer = rcgen::Issuer::from_ca_cert_pem(certificate, key_pair).map_err(unmade)?;
                params.use_authority_key_identifier_extension = true;
                params.signed_by(&key, &issuer)
            }
            None => params.self_signed(&key),
        }
        .map_err(unmade)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self::new(vec![certificate.der().clone()], &der, false)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
        given: bool,
    ) -> Result<Self, IdentityError> {
        let key = any_supported_type(key).map_err(|error| IdentityError::Unsupported(error.to_string()))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            // A key whose public half can't be told is used as it is.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(IdentityError::Mismatch),
            // rustls does not read every certificate that clients take.
            Err(_) => {
                let leaf = key.cert.first().map(AsRef::as_ref).unwrap_or_default();
                let shown = certs::public_key(leaf)
                    .map_err(|problem| IdentityError::Broken("certificate", problem.to_string()))?;
                if key.key.public_key().is_some_and(|own| own.as_ref() != shown) {
                    return Err(IdentityError::Mismatch);
                }
            }
        }
        Ok(Self { key: Arc::new(key), given })
    }

    /// Whether it was given, rather than made.
    pub fn is_given(&self) -> bool {
        self.given
    }

    /// The leaf, in DER.
    pub fn leaf(&self) -> &[u8] {
        self.key.cert.first().map(AsRef::as_ref).unwrap_or_default()
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(IdentityError::EncryptedKey);
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(IdentityError::NoKey),
        // The error may quote the line, and the line may be of the key.
        Err(_) => Err(IdentityError::Broken("key", "a section of it can't be read".into())),
    }
}
