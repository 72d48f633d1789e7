//! The statements. Every name is qualified and `search_path` is pinned, so that nothing in the
//! database can stand in a catalog's place; what a client sent is a parameter, never text.

/// `SET LOCAL` ends with the transaction, also behind a transaction pooler.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
    SET LOCAL search_path = pg_catalog";

/// What follows the statement's own limit. Whatever a part breaks is rolled back to the savepoint.
pub(super) const LIMITS: &str = "SET LOCAL lock_timeout = 500; \
    SET LOCAL idle_in_transaction_session_timeout = 10000; SAVEPOINT part";

/// Without these nothing else means anything.
pub(super) const HELLO: &str = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
    current_user::pg_catalog.text, pg_catalog.pg_is_in_recovery(), \
    (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000)::pg_catalog.int8";

/// What may be read.
pub(super) const RIGHTS: &str = "SELECT \
    pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT'), \
    pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT') \
        AND pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE'), \
    pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE')";

/// The settings that decide logins.
pub(super) const SETTINGS: &[&str] = &[
    "ssl",
    "password_encryption",
    "scram_iterations",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "max_wal_senders",
    "port",
    "listen_addresses",
    "authentication_timeout",
    "db_user_namespace",
    "hba_file",
    "ident_file",
    "data_directory",
];

/// `pg_settings` leaves out what the role may not see, where `SHOW` would raise an error.
pub(super) const PG_SETTINGS: &str = "SELECT name::pg_catalog.text, setting::pg_catalog.text \
    FROM pg_catalog.pg_settings WHERE name = ANY ($1)";

/// When the server last read its files.
pub(super) const CONF_LOAD_TIME: &str =
    "SELECT (EXTRACT(epoch FROM pg_catalog.pg_conf_load_time()) * 1000)::pg_catalog.int8";

/// When a file changed.
pub(super) const FILE_CHANGED: &str = "SELECT (EXTRACT(epoch FROM modification) * 1000)::pg_catalog.int8 \
    FROM pg_catalog.pg_stat_file($1, true)";

/// When pg_hba.conf or a file that it includes changed.
pub(super) const HBA_CHANGED_16: &str = "SELECT \
    (EXTRACT(epoch FROM pg_catalog.max(stat.modification)) * 1000)::pg_catalog.int8 \
    FROM (SELECT $1 AS name UNION SELECT file_name FROM pg_catalog.pg_hba_file_rules \
          WHERE file_name IS NOT NULL) AS files, \
    LATERAL pg_catalog.pg_stat_file(files.name, true) AS stat";

/// A role with its secret. The cast to `name` cuts at 63 bytes; the comparison as text undoes that.
pub(super) const PG_AUTHID: &str = "SELECT rolname::pg_catalog.text, rolcanlogin, rolsuper, \
    rolreplication, rolconnlimit::pg_catalog.int4, \
    COALESCE(rolvaliduntil = '-infinity', false), \
    CASE WHEN pg_catalog.isfinite(rolvaliduntil) \
        THEN (EXTRACT(epoch FROM rolvaliduntil) * 1000)::pg_catalog.int8 END, \
    COALESCE(rolvaliduntil < pg_catalog.clock_timestamp(), false), \
    rolpassword \
    FROM pg_catalog.pg_authid WHERE rolname = $1::pg_catalog.name AND rolname::pg_catalog.text = $1";

/// A role without its secret: everybody may read this one.
pub(super) const PG_ROLES: &str = "SELECT rolname::pg_catalog.text, rolcanlogin, rolsuper, \
    rolreplication, rolconnlimit::pg_catalog.int4, \
    COALESCE(rolvaliduntil = '-infinity', false), \
    CASE WHEN pg_catalog.isfinite(rolvaliduntil) \
        THEN (EXTRACT(epoch FROM rolvaliduntil) * 1000)::pg_catalog.int8 END, \
    COALESCE(rolvaliduntil < pg_catalog.clock_timestamp(), false) \
    FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.name AND rolname::pg_catalog.text = $1";

/// What older relatives of PostgreSQL have in place of `pg_roles`: those who may log in.
pub(super) const PG_USER: &str = "SELECT usename::pg_catalog.text, true, usesuper, false, \
    (-1)::pg_catalog.int4, false, NULL::pg_catalog.int8, false \
    FROM pg_catalog.pg_user WHERE usename::pg_catalog.text = $1";

