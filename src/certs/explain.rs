//! Why a chain of certificates was not accepted: which one of it, what shows that, what to do.

use std::time::{Duration, UNIX_EPOCH};

use super::known::{self, Authority};
use super::{Certificate, MAX_CHAIN, NameMatch, names};

/// What the check of a chain found. The check itself is rustls's, or the other side's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The chain leads to no trusted root.
    UnknownIssuer,
    /// A certificate's time is over.
    Expired,
    /// A certificate's time has not come.
    NotYetValid,
    /// The certificate does not name the host.
    BadName,
    /// A signature in the chain is wrong.
    BadSignature,
    /// A certificate is on a revocation list.
    Revoked,
    /// The certificate may not be used for this.
    WrongPurpose,
    /// A key or a signature is too weak.
    WeakKey,
    /// An authority's certificate is used as a server's or a client's.
    CaAsEndEntity,
    /// The certificate is its own issuer and is not trusted itself.
    SelfSigned,
    /// A certificate can't be read.
    Malformed,
    /// A certificate is of X.509 version 1, and pgwhy can't verify it in this chain.
    VersionOne,
    /// Something else, in the checker's words.
    Other(String),
}

/// What is known of a trusted root: enough to say why it does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootSummary {
    /// What people call it.
    pub title: String,
    /// The DER form of its name.
    pub subject_der: Vec<u8>,
    /// The last second in which it is valid.
    pub not_after: i64,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// SHA-256 of its key.
    pub key_sha256: [u8; 32],
}

impl RootSummary {
    /// The summary of a root that was read.
    pub fn of(root: &Certificate) -> Self {
        Self {
            title: root.title(),
            subject_der: root.subject.der.clone(),
            not_after: root.not_after,
            sha256: root.sha256,
            key_sha256: root.key_sha256,
        }
    }
}

/// A verdict in words. Text of the certificates is in it as it came: escape it where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Which certificate of the chain it is about, from 0, the server's or client's own.
    pub certificate: Option<usize>,
    /// The id of the cause in docs/causes.toml.
    pub cause: &'static str,
    /// The id of its variant, where one fits.
    pub variant: Option<&'static str>,
    /// What shows it, the strongest first; never empty.
    pub evidence: Vec<String>,
    /// What to do; never empty.
    pub fix: Vec<String>,
}

/// Explains why a server's chain was not accepted. `chain` is what the server sent, its own
/// certificate first; `host` is the name that was dialled; `now` the checker's clock.
pub fn explain(
    chain: &[Vec<u8>],
    host: Option<&str>,
    roots: &[RootSummary],
    now: i64,
    fault: &Fault,
) -> Explanation {
    Case::new(chain, roots, now, Whose::Server).explain(host, fault)
}

/// Explains why a client's chain was not accepted, by a server or by pgwhy with `--tls-client-ca`.
pub fn explain_client(chain: &[Vec<u8>], roots: &[RootSummary], now: i64, fault: &Fault) -> Explanation {
    Case::new(chain, roots, now, Whose::Client).explain(None, fault)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Server,
    Client,
}

impl Whose {
    fn cause(self) -> &'static str {
        match self {
            Self::Server => "server_cert_untrusted",
            Self::Client => "client_cert_rejected",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

struct Case<'a> {
    /// As far as it can be read.
    chain: Vec<Certificate>,
    /// The first that can't be read, and why.
    unreadable: Option<(usize, String)>,
    roots: &'a [RootSummary],
    now: i64,
    whose: Whose,
}

impl<'a> Case<'a> {
    fn new(chain: &[Vec<u8>], roots: &'a [RootSummary], now: i64, whose: Whose) -> Self {
        let (mut read, mut unreadable) = (Vec::new(), None);
        for (at, der) in chain.iter().take(MAX_CHAIN).enumerate() {
            match Certificate::parse(der) {
                Ok(certificate) => read.push(certificate),
                Err(problem) => {
                    unreadable = Some((at, problem.to_string()));
                    break;
                }
            }
        }
        Self { chain: read, unreadable, roots, now, whose }
    }

