//! A workshop for certificates: authorities and what they issue, good and broken, as PEM.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::client::clean;
use super::install;
use super::keeper::Scratch;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};

/// A certificate with its key, and the chain that goes with it.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its own certificate, then the chain behind it as far as it is to be sent.
    pub pem: String,
    /// The private key (PKCS#8).
    pub key: String,
    /// Its own certificate.
    pub der: Vec<u8>,
}

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate should say.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The common name; none when empty.
    pub common_name: String,
    /// Alternative names: addresses or host names.
    pub names: Vec<String>,
    /// From when it is valid, in days from now.
    pub from: i64,
    /// Until when, in days from now.
    pub until: i64,
    /// The kind of key, and so of an own signature.
    pub key: &'static SignatureAlgorithm,
    /// What it is for; everything, when empty.
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    /// An authority's.
    pub authority: bool,
}

impl Wish {
    /// A good one for a server of this name; names of a list are alternatives, the first also the common name.
    pub fn server(names: &[&str]) -> Self {
        Self {
            common_name: names.first().copied().unwrap_or_default().to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            from: -1,
            until: 30,
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            authority: false,
        }
    }

    /// A good one for a client with this role as common name.
    pub fn client(role: &str) -> Self {
        Self {
            names: Vec::new(),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
            ..Self::server(&[role])
        }
    }

    /// A good one for an authority.
    pub fn authority(name: &str) -> Self {
        Self { names: Vec::new(), purposes: Vec::new(), authority: true, ..Self::server(&[name]) }
    }

    /// Valid in these days from now.
    #[must_use]
    pub fn within(mut self, from: i64, until: i64) -> Self {
        (self.from, self.until) = (from, until);
        self
    }

    /// With a key of this kind.
    #[must_use]
    pub fn keyed(mut self, key: &'static SignatureAlgorithm) -> Self {
        self.key = key;
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name = DistinguishedName::new();
        if !self.common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        }
        for name in &self.names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().expect("a name of ASCII letters")),
            });
        }
        let day = |days: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(in_days(days));
        (params.not_before, params.not_after) = (day(self.from), day(self.until));
        params.extended_key_usages.clone_from(&self.purposes);
        if self.authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        params
    }

    fn key(&self) -> KeyPair {
        KeyPair::generate_for(self.key).expect("a key can be made")
    }

    /// Signed by itself.
    pub fn self_signed(&self) -> Issued {
        let key = self.key();
        let certificate = self.params().self_signed(&key).expect("a certificate can be made");
        Issued { pem: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

/// Seconds since 1970, so many days from now.
fn in_days(days: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock behind 1970").as_secs();
    now.saturating_add_signed(days * 86_400)
}

impl Authority {
    /// A root.
    pub fn root(name: &str) -> Self {
        Self::of(&Wish::authority(name))
    }

    /// A root as wished.
    pub fn of(wish: &Wish) -> Self {
        let issuer = CertifiedIssuer::self_signed(wish.params(), wish.key());
        Self { issuer: issuer.expect("an authority can be made") }
    }

    /// An authority below this one.
    pub fn below(&self, wish: &Wish) -> Self {
        let issuer = CertifiedIssuer::signed_by(wish.params(), wish.key(), &self.issuer);
        Self { issuer: issuer.expect("an authority can be made") }
    }

    /// Issues a certificate. This authority's own is not sent behind it.
    pub fn issue(&self, wish: &Wish) -> Issued {
        let key = wish.key();
        let certificate = wish.params().signed_by(&key, &self.issuer).expect("a certificate can be issued");
        Issued { pem: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    /// Issues a certificate of X.509 version 1, as PostgreSQL's manual does: for a common name alone.
    pub fn issue_version_one(&self, wish: &Wish) -> Issued {
        let dir = Scratch::new();
        let key = wish.key();
        let request = wish.params().serialize_request(&key).expect("a request can be made");
        dir.write("csr", request.pem().expect("PEM"));
        dir.write("ca.crt", self.pem());
        dir.write("ca.key", self.issuer.key().serialize_pem());
        let mut openssl = clean(install::need("openssl", "apt-get install openssl"));
        openssl.args("x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial 7 -days 30".split(' '));
        let output = openssl.current_dir(dir.path()).output().expect("openssl runs");
        let pem = String::from_utf8(output.stdout).expect("PEM");
        let (_, read) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("a certificate");
        let version = read.parse_x509().expect("a certificate").version();
        assert_eq!(version, x509_parser::x509::X509Version::V1, "this openssl adds extensions by itself");
        Issued { pem, key: key.serialize_pem(), der: read.contents }
    }

    /// A revocation list with one certificate on it.
    pub fn revocation_list(&self, revoked: &Issued) -> String {
        let (_, read) = x509_parser::parse_x509_certificate(&revoked.der).expect("our own certificate");
        let day = |days: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(in_days(days));
        let params = CertificateRevocationListParams {
            this_update: day(-1),
            next_update: day(30),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(read.raw_serial().to_vec()),
                revocation_time: day(-1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list can be signed").pem().expect("PEM")
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }
}

impl Issued {
    /// With this authority's certificate sent behind its own.
    #[must_use]
    pub fn behind(mut self, authority: &Authority) -> Self {
        self.pem.push_str(&authority.pem());
        self
    }

    /// The files of a server's data directory; `ca` is whom it trusts for clients.
    pub fn files(&self, ca: &str) -> Vec<(&'static str, String)> {
        vec![("server.crt", self.pem.clone()), ("server.key", self.key.clone()), ("ca.crt", ca.to_owned())]
    }
}
