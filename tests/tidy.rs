//! The plan of the house, kept true by reading the sources: who may import whom, what may not be used
//! where, how long is too long. ARCHITECTURE.md says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/causes.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod causes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms by floor. A room imports only from floors below its own.
const FLOORS: [&[&str]; 7] = [
    &["wire", "secret", "severity"],
    &["handshake", "password", "hba", "conninfo", "serverlog", "certs"],
    &["diagnose"],
    &["report", "capture"],
    // The fuzz targets' bodies sit where they can see the whole core and nothing else does.
    &["net", "fuzzing"],
    &["pool"],
    &["app"],
];

/// From this floor on there are sockets, clocks and files.
const NET: usize = 4;

/// What a room below `net` may not touch, and why.
const BANNED_BELOW_NET: [(&str, &str); 10] = [
    ("tokio", "no async below net"),
    ("TcpStream", "no sockets below net"),
    ("TcpListener", "no sockets below net"),
    ("UnixStream", "no sockets below net"),
    ("UdpSocket", "no sockets below net"),
    ("Instant::now", "no clock below net: time is data"),
    ("SystemTime::now", "no clock below net: time is data"),
    ("std::fs", "no files below net"),
    ("HashMap", "no hash-map order below net: a replay must be exact (BTreeMap)"),
    ("HashSet", "no hash-map order below net: a replay must be exact (BTreeSet)"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "types", "manager", "misc"];

/// Where a message's address is given to `io_uring`.
const UNSAFE_FILE: &str = "src/net/engine/outbox.rs";

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;

/// One source file, without its comments, literals and inline test modules.
struct Source {
    path: PathBuf,
    /// Relative to the crate, with slashes.
    name: String,
    code: Vec<String>,
    /// A module of tests in a file of its own.
    tests: bool,
}

fn sources(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut pending = vec![root.join(dir)];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                let tests = name.ends_with("tests.rs") || name.contains("/tests/");
                found.push(Source { code: without_tests(&bare(&text)), path, name, tests });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Blanks comments and the insides of string and character literals; lines stay where they are.
fn bare(text: &str) -> Vec<String> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('/')) => {
                while chars.peek().is_some_and(|next| *next != '\n') {
                    chars.next();
                }
            }
            ('r', Some('"' | '#')) if !previous.is_alphanumeric() && previous != '_' => {
                raw_string(&mut chars, &mut out);
            }
            ('"', _) => string(&mut chars, &mut out),
            ('\'', _) => character(&mut chars),
            _ => out.push(c),
        }
        previous = c;
    }
    out.lines().map(str::to_owned).collect()
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn string(chars: &mut Chars<'_>, out: &mut String) {
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => drop(chars.next().filter(|next| *next == '\n').map(|_| out.push('\n'))),
            '\n' => out.push('\n'),
            _ => {}
        }
    }
    out.push_str("\"\"");
}

fn raw_string(chars: &mut Chars<'_>, out: &mut String) {
    let mut hashes = 0;
    while chars.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if chars.next_if_eq(&'"').is_none() {
        // A raw identifier such as r#type.
        return;
    }
    while let Some(c) = chars.next() {
        if c == '\n' {
            out.push('\n');
        }
        if c == '"' && (0..hashes).all(|_| chars.next_if_eq(&'#').is_some()) {
            break;
        }
    }
    out.push_str("\"\"");
}

/// Skips `'x'` and `'\n'`; a lifetime has no closing quote and only loses its mark.
fn character(chars: &mut Chars<'_>) {
    let mut ahead = chars.clone();
    match ahead.next() {
        Some('\\') => {
            let mut after_first = false;
            for c in chars.by_ref() {
                if c == '\'' && after_first {
                    break;
                }
                after_first = c != '\\' || !after_first;
            }
        }
        Some(_) if ahead.next() == Some('\'') => {
            chars.next();
            chars.next();
        }
        _ => {}
    }
}

/// Drops every `#[cfg(test)]` item: a module to its closing brace, anything else to its line's end.
fn without_tests(lines: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = lines.iter();
    while let Some(line) = rest.next() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            kept.push(line.clone());
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let mut inside = false;
        for line in rest.by_ref() {
            inside |= line.trim_end().ends_with('{');
            if *line == end || (!inside && line.trim_end().ends_with(';')) {
                break;
            }
        }
    }
    kept
}