    fn explain(&self, host: Option<&str>, fault: &Fault) -> Explanation {
        let Some(leaf) = self.chain.first() else { return self.nothing_read(fault) };
        let mut found = match fault {
            Fault::UnknownIssuer | Fault::SelfSigned => self.unknown_issuer(leaf),
            Fault::Expired | Fault::NotYetValid => self.dates(*fault == Fault::Expired),
            Fault::BadName => self.bad_name(leaf, host),
            Fault::BadSignature => self.bad_signature(),
            Fault::Revoked => self.plain(
                "the revocation list names a certificate of this chain".to_owned(),
                format!("the {} needs a new certificate; a list that is out of date is replaced in --server-crl FILE (libpq: sslcrl)", self.whose.noun()),
            ),
            Fault::WrongPurpose => self.wrong_purpose(leaf),
            Fault::WeakKey => self.weak(),
            Fault::CaAsEndEntity => self.authority_as_leaf(leaf),
            Fault::Malformed => self.malformed(),
            Fault::VersionOne => self.version_one(),
            Fault::Other(text) => self.plain(
                format!("the check of the chain says: {text}"),
                "look at the chain with `openssl x509 -text` for each certificate".to_owned(),
            ),
        };
        found.cause = self.whose.cause();
        found.variant = found.variant.and_then(|variant| self.variant(variant));
        found.evidence.push(self.about(leaf));
        found
    }

