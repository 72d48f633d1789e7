//! Does this candidate password explain that exchange?
//!
//! The wire of one login holds what it takes to test any candidate offline: the conversation and
//! the proof (SCRAM), salt and response (MD5), or the password itself (cleartext). [`judge`]
//! tests the password that should have been used and a small fixed list of known mistakes in it,
//! never a guessing run. Nothing here does I/O, and nothing that comes out holds the password.

pub mod bridge;
mod candidates;
pub mod mock;
mod mutate;
mod probe;
pub mod saslprep;
pub mod scram;
pub mod token;
mod variant;

#[cfg(test)]
mod tests;

use std::fmt;

pub use variant::Variant;

use crate::secret::Secret;
use candidates::{Candidate, Candidates, What};
use probe::{Probe, Target};

/// The password that should have been used, and what else is known about where it came from.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The user it belongs to, where that is known.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Secret<String>,
    /// The password as written in a URL, before percent-decoding.
    pub raw: Option<Secret<String>>,
    /// Where it came from, as people know it: `DATABASE_URL`, `--password-file`. Shown to people.
    pub source: String,
    /// Other values of the same environment, by name.
    pub other_variables: Vec<(String, Secret<String>)>,
    /// Passwords that worked earlier in this run, oldest first.
    pub previous: Vec<Secret<String>>,
}

impl Expected {
    /// Whether the password holds the name of another variable where that one's value may have been meant.
    fn names_variable(&self) -> bool {
        let password = self.password.expose();
        self.other_variables.iter().any(|(name, _)| {
            let forms = [format!("${name}"), format!("${{{name}"), format!("%{name}%")];
            forms.iter().any(|form| password.contains(form))
        })
    }
}

/// What a client sent in answer to a password request. Its `Debug` shows no secret.
#[derive(Clone, Copy)]
pub enum Exchange<'a> {
    /// AuthenticationCleartextPassword.
    Cleartext {
        /// The password as sent, without its terminating NUL.
        sent: &'a [u8],
    },
    /// AuthenticationMD5Password.
    Md5 {
        /// The user name that the client hashed (the startup packet's).
        user: &'a [u8],
        /// The salt of the request.
        salt: [u8; 4],
        /// `md5` and 32 hexadecimal digits, as sent.
        response: &'a [u8],
    },
    /// AuthenticationSASL with SCRAM-SHA-256 or SCRAM-SHA-256-PLUS.
    Scram {
        /// client-first-message-bare (RFC 5802 section 7).
        client_first_bare: &'a [u8],
        /// server-first-message.
        server_first: &'a [u8],
        /// client-final-message-without-proof.
        client_final_without_proof: &'a [u8],
        /// The proof, decoded: 32 bytes.
        proof: &'a [u8],
        /// The salt, decoded.
        salt: &'a [u8],
        /// The iteration count.
        iterations: u32,
    },
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleartext { .. } => f.write_str("Cleartext(…)"),
            Self::Md5 { .. } => f.write_str("Md5(…)"),
            Self::Scram { iterations, .. } => write!(f, "Scram(… {iterations} iterations)"),
        }
    }
}

/// What the exchange fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The expected password, as a correct client would use it.
    Expected,
    /// The expected password after this mistake; the text says which form of it, without the password.
    Variant(Variant, String),
    /// The empty string.
    Empty,
    /// None of the candidates that were tested (see [`Judgement::untested`]).
    Nothing,
    /// Nothing could be tested.
    NotTested(Reason),
}

/// Why nothing could be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The iteration count is 0 or beyond what PostgreSQL can store (a C int).
    Iterations,
    /// The SCRAM proof is not 32 bytes.
    Proof,
    /// The MD5 response is not `md5` and 32 hexadecimal digits.
    Md5Response,
    /// Not even one candidate is within the budget at this iteration count.
    Budget,
}

/// The outcome of [`judge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the exchange fits.
    pub fit: Fit,
    /// Whether an expected password was at hand. Without one, [`Fit::Nothing`] says only that the
    /// client sent none of the literals that need no password.
    pub against_expected: bool,
    /// Candidates that were tested.
    pub tried: usize,
    /// Candidates that the budget left untested; never the expected password itself.
    pub untested: usize,
    /// Other variants that yield the very same bytes: with any, `fit` is not the only explanation.
    pub alternatives: Vec<Variant>,
    /// A sentence for people that never contains the password.
    pub explanation: String,
}

impl Judgement {
    /// Whether it says more than that the server refused.
    pub fn tells(&self) -> bool {
        match self.fit {
            Fit::Empty | Fit::Expected => true,
            Fit::Variant(variant, _) => self.against_expected || variant.is_literal(),
            Fit::Nothing => self.against_expected,
            Fit::NotTested(_) => false,
        }
    }
}

/// How much hashing one judgement may cost: a login can name any iteration count it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// PBKDF2 rounds over all candidates together.
    pub max_hash_rounds: u64,
}

impl Default for Budget {
    /// 400 candidates at PostgreSQL's default of 4096 iterations: below a second on one core, and
    /// more than the list ever holds for a password of ordinary length.
    fn default() -> Self {
        Self { max_hash_rounds: 400 * 4096 }
    }
}

