//! The small fixed list of what a client may have sent instead of the expected password.
//!
//! This is no guessing run: every candidate is the expected password after one known mistake (or
//! two that go together), another value that was given, or a literal that needs no password at
//! all. The order is from frequent to rare, so that a small budget is spent well.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization as _;

use super::mutate::{self, Expander, Lookup};
use super::{Expected, Variant, saslprep};
use crate::secret::Secret;

/// What a fitting candidate means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The expected password itself.
    Expected,
    /// The empty string.
    Empty,
    /// A known mistake.
    Variant(Variant),
}

/// One string to try.
pub(super) struct Candidate {
    pub(super) what: What,
    pub(super) bytes: Secret<Vec<u8>>,
    /// How it looks, with `…` in the password's place.
    pub(super) shape: String,
    pub(super) detail: String,
    /// Other variants that yield the same bytes.
    pub(super) also: Vec<Variant>,
}

/// Candidates without duplicates, in the order in which they are tried.
pub(super) struct Candidates {
    pub(super) list: Vec<Candidate>,
    prepares: bool,
    /// The expected password as it stands, if there is one.
    unchanged: Option<Secret<Vec<u8>>>,
}

/// Values of an environment that are looked at; a longer `.env` says too little about any of them.
const MAX_OTHER_VARIABLES: usize = 64;
/// Earlier passwords that are looked at.
const MAX_PREVIOUS: usize = 16;
/// Every prefix is tried only where a try costs one MD5; longer passwords are tokens, not typed.
const MAX_PREFIXES: usize = 1024;
/// The same where a try costs a PBKDF2: passwords that people type are shorter.
const MAX_DEAR_PREFIXES: usize = 56;
/// Shorter than this, a prefix says nothing: it may be anybody's short password.
const MIN_PREFIX: usize = 8;
/// Field widths at which programs cut (`char pw[100]`, bcrypt's 72, old crypt's 8, VARCHARs).
const WIDTHS: [usize; 13] = [8, 16, 20, 24, 31, 32, 63, 64, 72, 100, 128, 255, 256];
/// The names under which a password usually travels.
const USUAL_NAMES: [&str; 6] =
    ["DB_PASSWORD", "POSTGRES_PASSWORD", "PGPASSWORD", "DATABASE_PASSWORD", "PASSWORD", "DATABASE_URL"];
/// Blanks that editors, shells and web pages leave, with their names.
const BLANKS: [(&str, &str); 4] =
    [(" ", "a space"), ("\t", "a tab"), ("  ", "two spaces"), ("\u{a0}", "a no-break space")];
/// What stringifies to a password where none was set.
const LITERALS: [(Variant, &str); 16] = [
    (Variant::LiteralUndefined, "undefined"),
    (Variant::LiteralNull, "null"),
    (Variant::LiteralNull, "None"),
    (Variant::LiteralNull, "nil"),
    (Variant::LiteralNull, "NaN"),
    (Variant::LiteralNull, "true"),
    (Variant::LiteralNull, "false"),
    (Variant::LiteralNull, "NULL"),
    (Variant::LiteralNull, "(null)"),
    (Variant::LiteralNull, "<nil>"),
    (Variant::LiteralNull, "none"),
    (Variant::LiteralNull, "True"),
    (Variant::LiteralNull, "False"),
    (Variant::LiteralUndefined, "[object Object]"),
    (Variant::LiteralUndefined, "[object Promise]"),
    (Variant::LiteralUndefined, "\"undefined\""),
];

