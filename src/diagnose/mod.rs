//! Facts to cause, evidence and fix.
//!
//! [`diagnose`] takes a record and what is known around it and names the step that failed, the cause,
//! how sure that is, and what proves it. It is total: any record has a diagnosis. The position on the
//! wire, SQLSTATE and routine decide; the text of an error is used only where a product has no other
//! mark, because servers speak many languages.

pub mod admin;
mod causes;
pub mod context;
mod demands;
mod departure;
mod encryption;
mod finding;
mod fixes;
mod history;
mod lack;
mod leg;
mod middle;
pub(crate) mod opened;
mod opening;
mod password;
mod path;
mod postgres;
mod proof;
mod refusal;
pub mod rules;
mod session;
pub mod story;

pub use causes::Cause;
pub use context::Context;
pub use finding::{Confidence, Diagnosis, Finding, Outcome, Warning};
pub use leg::Leg;

use crate::handshake::{Record, Step};

/// Names the cause of what the record shows.
pub fn diagnose(record: &Record, context: &Context<'_>) -> Diagnosis {
    let diagnosis = diagnose_whole(record, context);
    match &context.lack {
        Some(lack) => lack::weaken(record, context, *lack, diagnosis),
        None => diagnosis,
    }
}

/// The same for a record that nothing is missing from.
fn diagnose_whole(record: &Record, context: &Context<'_>) -> Diagnosis {
    if record.cancel.is_some() {
        return Diagnosis::without_finding(Outcome::Cancel);
    }
    if let Some(finding) = path::limit(context) {
        return Diagnosis::failed(finding);
    }
    if let Some(finding) = opening::not_a_client(record, context) {
        return Diagnosis { outcome: Outcome::Probe, ..Diagnosis::failed(finding) };
    }
    if let Some(finding) = password::impostor(record, context) {
        return Diagnosis::failed(finding);
    }
    if record.session.ready.is_some() {
        if let Some(finding) = departure::given_up(record).or_else(|| departure::unwanted(record)) {
            return Diagnosis::failed(finding);
        }
        let mut warnings = session::warnings(record, context);
        warnings.extend(opened::warnings(record));
        warnings.extend(rules::warning(record, context));
        return Diagnosis { warnings, ..Diagnosis::without_finding(Outcome::Ok) };
    }
    let finding = opened::stalled(record)
        .or_else(|| opening::broken_start(record, context))
        .or_else(|| path::unreachable(record, context))
        .or_else(|| opened::finding(record))
        .or_else(|| path::not_postgres(record))
        .or_else(|| encryption::negotiation(record, context))
        .or_else(|| if opened::has_opened(record) { None } else { encryption::tls(record, context) })
        .or_else(|| refused(record, context))
        .or_else(|| opened::refused_unseen(record, context));
    match finding {
        Some(finding) => Diagnosis::failed(settled(record, context, finding)),
        None if encryption::is_opaque(record) => {
            let mut notes = encryption::outside(record, context);
            notes.extend(opened::note(record));
            Diagnosis { notes, ..Diagnosis::without_finding(Outcome::Opaque) }
        }
        None => Diagnosis::failed(settled(record, context, departure::left(record, context))),
    }
}

/// Makes a finding as sure as the context allows.
fn settled(record: &Record, context: &Context<'_>, finding: Finding) -> Finding {
    let finding = rules::settle(record, context, finding);
    let finding = opened::bridged(record, proof::settle(record, context, finding));
    password::name_too_long(record, opened::between(record, context, finding))
}

/// The server said why it refused.
fn refused(record: &Record, context: &Context<'_>) -> Option<Finding> {
    let error = record.error.as_ref()?;
    if let Some(finding) = password::token(record, context) {
        return Some(finding);
    }
    if let Some(finding) = opened::own_refusal(error).or_else(|| middle::refusal(record, error, context)) {
        return Some(finding);
    }
    Some(match record.step.unwrap_or(Step::AuthRequest) {
        Step::SessionSetup => session::refusal(record, error),
        Step::Password | Step::Md5 | Step::ScramClientFinal => password::refusal(record, error, context),
        Step::SaslMechanism | Step::ScramClientFirst | Step::ScramServerFirst | Step::ScramServerFinal => {
            password::sasl(record, error, context)
        }
        Step::Oauth => password::oauth(record, error),
        Step::Gss => password::gss(record, error),
        _ => refusal::before_request(record, error, context),
    })
}
