#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use super::*;

mod written;

/// 21 November 2026.
const NOW: i64 = 1_795_219_200;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn bytes(text: &str) -> Vec<u8> {
    BASE64.decode(text).unwrap()
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    for name in names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        });
    }
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root(common_name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(common_name), KeyPair::generate().unwrap()).unwrap()
}

fn issued(params: &CertificateParams, by: &Authority) -> Vec<u8> {
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().to_vec()
}

fn summary(authority: &Authority) -> RootSummary {
    RootSummary::of(&Certificate::parse(authority.der()).unwrap())
}

#[test]
fn a_certificate_says_what_was_put_into_it() {
    let ca = root("Test CA");
    let mut wanted = params("db.example", &["db.example", "*.db.example", "10.0.0.5", "::1"]);
    wanted.subject_alt_names.push(SanType::URI("x:y".try_into().unwrap()));
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.serial_number = Some(rcgen::SerialNumber::from(vec![0x01, 0xab, 0xcd]));
    let der = issued(&wanted, &ca);
    let read = Certificate::parse(&der).unwrap();
    let names: Vec<_> = read.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["db.example", "*.db.example", "10.0.0.5", "::1"]);
    assert_eq!(
        (read.other_names, read.serial.as_str(), read.is_ca, read.self_issued),
        (1, "01ABCD", false, false)
    );
    assert_eq!((&read.key, read.key_bits), (&KeyKind::Ec("prime256v1".into()), 256));
    assert_eq!((read.signature_algorithm.as_str(), read.weak_signature), ("ecdsa-with-SHA256", false));
    assert_eq!(read.key_usage, Some(vec!["digitalSignature", "keyAgreement"]));
    assert!(read.may_serve() && !read.may_be_client());
    assert_eq!((read.not_before, read.not_after), (1_767_225_600, 1_798_761_600));
    assert_eq!(read.sha256, <[u8; 32]>::from(Sha256::digest(&der)));
    assert_eq!(read.title(), "db.example");
    let ca = Certificate::parse(ca.der()).unwrap();
    assert_eq!(read.issuer, ca.subject);
    assert!(ca.is_ca && ca.self_issued && ca.may_serve() && ca.may_be_client());
    let cut: Vec<_> = (0..der.len()).filter(|end| Certificate::parse(&der[..*end]).is_ok()).collect();
    assert!(cut.is_empty(), "cut short it is no certificate: {cut:?}");
    assert_eq!(Certificate::parse(&[der, vec![0]].concat()), Err(CertProblem::NotDer));
}

#[test]
fn names_are_printed_as_openssl_prints_them() {
    let odd = Certificate::parse(&bytes(written::ODD_NAME)).unwrap();
    // openssl x509 -subject -nameopt RFC2253
    let expected = r#"UID=u,emailAddress=a@b.c,CN=\ Zo\C3\AB\;#1\ ,O=Ex\, \"Inc\"+OU=a\+b,C=US"#;
    assert_eq!(odd.subject.rfc2253, expected);
    let line = r#"/C=US/OU=a\+b/O=Ex\, \"Inc\"/CN=\ Zoë\;#1\ /emailAddress=a@b.c/UID=u"#;
    assert_eq!(odd.subject.one_line, line);
    assert_eq!(odd.subject.common_name.as_deref(), Some(" Zoë;#1 "));
    let rows = [
        ("a BMPString", DnValue::BmpString("é€".try_into().unwrap()), r"/CN=é€", r"CN=\C3\A9\E2\82\AC"),
        ("a TeletexString", DnValue::TeletexString("plain".try_into().unwrap()), "/CN=plain", "CN=plain"),
        ("a number sign first", DnValue::Utf8String("#a#".into()), r"/CN=\#a#", r"CN=\#a#"),
        ("a line break", DnValue::Utf8String("a\nb\u{7f}".into()), r"/CN=a\0Ab\7F", r"CN=a\0Ab\7F"),
        ("one blank", DnValue::Utf8String(" ".into()), r"/CN=\ ", r"CN=\ "),
    ];
    for (claim, value, line, rfc2253) in rows {
        let mut params = params("", &[]);
        params.distinguished_name.push(DnType::CommonName, value);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let subject = Certificate::parse(der.der()).unwrap().subject;
        assert_eq!((subject.one_line.as_str(), subject.rfc2253.as_str()), (line, rfc2253), "{claim}");
    }
    let mut unknown = params("x", &[]);
    unknown.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "odd");
    let der = unknown.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(Certificate::parse(der.der()).unwrap().subject.rfc2253, "1.2.3.4=#0C036F6464,CN=x");
}

