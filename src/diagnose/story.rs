//! Several connections that are one story: retries that hide the first error, and the difference from
//! the last success.

use std::borrow::Cow;
use std::time::Duration;

use crate::handshake::driver::recognise;
use crate::handshake::ladder::{text, version};
use crate::handshake::{Record, Step};
use crate::wire::settings;
use crate::wire::tls::version_name;

use super::context::Context;
use super::{Cause, Finding, Outcome};

/// Attempts of one client this close together belong to one story: drivers retry at once.
pub const MOMENTS: Duration = Duration::from_secs(2);
/// A connection that lasted longer than this before the retry had a session: nothing failed.
const LONGEST_LOGIN: Duration = Duration::from_secs(10);

/// The second attempt, in plaintext, that hides what the first, over TLS, failed of.
pub(super) fn masked(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let earlier = context.earlier?;
    let here_encrypted = record.is_client_encrypted();
    let failed = match earlier.outcome {
        Outcome::Failed => true,
        Outcome::Opaque => earlier.ended && earlier.lasted < LONGEST_LOGIN,
        Outcome::Ok | Outcome::Cancel | Outcome::Probe => false,
    };
    if !failed || !earlier.encrypted || here_encrypted || earlier.before > MOMENTS {
        return None;
    }
    // Whom no line lets in over TLS either is refused for the same reason twice.
    if matches!(earlier.cause, Some((Cause::HbaNoEntry | Cause::HbaReject, _))) {
        return None;
    }
    let first = match &earlier.cause {
        Some((_, summary)) => format!("the first attempt ({}) failed: {summary}", earlier.id),
        None => format!(
            "the first attempt ({}), over TLS, ended after {:.0} ms, and this one followed {:.0} ms later without TLS",
            earlier.id,
            earlier.lasted.as_secs_f64() * 1e3,
            earlier.before.as_secs_f64() * 1e3
        ),
    };
    // What is seen of an opaque one is that it ended.
    let seen = earlier.outcome == Outcome::Failed && earlier.user == record.user().map(text);
    let finding = match seen {
        true => Finding::proven(Step::AuthRequest, Cause::RetryMasksFailure, first),
        false => Finding::likely(Step::AuthRequest, Cause::RetryMasksFailure, first)
            .or(&[Cause::HbaRequiresTls, Cause::HbaNoEntry]),
    };
    Some(
        finding
            .summary("this is the driver's second attempt, without TLS; its error hides why the first one, over TLS, failed")
            .fix("put sslmode=require into the connection string: then the first error is the one you see"),
    )
}

/// What two attempts are compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    fields: Vec<(Cow<'static, str>, String)>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name of the field, as in the report.
    pub field: Cow<'static, str>,
    /// Its value in this attempt.
    pub here: String,
    /// Its value in the last success.
    pub there: String,
}

impl Profile {
    /// Takes from a record what may differ between a login that works and one that does not. `client_tls` is the TLS
    /// version of the client's leg where the record does not show it: in a capture of TLS that was opened.
    pub fn new(
        record: &Record,
        client_host: &str,
        server_address: Option<&str>,
        client_tls: Option<&str>,
    ) -> Self {
        let value = |name: &str| {
            let value = record.startup.as_ref().and_then(|startup| startup.get(name))?;
            Some(text(&settings::shown(name.as_bytes(), value)))
        };
        let scram = record.scram.as_ref();
        let salt = scram.and_then(|scram| scram.server_first.as_ref());
        let tls = tls_version(record).or_else(|| client_tls.map(str::to_owned));
        let mut fields: Vec<(Cow<'static, str>, String)> = Vec::new();
        let always = [
            ("client", client_host.to_owned()),
            ("client_tls", tls.unwrap_or_else(|| "plaintext".into())),
            ("user", record.user().map(text).unwrap_or_default()),
            ("database", record.database().map(text).unwrap_or_default()),
            ("driver", recognise(record).map_or("unknown", |driver| driver.name).into()),
            ("auth_method", record.auth_method().unwrap_or("none").into()),
        ];
        fields.extend(always.map(|(name, value)| (name.into(), value)));
        let mut optional = |name: &'static str, value: Option<String>| {
            fields.extend(value.map(|value| (name.into(), value)));
        };
        optional("server", server_address.map(str::to_owned));
        optional("application_name", value("application_name"));
        optional("options", value("options"));
        optional("protocol", record.startup.as_ref().map(|startup| version(startup.version)));
        optional("mechanism", record.mechanism.as_deref().map(text));
        optional(
            "scram_salt",
            salt.map(|first| first.salt.iter().map(|byte| format!("{byte:02x}")).collect()),
        );
        optional("scram_iterations", salt.map(|first| first.iterations.to_string()));
        let own = |name: &[u8]| matches!(name, b"user" | b"database" | b"application_name" | b"options");
        let others = record.startup.iter().flat_map(|startup| &startup.parameters);
        let others = others.filter(|(name, _)| !own(name)).take(MOST_PARAMETERS);
        fields.extend(others.map(|(name, value)| {
            (format!("startup.{}", text(name)).into(), text(&settings::shown(name, value)))
        }));
        Self { fields }
    }

    /// What differs from a login that worked.
    pub fn differences(&self, success: &Self) -> Vec<Difference> {
        let find = |profile: &Self, name: &str| {
            profile.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone())
        };
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.fields.iter().chain(&success.fields) {
            if !names.contains(&name.as_ref()) {
                names.push(name);
            }
        }
        let differ = |field: &str| {
            let (here, there) = (find(self, field), find(success, field));
            // A handshake that ended early has no mechanism and no salt: that is no difference.
            let late =
                matches!(field, "mechanism" | "scram_salt" | "scram_iterations" | "auth_method" | "server");
            let both = here.is_some() && there.is_some();
            let none = field == "auth_method" && here.as_deref() == Some("none");
            (here != there && (both || !late) && !none).then(|| Difference {
                field: Cow::Owned(field.to_owned()),
                here: here.unwrap_or_else(|| "not sent".into()),
                there: there.unwrap_or_else(|| "not sent".into()),
            })
        };
        names.into_iter().filter_map(differ).collect()
    }
}

/// Startup parameters that are compared, beside those that have a name of their own.
const MOST_PARAMETERS: usize = 32;

/// The TLS version in use on the client's leg, as far as it is known.
pub fn tls_version(record: &Record) -> Option<String> {
    let opened =
        record.legs.as_deref().and_then(|legs| legs.client.as_ref()).and_then(|client| client.version);
    if let Some(version) = opened {
        return Some(version_name(version));
    }
    let tls = record.tls.as_ref()?;
    Some(tls.server_hello.as_ref().map_or_else(|| "TLS".into(), |(hello, _)| version_name(hello.version)))
}