/// Tests the expected password, and what is known to become of one, against an exchange.
///
/// Without `expected` only candidates that need no context are tested: the empty string, the user
/// name, the literals, unexpanded variables.
pub fn judge(
    expected: Option<&Expected>,
    startup_user: &[u8],
    exchange: &Exchange<'_>,
    budget: Budget,
) -> Judgement {
    let probe = match Probe::new(exchange, startup_user) {
        Ok(probe) => probe,
        Err(reason) => return not_tested(expected, reason),
    };
    let all = Candidates::build(expected, startup_user, probe.prepares(), probe.prefixes());
    let affordable = probe.affordable(budget);
    if affordable == 0 {
        return not_tested(expected, Reason::Budget);
    }
    let count = all.list.len();
    for (at, candidate) in all.list.iter().take(affordable).enumerate() {
        if let Some(target) = probe.fits(candidate.bytes.expose()) {
            return fitting(expected, candidate, &probe, &target, at + 1);
        }
    }
    let tried = count.min(affordable);
    if let Some(found) = expected.and_then(|e| beyond_the_list(e, &probe, affordable - tried, tried)) {
        return found;
    }
    nothing(expected, &probe, tried, count - tried)
}

/// Candidates that are not a list of bytes: a process id in a cleartext password, and the stored
/// SCRAM secret, which itself costs a PBKDF2.
fn beyond_the_list(
    expected: &Expected,
    probe: &Probe<'_>,
    affordable: usize,
    tried: usize,
) -> Option<Judgement> {
    let password = expected.password.expose();
    let (variant, detail) = match probe {
        Probe::Cleartext { sent } if candidates::process_id_fits(password, sent) => {
            (Variant::DollarExpanded, "$$ in it replaced by a process id")
        }
        Probe::Scram { salt, iterations, .. } if affordable >= 2 && !password.is_empty() => {
            let stored = scram::ScramSecret::build(password.as_bytes(), salt, *iterations).to_text();
            probe.fits(stored.expose().as_bytes())?;
            (Variant::HashedValue, "the SCRAM secret that the server stores")
        }
        _ => return None,
    };
    let candidate = Candidate {
        what: What::Variant(variant),
        bytes: Secret::default(),
        shape: "…".to_owned(),
        detail: detail.to_owned(),
        also: Vec::new(),
    };
    Some(fitting(Some(expected), &candidate, probe, &Target::Startup, tried + 1))
}

fn not_tested(expected: Option<&Expected>, reason: Reason) -> Judgement {
    let why = match reason {
        Reason::Iterations => "the server asked for an impossible number of iterations",
        Reason::Proof => "the client's proof is not 32 bytes long",
        Reason::Md5Response => "the client's answer is not an MD5 response",
        Reason::Budget => "the server asks for more iterations than one test may cost",
    };
    Judgement {
        fit: Fit::NotTested(reason),
        against_expected: expected.is_some(),
        tried: 0,
        untested: 0,
        alternatives: Vec::new(),
        explanation: format!("no password was tested: {why}"),
    }
}

fn fitting(
    expected: Option<&Expected>,
    candidate: &Candidate,
    probe: &Probe<'_>,
    target: &Target,
    tried: usize,
) -> Judgement {
    let sent = probe.noun();
    let source = expected.map(source_of);
    let (fit, mut explanation) = match candidate.what {
        What::Expected => (
            Fit::Expected,
            format!("{sent} fits {}", source.unwrap_or_else(|| "the expected password".to_owned())),
        ),
        What::Empty => {
            let but = match (expected, source) {
                (Some(e), Some(source)) if e.password.expose().is_empty() => {
                    format!("; {source} is empty itself")
                }
                (_, Some(source)) => format!(" and does not fit {source}"),
                _ => String::new(),
            };
            (Fit::Empty, format!("{sent} fits the empty string{but}"))
        }
        What::Variant(variant) => {
            let but = if expected.is_some_and(|e| !e.password.expose().is_empty()) {
                " and does not fit the password itself"
            } else {
                ""
            };
            let fit = Fit::Variant(variant, candidate.detail.clone());
            (fit, format!("{sent} fits «{}» ({}){but}", candidate.shape, candidate.detail))
        }
    };
    if let Some(note) = target.note() {
        explanation.push_str("; ");
        explanation.push_str(note);
    }
    let mut alternatives = candidate.also.clone();
    if candidate.what == What::Expected && expected.is_some_and(Expected::names_variable) {
        alternatives.push(Variant::VariableUnexpanded);
    }
    Judgement { fit, against_expected: expected.is_some(), tried, untested: 0, alternatives, explanation }
}

fn nothing(expected: Option<&Expected>, probe: &Probe<'_>, tried: usize, untested: usize) -> Judgement {
    let sent = probe.noun();
    let mut explanation = match expected {
        Some(e) if tried == 1 => format!("{sent} does not fit {}", source_of(e)),
        Some(e) => {
            format!(
                "{sent} fits neither {} nor any of {} known mistakes in it",
                source_of(e),
                tried.saturating_sub(1)
            )
        }
        None => format!(
            "{sent} fits none of {tried} passwords that need no context; no expected password was given"
        ),
    };
    if untested > 0 {
        explanation.push_str(&format!(
            "; {untested} more were not tested, the server's iteration count makes each test expensive"
        ));
    }
    let against_expected = expected.is_some();
    Judgement { fit: Fit::Nothing, against_expected, tried, untested, alternatives: Vec::new(), explanation }
}

fn source_of(expected: &Expected) -> String {
    match expected.source.as_str() {
        "" => "the expected password".to_owned(),
        source => format!("the password of {source}"),
    }
}
