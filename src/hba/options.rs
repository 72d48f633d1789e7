//! The `name=value` words at a line's end (PostgreSQL: `parse_hba_auth_opt`, and the end of
//! `parse_hba_line` for what a method must have).

use super::conn_type::ConnType;
use super::method::{Method, OptionSpec, Server, Value, option, options_of};
use super::problem::{Place, Problem};
use super::token::Token;

/// An option of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaOption {
    /// Its name.
    pub name: String,
    /// Its value; `***` for a password.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// Whether a login must bring a client certificate, besides what the method asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// No.
    #[default]
    Off,
    /// One that a known authority signed.
    VerifyCa,
    /// One that names the user, too.
    VerifyFull,
}

/// The options of one line while it is read.
pub(super) struct Options<'a> {
    server: &'a Server,
    kind: ConnType,
    method: Method,
    found: Vec<HbaOption>,
    pub(super) client_cert: ClientCert,
    /// Lengths of the RADIUS lists: servers, secrets, ports, identifiers.
    radius: [usize; 4],
    ldap_url_has: [bool; 3],
    delegates: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(server: &'a Server, kind: ConnType, method: Method) -> Self {
        Self {
            server,
            kind,
            method,
            found: Vec::new(),
            client_cert: ClientCert::Off,
            radius: [0; 4],
            ldap_url_has: [false; 3],
            delegates: false,
        }
    }

    /// Takes one word.
    pub(super) fn add(&mut self, token: &Token, problems: &mut Vec<Problem>) -> Result<(), Problem> {
        let place = &token.place;
        let Some((name, value)) = token.text.split_once('=') else {
            let message = "this word behind the method is no option: options are name=value";
            let fix = "write name=value without blanks around =, or put a # before a comment";
            return Err(Problem::error("option_syntax", place, message, fix));
        };
        let Some(spec) = option(name, self.server.version) else { return Err(self.unknown(name, place)) };
        if !spec.methods.is_empty() && !spec.methods.contains(&self.method) {
            let methods: Vec<_> = spec.methods.iter().map(|method| method.as_str()).collect();
            let message = format!("{name} is an option of {}, not of {}", methods.join(", "), self.method);
            return Err(Problem::error("option_wrong_method", place, message, "take it out"));
        }
        self.value(spec, value, place, problems)?;
        let secret = matches!(name, "ldapbindpasswd" | "radiussecrets");
        let shown = if secret { "***" } else { value };
        self.found.retain(|option| option.name != name);
        self.found.push(HbaOption { name: name.to_owned(), value: shown.to_owned(), place: place.clone() });
        Ok(())
    }

    fn unknown(&self, name: &str, place: &Place) -> Problem {
        let version = self.server.version;
        let message = match option(name, u32::MAX - 1).map(|spec| spec.since) {
            Some(since) if since > version => {
                format!("PostgreSQL {version} knows no option {name}: it came with {since}")
            }
            _ => format!("PostgreSQL {version} knows no option {name}"),
        };
        let known = options_of(self.method, version);
        let fix = match known.is_empty() {
            true => format!("take it out: {} has no options", self.method),
            false => format!("{} has the options {}", self.method, known.join(", ")),
        };
        Problem::error("option_unknown", place, message, fix)
    }

    fn value(
        &mut self,
        spec: &OptionSpec,
        value: &str,
        place: &Place,
        problems: &mut Vec<Problem>,
    ) -> Result<(), Problem> {
        let name = spec.name;
        let wrong = |fix: &str| {
            let message = format!("this value of {name} is not understood");
            Err(Problem::error("option_value", place, message, fix))
        };
        match spec.value {
            Value::Text => Ok(()),
            Value::Flag => {
                self.delegates = if name == "delegate_ident_mapping" { value == "1" } else { self.delegates };
                if !matches!(value, "0" | "1") {
                    let message = format!("{name}={value} means no: only 1 means yes");
                    problems.push(Problem::warning("flag_is_off", place, message, "write 1 or 0"));
                }
                Ok(())
            }
            Value::ClientCert => self.client_cert(value, place),
            Value::ClientName if self.kind != ConnType::HostSsl => Err(needs_hostssl(name, place)),
            Value::ClientName if matches!(value, "CN" | "DN") => Ok(()),
            Value::ClientName => wrong("write CN or DN"),
            Value::LdapScheme if matches!(value, "ldap" | "ldaps") => Ok(()),
            // PostgreSQL complains and goes on.
            Value::LdapScheme => {
                let message = "ldapscheme is neither ldap nor ldaps: logins will fail";
                problems.push(Problem::warning("option_value", place, message, "write ldap or ldaps"));
                Ok(())
            }
            Value::Port if atoi(value) == 0 => wrong("write a port number"),
            Value::Port => Ok(()),
            Value::LdapUrl => self.ldap_url(value, place),
            Value::List | Value::Ports => {
                let Some(items) = guc_list(value) else {
                    return wrong("write the list with single commas, in double quotes");
                };
                if spec.value == Value::Ports && items.iter().any(|item| atoi(item) == 0) {
                    return wrong("write port numbers");
                }
                if let Some(slot) = RADIUS_LISTS.iter().position(|list| *list == name) {
                    self.radius[slot] = items.len();
                }
                Ok(())
            }
        }
    }

    /// The words changed with version 14.
    fn client_cert(&mut self, value: &str, place: &Place) -> Result<(), Problem> {
        if self.kind != ConnType::HostSsl {
            return Err(needs_hostssl("clientcert", place));
        }
        let old = self.server.version < 14;
        self.client_cert = match value {
            "verify-full" => ClientCert::VerifyFull,
            "verify-ca" if !old && self.method == Method::Cert => {
                let message =
                    "the method cert always checks the name, too: clientcert=verify-ca contradicts it";
                return Err(Problem::error("option_conflict", place, message, "take the option out"));
            }
            "verify-ca" => ClientCert::VerifyCa,
            "1" if old => ClientCert::VerifyCa,
            "0" | "no-verify" if old && self.method == Method::Cert => {
                let message = "the method cert needs a certificate: this value contradicts it";
                return Err(Problem::error("option_conflict", place, message, "take the option out"));
            }
            "0" | "no-verify" if old => ClientCert::Off,
            "0" | "1" | "no-verify" => {
                let message = format!("clientcert={value} was a value before PostgreSQL 14");
                let fix = match value {
                    "1" => "write clientcert=verify-ca",
                    _ => "take the option out",
                };
                return Err(Problem::error("option_value", place, message, fix));
            }
            _ => {
                let message = "this value of clientcert is not understood";
                return Err(Problem::error("option_value", place, message, "write verify-ca or verify-full"));
            }
        };
        Ok(())
    }

    /// An approximation of `ldap_url_parse`: scheme, then `//host/base?attribute?scope?filter`.
    fn ldap_url(&mut self, value: &str, place: &Place) -> Result<(), Problem> {
        let url = value.strip_prefix("URL:").unwrap_or(value);
        let after = ["ldap://", "ldaps://"]
            .iter()
            .find_map(|scheme| url.get(..scheme.len()).filter(|s| s.eq_ignore_ascii_case(scheme)))
            .map(|scheme| &url[scheme.len()..]);
        let Some(after) = after else {
            let message = "this is no URL of the scheme ldap or ldaps";
            let fix = "write ldap://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]";
            return Err(Problem::error("option_value", place, message, fix));
        };
        let rest = after.split_once('/').map_or("", |(_, rest)| rest);
        let parts: Vec<&str> = rest.split('?').collect();
        let given = |index: usize| parts.get(index).is_some_and(|part| !part.is_empty());
        self.ldap_url_has = [given(0), given(1), given(3)];
        Ok(())
    }

    /// What the method must have, and what it can't have together.
    pub(super) fn finish(mut self, place: &Place) -> Result<(Vec<HbaOption>, ClientCert), Problem> {
        match self.method {
            Method::Ldap => self.finish_ldap(place)?,
            Method::Radius => self.finish_radius(place)?,
            Method::Oauth => self.finish_oauth(place)?,
            Method::Cert => self.client_cert = ClientCert::VerifyFull,
            _ => {}
        }
        Ok((self.found, self.client_cert))
    }

    fn has(&self, name: &str) -> bool {
        self.found.iter().any(|option| option.name == name)
    }

    fn finish_ldap(&self, place: &Place) -> Result<(), Problem> {
        let [base, attribute, filter] = self.ldap_url_has;
        let search = ["ldapbinddn", "ldapbindpasswd"].iter().any(|name| self.has(name));
        let (base, attribute, filter) = (
            base || self.has("ldapbasedn"),
            attribute || self.has("ldapsearchattribute"),
            filter || self.has("ldapsearchfilter"),
        );
        if self.has("ldapprefix") || self.has("ldapsuffix") {
            if base || search || attribute || filter {
                let message =
                    "ldapprefix and ldapsuffix bind directly: they don't go with options of search+bind";
                let fix = "keep one set: ldapprefix/ldapsuffix, or ldapbasedn and its companions";
                return Err(Problem::error("option_conflict", place, message, fix));
            }
        } else if !base {
            let message = "ldap needs to know how to make a DN of the user name";
            let fix = "add ldapbasedn=…, or ldapprefix=… and ldapsuffix=…";
            return Err(Problem::error("option_missing", place, message, fix));
        }
        if attribute && filter {
            let message = "ldapsearchattribute and ldapsearchfilter exclude each other";
            return Err(Problem::error("option_conflict", place, message, "keep one"));
        }
        Ok(())
    }

    fn finish_radius(&self, place: &Place) -> Result<(), Problem> {
        let [servers, secrets, ports, identifiers] = self.radius;
        for (count, name) in [(servers, "radiusservers"), (secrets, "radiussecrets")] {
            if count == 0 {
                let message = format!("radius needs {name}");
                return Err(Problem::error("option_missing", place, message, format!("add {name}=…")));
            }
        }
        let lists = [(secrets, "radiussecrets"), (ports, "radiusports"), (identifiers, "radiusidentifiers")];
        for (count, name) in lists {
            if count > 1 && count != servers {
                let message = format!("{name} has {count} values for {servers} servers");
                let fix = "give one value for all servers, or one for each";
                return Err(Problem::error("option_conflict", place, message, fix));
            }
        }
        Ok(())
    }

    /// PostgreSQL also: `check_oauth_validator`.
    fn finish_oauth(&self, place: &Place) -> Result<(), Problem> {
        for name in ["scope", "issuer"] {
            if !self.has(name) {
                let message = format!("oauth needs {name}");
                return Err(Problem::error("option_missing", place, message, format!("add {name}=…")));
            }
        }
        if let Some(libraries) = &self.server.oauth_validators {
            let named = self.found.iter().find(|option| option.name == "validator").map(|o| o.value.as_str());
            let fits = match named {
                Some(name) => libraries.iter().any(|library| library == name),
                None => libraries.len() == 1,
            };
            if !fits {
                let message = "oauth_validator_libraries does not hold the validator of this line";
                let fix =
                    "set oauth_validator_libraries in postgresql.conf, and validator=… if it lists several";
                return Err(Problem::error("option_missing", place, message, fix));
            }
        }
        if self.delegates && self.has("map") {
            let message = "map and delegate_ident_mapping=1 exclude each other";
            return Err(Problem::error("option_conflict", place, message, "keep one"));
        }
        Ok(())
    }
}

