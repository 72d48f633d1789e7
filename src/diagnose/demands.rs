//! What the connection string makes a client insist on: libpq and its like leave without a word when
//! the server asks for something else.

use crate::handshake::driver::recognise;
use crate::handshake::{Record, Step};

use super::{Cause, Context, Finding, Leg};

/// The client closed right after the request, and what it was asked for is forbidden by its settings.
///
/// libpq looks at them before it looks for a password (`check_expected_areq`, `pg_SASL_init`), so where
/// they are in force it leaves for this reason and no other.
pub(super) fn forbidden(record: &Record, context: &Context<'_>, step: Step) -> Option<Finding> {
    let demands = context.demands?;
    if context.expected.is_some_and(|expected| !expected.for_this_user) {
        return None;
    }
    let request = record.last_request()?.code;
    let (setting, evidence) = if demands.channel_binding && !offers_binding(record, request) {
        let asked =
            if request == SASL { "offered no SCRAM-SHA-256-PLUS" } else { "asked for no SCRAM at all" };
        ("channel_binding=require", asked.to_owned())
    } else {
        let allowed = demands.require_auth.as_deref()?;
        let asked = methods(record, request)?;
        if asked.iter().any(|method| allows(allowed, method)) {
            return None;
        }
        ("require_auth", format!("asked for {}, which require_auth={allowed} forbids", asked.join(" or ")))
    };
    let evidence = format!("{setting} stands in {}, and the server {evidence}", demands.source);
    let obeys = match recognise(record).map(|driver| driver.name) {
        Some("libpq") => true,
        Some("pgx" | "tokio-postgres") => setting == "channel_binding=require",
        // The others know neither setting, or under names of their own.
        Some(_) => return None,
        None => false,
    };
    // It did not come to the step that the request begins.
    let step = if request == SASL { step } else { Step::AuthRequest };
    let finding = if obeys {
        Finding::proven(step, Cause::MethodRejectedByClient, evidence)
    } else {
        Finding::likely(step, Cause::MethodRejectedByClient, evidence).or(&[Cause::PasswordMissing])
    };
    Some(advice(record, finding, setting))
}

fn advice(record: &Record, finding: Finding, setting: &str) -> Finding {
    if setting == "require_auth" {
        return finding
            .summary(
                "require_auth in the client's connection string forbids the method that the server asks for",
            )
            .fix("let pg_hba.conf ask for a method that require_auth allows, or change require_auth");
    }
    let finding =
        finding.summary("the client insists on channel binding, which this connection does not offer");
    if record.legs.as_ref().is_some_and(|legs| legs.plus_removed) {
        return finding
            .on(Leg::Proxy)
            .and("pgwhy took SCRAM-SHA-256-PLUS out of the server's offer, as the client's own connection has no TLS")
            .fix("give pgwhy the password, or let the client use TLS up to pgwhy (sslmode=require)");
    }
    let clear = !record.is_client_encrypted();
    finding.fix(if clear {
        "use TLS (sslmode=require): SCRAM-SHA-256-PLUS is offered over nothing else; or channel_binding=prefer"
    } else {
        "use a SCRAM password and a scram-sha-256 line, without a pooler that ends TLS; or channel_binding=prefer"
    })
}

fn offers_binding(record: &Record, request: u32) -> bool {
    request == SASL && record.offers(b"SCRAM-SHA-256-PLUS")
}

/// The request in the words of `require_auth`; `None` for those that it has no word for.
fn methods(record: &Record, request: u32) -> Option<Vec<&'static str>> {
    match request {
        3 => Some(vec!["password"]),
        5 => Some(vec!["md5"]),
        7 => Some(vec!["gss"]),
        9 => Some(vec!["sspi"]),
        SASL => {
            let scram = record.offers(b"SCRAM-SHA-256") || record.offers(b"SCRAM-SHA-256-PLUS");
            let named = [("scram-sha-256", scram), ("oauth", record.offers(b"OAUTHBEARER"))];
            Some(named.into_iter().filter(|(_, offered)| *offered).map(|(name, _)| name).collect())
        }
        _ => None,
    }
}

/// libpq's reading of the list: either all names are allowed ones, or all have a `!`.
fn allows(list: &str, method: &str) -> bool {
    let mut names = list.split(',').map(str::trim);
    match list.trim_start().starts_with('!') {
        true => !names.any(|name| name.strip_prefix('!') == Some(method)),
        false => names.any(|name| name == method),
    }
}

/// AuthenticationSASL.
const SASL: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn require_auth_is_read_as_libpq_does() {
        for (list, method, allowed) in [
            ("scram-sha-256", "scram-sha-256", true),
            ("scram-sha-256", "password", false),
            ("md5, scram-sha-256", "scram-sha-256", true),
            ("!password", "password", false),
            ("!password,!md5", "scram-sha-256", true),
            ("none", "md5", false),
        ] {
            assert_eq!(allows(list, method), allowed, "{list}: {method}");
        }
    }
}