impl Candidates {
    /// `prepares`: the exchange is SCRAM, whose clients may prepare a password or not: both forms
    /// are tried. `sent`: a cleartext password, where one prefix is enough. `hashes`: tries are
    /// cheap (MD5).
    pub(super) fn build(
        expected: Option<&Expected>,
        user: &[u8],
        prepares: bool,
        prefixes: Prefixes,
    ) -> Self {
        let mut all = Self { list: Vec::new(), prepares, unchanged: None };
        let Some(expected) = expected else {
            all.empty();
            all.user_names(None, user);
            all.literals();
            all.unexpanded(None);
            return all;
        };
        let p = expected.password.expose().as_str();
        if p.is_empty() {
            all.empty();
        } else {
            all.unchanged = Some(Secret::new(p.as_bytes().to_vec()));
            all.expected(p);
            all.empty();
            all.not_prepared(p);
            all.quotes(p);
            all.blanks(p);
            all.percent(p, expected.raw.as_ref().map(|raw| raw.expose().as_str()));
            all.dollars(expected, p);
            all.cuts(p);
        }
        all.user_names(Some(expected), user);
        all.given(expected);
        all.literals();
        if !p.is_empty() {
            all.backslashes(p);
            all.letters(p);
            all.encodings(p);
            all.combinations(p);
            all.truncations(p, prefixes);
            all.hashes(p, user);
        }
        all.unexpanded(Some(expected));
        all
    }

    /// Adds both forms of what a client may have put in: SASLprepped, then as written.
    fn add(&mut self, variant: Variant, shape: &str, detail: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = Secret::new(bytes.into());
        // What changes nothing is no mistake; the password may still be another one once it is prepared.
        if self.unchanged.as_ref().is_some_and(|unchanged| unchanged.expose() == bytes.expose()) {
            return;
        }
        if let Some(prepared) = saslprep::prepare(bytes.expose()).filter(|_| self.prepares) {
            self.add_form(What::Variant(variant), shape, detail, prepared);
        }
        self.add_form(What::Variant(variant), shape, detail, bytes);
    }

