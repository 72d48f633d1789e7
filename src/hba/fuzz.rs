//! What must hold for every input: called by the fuzz targets and, with drawn inputs, by the tests.

use std::path::Path;

use super::{
    Are, ClientName, Connection, FileError, Files, HbaFile, Interface, Kind, Replication, Server, World, decide,
    lint, parse, parse_ident,
};

/// Parses, decides and lints; the first byte picks the version.
///
/// # Panics
///
/// If a promise of this room is broken.
#[allow(clippy::panic, reason = "a broken promise is what a fuzzer looks for")]
pub fn hba(data: &[u8]) {
    let (version, bytes) = data.split_first().map_or((18, data), |(first, rest)| (12 + u32::from(first % 8), rest));
    let server = Server::of_version(version);
    let file = with(bytes, |files| parse(Path::new("pg_hba.conf"), files, &server));
    let again = with(bytes, |files| parse(Path::new("pg_hba.conf"), files, &server));
    assert_eq!(format!("{file:?}"), format!("{again:?}"), "the same text gives the same file");
    let findings = lint(&file, &server, None);
    for problem in &findings {
        let text = file.text(&problem.place);
        assert!(
            problem.place.column == 0 || text.is_some_and(|text| problem.place.column <= text.len() + 1),
            "{problem} points outside of {text:?}"
        );
        assert!(!problem.message.is_empty() && !problem.fix.is_empty());
    }
    let never = ["shadowed_line", "shadowed_reject", "redundant_line", "duplicate_line"];
    for connection in connections() {
        let decision = decide(&file, &connection, &world());
        let Some(line) = &decision.line else { continue };
        assert!(file.rule(line).is_some(), "{line} is no rule");
        let called_dead = findings.iter().any(|problem| {
            never.contains(&problem.id) && problem.place.file == line.file && problem.place.line == line.line
        });
        // A file may be included twice: then one line stands in two places.
        assert!(!called_dead || file.sources.len() > 1, "{line} decides, but lint says it never does");
    }
    promises(&file);
}

fn promises(file: &HbaFile) {
    let refused = file.problems.iter().any(|problem| problem.severity == super::Severity::Error);
    assert_eq!(file.would_load, !refused, "a file loads if nothing in it is refused");
    assert!(!file.would_load || !file.rules.is_empty(), "an empty file does not load");
}

/// Parses a user name map and asks it; the first byte picks the version.
///
/// # Panics
///
/// If a promise of this room is broken.
pub fn ident(data: &[u8]) {
    let (version, bytes) = data.split_first().map_or((18, data), |(first, rest)| (12 + u32::from(first % 8), rest));
    let server = Server::of_version(version);
    let file = with(bytes, |files| parse_ident(Path::new("pg_ident.conf"), files, &server));
    for (pg_user, system_user) in [("joe", "joe"), ("all", "joe@example.org"), ("", "")] {
        for map in file.mappings.iter().map(|mapping| mapping.map.as_str()).chain(["m"]).take(20) {
            let decision = file.check(Some(map), pg_user, system_user, false, &world());
            assert!(decision.allowed || decision.line.is_none(), "no line lets in whom the map refuses");
        }
    }
}

/// Reads a regular expression and matches it against the rest of the input.
pub fn regex(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (source, name) = text.split_once('\0').unwrap_or((&text, "joe"));
    if let Ok(are) = Are::new(source) {
        let _ = are.is_match(name);
    }
}

/// Files that include each other, whatever the text asks for.
fn with<T>(bytes: &[u8], read: impl FnOnce(&Files<'_>) -> T) -> T {
    let contents = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("pg_hba.conf" | "pg_ident.conf" | "self") => Ok(bytes.to_vec()),
        Some("list" | "a.conf") => Ok(b"joe, +staff \"all\"\n\"x y\"".to_vec()),
        _ => Err(FileError::missing()),
    };
    let list = |_: &Path| Ok(vec!["a.conf".to_owned(), "b.conf".to_owned(), "c".to_owned()]);
    read(&Files { read: &contents, list: &list })
}

fn connections() -> Vec<Connection> {
    let mut found = vec![
        Connection { kind: Kind::Local, ..Connection::default() },
        Connection { replication: Replication::Physical, ..Connection::default() },
    ];
    for address in ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1"] {
        for (tls, gss) in [(false, false), (true, false), (false, true)] {
            found.push(Connection { address: address.parse().ok(), tls, gss, ..Connection::default() });
        }
    }
    for (index, connection) in found.iter_mut().enumerate() {
        let (user, database) = [("joe", "joe"), ("ann", "shop"), ("all", "replication")][index % 3];
        (connection.user, connection.database) = (user.to_owned(), database.to_owned());
    }
    found
}

fn world() -> World {
    let mut world = World::default();
    world.roles.members.insert("staff".to_owned(), ["joe".to_owned(), "staff".to_owned()].into());
    world.roles.existing = Some(["joe", "ann", "staff", "all"].map(str::to_owned).into());
    let interface = |address: &str, mask: &str| {
        Some(Interface { address: address.parse().ok()?, mask: mask.parse().ok()? })
    };
    world.interfaces = Some(interface("127.0.0.1", "255.0.0.0").into_iter().collect());
    world.client_name = ClientName::Named { name: "joe.example.org".to_owned(), addresses: Some(Vec::new()) };
    world
}