fn needs_hostssl(name: &str, place: &Place) -> Problem {
    let message = format!("{name} is for hostssl lines only");
    Problem::error("option_wrong_method", place, message, "make it a hostssl line, or take the option out")
}

/// C's `atoi`.
fn atoi(text: &str) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    sign * digits[..end].parse::<i64>().unwrap_or(0)
}

/// A list of a configuration value (PostgreSQL: `SplitGUCList`).
fn guc_list(text: &str) -> Option<Vec<String>> {
    let space = [' ', '\t', '\n', '\r', '\u{c}', '\u{b}'];
    let mut rest = text.trim_start_matches(space);
    let mut items = Vec::new();
    if rest.is_empty() {
        return Some(items);
    }
    loop {
        let mut item = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, behind) = quoted.split_once('"')?;
                item.push_str(part);
                let Some(more) = behind.strip_prefix('"') else {
                    rest = behind;
                    break;
                };
                item.push('"');
                quoted = more;
            }
        } else {
            let end = rest.find(|c| c == ',' || space.contains(&c)).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            item.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        items.push(item);
        rest = rest.trim_start_matches(space);
        if rest.is_empty() {
            return Some(items);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(space);
    }
}

const RADIUS_LISTS: [&str; 4] = ["radiusservers", "radiussecrets", "radiusports", "radiusidentifiers"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_numbers() {
        let list = |text: &str| guc_list(text).map(|items| items.join("|"));
        assert_eq!(list(" a , b "), Some("a|b".to_owned()));
        assert_eq!(list("\"a,\"\"b\",c"), Some("a,\"b|c".to_owned()));
        assert_eq!(list(""), Some(String::new()));
        for wrong in ["a,,b", "a b", "\"a", "a,"] {
            assert_eq!(list(wrong), None, "{wrong}");
        }
        assert_eq!((atoi(" +12x"), atoi("x"), atoi("-3"), atoi("")), (12, 0, -3, 0));
    }
}
