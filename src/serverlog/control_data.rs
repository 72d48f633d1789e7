//! What `pg_controldata` prints (12 to 18), in any language.
//!
//! Labels are translated and their order has changed, so a line is known by the look of its value:
//! only one has 64 hex digits (the mock authentication nonce), only one 18 to 20 decimal digits
//! (the system identifier), only one the form of a catalog version.

/// What pgwhy needs of a cluster's control data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlData {
    /// `Database system identifier`.
    pub system_identifier: Option<u64>,
    /// `Mock authentication nonce`: with it, a made-up salt can be told from a real one.
    pub mock_nonce: Option<[u8; 32]>,
    /// `Catalog version number`.
    pub catalog_version: Option<u32>,
    /// The major version that the catalog version stands for.
    pub version: Option<u32>,
}

/// The output has about 60 lines of 80 bytes; a larger file is something else.
pub const MAX_CONTROL_DATA: usize = 64 * 1024;

/// `CATALOG_VERSION_NO` of the released majors (`src/include/catalog/catversion.h`).
const CATALOG_VERSIONS: [(u32, u32); 7] = [
    (201_909_212, 12),
    (202_007_201, 13),
    (202_107_181, 14),
    (202_209_061, 15),
    (202_307_071, 16),
    (202_406_281, 17),
    (202_506_291, 18),
];

/// Reads the output; what it does not have stays `None`. Two different nonces prove that this is no
/// output of one `pg_controldata`, so none is believed.
pub fn parse(text: &str) -> ControlData {
    let mut found = ControlData::default();
    let mut nonces = 0;
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_CONTROL_DATA);
    for line in text.get(..end.unwrap_or(text.len())).unwrap_or_default().lines() {
        let Some(value) =
            line.rsplit(|c: char| c.is_whitespace() || c == ':' || c == '：').find(|v| !v.is_empty())
        else {
            continue;
        };
        if let Some(nonce) = nonce(value) {
            nonces += usize::from(found.mock_nonce != Some(nonce));
            found.mock_nonce = Some(nonce);
        } else if value.bytes().all(|b| b.is_ascii_digit()) {
            match value.len() {
                18..=20 if found.system_identifier.is_none() => found.system_identifier = value.parse().ok(),
                9 if value.starts_with("20") && found.catalog_version.is_none() => {
                    found.catalog_version = value.parse().ok();
                }
                _ => {}
            }
        }
    }
    if nonces != 1 {
        found.mock_nonce = None;
    }
    let major =
        |catalog| CATALOG_VERSIONS.iter().find(|(number, _)| *number == catalog).map(|(_, major)| *major);
    found.version = found.catalog_version.and_then(major);
    found
}

fn nonce(value: &str) -> Option<[u8; 32]> {
    let digits = value.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut nonce = [0; 32];
    for (byte, pair) in nonce.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

    #[test]
    fn english_and_translated_output_say_the_same() {
        let english = format!(
            "pg_control version number:            1300\nCatalog version number:               202209061\n\
             Database system identifier:           7312345678901234567\nDatabase cluster state:               in production\n\
             Latest checkpoint's REDO WAL file:    000000010000000000000001\nMock authentication nonce:            {NONCE}\n"
        );
        let russian = format!(
            "Номер версии pg_control:              1300\nНомер версии каталога:                202209061\n\
             Идентификатор системы баз данных:     7312345678901234567\nСлучайное число для псевдоаутентификации: {NONCE}\n"
        );
        let read = parse(&english);
        assert_eq!(read.system_identifier, Some(7_312_345_678_901_234_567));
        assert_eq!((read.version, read.catalog_version), (Some(15), Some(202_209_061)));
        assert_eq!(read.mock_nonce.map(|nonce| nonce[..3].to_vec()), Some(vec![0x0f, 0x1e, 0x2d]));
        assert_eq!(parse(&russian), read);
        assert_eq!(parse(&english.replace('\n', "\r\n")), read);
    }

    #[test]
    fn nothing_is_made_up() {
        for text in ["", "\u{feff}", "nonce: xyz", "a：", &"é".repeat(MAX_CONTROL_DATA)] {
            assert_eq!(parse(text), ControlData::default(), "{text:.20}");
        }
        let other = NONCE.replace('f', "e");
        assert_eq!(parse(&format!("a: {NONCE}\nb: {other}\n")).mock_nonce, None);
        assert_eq!(parse(&format!("a: {}\n", NONCE.replace('f', "é"))).mock_nonce, None);
    }
}
