//! Tokens, fields and included files (PostgreSQL: `next_token`, `next_field_expand`,
//! `tokenize_auth_file`, `tokenize_expand_file`, `tokenize_include_file`).

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Files;
use super::problem::{Place, Problem};
use super::source::{Logical, Source, logical_lines};

/// One word of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word, without its quotes.
    pub text: String,
    /// A quote stood before its first character: it is no keyword, no `+role`, no `@file`.
    pub quoted: bool,
    /// Where it stands.
    pub place: Place,
}

impl Token {
    /// PostgreSQL: `token_is_keyword`.
    pub fn is_keyword(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// The role of `+role` (PostgreSQL: `token_is_member_check`).
    pub fn group(&self) -> Option<&str> {
        self.text.strip_prefix('+').filter(|_| !self.quoted)
    }

    /// As a file would write it.
    pub fn written(&self) -> String {
        let plain = |c: char| !c.is_whitespace() && !",\"#".contains(c);
        if self.quoted || self.text.is_empty() || !self.text.chars().all(plain) {
            return format!("\"{}\"", self.text.replace('"', "\"\""));
        }
        self.text.clone()
    }
}

/// A line that is neither blank nor an include record.
pub(super) struct Line {
    pub(super) fields: Vec<Vec<Token>>,
    /// All of it that is not blank, on its first physical line.
    pub(super) place: Place,
    /// The text, without secrets.
    pub(super) raw: String,
    /// Why it can't be read; then its fields do not count.
    pub(super) error: Option<Problem>,
}

/// Reads a file and all that it includes.
pub(super) struct Reader<'a> {
    files: &'a Files<'a>,
    version: u32,
    opened: usize,
    /// The files in the order in which they were opened.
    pub(super) sources: Vec<Source>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a Files<'a>, version: u32) -> Self {
        Self { files, version, opened: 0, sources: Vec::new() }
    }

    /// The lines of the top file.
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<Line>, Problem> {
        let here = Place { file: name(path), line: 1, column: 0, length: 0 };
        let bytes = self.open(path, 0, &here)?;
        let mut lines = Vec::new();
        self.tokenize(path, &bytes, 0, &mut lines);
        Ok(lines)
    }

    /// PostgreSQL: `open_auth_file`.
    fn open(&mut self, path: &Path, depth: usize, at: &Place) -> Result<Vec<u8>, Problem> {
        self.opened += 1;
        let shown = path.display();
        if depth > MAX_DEPTH || self.opened > MAX_FILES {
            let message = format!("{shown} is not read: files include each other too deep, or too many");
            return Err(Problem::error("include_depth", at, message, "break the circle of inclusions"));
        }
        (self.files.read)(path).map_err(|error| {
            let message = format!("{shown} can't be read: {}", error.text);
            Problem::error("file_unreadable", at, message, "name a file that the server's user can read")
        })
    }

    fn tokenize(&mut self, path: &Path, bytes: &[u8], depth: usize, into: &mut Vec<Line>) {
        let name = name(path);
        let (source, lines) = logical_lines(&name, bytes, self.version);
        let index = self.sources.len();
        self.sources.push(source);
        for logical in &lines {
            let mut fields = Vec::new();
            let mut error = self.too_long(logical);
            let mut at = 0;
            while at < logical.text.len() && error.is_none() {
                let mut tokens = Vec::new();
                at = self.field(path, logical, at, depth, &mut tokens, &mut error);
                if !tokens.is_empty() {
                    fields.push(tokens);
                }
            }
            if fields.is_empty() && error.is_none() {
                continue;
            }
            if error.is_none() && self.version >= 16 {
                match self.include(path, &fields, depth, into) {
                    Some(Ok(())) => continue,
                    Some(Err(problem)) => error = Some(problem),
                    None => {}
                }
            }
            let raw = logical.shown(&self.sources[index]);
            into.push(Line { fields, place: logical.whole(), raw, error });
        }
    }

    /// Before version 14 a line had to fit a buffer.
    fn too_long(&self, line: &Logical) -> Option<Problem> {
        (self.version < 14 && line.text.len() >= MAX_LINE_13).then(|| {
            let message = format!("a line may have {} bytes before PostgreSQL 14", MAX_LINE_13 - 1);
            Problem::error("line_too_long", &line.whole(), message, "put the list into an @file")
        })
    }

    /// Reads one field from byte `at` on and returns the byte behind it.
    fn field(
        &mut self,
        path: &Path,
        line: &Logical,
        mut at: usize,
        depth: usize,
        tokens: &mut Vec<Token>,
        error: &mut Option<Problem>,
    ) -> usize {
        loop {
            let found = next_token(&line.text, at);
            at = found.next;
            let Some((start, text)) = found.token else { return at };
            let place = line.place(start, found.next);
            if self.version <= 16 && text.len() >= MAX_TOKEN_16 {
                let message = format!("a word may have {} bytes before PostgreSQL 17", MAX_TOKEN_16 - 1);
                *error =
                    Some(Problem::error("token_too_long", &place, message, "split the list with commas"));
                return line.text.len();
            }
            match text.strip_prefix('@').filter(|name| !found.quoted && !name.is_empty()) {
                Some(name) => {
                    let included = beside(path, name);
                    *error = self.expand(&included, depth + 1, &place, tokens).err();
                }
                None => tokens.push(Token { text, quoted: found.quoted, place }),
            }
            if !found.comma || error.is_some() {
                return at;
            }
        }
    }

    /// Appends all words of an `@file`.
    fn expand(
        &mut self,
        path: &Path,
        depth: usize,
        at: &Place,
        tokens: &mut Vec<Token>,
    ) -> Result<(), Problem> {
        let bytes = self.open(path, depth, at)?;
        let mut lines = Vec::new();
        self.tokenize(path, &bytes, depth, &mut lines);
        for line in lines {
            if let Some(problem) = line.error {
                return Err(problem);
            }
            tokens.extend(line.fields.into_iter().flatten());
        }
        Ok(())
    }

    /// Follows an include record; `None` if the line is none.
    fn include(
        &mut self,
        path: &Path,
        fields: &[Vec<Token>],
        depth: usize,
        into: &mut Vec<Line>,
    ) -> Option<Result<(), Problem>> {
        let [first, second] = fields else { return None };
        let (first, second) = (first.first()?, second.first()?);
        match first.text.as_str() {
            "include" => Some(self.include_file(&beside(path, &second.text), depth + 1, false, second, into)),
            "include_if_exists" => {
                Some(self.include_file(&beside(path, &second.text), depth + 1, true, second, into))
            }
            "include_dir" => Some(self.include_dir(path, second, depth + 1, into)),
            _ => None,
        }
    }

    fn include_file(
        &mut self,
        path: &Path,
        depth: usize,
        missing_ok: bool,
        by: &Token,
        into: &mut Vec<Line>,
    ) -> Result<(), Problem> {
        let bytes = match self.open(path, depth, &by.place) {
            Ok(bytes) => bytes,
            Err(problem) if problem.id == "file_unreadable" && missing_ok => {
                let missing = (self.files.read)(path).is_err_and(|error| error.missing);
                return if missing { Ok(()) } else { Err(problem) };
            }
            Err(problem) => return Err(problem),
        };
        self.tokenize(path, &bytes, depth, into);
        Ok(())
    }

    /// PostgreSQL: `GetConfFilesInDir`. Files ending in `.conf`, no hidden ones, by name.
    fn include_dir(
        &mut self,
        path: &Path,
        by: &Token,
        depth: usize,
        into: &mut Vec<Line>,
    ) -> Result<(), Problem> {
        let fix = "name a directory that the server's user can read";
        if by.text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
            return Err(Problem::error("include_dir_empty", &by.place, "the directory has no name", fix));
        }
        let dir = beside(path, &by.text);
        let mut names = (self.files.list)(&dir).map_err(|error| {
            let message = format!("{} can't be listed: {}", dir.display(), error.text);
            Problem::error("file_unreadable", &by.place, message, fix)
        })?;
        names.retain(|name| name.len() >= 6 && !name.starts_with('.') && name.ends_with(".conf"));
        names.sort_unstable();
        // PostgreSQL goes on with the other files, so that their errors are reported too.
        let mut result = Ok(());
        for name in names {
            let included = self.include_file(&dir.join(name), depth, false, by, into);
            result = result.and(included);
        }
        result
    }
}

