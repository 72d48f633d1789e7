//! What a server says that takes no logins: SQLSTATE 57P03 is the same for all of it, and so is the routine.

use super::catalogue::{in_ascii, is_readable};

/// Why a server takes no logins now (`ProcessStartupPacket`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `CAC_STARTUP`
    StartingUp,
    /// A hot standby that has not come to a consistent state yet.
    NotYetAccepting,
    /// A standby that takes no logins at all.
    NotAccepting,
    /// `CAC_SHUTDOWN`
    ShuttingDown,
    /// `CAC_RECOVERY`: after a crash.
    InRecovery,
}

/// The state that a message names, in a language of the table.
pub fn state(message: &str) -> Option<State> {
    // A server whose LC_CTYPE is C writes `f?hrt`.
    let plain = |text: &str| message.is_ascii() && is_readable(text) && in_ascii(text) == message;
    let found = STATES.iter().find(|(_, _, text)| message.contains(text) || plain(text));
    found.map(|(state, ..)| *state)
}

/// State, language, text (`src/backend/po/*.po` of 15); in English, what stays the same in the words of other products.
#[rustfmt::skip]
const STATES: &[(State, &str, &str)] = &[
    (State::StartingUp, "en", "starting up"),
    (State::StartingUp, "de", "das Datenbanksystem startet"),
    (State::StartingUp, "es", "el sistema de base de datos está iniciándose"),
    (State::StartingUp, "fr", "le système de bases de données se lance"),
    (State::StartingUp, "it", "il database si sta avviando"),
    (State::StartingUp, "ja", "データベースシステムは起動処理中です"),
    (State::StartingUp, "ka", "მიმდინარეობს მონაცემთა ბაზის სისტემის გაშვება"),
    (State::StartingUp, "ko", "데이터베이스 시스템이 새로 가동 중입니다."),
    (State::StartingUp, "ru", "система баз данных запускается"),
    (State::StartingUp, "sv", "databassystemet startar upp"),
    (State::StartingUp, "uk", "система бази даних запускається"),
    (State::StartingUp, "zh_CN", "数据库系统正在启动"),
    (State::StartingUp, "zh_TW", "資料庫系統正在啟動"),
    (State::NotYetAccepting, "en", "not yet accepting connections"),
    (State::NotYetAccepting, "de", "das Datenbanksystem nimmt noch keine Verbindungen an"),
    (State::NotYetAccepting, "es", "el sistema de bases de datos aún no está aceptando conexiones"),
    (State::NotYetAccepting, "fr", "le système de bases de données n'accepte pas encore de connexions"),
    (State::NotYetAccepting, "it", "il sistema di database non accetta ancora connessioni"),
    (State::NotYetAccepting, "ja", "データベースシステムはまだ接続を受け付けていません"),
    (State::NotYetAccepting, "ka", "მონაცემთა ბაზის სისტემა ჯერ მიერთებებს არ იღებს"),
    (State::NotYetAccepting, "ko", "해당 데이터베이스 시스템은 아직 접속을 허용하지 않습니다."),
    (State::NotYetAccepting, "ru", "система БД ещё не принимает подключения"),
    (State::NotYetAccepting, "sv", "databassystemet tar ännu inte emot anslutningar"),
    (State::NotYetAccepting, "uk", "система бази даних ще не приймає підключення"),
    (State::NotYetAccepting, "zh_CN", "数据库系统尚未接受连接"),
    (State::NotYetAccepting, "zh_TW", "資料庫系統尚未接受連線"),
    (State::NotAccepting, "en", "not accepting connections"),
    (State::NotAccepting, "de", "das Datenbanksystem nimmt keine Verbindungen an"),
    (State::NotAccepting, "es", "el sistema de bases de datos no está aceptando conexiones"),
    (State::NotAccepting, "fr", "le système de bases de données n'accepte pas de connexions"),
    (State::NotAccepting, "it", "il sistema di database non accetta connessioni"),
    (State::NotAccepting, "ja", "データベースシステムは接続を受け付けていません"),
    (State::NotAccepting, "ka", "მონაცემთა ბაზის სისტემა მიერთებებს არ იღებს"),
    (State::NotAccepting, "ko", "해당 데이터베이스 시스템은 접속을 허용하지 않습니다."),
    (State::NotAccepting, "ru", "система БД не принимает подключения"),
    (State::NotAccepting, "sv", "databassystemet tar inte emot anslutningar"),
    (State::NotAccepting, "uk", "система бази даних не приймає підключення"),
    (State::NotAccepting, "zh_CN", "数据库系统不接受连接"),
    (State::NotAccepting, "zh_TW", "資料庫系統不接受連線"),
    (State::ShuttingDown, "en", "shutting down"),
    (State::ShuttingDown, "de", "das Datenbanksystem fährt herunter"),
    (State::ShuttingDown, "es", "el sistema de base de datos está apagándose"),
    (State::ShuttingDown, "fr", "le système de base de données s'arrête"),
    (State::ShuttingDown, "it", "il database si sta spegnendo"),
    (State::ShuttingDown, "ja", "データベースシステムはシャットダウンしています"),
    (State::ShuttingDown, "ka", "მონაცემთა ბაზის სისტემა ითიშება"),
    (State::ShuttingDown, "ko", "데이터베이스 시스템이 중지 중입니다"),
    (State::ShuttingDown, "ru", "система баз данных останавливается"),
    (State::ShuttingDown, "sv", "databassystemet stänger ner"),
    (State::ShuttingDown, "uk", "система бази даних завершує роботу"),
    (State::ShuttingDown, "zh_CN", "数据库系统正在关闭"),
    (State::ShuttingDown, "zh_TW", "資料庫系統正在關閉"),
    (State::InRecovery, "en", "in recovery mode"),
    (State::InRecovery, "de", "das Datenbanksystem ist im Wiederherstellungsmodus"),
    (State::InRecovery, "es", "el sistema de base de datos está en modo de recuperación"),
    (State::InRecovery, "fr", "le système de bases de données est en cours de restauration"),
    (State::InRecovery, "it", "il database è in modalità di ripristino"),
    (State::InRecovery, "ja", "データベースシステムはリカバリモードです"),
    (State::InRecovery, "ka", "მონაცემთა ბაზის სისტემა აღდგენის რეჟიმშია"),
    (State::InRecovery, "ko", "데이터베이스 시스템이 자동 복구 작업 중입니다."),
    (State::InRecovery, "ru", "система баз данных в режиме восстановления"),
    (State::InRecovery, "sv", "databassystemet är återställningsläge"),
    (State::InRecovery, "uk", "система бази даних у режимі відновлення"),
    (State::InRecovery, "zh_CN", "数据库系统在恢复模式中"),
    (State::InRecovery, "zh_TW", "資料庫系統處於復原模式"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_apart_in_any_language() {
        for (message, expected) in [
            ("the database system is starting up", Some(State::StartingUp)),
            ("das Datenbanksystem fährt herunter", Some(State::ShuttingDown)),
            ("das Datenbanksystem f?hrt herunter", Some(State::ShuttingDown)),
            ("система БД ещё не принимает подключения", Some(State::NotYetAccepting)),
            ("?????????????????????", None),
            ("the database system is on holiday", None),
        ] {
            assert_eq!(state(message), expected, "{message}");
        }
        for (at, (state, language, text)) in STATES.iter().enumerate() {
            let alike = STATES.iter().skip(at + 1).find(|(other, _, same)| same == text && other != state);
            assert_eq!(alike, None, "{language} says the same of two states");
        }
    }
}
