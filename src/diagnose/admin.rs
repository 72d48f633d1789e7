//! What an administrator's connection (`--admin`) tells about a failed login: the server's own
//! catalogs and settings as plain data. Asking for it is the program's business.
//!
//! The facts are as old as [`AdminFacts::gathered`]: what was changed between a failure and that
//! moment (a role created, a password set) is not what the failed login met.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

pub use crate::hba::ViewRow as HbaRow;
use crate::password::Exchange;
use crate::password::scram::{ScramSecret, auth_message, client_proof_fits};
use crate::secret::Secret;

/// PBKDF2 rounds that one comparison may cost (about half a second): a stored secret of more is not
/// tested, because its iteration count is the server's word.
pub const MAX_ROUNDS: u32 = 1 << 20;

/// PostgreSQL's `NAMEDATALEN - 1`: names of roles and databases are no longer than this.
pub const NAME_BYTES: usize = 63;

/// A fact, or why it could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The server said so.
    Known(T),
    /// It could not be seen, for this reason (a sentence for people, not escaped).
    Hidden(String),
}

impl<T> Answer<T> {
    /// The fact, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Hidden(_) => None,
        }
    }

    /// Applies `then` to the fact.
    pub fn map<U>(self, then: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Known(fact) => Answer::Known(then(fact)),
            Self::Hidden(reason) => Answer::Hidden(reason),
        }
    }
}

/// Everything that was asked for one failed login.
#[derive(Clone, Debug)]
pub struct AdminFacts {
    /// When they were gathered, by our clock, in milliseconds since 1970.
    pub gathered: i64,
    /// `server_version_num`: 150004 is 15.4.
    pub server_version_num: i32,
    /// The address that the administrator's connection reached; none over a Unix socket.
    pub address: Option<std::net::IpAddr>,
    /// Whom the administrator's connection is (`current_user`).
    pub connected_as: String,
    /// The server is a standby (`pg_is_in_recovery()`).
    pub in_recovery: bool,
    /// What could not be seen and why, in sentences for people (not escaped).
    pub unseen: Vec<String>,
    /// The role that the server looks up for the asked user: names are cut at 63 bytes.
    pub role: Answer<Option<RoleFacts>>,
    /// Roles whose names differ from the asked one only in case, or in blanks, line ends or quotes
    /// around it; and the asked name cut at 63 bytes, if there is such a role.
    pub similar_roles: Vec<String>,
    /// The database that the server looks up for the asked one.
    pub database: Answer<Option<DatabaseFacts>>,
    /// As `similar_roles`.
    pub similar_databases: Vec<String>,
    /// `pg_settings`.
    pub settings: SettingsFacts,
    /// `pg_hba_file_rules`: what the file says **now**, not what the server has loaded; compare
    /// [`SettingsFacts::hba_changed_after_load`].
    pub hba_rules: Answer<Vec<HbaRow>>,
    /// `pg_stat_activity`, at the time of asking and without our own connection.
    pub backends: Answer<Backends>,
}

impl AdminFacts {
    /// The role, if it was seen to exist.
    pub fn known_role(&self) -> Option<&RoleFacts> {
        self.role.known()?.as_ref()
    }

    /// The database, if it was seen to exist.
    pub fn known_database(&self) -> Option<&DatabaseFacts> {
        self.database.known()?.as_ref()
    }

    /// Connections that a role without privileges could still open: what `max_connections` leaves
    /// without `superuser_reserved_connections` and `reserved_connections`; never below 0.
    pub fn slots_left(&self) -> Option<i64> {
        let settings = &self.settings;
        let reserved = settings.superuser_reserved_connections? + settings.reserved_connections?;
        let left = settings.max_connections? - reserved - self.backends.known()?.total;
        Some(left.max(0))
    }

