//! The algorithms that certificates are signed with.

use x509_parser::asn1_rs::Any;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// OpenSSL's name of a signature algorithm, or its object identifier; and whether its hash is broken.
pub(super) fn algorithm(identifier: &AlgorithmIdentifier<'_>) -> (String, bool) {
    let oid = identifier.algorithm.to_id_string();
    let weak = matches!(signed(identifier), Some(Hash::Md5 | Hash::Sha1)) || oid == "1.2.840.113549.1.1.2";
    let known = SIGNATURES.iter().find(|(number, ..)| *number == oid).map(|(_, name, _)| *name);
    let name = match (known, oid.as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, RSA_PSS) => "rsassaPss".to_owned(),
        (None, "1.3.101.112") => "ED25519".to_owned(),
        (None, "1.3.101.113") => "ED448".to_owned(),
        _ => oid,
    };
    (name, weak)
}

/// The hash that is signed.
#[derive(Clone, Copy)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512Short224,
    Sha512Short256,
}

/// The hash of a signature (`X509_get_signature_info`).
pub(super) fn signed(identifier: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    let oid = identifier.algorithm.to_id_string();
    if oid == RSA_PSS {
        return pss(identifier.parameters.as_ref()?);
    }
    SIGNATURES.iter().find(|(number, ..)| *number == oid).map(|(_, _, hash)| *hash)
}

fn pss(parameters: &Any<'_>) -> Option<Hash> {
    let parameters = RsaSsaPssParams::try_from(parameters).ok()?;
    // RFC 4055 section 3.1: SHA-1, if nothing is said.
    let Some(hash) = parameters.hash_algorithm() else { return Some(Hash::Sha1) };
    Some(match hash.algorithm.to_id_string().as_str() {
        "1.2.840.113549.2.5" => Hash::Md5,
        "1.3.14.3.2.26" => Hash::Sha1,
        "2.16.840.1.101.3.4.2.1" => Hash::Sha256,
        "2.16.840.1.101.3.4.2.2" => Hash::Sha384,
        "2.16.840.1.101.3.4.2.3" => Hash::Sha512,
        "2.16.840.1.101.3.4.2.4" => Hash::Sha224,
        "2.16.840.1.101.3.4.2.5" => Hash::Sha512Short224,
        "2.16.840.1.101.3.4.2.6" => Hash::Sha512Short256,
        _ => return None,
    })
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";

/// Signature algorithms with a hash, by OpenSSL's names (`obj_xref.txt`, `objects.txt`).
const SIGNATURES: [(&str, &str, Hash); 19] = [
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption", Hash::Md5),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption", Hash::Sha1),
    ("1.3.14.3.2.29", "sha1WithRSA", Hash::Sha1),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption", Hash::Sha256),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption", Hash::Sha384),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption", Hash::Sha512),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption", Hash::Sha224),
    ("1.2.840.113549.1.1.15", "sha512-224WithRSAEncryption", Hash::Sha512Short224),
    ("1.2.840.113549.1.1.16", "sha512-256WithRSAEncryption", Hash::Sha512Short256),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1", Hash::Sha1),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224", Hash::Sha224),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256", Hash::Sha256),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384", Hash::Sha384),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512", Hash::Sha512),
    ("1.2.840.10040.4.3", "dsaWithSHA1", Hash::Sha1),
    ("2.16.840.1.101.3.4.3.1", "dsa_with_SHA224", Hash::Sha224),
    ("2.16.840.1.101.3.4.3.2", "dsa_with_SHA256", Hash::Sha256),
    ("2.16.840.1.101.3.4.3.3", "dsa_with_SHA384", Hash::Sha384),
    ("2.16.840.1.101.3.4.3.4", "dsa_with_SHA512", Hash::Sha512),
];