    fn add_form(&mut self, what: What, shape: &str, detail: &str, bytes: Secret<Vec<u8>>) {
        let same = self.list.iter_mut().find(|known| known.bytes.expose() == bytes.expose());
        match (same, what) {
            // What equals the expected password is no mutation of it.
            (Some(Candidate { what: What::Expected, .. }), _) => {}
            (Some(known), What::Variant(variant)) => {
                if known.what != what && !known.also.contains(&variant) {
                    known.also.push(variant);
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                let (shape, detail) = (shape.to_owned(), detail.to_owned());
                self.list.push(Candidate { what, bytes, shape, detail, also: Vec::new() });
            }
        }
    }

    fn expected(&mut self, p: &str) {
        let raw = Secret::new(p.as_bytes().to_vec());
        let form = saslprep::prepare(raw.expose()).filter(|_| self.prepares).unwrap_or(raw);
        self.add_form(What::Expected, "…", "", form);
    }

    fn empty(&mut self) {
        self.add_form(What::Empty, "", "the empty string", Secret::default());
    }

    fn not_prepared(&mut self, p: &str) {
        if !self.prepares {
            return;
        }
        let what = What::Variant(Variant::NotSaslprepped);
        self.add_form(
            what,
            "…",
            "as written, not prepared with SASLprep",
            Secret::new(p.as_bytes().to_vec()),
        );
        if let Some(strict) = saslprep::prepare_strictly(p.as_bytes()) {
            self.add_form(
                what,
                "…",
                "prepared to the letter of RFC 4013, which PostgreSQL does not do",
                strict,
            );
        }
    }

    fn quotes(&mut self, p: &str) {
        let both = [
            ("\"", "\"", "double quotes kept"),
            ("'", "'", "single quotes kept"),
            ("\\\"", "\\\"", "escaped double quotes kept"),
            ("`", "`", "backquotes kept"),
            ("“", "”", "typographic quotes kept"),
            ("\"", "", "a leading double quote kept"),
            ("", "\"", "a trailing double quote kept"),
            ("'", "", "a leading single quote kept"),
            ("", "'", "a trailing single quote kept"),
        ];
        for (open, close, detail) in both {
            self.add(Variant::QuotesKept, &format!("{open}…{close}"), detail, format!("{open}{p}{close}"));
        }
    }

    fn blanks(&mut self, p: &str) {
        self.add(Variant::TrailingNewline, "…\\n", "a trailing line feed", format!("{p}\n"));
        self.add(Variant::TrailingCr, "…\\r", "a trailing carriage return", format!("{p}\r"));
        self.add(Variant::TrailingCr, "…\\r\\n", "a trailing CR LF", format!("{p}\r\n"));
        for (blank, name) in BLANKS {
            self.add(
                Variant::TrailingSpace,
                &format!("…{blank}"),
                &format!("{name} behind it"),
                format!("{p}{blank}"),
            );
        }
        for (blank, name) in BLANKS {
            self.add(
                Variant::LeadingSpace,
                &format!("{blank}…"),
                &format!("{name} before it"),
                format!("{blank}{p}"),
            );
        }
        self.add(Variant::TrailingSpace, " … ", "a space on both sides", format!(" {p} "));
        self.add(Variant::TrailingNewline, "…\\n\\n", "two trailing line feeds", format!("{p}\n\n"));
        self.add(Variant::Bom, "\\u{FEFF}…", "a byte order mark before it", format!("\u{feff}{p}"));
        let escapes = ["\\n", "\\r\\n", "\\r"];
        for escape in escapes {
            let detail = format!("the characters {escape} behind it");
            self.add(Variant::NewlineEscapeKept, &format!("…{escape}"), &detail, format!("{p}{escape}"));
        }
    }

    fn percent(&mut self, p: &str, raw: Option<&str>) {
        if let Some(raw) = raw {
            self.add(Variant::PercentEncodedKept, "…", "as written in the URL, not decoded", raw);
        }
        let once = mutate::percent_decode(p.as_bytes());
        let twice = mutate::percent_decode(&once);
        let form = mutate::percent_decode(p.replace('+', " ").as_bytes());
        let lossy = String::from_utf8_lossy(&once).into_owned();
        let too_often = Variant::PercentDecodedOnceTooOften;
        if once != p.as_bytes() {
            self.add(too_often, "…", "its %XX decoded", once.clone());
            self.add(too_often, "…", "its %XX decoded, + taken for a space", form);
            self.add(too_often, "…", "its %XX decoded, wrong bytes replaced by U+FFFD", lossy);
        }
        if twice != once {
            self.add(Variant::PercentDecodedTwice, "…", "its %XX decoded twice", twice);
        }
        self.add(Variant::PlusAsSpace, "…", "every + taken for a space", p.replace('+', " "));
        self.add(Variant::SpaceAsPlus, "…", "every space written as +", p.replace(' ', "+"));
        for (text, how) in mutate::percent_encodings(p) {
            self.add(Variant::PercentEncodedKept, "…", &format!("percent-encoded: {how}"), text);
        }
    }

    fn dollars(&mut self, expected: &Expected, p: &str) {
        if !p.contains('$') {
            return;
        }
        let nothing = |_: &str| None;
        let known = |name: &str| {
            let values = expected.other_variables.iter().rev();
            values.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.expose().clone())
        };
        for expander in [Expander::Shell, Expander::Dotenv, Expander::Compose] {
            let lookups: [(Lookup<'_>, &str); 2] = [
                (&nothing, "$name in it replaced by nothing"),
                (&known, "$name in it replaced by another variable's value"),
            ];
            for (lookup, detail) in lookups {
                let parts = mutate::expand(p, expander, lookup);
                // More than one part: a process id stands between them, see `process_id_fits`.
                if let ([whole], true) = (parts.as_slice(), p.contains('$')) {
                    // Compose's `$$` alone is the other mistake, dollar_doubled.
                    if p.replace("$$", "$") != *whole {
                        self.add(Variant::DollarExpanded, "…", detail, whole.as_str());
                    }
                }
            }
        }
        self.add(Variant::DollarDoubled, "…", "$$ became $", p.replace("$$", "$"));
        self.add(Variant::DollarDoubled, "…", "$ became $$", p.replace('$', "$$"));
        self.add(Variant::DollarExpanded, "…", "its $ signs lost", p.replace('$', ""));
    }

    fn cuts(&mut self, p: &str) {
        let marks = [
            ('#', Variant::CutAtHash),
            ('@', Variant::CutAtAt),
            ('/', Variant::CutAtSlash),
            ('?', Variant::CutAtQuestion),
            ('&', Variant::CutAtAmpersand),
            (':', Variant::CutAtColon),
            (' ', Variant::CutAtSpace),
            ('$', Variant::CutAtDollar),
            ('%', Variant::CutAtPercent),
        ];
        for (mark, variant) in marks {
            let Some(head) = p.find(mark).map(|at| &p[..at]) else { continue };
            let name = if mark == ' ' { "space".to_owned() } else { format!("«{mark}»") };
            self.add(variant, "…", &format!("cut at its first {name}"), head);
            if mark == '#' {
                // A comment: .env readers drop the blanks before it too.
                self.add(variant, "…", "cut at its first «#», as a comment", head.trim_end());
            }
        }
        if let Some(at) = p.find(['\t', '\n', '\r']) {
            self.add(Variant::CutAtSpace, "…", "cut at its first blank", &p[..at]);
        }
    }

    fn user_names(&mut self, expected: Option<&Expected>, user: &[u8]) {
        let detail = "the user name";
        if !user.is_empty() {
            self.add(Variant::UserName, "the user name", detail, user);
        }
        if let Some(name) = expected.and_then(|e| e.user.as_deref()).filter(|name| !name.is_empty()) {
            self.add(Variant::UserName, "the user name", &format!("{detail} of the expected login"), name);
        }
    }

    fn given(&mut self, expected: &Expected) {
        for (name, value) in expected.other_variables.iter().take(MAX_OTHER_VARIABLES) {
            if !value.expose().is_empty() {
                let (shape, detail) = (format!("${name}"), format!("the value of {name}"));
                self.add(Variant::OtherVariable, &shape, &detail, value.expose().as_str());
            }
        }
        for value in expected.previous.iter().rev().take(MAX_PREVIOUS) {
            let detail = "a password that worked earlier in this run";
            self.add(Variant::PreviousPassword, "an earlier password", detail, value.expose().as_str());
        }
    }

    fn literals(&mut self) {
        for (variant, literal) in LITERALS {
            self.add(variant, literal, &format!("the literal {literal}"), literal);
        }
    }

    fn unexpanded(&mut self, expected: Option<&Expected>) {
        let source = expected.map_or("", |e| e.source.as_str());
        let is_name = |word: &&str| {
            word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        // "password of DATABASE_URL", ".env: DB_PASS": the names are the words in capitals.
        let own = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_name);
        let others =
            expected.map_or(&[][..], |e| &e.other_variables[..]).iter().map(|(name, _)| name.as_str());
        let others = others.filter(|name| {
            let name = name.to_ascii_uppercase();
            ["PASS", "SECRET", "PW", "TOKEN"].iter().any(|word| name.contains(word))
        });
        let mut names: Vec<&str> = Vec::new();
        for name in own.chain(USUAL_NAMES).chain(others.take(MAX_PREVIOUS)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let forms = [
                format!("${{{name}}}"),
                format!("${name}"),
                format!("%{name}%"),
                format!("{{{{{name}}}}}"),
                format!("{{{{ {name} }}}}"),
                format!("${{{{{name}}}}}"),
                format!("$({name})"),
                format!("process.env.{name}"),
            ];
            for form in forms {
                self.add(Variant::VariableUnexpanded, &form, &format!("the literal {form}"), form.as_str());
            }
        }
    }

    fn backslashes(&mut self, p: &str) {
        let shell = |c: char| " \t\n!\"#$&'()*,;<>?[\\]^`{|}~".contains(c);
        let kept = Variant::BackslashKept;
        self.add(kept, "…", "a shell's backslashes left in", mutate::escape(p, shell));
        self.add(kept, "…", "escapes of double quotes left in", mutate::escape(p, |c| "$`\"\\!".contains(c)));
        self.add(kept, "…", "escapes of JSON left in", mutate::escape(p, |c| "\"\\".contains(c)));
        self.add(kept, "…", "backslashes before all its signs", mutate::escape(p, |c| !c.is_alphanumeric()));
        for special in mutate::SPECIAL.chars().filter(|c| p.contains(*c)) {
            let detail = format!("a backslash before «{special}» left in");
            self.add(kept, "…", &detail, mutate::escape(p, |c| c == special));
        }
        self.add(kept, "…", "a shell's '\\'' left in", p.replace('\'', "'\\''"));
        if p.contains('\\') {
            let removed = Variant::BackslashRemoved;
            self.add(removed, "…", "its backslashes taken for escapes", mutate::unescape(p, false));
            self.add(removed, "…", "its \\n, \\t and the like interpreted", mutate::unescape(p, true));
            self.add(removed, "…", "its backslashes lost", p.replace('\\', ""));
            self.add(removed, "…", "its \\\\ became \\", p.replace("\\\\", "\\"));
        }
    }

    fn letters(&mut self, p: &str) {
        let changed = Variant::CaseChanged;
        self.add(changed, "…", "all lower case", p.to_lowercase());
        self.add(changed, "…", "all upper case", p.to_uppercase());
        self.add(changed, "…", "all ASCII letters lower case", p.to_ascii_lowercase());
        self.add(changed, "…", "all ASCII letters upper case", p.to_ascii_uppercase());
        self.add(Variant::CapsLock, "…", "upper and lower case swapped (Caps Lock)", mutate::swap_case(p));
        self.add(changed, "…", "its first letter capitalised", mutate::capitalised(p));
    }

    fn encodings(&mut self, p: &str) {
        if p.is_ascii() {
            return;
        }
        let form = Variant::UnicodeForm;
        self.add(form, "…", "in Unicode form NFC", p.nfc().collect::<String>());
        self.add(form, "…", "in Unicode form NFD", p.nfd().collect::<String>());
        self.add(form, "…", "in Unicode form NFKC", p.nfkc().collect::<String>());
        self.add(form, "…", "in Unicode form NFKD", p.nfkd().collect::<String>());
        for (windows, name) in [(false, "Latin-1"), (true, "Windows-1252")] {
            if let Some(bytes) = mutate::to_latin1(p, windows) {
                self.add(Variant::Latin1, "…", &format!("in {name} instead of UTF-8"), bytes);
            }
            let detail = format!("its UTF-8 bytes read as {name}");
            self.add(Variant::Latin1, "…", &detail, mutate::from_latin1(p, windows));
        }
        let marks: String = p.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        self.add(Variant::Latin1, "…", "its characters beyond ASCII replaced by ?", marks);
    }

    /// Pairs that come together in practice; the variant is the outer mistake, made last.
    fn combinations(&mut self, p: &str) {
        for (quote, name) in [("\"", "double"), ("'", "single")] {
            let shape = format!("{quote}…{quote}");
            let quoted = format!("{quote}{p}{quote}");
            let pairs = [
                (Variant::TrailingCr, "\r", "\\r", "a trailing carriage return"),
                (Variant::TrailingCr, "\r\n", "\\r\\n", "a trailing CR LF"),
                (Variant::TrailingNewline, "\n", "\\n", "a trailing line feed"),
            ];
            for (variant, end, shown, detail) in pairs {
                let detail = format!("{detail} behind {name} quotes that were kept too");
                self.add(variant, &format!("{shape}{shown}"), &detail, format!("{quoted}{end}"));
            }
            for (text, how) in mutate::percent_encodings(p).into_iter().take(3).filter(|(text, _)| text != p)
            {
                let detail = format!("{name} quotes kept around it, and percent-encoded: {how}");
                self.add(Variant::QuotesKept, &shape, &detail, format!("{quote}{text}{quote}"));
            }
        }
        self.add(Variant::TrailingNewline, "… \\n", "a space and a line feed behind it", format!("{p} \n"));
        for (text, how) in mutate::percent_encodings(p).into_iter().take(3).filter(|(text, _)| text != p) {
            let detail = format!("a trailing line feed, and percent-encoded: {how}");
            self.add(Variant::TrailingNewline, "…\\n", &detail, format!("{text}\n"));
            let detail = format!("a trailing carriage return, and percent-encoded: {how}");
            self.add(Variant::TrailingCr, "…\\r", &detail, format!("{text}\r"));
        }
    }

    fn truncations(&mut self, p: &str, prefixes: Prefixes) {
        let bytes = p.as_bytes();
        for width in WIDTHS.into_iter().filter(|width| *width < bytes.len()) {
            self.add(Variant::Truncated, "…", &format!("cut to {width} bytes"), &bytes[..width]);
        }
        for width in WIDTHS {
            if let Some((at, _)) = p.char_indices().nth(width) {
                self.add(Variant::Truncated, "…", &format!("cut to {width} characters"), &bytes[..at]);
            }
        }
        let lengths = match prefixes {
            Prefixes::Some => MIN_PREFIX..MIN_PREFIX + MAX_DEAR_PREFIXES,
            Prefixes::Of(length) => length..length.saturating_add(1),
            Prefixes::Every => MIN_PREFIX..MIN_PREFIX + MAX_PREFIXES,
        };
        for length in lengths.filter(|length| (MIN_PREFIX..bytes.len()).contains(length)) {
            self.add(
                Variant::Truncated,
                "…",
                &format!("cut after its first {length} bytes"),
                &bytes[..length],
            );
        }
    }

    fn hashes(&mut self, p: &str, user: &[u8]) {
        let hashed = Variant::HashedValue;
        let md5 = mutate::hex(&Md5::digest(p.as_bytes()));
        let stored = mutate::hex(&Md5::new().chain_update(p.as_bytes()).chain_update(user).finalize());
        self.add(hashed, "md5…", "the MD5 secret that the server stores", format!("md5{stored}"));
        self.add(hashed, "…", "the MD5 hash of password and user name", stored);
        self.add(hashed, "…", "the MD5 hash of the password", md5);
        self.add(hashed, "…", "the SHA-256 hash of the password", mutate::hex(&Sha256::digest(p.as_bytes())));
        self.add(hashed, "…", "the password in base64", BASE64.encode(p));
        self.add(hashed, "…", "the password and a line feed in base64", BASE64.encode(format!("{p}\n")));
    }
}

/// Which prefixes of the password are worth a try.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prefixes {
    /// The shorter ones, and those of the usual field widths: each costs a PBKDF2.
    Some,
    /// Of exactly this length: the cleartext is at hand.
    Of(usize),
    /// All of them: each costs an MD5.
    Every,
}

/// Whether `sent` is `p` after a shell replaced `$$` in it by its process id (cleartext only: a
/// process id can't be known, but it can be recognised).
pub(super) fn process_id_fits(p: &str, sent: &[u8]) -> bool {
    /// A process id on a 64-bit Linux is below 4,194,304.
    const MAX_DIGITS: usize = 7;
    let parts = mutate::expand(p, Expander::Shell, &|_| None);
    if parts.len() < 2 {
        return false;
    }
    (1..=MAX_DIGITS).any(|width| {
        let id = parts[0].len();
        let Some(digits) = sent.get(id..id + width).filter(|d| d.iter().all(u8::is_ascii_digit)) else {
            return false;
        };
        let texts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        texts.join(digits) == sent
    })
}
