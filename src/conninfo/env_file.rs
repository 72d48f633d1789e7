//! `.env` files as node's dotenv reads them (version 17, `parse` of lib/main.js); others differ in comments and
//! escapes.

use super::problem::{Problem, Severity};
use crate::secret::Secret;

/// One `KEY=value`. Any value may be a password, so both texts are secrets.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value by dotenv's rules: unquoted, comment cut, `\n` expanded in double quotes.
    pub value: Secret<String>,
    /// What stands behind the `=` up to the line's end (or the closing quote's line).
    pub raw: Secret<String>,
    /// The quote around the value.
    pub quote: Option<char>,
    /// The line of the key, from 1.
    pub line: usize,
}

/// A finding in a `.env` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong; its ids are those of the cause `url_invalid` or `syntax`, `value_cut_at_hash`,
    /// `quote_unclosed`, `line_endings`, `key_repeated`; its column counts in the line.
    pub problem: Problem,
}

/// A `.env` file, read.
#[derive(Clone, Debug, Default)]
pub struct EnvFile {
    /// The entries, in the order of the file.
    pub entries: Vec<Entry>,
    /// What loaders read differently, or not at all.
    pub problems: Vec<EnvProblem>,
}

impl EnvFile {
    /// The entry that counts for `key`: the last one.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }

    /// An entry's value with each `${NAME}` of this file replaced, as dotenv-expand, compose files and shells do. A
    /// name that the file does not define stays, and so does what single quotes protect from a shell.
    pub fn expanded(&self, entry: &Entry) -> Secret<String> {
        let mut text = Secret::new(String::new());
        let mut rest = entry.value.expose().as_str();
        while let Some((before, name, behind)) = reference(rest).filter(|_| entry.quote != Some('\'')) {
            text = Secret::new(match self.get(name) {
                Some(other) => [text.expose(), before, other.value.expose()].concat(),
                None => [text.expose(), before, "${", name, "}"].concat(),
            });
            rest = behind;
        }
        Secret::new([text.expose(), rest].concat())
    }

    fn problem(
        &mut self,
        line: usize,
        column: usize,
        id: &'static str,
        severity: Severity,
        texts: [&str; 2],
    ) {
        let problem = Problem::new(id, severity, column, texts[0], texts[1]);
        self.problems.push(EnvProblem { line, problem });
    }
}

/// What stands before the first `${NAME}`, the name, and what stands behind it.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once("${")?;
    let (name, behind) = after.split_once('}')?;
    Some((before, name, behind))
}

/// Reads a `.env` file; there is no text that it refuses.
pub fn parse(text: &str) -> EnvFile {
    let mut file = EnvFile::default();
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    if body.len() != text.len() {
        let texts = [
            "a byte order mark begins the file: node --env-file and shells take it for a part of the first key",
            "save the file without it",
        ];
        file.problem(1, 1, "blank_around", Severity::Warning, texts);
    }
    if let Some(at) = body.find("\r\n") {
        let line = body[..at].matches('\n').count() + 1;
        let texts = [
            "lines end in CR LF: a shell that sources the file leaves \\r at the end of every value",
            "convert the line ends (dos2unix)",
        ];
        file.problem(line, 0, "line_endings", Severity::Warning, texts);
    }
    let body = Secret::new(body.replace("\r\n", "\n").replace('\r', "\n"));
    let mut rest = body.expose().as_str();
    let mut line = 1;
    while !rest.is_empty() {
        let used = statement(rest, line, &mut file);
        let (done, left) = rest.split_at(used.clamp(1, rest.len()));
        line += done.matches('\n').count();
        rest = left;
    }
    file
}

/// Reads one entry, comment or blank line from the head of `rest` and returns its length.
fn statement(rest: &str, line: usize, file: &mut EnvFile) -> usize {
    let end = rest.find('\n').unwrap_or(rest.len());
    let text = &rest[..end];
    let bare = text.trim_start();
    let indent = text.len() - bare.len();
    if bare.is_empty() || bare.starts_with('#') {
        return end + 1;
    }
    let keyed = bare
        .strip_prefix("export")
        .filter(|t| t.starts_with(char::is_whitespace))
        .map_or(bare, str::trim_start);
    let length = keyed.find(|c: char| !c.is_alphanumeric() && !"_.-".contains(c)).unwrap_or(keyed.len());
    let (key, after) = keyed.split_at(length);
    let Some(value) = separator(after).filter(|_| !key.is_empty()) else {
        let texts = [
            "this line is no KEY=value: loaders skip it or stop here",
            "write KEY=value, or a # before a comment",
        ];
        file.problem(line, indent + 1, "syntax", Severity::Warning, texts);
        return end + 1;
    };
    if after.starts_with(char::is_whitespace) || value.starts_with([' ', '\t']) {
        let texts = [
            "blanks around =: a shell that sources the file takes this for a command",
            "write KEY=value without blanks",
        ];
        file.problem(line, indent + 1, "blank_around", Severity::Info, texts);
    }
    if file.get(key).is_some() {
        let texts = [
            "this key stands in the file twice: the last one counts for dotenv, the first for some others",
            "keep one",
        ];
        file.problem(line, indent + 1, "key_repeated", Severity::Warning, texts);
    }
    let start = end - value.len();
    let (entry, used) = value_at(key, &rest[start..], line, file, start + 1);
    file.entries.push(entry);
    start + used
}

/// `=` with blanks around it, or `: ` as dotenv allows.
fn separator(after: &str) -> Option<&str> {
    after
        .trim_start()
        .strip_prefix('=')
        .or_else(|| after.strip_prefix(':').filter(|t| t.starts_with(char::is_whitespace)))
}

