//! `password_mismatch`: what happened to the expected password on its way to the client. Every row
//! makes a role with the expected password, and a real client sends something else.

use md5::{Digest as _, Md5};

use crate::row::{Row, failed, row};
use crate::support::client::Who;

/// Claim, expected password, sent password, variants that are true of it, client.
type Mistake = (&'static str, &'static str, &'static str, &'static str, Who);

const SCRAM: &[Mistake] = &[
    ("double quotes are kept", "s3cret-One", "\"s3cret-One\"", "quotes_kept", Who::Psql),
    ("single quotes are kept", "s3cret-One", "'s3cret-One'", "quotes_kept", Who::Pg),
    ("a newline is kept", "s3cret-One", "s3cret-One\n", "trailing_newline", Who::Pg),
    ("a newline is kept, by psql", "s3cret-One", "s3cret-One\n", "trailing_newline", Who::Psql),
    ("a carriage return is kept", "s3cret-One", "s3cret-One\r", "trailing_cr", Who::Asyncpg),
    ("a Windows line end is kept", "s3cret-One", "s3cret-One\r\n", "trailing_cr", Who::PostgresJs),
    ("a blank is kept behind", "s3cret-One", "s3cret-One ", "trailing_space", Who::Psycopg),
    ("a blank is kept before", "s3cret-One", " s3cret-One", "leading_space", Who::Pg8000),
    ("a byte order mark is kept", "s3cret-One", "\u{feff}s3cret-One", "bom", Who::PostgresJs),
    ("percent-encoding is kept", "p@ss/w0rd", "p%40ss%2Fw0rd", "percent_encoded_kept", Who::Pg),
    (
        "percent-encoding is decoded once too often",
        "100%25sure9",
        "100%sure9",
        "percent_decoded_once_too_often",
        Who::Asyncpg,
    ),
    ("percent-encoding is decoded twice", "a%2525b-9x", "a%b-9x", "percent_decoded_twice", Who::Psql),
    ("a plus becomes a blank", "one+two+3x", "one two 3x", "plus_as_space", Who::Psycopg),
    ("a blank becomes a plus", "one two 3x", "one+two+3x", "space_as_plus", Who::TokioPostgres),
    ("cut at the hash sign", "abc1#def2", "abc1", "cut_at_hash", Who::Pg),
    ("cut at the at sign", "abc1@def2", "abc1", "cut_at_at", Who::Psql),
    ("cut at the slash", "abc1/def2", "abc1", "cut_at_slash", Who::Asyncpg030),
    ("cut at the question mark", "abc1?def2", "abc1", "cut_at_question", Who::Asyncpg),
    ("cut at the ampersand", "abc1&def2", "abc1", "cut_at_ampersand", Who::PostgresJs),
    ("cut at the colon", "abc1:def2", "abc1", "cut_at_colon", Who::Pg8000),
    ("cut at the blank", "abc1 def2", "abc1", "cut_at_space", Who::TokioPostgres),
    // Expanding an unknown $def2 to nothing and cutting at the dollar give the same bytes.
    ("cut at the dollar", "abc1$def2", "abc1", "cut_at_dollar|dollar_expanded", Who::Psql),
    ("cut at the percent sign", "abc1%def2", "abc1", "cut_at_percent", Who::Pg),
    ("a variable in it is expanded to nothing", "abc1$def-2x", "abc1-2x", "dollar_expanded", Who::Pg),
    (
        "a variable in braces in it is expanded to nothing",
        "abc1${def}2x",
        "abc12x",
        "dollar_expanded",
        Who::Psql,
    ),
    ("two dollars become one", "abc1$$def2", "abc1$def2", "dollar_doubled", Who::Psycopg),
    ("one dollar becomes two", "abc1$def2", "abc1$$def2", "dollar_doubled", Who::Psql),
    ("a shell escape is left in", "abc1$def2", "abc1\\$def2", "backslash_kept", Who::Pg),
    ("a backslash is lost", "abc1\\def2", "abc1def2", "backslash_removed", Who::Psql),
    ("a newline is kept as backslash and n", "s3cret-One", "s3cret-One\\n", "newline_escape_kept", Who::Pg),
    ("all upper case", "s3cret-One", "S3CRET-ONE", "case_changed", Who::Psql),
    ("all lower case", "s3cret-One", "s3cret-one", "case_changed", Who::Asyncpg),
    ("caps lock", "s3cret-One", "S3CRET-oNE", "caps_lock", Who::Psql),
    (
        "another normal form, from a driver that prepares nothing",
        "p\u{e4}ss-w0rd",
        "pa\u{308}ss-w0rd",
        "unicode_form",
        Who::PostgresJs,
    ),
    // The raw compatibility form is also just another normal form of it.
    (
        "a ligature that the server replaces and the driver does not",
        "\u{fb01}sh-w0rd",
        "\u{fb01}sh-w0rd",
        "not_saslprepped",
        Who::PostgresJs,
    ),
    (
        "a blank of no width that the server drops and the driver does not",
        "fi\u{ad}sh-w0rd",
        "fi\u{ad}sh-w0rd",
        "not_saslprepped",
        Who::PostgresJs,
    ),
    ("UTF-8 read as Latin-1", "p\u{e4}ss-w0rd", "p\u{c3}\u{a4}ss-w0rd", "latin1", Who::Pg),
    (
        "cut off after twenty characters",
        "correct-horse-battery-staple-9",
        "correct-horse-batter",
        "truncated",
        Who::Psql,
    ),
    (
        "cut off after sixteen characters",
        "correct-horse-battery-staple-9",
        "correct-horse-ba",
        "truncated",
        Who::Pg,
    ),
    (
        "cut off after nine characters, which is no usual width",
        "correct-horse-battery-staple-9",
        "correct-h",
        "truncated",
        Who::Psql,
    ),
    ("the word undefined", "s3cret-One", "undefined", "literal_undefined", Who::Pg),
    ("the word null", "s3cret-One", "null", "literal_null", Who::PostgresJs),
    ("the word None", "s3cret-One", "None", "literal_null", Who::Psycopg),
    (
        "an unexpanded variable in braces",
        "s3cret-One",
        "${POSTGRES_PASSWORD}",
        "variable_unexpanded",
        Who::Pg,
    ),
    ("an unexpanded variable", "s3cret-One", "$PGPASSWORD", "variable_unexpanded", Who::Psql),
    ("an unexpanded variable of Windows", "s3cret-One", "%DB_PASSWORD%", "variable_unexpanded", Who::Psql),
];