/// The room of a file: `src/wire/frame.rs` and `src/secret.rs` are in `wire` and `secret`.
fn room(name: &str) -> Option<&str> {
    let inner = name.strip_prefix("src/")?;
    let first = inner.split('/').next()?;
    let first = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(first, "lib" | "main")).then_some(first)
}

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("the room {room} is on no floor: tests/tidy.rs has the plan"))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The rooms that a file names by a path from the crate's root.
fn imports(source: &Source) -> BTreeSet<String> {
    let depth = source.name.matches('/').count() - usize::from(source.name.ends_with("/mod.rs"));
    let up = "super::".repeat(depth);
    let code = source.code.join("\n");
    let mut found = BTreeSet::new();
    for root in ["crate::", "pgwhy::", up.as_str()] {
        if root.is_empty() {
            continue;
        }
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before == ':' || before.is_alphanumeric() {
                continue;
            }
            let rest = &code[at + root.len()..];
            let named: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => top_names(group),
                None => words(rest).take(1).collect(),
            };
            let rooms = FLOORS.concat();
            found.extend(named.into_iter().filter(|name| rooms.contains(name)).map(str::to_owned));
        }
    }
    found
}

/// The first name of every element of a `{a::b, c::{d, e}}` group, given what follows its brace.
fn top_names(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(words(&group[start..at]).next());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(words(&group[start..at]).next());
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn a_room_imports_only_from_floors_below() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let Some(room) = room(&source.name) else { continue };
        for other in imports(&source).iter().filter(|other| *other != room) {
            if floor(other) >= floor(room) {
                faults.push(format!(
                    "{}: {room} (F{}) imports {other} (F{})",
                    source.name,
                    floor(room),
                    floor(other)
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where a file stands among the modules: `src/net/engine/pair.rs` is net, engine, pair.
fn module(name: &str) -> Vec<&str> {
    let inner = name.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "mod").collect()
}

/// Every path that code names, groups taken apart: what stands before the last `::` as well as behind it.
fn named_paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before != ':' && !before.is_alphanumeric() {
                expand(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Follows one path to its end and gives what of the text stands behind it.
fn expand<'a>(text: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = path.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = expand(group, path, found).trim_start();
                match group.strip_prefix(',') {
                    Some(next) => group = next,
                    None => break,
                }
            }
            rest = group.strip_prefix('}').unwrap_or(group);
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        path.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(next) => rest = next,
            None => {
                found.push(path.clone());
                rest = rest[end..].trim_start();
                // `as another_name`
                rest = rest
                    .strip_prefix("as ")
                    .map_or(rest, |name| name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
                break;
            }
        }
    }
    path.truncate(depth);
    rest
}

/// The files that a file takes names from. A `mod.rs` only hands on what its files define, and a file belongs together
/// with the modules below it.
fn neighbours(source: &Source, all: &BTreeMap<Vec<&str>, &str>) -> BTreeSet<String> {
    let own = module(&source.name);
    let mut found = BTreeSet::new();
    for path in named_paths(&source.code.join("\n")) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let mut full: Vec<&str> =
            if ups > 0 { own[..own.len().saturating_sub(ups)].to_vec() } else { Vec::new() };
        full.extend(path.iter().skip(ups.max(1)).map(String::as_str));
        let file = (0..=full.len()).rev().find_map(|length| all.get(&full[..length]));
        let other = file.filter(|file| !own.starts_with(&module(file)));
        found.extend(other.map(|file| (*file).to_owned()));
    }
    found
}

#[test]
fn no_file_imports_in_a_circle() {
    let sources = sources("src");
    let plain = |source: &&Source| {
        !source.tests && !["mod.rs", "lib.rs", "main.rs"].iter().any(|end| source.name.ends_with(end))
    };
    let sources: Vec<&Source> = sources.iter().filter(plain).collect();
    let all = sources.iter().map(|source| (module(&source.name), source.name.as_str())).collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> =
        sources.iter().map(|source| (source.name.clone(), neighbours(source, &all))).collect();
    // Who imports nobody that is left stands on the ground; a circle never does.
    loop {
        let left: BTreeSet<String> = arrows.keys().cloned().collect();
        arrows.retain(|_, to| to.iter().any(|file| left.contains(file)));
        if arrows.len() == left.len() {
            break;
        }
    }
    // Nor does who only looks at one from above.
    loop {
        let seen: BTreeSet<String> = arrows.values().flatten().cloned().collect();
        let before = arrows.len();
        arrows.retain(|file, _| seen.contains(file));
        if arrows.len() == before {
            break;
        }
    }
    assert!(arrows.is_empty(), "these import each other: {arrows:#?}");
}

#[test]
fn below_net_there_is_no_socket_clock_file_or_hash_order() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let below = room(&source.name).is_some_and(|room| floor(room) < NET);
        if !below || source.tests {
            continue;
        }
        for (number, line) in source.code.iter().enumerate() {
            let used = |banned: &str| match banned.split_once("::") {
                Some(_) => line.contains(banned),
                None => words(line).any(|word| word == banned),
            };
            for (banned, why) in BANNED_BELOW_NET.iter().filter(|(banned, _)| used(banned)) {
                faults.push(format!("{} (code line {}): {banned}: {why}", source.name, number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_is_one_line() {
    let lines: Vec<_> = sources("src")
        .into_iter()
        .chain(sources("tests"))
        .flat_map(|source| source.code.into_iter().map(move |line| (source.name.clone(), line)))
        .filter(|(_, line)| words(line).any(|word| word == "unsafe"))
        .collect();
    let [(name, _)] = lines.as_slice() else { panic!("{lines:#?}") };
    assert_eq!(name, UNSAFE_FILE);
}

#[test]
fn no_module_has_an_empty_name() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        for part in source.path.components().filter_map(|part| part.as_os_str().to_str()) {
            let part = part.strip_suffix(".rs").unwrap_or(part);
            let inside = source.name.split('/').any(|own| own.strip_suffix(".rs").unwrap_or(own) == part);
            assert!(!inside || !EMPTY_NAMES.contains(&part), "{}: `{part}` says nothing", source.name);
        }
    }
}

#[test]
fn no_file_tires_its_reader() {
    let long: Vec<_> = sources("src")
        .into_iter()
        .chain(sources("tests"))
        .filter(|source| !source.tests && source.code.len() > MAX_FILE_LINES)
        .map(|source| format!("{}: {} lines without its tests", source.name, source.code.len()))
        .collect();
    assert!(long.is_empty(), "longer than {MAX_FILE_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn no_function_tires_its_reader() {
    let mut long = Vec::new();
    for source in sources("src").iter().filter(|source| !source.tests) {
        for (name, lines) in functions(&source.code) {
            if lines > MAX_FUNCTION_LINES {
                long.push(format!("{}: fn {name}: {lines} lines", source.name));
            }
        }
    }
    assert!(long.is_empty(), "longer than {MAX_FUNCTION_LINES} lines:\n{}", long.join("\n"));
}

/// Names and lengths; rustfmt puts a function's closing brace under its first letter.
fn functions(code: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in code.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, after)) = trimmed.split_once("fn ") else { continue };
        let qualifiers = ["pub", "crate", "super", "in", "const", "async", "extern"];
        if !words(before).all(|word| qualifiers.contains(&word)) || before.contains('"') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let length = code[start..].iter().position(|line| *line == end);
        // A declaration without a body, or one that fits its line, ends there.
        let one_line = trimmed.ends_with('}') || trimmed.ends_with(';');
        let name = words(after).next().unwrap_or_default().to_owned();
        found.push((name, if one_line { 1 } else { length.map_or(1, |length| length + 1) }));
    }
    found
}

#[test]
fn every_cause_has_a_page_and_every_page_a_cause() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/causes");
    let pages: BTreeSet<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .collect();
    let ids: BTreeSet<String> = causes::causes().iter().map(|cause| cause.id.clone()).collect();
    let without_page: Vec<_> = ids.difference(&pages).collect();
    let without_cause: Vec<_> = pages.difference(&ids).collect();
    assert!(without_page.is_empty(), "causes without a page in docs/causes: {without_page:?}");
    assert!(without_cause.is_empty(), "pages without a cause in docs/causes.toml: {without_cause:?}");
}

#[test]
fn the_reader_of_sources_is_not_fooled() {
    let text = "use crate::{wire::{self, frame}, secret::Secret};\n// crate::app\nlet a = \"crate::app\";\n\
                let b = r#\"crate::\"app\"#; let c = '\"'; fn f<'a>() {}\n#[cfg(test)]\nmod tests {\n    use crate::net;\n}\n\
                let d = crate::report::Report;\n";
    let code = without_tests(&bare(text));
    let source = Source { path: PathBuf::new(), name: "src/diagnose/mod.rs".to_owned(), code, tests: false };
    let found: Vec<_> = imports(&source).into_iter().collect();
    assert_eq!(found, ["report", "secret", "wire"]);
    let paths = named_paths("use crate::{a::{self as one, b}, c}; x(super::super::d::E::F)");
    let paths: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["crate::a::self", "crate::a::b", "crate::c", "super::super::d::E::F"]);
}