    /// The client's cause has fewer variants; what has none of its own is told by the evidence.
    fn variant(&self, variant: &'static str) -> Option<&'static str> {
        match (self.whose, variant) {
            (Whose::Server, variant) | (Whose::Client, variant @ ("unknown_ca" | "expired")) => Some(variant),
            (Whose::Client, "self_signed" | "intercepted") => Some("unknown_ca"),
            (Whose::Client, _) => None,
        }
    }

    fn nothing_read(&self, fault: &Fault) -> Explanation {
        let noun = self.whose.noun();
        let (evidence, fix) = match &self.unreadable {
            Some((_, why)) => (
                format!("the {noun}'s certificate can't be read: {why}"),
                format!("give the {noun} a certificate that `openssl x509 -text` can read"),
            ),
            None => (
                format!("the {noun} sent no certificate ({fault:?})"),
                match self.whose {
                    Whose::Server => "a server with TLS has one: look at ssl_cert_file".to_owned(),
                    Whose::Client => "give the client sslcert and sslkey".to_owned(),
                },
            ),
        };
        let cause = match (self.whose, &self.unreadable) {
            (Whose::Client, None) => "client_cert_missing",
            (whose, _) => whose.cause(),
        };
        Explanation { cause, evidence: vec![evidence], fix: vec![fix], ..Explanation::default() }
    }

    fn plain(&self, evidence: String, fix: String) -> Explanation {
        Explanation {
            certificate: Some(0),
            evidence: vec![evidence],
            fix: vec![fix],
            ..Explanation::default()
        }
    }

    /// The sentence that every explanation ends its evidence with.
    fn about(&self, leaf: &Certificate) -> String {
        format!(
            "the {}'s certificate is for {}, issued by {}, valid from {} to {}, {} bits {}, SHA-256 {}",
            self.whose.noun(),
            leaf.title(),
            leaf.issuer.rfc2253,
            date(leaf.not_before),
            date(leaf.not_after),
            leaf.key_bits,
            leaf.key,
            leaf.fingerprint()
        )
    }

    /// How far the chain leads by its names: the last certificate that the others lead up to.
    fn top(&self) -> Option<(usize, &Certificate)> {
        let mut at = 0;
        for _ in 0..self.chain.len() {
            let current = self.chain.get(at)?;
            if current.self_issued {
                break;
            }
            let issuer =
                |other: &(usize, &Certificate)| other.0 != at && other.1.subject.der == current.issuer.der;
            match self.chain.iter().enumerate().find(issuer) {
                Some((next, _)) => at = next,
                None => break,
            }
        }
        self.chain.get(at).map(|top| (at, top))
    }

    fn unknown_issuer(&self, leaf: &Certificate) -> Explanation {
        let (at, top) = self.top().unwrap_or((0, leaf));
        let known = self.chain.iter().find_map(known::authority);
        let trusted = match self.roots.len() {
            0 => "there are no trusted roots".to_owned(),
            1 => format!("the only trusted root is {}", self.roots.first().map_or("?", |root| &root.title)),
            count => format!("none of the {count} trusted roots is it"),
        };
        let namesake = self.roots.iter().find(|root| root.subject_der == top.issuer.der);
        let evidence = if let Some(root) = namesake.filter(|root| root.sha256 != top.sha256) {
            self.namesake(root, top)
        } else if leaf.self_issued {
            format!("the {}'s certificate is its own issuer, {}; {trusted}", self.whose.noun(), leaf.title())
        } else if top.self_issued {
            format!("the chain ends in {}, which signed itself; {trusted}", top.title())
        } else {
            self.issuer_missing(top, &trusted)
        };
        let variant = match known {
            Some(authority) if authority.opens_tls => "intercepted",
            _ if leaf.self_issued => "self_signed",
            _ => "unknown_ca",
        };
        let mut evidence = vec![evidence];
        evidence.extend(known.map(|authority| format!("such a name belongs to {}", authority.owner)));
        let fix = self.trust(leaf, top, known);
        Explanation { certificate: Some(at), variant: Some(variant), evidence, fix, ..Explanation::default() }
    }

    fn namesake(&self, root: &RootSummary, top: &Certificate) -> String {
        if root.not_after < self.now {
            return format!(
                "the trusted root {} ended on {}, and now it is {}",
                root.title,
                date(root.not_after),
                date(self.now)
            );
        }
        match top.self_issued && root.key_sha256 != top.key_sha256 {
            true => {
                format!("a root named {} is trusted, and the one of this chain has another key", root.title)
            }
            false => format!(
                "a root named {} is trusted, and its key did not sign {}: the authority was made anew under its old name",
                root.title,
                top.title()
            ),
        }
    }

    fn issuer_missing(&self, top: &Certificate, trusted: &str) -> String {
        let issuer = &top.issuer.rfc2253;
        let sent = match self.chain.len() {
            1 => format!("the {} sent only its own certificate", self.whose.noun()),
            count => format!("the {} sent {count} certificates", self.whose.noun()),
        };
        format!(
            "{} was issued by {issuer}, which was not sent and is not trusted: {sent}, and {trusted}",
            top.title()
        )
    }

    fn trust(&self, leaf: &Certificate, top: &Certificate, known: Option<&Authority>) -> Vec<String> {
        if self.whose == Whose::Client {
            return vec![
                "the server trusts the authorities in ssl_ca_file, pgwhy those of --tls-client-ca FILE: add the issuer there, or give the client a certificate of one of them".to_owned(),
            ];
        }
        let mut fix = Vec::new();
        match known {
            Some(authority) if authority.opens_tls => fix.push(
                "something between here and the server opens TLS: take the server out of its inspection, or trust its authority".to_owned(),
            ),
            Some(authority) if authority.in_system_roots => fix.push(format!(
                "trust the system's roots: --server-ca system (libpq 16 and newer: sslrootcert=system); from {}",
                authority.bundle
            )),
            Some(authority) => fix.push(format!(
                "take the authority's certificate from {} and give it as --server-ca FILE (libpq: sslrootcert=FILE)",
                authority.bundle
            )),
            None if leaf.self_issued => fix.push(format!(
                "trust this certificate itself, if its SHA-256 is the server's: put the server's server.crt into --server-ca FILE (libpq: sslrootcert=FILE); {}",
                "or let an authority sign a new one"
            )),
            None => fix.push(format!(
                "put the certificate of {} into --server-ca FILE (libpq: sslrootcert=FILE)",
                top.issuer.rfc2253
            )),
        }
        fix.extend(known.filter(|authority| !authority.note.is_empty()).map(|found| found.note.to_owned()));
        if !top.self_issued && !self.chain.iter().any(|other| other.subject.der == top.issuer.der) {
            fix.push(format!(
                "if {} is no root: let the server send it too, behind its own certificate in ssl_cert_file",
                top.issuer.rfc2253
            ));
        }
        fix
    }

    fn dates(&self, expired: bool) -> Explanation {
        let variant = Some(if expired { "expired" } else { "not_yet_valid" });
        let wrong = |certificate: &Certificate| match expired {
            true => certificate.not_after < self.now,
            false => certificate.not_before > self.now,
        };
        let found = self.chain.iter().enumerate().find(|(_, certificate)| wrong(certificate));
        let old_root = || {
            let top = self.top()?.1;
            self.roots.iter().find(|root| root.subject_der == top.issuer.der && root.not_after < self.now)
        };
        let now = date(self.now);
        let (certificate, evidence, fix) = match (found, old_root()) {
            (Some((at, one)), _) => (Some(at), self.date_sentence(at, one, expired), self.renew(at, expired)),
            (None, Some(root)) if expired => (
                None,
                format!(
                    "the trusted root {} ended on {}; here it is {now}",
                    root.title,
                    date(root.not_after)
                ),
                "replace the old root in --server-ca FILE (libpq: sslrootcert)".to_owned(),
            ),
            _ => (
                None,
                format!("by this machine's clock, {now}, every certificate of the chain is within its time"),
                "the clock of who refused it is wrong: set it (NTP)".to_owned(),
            ),
        };
        Explanation {
            certificate,
            variant,
            evidence: vec![evidence],
            fix: vec![fix],
            ..Explanation::default()
        }
    }

    fn date_sentence(&self, at: usize, certificate: &Certificate, expired: bool) -> String {
        let what = match at {
            0 => format!("the {}'s certificate", self.whose.noun()),
            _ => format!("the certificate of {} in the chain", certificate.title()),
        };
        match expired {
            true => format!(
                "{what} ended on {}; here it is {}, {} later",
                date(certificate.not_after),
                date(self.now),
                span(self.now.saturating_sub(certificate.not_after))
            ),
            false => format!(
                "{what} begins on {}; here it is {}, {} too early",
                date(certificate.not_before),
                date(self.now),
                span(certificate.not_before.saturating_sub(self.now))
            ),
        }
    }

    fn renew(&self, at: usize, expired: bool) -> String {
        if !expired {
            return "set the clock of this machine (NTP); if it is right, the clock of who issued the certificate was wrong, or it was issued for later".to_owned();
        }
        match (self.whose, at) {
            (Whose::Server, 0) => {
                "renew the server's certificate (ssl_cert_file) and reload it: SELECT pg_reload_conf()"
                    .to_owned()
            }
            (Whose::Server, _) => {
                "put the authority's current certificate behind the server's own in ssl_cert_file, and reload"
                    .to_owned()
            }
            (Whose::Client, _) => "give the client a new certificate (sslcert, sslkey)".to_owned(),
        }
    }

    fn bad_name(&self, leaf: &Certificate, host: Option<&str>) -> Explanation {
        let host = host.unwrap_or_default();
        let evidence = match names::matches(host, leaf) {
            NameMatch::Fits(name) => format!(
                "by libpq's rules {host} fits «{name}» in the certificate; who refused it has stricter ones (a common name does not count, or an address must be an IP name)"
            ),
            NameMatch::Others { .. } => {
                format!("the certificate is for {}, and {host} was dialled", listed(leaf))
            }
            NameMatch::Nameless => format!("the certificate names no host at all, and {host} was dialled"),
            NameMatch::Broken(why) => why,
            NameMatch::NoHost => {
                "no host name was dialled, so there is nothing to compare the certificate with".to_owned()
            }
        };
        let mut fix = Vec::new();
        if let Some(name) = leaf.names.iter().map(ToString::to_string).find(|name| !name.starts_with('*')) {
            fix.push(format!(
                "connect to {name}, a name in the certificate (libpq: host={name} hostaddr=ADDRESS)"
            ));
        }
        fix.push(format!("or have {host} among the certificate's subject alternative names"));
        fix.extend(known::authority(leaf).filter(|known| !known.note.is_empty()).map(|k| k.note.to_owned()));
        fix.push("without the name's check: --server-tls verify-ca (libpq: sslmode=verify-ca)".to_owned());
        Explanation {
            certificate: Some(0),
            variant: Some("hostname_mismatch"),
            evidence: vec![evidence],
            fix,
            ..Explanation::default()
        }
    }

    fn bad_signature(&self) -> Explanation {
        let pair = self.chain.windows(2).find_map(|pair| match pair {
            [one, issuer] if one.issuer.der != issuer.subject.der => Some((one, issuer)),
            _ => None,
        });
        let evidence = match pair {
            Some((one, next)) => format!(
                "{} was issued by {}, and the certificate sent behind it is {}'s",
                one.title(),
                one.issuer.rfc2253,
                next.title()
            ),
            None => "a signature in the chain was not made with the key of the certificate that claims it"
                .to_owned(),
        };
        self.plain(
            evidence,
            "two authorities may share one name: give the certificates of the one that signed (ssl_cert_file, --server-ca FILE)".to_owned(),
        )
    }

    fn wrong_purpose(&self, leaf: &Certificate) -> Explanation {
        let allowed = match leaf.extended_key_usage {
            Some(purposes) if purposes.client && !purposes.server => "TLS clients only",
            Some(purposes) if purposes.server && !purposes.client => "TLS servers only",
            Some(_) => "other purposes only",
            None => "any purpose, and one of its authorities for fewer",
        };
        let purpose = match self.whose {
            Whose::Server => "serverAuth",
            Whose::Client => "clientAuth",
        };
        self.plain(
            format!("the {}'s certificate is for {allowed} (extended key usage)", self.whose.noun()),
            format!("have one issued with extendedKeyUsage={purpose}"),
        )
    }

    fn weak(&self) -> Explanation {
        let weak = |certificate: &Certificate| {
            let small = match certificate.key {
                super::KeyKind::Ec(_) | super::KeyKind::Ed25519 | super::KeyKind::Ed448 => 224,
                _ => 2048,
            };
            certificate.key_bits < small || (certificate.weak_signature && !certificate.self_issued)
        };
        let found = self.chain.iter().enumerate().find(|(_, certificate)| weak(certificate));
        let (at, one) = match found {
            Some(found) => found,
            None => {
                return self.plain(
                    "a key or signature of the chain is of a kind that who checked it does not take"
                        .to_owned(),
                    "RSA from 2048 bits on or EC prime256v1, signed with SHA-256, is taken everywhere"
                        .to_owned(),
                );
            }
        };
        let evidence = format!(
            "the certificate of {} has a key of {} bits ({}) and is signed with {}",
            one.title(),
            one.key_bits,
            one.key,
            one.signature_algorithm
        );
        let mut weak = self.plain(
            evidence,
            "have a new one made: RSA from 2048 bits on or EC prime256v1, signed with SHA-256".to_owned(),
        );
        weak.certificate = Some(at);
        weak
    }

    fn authority_as_leaf(&self, leaf: &Certificate) -> Explanation {
        let mut found = self.plain(
            format!("the {}'s own certificate is an authority's (CA:TRUE)", self.whose.noun()),
            "trust exactly this certificate: put it into --server-ca FILE; or have one issued with basicConstraints=CA:FALSE".to_owned(),
        );
        found.variant = leaf.self_issued.then_some("self_signed");
        found
    }

    fn version_one(&self) -> Explanation {
        let found = self.chain.iter().enumerate().find(|(_, certificate)| certificate.version == 1);
        let whose = found.map_or_else(
            || "a certificate of the chain".to_owned(),
            |(at, one)| match at {
                0 => format!("the {}'s certificate", self.whose.noun()),
                _ => format!("the certificate of {} in the chain", one.title()),
            },
        );
        let mut old = self.plain(
            format!(
                "{whose} is of X.509 version 1 (`openssl x509 -req` without extensions makes such), which pgwhy's TLS library does not read: pgwhy verifies it only where a trusted root signed it itself and no revocation list is given; libpq does in every chain"
            ),
            "have it issued with extensions, which makes it version 3 (`openssl x509 -req … -extfile FILE`)".to_owned(),
        );
        old.certificate = found.map(|(at, _)| at);
        if let Some((0, leaf)) = found {
            old.fix.push(format!(
                "or put the certificate of {} itself into --{}-ca FILE",
                leaf.issuer.rfc2253,
                match self.whose {
                    Whose::Server => "server",
                    Whose::Client => "tls-client",
                }
            ));
        }
        old
    }

    fn malformed(&self) -> Explanation {
        let evidence = match &self.unreadable {
            Some((at, why)) => format!("certificate {} of the chain can't be read: {why}", at + 1),
            None => "a certificate of the chain breaks the standard's rules (RFC 5280)".to_owned(),
        };
        let mut found = self.plain(evidence, "have it issued anew by current software".to_owned());
        found.certificate = self.unreadable.as_ref().map(|(at, _)| *at);
        found
    }
}

/// The names of a certificate, as many as a reader takes in.
fn listed(certificate: &Certificate) -> String {
    const SHOWN: usize = 8;
    if certificate.names.is_empty() {
        let name = certificate.subject.common_name.as_deref().unwrap_or("nobody");
        return format!("{name} (its common name; it has no subject alternative names)");
    }
    let shown: Vec<_> = certificate.names.iter().take(SHOWN).map(ToString::to_string).collect();
    match certificate.names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A time in the notation of RFC 3339, clamped to the years that it can write.
fn date(seconds: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A time span in the largest unit that fits.
fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) = UNITS.iter().find(|(size, _)| seconds >= *size).copied().unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
