//! PostgreSQL's advanced regular expressions, as far as names need them.
//!
//! The server compiles them before it knows a database, so they see single bytes (`SQL_ASCII`) and the C
//! collation (PostgreSQL: `regcomp_auth_token`, regex/regc_lex.c and regcomp.c). This module checks the
//! grammar itself and hands an equal expression to the crate `regex`; what that crate can't do (back
//! references, looking around) is answered with "don't know".

use regex::bytes::{Regex, RegexBuilder};

/// A valid expression.
#[derive(Clone, Debug)]
pub struct Are {
    source: String,
    compiled: Option<Regex>,
    /// Which text the first group holds may differ between engines.
    group_unsure: bool,
}

impl Are {
    /// Reads an expression, without the `/` before it in a file; the error says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, &'static str> {
        let mut reader = Reader::new(source.as_bytes());
        let translated = reader.whole()?;
        let compiled = translated
            .filter(|_| !reader.beyond_us)
            .and_then(|text| RegexBuilder::new(&text).unicode(false).size_limit(SIZE_LIMIT).build().ok());
        Ok(Self { source: source.to_owned(), compiled, group_unsure: reader.group_unsure })
    }

    /// The expression as written, without its `/`.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches somewhere in `text`; nothing if this program can't tell.
    pub fn is_match(&self, text: &str) -> Option<bool> {
        Some(self.compiled.as_ref()?.is_match(text.as_bytes()))
    }

    /// What `\1` stands for: `None` if this program can't tell, `Some(None)` if nothing matches, and then
    /// the text of the first group, if it took part.
    pub(super) fn first_group(&self, text: &str) -> Option<Option<Option<String>>> {
        let Some(captures) = self.compiled.as_ref()?.captures(text.as_bytes()) else { return Some(None) };
        if self.group_unsure {
            return None;
        }
        let group = captures.get(1).map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned());
        Some(Some(group))
    }
}

/// More than any list of names needs.
const SIZE_LIMIT: usize = 1 << 20;

/// PostgreSQL: `DUPMAX`.
const MAX_REPEAT: u32 = 255;

