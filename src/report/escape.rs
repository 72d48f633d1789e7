//! Text from the wire, made safe to show: a user name may hold terminal escapes, markup, or marks that turn
//! the direction of what follows.

/// Replaces control characters, and the invisible ones that reorder or hide text, by their escapes.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = matches!(c,
            '\u{00a0}' | '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
        if c.is_control() || hides { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The same for text and attributes of HTML and SVG.
pub fn markup(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    for c in visible(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            c => shown.push(c),
        }
    }
    shown
}

/// The same for a sentence in Markdown: nothing in it is markup, a link, a mention or a reference.
pub fn markdown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    for c in visible(text).chars() {
        let first = shown.is_empty();
        match c {
            // Trackers look for these in the text behind the markup: an empty comment parts them.
            '@' | '#' | '!' | '~' | '$' | '^' => {
                shown.extend(['\\', c].into_iter().chain("<!-- -->".chars()))
            }
            // Addresses of pages become links.
            '/' if shown.ends_with(':') => shown.push_str("<!-- -->/"),
            '.' if begins_link(&shown) || shown.bytes().all(|b| b.is_ascii_digit()) => shown.push_str("\\."),
            '-' | '+' | '=' if !first => shown.push(c),
            '.' | ':' | '\'' | '"' | ',' | ';' | '/' | '(' | ')' | '?' | '%' => shown.push(c),
            c if c.is_ascii_punctuation() => shown.extend(['\\', c]),
            c => shown.push(c),
        }
    }
    shown
}

fn begins_link(shown: &str) -> bool {
    let last = shown.get(shown.len().saturating_sub(3)..).unwrap_or_default();
    last.eq_ignore_ascii_case("www")
}

/// Text as code in Markdown; `table`: inside a table's row.
pub fn code(text: &str, table: bool) -> String {
    let text = visible(text);
    if text.is_empty() {
        return "—".into();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    let text = if table { text.replace('|', "\\|") } else { text };
    format!("{fence}{pad}{text}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::{code, markdown, markup, visible};

    #[test]
    fn a_terminal_never_gets_a_strangers_escapes() {
        assert_eq!(visible("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(visible("\u{202e}live"), "\\u{202e}live");
        assert_eq!(visible("a\u{2028}b\u{e0041}\u{3164}"), "a\\u{2028}b\\u{e0041}\\u{3164}");
        assert_eq!(visible("žluťoučký »x«"), "žluťoučký »x«");
    }

    #[test]
    fn a_page_never_gets_a_strangers_markup() {
        assert_eq!(markup("<b onx='1'>&\"\u{202e}"), "&lt;b onx=&#39;1&#39;&gt;&amp;&quot;\\u{202e}");
    }

    #[test]
    fn an_issue_never_gets_a_strangers_markdown() {
        assert_eq!(
            markdown("[x](y) *b* <i> `c` a_b|d\\"),
            "\\[x\\](y) \\*b\\* \\<i\\> \\`c\\` a\\_b\\|d\\\\"
        );
        assert_eq!(markdown("@me #12"), "\\@<!-- -->me \\#<!-- -->12");
        assert_eq!(markdown("http://x www.y 1.2"), "http:<!-- -->//x www\\.y 1.2");
        assert_eq!(markdown("1. a-b"), "1\\. a-b");
        assert_eq!(markdown("- a"), "\\- a");
        assert_eq!(markdown("a\nb"), "a\\\\nb");
        assert_eq!(code("a", false), "`a`");
        assert_eq!(code("a`b``c`", false), "``` a`b``c` ```");
        assert_eq!(code("a|b", true), "`a\\|b`");
        assert_eq!(code("", true), "—");
    }
}
