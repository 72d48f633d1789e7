//! Text from the wire, made safe to show: a user name may hold terminal escapes.

/// Replaces control characters, and the invisible ones that reorder or hide text, by their escapes.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{00a0}' | '\u{00ad}');
        if c.is_control() || hides { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_terminal_never_gets_a_strangers_escapes() {
        assert_eq!(visible("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(visible("\u{202e}live"), "\\u{202e}live");
        assert_eq!(visible("žluťoučký »x«"), "žluťoučký »x«");
    }
}
