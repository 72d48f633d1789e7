//! The certificates of all rows, as files that rows name in braces.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::support::certs::{Authority, Issued, Wish};
use crate::support::keeper::Scratch;

/// Everything that is made of certificates.
pub struct Files {
    dir: Scratch,
    pub ca: Authority,
    pub other: Authority,
    pub intermediate: Authority,
    /// What the good servers show.
    pub good: Issued,
    pub self_signed: Issued,
    pub revoked: Issued,
    pub version_one: Issued,
}

/// Names that the good certificates are for.
pub const HERE: &[&str] = &["localhost", "127.0.0.1", "::1"];

impl Files {
    fn make() -> Self {
        let (ca, other) = (Authority::root("Test CA"), Authority::root("Another CA"));
        let intermediate = ca.below(&Wish::authority("Test Intermediate"));
        let good = ca.issue(&Wish::server(HERE));
        let revoked = ca.issue(&Wish::server(HERE));
        let files = Self {
            dir: Scratch::new(),
            self_signed: Wish::server(HERE).self_signed(),
            version_one: ca.issue_version_one(&Wish::server(HERE)),
            good,
            revoked,
            ca,
            other,
            intermediate,
        };
        files.write("ca", &files.ca.pem());
        files.write("other-ca", &files.other.pem());
        files.write("namesake-ca", &Authority::root("Test CA").pem());
        files.write("self-ca", &files.self_signed.pem);
        files.write("crl", &files.ca.revocation_list(&files.revoked));
        files.write("intermediate", &files.intermediate.pem());
        files.identity("good", &files.good);
        files.identity("shown-version-one", &files.version_one);
        files.identity("app-version-one", &files.ca.issue_version_one(&Wish::client("app")));
        files.identity("app-other-version-one", &files.other.issue_version_one(&Wish::client("app")));
        files.identity("shown", &files.ca.issue(&Wish::server(HERE)));
        files.identity("shown-expired", &files.ca.issue(&Wish::server(HERE).within(-30, -1)));
        files.identity("shown-elsewhere", &files.ca.issue(&Wish::server(&["db.example"])));
        files.identity("app", &files.ca.issue(&Wish::client("app")));
        files.identity("certain", &files.ca.issue(&Wish::client("certain")));
        files.identity("certain-other", &files.other.issue(&Wish::client("certain")));
        files.identity("certain-expired", &files.ca.issue(&Wish::client("certain").within(-30, -1)));
        files.identity("app-other", &files.other.issue(&Wish::client("app")));
        files.identity("app-expired", &files.ca.issue(&Wish::client("app").within(-30, -1)));
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        self.dir.write(name, text)
    }

    fn identity(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.crt"), &issued.pem);
        let key = self.write(&format!("{name}.key"), &issued.key);
        // libpq uses no key that others can read.
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// Puts the path of a file in the place of its name in braces.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').expect("a closing brace");
            let path = self.dir.path().join(name);
            assert!(path.exists(), "there is no file {name}");
            filled.push_str(before);
            filled.push_str(&path.display().to_string());
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

/// Made once in a process.
pub fn files() -> &'static Files {
    static FILES: LazyLock<Files> = LazyLock::new(Files::make);
    &FILES
}
