//! What to change for each variant of `password_mismatch`, as reports show it.

/// Variants and the change that mends them.
const FIXES: [(&[&str], &str); 28] = [
    (
        &["quotes_kept"],
        "remove the quotes from the value: `docker --env-file` and systemd pass them on as part of it",
    ),
    (&["trailing_newline"], "write the secret without a line end: printf %s instead of echo"),
    (&["trailing_cr"], "save the file with Unix line ends (dos2unix .env)"),
    (&["trailing_space", "leading_space"], "remove the blank around the value"),
    (&["bom"], "save the file without a byte order mark"),
    (
        &["percent_encoded_kept"],
        "percent-encode only inside a URL; in a plain variable or field write the password itself",
    ),
    (
        &["percent_decoded_twice", "percent_decoded_once_too_often"],
        "the password itself holds a %: encode it as %25 in the URL, and decode only once",
    ),
    (&["plus_as_space", "space_as_plus"], "write + as %2B and a blank as %20 in the URL"),
    (&["cut_at_hash"], "quote the value in .env, or write # as %23 in the URL"),
    (&["cut_at_at"], "write @ as %40 in the URL"),
    (&["cut_at_slash"], "write / as %2F in the URL"),
    (&["cut_at_question"], "write ? as %3F in the URL"),
    (&["cut_at_ampersand"], "write & as %26 in the URL, and quote it in a shell"),
    (&["cut_at_colon"], "write : as %3A in the URL"),
    (&["cut_at_space"], "quote the value, or write the blank as %20 in the URL"),
    (
        &["cut_at_dollar", "dollar_expanded", "dollar_doubled"],
        "escape the $: $$ in docker compose, \\$ in .env with expansion, single quotes in a shell",
    ),
    (&["cut_at_percent"], "write % as %25 in the URL"),
    (
        &["backslash_kept", "backslash_removed", "newline_escape_kept"],
        "write the value without escapes, or in the quotes that this file format takes literally",
    ),
    (&["case_changed", "caps_lock"], "write it as it was set: passwords are case-sensitive"),
    (
        &["unicode_form", "not_saslprepped"],
        "use ASCII characters in the password, or a driver that prepares it (SASLprep) like the server",
    ),
    (&["latin1"], "store and send the password as UTF-8"),
    (&["truncated"], "something cuts the value: a field's width, or a character that ends it"),
    (
        &["literal_undefined", "literal_null"],
        "the variable was not set when the value was built: load .env before it is read",
    ),
    (&["variable_unexpanded"], "the variable's name was sent instead of its value: nothing expands it here"),
    (&["user_name"], "the client sent the user's name as password: check the order of its arguments"),
    (&["other_variable"], "the client reads another variable of the same file"),
    (
        &["previous_password"],
        "the client still has a password that worked before: restart it with the new one",
    ),
    (
        &["hashed_value"],
        "give the client the password itself: not its hash, nor a form of it that is still encoded (base64 of a Kubernetes secret)",
    ),
];

/// The change for a variant; `unknown` has none.
pub(super) fn of_password(variant: &str) -> Option<&'static str> {
    FIXES.iter().find(|(variants, _)| variants.contains(&variant)).map(|(_, fix)| *fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Cause;

    #[test]
    fn every_variant_but_the_unknown_has_a_fix() {
        for variant in Cause::PasswordMismatch.variants() {
            assert_eq!(of_password(variant).is_some(), *variant != "unknown", "{variant}");
        }
    }
}
