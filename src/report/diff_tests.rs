//! Two made-up logins.

use std::time::Duration;

use super::*;
use crate::diagnose::{Context, diagnose};
use crate::handshake::{Chunk, Observer, Side};
use crate::report::{Report, Way};

fn login(database: &str, answer: &[u8]) -> (Report, Record) {
    let mut observer = Observer::new();
    let body = [b"\0\x03\0\0user\0app\0database\0", database.as_bytes(), b"\0\0"].concat();
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    let startup = [&length[..], &body].concat();
    for (from, bytes) in [(Side::Client, startup.as_slice()), (Side::Server, answer)] {
        observer.eat(Chunk { at: Duration::from_millis(1), from, bytes });
    }
    let record = observer.finish();
    let diagnosis = diagnose(&record, &Context::default());
    let mut report = Report::new(&record, diagnosis, &Way::default(), false);
    report.client.address = "10.0.0.1:5".into();
    report.server.address = Some("10.0.0.2:5432".into());
    (report, record)
}

const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const NO_DATABASE: &[u8] = b"R\0\0\0\x08\0\0\0\0E\0\0\0\x1aSFATAL\0C3D000\0Mno\x1b\0\0";
const WRONG: &[u8] = b"R\0\0\0\x08\0\0\0\x03E\0\0\0\x19SFATAL\0C28P01\0Mno\0\0";

fn compared(one: &(Report, Record), other: &(Report, Record)) -> Comparison {
    let side = |name, login: &'static (Report, Record)| Login { name, report: &login.0, record: &login.1 };
    let leak = |login: &(Report, Record)| &*Box::leak(Box::new(login.clone()));
    Comparison::new(side("a", leak(one)), side("b", leak(other)))
}

#[test]
fn the_difference_that_matters_is_named() {
    let rows = [
        ("another database", login("right", READY), login("wrong", NO_DATABASE), Some("startup.database")),
        (
            "the order of both does not matter",
            login("x", NO_DATABASE),
            login("y", READY),
            Some("startup.database"),
        ),
        ("only the outcome", login("same", READY), login("same", NO_DATABASE), None),
        ("nothing", login("same", READY), login("same", READY), None),
    ];
    for (claim, one, other, first) in rows {
        let found = compared(&one, &other);
        assert_eq!(found.first().map(|row| row.field.as_str()), first, "{claim}");
        if first.is_some() {
            let named = found.explains.as_ref().and_then(|found| found.field.as_deref());
            assert_eq!(named, first, "{claim}");
        }
        let json: Value = serde_json::from_str(&found.json()).unwrap();
        assert_eq!((&json["event"], &json["first"]), (&json!("diff"), &json!(first)), "{claim}");
        assert!(!found.human(false, 92).contains('\u{1b}'), "{claim}");
    }
}

#[test]
fn where_all_is_the_same_up_to_the_password_it_is_the_password() {
    let mut observer = login("d", WRONG).1;
    observer.step = Some(Step::Password);
    let diagnosis = diagnose(&observer, &Context::default());
    let mut report = Report::new(&observer, diagnosis, &Way::default(), false);
    let works = login("d", b"R\0\0\0\x08\0\0\0\x03R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    report.client.address.clone_from(&works.0.client.address);
    report.server.address.clone_from(&works.0.server.address);
    let found = compared(&works, &(report, observer));
    assert_eq!(found.first(), None);
    let text = found.explains.map(|found| (found.field, found.text));
    assert!(
        text.as_ref().is_some_and(|(field, text)| field.is_none() && text.contains("another secret")),
        "{text:?}"
    );
}