    /// Lines of pg_hba.conf that PostgreSQL can't read: with one of them it keeps its old rules.
    pub fn hba_errors(&self) -> impl Iterator<Item = &HbaRow> {
        self.hba_rules.known().into_iter().flatten().filter(|row| row.refusal().is_some())
    }
}

/// One row of `pg_authid` (or, with less rights, `pg_roles`).
#[derive(Clone, Debug)]
pub struct RoleFacts {
    /// `rolname`.
    pub name: String,
    /// `rolcanlogin`.
    pub can_login: bool,
    /// `rolsuper`.
    pub superuser: bool,
    /// `rolreplication`.
    pub replication: bool,
    /// `rolconnlimit`; `None` for no limit.
    pub connection_limit: Option<i32>,
    /// `rolvaliduntil`.
    pub valid_until: ValidUntil,
    /// `rolvaliduntil` was past by the server's clock (`get_role_password`, crypt.c).
    pub expired: bool,
    /// All roles that it is a member of, directly or through others, itself not among them
    /// (`pg_auth_members`): what `+role` and `samerole` in pg_hba.conf go by.
    pub member_of: Answer<Vec<String>>,
    /// `rolpassword`; known and `None` when it is NULL.
    pub secret: Answer<Option<StoredSecret>>,
}

/// `rolvaliduntil`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidUntil {
    /// NULL or `infinity`.
    Always,
    /// Milliseconds since 1970.
    Until(i64),
    /// `-infinity`.
    Never,
}

/// What kind of secret the server holds (`get_password_type`, crypt.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// `md5` and 32 hexadecimal digits.
    Md5,
    /// A SCRAM-SHA-256 secret.
    Scram {
        /// PBKDF2 rounds.
        iterations: u32,
        /// The salt that the server sends, when it sends the real one.
        salt: Vec<u8>,
    },
    /// Neither; no login with a password can work.
    Other,
}

/// The salt that a server sent, held against the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salt {
    /// The stored one: the server had a usable SCRAM secret of this role.
    Real,
    /// Another: the mock salt (`scram_mock_salt`), another server's, or the secret has changed since.
    Other,
}

/// `rolpassword`: shown by nothing, but it can be asked what fits it.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    kind: SecretKind,
    verifier: Secret<String>,
}

impl StoredSecret {
    /// Takes `rolpassword` into custody.
    pub fn new(verifier: Secret<String>) -> Self {
        let kind = match ScramSecret::parse(verifier.expose()) {
            Some(ScramSecret { iterations, salt, .. }) => SecretKind::Scram { iterations, salt },
            None if is_md5(verifier.expose()) => SecretKind::Md5,
            None => SecretKind::Other,
        };
        Self { kind, verifier }
    }

    /// Its kind.
    pub fn kind(&self) -> &SecretKind {
        &self.kind
    }

    /// The secret to compute with, where that is affordable.
    fn scram(&self) -> Option<ScramSecret> {
        ScramSecret::parse(self.verifier.expose()).filter(|secret| secret.iterations <= MAX_ROUNDS)
    }

    /// `plain_crypt_verify` (crypt.c) of a password for the role `name`.
    fn fits(&self, name: &str, password: &[u8]) -> Option<bool> {
        match &self.kind {
            SecretKind::Md5 => {
                let wanted = self.verifier.expose().get(3..)?;
                let made = md5_hex(&[password, name.as_bytes()]);
                Some(made.expose().as_bytes().ct_eq(wanted.as_bytes()).into())
            }
            SecretKind::Scram { .. } => {
                let stored = self.scram()?;
                let made = ScramSecret::build(password, &stored.salt, stored.iterations);
                Some(made.stored_key.expose().ct_eq(stored.stored_key.expose()).into())
            }
            SecretKind::Other => None,
        }
    }
}

impl RoleFacts {
    /// The kind of its secret, if it was seen and there is one.
    pub fn secret_kind(&self) -> Option<&SecretKind> {
        Some(self.stored()?.kind())
    }

