//! Times as elog.c writes them: `2026-11-21 05:25:00.123 UTC` (`get_formatted_log_time`), the same
//! without milliseconds (`%t`, `%s`), and RFC 3339 from what stands around a server.

use std::ops::Range;

/// A time found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Where it stands.
    pub(super) range: Range<usize>,
    /// Milliseconds since 1970, if the zone is known.
    pub(super) unix_ms: Option<i64>,
    /// It has milliseconds.
    pub(super) has_millis: bool,
}

/// The first time in `text` that is written as PostgreSQL does, else the first in RFC 3339: syslog and
/// containers put theirs in front.
pub(super) fn find(text: &str) -> Option<Stamp> {
    let mut other = None;
    for (at, _) in text.char_indices() {
        let Some(rest) = text.get(at..) else { continue };
        let before = text.as_bytes().get(at.wrapping_sub(1));
        if before.is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Some((length, unix_ms, has_millis)) = read(rest) else { continue };
        let stamp = Stamp { range: at..at + length, unix_ms, has_millis };
        if rest.as_bytes().get(10) == Some(&b' ') {
            return Some(stamp);
        }
        other.get_or_insert(stamp);
    }
    other
}

/// Reads a time at the start of `text`: its length, its value, whether it has milliseconds.
pub(super) fn read(text: &str) -> Option<(usize, Option<i64>, bool)> {
    let bytes = text.as_bytes();
    let digits = |at: usize, count: usize| -> Option<i64> {
        let part = bytes.get(at..at + count)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let marks = is(4, b"-") && is(7, b"-") && is(10, b" T") && is(13, b":") && is(16, b":");
    let sane =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !marks || !sane || year < 1970 {
        return None;
    }
    let mut end = 19;
    let mut millis = 0;
    let has_millis = is(end, b".") && digits(end + 1, 1).is_some();
    if has_millis {
        let fraction: Vec<i64> = bytes[end + 1..]
            .iter()
            .map_while(|d| d.is_ascii_digit().then(|| i64::from(d - b'0')))
            .take(9)
            .collect();
        millis = fraction.iter().chain(&[0, 0]).take(3).fold(0, |n, d| n * 10 + d);
        end += 1 + fraction.len();
    }
    let (zone_length, offset) = zone(text.get(end..).unwrap_or_default());
    let days = days_from_civil(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((end + zone_length, offset.map(|offset| (seconds - offset) * 1_000 + millis), has_millis))
}

/// A zone behind a time: its length with the blank before it, and its offset in seconds.
fn zone(text: &str) -> (usize, Option<i64>) {
    let blank = usize::from(text.starts_with(' '));
    let rest = &text[blank..];
    if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-')) {
        let body = &rest[1..];
        let length = body.bytes().take_while(|b| b.is_ascii_digit() || *b == b':').count();
        let digits: Vec<i64> =
            body[..length].bytes().filter(u8::is_ascii_digit).map(|d| i64::from(d - b'0')).collect();
        let pair =
            |at: usize| digits.get(at).zip(digits.get(at + 1)).map_or(0, |(high, low)| high * 10 + low);
        if digits.len() < 2 {
            return (0, None);
        }
        let offset = pair(0) * 3_600 + pair(2) * 60 + pair(4);
        return (blank + 1 + length, Some(if sign == '-' { -offset } else { offset }));
    }
    let length = rest.bytes().take_while(u8::is_ascii_uppercase).count();
    let name = &rest[..length];
    match ZONES.iter().find(|(zone, _)| *zone == name) {
        Some((_, minutes)) => (blank + length, Some(minutes * 60)),
        // `PST8PDT`-like names and words of the prefix are no zones that we know.
        None if (2..=5).contains(&length) => (blank + length, None),
        None => (0, None),
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let of_era = year - era * 400;
    let shifted = (month + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Abbreviations that mean one offset (minutes). CST, IST, BST and AST do not, and are left out.
const ZONES: [(&str, i64); 33] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UCT", 0),
    ("Z", 0),
    ("WET", 0),
    ("WEST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("MET", 60),
    ("MEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("EST", -300),
    ("EDT", -240),
    ("CDT", -300),
    ("MDT", -360),
    ("MST", -420),
    ("PST", -480),
    ("PDT", -420),
    ("AKST", -540),
    ("AKDT", -480),
    ("HST", -600),
    ("JST", 540),
    ("KST", 540),
    ("HKT", 480),
    ("WIB", 420),
    ("AEST", 600),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
    ("SAST", 120),
    ("EAT", 180),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, length: usize, unix_ms: Option<i64>) {
        assert_eq!(read(text).map(|(length, ms, _)| (length, ms)), Some((length, unix_ms)), "{text}");
    }

    #[test]
    fn times_in_the_forms_of_servers() {
        // Python: datetime.fromisoformat('2026-11-21T05:25:00.123+00:00').timestamp()
        let ms = 1_795_238_700_123;
        check("2026-11-21 05:25:00.123 UTC [12]", 27, Some(ms));
        check("2026-11-21 06:25:00.123 CET:x", 27, Some(ms));
        check("2026-11-21 02:25:00.123 -03 ", 27, Some(ms));
        check("2026-11-21 10:55:00.123 +0530", 29, Some(ms));
        check("2026-11-21T05:25:00.123456789Z x", 30, Some(ms));
        check("2026-11-21 05:25:00 UTC", 23, Some(ms - 123));
        check("2026-11-21 05:25:00.123 CST", 27, None);
        check("2024-02-29 23:59:59 UTC", 23, Some(1_709_251_199_000));
        for bad in [
            "",
            "2026-11-21",
            "2026-13-21 05:25:00",
            "2026-11-21 25:25:00",
            "2026.11.21 05:25:00",
            "１２３４",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(find("Nov 2026-11-21T01:00:00Z pg 2026-11-21 05:25:00 UTC").unwrap().range, 28..51);
    }
}