#[test]
fn the_channel_is_bound_with_the_hash_of_the_signature() {
    type Digest = fn(&[u8]) -> Vec<u8>;
    let sha224: Digest = |der| Sha224::digest(der).to_vec();
    let sha256: Digest = |der| Sha256::digest(der).to_vec();
    let sha384: Digest = |der| Sha384::digest(der).to_vec();
    let sha512: Digest = |der| Sha512::digest(der).to_vec();
    let rows = [
        ("MD5 becomes SHA-256", written::RSA_MD5, "md5WithRSAEncryption", Some(sha256)),
        ("SHA-1 becomes SHA-256", written::EC_SHA1, "ecdsa-with-SHA1", Some(sha256)),
        ("SHA-224 stays", written::EC_SHA224, "ecdsa-with-SHA224", Some(sha224)),
        ("SHA-384 stays", written::EC_SHA384, "ecdsa-with-SHA384", Some(sha384)),
        ("SHA-512 stays", written::EC_SHA512, "ecdsa-with-SHA512", Some(sha512)),
        ("PSS without parameters is SHA-1", written::PSS_SHA1, "rsassaPss", Some(sha256)),
        ("PSS says SHA-256", written::PSS_SHA256, "rsassaPss", Some(sha256)),
        ("PSS says SHA-384", written::PSS_SHA384, "rsassaPss", Some(sha384)),
        ("Ed25519 has no hash", written::ED25519, "ED25519", None),
        ("SHA-3 is not ours", written::EC_SHA3, "2.16.840.1.101.3.4.3.10", None),
    ];
    for (claim, text, name, digest) in rows {
        let der = bytes(text);
        assert_eq!(end_point_hash(&der), digest.map(|digest| digest(&der)), "{claim}");
        let read = Certificate::parse(&der).unwrap();
        assert_eq!(read.signature_algorithm, name, "{claim}");
        let weak = matches!(text, written::RSA_MD5 | written::EC_SHA1 | written::PSS_SHA1);
        assert_eq!(read.weak_signature, weak, "{claim}");
    }
    let rsa = Certificate::parse(&bytes(written::RSA_MD5)).unwrap();
    assert_eq!((rsa.key, rsa.key_bits), (KeyKind::Rsa, 1024));
    assert_eq!(end_point_hash(b"not a certificate"), None);
}

/// Every byte of a certificate set to other values: an answer or a problem, and the same answer twice.
#[test]
fn hostile_bytes_make_no_panic() {
    let ca = root("Test CA");
    let mut params = params("db.example", &["db.example", "10.0.0.5"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut read = 0;
    for der in [issued(&params, &ca), bytes(written::ODD_NAME), bytes(written::PSS_SHA384)] {
        for at in 0..der.len() {
            for value in [0x00, 0x01, 0x30, 0x7f, 0x80, 0x84, 0xff, der[at] ^ 0x20] {
                let mut bad = der.clone();
                bad[at] = value;
                read += usize::from(Certificate::parse(&bad).is_ok());
                let _ = end_point_hash(&bad);
            }
        }
    }
    assert!(read > 1_000, "most changes hit names and keys: {read}");
    assert_eq!(Certificate::parse(&vec![0x30; MAX_DER + 1]), Err(CertProblem::TooLong));
}

#[test]
fn more_than_any_real_certificate_has_is_refused() {
    let mut wide = params("x", &[]);
    for _ in 0..=MAX_NAMES {
        wide.subject_alt_names.push(SanType::DnsName("a".try_into().unwrap()));
    }
    let der = wide.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(Certificate::parse(der.der()), Err(CertProblem::TooMany("alternative names")));
    let mut twice = params("x", &["a"]);
    let value = [0x30, 0x03, 0x82, 0x01, b'b'];
    twice.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], value.to_vec()));
    let der = twice.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(Certificate::parse(der.der()), Err(CertProblem::Twice("subjectAltName")));
}

