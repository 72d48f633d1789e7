//! From DER to [`Certificate`].

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use x509_parser::asn1_rs::{FromDer as _, Oid};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::extensions::{
    BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, SubjectAlternativeName, X509Extension,
};
use x509_parser::nom::Parser as _;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{AltName, CertProblem, Certificate, DistinguishedName, KeyKind, MAX_DER, MAX_NAMES, Purposes};

/// Most extensions of one certificate; real ones have about ten.
const MAX_EXTENSIONS: usize = 64;
/// RFC 5280 section 4.1.2.2 allows 20 bytes, and some authorities exceed it a little.
const MAX_SERIAL: usize = 64;

/// One whole certificate, its extensions split off but not read: only those that matter are.
pub(super) fn x509(der: &[u8]) -> Result<X509Certificate<'_>, CertProblem> {
    if der.len() > MAX_DER {
        return Err(CertProblem::TooLong);
    }
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    match parser.parse(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertProblem::NotDer),
    }
}

pub(super) fn certificate(der: &[u8]) -> Result<Certificate, CertProblem> {
    let x509 = x509(der)?;
    let subject = DistinguishedName::read(x509.subject())?;
    let issuer = DistinguishedName::read(x509.issuer())?;
    let extensions = x509.extensions();
    if extensions.len() > MAX_EXTENSIONS {
        return Err(CertProblem::TooMany("extensions"));
    }
    if x509.raw_serial().len() > MAX_SERIAL {
        return Err(CertProblem::TooMany("digits in its serial number"));
    }
    let (names, other_names) = alternative_names(extensions)?;
    let constraints = only(extensions, "2.5.29.19", "basicConstraints")?
        .map(|value| whole::<BasicConstraints>(value, "basicConstraints"))
        .transpose()?;
    let (key, key_bits) = key(x509.public_key());
    let (signature_algorithm, weak_signature) = super::signature::algorithm(&x509.signature_algorithm);
    Ok(Certificate {
        version: x509.version().0.saturating_add(1),
        self_issued: subject.der == issuer.der,
        subject,
        issuer,
        names,
        other_names,
        not_before: x509.validity().not_before.timestamp(),
        not_after: x509.validity().not_after.timestamp(),
        serial: x509.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect(),
        key,
        key_bits,
        signature_algorithm,
        weak_signature,
        is_ca: constraints.as_ref().is_some_and(|constraints| constraints.ca),
        has_basic_constraints: constraints.is_some(),
        key_usage: key_usage(extensions)?,
        extended_key_usage: purposes(extensions)?,
        sha256: Sha256::digest(der).into(),
        key_sha256: Sha256::digest(x509.public_key().raw).into(),
    })
}

/// The value of the only extension with this object identifier.
fn only<'a>(
    extensions: &'a [X509Extension<'a>],
    oid: &str,
    name: &'static str,
) -> Result<Option<&'a [u8]>, CertProblem> {
    let mut found = extensions.iter().filter(|extension| extension.oid.to_id_string() == oid);
    let first = found.next();
    match found.next() {
        Some(_) => Err(CertProblem::Twice(name)),
        None => Ok(first.map(|extension| extension.value)),
    }
}

fn whole<'a, T>(value: &'a [u8], name: &'static str) -> Result<T, CertProblem>
where
    T: x509_parser::asn1_rs::FromDer<'a, x509_parser::error::X509Error>,
{
    match T::from_der(value) {
        Ok(([], read)) => Ok(read),
        _ => Err(CertProblem::Extension(name)),
    }
}

