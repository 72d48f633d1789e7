//! What programs do to a string on its way: pure functions from a password to what came out.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC};

/// Characters that a URL reserves and that people therefore escape by hand, one kind at a time.
pub(super) const SPECIAL: &str = "@#/?:&%$!+=;,\"'`\\ ^*()[]{}<>|~.-_";

/// JavaScript's encodeURIComponent (ECMA-262, 19.2.6.4).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
/// Everything but RFC 3986's unreserved characters: Python's quote(safe=""), PHP's rawurlencode.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Python's quote(), which leaves the slash.
const QUOTE: &AsciiSet = &UNRESERVED.remove(b'/');
/// The userinfo set of the WHATWG URL standard.
const USERINFO: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'=')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'|');
/// JavaScript's encodeURI, which leaves the reserved characters.
const WHOLE_URI: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b',')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'#');
/// RFC 3986's gen-delims and the percent sign: what someone escapes who escapes only what must be.
const RESERVED_ONLY: &AsciiSet =
    &AsciiSet::EMPTY.add(b'%').add(b':').add(b'/').add(b'?').add(b'#').add(b'[').add(b']').add(b'@');

/// Percent-encodings of `text`, with the name of who encodes like that.
pub(super) fn percent_encodings(text: &str) -> Vec<(String, String)> {
    let sets = [
        (COMPONENT, "as encodeURIComponent does"),
        (UNRESERVED, "everything but letters, digits and -._~"),
        (RESERVED_ONLY, "only its reserved characters"),
        (QUOTE, "as Python's quote() does"),
        (USERINFO, "as a URL object does"),
        (WHOLE_URI, "as encodeURI does"),
    ];
    let mut all: Vec<(String, String)> = sets
        .iter()
        .map(|(set, how)| (percent_encoding::utf8_percent_encode(text, set).to_string(), (*how).to_owned()))
        .collect();
    let plus = all[1].0.replace("%20", "+");
    // With no % in it this is the other mistake, space_as_plus.
    if plus.contains('%') {
        all.push((plus, "as a form encodes it".to_owned()));
    }
    for special in SPECIAL.chars().filter(|c| text.contains(*c)) {
        let code = format!("%{:02X}", u32::from(special));
        all.push((text.replace(special, &code), format!("only its «{special}»")));
    }
    let lower: Vec<_> =
        all.iter().map(|(text, how)| (lower_hex(text), format!("{how}, lower-case digits"))).collect();
    all.extend(lower);
    let twice = percent_encoding::utf8_percent_encode(&all[0].0, UNRESERVED).to_string();
    all.push((twice, "twice".to_owned()));
    all
}

fn lower_hex(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let cut = piece.char_indices().nth(2).map_or(piece.len(), |(at, _)| at);
        out.push('%');
        out.push_str(&piece[..cut].to_ascii_lowercase());
        out.push_str(&piece[cut..]);
    }
    out
}

/// Decodes every valid `%XX` and leaves the others, as Python's unquote and libpq's victims do.
pub(super) fn percent_decode(text: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(text).collect()
}

/// What a shell, a compose file or dotenv-expand makes of `$name` in a string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expander {
    /// sh and bash: also `$1`, `$?` and the like; `$$` is the process id, which nobody knows here.
    Shell,
    /// dotenv-expand, Vite, Next.js: only names; a `$` before anything else stays.
    Dotenv,
    /// Docker Compose: `$$` is how it spells one `$`.
    Compose,
}

/// What a variable's value is, if it has one.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `text` cut at its process ids, with everything else that `expander` knows replaced by what
/// `lookup` says (nothing, for an unknown name).
pub(super) fn expand(text: &str, expander: Expander, lookup: Lookup<'_>) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        push(&mut parts, &rest[..at]);
        let after = &rest[at + 1..];
        let used = match (expander, after.chars().next()) {
            (Expander::Shell, Some('$')) => {
                parts.push(String::new());
                1
            }
            (Expander::Compose, Some('$')) => {
                push(&mut parts, "$");
                1
            }
            (_, Some('{')) => braces(after, lookup, &mut parts),
            (Expander::Shell, Some('?' | '#')) => {
                push(&mut parts, "0");
                1
            }
            (Expander::Shell, Some('*' | '@' | '!' | '0'..='9')) => 1,
            _ => name(after, lookup, &mut parts),
        };
        rest = &after[used..];
    }
    push(&mut parts, rest);
    parts
}

