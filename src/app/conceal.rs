//! The expected password where it is no password: a program that swaps it with the user's name sends it in clear,
//! and the server repeats it.

use crate::handshake::Record;
use crate::password::Expected;
use crate::report::Report;

/// Shorter ones are words that stand in any report.
const SHORTEST: usize = 6;

/// What stands in its place.
const MASK: &str = "[the expected password]";

/// The expected password, where it stands among the names that a client sent. Words of the server that happen
/// to be the same ("password") are no secret.
pub(super) fn among_names<'a>(record: &Record, expected: &'a Expected) -> Option<&'a str> {
    let password = expected.password.expose().as_str();
    if password.len() < SHORTEST || expected.user.as_deref() == Some(password) {
        return None;
    }
    let startup = record.startup.as_ref()?;
    let names = ["user", "database", "application_name"].into_iter().filter_map(|name| startup.get(name));
    names.map(String::from_utf8_lossy).any(|name| name.contains(password)).then_some(password)
}

/// Takes the expected password out of a report whose names hold it, and says so.
pub(super) fn conceal(report: &mut Report, record: &Record, expected: &Expected) {
    let Some(password) = among_names(record, expected) else { return };
    let swapped = report.client.user.as_deref() == Some(password);
    let client = &mut report.client;
    let names = [&mut client.user, &mut client.database, &mut client.application_name];
    names.into_iter().flatten().for_each(|name| hide(name, password));
    for (_, value) in report.server_error.iter_mut().flat_map(|error| &mut error.fields) {
        if value.windows(password.len()).any(|part| part == password.as_bytes()) {
            *value = String::from_utf8_lossy(value).replace(password, MASK).into_bytes();
        }
    }
    report.steps.iter_mut().for_each(|step| hide(&mut step.note, password));
    for one in &mut report.differs {
        hide(&mut one.here, password);
        hide(&mut one.there, password);
    }
    let diagnosis = &mut report.diagnosis;
    diagnosis.notes.iter_mut().for_each(|note| hide(note, password));
    diagnosis.warnings.iter_mut().for_each(|warning| hide(&mut warning.summary, password));
    if let Some(finding) = &mut diagnosis.finding {
        hide(&mut finding.summary, password);
        finding.evidence.iter_mut().chain(&mut finding.fix).for_each(|text| hide(text, password));
        let source = &expected.source;
        finding.evidence.push(match swapped {
            true => format!("the user's name is the password of {source}: the two are swapped"),
            false => format!("the password of {source} stands among the names of this login"),
        });
    }
}

fn hide(text: &mut String, password: &str) {
    if text.contains(password) {
        *text = text.replace(password, MASK);
    }
}
