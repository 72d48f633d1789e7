//! Text of the files: logical lines (PostgreSQL 14 joins lines at a trailing backslash), and the way
//! back from a byte of one to a line and column.

use std::sync::Arc;

use super::problem::Place;

/// A file as it was read, for showing lines beside a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name as it was opened.
    pub name: Arc<str>,
    /// Its lines, without line ends. Values of options that hold secrets are starred out.
    pub lines: Vec<String>,
}

impl Source {
    /// The text of a line, from 1.
    pub fn line(&self, number: usize) -> Option<&str> {
        self.lines.get(number.checked_sub(1)?).map(String::as_str)
    }
}

/// One line as the tokenizer sees it, perhaps made of several.
pub(super) struct Logical {
    pub(super) text: String,
    /// Where each physical line begins in `text`, and its number.
    pieces: Vec<(usize, usize)>,
    file: Arc<str>,
}

impl Logical {
    /// The number of its first physical line: the one that PostgreSQL names.
    pub(super) fn number(&self) -> usize {
        self.pieces.first().map_or(1, |piece| piece.1)
    }

    /// The place of the bytes from `start` to `end`.
    pub(super) fn place(&self, start: usize, end: usize) -> Place {
        let index = self.pieces.partition_point(|piece| piece.0 <= start).saturating_sub(1);
        let (begins, line) = self.pieces.get(index).copied().unwrap_or((0, 1));
        let until = self.pieces.get(index + 1).map_or(end, |next| next.0.min(end));
        Place {
            file: Arc::clone(&self.file),
            line,
            column: start - begins + 1,
            length: until.saturating_sub(start).max(1),
        }
    }

    /// The place of all that is not blank on the first physical line.
    pub(super) fn whole(&self) -> Place {
        // A CR in front of the backslash may have taken the next line's beginning with it.
        let mut ends = self.pieces.get(1).map_or(self.text.len(), |next| next.0.min(self.text.len()));
        // It may also have moved the boundary into a character that is no UTF-8 in the file.
        while !self.text.is_char_boundary(ends) {
            ends -= 1;
        }
        let first = &self.text[..ends];
        let start = first.len() - first.trim_start().len();
        let length = first.trim_end().len().saturating_sub(start).max(1);
        Place { file: Arc::clone(&self.file), line: self.number(), column: start + 1, length }
    }

    /// Stars out what stands behind the names of options that hold secrets, up to the line's end.
    fn hide_secrets(&self, source: &mut Source) {
        let Some(from) =
            SECRET_OPTIONS.iter().filter_map(|name| self.text.find(name).map(|at| at + name.len())).min()
        else {
            return;
        };
        for (index, (begins, number)) in self.pieces.iter().enumerate() {
            let ends = self.pieces.get(index + 1).map_or(self.text.len(), |next| next.0);
            if ends <= from {
                continue;
            }
            let Some(line) = source.lines.get_mut(number - 1) else { continue };
            // The `=` itself may stay.
            let mut keep = from.saturating_sub(*begins);
            if line.as_bytes().get(keep) == Some(&b'=') {
                keep += 1;
            }
            // A star for each byte, so that columns behind it stay where they are.
            let stars = |c: char| if c == '\\' { "\\".to_owned() } else { "*".repeat(c.len_utf8()) };
            let mut keep = keep.min(line.len());
            while !line.is_char_boundary(keep) {
                keep -= 1;
            }
            let hidden: String = line.get(keep..).unwrap_or_default().chars().map(stars).collect();
            line.truncate(keep);
            line.push_str(&hidden);
        }
    }

    /// The text without what [`Source`] hides.
    pub(super) fn shown(&self, source: &Source) -> String {
        let lines = self.pieces.iter().filter_map(|piece| source.line(piece.1));
        lines.map(|line| line.strip_suffix('\\').unwrap_or(line)).collect::<String>()
    }
}

/// Cuts a file into logical lines (PostgreSQL: the reading loop of `tokenize_auth_file`, and
/// `pg_get_line_append`): line ends and a CR before them go, from version 14 on a trailing backslash joins
/// the next line, and a NUL byte hides the rest of its line and its line end.
pub(super) fn logical_lines(name: &Arc<str>, bytes: &[u8], version: u32) -> (Source, Vec<Logical>) {
    let text = String::from_utf8_lossy(bytes);
    let mut source = Source { name: Arc::clone(name), lines: Vec::new() };
    source.lines.extend(text.split('\n').map(|line| line.trim_end_matches('\r').to_owned()));
    let mut found = Vec::new();
    let mut line = Logical { text: String::new(), pieces: Vec::new(), file: Arc::clone(name) };
    // No backslash before this byte can be a continuation again.
    let mut joined_to = 0;
    for (index, physical) in text.split('\n').enumerate() {
        line.pieces.push((line.text.len(), index + 1));
        if let Some(nul) = physical.find('\0') {
            line.text.push_str(&physical[..nul]);
            continue;
        }
        line.text.push_str(physical);
        line.text.truncate(line.text.trim_end_matches(['\r', '\n']).len());
        if version >= 14 && line.text.len() > joined_to && line.text.ends_with('\\') {
            line.text.pop();
            joined_to = line.text.len();
            continue;
        }
        joined_to = 0;
        let next = Logical { text: String::new(), pieces: Vec::new(), file: Arc::clone(name) };
        found.push(std::mem::replace(&mut line, next));
    }
    if !line.pieces.is_empty() {
        found.push(line);
    }
    for line in &found {
        line.hide_secrets(&mut source);
    }
    (source, found)
}

/// Options whose values are passwords.
const SECRET_OPTIONS: [&str; 2] = ["ldapbindpasswd", "radiussecrets"];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, version: u32) -> Vec<(usize, String)> {
        let (_, lines) = logical_lines(&Arc::from("f"), text.as_bytes(), version);
        lines
            .into_iter()
            .map(|line| (line.number(), line.text))
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }

    #[test]
    fn continuation_begins_with_14() {
        let text = "a \\\nb\nc\\\\\n\nd\\";
        let of = |rows: &[(usize, &str)]| rows.iter().map(|(n, t)| (*n, (*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(lines(text, 15), of(&[(1, "a b"), (3, "c\\"), (5, "d")]));
        assert_eq!(lines(text, 13), of(&[(1, "a \\"), (2, "b"), (3, "c\\\\"), (5, "d\\")]));
    }

    #[test]
    fn places_lead_back_to_the_physical_line() {
        let (_, lines) = logical_lines(&Arc::from("f"), b"\nab \\\ncd ef\n", 18);
        let line = &lines[1];
        assert_eq!(line.text, "ab cd ef");
        let place = line.place(6, 8);
        assert_eq!((place.line, place.column, place.length), (3, 4, 2));
        let place = line.whole();
        assert_eq!((place.line, place.column, place.length), (2, 1, 2));
    }

    #[test]
    fn secrets_are_starred_out() {
        let text = "host all all all ldap ldapbindpasswd=\"hun ter2\" \\\n more\nok";
        let (source, lines) = logical_lines(&Arc::from("f"), text.as_bytes(), 18);
        assert!(
            !source.lines.concat().contains("hun") && !source.lines.concat().contains("more"),
            "{source:?}"
        );
        assert!(!lines[0].shown(&source).contains("ter2"));
        assert_eq!(source.line(3), Some("ok"));
    }
}