fn push(parts: &mut [String], text: &str) {
    if let Some(last) = parts.last_mut() {
        last.push_str(text);
    }
}

/// `{name}` or `{name:-default}` behind a `$`; an unclosed brace stays as it is.
fn braces(after: &str, lookup: Lookup<'_>, parts: &mut [String]) -> usize {
    let Some(end) = after.find('}') else {
        push(parts, "$");
        return 0;
    };
    let inside = &after[1..end];
    let (key, default) = inside.split_once('-').unwrap_or((inside, ""));
    let value = lookup(key.trim_end_matches(':'));
    push(parts, value.as_deref().unwrap_or(default));
    end + 1
}

fn name(after: &str, lookup: Lookup<'_>, parts: &mut [String]) -> usize {
    let starts = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts {
        push(parts, "$");
        return 0;
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    push(parts, &lookup(&after[..end]).unwrap_or_default());
    end
}

/// A backslash before every character that `special` accepts.
pub(super) fn escape(text: &str, special: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// `\x` becomes x; with `c_escapes`, `\n`, `\r`, `\t` and `\0`… become the characters they name.
pub(super) fn unescape(text: &str, c_escapes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match (c, c_escapes) {
            ('\\', false) => chars.next().unwrap_or('\\'),
            ('\\', true) => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('v') => '\u{b}',
                Some('a') => '\u{7}',
                Some(other) => other,
                None => '\\',
            },
            (c, _) => c,
        });
    }
    out
}

/// Caps Lock: upper and lower swapped, letters without a single counterpart left alone.
pub(super) fn swap_case(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut swapped: Box<dyn Iterator<Item = char>> =
                if c.is_lowercase() { Box::new(c.to_uppercase()) } else { Box::new(c.to_lowercase()) };
            match (swapped.next(), swapped.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        })
        .collect()
}

/// The first letter in the other case, as keyboards of phones like it.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `text` written in Latin-1 (or Windows-1252 with `windows`); `None` when a character has no place.
pub(super) fn to_latin1(text: &str, windows: bool) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| match u8::try_from(u32::from(c)) {
            Ok(byte) if !windows || !(0x80..0xa0).contains(&byte) => Some(byte),
            _ if windows => {
                WINDOWS_1252.iter().position(|w| *w == c).and_then(|at| u8::try_from(0x80 + at).ok())
            }
            _ => None,
        })
        .collect()
}

/// The UTF-8 bytes of `text` read as Latin-1 (or Windows-1252): é becomes Ã©.
pub(super) fn from_latin1(text: &str, windows: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            0x80..=0x9f if windows => WINDOWS_1252[usize::from(byte - 0x80)],
            byte => char::from(byte),
        })
        .collect()
}

/// 0x80 to 0x9F of Windows-1252 as the WHATWG encoding standard maps them.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[track_caller]
    fn check(text: &str, expander: Expander, expected: &[&str]) {
        assert_eq!(expand(text, expander, &nothing), expected, "{text}");
    }

    #[test]
    fn expansion_as_failures_3_4_measured_it() {
        check("pa$ss", Expander::Dotenv, &["pa"]);
        check("pa$ss", Expander::Shell, &["pa"]);
        check("pa$$ss", Expander::Dotenv, &["pa$"]);
        check("pa$$ss", Expander::Shell, &["pa", "ss"]);
        check("pa$$ss", Expander::Compose, &["pa$ss"]);
        check("a${b}c$1d", Expander::Shell, &["acd"]);
        check("a${b:-x}c${", Expander::Dotenv, &["axc${"]);
        check("5$", Expander::Shell, &["5$"]);
    }

    #[test]
    fn small_changes() {
        assert_eq!(lower_hex("A%2FB%C3é%"), "A%2fB%c3é%");
        assert_eq!(unescape("a\\n\\\\b\\", false), "an\\b\\");
        assert_eq!(unescape("a\\n\\\\b\\", true), "a\n\\b\\");
        assert_eq!(swap_case("aBß1"), "AbSS1".replace("SS", "ß"));
        assert_eq!(to_latin1("é€", true), Some(vec![0xe9, 0x80]));
        assert_eq!(to_latin1("é€", false), None);
        assert_eq!(from_latin1("é", false), "Ã©");
        assert_eq!(hex(&[0, 0xfe]), "00fe");
        assert_eq!(percent_decode(b"50%off%2Fx%"), b"50%off/x%");
    }
}