/// Parentheses in parentheses: PostgreSQL stops when its stack is full, we much earlier.
const MAX_NESTING: usize = 100;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Groups opened so far, and for each whether it is closed.
    groups: Vec<bool>,
    nesting: usize,
    ignore_case: bool,
    /// Something was met that the crate `regex` can't do.
    beyond_us: bool,
    group_unsure: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            groups: Vec::new(),
            nesting: 0,
            ignore_case: false,
            beyond_us: false,
            group_unsure: false,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip(&mut self, text: &[u8]) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Reads a director (`***`) and options (`(?i)`), then the expression. Nothing if it is beyond us.
    fn whole(&mut self) -> Result<Option<String>, &'static str> {
        if self.skip(b"***=") {
            return Ok(Some(format!(
                "(?s-u:{})",
                self.rest().iter().map(|b| literal(*b)).collect::<String>()
            )));
        }
        if self.rest().starts_with(b"***") && !self.skip(b"***:") {
            return Err("*** must be followed by = or :");
        }
        if let [b'(', b'?', letter, ..] = self.rest()
            && letter.is_ascii_alphabetic()
        {
            self.at += 2;
            while let Some(letter) = self.peek().filter(u8::is_ascii_alphabetic) {
                self.at += 1;
                match letter {
                    b'c' => self.ignore_case = false,
                    b'i' => self.ignore_case = true,
                    b's' | b't' => {}
                    b'b' | b'e' | b'm' | b'n' | b'p' | b'q' | b'w' | b'x' => self.beyond_us = true,
                    _ => return Err("an unknown letter in (?…)"),
                }
            }
            if !self.eat(b')') {
                return Err("(?… is not closed");
            }
            if self.beyond_us {
                // Another grammar holds from here on.
                return Ok(None);
            }
        }
        let body = self.alternatives()?;
        if self.peek().is_some() {
            return Err("a ) too many");
        }
        let flags = if self.ignore_case { "is-u" } else { "s-u" };
        Ok(Some(format!("(?{flags}:{body})")))
    }

    fn alternatives(&mut self) -> Result<String, &'static str> {
        let mut out = self.branch()?;
        while self.eat(b'|') {
            self.group_unsure = true;
            out.push('|');
            out.push_str(&self.branch()?);
        }
        Ok(out)
    }

    fn branch(&mut self) -> Result<String, &'static str> {
        let mut out = String::new();
        loop {
            // A comment may stand anywhere between atoms.
            while self.skip(b"(?#") {
                while self.peek().is_some_and(|b| b != b')') {
                    self.at += 1;
                }
                self.at += usize::from(self.peek().is_some());
            }
            match self.peek() {
                None | Some(b'|' | b')') => return Ok(out),
                Some(_) => self.piece(&mut out)?,
            }
        }
    }

    /// A constraint, or an atom with its quantifier.
    fn piece(&mut self, out: &mut String) -> Result<(), &'static str> {
        let word_edges: [(&[u8], &str); 2] = [(b"[[:<:]]", r"\b{start}"), (b"[[:>:]]", r"\b{end}")];
        for (text, translated) in word_edges {
            if self.skip(text) {
                out.push_str(translated);
                return self.no_quantifier();
            }
        }
        let byte = self.peek().unwrap_or_default();
        match byte {
            b'^' | b'$' => {
                self.at += 1;
                out.push_str(if byte == b'^' { r"\A" } else { r"\z" });
                return self.no_quantifier();
            }
            b'*' | b'+' | b'?' => return Err("a quantifier without anything before it"),
            b'{' if self.rest().get(1).is_some_and(u8::is_ascii_digit) => {
                return Err("a quantifier without anything before it");
            }
            b'(' => {
                if !self.group(out)? {
                    return self.no_quantifier();
                }
            }
            b'[' => {
                self.at += 1;
                out.push_str(&self.bracket()?);
            }
            b'.' => {
                self.at += 1;
                out.push('.');
            }
            b'\\' => {
                self.at += 1;
                match self.escape()? {
                    Escape::Byte(byte) => out.push_str(&literal(byte)),
                    Escape::Class(class) => out.push_str(class),
                    Escape::Never => out.push_str(NEVER),
                    Escape::Back => self.beyond_us = true,
                    Escape::Edge(text) => {
                        out.push_str(text);
                        return self.no_quantifier();
                    }
                }
            }
            byte => {
                self.at += 1;
                out.push_str(&literal(byte));
            }
        }
        self.quantifier(out)
    }

    fn no_quantifier(&self) -> Result<(), &'static str> {
        match self.peek() {
            Some(b'*' | b'+' | b'?') => Err("a quantifier behind a constraint"),
            Some(b'{') if self.rest().get(1).is_some_and(u8::is_ascii_digit) => {
                Err("a quantifier behind a constraint")
            }
            _ => Ok(()),
        }
    }

    /// Reads a group; false if it was a look around, which takes no quantifier.
    fn group(&mut self, out: &mut String) -> Result<bool, &'static str> {
        self.at += 1;
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err("too many parentheses in each other");
        }
        let mut capture = None;
        let mut around = false;
        if self.eat(b'?') {
            if self.skip(b":") {
                out.push_str("(?:");
            } else if [&b"="[..], b"!", b"<=", b"<!"].iter().any(|mark| self.skip(mark)) {
                around = true;
                self.beyond_us = true;
            } else {
                return Err("an unknown (?…");
            }
        } else {
            capture = Some(self.groups.len());
            self.groups.push(false);
            out.push('(');
        }
        let body = self.alternatives()?;
        if !self.eat(b')') {
            return Err("a ( is not closed");
        }
        self.nesting -= 1;
        if let Some(closed) = capture.and_then(|index| self.groups.get_mut(index)) {
            *closed = true;
        }
        if !around {
            out.push_str(&body);
            out.push(')');
        }
        Ok(!around)
    }

    fn quantifier(&mut self, out: &mut String) -> Result<(), &'static str> {
        match self.peek() {
            Some(byte @ (b'*' | b'+' | b'?')) => {
                self.at += 1;
                out.push(char::from(byte));
            }
            Some(b'{') if self.rest().get(1).is_some_and(u8::is_ascii_digit) => {
                self.at += 1;
                let least = self.number()?;
                let most = match self.eat(b',') {
                    false => Some(least),
                    true if self.peek().is_some_and(|b| b.is_ascii_digit()) => Some(self.number()?),
                    true => None,
                };
                if !self.eat(b'}') {
                    return Err("a {…} is not well formed");
                }
                if most.is_some_and(|most| most < least) {
                    return Err("a {…} with its numbers the wrong way round");
                }
                out.push_str(&match most {
                    Some(most) => format!("{{{least},{most}}}"),
                    None => format!("{{{least},}}"),
                });
            }
            _ => return Ok(()),
        }
        if self.eat(b'?') {
            self.group_unsure = true;
            out.push('?');
        }
        match self.peek() {
            Some(b'*' | b'+' | b'?') => Err("a quantifier behind a quantifier"),
            Some(b'{') if self.rest().get(1).is_some_and(u8::is_ascii_digit) => {
                Err("a quantifier behind a quantifier")
            }
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        let mut number = 0;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            self.at += 1;
            number = number * 10 + u32::from(digit - b'0');
            if number > MAX_REPEAT {
                return Err("a repetition of more than 255");
            }
        }
        Ok(number)
    }

    /// Reads a bracket expression; the `[` is read.
    fn bracket(&mut self) -> Result<String, &'static str> {
        let mut out = String::from(if self.eat(b'^') { "[^" } else { "[" });
        let mut first = true;
        loop {
            let item = self.bracket_item(first)?;
            first = false;
            match item {
                Item::End => {
                    out.push(']');
                    return Ok(out);
                }
                Item::Class(class) => out.push_str(class),
                Item::Byte(start) => {
                    let ranged = self.peek() == Some(b'-') && self.rest().get(1) != Some(&b']');
                    if !ranged {
                        out.push_str(&literal(start));
                        continue;
                    }
                    self.at += 1;
                    let end = match self.bracket_item(true)? {
                        Item::Byte(end) => end,
                        Item::Class(_) | Item::End => return Err("a range without an end"),
                    };
                    if end < start {
                        return Err("a range with its ends the wrong way round");
                    }
                    out.push_str(&format!("{}-{}", literal(start), literal(end)));
                }
            }
        }
    }

    fn bracket_item(&mut self, first: bool) -> Result<Item, &'static str> {
        const OPEN: &str = "a [ is not closed";
        let byte = self.peek().ok_or(OPEN)?;
        self.at += 1;
        match byte {
            b']' if !first => Ok(Item::End),
            b'-' if !first && self.peek() != Some(b']') => Err("a range without a beginning"),
            b'[' => match self.peek() {
                None => Err(OPEN),
                Some(b':') => {
                    self.at += 1;
                    let name = self.until(b":]").ok_or(OPEN)?;
                    class(name).map(Item::Class).ok_or("an unknown [:class:]")
                }
                Some(mark @ (b'.' | b'=')) => {
                    self.at += 1;
                    match self.until(&[mark, b']']).ok_or(OPEN)? {
                        [single] => Ok(Item::Byte(*single)),
                        // Names of characters such as [.hyphen.].
                        [] => Err("an empty collating element"),
                        _ => {
                            self.beyond_us = true;
                            Ok(Item::Byte(b'-'))
                        }
                    }
                }
                Some(_) => Ok(Item::Byte(b'[')),
            },
            b'\\' => match self.escape()? {
                Escape::Byte(byte) => Ok(Item::Byte(byte)),
                Escape::Class(class) => Ok(Item::Class(class)),
                Escape::Never => {
                    self.beyond_us = true;
                    Ok(Item::Byte(0))
                }
                Escape::Edge(_) | Escape::Back => Err("an escape that can't stand in brackets"),
            },
            byte => Ok(Item::Byte(byte)),
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<&'a [u8]> {
        let rest = self.rest();
        let at = rest.windows(end.len()).position(|window| window == end)?;
        self.at += at + end.len();
        rest.get(..at)
    }

    /// Reads an escape; the backslash is read.
    fn escape(&mut self) -> Result<Escape, &'static str> {
        let byte = self.peek().ok_or("a \\ at the end")?;
        self.at += 1;
        Ok(match byte {
            b'a' => Escape::Byte(7),
            b'b' => Escape::Byte(8),
            b'B' => Escape::Byte(b'\\'),
            b'e' => Escape::Byte(27),
            b'f' => Escape::Byte(12),
            b'n' => Escape::Byte(b'\n'),
            b'r' => Escape::Byte(b'\r'),
            b't' => Escape::Byte(b'\t'),
            b'v' => Escape::Byte(11),
            b'c' => {
                let control = self.peek().ok_or("a \\c at the end")?;
                self.at += 1;
                Escape::Byte(control & 0x1f)
            }
            b'd' => Escape::Class("[0-9]"),
            b'D' => Escape::Class("[^0-9]"),
            b's' => Escape::Class(r"[\t-\r ]"),
            b'S' => Escape::Class(r"[^\t-\r ]"),
            b'w' => Escape::Class("[0-9A-Za-z_]"),
            b'W' => Escape::Class("[^0-9A-Za-z_]"),
            b'A' => Escape::Edge(r"\A"),
            b'Z' => Escape::Edge(r"\z"),
            b'm' => Escape::Edge(r"\b{start}"),
            b'M' => Escape::Edge(r"\b{end}"),
            b'y' => Escape::Edge(r"\b"),
            b'Y' => Escape::Edge(r"\B"),
            b'u' => self.code(16, 4, 4)?,
            b'U' => self.code(16, 8, 8)?,
            b'x' => self.code(16, 1, 255)?,
            b'0' => {
                self.at -= 1;
                self.octal()?
            }
            b'1'..=b'9' => self.back_reference()?,
            byte if byte.is_ascii_alphabetic() => return Err("an unknown escape"),
            byte => Escape::Byte(byte),
        })
    }

    fn code(&mut self, base: u32, least: usize, most: usize) -> Result<Escape, &'static str> {
        let (value, count) = self.digits(base, most);
        match (u8::try_from(value), value <= 0x7fff_fffe && count >= least) {
            (Ok(byte), true) => Ok(Escape::Byte(byte)),
            (Err(_), true) => Ok(Escape::Never),
            (_, false) => Err("an escape with too few digits, or too large"),
        }
    }

    fn digits(&mut self, base: u32, most: usize) -> (u64, usize) {
        let (mut value, mut count) = (0_u64, 0);
        while count < most
            && let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(base))
        {
            self.at += 1;
            count += 1;
            value = value.saturating_mul(u64::from(base)).saturating_add(u64::from(digit));
        }
        (value, count)
    }

    fn octal(&mut self) -> Result<Escape, &'static str> {
        let (mut value, count) = self.digits(8, 3);
        if count == 0 {
            return Err("an escape with too few digits, or too large");
        }
        if value > 0xff {
            self.at -= 1;
            value >>= 3;
        }
        Ok(Escape::Byte(u8::try_from(value).unwrap_or_default()))
    }

    /// `\1` to `\9`, longer numbers if there are so many groups; otherwise it is octal.
    fn back_reference(&mut self) -> Result<Escape, &'static str> {
        let start = self.at - 1;
        self.at = start;
        let (number, count) = self.digits(10, 255);
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if count > 1 && index > self.groups.len() {
            self.at = start;
            return self.octal();
        }
        match self.groups.get(index.wrapping_sub(1)) {
            Some(true) => Ok(Escape::Back),
            _ => Err("a back reference to no group"),
        }
    }
}

