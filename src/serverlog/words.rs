//! The words that stand before the two spaces: severities and parts, in the languages of
//! `src/backend/po` (`error_severity` and `send_message_to_server_log` in elog.c).

use super::{Part, Severity};

/// What a line of a stderr log starts with behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A message begins.
    Severity(Severity),
    /// More about the message of the same process.
    Part(Part),
    /// A word of a language that is not in the table.
    Unknown,
}

/// The severity that a word of any language names (csvlog and jsonlog translate it too).
pub(super) fn severity(word: &str) -> Severity {
    SEVERITIES.iter().find(|(_, words)| words.contains(&word)).map_or(Severity::Unknown, |(found, _)| *found)
}

/// The known word that `head` ends with; the longest one, where one is the end of another.
pub(super) fn ending(head: &str) -> Option<(usize, Word)> {
    let severities =
        SEVERITIES.iter().flat_map(|(found, words)| words.iter().map(|w| (*w, Word::Severity(*found))));
    let parts = PARTS.iter().flat_map(|(found, words)| words.iter().map(|w| (*w, Word::Part(*found))));
    let fits = |word: &str| {
        let before = head.strip_suffix(word).map(|rest| rest.chars().next_back());
        // `:FATAL` and `-FATAL` are words of their own; `CATALOG` does not end with LOG.
        before.is_some_and(|before| before.is_none_or(|c| !c.is_alphanumeric() && c != '_'))
    };
    let found = severities.chain(parts).filter(|(word, _)| fits(word)).max_by_key(|(word, _)| word.len());
    found.map(|(word, meaning)| (head.len() - word.len(), meaning))
}

/// Severities and their words; where two share one in some language, the first counts.
const SEVERITIES: [(Severity, &[&str]); 8] = [
    (
        Severity::Fatal,
        &["FATAL", "FATALE", "ფატალური", "치명적오류", "ВАЖНО", "FATALT", "ФАТАЛЬНО", "致命错误", "致命錯誤"],
    ),
    (Severity::Log, &["LOG", "ჟურნალი", "로그", "СООБЩЕНИЕ", "LOGG", "ЗАПИСУВАННЯ", "日志", "日誌"]),
    (
        Severity::Panic,
        &["PANIC", "PANIK", "PANICO", "პანიკა", "손상", "ПАНИКА", "ПАНІКА", "灾难性错误", "嚴重錯誤"],
    ),
    (
        Severity::Error,
        &[
            "ERROR",
            "FEHLER",
            "ERREUR",
            "ERRORE",
            "შეცდომა",
            "오류",
            "ОШИБКА",
            "FEL",
            "ПОМИЛКА",
            "错误",
            "錯誤",
        ],
    ),
    (
        Severity::Warning,
        &[
            "WARNING",
            "WARNUNG",
            "ATTENTION",
            "ATTENZIONE",
            "გაფრთხილება",
            "경고",
            "ПРЕДУПРЕЖДЕНИЕ",
            "VARNING",
            "ПОПЕРЕДЖЕННЯ",
            "警告",
        ],
    ),
    (
        Severity::Notice,
        &["NOTICE", "HINWEIS", "NOTIFICA", "알림", "ЗАМЕЧАНИЕ", "NOTIS", "ПОВІДОМЛЕННЯ", "注意"],
    ),
    (Severity::Info, &["INFO", "ინფორმაცია", "정보", "ИНФОРМАЦИЯ", "ІНФОРМАЦІЯ", "信息", "資訊"]),
    (Severity::Debug, &["DEBUG", "გამართვა", "디버그", "ОТЛАДКА", "НАЛАГОДЖЕННЯ", "调试", "除錯"]),
];

/// Parts and their words; where two share one in some language, the first counts. Those with a
/// question mark are what a server with LC_CTYPE C makes of them.
const PARTS: [(Part, &[&str]); 7] = [
    (
        Part::Detail,
        &[
            "DETAIL",
            "DETALLE",
            "DÉTAIL",
            "D?TAIL",
            "DETTAGLI",
            "詳細",
            "დეტალები",
            "상세정보",
            "ПОДРОБНОСТИ",
            "DETALJ",
            "ВІДОМОСТІ",
            "详情",
            "詳情",
        ],
    ),
    (
        Part::Hint,
        &[
            "HINT",
            "TIPP",
            "ASTUCE ",
            "SUGGERIMENTO",
            "ヒント",
            "მინიშნება",
            "힌트",
            "ПОДСКАЗКА",
            "TIPS",
            "УКАЗІВКА",
            "提示",
        ],
    ),
    (
        Part::Context,
        &[
            "CONTEXT",
            "ZUSAMMENHANG",
            "CONTEXTO",
            "CONTEXTE ",
            "CONTESTO",
            "文脈",
            "კონტექსტი",
            "내용",
            "КОНТЕКСТ",
            "KONTEXT",
            "上下文",
        ],
    ),
    (
        Part::Other,
        &[
            "STATEMENT",
            "ANWEISUNG",
            "SENTENCIA",
            "INSTRUCTION ",
            "ISTRUZIONE",
            "文",
            "ოპერატორი",
            "명령 구문",
            "ОПЕРАТОР",
            "SATS",
            "ІНСТРУКЦІЯ",
            "语句",
            "陳述式",
        ],
    ),
    (
        Part::Other,
        &[
            "QUERY",
            "ANFRAGE",
            "CONSULTA",
            "REQUÊTE ",
            "REQU?TE ",
            "問い合わせ",
            "მოთხოვნა",
            "ЗАПРОС",
            "FRÅGA",
            "ЗАПИТ",
            "查询",
            "查詢",
        ],
    ),
    (Part::Other, &["BACKTRACE", "バックトレース", "სტეკი", "역추적", "СТЕК", "ВІДСТЕЖУВАТИ", "回溯"]),
    (
        Part::Other,
        &[
            "LOCATION",
            "ORT",
            "UBICACIÓN",
            "UBICACI?N",
            "EMPLACEMENT ",
            "POSIZIONE",
            "場所",
            "PLATS",
            "РОЗТАШУВАННЯ",
            "位置",
        ],
    ),
];