/// The value at the head of `text`: quoted (over several lines, if need be) or up to `#` or the line's end.
fn value_at(key: &str, text: &str, line: usize, file: &mut EnvFile, column: usize) -> (Entry, usize) {
    let end = text.find('\n').unwrap_or(text.len());
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    let body = &text[blank..];
    let quote = body.chars().next().filter(|c| "'\"`".contains(*c));
    if let Some((inside, used)) = quote.and_then(|quote| quoted(body, quote)) {
        let value = match quote {
            Some('"') => inside.replace("\\n", "\n").replace("\\r", "\r"),
            _ => inside.to_owned(),
        };
        let used = blank + used;
        let raw = text[..used].to_owned();
        return (
            entry(key, value, raw, quote, line),
            used + text[used..].find('\n').map_or(text.len() - used, |at| at + 1),
        );
    }
    let whole = &text[..end];
    let cut = whole.find('#').unwrap_or(whole.len());
    let value = whole[..cut].trim();
    if quote.is_some() {
        let texts = [
            "the quote that begins this value is not closed: loaders differ about what the value is",
            "close it on the same line",
        ];
        file.problem(line, column + blank, "quote_unclosed", Severity::Error, texts);
    }
    if cut < whole.len() && !whole[..cut].ends_with([' ', '\t']) && !value.is_empty() {
        let texts = [
            "dotenv cuts this unquoted value at its #; python-dotenv and shells do not",
            "put quotes around the value",
        ];
        file.problem(line, column + cut, "value_cut_at_hash", Severity::Error, texts);
    }
    if let (Some(at), false) = (value.find('$'), value.is_empty()) {
        let texts = [
            "dotenv-expand, compose files and shells replace $name in this value; others do not",
            "escape it as your loader wants it (\\$ or $$), or avoid $",
        ];
        file.problem(line, column + blank + at, "variable_unexpanded", Severity::Info, texts);
    }
    // dotenv's last step takes matching quotes off even when they were no quotes to it before.
    let stripped = quote.and_then(|q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
    (
        entry(key, stripped.to_owned(), whole.to_owned(), quote.filter(|_| stripped != value), line),
        (end + 1).min(text.len()),
    )
}

fn entry(key: &str, value: String, raw: String, quote: Option<char>, line: usize) -> Entry {
    Entry { key: key.to_owned(), value: Secret::new(value), raw: Secret::new(raw), quote, line }
}

/// The inside of a quoted value and the length up to its closing quote, if nothing but a comment follows it.
fn quoted(body: &str, quote: char) -> Option<(&str, usize)> {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        if c == quote && !escaped {
            let behind = body[at + 1..].split('\n').next().unwrap_or_default().trim_start();
            return (behind.is_empty() || behind.starts_with('#')).then(|| (&body[1..at], at + 1));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, value: &str, problems: &[&str]) {
        let file = parse(text);
        assert_eq!(file.entries.first().map(|e| e.value.expose().as_str()), Some(value), "{text}");
        assert_eq!(file.problems.iter().map(|p| p.problem.id).collect::<Vec<_>>(), problems, "{text}");
    }

    #[test]
    fn lines_of_failures_3_4() {
        check("A=pa#ss", "pa", &["value_cut_at_hash"]);
        check("B=pa #ss", "pa", &[]);
        check("C=\"pa#ss\"", "pa#ss", &[]);
        check("E=pa$ss", "pa$ss", &["variable_unexpanded"]);
        check("G='pa$ss'", "pa$ss", &[]);
        check("H=pa$$ss", "pa$$ss", &["variable_unexpanded"]);
        check("L = spaced", "spaced", &["blank_around"]);
        check("S=\"un", "\"un", &["quote_unclosed"]);
        check("X=1\r\n", "1", &["line_endings"]);
        check("\u{feff}BOMVAR=x", "x", &["blank_around"]);
        check("export A='x' # why", "x", &[]);
        check("A=\"a\\nb\\\"c\"", "a\nb\\\"c", &[]);
        check("A=\"pa\"ss\"", "pa\"ss", &["quote_unclosed"]);
        check("A=", "", &[]);
        check("A: b", "b", &["blank_around"]);
    }

    #[test]
    fn names_in_braces_are_replaced_where_the_file_defines_them() {
        let file = parse("P=s3cret\nA=x:${P}@${H}\nB='${P}'\nC=pa$P\nD=${P\nE=${P}${P}");
        let expanded = |key: &str| file.expanded(file.get(key).unwrap()).expose().clone();
        for (key, value) in
            [("A", "x:s3cret@${H}"), ("B", "${P}"), ("C", "pa$P"), ("D", "${P"), ("E", "s3crets3cret")]
        {
            assert_eq!(expanded(key), value, "{key}");
        }
    }

    #[test]
    fn entries_lines_and_debug() {
        let file = parse("# c\nA=1\n\nKEY=\"l1\nl2\" # c\nwhat is this\nA=planted\n");
        let rows: Vec<_> = file
            .entries
            .iter()
            .map(|e| (e.key.as_str(), e.value.expose().as_str(), e.line, e.quote))
            .collect();
        assert_eq!(rows, [("A", "1", 2, None), ("KEY", "l1\nl2", 4, Some('"')), ("A", "planted", 7, None)]);
        let problems: Vec<_> = file.problems.iter().map(|p| (p.line, p.problem.id)).collect();
        assert_eq!(problems, [(6, "syntax"), (7, "key_repeated")]);
        assert_eq!(file.get("A").unwrap().value.expose(), "planted");
        assert_eq!(file.entries[1].raw.expose(), "\"l1\nl2\"");
        assert!(!format!("{file:?}").contains("planted"));
    }
}
