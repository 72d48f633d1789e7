//! docs/causes.toml, read by the tests: the names that every report may use.

use std::sync::LazyLock;

/// One `[[cause]]` table.
#[derive(Clone, Debug, Default)]
pub struct Cause {
    pub id: String,
    pub steps: Vec<String>,
    pub leg: String,
    pub variants: Vec<String>,
}

/// All of them, in the file's order.
pub fn causes() -> &'static [Cause] {
    static READ: LazyLock<Vec<Cause>> = LazyLock::new(|| read().1);
    &READ
}

/// All step ids, in the file's order.
pub fn steps() -> &'static [String] {
    static READ: LazyLock<Vec<String>> = LazyLock::new(|| read().0);
    &READ
}

/// The cause with this id.
pub fn cause(id: &str) -> Option<&'static Cause> {
    causes().iter().find(|cause| cause.id == id)
}

/// The file's form is simple on purpose: `key = "text"` or `key = ["a", "b"]`, the list perhaps over lines.
fn read() -> (Vec<String>, Vec<Cause>) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/causes.toml");
    let text = std::fs::read_to_string(path).expect("docs/causes.toml");
    let (mut steps, mut causes) = (Vec::new(), Vec::<Cause>::new());
    let mut list: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if line == "[[cause]]" {
            causes.push(Cause::default());
        }
        let (key, value) = match (&list, line.split_once(" = ")) {
            (Some(key), _) => (key.clone(), line),
            (None, Some((key, value))) => (key.to_owned(), value),
            (None, None) => continue,
        };
        let is_list = list.is_some() || value.starts_with('[');
        let words = quoted(value);
        match (causes.last_mut(), key.as_str()) {
            (None, "steps") => steps.extend(words),
            (Some(cause), "id") => cause.id = words.concat(),
            (Some(cause), "leg") => cause.leg = words.concat(),
            (Some(cause), "steps") => cause.steps.extend(words),
            (Some(cause), "variants") => cause.variants.extend(words),
            _ => {}
        }
        // A comment may follow the closing bracket or any element.
        let ends = value.split('#').next().unwrap_or_default().trim_end().ends_with(']');
        list = (is_list && !ends).then_some(key);
    }
    (steps, causes)
}

fn quoted(text: &str) -> Vec<String> {
    let text = text.split(" #").next().unwrap_or_default();
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_is_read_whole() {
    assert_eq!(steps().len(), 19);
    assert!(causes().len() > 60);
    for cause in causes() {
        assert!(!cause.steps.is_empty() && !cause.leg.is_empty(), "{cause:?}");
        for step in &cause.steps {
            assert!(steps().contains(step), "{}: {step} is no step", cause.id);
        }
    }
    let mismatch = cause("password_mismatch").expect("it is there");
    assert_eq!(mismatch.variants.last().map(String::as_str), Some("unknown"));
}
