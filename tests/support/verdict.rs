//! What tables of logins expect of a handshake object.

use serde_json::Value;

use super::causes;

/// Where a field has none of the words that are allowed (`a|b`, `-` for none, `*` for any).
pub fn mismatches(fields: &[(&str, &str, &Value)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, words, value) in fields {
        let text = value.as_str().unwrap_or("-");
        if *words != "*" && !words.split('|').any(|word| word == text) {
            faults.push(format!("{name}: expected {words}, got {text}"));
        }
    }
    faults
}

/// What must hold for every handshake object, whatever the row expects.
pub fn inconsistencies(seen: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let empty = |name: &str| seen[name].as_array().is_none_or(Vec::is_empty);
    let text = |name: &str| seen[name].as_str().unwrap_or_default();
    if text("outcome") == "failed" {
        for name in ["evidence", "fix", "steps"] {
            if empty(name) {
                faults.push(format!("{name}: empty on a failed login"));
            }
        }
        if text("summary").is_empty() {
            faults.push("summary: empty on a failed login".to_owned());
        }
        let steps = seen["steps"].as_array().cloned().unwrap_or_default();
        let broken = |step: &Value| step["step"] == seen["failed_step"] && step["ok"] == false;
        if !steps.iter().any(broken) {
            faults.push(format!("steps: none is {} with ok false", seen["failed_step"]));
        }
    }
    if text("outcome") == "ok" && !seen["cause"].is_null() {
        faults.push("cause: set on a login that worked".to_owned());
    }
    if text("cause").is_empty() {
        return faults;
    }
    let Some(cause) = causes::cause(text("cause")) else {
        faults.push(format!("cause: {} is not in causes.toml", seen["cause"]));
        return faults;
    };
    if text("outcome") == "failed" && !cause.steps.iter().any(|step| step == text("failed_step")) {
        faults.push(format!(
            "failed_step: {} is none of {}'s: {:?}",
            seen["failed_step"], cause.id, cause.steps
        ));
    }
    if !seen["variant"].is_null() && !cause.variants.iter().any(|variant| variant == text("variant")) {
        faults.push(format!("variant: {} is none of {}'s", seen["variant"], cause.id));
    }
    if cause.id == "password_rejected" && text("confidence") == "proven" {
        faults.push("confidence: password_rejected is never proven".to_owned());
    }
    faults
}