#[test]
fn hosts_fit_as_libpq_says() {
    let fits = |name: &str| NameMatch::Fits(name.to_owned());
    let others = |first: &str, more| NameMatch::Others { first: first.to_owned(), more };
    let rows: [(&str, &str, &str, &[&str], NameMatch); 30] = [
        ("the name itself", "db.example", "", &["db.example"], fits("db.example")),
        ("in any case", "DB.Example", "", &["db.eXample"], fits("db.eXample")),
        ("another name", "db.example", "", &["web.example"], others("web.example", 0)),
        ("the second of three", "b.example", "", &["a.example", "b.example", "c.example"], fits("b.example")),
        ("none of three", "d.example", "", &["a.example", "b.example", "c.example"], others("a.example", 2)),
        ("a wildcard is one label", "db.example", "", &["*.example"], fits("*.example")),
        ("a wildcard is not two labels", "a.db.example", "", &["*.example"], others("*.example", 0)),
        ("a wildcard is not nothing", ".example", "", &["*.example"], others("*.example", 0)),
        ("a wildcard is not the bare name", "example", "", &["*.example"], others("*.example", 0)),
        ("a wildcard within a label", "db1.example", "", &["db*.example"], others("db*.example", 0)),
        ("a wildcard in the middle", "a.b.example", "", &["a.*.example"], others("a.*.example", 0)),
        ("a star alone", "example", "", &["*"], others("*", 0)),
        ("a star and a dot", "a.", "", &["*."], others("*.", 0)),
        ("the common name without alternatives", "db.example", "db.example", &[], fits("db.example")),
        ("a wildcard as common name", "db.example", "*.example", &[], fits("*.example")),
        (
            "no common name beside DNS names",
            "db.example",
            "db.example",
            &["x.example"],
            others("x.example", 0),
        ),
        (
            "the common name beside addresses only",
            "db.example",
            "db.example",
            &["10.0.0.5"],
            fits("db.example"),
        ),
        ("an address", "10.0.0.5", "", &["10.0.0.5"], fits("10.0.0.5")),
        ("another address", "10.0.0.6", "", &["10.0.0.5"], others("10.0.0.5", 0)),
        ("an address as inet_aton reads it", "10.5", "", &["10.0.0.5"], fits("10.0.0.5")),
        ("hexadecimal and octal", "0x7f.0.0.01", "", &["127.0.0.1"], fits("127.0.0.1")),
        ("one number", "2130706433", "", &["127.0.0.1"], fits("127.0.0.1")),
        ("an IPv6 address", "0:0::1", "", &["::1"], fits("::1")),
        ("an IPv6 address in brackets is a name", "[::1]", "", &["::1"], others("::1", 0)),
        (
            "no common name beside addresses for an address",
            "10.0.0.6",
            "10.0.0.6",
            &["10.0.0.5"],
            others("10.0.0.5", 0),
        ),
        (
            "an address as common name beside DNS names",
            "10.0.0.6",
            "10.0.0.6",
            &["x.example"],
            fits("10.0.0.6"),
        ),
        ("localhost is no address", "127.0.0.1", "", &["localhost"], others("localhost", 0)),
        ("no name at all", "db.example", "", &[], NameMatch::Nameless),
        ("no host", "", "db.example", &[], NameMatch::NoHost),
        ("a trailing dot is another name", "db.example.", "", &["db.example"], others("db.example", 0)),
    ];
    for (claim, host, common_name, names, expected) in rows {
        let der = params(common_name, names).self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = Certificate::parse(der.der()).unwrap();
        assert_eq!(names::matches(host, &read), expected, "{claim}");
    }
    let mut read = Certificate::parse(&bytes(written::EC_SHA384)).unwrap();
    read.names = vec![AltName::Dns("10.0.0.6".into())];
    assert!(names::matches("10.0.0.6", &read).fits(), "an address written as a DNS name");
    read.names = vec![AltName::OddIp(8), AltName::Dns("a".into())];
    assert!(matches!(names::matches("a", &read), NameMatch::Broken(_)), "libpq gives up");
    read.names = vec![AltName::Dns("a\0.evil".into())];
    assert!(matches!(names::matches("a", &read), NameMatch::Broken(_)), "CVE-2009-4034");
}

