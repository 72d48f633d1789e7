//! Where a startup packet can hold a secret: drivers pass on whatever a connection string says, and some
//! servers and poolers read passwords and tokens from parameters and from `options`.

/// Replaces what is secret in a parameter's value by as many stars.
pub fn blank(name: &[u8], value: &mut [u8]) {
    if is_secret(name) {
        star(value);
    } else if name.eq_ignore_ascii_case(b"options") {
        options(value);
    }
}

/// A parameter of the startup packet as it may be shown.
pub fn shown(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    blank(name, &mut value);
    value
}

/// Whether the value of a setting of this name is a secret. No setting of PostgreSQL's is one; who has one
/// puts a name on it.
fn is_secret(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |word: &str| name.windows(word.len()).any(|part| part == word.as_bytes());
    SECRET.iter().any(|word| has(word)) && name != b"password_encryption"
}

const SECRET: [&str; 9] =
    ["password", "passwd", "passphrase", "pwd", "token", "secret", "credential", "api_key", "apikey"];

/// The words of `options`, as `pg_split_opts` splits them: at blanks that no backslash stands before. Each
/// is `-cNAME=VALUE`, `-c` with the rest in the next word, `--NAME=VALUE`, or a gateway's own `NAME=VALUE`,
/// several of which are set apart by other marks.
fn options(value: &mut [u8]) {
    let mut start = 0;
    while start < value.len() {
        let mut end = start;
        while value.get(end).is_some_and(|byte| !byte.is_ascii_whitespace() && !b";&".contains(byte)) {
            end += if value.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        let end = end.min(value.len());
        let word = value.get_mut(start..end).unwrap_or_default();
        if let Some(equals) = word.iter().position(|byte| matches!(byte, b'=' | b':')) {
            let (name, rest) = word.split_at_mut(equals);
            let name = name.strip_prefix(b"-c").or(name.strip_prefix(b"--")).unwrap_or(name);
            if is_secret(name) {
                star(rest.get_mut(1..).unwrap_or_default());
            }
        }
        start = end + 1;
    }
}

fn star(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = b'*');
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[track_caller]
    fn check(name: &str, value: &str, wanted: &str) {
        assert_eq!(String::from_utf8_lossy(&shown(name.as_bytes(), value.as_bytes())), wanted, "{name}");
    }

    #[test]
    fn what_a_startup_packet_may_hide_is_blanked_and_nothing_else() {
        check("user", "password", "password");
        check("search_path", "token, public", "token, public");
        check("Password", "hunter2", "*******");
        check("access_token", "abc", "***");
        check("options", "-c geqo=off", "-c geqo=off");
        check("options", "-c password=hunter2 -c geqo=off", "-c password=******* -c geqo=off");
        check("options", "-cmy.secret=a\\ b --x-token=1", "-cmy.secret=**** --x-token=*");
        check("options", "endpoint=ep-1;password=x", "endpoint=ep-1;password=*");
        check("options", "password=x\\", "password=**");
        check("options", "-c password_encryption=md5", "-c password_encryption=md5");
        check("options", "", "");
    }
}
