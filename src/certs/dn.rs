//! Distinguished names, in the two forms that PostgreSQL shows them in.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::x509::X509Name;

use super::CertProblem;

/// Most attributes of one name; real ones have up to ten.
const MAX_ATTRIBUTES: usize = 64;

/// A subject or an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName {
    /// `/C=US/O=Amazon Web Services/CN=Amazon RDS Root 2019 CA`: in the server's log and in
    /// pg_stat_ssl (`X509_NAME_to_cstring`, be-secure-openssl.c).
    pub one_line: String,
    /// `CN=Amazon RDS Root 2019 CA,O=Amazon Web Services,C=US`: the last part first, as RFC 2253
    /// says. What `clientname=DN` in pg_hba.conf compares (`peer_dn`, be-secure-openssl.c).
    pub rfc2253: String,
    /// The first common name, which is the one that PostgreSQL and libpq take.
    pub common_name: Option<String>,
    /// The first organization.
    pub organization: Option<String>,
    /// The DER form: two names are the same if these are.
    pub der: Vec<u8>,
}

impl DistinguishedName {
    pub(super) fn read(name: &X509Name<'_>) -> Result<Self, CertProblem> {
        if name.iter_attributes().count() > MAX_ATTRIBUTES {
            return Err(CertProblem::TooMany("parts of a name"));
        }
        let mut dn = Self { der: name.as_raw().to_vec(), ..Self::default() };
        let mut reversed: Vec<String> = Vec::new();
        for part in name.iter_rdn() {
            for (at, attribute) in part.iter().enumerate() {
                let oid = attribute.attr_type().to_id_string();
                let known = SHORT_NAMES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
                let text = text_of(attribute.attr_value());
                let short = known.unwrap_or(&oid);
                let _ = write!(dn.one_line, "/{short}={}", printed(attribute.attr_value(), false));
                // Of an attribute that OpenSSL has no name for, RFC 2253 wants the bytes.
                let value = match known {
                    Some(_) => printed(attribute.attr_value(), true),
                    None => dumped(attribute.attr_value()),
                };
                let separator = if at == 0 { "," } else { "+" };
                reversed.push(separator.to_owned());
                reversed.push(format!("{short}={value}"));
                match known {
                    Some("CN") if dn.common_name.is_none() => dn.common_name = text,
                    Some("O") if dn.organization.is_none() => dn.organization = text,
                    _ => {}
                }
            }
        }
        // Backwards the separators stand behind their entries: the very last one belongs to nothing.
        reversed.reverse();
        reversed.pop();
        dn.rfc2253 = reversed.concat();
        Ok(dn)
    }
}

/// The value as text, where its type is a character string.
fn text_of(value: &Any<'_>) -> Option<String> {
    if value.class() != Class::Universal {
        return None;
    }
    let bytes = value.data;
    Some(match value.tag() {
        Tag::Utf8String => String::from_utf8_lossy(bytes).into_owned(),
        // OpenSSL takes every other one-byte type as Latin-1.
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::T61String => {
            bytes.iter().map(|&byte| char::from(byte)).collect()
        }
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Tag::UniversalString => bytes
            .chunks_exact(4)
            .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
            .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        _ => return None,
    })
}

/// `ASN1_STRING_print_ex` with `ASN1_STRFLGS_RFC2253`; `escape_high` is its `ASN1_STRFLGS_ESC_MSB`.
fn printed(value: &Any<'_>, escape_high: bool) -> String {
    let Some(text) = text_of(value) else { return dumped(value) };
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let at_an_end = at == 0 || at == last;
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', c]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at_an_end => out.push_str("\\ "),
            c if c.is_ascii_control() || (escape_high && !c.is_ascii()) => {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// `#` and the DER form in hexadecimal digits.
fn dumped(value: &Any<'_>) -> String {
    let tag = u8::try_from(value.tag().0).unwrap_or(0x1f);
    let mut der = vec![tag];
    match value.data.len() {
        length @ 0..=0x7f => der.extend(u8::try_from(length)),
        length => {
            let bytes = length.to_be_bytes();
            let used: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            der.extend(u8::try_from(used.len()).map(|count| 0x80 | count));
            der.extend(used);
        }
    }
    der.extend_from_slice(value.data);
    der.iter().fold(String::from("#"), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

/// OpenSSL's short names (`OBJ_nid2sn`) of what stands in names.
const SHORT_NAMES: [(&str, &str); 27] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];
