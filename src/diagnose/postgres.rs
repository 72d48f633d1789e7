//! Telling PostgreSQL's own errors apart where SQLSTATE and routine are the same: first by the words
//! that stay the same in every language, then by English text, then by the source line.
//!
//! The lines were read off servers 14.23, 15.20, 16.14, 17.10 and 18.4.

use crate::handshake::Record;
use crate::handshake::record::ErrorSeen;

/// The startup parameter `replication`, as `ProcessStartupPacket` reads it: the word `database`, or a Boolean of
/// `parse_bool`. `None` where it is absent or no.
pub(super) fn replication(record: &Record) -> Option<Replication> {
    let value = record.startup.as_ref()?.get("replication")?;
    if value == b"database" {
        return Some(Replication::Database);
    }
    let value = value.to_ascii_lowercase();
    // Any beginning of these words, `o` aside, which might be either.
    let is_no = [b"false".as_slice(), b"no", b"off"].iter().any(|word| word.starts_with(&value));
    let is_no = value == b"0" || (is_no && !matches!(value.as_slice(), b"" | b"o"));
    (!is_no).then_some(Replication::Physical)
}

/// What a replication connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replication {
    /// Logical decoding, in a database.
    Database,
    /// The WAL of the whole server; pg_hba.conf has its own keyword for these.
    Physical,
}

/// The message without the client's own words in it, which may look like anything.
pub(super) fn without_name(message: &[u8], name: &[u8]) -> Vec<u8> {
    let at = message.windows(name.len().max(1)).position(|part| part == name);
    let Some(at) = at.filter(|_| !name.is_empty()) else { return message.to_vec() };
    [message.get(..at), message.get(at + name.len()..)].into_iter().flatten().collect::<Vec<_>>().concat()
}

/// Why `ClientAuthentication` (auth.c) refused before it asked for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HbaRefusal {
    /// No line matches (`uaImplicitReject`).
    NoEntry,
    /// A `reject` line matches (`uaReject`).
    Reject,
    /// The matching line wants a client certificate.
    CertificateWanted,
}

/// Reads the refusal of `ClientAuthentication`.
pub(super) fn hba_refusal(error: &ErrorSeen) -> Option<HbaRefusal> {
    let message = error.get(b'M').unwrap_or_default();
    if contains(message, b"no pg_hba.conf entry") {
        return Some(HbaRefusal::NoEntry);
    }
    if contains(message, b"pg_hba.conf rejects") {
        return Some(HbaRefusal::Reject);
    }
    if contains(message, b"requires a valid client certificate") {
        return Some(HbaRefusal::CertificateWanted);
    }
    // Translations keep the file's name in both refusals by rule, and only there. The `reject` arm
    // stands some 70 lines before the other: 468 to 491 against 528 to 560 in 14 to 18.
    if !contains(message, b"pg_hba.conf") {
        return Some(HbaRefusal::CertificateWanted);
    }
    match line(error)? {
        455..=505 => Some(HbaRefusal::Reject),
        515..=575 => Some(HbaRefusal::NoEntry),
        _ => None,
    }
}

/// What `InitializeSessionUserId` (miscinit.c) refuses with 28000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoleRefusal {
    /// There is no such role.
    Missing,
    /// The role may not log in.
    NoLogin,
}

/// Reads the refusal of `InitializeSessionUserId`; `true` where it is certain.
pub(super) fn role_refusal(error: &ErrorSeen) -> Option<(RoleRefusal, bool)> {
    let message = error.get(b'M').unwrap_or_default();
    if contains(message, b"does not exist") {
        return Some((RoleRefusal::Missing, true));
    }
    if contains(message, b"is not permitted to log in") {
        return Some((RoleRefusal::NoLogin, true));
    }
    // Missing at 755, 801, 799, 804 and no login at 809, 855, 854, 859 in 14, 16, 17, 18: the two
    // ranges nearly touch, so the line alone is never certain.
    match line(error)? {
        730..=806 => Some((RoleRefusal::Missing, false)),
        807..=880 => Some((RoleRefusal::NoLogin, false)),
        _ => None,
    }
}

/// The source line that raised the error.
fn line(error: &ErrorSeen) -> Option<u32> {
    std::str::from_utf8(error.get(b'L')?).ok()?.parse().ok()
}

/// Whether `text` contains `part`.
pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::handshake::record::StartupSeen;

    fn error(message: &str, line: &str) -> ErrorSeen {
        let fields = vec![(b'M', message.as_bytes().to_vec()), (b'L', line.as_bytes().to_vec())];
        ErrorSeen { fields, ..ErrorSeen::default() }
    }

    #[test]
    fn refusals_are_told_apart_in_any_language() {
        let german = "kein pg_hba.conf-Eintrag für Host »127.0.0.1«, Benutzer »x«, Datenbank »y«";
        let rejects = "pg_hba.conf lehnt Verbindung ab für Host »127.0.0.1«, Benutzer »x«, Datenbank »y«";
        for (version, reject, none) in [
            (14, "491", "560"),
            (15, "476", "544"),
            (16, "481", "550"),
            (17, "479", "548"),
            (18, "468", "537"),
        ] {
            assert_eq!(hba_refusal(&error(german, none)), Some(HbaRefusal::NoEntry), "{version}");
            assert_eq!(hba_refusal(&error(rejects, reject)), Some(HbaRefusal::Reject), "{version}");
        }
        let wanted = error("Verbindung erfordert ein gültiges Client-Zertifikat", "410");
        assert_eq!(hba_refusal(&wanted), Some(HbaRefusal::CertificateWanted));
    }

    #[test]
    fn replication_is_read_as_the_server_reads_it() {
        for (value, wanted) in [
            ("database", Some(Replication::Database)),
            ("true", Some(Replication::Physical)),
            ("1", Some(Replication::Physical)),
            ("on", Some(Replication::Physical)),
            ("False", None),
            ("f", None),
            ("of", None),
            ("N", None),
            ("0", None),
        ] {
            let parameters = vec![(b"replication".to_vec(), value.as_bytes().to_vec())];
            let startup = StartupSeen { at: Duration::ZERO, version: 3 << 16, parameters };
            let record = Record { startup: Some(startup), ..Record::default() };
            assert_eq!(replication(&record), wanted, "{value}");
        }
    }

    #[test]
    fn an_unknown_language_never_makes_a_role_certain() {
        let german = error("Rolle »x« existiert nicht", "804");
        assert_eq!(role_refusal(&german), Some((RoleRefusal::Missing, false)));
        assert_eq!(
            role_refusal(&error("role \"x\" does not exist", "1")),
            Some((RoleRefusal::Missing, true))
        );
    }
}
