//! Secrets that a log can hold: options of a pg_hba.conf line (`Connection matched …` quotes the
//! whole line) and passwords in statements.

use std::borrow::Cow;

/// Stands where a secret stood.
const MARK: &str = "(hidden)";

/// Options of pg_hba.conf whose values are secrets (`parse_hba_auth_opt` in hba.c).
const SECRET_OPTIONS: [&str; 3] = ["ldapbindpasswd", "radiussecrets", "radiussecret"];

/// The text with every secret value replaced.
pub(super) fn secrets(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    if !SECRET_OPTIONS.iter().chain(&["password"]).any(|name| lower.contains(name)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some((start, end)) = next(text, &lower, at) {
        out.push_str(&text[at..start]);
        out.push_str(MARK);
        at = end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Whether a text ends where a secret was hidden, so that more of it may follow.
pub(super) fn is_open(text: &str) -> bool {
    text.trim_end_matches('"').ends_with(MARK)
}

/// The next secret from `from` on, as a range.
fn next(text: &str, lower: &str, from: usize) -> Option<(usize, usize)> {
    let option = SECRET_OPTIONS.iter().filter_map(|name| option_value(text, lower, name, from));
    option.chain(statement_value(text, lower, from)).min_by_key(|(start, _)| *start)
}

/// `name=value` as hba.c's tokenizer reads it: bare, with the value quoted, or quoted as a whole.
fn option_value(text: &str, lower: &str, name: &str, from: usize) -> Option<(usize, usize)> {
    let mut search = from;
    loop {
        let found = search + lower.get(search..)?.find(name)?;
        let start = found + name.len();
        search = start;
        let Some(value) = text[start..].strip_prefix('=') else { continue };
        let start = start + 1;
        let whole_quoted = text[..found].ends_with('"');
        let end = match value.strip_prefix('"') {
            Some(_) => start + quoted_end(value, 1),
            None if whole_quoted => start + quoted_end(value, 0),
            None => {
                let length = value.find(char::is_whitespace).unwrap_or(value.len());
                // The quote that closes `Connection matched … line N: "…"` is not the option's.
                start + value[..length].trim_end_matches(['"', '»', '”']).len()
            }
        };
        return Some((start, end));
    }
}

/// The end of a quoted text (`""` is a quote inside it) and of what sticks to it; without a closing
/// quote, the end of the text: better too much than too little.
fn quoted_end(value: &str, from: usize) -> usize {
    let bytes = value.as_bytes();
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            if bytes.get(at + 1) != Some(&b'"') {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    value.len()
}

/// `PASSWORD '…'` of a statement, also `password = '…'`.
fn statement_value(text: &str, lower: &str, from: usize) -> Option<(usize, usize)> {
    let mut search = from;
    loop {
        let start = search + lower.get(search..)?.find("password")? + "password".len();
        search = start;
        let blank = text[start..].len() - text[start..].trim_start_matches([' ', '=', 'E', '\t', ':']).len();
        let value = &text[start + blank..];
        if !value.starts_with(['\'', '$']) || value.starts_with(MARK) {
            continue;
        }
        return Some((start + blank, text.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_the_rest_stays() {
        let table = [
            (
                r#"host all all ::1/128 ldap ldapbindpasswd=s3cret ldaptls=1"#,
                "host all all ::1/128 ldap ldapbindpasswd=(hidden) ldaptls=1",
            ),
            (r#"x: "host ldap ldapbindpasswd=s3cret""#, r#"x: "host ldap ldapbindpasswd=(hidden)""#),
            (r#"ldapbindpasswd="a ""b"" s3cret" ldaptls=1"#, "ldapbindpasswd=(hidden) ldaptls=1"),
            (r#""ldapbindpasswd=a s3cret" ldaptls=1"#, r#""ldapbindpasswd=(hidden) ldaptls=1"#),
            (
                r#"radiussecrets="s3cret,s3cret" x ldapbindpasswd=s3cret"#,
                "radiussecrets=(hidden) x ldapbindpasswd=(hidden)",
            ),
            (r#"radiussecrets="s3cret"#, "radiussecrets=(hidden)"),
            ("statement: ALTER ROLE a PASSWORD 's3cret'", "statement: ALTER ROLE a PASSWORD (hidden)"),
            ("ldapbindpasswd is only valid for password", "ldapbindpasswd is only valid for password"),
            (
                "password authentication failed for user \"a\"",
                "password authentication failed for user \"a\"",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(secrets(text), expected);
        }
    }
}
