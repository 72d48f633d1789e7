//! Records from captures that lack something: what is missing could be the very message that counts.

use std::time::Duration;

use crate::handshake::{Close, Record};

use super::context::{Context, Lack};
use super::{Confidence, Diagnosis, Outcome};

/// Takes back what a gap leaves open. A message that was seen was sent, so a refusal stays a refusal, though
/// never a proven one; that nothing was said can't be told from a capture with a hole in it.
pub(super) fn weaken(
    record: &Record,
    context: &Context<'_>,
    lack: Lack,
    mut diagnosis: Diagnosis,
) -> Diagnosis {
    if !matches!(diagnosis.outcome, Outcome::Failed | Outcome::Probe) {
        return diagnosis;
    }
    let lost = lack.client_bytes + lack.server_bytes > 0;
    let unreached = !context.dials.is_empty() && context.dials.iter().all(|dial| dial.result.is_err());
    let timed_out = matches!(record.first_close(), Some((_, Close::Deadline, _)));
    let said = record.error.is_some() || record.server_not_postgres;
    let ended_in_sight = said || !record.closes.is_empty() || unreached;
    let cut_off = lack.cut_off.filter(|_| !ended_in_sight || timed_out || unreached);
    if !lost && cut_off.is_none() {
        return diagnosis;
    }
    let note = describe(lack, cut_off);
    if (lost && !said && !unreached) || !ended_in_sight {
        return Diagnosis { notes: vec![note], ..Diagnosis::without_finding(Outcome::Opaque) };
    }
    if let Some(finding) = &mut diagnosis.finding {
        finding.confidence = finding.confidence.min(Confidence::Likely);
        for text in &mut finding.evidence {
            *text = text.replace("our login deadline", "the end of the capture");
        }
        finding.evidence.push(note);
    }
    diagnosis
}

fn describe(lack: Lack, cut_off: Option<Duration>) -> String {
    let lost = |count: u64, whose: &str| (count > 0).then(|| format!("{count} bytes of the {whose}'s"));
    let parts: Vec<String> = [lost(lack.client_bytes, "client"), lost(lack.server_bytes, "server")]
        .into_iter()
        .flatten()
        .collect();
    match (parts.is_empty(), cut_off) {
        (false, _) => format!("the capture lacks {} in this login", parts.join(" and ")),
        (true, Some(silent)) => format!(
            "the capture ends {:.1} s after the last packet of this login: what became of it is not in it",
            silent.as_secs_f64()
        ),
        (true, None) => "the capture lacks a part of this login".into(),
    }
}