/// As `roles_is_member_of` (acl.c) with ROLERECURSE_MEMBERS: INHERIT and SET do not matter.
pub(super) const MEMBER_OF: &str = "WITH RECURSIVE above (roleid) AS ( \
        SELECT m.roleid FROM pg_catalog.pg_auth_members AS m \
        JOIN pg_catalog.pg_roles AS r ON r.oid = m.member WHERE r.rolname::pg_catalog.text = $1 \
        UNION SELECT m.roleid FROM pg_catalog.pg_auth_members AS m JOIN above ON m.member = above.roleid) \
    SELECT r.rolname::pg_catalog.text FROM above JOIN pg_catalog.pg_roles AS r ON r.oid = above.roleid \
    ORDER BY 1";

/// $1 the name, $2 what may stand around it, $3 the name cut, $4 how many.
pub(super) const SIMILAR_ROLES: &str = "SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles \
    WHERE rolname::pg_catalog.text <> $1 AND (rolname::pg_catalog.text = $3 OR \
        pg_catalog.lower(pg_catalog.btrim(rolname::pg_catalog.text, $2) COLLATE pg_catalog.\"default\") \
        = pg_catalog.lower(pg_catalog.btrim($1, $2) COLLATE pg_catalog.\"default\")) \
    ORDER BY 1 LIMIT $4";

/// As `SIMILAR_ROLES`.
pub(super) const SIMILAR_DATABASES: &str = "SELECT datname::pg_catalog.text FROM pg_catalog.pg_database \
    WHERE datname::pg_catalog.text <> $1 AND (datname::pg_catalog.text = $3 OR \
        pg_catalog.lower(pg_catalog.btrim(datname::pg_catalog.text, $2) COLLATE pg_catalog.\"default\") \
        = pg_catalog.lower(pg_catalog.btrim($1, $2) COLLATE pg_catalog.\"default\")) \
    ORDER BY 1 LIMIT $4";

/// $1 the database, $2 the role.
pub(super) const PG_DATABASE: &str = "SELECT d.datname::pg_catalog.text, d.datallowconn, \
    d.datconnlimit::pg_catalog.int4, d.datistemplate, \
    (SELECT pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT') FROM pg_catalog.pg_roles AS r \
     WHERE r.rolname::pg_catalog.text = $2) \
    FROM pg_catalog.pg_database AS d \
    WHERE d.datname = $1::pg_catalog.name AND d.datname::pg_catalog.text = $1";

/// PostgreSQL 12 to 15.
pub(super) const HBA_RULES: &str = "SELECT NULL::pg_catalog.text, NULL::pg_catalog.int4, \
    line_number::pg_catalog.int4, type, database, user_name, address, netmask, auth_method, options, error \
    FROM pg_catalog.pg_hba_file_rules";

/// PostgreSQL 16 and later.
pub(super) const HBA_RULES_16: &str = "SELECT file_name, rule_number::pg_catalog.int4, \
    line_number::pg_catalog.int4, type, database, user_name, address, netmask, auth_method, options, error \
    FROM pg_catalog.pg_hba_file_rules";

/// $1 the role, $2 the database. Who may not see a row's `backend_type` still sees whose it is.
pub(super) const PG_STAT_ACTIVITY: &str = "SELECT \
    pg_catalog.count(*) FILTER (WHERE kind = 'client backend'), \
    pg_catalog.count(*) FILTER (WHERE kind IN ('client backend', 'walsender') AND usename = $1), \
    pg_catalog.count(*) FILTER (WHERE kind IN ('client backend', 'walsender') AND datname = $2), \
    pg_catalog.count(*) FILTER (WHERE kind = 'walsender'), \
    COALESCE(pg_catalog.bool_and(seen), true) \
    FROM (SELECT usename::pg_catalog.text, datname::pg_catalog.text, backend_type IS NOT NULL AS seen, \
        CASE WHEN backend_type IS NOT NULL THEN backend_type::pg_catalog.text \
             WHEN usesysid IS NOT NULL AND datid IS NOT NULL THEN 'client backend' END AS kind \
        FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid()) AS activity";
