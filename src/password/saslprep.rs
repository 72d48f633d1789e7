//! SASLprep (RFC 4013) as PostgreSQL does it: `pg_saslprep` in `src/common/saslprep.c`.
//!
//! It differs from the RFC, and from `stringprep::saslprep`, in four ways: any ASCII string passes
//! untouched (control characters too); prohibited, unassigned and bidirectional characters are
//! looked for *before* normalisation; a password that maps to nothing is refused; and whoever
//! calls it takes the password as written when it fails. Drivers with a strict SASLprep thus send
//! another proof for a few passwords: [`prepare_strictly`].

use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;

use crate::secret::Secret;

/// The prepared form, or `None` when that is the password as written: because nothing changed, or
/// because `pg_saslprep` failed (invalid UTF-8, prohibited characters) and its callers fall back.
pub fn prepare(password: &[u8]) -> Option<Secret<Vec<u8>>> {
    if password.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(password).ok()?;
    let mapped = Secret::new(text.chars().filter_map(map).collect::<String>());
    if mapped.expose().is_empty() || mapped.expose().chars().any(prohibited) || bidi_forbids(mapped.expose())
    {
        return None;
    }
    changed(password, mapped.expose().nfkc().collect())
}

/// The form of a client that follows RFC 4013 to the letter, where it differs from the password as
/// written; `None` also when such a client would refuse the password.
pub fn prepare_strictly(password: &[u8]) -> Option<Secret<Vec<u8>>> {
    let text = std::str::from_utf8(password).ok()?;
    changed(password, stringprep::saslprep(text).ok()?.into_owned())
}

fn changed(password: &[u8], prepared: String) -> Option<Secret<Vec<u8>>> {
    let prepared = Secret::new(prepared.into_bytes());
    (prepared.expose().as_slice() != password).then_some(prepared)
}

/// Step 1, mapping. The space table is asked first, as PostgreSQL does: U+200B is in both.
fn map(c: char) -> Option<char> {
    match c {
        c if tables::non_ascii_space_character(c) => Some(' '),
        c if tables::commonly_mapped_to_nothing(c) => None,
        c => Some(c),
    }
}

/// `prohibited_output_ranges` and `unassigned_codepoint_ranges`.
fn prohibited(c: char) -> bool {
    tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// RFC 3454 section 6, as `pg_saslprep` applies it.
fn bidi_forbids(text: &str) -> bool {
    if !text.chars().any(tables::bidi_r_or_al) {
        return false;
    }
    let ends = [text.chars().next(), text.chars().next_back()];
    text.chars().any(tables::bidi_l) || ends.into_iter().flatten().any(|c| !tables::bidi_r_or_al(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(claim: &str, password: &str, prepared: Option<&str>) {
        let got = prepare(password.as_bytes());
        assert_eq!(got.as_ref().map(|p| p.expose().as_slice()), prepared.map(str::as_bytes), "{claim}");
    }

    #[test]
    fn prepared_like_pg_saslprep() {
        // RFC 4013 section 3, then what src/test/authentication/t/002_saslprep.pl adds.
        check("soft hyphen is mapped to nothing", "I\u{AD}X", Some("IX"));
        check("ASCII is left alone", "user", None);
        check("case is preserved", "USER", None);
        check("NFKC", "\u{AA}", Some("a"));
        check("NFKC of a roman numeral", "\u{2168}", Some("IX"));
        check("ASCII control characters pass in ASCII", "\u{7}", None);
        check("a control character beside non-ASCII is prohibited: as written", "é\u{7}", None);
        check("bidirectional check fails: as written", "\u{627}\u{31}", None);
        check("non-ASCII space", "a\u{A0}b", Some("a b"));
        check("zero-width space is a space, not nothing", "a\u{200B}b", Some("a b"));
        check("maps to nothing at all: as written", "\u{AD}", None);
        check("byte order mark is mapped to nothing", "\u{FEFF}pw", Some("pw"));
        check("decomposed becomes composed", "e\u{301}", Some("é"));
        check("unassigned in Unicode 3.2: as written", "a\u{1F130}", None);
        assert!(prepare(b"a\xe9").is_none());
    }

    #[test]
    fn a_strict_client_prepares_more() {
        // U+1F130 is unassigned in Unicode 3.2, but its NFKC form is a plain "A".
        let strict = prepare_strictly("a\u{1F130}".as_bytes()).unwrap();
        assert_eq!(strict.expose(), b"aA");
    }
}