/// What [`next_token`] found.
struct Found {
    /// Where the token begins, and its text; nothing at the line's end.
    token: Option<(usize, String)>,
    quoted: bool,
    /// A comma ends it: the field goes on.
    comma: bool,
    /// The byte behind it.
    next: usize,
}

/// Reads one word from byte `at` on. Words end at blanks and commas; `"` opens and closes a stretch in
/// which neither counts, nor `#`; two of them in such a stretch are one (PostgreSQL: `next_token`).
fn next_token(line: &str, at: usize) -> Found {
    let rest = &line[at..];
    let start = at + (rest.len() - rest.trim_start_matches(|c| is_blank(c) || c == ',').len());
    let mut text = String::new();
    let (mut inside, mut just_closed, mut any_quote, mut quoted) = (false, false, false, false);
    let (mut comma, mut next) = (false, line.len());
    for (offset, c) in line[start..].char_indices() {
        if !inside && (is_blank(c) || c == ',') {
            comma = c == ',';
            next = start + offset;
            break;
        }
        if !inside && c == '#' {
            break;
        }
        if c != '"' {
            text.push(c);
            just_closed = false;
            continue;
        }
        // A quote right behind a closing quote was an escaped one, and the stretch goes on.
        if just_closed {
            text.push('"');
        }
        just_closed = inside && !just_closed;
        inside = !inside;
        any_quote = true;
        quoted |= text.is_empty();
    }
    let token = (any_quote || !text.is_empty()).then_some((start, text));
    Found { token, quoted, comma, next }
}