    /// Whether the role was seen to have no password at all.
    pub fn has_no_password(&self) -> bool {
        matches!(self.secret, Answer::Known(None))
    }

    /// Whether this is the password behind the stored secret; `None` where that can't be told: not
    /// seen, none set, of an unknown kind, or dearer than [`MAX_ROUNDS`].
    pub fn fits(&self, password: &str) -> Option<bool> {
        self.stored()?.fits(&self.name, password.as_bytes())
    }

    /// Whether the client's answer was made with the password behind the stored secret, which needs
    /// no expected password. `None` where the stored secret can't tell, also when the exchange ran
    /// with another salt than the stored one.
    pub fn explains(&self, exchange: &Exchange<'_>) -> Option<bool> {
        let stored = self.stored()?;
        match *exchange {
            Exchange::Cleartext { sent } => stored.fits(&self.name, sent),
            Exchange::Md5 { salt, response, .. } => {
                let hash = stored.verifier.expose().get(3..).filter(|_| stored.kind == SecretKind::Md5)?;
                let made = md5_hex(&[hash.as_bytes(), &salt]);
                let response = response.strip_suffix(b"\0").unwrap_or(response);
                let sent = response.strip_prefix(b"md5").unwrap_or_default();
                Some(made.expose().as_bytes().ct_eq(sent).into())
            }
            Exchange::Scram {
                client_first_bare,
                server_first,
                client_final_without_proof,
                proof,
                salt,
                ..
            } => {
                let secret = ScramSecret::parse(stored.verifier.expose())?;
                (secret.salt == salt).then_some(())?;
                let message = auth_message(client_first_bare, server_first, client_final_without_proof);
                Some(client_proof_fits(&secret.stored_key, &message, proof))
            }
        }
    }

    /// Holds a salt of the wire (decoded) against the stored one; `None` when the stored secret was
    /// not seen. A role without a SCRAM secret never has a real one.
    pub fn salt_on_wire(&self, salt: &[u8]) -> Option<Salt> {
        let stored = self.secret.known()?.as_ref().map(StoredSecret::kind);
        match stored {
            Some(SecretKind::Scram { salt: real, .. }) if real == salt => Some(Salt::Real),
            _ => Some(Salt::Other),
        }
    }

    fn stored(&self) -> Option<&StoredSecret> {
        self.secret.known()?.as_ref()
    }
}

/// One row of `pg_database`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// `datname`.
    pub name: String,
    /// `datallowconn`.
    pub allows_connections: bool,
    /// `datconnlimit`; `None` for no limit.
    pub connection_limit: Option<i32>,
    /// `datconnlimit` is -2: an interrupted DROP DATABASE left it (`database_is_invalid_form`).
    pub invalid: bool,
    /// `datistemplate`.
    pub is_template: bool,
    /// `has_database_privilege(role, database, 'CONNECT')`; `None` when there is no such role.
    pub can_connect: Option<bool>,
}

/// `pg_settings` and what belongs to it; `None` is what was not visible or does not exist there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsFacts {
    /// `ssl`.
    pub ssl: Option<bool>,
    /// `password_encryption`, in the server's word.
    pub password_encryption: Option<String>,
    /// `scram_iterations`; 4096 before PostgreSQL 16.
    pub scram_iterations: Option<u32>,
    /// `max_connections`.
    pub max_connections: Option<i64>,
    /// `superuser_reserved_connections`.
    pub superuser_reserved_connections: Option<i64>,
    /// `reserved_connections`; 0 before PostgreSQL 16.
    pub reserved_connections: Option<i64>,
    /// `max_wal_senders`.
    pub max_wal_senders: Option<i64>,
    /// `port`.
    pub port: Option<i64>,
    /// `listen_addresses`.
    pub listen_addresses: Option<String>,
    /// `authentication_timeout`, in seconds.
    pub authentication_timeout: Option<i64>,
    /// `db_user_namespace` (gone in PostgreSQL 17): roles are looked up as `user@database`.
    pub db_user_namespace: Option<bool>,
    /// `hba_file`.
    pub hba_file: Option<String>,
    /// `ident_file`.
    pub ident_file: Option<String>,
    /// `data_directory`.
    pub data_directory: Option<String>,
    /// `pg_conf_load_time()`, in milliseconds since 1970 by the server's clock.
    pub conf_load_time: Option<i64>,
    /// When pg_hba.conf, or a file that it includes, last changed (`pg_stat_file`), in milliseconds
    /// since 1970, whole seconds.
    pub hba_changed: Option<i64>,
    /// When pg_ident.conf last changed.
    pub ident_changed: Option<i64>,
    /// The server's clock (`clock_timestamp()`), in milliseconds since 1970.
    pub now: i64,
}

