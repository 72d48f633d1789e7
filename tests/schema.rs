//! docs/report.schema.json is the contract of `--format json`: here it is checked against
//! docs/causes.toml and against examples; the scenarios check every line of every proxy against it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/causes.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod causes;
#[path = "support/schema.rs"]
#[allow(unreachable_pub, reason = "shared with the other tests")]
mod schema;

use serde_json::{Value, json};

fn document() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn words(value: &Value) -> Vec<&str> {
    value["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn its_names_are_those_of_the_causes_table() {
    let document = document();
    let steps: Vec<_> = causes::steps().iter().map(String::as_str).collect();
    assert_eq!(words(&document["$defs"]["step"]), steps);
    let ids: Vec<_> = causes::causes().iter().map(|cause| cause.id.as_str()).collect();
    assert_eq!(words(&document["$defs"]["cause"]), ids);
    let mut variants: Vec<_> =
        causes::causes().iter().flat_map(|cause| &cause.variants).map(String::as_str).collect();
    variants.sort_unstable();
    variants.dedup();
    assert_eq!(words(&document["$defs"]["variant"]), variants);
}

/// The example of the specification.
fn failed() -> Value {
    json!({
        "event": "handshake", "schema": 1, "id": "1", "time": "2026-11-21T05:25:00.123Z", "outcome": "failed",
        "client": {"addr": "127.0.0.1:53122", "driver": "node-postgres", "user": "postgres",
                   "database": "ai_server_info", "application_name": null},
        "server": {"addr": "[::1]:5432", "version": "16.10"},
        "client_tls": {"asked": false, "answer": null, "version": null},
        "server_tls": {"asked": false, "answer": null, "version": null},
        "auth_method": "scram-sha-256",
        "steps": [{"step": "connect", "leg": "server", "ok": true, "ms": 0.2, "note": null}],
        "failed_step": "scram_client_final", "leg": "client",
        "cause": "password_mismatch", "variant": "quotes_kept", "confidence": "proven",
        "alternatives": [{"cause": "role_missing", "confidence": "possible"}],
        "summary": "quotes", "evidence": ["its proof fits"], "fix": ["remove the quotes"],
        "related": [], "differs": [{"field": "client_tls", "here": "plaintext", "there": "TLSv1.3"}],
        "server_error": {"severity": "FATAL", "sqlstate": "28P01", "message": "no", "detail": null, "hint": null},
        "warnings": [], "elapsed_ms": 14.1
    })
}

#[test]
fn it_tells_good_lines_from_bad_ones() {
    fn change(path: &str, value: Value) -> Value {
        let mut line = failed();
        *line.pointer_mut(path).unwrap() = value;
        line
    }
    let without = |field: &str| {
        let mut line = failed();
        line.as_object_mut().unwrap().remove(field);
        line
    };
    let rows: [(&str, Value, bool); 13] = [
        ("the listening line", json!({"event": "listening", "schema": 1, "addr": "127.0.0.1:5"}), true),
        ("the example of the specification", failed(), true),
        (
            "a field that was added later",
            {
                let mut line = failed();
                line["later"] = json!(1);
                line
            },
            true,
        ),
        ("another event", json!({"event": "other", "schema": 1}), false),
        ("no schema number", without("schema"), false),
        ("no outcome", without("outcome"), false),
        ("an unknown outcome", change("/outcome", json!("broken")), false),
        ("an unknown cause", change("/cause", json!("bad_luck")), false),
        ("an unknown step", change("/steps/0/step", json!("jump")), false),
        ("a failure without evidence", change("/evidence", json!([])), false),
        ("a failure without a fix", change("/fix", json!([])), false),
        ("a success with a cause", change("/outcome", json!("ok")), false),
        ("a proven alternative", change("/alternatives/0/confidence", json!("proven")), false),
    ];
    for (row, line, good) in rows {
        let faults = schema::faults(&line.to_string());
        assert_eq!(faults.is_empty(), good, "{row}: {faults:?}");
    }
    assert!(!schema::faults("{\"event\":").is_empty(), "half a line");
}