enum Escape {
    Byte(u8),
    /// A class: a whole bracket expression, which the crate also takes inside of one.
    Class(&'static str),
    /// A character that no byte is.
    Never,
    Edge(&'static str),
    Back,
}

enum Item {
    End,
    Byte(u8),
    Class(&'static str),
}

/// A class without members.
const NEVER: &str = r"[^\x00-\xFF]";

fn literal(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("\\x{byte:02X}") }
}

fn class(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"alnum" => "[0-9A-Za-z]",
        b"alpha" => "[A-Za-z]",
        b"ascii" => r"[\x00-\x7F]",
        b"blank" => r"[\t ]",
        b"cntrl" => r"[\x00-\x1F\x7F]",
        b"digit" => "[0-9]",
        b"graph" => "[!-~]",
        b"lower" => "[a-z]",
        b"print" => "[ -~]",
        b"punct" => "[!-/:-@\\[-`{-~]",
        b"space" => r"[\t-\r ]",
        b"upper" => "[A-Z]",
        b"word" => "[0-9A-Za-z_]",
        b"xdigit" => "[0-9A-Fa-f]",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, text: &str, expected: Option<bool>) {
        let are = Are::new(source).unwrap_or_else(|reason| panic!("{source}: {reason}"));
        assert_eq!(are.is_match(text), expected, "/{source} against {text}");
    }

    #[test]
    fn what_matches() {
        check("^db[0-9]+$", "db12", Some(true));
        check("^db[0-9]+$", "xdb12", Some(false));
        check("b1", "db12", Some(true));
        check("", "anything", Some(true));
        check("a||b", "zzz", Some(true));
        check("^a{2,3}$", "aaa", Some(true));
        check("^a{2,3}$", "aaaa", Some(false));
        check("a{x", "a{x", Some(true));
        check(r"^\w+\.\d\s?$", "abc.7", Some(true));
        check(r"\mcat\M", "a cat b", Some(true));
        check("[[:<:]]cat[[:>:]]", "concat", Some(false));
        check("^[]a-c^-]+$", "]b^-", Some(true));
        check("^[^[:digit:]_]+$", "ab", Some(true));
        check(r"^[\w.]+$", "a_b.c", Some(true));
        check("(?i)^ADMIN$", "admin", Some(true));
        check("***=a.c", "abc", Some(false));
        check("***:^a.c$", "abc", Some(true));
        check("^.$", "ü", Some(false));
        check("^..$", "ü", Some(true));
        check(r"\u00fc", "x", Some(false));
        check("^(?#words)a(?:b|c)*?$", "abcb", Some(true));
        check(r"(a)\1", "aa", None);
        check("a(?=b)", "ab", None);
        check("$", "x", Some(true));
        check("a^b", "a^b", Some(false));
    }

    #[test]
    fn what_is_not_valid() {
        let rows = [
            "(",
            ")",
            "a)",
            "[",
            "[a",
            "*",
            "a**",
            "^*",
            "a|*",
            "(*a)",
            "a{1",
            "a{2,1}",
            "a{256}",
            "a{1,x}",
            "{1}",
            "a{1}{2}",
            "\\",
            r"\q",
            r"\u12",
            "[z-a]",
            r"[\d-z]x[a-\d]",
            "[[:foo:]]",
            r"\1",
            r"(a\1)",
            "(?z)",
            "(?i",
            "***",
            "***x",
            "(?Pa)",
            "[a--b]x[",
            r"(?=a)*",
        ];
        for source in rows {
            assert!(Are::new(source).is_err(), "{source} is valid?");
        }
    }

    #[test]
    fn the_first_group() {
        let group = |source: &str, text: &str| Are::new(source).unwrap().first_group(text);
        assert_eq!(group("^(.*)@example$", "joe@example"), Some(Some(Some("joe".to_owned()))));
        assert_eq!(group("^joe$", "joe"), Some(Some(None)));
        assert_eq!(group("^joe$", "ann"), Some(None));
        assert_eq!(group("^(a|ab)(.*)$", "abc"), None);
    }
}