impl SettingsFacts {
    /// `Some(true)`: pg_hba.conf was changed after the server last loaded its files, so it follows
    /// older rules. `Some(false)`: its time stamp is older. `None`: not seen, or within the second
    /// that file times are rounded to.
    pub fn hba_changed_after_load(&self) -> Option<bool> {
        changed_after(self.hba_changed?, self.conf_load_time?)
    }

    /// The same of pg_ident.conf.
    pub fn ident_changed_after_load(&self) -> Option<bool> {
        changed_after(self.ident_changed?, self.conf_load_time?)
    }
}

/// `pg_stat_file` cuts a change's time to its second.
fn changed_after(changed: i64, loaded: i64) -> Option<bool> {
    match changed.saturating_sub(loaded) {
        later if later > 0 => Some(true),
        earlier if earlier <= -1_000 => Some(false),
        _ => None,
    }
}

/// Who is connected (`pg_stat_activity`), our own connection left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// Client backends: what `max_connections` limits.
    pub total: i64,
    /// Of the asked role, replication among them (`CountUserBackends`).
    pub by_role: i64,
    /// Of the asked database, replication among them (`CountDBConnections`).
    pub by_database: i64,
    /// WAL senders: what `max_wal_senders` limits.
    pub wal_senders: i64,
    /// False when some rows hid what kind of backend they are (the administrator's role is no member
    /// of `pg_read_all_stats`): those that look like a client count as one.
    pub exact: bool,
}

/// The name that the server looks up: `ProcessStartupPacket` cuts names at 63 bytes, except in
/// PostgreSQL 17.0 to 17.2. A cut inside a character finds nothing, so the name stays whole then.
pub fn name_looked_up(name: &str, server_version_num: i32) -> &str {
    match name.get(..NAME_BYTES) {
        Some(cut) if !(170_000..170_003).contains(&server_version_num) => cut,
        _ => name,
    }
}

/// A name cut at 63 bytes between characters, as CREATE ROLE and CREATE DATABASE cut it
/// (`truncate_identifier`); `None` when it is no longer than that.
pub fn name_cut(name: &str) -> Option<&str> {
    let end = (0..=NAME_BYTES).rev().find(|end| name.is_char_boundary(*end))?;
    (name.len() > NAME_BYTES).then(|| &name[..end])
}

/// `get_password_type` (crypt.c): `md5`, 35 characters in all, hexadecimal.
fn is_md5(text: &str) -> bool {
    let hex = |rest: &str| rest.len() == 32 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("md5").is_some_and(hex)
}

