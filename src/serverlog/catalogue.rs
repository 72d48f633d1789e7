//! Recognising a message by the constant parts of its text, in any language of the table.

use std::sync::LazyLock;

use super::kind::Kind;
use super::translations::MESSAGES;

/// The first message of these kinds that a text is, with what the server filled in, in the order of
/// the English text.
pub(super) fn recognise<'a>(text: &'a str, kinds: &[Kind]) -> Option<(Kind, Vec<&'a str>)> {
    let wanted = |kind: &Kind| kinds.contains(kind);
    let own = MESSAGES.iter().map(|(kind, _, template)| (kind, *template));
    let plain = PLAIN.iter().map(|(kind, template)| (kind, template.as_str()));
    let mut all = own.chain(plain).filter(|(kind, _)| wanted(kind));
    all.find_map(|(kind, template)| Some((*kind, capture(template, text)?)))
}

/// The messages as a server writes them whose LC_CTYPE is C (a cluster of `initdb --locale=C`): before
/// a database is chosen, gettext converts them to ASCII, which leaves `f?r` of `für` and `>>` of `»`.
/// Only what stays readable is here: a text that is mostly question marks could be any message.
static PLAIN: LazyLock<Vec<(Kind, String)>> = LazyLock::new(|| {
    let plain = MESSAGES.iter().filter(|(_, _, template)| !template.is_ascii());
    let plain = plain.filter(|(_, _, template)| is_readable(template));
    plain.map(|(kind, _, template)| (*kind, in_ascii(template))).collect()
});

/// What glibc's iconv makes of a text for the locale C.
pub(super) fn in_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '»' => out.push_str(">>"),
            '«' => out.push_str("<<"),
            '“' | '”' | '„' => out.push('"'),
            '‘' | '’' => out.push('\''),
            '\u{a0}' | '\u{202f}' => out.push(' '),
            c if c.is_ascii() => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

/// Whether enough of a text is left.
pub(super) fn is_readable(text: &str) -> bool {
    let text = in_ascii(text);
    let lost = text.chars().filter(|c| *c == '?').count();
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    lost * 5 <= letters
}

/// Whether a LOG message quotes a statement.
pub(super) fn is_statement(text: &str) -> bool {
    recognise(text, &[Kind::Statement]).is_some()
}

/// What stands in a text where a template has `%s`, `%d`, `%m` or `%2$s`.
fn capture<'a>(template: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let (head, mut template) = template.split_at(template.find('%').unwrap_or(template.len()));
    let mut rest = text.strip_prefix(head)?;
    let mut found: Vec<(usize, &str)> = Vec::new();
    while let Some(escape) = template.strip_prefix('%') {
        let end = escape.find(['s', 'd', 'm', 'u'])?;
        let position = escape[..end].split_once('$').and_then(|(number, _)| number.parse::<usize>().ok());
        template = &escape[end + 1..];
        let constant = &template[..template.find('%').unwrap_or(template.len())];
        template = &template[constant.len()..];
        let at = match (template.is_empty(), constant.is_empty()) {
            // The last constant has to end the text: a name may contain it as well.
            (true, _) => rest.len().checked_sub(constant.len()).filter(|_| rest.ends_with(constant))?,
            (false, true) => return None,
            (false, false) => rest.find(constant)?,
        };
        found.push((position.unwrap_or(found.len() + 1), &rest[..at]));
        rest = &rest[at + constant.len()..];
    }
    if !rest.is_empty() {
        return None;
    }
    found.sort_by_key(|(position, _)| *position);
    Some(found.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_capture_what_the_server_filled_in() {
        let table: [(&str, &str, Option<&[&str]>); 8] = [
            ("Role \"%s\" does not exist.", "Role \"a\" does not exist.", Some(&["a"])),
            (
                "Role \"%s\" does not exist.",
                "Role \"a\" does not exist.\" does not exist.",
                Some(&["a\" does not exist."]),
            ),
            ("Role \"%s\" does not exist.", "Role \"a\" does not exist. ", None),
            ("line %d of \"%s\"", "line 7 of \"/a\"", Some(&["7", "/a"])),
            ("\"%2$s\" の %1$d 行目", "\"/a\" の 7 行目", Some(&["7", "/a"])),
            ("local ID %ld: %s", "local ID 12: no such user", Some(&["12", "no such user"])),
            ("incomplete", "incomplete", Some(&[])),
            ("incomplete", "incomplete packet", None),
        ];
        for (template, text, expected) in table {
            assert_eq!(capture(template, text).as_deref(), expected, "{template} / {text}");
        }
    }

    #[test]
    fn every_template_fits_its_own_text() {
        for (kind, language, template) in MESSAGES {
            let mut text = String::new();
            let mut rest = *template;
            while let Some((head, tail)) = rest.split_once('%') {
                text.push_str(head);
                text.push('7');
                rest = tail.split_once(['s', 'd', 'm', 'u']).unwrap().1;
            }
            text.push_str(rest);
            let found = recognise(&text, &[*kind]);
            assert!(
                found.is_some_and(|(_, args)| args.iter().all(|arg| *arg == "7")),
                "{kind:?} {language}: {text}"
            );
        }
    }

    #[test]
    fn no_detail_is_two_things() {
        let details = [
            Kind::RoleMissing,
            Kind::NoPassword,
            Kind::Expired,
            Kind::NotScram,
            Kind::NotMd5,
            Kind::PasswordMismatch,
            Kind::UnknownSecret,
        ];
        for (kind, language, template) in MESSAGES.iter().filter(|(kind, _, _)| details.contains(kind)) {
            let text = template.replace("%s", "app");
            for other in details.iter().filter(|other| *other != kind) {
                assert!(
                    recognise(&text, &[*other]).is_none(),
                    "{kind:?} {language} is also {other:?}: {text}"
                );
            }
        }
    }
}
