//! The expected password where it is no password: a program that swaps it with the user's name sends it in clear,
//! and the server repeats it.

use crate::password::Expected;
use crate::report::Report;

/// Shorter ones are words that stand in any report.
const SHORTEST: usize = 6;

/// What stands in its place.
const MASK: &str = "[the expected password]";

/// Takes the expected password out of a report whose names or words of the server hold it, and says so.
pub(super) fn conceal(report: &mut Report, expected: &Expected) {
    let password = expected.password.expose().as_str();
    if password.len() < SHORTEST || expected.user.as_deref() == Some(password) {
        return;
    }
    let swapped = report.client.user.as_deref() == Some(password);
    // From the wire first: our own sentences may hold it as a word of English.
    let client = &mut report.client;
    let names = [&mut client.user, &mut client.database, &mut client.application_name];
    let mut found = false;
    names.into_iter().flatten().for_each(|name| found |= hide(name, password));
    for (_, value) in report.server_error.iter_mut().flat_map(|error| &mut error.fields) {
        let mut text = String::from_utf8_lossy(value).into_owned();
        if hide(&mut text, password) {
            *value = text.into_bytes();
            found = true;
        }
    }
    if !found {
        return;
    }
    report.steps.iter_mut().for_each(|step| _ = hide(&mut step.note, password));
    for one in &mut report.differs {
        hide(&mut one.here, password);
        hide(&mut one.there, password);
    }
    let diagnosis = &mut report.diagnosis;
    diagnosis.notes.iter_mut().for_each(|note| _ = hide(note, password));
    diagnosis.warnings.iter_mut().for_each(|warning| _ = hide(&mut warning.summary, password));
    if let Some(finding) = &mut diagnosis.finding {
        hide(&mut finding.summary, password);
        finding.evidence.iter_mut().chain(&mut finding.fix).for_each(|text| _ = hide(text, password));
        let source = &expected.source;
        finding.evidence.push(match swapped {
            true => format!("the user's name is the password of {source}: the two are swapped"),
            false => format!("the password of {source} stands among the names of this login"),
        });
    }
}

fn hide(text: &mut String, password: &str) -> bool {
    let found = text.contains(password);
    if found {
        *text = text.replace(password, MASK);
    }
    found
}
