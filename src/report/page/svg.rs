//! The ladder's picture as SVG: narrow enough for a phone, dressed by the page's own style.

use std::fmt::Write as _;

use super::super::escape::markup;
use super::arrows::{Arrow, Kind, Party, Picture, milliseconds};

const WIDTH: i32 = 380;
/// Where the first arrow is, and how far the next ones are from it.
const FIRST: i32 = 68;
const STEP: i32 = 40;
/// Half a lifeline's head.
const HEAD: i32 = 42;

/// The whole picture.
pub(super) fn svg(picture: &Picture, name: &str) -> String {
    let count = i32::try_from(picture.arrows.len()).unwrap_or_default();
    let bottom = FIRST + STEP * count.max(1) - 14;
    let height = bottom + 10;
    let mut out = String::with_capacity(4_096);
    let _ = write!(
        out,
        "<svg class=\"ladder\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        markup(name)
    );
    for party in [Party::Client, Party::Middle, Party::Server] {
        lifeline(&mut out, picture, party, bottom);
    }
    for (place, one) in (0..).zip(&picture.arrows) {
        arrow(&mut out, picture, one, FIRST + STEP * place);
    }
    out.push_str("</svg>");
    out
}

fn x(party: Party) -> i32 {
    match party {
        Party::Client => 46,
        Party::Middle => WIDTH / 2,
        Party::Server => WIDTH - 46,
    }
}

fn lifeline(out: &mut String, picture: &Picture, party: Party, bottom: i32) {
    let x = x(party);
    let (name, kind) = match party {
        Party::Client => ("client", "end"),
        Party::Middle if picture.carries => (picture.middle, "mid"),
        Party::Middle => (picture.middle, "eye"),
        Party::Server => ("server", "end"),
    };
    let blamed = if picture.blamed == Some(party) { " blamed" } else { "" };
    let _ = write!(
        out,
        "<g class=\"{kind}{blamed}\"><line class=\"life\" x1=\"{x}\" y1=\"34\" x2=\"{x}\" y2=\"{bottom}\"/>\
         <rect x=\"{}\" y=\"6\" width=\"{}\" height=\"28\" rx=\"6\"/>\
         <text x=\"{x}\" y=\"25\" text-anchor=\"middle\">{name}</text></g>",
        x - HEAD,
        2 * HEAD,
    );
}

fn arrow(out: &mut String, picture: &Picture, arrow: &Arrow, y: i32) {
    let (from, to) = (x(arrow.from), x(arrow.to));
    let ahead = if from <= to { 1 } else { -1 };
    let kind = match arrow.kind {
        Kind::Passed => "passed",
        Kind::Failed => "failed",
        Kind::Unused => "unused",
    };
    let middle = i32::midpoint(from, to);
    let _ = write!(out, "<g class=\"arrow {kind}\">");
    // What never arrived ends in a cross on its way.
    let _ = match arrow.kind {
        Kind::Unused => write!(out, "<path class=\"shaft\" d=\"M{} {y}H{}\"/>", from + 8, to - 8),
        _ => write!(out, "<path class=\"shaft\" d=\"M{} {y}H{}\"/>", from + ahead * 2, to - ahead * 3),
    };
    if arrow.kind != Kind::Unused {
        let passes = arrow.from != Party::Middle && arrow.to != Party::Middle;
        if passes {
            let kind = if picture.carries { "carried" } else { "seen" };
            let _ = write!(out, "<circle class=\"{kind}\" cx=\"{}\" cy=\"{y}\" r=\"3\"/>", x(Party::Middle));
        }
        head(out, to, ahead, y);
        if arrow.both {
            head(out, from, -ahead, y);
        }
    }
    if arrow.kind == Kind::Failed {
        let at = to - ahead * 22;
        let _ = write!(out, "<path class=\"cross\" d=\"M{} {}l10 10m0 -10l-10 10\"/>", at - 5, y - 5);
    }
    let _ =
        write!(out, "<text class=\"label\" x=\"{middle}\" y=\"{}\">{}</text>", y - 7, markup(&arrow.label));
    if let Some(took) = arrow.took {
        let _ =
            write!(out, "<text class=\"took\" x=\"{middle}\" y=\"{}\">{}</text>", y + 14, milliseconds(took));
    }
    out.push_str("</g>");
}

fn head(out: &mut String, x: i32, ahead: i32, y: i32) {
    let back = x - ahead * 9;
    let _ = write!(out, "<path class=\"head\" d=\"M{x} {y}L{back} {}V{}z\"/>", y - 5, y + 5);
}