#[test]
fn authorities_are_known_by_their_names() {
    let rows = [
        ("Amazon RDS Root 2019 CA", "", Some("amazon_rds")),
        ("Amazon RDS us-east-1 Root CA RSA2048 G1", "", Some("amazon_rds")),
        ("Amazon RDS eu-west-1 2019 CA", "Amazon Web Services, Inc.", Some("amazon_rds")),
        ("Amazon RSA 2048 M02", "Amazon", Some("amazon_trust")),
        ("Baltimore CyberTrust Root", "Baltimore", Some("azure_baltimore")),
        ("Microsoft Azure RSA TLS Issuing CA 04", "Microsoft Corporation", Some("azure")),
        ("DigiCert Global Root G2", "DigiCert Inc", Some("azure")),
        ("Google Cloud SQL Server CA", "Google, Inc", Some("google_cloud_sql")),
        ("Supabase Intermediate 2021 CA", "Supabase Inc", Some("supabase")),
        ("8a1f4e0c-0000-4000-8000-000000000000 Project CA", "", Some("aiven")),
        ("R11", "Let's Encrypt", Some("lets_encrypt")),
        ("ISRG Root X1", "Internet Security Research Group", Some("lets_encrypt")),
        ("WE1", "Google Trust Services", Some("google_trust")),
        ("Zscaler Intermediate Root CA (zscalerthree.net)", "Zscaler Inc.", Some("interceptor")),
        ("pgwhy test CA", "", None),
        ("ec2-1-2-3-4.compute-1.amazonaws.com", "", None),
    ];
    for (common_name, organization, expected) in rows {
        let mut issuer = authority_params(common_name);
        if !organization.is_empty() {
            issuer.distinguished_name.push(DnType::OrganizationName, organization);
        }
        let ca = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let leaf = Certificate::parse(&issued(&params("db", &[]), &ca)).unwrap();
        assert_eq!(known::authority(&leaf).map(|known| known.id), expected, "{common_name}");
    }
    let own = params("ec2-1-2-3-4.compute-1.amazonaws.com", &[])
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap();
    let own = Certificate::parse(own.der()).unwrap();
    assert_eq!(known::authority(&own).map(|known| known.id), Some("heroku"));
    let mut ids: Vec<_> = known::AUTHORITIES.iter().map(|known| known.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), known::AUTHORITIES.len(), "ids are unique");
}

/// A row of [`verdicts`]: claim, chain, host, roots, fault; certificate, variant, words of the evidence and of the fix.
type Row<'a> = (
    &'a str,
    Vec<Vec<u8>>,
    Option<&'a str>,
    Vec<RootSummary>,
    Fault,
    Option<usize>,
    Option<&'a str>,
    &'a [&'a str],
    &'a [&'a str],
);

#[track_caller]
fn check(row: Row<'_>) {
    let (claim, chain, host, roots, fault, certificate, variant, evidence, fix) = row;
    let found = explain(&chain, host, &roots, NOW, &fault);
    assert_eq!((found.certificate, found.variant), (certificate, variant), "{claim}: {found:?}");
    assert_eq!(found.cause, "server_cert_untrusted", "{claim}");
    let (all, fixes) = (found.evidence.join("\n"), found.fix.join("\n"));
    for word in evidence {
        assert!(all.contains(word), "{claim}: no «{word}» in the evidence:\n{all}");
    }
    for word in fix {
        assert!(fixes.contains(word), "{claim}: no «{word}» in the fix:\n{fixes}");
    }
}

