//! Authorities that people meet with hosted databases, and where their certificates are to be had.
//!
//! This is knowledge about names: it makes a hint, never a proof.

use super::{Certificate, DistinguishedName};

/// Who is behind the name of an issuer.
#[derive(Debug, PartialEq, Eq)]
pub struct Authority {
    /// An id that stays.
    pub id: &'static str,
    /// Whose it is, as people know it.
    pub owner: &'static str,
    /// What its names look like.
    patterns: &'static [Pattern],
    /// Whether operating systems and Node.js trust it without being told.
    pub in_system_roots: bool,
    /// Where its certificate is to be had: a sentence's end.
    pub bundle: &'static str,
    /// What else is worth knowing; a sentence, or nothing.
    pub note: &'static str,
    /// It issues certificates in other people's names: TLS is opened in between.
    pub opens_tls: bool,
}

/// What a name looks like.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// The common name.
    Is(&'static str),
    /// The beginning of the common name.
    Begins(&'static str),
    /// The end of the common name.
    Ends(&'static str),
    /// The organization.
    Organization(&'static str),
    /// The end of the common name of a certificate that is its own issuer.
    SelfSigned(&'static str),
}

/// The authority behind a certificate's issuer, or else behind its subject.
pub fn authority(certificate: &Certificate) -> Option<&'static Authority> {
    let by = |name: &DistinguishedName| {
        AUTHORITIES.iter().find(|authority| authority.has(name, certificate.self_issued))
    };
    by(&certificate.issuer).or_else(|| by(&certificate.subject))
}

impl Authority {
    fn has(&self, name: &DistinguishedName, self_issued: bool) -> bool {
        let common = name.common_name.as_deref().unwrap_or_default();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Is(text) => common == *text,
            Pattern::Begins(text) => common.starts_with(text),
            Pattern::Ends(text) => common.ends_with(text),
            Pattern::Organization(text) => name.organization.as_deref() == Some(text),
            Pattern::SelfSigned(text) => self_issued && common.ends_with(text),
        })
    }
}

use Pattern::{Begins, Ends, Is, Organization, SelfSigned};

/// All of them; the first that fits counts.
pub const AUTHORITIES: [Authority; 11] = [
    Authority {
        id: "amazon_rds",
        owner: "Amazon RDS and Aurora",
        patterns: &[Begins("Amazon RDS ")],
        in_system_roots: false,
        bundle: "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
        note: "rds-ca-2019 ended in August 2024; bundles from before (rds-combined-ca-bundle.pem) do not \
               hold rds-ca-rsa2048-g1, rds-ca-rsa4096-g1 and rds-ca-ecc384-g1",
        opens_tls: false,
    },
    Authority {
        id: "amazon_trust",
        owner: "Amazon Trust Services (RDS Proxy, Aurora Serverless)",
        patterns: &[
            Begins("Amazon Root CA "),
            Begins("Amazon RSA 2048 M"),
            Begins("Amazon ECDSA 256 M"),
            Begins("Starfield Services Root Certificate Authority"),
        ],
        in_system_roots: true,
        bundle: "the system's roots, or https://www.amazontrust.com/repository/",
        note: "it is not in the global-bundle.pem of RDS's own authorities",
        opens_tls: false,
    },
    Authority {
        id: "azure_baltimore",
        owner: "Azure Database for PostgreSQL, until 2023",
        patterns: &[Is("Baltimore CyberTrust Root")],
        in_system_roots: false,
        bundle: "nowhere any more: it ended on 12 May 2025; today's servers are below DigiCert Global Root G2 and \
                 Microsoft RSA Root Certificate Authority 2017",
        note: "",
        opens_tls: false,
    },
    Authority {
        id: "azure",
        owner: "Azure Database for PostgreSQL",
        patterns: &[
            Is("DigiCert Global Root G2"),
            Is("DigiCert Global Root CA"),
            Is("Microsoft RSA Root Certificate Authority 2017"),
            Begins("Microsoft Azure RSA TLS Issuing CA"),
            Begins("Microsoft RSA TLS CA"),
            Begins("Microsoft TLS "),
        ],
        in_system_roots: true,
        bundle: "the system's roots, or https://cacerts.digicert.com/DigiCertGlobalRootG2.crt.pem together with \
                 https://www.microsoft.com/pkiops/certs/Microsoft%20RSA%20Root%20Certificate%20Authority%202017.crt",
        note: "trust both roots and no intermediate: the intermediates are exchanged without notice",
        opens_tls: false,
    },
    Authority {
        id: "google_cloud_sql",
        owner: "Google Cloud SQL",
        patterns: &[Begins("Google Cloud SQL")],
        in_system_roots: false,
        bundle: "the instance's page in the console (server-ca.pem), or `gcloud sql ssl server-ca-certs list`",
        note: "every instance has its own, and the certificate names PROJECT:INSTANCE and no host: use \
               sslmode=verify-ca, the Cloud SQL Auth Proxy, or an instance with CAS and a DNS name",
        opens_tls: false,
    },
    Authority {
        id: "supabase",
        owner: "Supabase",
        patterns: &[Begins("Supabase ")],
        in_system_roots: false,
        bundle: "the project's database settings, SSL configuration (prod-ca-2021.crt)",
        note: "",
        opens_tls: false,
    },
    Authority {
        id: "aiven",
        owner: "Aiven, or DigitalOcean's managed databases",
        patterns: &[Ends(" Project CA")],
        in_system_roots: false,
        bundle: "the service's page in Aiven's console (ca.pem) or the database's page at DigitalOcean \
                 (ca-certificate.crt)",
        note: "every project has its own",
        opens_tls: false,
    },
    Authority {
        id: "lets_encrypt",
        owner: "Let's Encrypt (Neon and others)",
        patterns: &[Organization("Let's Encrypt"), Begins("ISRG Root X"), Is("DST Root CA X3")],
        in_system_roots: true,
        bundle: "the system's roots, or https://letsencrypt.org/certs/isrgrootx1.pem",
        note: "",
        opens_tls: false,
    },
    Authority {
        id: "google_trust",
        owner: "Google Trust Services",
        patterns: &[Organization("Google Trust Services"), Organization("Google Trust Services LLC")],
        in_system_roots: true,
        bundle: "the system's roots, or https://pki.goog/repository/",
        note: "",
        opens_tls: false,
    },
    Authority {
        id: "heroku",
        owner: "a database on EC2 that signed for itself, as Heroku Postgres does",
        patterns: &[SelfSigned(".compute-1.amazonaws.com"), SelfSigned(".ec2.internal")],
        in_system_roots: false,
        bundle: "nowhere: such a certificate can only be trusted itself",
        note: "Heroku's own advice is encryption without a check (sslmode=require, rejectUnauthorized: false)",
        opens_tls: false,
    },
    Authority {
        id: "interceptor",
        owner: "a firewall, virus scanner or debugging proxy that opens TLS",
        patterns: &[
            Begins("Zscaler "),
            Organization("Zscaler Inc."),
            Organization("Fortinet"),
            Organization("Netskope Inc."),
            Organization("Netskope"),
            Begins("Cisco Umbrella"),
            Begins("Avast Web/Mail Shield"),
            Begins("AVG Web/Mail Shield"),
            Begins("Kaspersky Anti-Virus Personal Root"),
            Begins("ESET SSL Filter CA"),
            Begins("Bitdefender Personal CA"),
            Begins("Sophos SSL CA"),
            Begins("Charles Proxy CA"),
            Is("mitmproxy"),
            Is("PortSwigger CA"),
            Begins("DO_NOT_TRUST_FiddlerRoot"),
        ],
        in_system_roots: false,
        bundle: "whoever runs it, often as a certificate file of the company",
        note: "",
        opens_tls: true,
    },
];
