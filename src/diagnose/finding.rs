//! What a diagnosis says.

use std::borrow::Cow;

use crate::handshake::Step;

use super::causes::Cause;
use super::leg::Leg;

/// How sure a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// One of several that the bytes admit.
    Possible,
    /// The usual one; another can't be excluded.
    Likely,
    /// The bytes, or a context given, admit no other.
    Proven,
}

impl Confidence {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Proven => "proven",
        }
    }
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The login succeeded.
    Ok,
    /// It failed.
    Failed,
    /// It was a cancel request.
    Cancel,
    /// It was a health check or a port scan.
    Probe,
    /// It was encrypted from end to end: only its outside is known.
    Opaque,
}

impl Outcome {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Cancel => "cancel",
            Self::Probe => "probe",
            Self::Opaque => "opaque",
        }
    }
}

/// The cause of a failed login, with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The step whose message was refused, broken or missing.
    pub step: Step,
    /// Whose side the cause is on.
    pub leg: Leg,
    /// The cause.
    pub cause: Cause,
    /// Its variant.
    pub variant: Option<&'static str>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Other causes that the same evidence admits.
    pub alternatives: Vec<(Cause, Confidence)>,
    /// One sentence for this very login. Text from the wire in it is not escaped yet.
    pub summary: String,
    /// What it rests on. Never empty.
    pub evidence: Vec<String>,
    /// What to change.
    pub fix: Vec<String>,
    /// What to give pgwhy to be surer: the cheapest first.
    pub ask: Vec<Cow<'static, str>>,
}

impl Finding {
    /// A finding; without evidence there is none.
    pub fn new(step: Step, cause: Cause, confidence: Confidence, evidence: impl Into<String>) -> Self {
        Self {
            step,
            leg: cause.leg(),
            cause,
            variant: None,
            confidence,
            alternatives: Vec::new(),
            summary: uncapitalised(cause.title()),
            evidence: vec![evidence.into()],
            fix: own(cause.fixes()),
            ask: Vec::new(),
        }
    }

    /// Another cause for the same failure; what was known before stays as evidence.
    pub(super) fn replaced(self, cause: Cause, confidence: Confidence, evidence: String) -> Self {
        let mut after = Self::new(self.step, cause, confidence, evidence);
        after.evidence.extend(self.evidence);
        after
    }

    /// Whether a password was refused, for whatever reason.
    pub(super) fn is_refused_password(&self) -> bool {
        matches!(self.step, Step::Password | Step::Md5 | Step::ScramClientFinal)
            && matches!(
                self.cause,
                Cause::PasswordRejected
                    | Cause::PasswordMismatch
                    | Cause::PasswordDiffersOnServer
                    | Cause::RoleMissing
                    | Cause::RoleWithoutPassword
                    | Cause::PasswordExpired
                    | Cause::VerifierMethodConflict
            )
    }

    /// The evidence admits no other cause.
    pub fn proven(step: Step, cause: Cause, evidence: impl Into<String>) -> Self {
        Self::new(step, cause, Confidence::Proven, evidence)
    }

    /// The usual cause of this evidence.
    pub fn likely(step: Step, cause: Cause, evidence: impl Into<String>) -> Self {
        Self::new(step, cause, Confidence::Likely, evidence)
    }

    /// One of several causes of this evidence.
    pub fn possible(step: Step, cause: Cause, evidence: impl Into<String>) -> Self {
        Self::new(step, cause, Confidence::Possible, evidence)
    }

    /// Names the variant.
    pub fn variant(mut self, variant: &'static str) -> Self {
        debug_assert!(
            self.cause.variants().contains(&variant),
            "{} has no variant {variant}",
            self.cause.id()
        );
        self.variant = Some(variant);
        self
    }

    /// Puts the cause on another side than usual.
    pub fn on(mut self, leg: Leg) -> Self {
        self.leg = leg;
        self
    }

    /// Says it for this very login.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// Adds evidence.
    pub fn and(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// Adds evidence where there is some.
    pub fn and_maybe(mut self, evidence: Option<String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Names other causes that the evidence admits, all of them possible.
    pub fn or(mut self, causes: &[Cause]) -> Self {
        self.alternatives.extend(causes.iter().map(|cause| (*cause, Confidence::Possible)));
        self
    }

    /// Names a more fitting change than the usual ones.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = vec![fix.into()];
        self
    }

    /// Names what would tell more.
    pub fn ask(mut self, context: &[&'static str]) -> Self {
        self.ask.extend(context.iter().map(|context| Cow::Borrowed(*context)));
        self
    }
}

/// A title as the beginning of a line: names and abbreviations keep their capitals.
fn uncapitalised(title: &str) -> String {
    const WORDS: [&str; 8] = ["The", "A", "An", "No", "Nothing", "Only", "Something", "What"];
    match title.split_once(' ') {
        Some((first, rest)) if WORDS.contains(&first) => format!("{} {rest}", first.to_lowercase()),
        _ => title.into(),
    }
}

fn own(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| String::from(*line)).collect()
}

/// Something worth knowing about a login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its id.
    pub id: Cow<'static, str>,
    /// One sentence.
    pub summary: String,
}

/// The verdict on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, or why it is a probe.
    pub finding: Option<Finding>,
    /// What is worth knowing although it succeeded.
    pub warnings: Vec<Warning>,
    /// What was seen where there is no finding: the outside of an encrypted connection.
    pub notes: Vec<String>,
}

impl Diagnosis {
    pub(super) fn failed(finding: Finding) -> Self {
        Self { outcome: Outcome::Failed, finding: Some(finding), warnings: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn without_finding(outcome: Outcome) -> Self {
        Self { outcome, finding: None, warnings: Vec::new(), notes: Vec::new() }
    }
}
