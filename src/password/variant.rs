//! The known mistakes by which a password changes on its way into a client.

use std::fmt;

/// One table: the enum, its ids (exactly those of `password_mismatch` in docs/causes.toml) and `all()`.
macro_rules! variants {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// What the client did to the expected password; the ids are those of docs/causes.toml.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Variant { $($(#[$doc])* $name,)* }

        impl Variant {
            /// The id in docs/causes.toml, as reports show it.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// Every variant, in the order of docs/causes.toml.
            pub fn all() -> &'static [Variant] {
                &[$(Self::$name,)*]
            }
        }
    };
}

variants! {
    /// `"P"` or `'P'`, or one of the two quotes.
    QuotesKept = "quotes_kept",
    /// P and a line feed.
    TrailingNewline = "trailing_newline",
    /// P and a carriage return, or CR LF.
    TrailingCr = "trailing_cr",
    /// P and a blank (space, tab, no-break space).
    TrailingSpace = "trailing_space",
    /// A blank and P.
    LeadingSpace = "leading_space",
    /// U+FEFF and P.
    Bom = "bom",
    /// P percent-encoded, wholly or in part.
    PercentEncodedKept = "percent_encoded_kept",
    /// P decoded twice.
    PercentDecodedTwice = "percent_decoded_twice",
    /// P itself holds `%xx`, and it was decoded.
    PercentDecodedOnceTooOften = "percent_decoded_once_too_often",
    /// `+` became a space.
    PlusAsSpace = "plus_as_space",
    /// A space became `+`.
    SpaceAsPlus = "space_as_plus",
    /// P up to its first `#`.
    CutAtHash = "cut_at_hash",
    /// P up to its first `@`.
    CutAtAt = "cut_at_at",
    /// P up to its first `/`.
    CutAtSlash = "cut_at_slash",
    /// P up to its first `?`.
    CutAtQuestion = "cut_at_question",
    /// P up to its first `&`.
    CutAtAmpersand = "cut_at_ampersand",
    /// P up to its first `:`.
    CutAtColon = "cut_at_colon",
    /// P up to its first blank.
    CutAtSpace = "cut_at_space",
    /// P up to its first `$`.
    CutAtDollar = "cut_at_dollar",
    /// P up to its first `%`.
    CutAtPercent = "cut_at_percent",
    /// `$name` or `${name}` in P was replaced.
    DollarExpanded = "dollar_expanded",
    /// `$$` became `$`, or `$` became `$$`.
    DollarDoubled = "dollar_doubled",
    /// P with escapes of a shell or of JSON left in.
    BackslashKept = "backslash_kept",
    /// Backslashes of P were taken for escapes.
    BackslashRemoved = "backslash_removed",
    /// P followed by a backslash and the letter n.
    NewlineEscapeKept = "newline_escape_kept",
    /// All upper or all lower case.
    CaseChanged = "case_changed",
    /// Upper and lower case swapped.
    CapsLock = "caps_lock",
    /// Another Unicode normalisation form of P.
    UnicodeForm = "unicode_form",
    /// P as written, where the server prepares it with SASLprep.
    NotSaslprepped = "not_saslprepped",
    /// P in Latin-1, or its UTF-8 bytes read as Latin-1.
    Latin1 = "latin1",
    /// A proper prefix of P.
    Truncated = "truncated",
    /// The literal `undefined`.
    LiteralUndefined = "literal_undefined",
    /// The literal `null`, `None`, `nil`, `NaN`, `true` or `false`.
    LiteralNull = "literal_null",
    /// `${NAME}`, `$NAME`, `%NAME%` or `{{NAME}}`, not replaced by its value.
    VariableUnexpanded = "variable_unexpanded",
    /// The user name.
    UserName = "user_name",
    /// Another value of the same environment.
    OtherVariable = "other_variable",
    /// A password that worked earlier in this run.
    PreviousPassword = "previous_password",
    /// The stored secret, or a hash of P.
    HashedValue = "hashed_value",
    /// None of these.
    Unknown = "unknown",
}

impl Variant {
    /// Whether nobody chooses it: it came out of a program that had no password.
    pub fn is_literal(self) -> bool {
        matches!(self, Self::LiteralUndefined | Self::LiteralNull | Self::VariableUnexpanded)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_table_of_causes() {
        let table = include_str!("../../docs/causes.toml");
        let entry = table.split("[[cause]]").find(|e| e.contains("id = \"password_mismatch\"")).unwrap();
        let list = entry.split("variants = [").nth(1).unwrap().split("\n]").next().unwrap();
        let ids: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        let ours: Vec<&str> = Variant::all().iter().map(|v| v.id()).collect();
        assert_eq!(ours, ids);
    }
}