#[test]
fn chains_without_a_root_say_which_issuer_is_missing() {
    let (ca, other) = (root("Test CA"), root("Another CA"));
    let between =
        CertifiedIssuer::signed_by(authority_params("Test Intermediate"), KeyPair::generate().unwrap(), &ca)
            .unwrap();
    let anew = root("Test CA");
    let leaf = issued(&params("db.example", &["db.example"]), &between);
    let direct = issued(&params("db.example", &["db.example"]), &ca);
    let own = params("db.example", &["db.example"])
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec();
    let rds = root("Amazon RDS us-east-1 Root CA RSA2048 G1");
    let rds_leaf = issued(&params("x.rds.amazonaws.com", &["x.rds.amazonaws.com"]), &rds);
    let firewall = root("Zscaler Root CA");
    let opened = issued(&params("db.example", &["db.example"]), &firewall);
    let mut old = summary(&root("Test CA"));
    old.not_after = NOW - 86_400;
    let unknown = || Fault::UnknownIssuer;
    let (to_db, roots) = (Some("db.example"), vec![summary(&other)]);
    let rows: [Row<'_>; 10] = [
        (
            "the intermediate was not sent",
            vec![leaf.clone()],
            to_db,
            vec![summary(&ca)],
            unknown(),
            Some(0),
            Some("unknown_ca"),
            &[
                "issued by CN=Test Intermediate, which was not sent",
                "sent only its own certificate",
                "the only trusted root is Test CA",
            ],
            &["ssl_cert_file", "--server-ca FILE"],
        ),
        (
            "the root is not trusted and not sent",
            vec![leaf.clone(), between.der().to_vec()],
            to_db,
            roots.clone(),
            unknown(),
            Some(1),
            Some("unknown_ca"),
            &["Test Intermediate was issued by CN=Test CA", "sent 2 certificates"],
            &["CN=Test CA into --server-ca FILE", "sslrootcert"],
        ),
        (
            "the root was sent and is not trusted",
            vec![direct.clone(), ca.der().to_vec()],
            to_db,
            roots.clone(),
            unknown(),
            Some(1),
            Some("unknown_ca"),
            &["ends in Test CA, which signed itself"],
            &["CN=Test CA into --server-ca FILE"],
        ),
        (
            "no roots at all",
            vec![direct.clone()],
            to_db,
            vec![],
            unknown(),
            Some(0),
            Some("unknown_ca"),
            &["there are no trusted roots"],
            &[],
        ),
        (
            "signed for itself",
            vec![own.clone()],
            to_db,
            roots.clone(),
            Fault::SelfSigned,
            Some(0),
            Some("self_signed"),
            &["is its own issuer, db.example"],
            &["trust this certificate itself"],
        ),
        (
            "the authority was made anew",
            vec![direct.clone()],
            to_db,
            vec![summary(&anew)],
            unknown(),
            Some(0),
            Some("unknown_ca"),
            &["its key did not sign db.example"],
            &[],
        ),
        (
            "the trusted root is another of that name",
            vec![direct.clone(), ca.der().to_vec()],
            to_db,
            vec![summary(&anew)],
            unknown(),
            Some(1),
            Some("unknown_ca"),
            &["another key"],
            &[],
        ),
        (
            "the trusted root is over",
            vec![direct],
            to_db,
            vec![old],
            unknown(),
            Some(0),
            Some("unknown_ca"),
            &["ended on 2026-11-20"],
            &[],
        ),
        (
            "RDS",
            vec![rds_leaf],
            to_db,
            roots.clone(),
            unknown(),
            Some(0),
            Some("unknown_ca"),
            &["belongs to Amazon RDS"],
            &["global-bundle.pem"],
        ),
        (
            "a firewall",
            vec![opened],
            to_db,
            roots,
            unknown(),
            Some(0),
            Some("intercepted"),
            &["opens TLS"],
            &["inspection"],
        ),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn other_faults_say_what_shows_them() {
    let ca = root("Test CA");
    let roots = || vec![summary(&ca)];
    let dated = |from: (i32, u8, u8), to: (i32, u8, u8)| {
        let mut dated = params("db.example", &["db.example"]);
        dated.not_before = date_time_ymd(from.0, from.1, from.2);
        dated.not_after = date_time_ymd(to.0, to.1, to.2);
        vec![issued(&dated, &ca)]
    };
    let good = || vec![issued(&params("db.example", &["db.example", "*.pool.example"]), &ca)];
    let mut for_clients = params("db.example", &["db.example"]);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut old_between = authority_params("Old Intermediate");
    old_between.not_after = date_time_ymd(2026, 6, 1);
    let old_between = CertifiedIssuer::signed_by(old_between, KeyPair::generate().unwrap(), &ca).unwrap();
    let below_old = vec![issued(&params("db.example", &[]), &old_between), old_between.der().to_vec()];
    let (to_db, to_ip) = (Some("db.example"), Some("10.0.0.5"));
    let rows: [Row<'_>; 15] = [
        (
            "expired",
            dated((2025, 1, 1), (2026, 11, 20)),
            to_db,
            roots(),
            Fault::Expired,
            Some(0),
            Some("expired"),
            &["ended on 2026-11-20T00:00:00Z; here it is 2026-11-21T00:00:00Z, 1 day later"],
            &["pg_reload_conf"],
        ),
        (
            "an intermediate expired",
            below_old,
            to_db,
            roots(),
            Fault::Expired,
            Some(1),
            Some("expired"),
            &["Old Intermediate in the chain ended on 2026-06-01"],
            &["behind the server's own"],
        ),
        (
            "expired by another clock",
            good(),
            to_db,
            roots(),
            Fault::Expired,
            None,
            Some("expired"),
            &["2026-11-21T00:00:00Z, every certificate of the chain is within its time"],
            &["clock of who refused"],
        ),
        (
            "not yet valid",
            dated((2026, 12, 1), (2027, 12, 1)),
            to_db,
            roots(),
            Fault::NotYetValid,
            Some(0),
            Some("not_yet_valid"),
            &["begins on 2026-12-01T00:00:00Z", "10 days too early"],
            &["NTP"],
        ),
        (
            "another host",
            good(),
            Some("other.example"),
            roots(),
            Fault::BadName,
            Some(0),
            Some("hostname_mismatch"),
            &["is for db.example, *.pool.example, and other.example was dialled"],
            &["connect to db.example", "hostaddr=ADDRESS", "verify-ca"],
        ),
        (
            "dialled by address",
            good(),
            to_ip,
            roots(),
            Fault::BadName,
            Some(0),
            Some("hostname_mismatch"),
            &["10.0.0.5 was dialled"],
            &[],
        ),
        (
            "a stricter checker",
            good(),
            to_db,
            roots(),
            Fault::BadName,
            Some(0),
            Some("hostname_mismatch"),
            &["stricter"],
            &[],
        ),
        (
            "only a common name",
            vec![issued(&params("web", &[]), &ca)],
            to_db,
            roots(),
            Fault::BadName,
            Some(0),
            Some("hostname_mismatch"),
            &["web (its common name"],
            &[],
        ),
        (
            "for clients only",
            vec![issued(&for_clients, &ca)],
            to_db,
            roots(),
            Fault::WrongPurpose,
            Some(0),
            None,
            &["TLS clients only"],
            &["serverAuth"],
        ),
        (
            "weak",
            vec![bytes(written::RSA_MD5)],
            to_db,
            roots(),
            Fault::WeakKey,
            Some(0),
            None,
            &["1024 bits", "md5WithRSAEncryption"],
            &["2048"],
        ),
        (
            "an authority as server",
            vec![ca.der().to_vec()],
            to_db,
            vec![],
            Fault::CaAsEndEntity,
            Some(0),
            Some("self_signed"),
            &["CA:TRUE"],
            &["CA:FALSE"],
        ),
        (
            "revoked",
            good(),
            to_db,
            roots(),
            Fault::Revoked,
            Some(0),
            None,
            &["revocation list"],
            &["--server-crl"],
        ),
        (
            "a wrong signature",
            good(),
            to_db,
            roots(),
            Fault::BadSignature,
            Some(0),
            None,
            &["signature"],
            &["ssl_cert_file"],
        ),
        (
            "unreadable",
            vec![b"?".to_vec()],
            to_db,
            roots(),
            Fault::Malformed,
            None,
            None,
            &["can't be read"],
            &["openssl"],
        ),
        (
            "something else",
            good(),
            to_db,
            roots(),
            Fault::Other("odd".into()),
            Some(0),
            None,
            &["says: odd"],
            &["openssl"],
        ),
    ];
    rows.into_iter().for_each(check);
}

#[test]
fn a_clients_certificate_has_its_own_cause() {
    let (ca, other) = (root("Test CA"), root("Another CA"));
    let chain = vec![issued(&params("app", &[]), &other)];
    let found = explain_client(&chain, &[summary(&ca)], NOW, &Fault::UnknownIssuer);
    assert_eq!((found.cause, found.variant), ("client_cert_rejected", Some("unknown_ca")));
    assert!(found.fix.join(" ").contains("ssl_ca_file"), "{found:?}");
    let own = params("app", &[]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let found = explain_client(&[own.der().to_vec()], &[summary(&ca)], NOW, &Fault::SelfSigned);
    assert_eq!(
        (found.cause, found.variant),
        ("client_cert_rejected", Some("unknown_ca")),
        "self-signed has no variant there"
    );
    let found = explain_client(&[], &[summary(&ca)], NOW, &Fault::UnknownIssuer);
    assert_eq!((found.cause, found.variant), ("client_cert_missing", None));
}
