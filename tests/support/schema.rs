//! Every line that the program prints must fit docs/report.schema.json.

use std::sync::LazyLock;

use serde_json::Value;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
    let text = std::fs::read_to_string(&path).expect("docs/report.schema.json");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// What is wrong with a line, or nothing.
pub fn faults(line: &str) -> Vec<String> {
    match serde_json::from_str::<Value>(line) {
        Ok(value) => {
            SCHEMA.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
        }
        Err(error) => vec![format!("not JSON ({error}): {line}")],
    }
}
