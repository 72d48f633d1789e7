//! What the salt of a role's last success says about its refusal now.
//!
//! A SCRAM secret keeps its salt until the password is set anew, and a role without a usable secret is
//! shown a made-up one (`scram_init`, auth-scram.c): PostgreSQL can't hide that something changed.

use crate::handshake::{Record, Step};

use super::context::{Context, LastSalt};
use super::finding::Confidence;
use super::{Cause, Finding};

/// Holds the salt of a refused login against the last one that worked.
pub(super) fn settle(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let shown = record.scram.as_ref().is_some_and(|scram| scram.server_first.is_some());
    let postgres = record.error.as_ref().is_some_and(|error| error.is_from_postgres());
    let Some(last) = context.last_salt.filter(|_| shown) else { return finding };
    // Poolers make salts up for each login.
    if !finding.is_refused_password() || finding.step != Step::ScramClientFinal || !postgres {
        return finding;
    }
    if is_unchanged(record, context) {
        return unchanged(last, finding);
    }
    if !last.same_server {
        return finding.and(format!(
            "the salt is another one than in the last success ({}), which was on another address: \
             another server, or another password there",
            last.of
        ));
    }
    let finding = finding.and(format!(
        "the salt changed since the last success ({}): the role's password was set anew, dropped or has \
         expired since, or another server answers on this address",
        last.of
    ));
    if finding.cause == Cause::PasswordRejected {
        return finding.summary(
            "this role could log in before; since then its password was changed, dropped or has expired",
        );
    }
    finding
}

/// Whether the role was shown the very salt of its last success.
pub(super) fn is_unchanged(record: &Record, context: &Context<'_>) -> bool {
    let here = record.scram.as_ref().and_then(|scram| scram.server_first.as_ref());
    let pair = context.last_salt.zip(here);
    pair.is_some_and(|(last, here)| last.salt == here.salt && last.iterations == here.iterations)
}

/// Nothing changed at the server: neither the role nor its password.
fn unchanged(last: &LastSalt, finding: Finding) -> Finding {
    let evidence = format!(
        "the salt is that of the last success ({}): the role exists, and the password that it had then is in force",
        last.of
    );
    match finding.cause {
        Cause::PasswordRejected => {
            let summary =
                "the client sent another password than in the role's last success; the server's is unchanged";
            // What was wrong with it shows only beside the right one.
            let ask =
                finding.ask.iter().filter(|ask| ask.starts_with("the expected password")).cloned().collect();
            let finding =
                finding.replaced(Cause::PasswordMismatch, Confidence::Proven, evidence).variant("unknown");
            Finding { ask, ..finding.summary(summary) }
        }
        _ => finding.and(evidence),
    }
}
