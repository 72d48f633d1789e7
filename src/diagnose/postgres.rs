//! Telling PostgreSQL's own errors apart where SQLSTATE and routine are the same: first by the words
//! that stay the same in every language, then by English text, then by the source line.
//!
//! The lines were read off servers 14.23, 15.20, 16.14, 17.10 and 18.4.

use crate::handshake::record::ErrorSeen;

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
    use super::*;

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
    fn an_unknown_language_never_makes_a_role_certain() {
        let german = error("Rolle »x« existiert nicht", "804");
        assert_eq!(role_refusal(&german), Some((RoleRefusal::Missing, false)));
        assert_eq!(
            role_refusal(&error("role \"x\" does not exist", "1")),
            Some((RoleRefusal::Missing, true))
        );
    }
}