/// PostgreSQL: `pg_isblank`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// A name relative to the file that mentions it (PostgreSQL: `AbsoluteConfigLocation`).
fn beside(path: &Path, name: &str) -> PathBuf {
    let joined = path.parent().map_or_else(|| PathBuf::from(name), |dir| dir.join(name));
    let mut clean = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

fn name(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy().as_ref())
}

/// PostgreSQL: `CONF_FILE_MAX_DEPTH`; before 16 only the number of open files bounded it.
const MAX_DEPTH: usize = 10;

/// Files that include each other twice grow without end long before they are too deep.
const MAX_FILES: usize = 1000;

/// PostgreSQL: `MAX_TOKEN` up to version 16, with its NUL.
const MAX_TOKEN_16: usize = 10_240;

/// PostgreSQL: `MAX_LINE` up to version 13, with its NUL.
const MAX_LINE_13: usize = 8_191;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<(String, bool, bool)> {
        let mut at = 0;
        let mut words = Vec::new();
        while at < line.len() {
            let found = next_token(line, at);
            at = found.next;
            let Some((_, text)) = found.token else { break };
            words.push((text, found.quoted, found.comma));
        }
        words
    }

    #[track_caller]
    fn check(line: &str, expected: &[(&str, bool, bool)]) {
        let expected: Vec<_> = expected.iter().map(|(t, q, c)| ((*t).to_owned(), *q, *c)).collect();
        assert_eq!(words(line), expected, "{line}");
    }

    #[test]
    fn words_quotes_commas_and_comments() {
        check("a b\tc\r", &[("a", false, false), ("b", false, false), ("c", false, false)]);
        check("a,b", &[("a", false, true), ("b", false, false)]);
        check("a, b", &[("a", false, true), ("b", false, false)]);
        check("a ,b", &[("a", false, false), ("b", false, false)]);
        check(",,a,,", &[("a", false, true)]);
        check("\"all\" all", &[("all", true, false), ("all", false, false)]);
        check("a\"ll\"", &[("all", false, false)]);
        check("\"\"all", &[("all", true, false)]);
        check("\"a b,#c\"", &[("a b,#c", true, false)]);
        check("\"a\"\"b\"", &[("a\"b", true, false)]);
        check("\"\"\"\"", &[("\"", true, false)]);
        check("\"\"", &[("", true, false)]);
        check("a#b c", &[("a", false, false)]);
        check("\"unclosed # x", &[("unclosed # x", true, false)]);
        check("# all", &[]);
        check("@\"a b\"", &[("@a b", false, false)]);
        check("a\u{b}b", &[("a\u{b}b", false, false)]);
    }
}