fn md5_hex(parts: &[&[u8]]) -> Secret<String> {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    Secret::new(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(verifier: Option<&str>) -> RoleFacts {
        let secret = verifier.map(|text| StoredSecret::new(Secret::new(text.to_owned())));
        RoleFacts {
            name: "app".into(),
            can_login: true,
            superuser: false,
            replication: false,
            connection_limit: None,
            valid_until: ValidUntil::Always,
            expired: false,
            member_of: Answer::Known(Vec::new()),
            secret: Answer::Known(secret),
        }
    }

    fn scram() -> RoleFacts {
        role(Some(ScramSecret::build(b"right", b"0123456789abcdef", 4096).to_text().expose()))
    }

    fn md5() -> RoleFacts {
        role(Some(&format!("md5{}", md5_hex(&[b"right", b"app"]).expose())))
    }

    #[test]
    fn the_expected_password_is_held_against_the_stored_secret() {
        for role in [scram(), md5()] {
            assert_eq!(role.fits("right"), Some(true));
            assert_eq!(role.fits("wrong"), Some(false));
            assert_eq!(role.explains(&Exchange::Cleartext { sent: b"right" }), Some(true));
        }
        assert_eq!(role(None).fits("right"), None);
        assert_eq!(role(Some("plain")).fits("plain"), None);
        let dear = ScramSecret::build(b"right", b"0123456789abcdef", 1).to_text();
        let dear = dear.expose().replace("$1:", "$2147483647:");
        assert_eq!(role(Some(&dear)).fits("right"), None, "2^31 rounds are not spent");
    }

    #[test]
    fn the_salt_is_the_real_one_or_another() {
        assert_eq!(scram().salt_on_wire(b"0123456789abcdef"), Some(Salt::Real));
        assert_eq!(scram().salt_on_wire(b"0123456789abcdeX"), Some(Salt::Other));
        assert_eq!(md5().salt_on_wire(b"0123456789abcdef"), Some(Salt::Other));
        assert_eq!(role(None).salt_on_wire(b"0123456789abcdef"), Some(Salt::Other));
        let hidden = RoleFacts { secret: Answer::Hidden("no right".into()), ..role(None) };
        assert_eq!(hidden.salt_on_wire(b""), None);
        assert!(!hidden.has_no_password() && role(None).has_no_password());
    }

    #[test]
    fn an_md5_response_is_explained_by_the_stored_hash() {
        let hash = md5_hex(&[b"right", b"app"]);
        let response = format!("md5{}", md5_hex(&[hash.expose().as_bytes(), b"salt"]).expose());
        let exchange = |response| Exchange::Md5 { user: b"app", salt: *b"salt", response };
        assert_eq!(md5().explains(&exchange(response.as_bytes())), Some(true));
        assert_eq!(md5().explains(&exchange(b"md5")), Some(false));
        assert_eq!(scram().explains(&exchange(response.as_bytes())), None);
    }

    #[test]
    fn nothing_shows_the_verifier() {
        for role in [scram(), md5(), role(Some("plain-text-by-mistake"))] {
            let stored = role.stored().unwrap().verifier.expose().clone();
            let shown = format!("{role:?} {role:#?}");
            for piece in stored.split(['$', ':']).filter(|piece| piece.len() > 20) {
                assert!(!shown.contains(piece), "{shown}");
            }
        }
    }

    #[test]
    fn names_are_cut_as_the_server_does() {
        let long = "x".repeat(70);
        assert_eq!(name_looked_up(&long, 160_004).len(), 63);
        assert_eq!(name_looked_up(&long, 170_001).len(), 70);
        assert_eq!(name_looked_up(&long, 180_000).len(), 63);
        assert_eq!(name_looked_up("short", 150_000), "short");
        let umlauts = "ä".repeat(40);
        assert_eq!(name_looked_up(&umlauts, 150_000), umlauts, "a cut inside a character finds nothing");
        assert_eq!(name_cut(&umlauts).map(str::len), Some(62));
        assert_eq!(name_cut("short"), None);
    }

    #[test]
    fn a_change_within_the_second_of_the_load_says_nothing() {
        let facts = |changed| SettingsFacts {
            conf_load_time: Some(10_500),
            hba_changed: Some(changed),
            ..SettingsFacts::default()
        };
        for (changed, expected) in [(11_000, Some(true)), (10_000, None), (9_000, Some(false))] {
            assert_eq!(facts(changed).hba_changed_after_load(), expected, "{changed}");
        }
    }
}