fn alternative_names(extensions: &[X509Extension<'_>]) -> Result<(Vec<AltName>, usize), CertProblem> {
    const NAME: &str = "subjectAltName";
    let Some(value) = only(extensions, "2.5.29.17", NAME)? else { return Ok((Vec::new(), 0)) };
    let list = whole::<SubjectAlternativeName<'_>>(value, NAME)?.general_names;
    if list.len() > MAX_NAMES {
        return Err(CertProblem::TooMany("alternative names"));
    }
    let mut others = 0;
    let mut names = Vec::new();
    for name in &list {
        match name {
            GeneralName::DNSName(name) => names.push(AltName::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => names.push(address(bytes)),
            // A host name that is no UTF-8 is still a host name; it fits none that a client dials.
            GeneralName::Invalid(tag, bytes) if tag.0 == 2 => {
                names.push(AltName::Dns(String::from_utf8_lossy(bytes).into_owned()));
            }
            _ => others += 1,
        }
    }
    Ok((names, others))
}

fn address(bytes: &[u8]) -> AltName {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return AltName::Ip(IpAddr::from(four));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => AltName::Ip(IpAddr::from(sixteen)),
        Err(_) => AltName::OddIp(bytes.len()),
    }
}

fn key_usage(extensions: &[X509Extension<'_>]) -> Result<Option<Vec<&'static str>>, CertProblem> {
    const NAME: &str = "keyUsage";
    let Some(value) = only(extensions, "2.5.29.15", NAME)? else { return Ok(None) };
    let usage = whole::<KeyUsage>(value, NAME)?;
    let names = USAGES.iter().enumerate().filter(|(bit, _)| (usage.flags >> bit) & 1 == 1);
    Ok(Some(names.map(|(_, name)| *name).collect()))
}

/// The bits of RFC 5280 section 4.2.1.3, from bit 0.
const USAGES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

fn purposes(extensions: &[X509Extension<'_>]) -> Result<Option<Purposes>, CertProblem> {
    const NAME: &str = "extKeyUsage";
    let Some(value) = only(extensions, "2.5.29.37", NAME)? else { return Ok(None) };
    let usage = whole::<ExtendedKeyUsage<'_>>(value, NAME)?;
    let named = [usage.code_signing, usage.email_protection, usage.time_stamping, usage.ocsp_signing];
    Ok(Some(Purposes {
        any: usage.any,
        server: usage.server_auth,
        client: usage.client_auth,
        others: usage.other.len() + named.iter().filter(|named| **named).count(),
    }))
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> (KeyKind, u32) {
    let oid = info.algorithm.algorithm.to_id_string();
    let rsa_bits = || {
        let bits = modulus_bits(&info.subject_public_key.data);
        u32::try_from(bits).unwrap_or(0)
    };
    match oid.as_str() {
        "1.2.840.113549.1.1.1" => (KeyKind::Rsa, rsa_bits()),
        "1.2.840.113549.1.1.10" => (KeyKind::RsaPss, rsa_bits()),
        "1.2.840.10045.2.1" => curve(info),
        "1.3.101.112" => (KeyKind::Ed25519, 256),
        "1.3.101.113" => (KeyKind::Ed448, 456),
        "1.2.840.10040.4.1" => {
            let bits = info.parsed().map_or(0, |key| key.key_size());
            (KeyKind::Dsa, u32::try_from(bits).unwrap_or(0))
        }
        _ => (KeyKind::Other(oid), 0),
    }
}

/// Bits of an RSA modulus; 0 when the key can't be read.
fn modulus_bits(key: &[u8]) -> usize {
    let Ok((_, key)) = RSAPublicKey::from_der(key) else { return 0 };
    let significant = key.modulus.iter().position(|byte| *byte != 0).map(|at| key.modulus.len() - at);
    let leading = key.modulus.iter().find(|byte| **byte != 0).map_or(0, |byte| byte.leading_zeros());
    significant.map_or(0, |bytes| bytes * 8 - usize::try_from(leading).unwrap_or(0))
}

fn curve(info: &SubjectPublicKeyInfo<'_>) -> (KeyKind, u32) {
    let parameters = info.algorithm.parameters.as_ref();
    let named = parameters.and_then(|any| Oid::try_from(any.clone()).ok()).map(|oid| oid.to_id_string());
    let Some(oid) = named else { return (KeyKind::Ec("with its own parameters".to_owned()), 0) };
    let known = CURVES.iter().find(|(number, ..)| *number == oid);
    match known {
        Some((_, name, bits)) => (KeyKind::Ec((*name).to_owned()), *bits),
        None => (KeyKind::Ec(oid), 0),
    }
}

/// Curves by OpenSSL's names.
const CURVES: [(&str, &str, u32); 8] = [
    ("1.2.840.10045.3.1.7", "prime256v1", 256),
    ("1.3.132.0.34", "secp384r1", 384),
    ("1.3.132.0.35", "secp521r1", 521),
    ("1.3.132.0.33", "secp224r1", 224),
    ("1.3.132.0.10", "secp256k1", 256),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1", 256),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1", 384),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1", 512),
];