/// The same mistakes over md5 and in cleartext, where the response is another.
const OTHERS: &[Mistake] = &[
    ("double quotes are kept", "correct-pw-7Q", "\"correct-pw-7Q\"", "quotes_kept", Who::Psql),
    ("a newline is kept", "correct-pw-7Q", "correct-pw-7Q\n", "trailing_newline", Who::Pg),
    ("a carriage return is kept", "correct-pw-7Q", "correct-pw-7Q\r", "trailing_cr", Who::Asyncpg),
    ("caps lock", "correct-pw-7Q", "CORRECT-PW-7q", "caps_lock", Who::Psycopg),
    ("the word undefined", "correct-pw-7Q", "undefined", "literal_undefined", Who::Pg),
];

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, (claim, expected, sent, variant, who)) in SCRAM.iter().enumerate() {
        rows.push(
            row(format!("mistake: {claim}"))
                .by(*who)
                .role(&format!("mistake_{number}"), expected)
                .password(sent)
                .knows(expected)
                .expect(
                    failed("scram_client_final", "password_mismatch")
                        .variant(variant)
                        .proven()
                        .sqlstate("28P01"),
                ),
        );
    }
    for (method, step, user, database) in
        [("md5", "md5", "app_md5", "d_md5"), ("cleartext", "password", "app_clear", "d_clear")]
    {
        for (claim, expected, sent, variant, who) in OTHERS {
            rows.push(
                row(format!("mistake over {method}: {claim}"))
                    .by(*who)
                    .user(user)
                    .database(database)
                    .password(sent)
                    .knows(expected)
                    .expect(failed(step, "password_mismatch").variant(variant).proven().sqlstate("28P01")),
            );
        }
    }
    rows.push(
        row("mistake: the user name as password")
            .role("mistake_user_name", "s3cret-One")
            .password("mistake_user_name")
            .knows("s3cret-One")
            .expect(failed("scram_client_final", "password_mismatch").variant("user_name").proven()),
    );
    rows.push(
        row("mistake: the md5 secret of the password as password")
            .role("mistake_hashed", "s3cret-One")
            .password(&md5_secret("s3cret-One", "mistake_hashed"))
            .knows("s3cret-One")
            .expect(failed("scram_client_final", "password_mismatch").variant("hashed_value").proven()),
    );
    rows
}

/// What PostgreSQL stores for a password under `password_encryption = md5`.
fn md5_secret(password: &str, user: &str) -> String {
    let digest = Md5::digest(format!("{password}{user}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("md5{hex}")
}
