//! The administrator's connection (`--admin`): asks the server what it hides from clients.
//!
//! It is opened only when a failure needs it, on a thread of its own, and is read-only. Whoever asks
//! waits no longer than its deadline; a login's path never comes here. A server that is slow, dead
//! or lying costs that deadline and then a pause.

mod catalog;
mod link;
mod sql;
mod tls;

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use crate::conninfo::{Conninfo, Problem};
use crate::diagnose::admin::AdminFacts;
use crate::net::PeerAddr;

use link::{Link, Target};

/// How long an answer may take, unless the caller knows better.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// A connection that nobody needed for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// So many questions are asked at once when failures come in a burst, …
const BURST: u32 = 20;
/// … and then one in this time, so that a storm of failed logins is no storm of questions.
const PACE: Duration = Duration::from_millis(100);
/// While questions are being spared, facts of this age still serve the same user and database.
const KEPT: Duration = Duration::from_secs(1);
/// Users and databases whose facts are kept.
const KEPT_FACTS: usize = 64;
/// The pause after a problem; it doubles with every further one …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why there are no facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminProblem {
    /// The deadline passed.
    #[error("the --admin connection gave no answer within {0:?}")]
    Deadline(Duration),
    /// No address of it could be reached.
    #[error("the --admin server can't be reached: {0}")]
    Unreachable(String),
    /// The server refused the administrator's own login, or a query that everything needs.
    #[error("the --admin connection was refused: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Its SQLSTATE: 53300 says that even the administrator found no free connection.
        sqlstate: String,
        /// The server's words, not escaped.
        message: String,
    },
    /// TLS with the server did not come about; the login was not tried.
    #[error("the --admin connection has no TLS: {0}")]
    Tls(String),
    /// What answered broke the protocol, a limit of ours, or off.
    #[error("the --admin connection broke: {0}")]
    Broken(String),
    /// It leads to an address on which we listen ourselves.
    #[error("--admin leads to pgwhy itself ({0}): give the server's own address")]
    Ourselves(String),
    /// Too many failures at once: this one was not asked about.
    #[error("too many failed logins at once: the --admin connection was spared")]
    Spared,
}

/// Why a connection string can't be used for `--admin`; never quotes a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUsable(String);

/// The administrator's connection. Its `Debug` shows no password.
pub struct Admin {
    target: Arc<Target>,
    questions: mpsc::Sender<Question>,
    memory: Mutex<Memory>,
}

/// What one failure asks.
struct Question {
    user: String,
    database: String,
    asked: Instant,
    deadline: Duration,
    reply: SyncSender<Reply>,
}

type Reply = Result<Arc<AdminFacts>, AdminProblem>;

/// What earlier answers allow now.
#[derive(Debug)]
struct Memory {
    facts: VecDeque<Kept>,
    problem: Option<Trouble>,
    /// When the questions asked so far will be paid for, one every [`PACE`].
    paid: Instant,
}

#[derive(Debug)]
struct Kept {
    user: String,
    database: String,
    at: Instant,
    facts: Arc<AdminFacts>,
}

#[derive(Debug)]
struct Trouble {
    problem: AdminProblem,
    until: Instant,
    pause: Duration,
}

impl Admin {
    /// Reads the connection string (any that `--upstream` takes; the `PG*` environment and the
    /// password file fill what is missing, as for libpq; without a database it is `postgres`) and
    /// starts the thread. Nothing is connected yet.
    ///
    /// # Errors
    /// When it is no connection string, names files that can't be used, or wants what there is not (GSSAPI).
    pub fn new(text: &str) -> Result<Self, NotUsable> {
        let environment = |name: &str| std::env::var(name).ok();
        let conninfo = Conninfo::parse(text, &environment).map_err(|error| NotUsable(error.to_string()))?;
        let target = Arc::new(Target::new(conninfo, &environment)?);
        // One question at a time: the desk is one thread, and one that nobody waits for is skipped.
        let (questions, asked) = mpsc::channel(1);
        let theirs = Arc::clone(&target);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| NotUsable(format!("no runtime: {error}")))?;
        let work = move || {
            runtime.block_on(work(&theirs, asked));
            // A look-up of a name may hang in the resolver.
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(work)
            .map_err(|error| NotUsable(format!("no thread: {error}")))?;
        Ok(Self { target, questions, memory: Mutex::new(Memory::new()) })
    }

    /// What is wrong with the way the connection string is written.
    pub fn problems(&self) -> &[Problem] {
        &self.target.conninfo.problems
    }

    /// Tells where we listen: the connection never goes there. Returns a warning when the string
    /// names such an address (a name is looked up, and refused, only when it is dialled).
    pub fn never_through(&self, own: &[PeerAddr]) -> Option<String> {
        let named = self.target.literal_addresses().into_iter().find(|addr| link::is_ours(own, addr));
        *self.target.own.lock().unwrap_or_else(PoisonError::into_inner) = own.to_vec();
        named.map(|addr| AdminProblem::Ourselves(addr.to_string()).to_string())
    }

    /// What the server knows about a login of `user` to `database` (empty: of the user's name).
    /// Blocks, no longer than `deadline`; while a pause after a problem lasts, not at all.
    ///
    /// Facts may be up to a second older than the call when failures come in a storm:
    /// [`AdminFacts::gathered`] says when they were true.
    ///
    /// # Errors
    /// When there is no answer at all; what only a part of it lacks is in [`AdminFacts::unseen`].
    pub fn ask(&self, user: &str, database: &str, deadline: Duration) -> Reply {
        let database = if database.is_empty() { user } else { database };
        let asked = Instant::now();
        if let Some(answer) = self.memory().at_once(user, database, asked) {
            return answer;
        }
        let (reply, replied) = sync_channel(1);
        let (user, database) = (user.to_owned(), database.to_owned());
        let question = Question { user: user.clone(), database: database.clone(), asked, deadline, reply };
        let answer = match self.questions.try_send(question) {
            Ok(()) => replied.recv_timeout(deadline.saturating_sub(asked.elapsed())),
            // The thread still has the last one: it is busy beyond its deadline.
            Err(mpsc::error::TrySendError::Full(_)) => Err(RecvTimeoutError::Timeout),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(RecvTimeoutError::Disconnected),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(AdminProblem::Deadline(deadline)),
            Err(RecvTimeoutError::Disconnected) => Err(AdminProblem::Broken("its thread has ended".into())),
        };
        if let Err(problem) = &answer {
            tracing::warn!(%problem, "the administrator's connection gave no facts");
        }
        self.memory().remember(user, database, Instant::now(), &answer);
        answer
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("conninfo", &self.target.conninfo).finish_non_exhaustive()
    }
}

impl Memory {
    fn new() -> Self {
        Self { facts: VecDeque::new(), problem: None, paid: Instant::now() }
    }

    /// The answer without asking, where there is to be no asking.
    fn at_once(&mut self, user: &str, database: &str, now: Instant) -> Option<Reply> {
        if let Some(trouble) = self.problem.as_ref().filter(|trouble| now < trouble.until) {
            return Some(Err(trouble.problem.clone()));
        }
        let paid = self.paid.max(now);
        if paid < now + PACE * BURST {
            self.paid = paid + PACE;
            return None;
        }
        self.facts.retain(|kept| now.saturating_duration_since(kept.at) < KEPT);
        let kept = self.facts.iter().rfind(|kept| kept.user == user && kept.database == database);
        Some(kept.map_or(Err(AdminProblem::Spared), |kept| Ok(Arc::clone(&kept.facts))))
    }

    fn remember(&mut self, user: String, database: String, at: Instant, answer: &Reply) {
        match answer {
            Ok(facts) => {
                self.problem = None;
                self.facts.retain(|kept| (&kept.user, &kept.database) != (&user, &database));
                if self.facts.len() == KEPT_FACTS {
                    self.facts.pop_front();
                }
                self.facts.push_back(Kept { user, database, at, facts: Arc::clone(facts) });
            }
            Err(problem) => {
                let last = self.problem.take();
                let pause = last.map_or(FIRST_PAUSE, |last| (last.pause * 2).min(LONGEST_PAUSE));
                self.problem = Some(Trouble { problem: problem.clone(), until: at + pause, pause });
            }
        }
    }
}

/// The thread's life: answers until nobody can ask any more.
async fn work(target: &Target, mut questions: mpsc::Receiver<Question>) {
    let mut link: Option<Link> = None;
    loop {
        let question = match link.take() {
            None => questions.recv().await,
            Some(open) => match tokio::time::timeout(IDLE, questions.recv()).await {
                Ok(question) => {
                    link = Some(open);
                    question
                }
                Err(_) => {
                    open.close().await;
                    continue;
                }
            },
        };
        let Some(question) = question else { break };
        let left = question.deadline.saturating_sub(question.asked.elapsed());
        if left.is_zero() {
            continue;
        }
        let answer = tokio::time::timeout(left, answer(target, &mut link, &question, left)).await;
        let answer = answer.unwrap_or(Err(AdminProblem::Deadline(question.deadline)));
        if answer.is_err() {
            link = None;
        }
        // Whoever asked may have stopped waiting.
        let _ = question.reply.try_send(answer.map(Arc::new));
    }
    if let Some(link) = link {
        link.close().await;
    }
}

async fn answer(
    target: &Target,
    link: &mut Option<Link>,
    question: &Question,
    left: Duration,
) -> Result<AdminFacts, AdminProblem> {
    if let Some(open) = link.take().filter(|open| !open.is_closed()) {
        let answer = catalog::gather(&open, &question.user, &question.database, now_ms(), left).await;
        // The server may have ended the connection while nobody needed it, with or without a word
        // (57P01): whatever went wrong on an old connection is worth one try on a new one.
        if answer.is_ok() {
            *link = Some(open);
            return answer;
        }
    }
    let open = Link::open(target).await?;
    let answer = catalog::gather(&open, &question.user, &question.database, now_ms(), left).await;
    *link = Some(open);
    answer
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_spared_and_a_problem_makes_a_pause_that_grows() {
        let mut memory = Memory::new();
        let now = Instant::now();
        let asked = (0..100).filter(|_| memory.at_once("u", "d", now).is_none()).count();
        assert_eq!(asked, 20);
        assert!(matches!(memory.at_once("u", "d", now), Some(Err(AdminProblem::Spared))));
        let later = now + Duration::from_secs(3);
        assert!(memory.at_once("u", "d", later).is_none());
        let problem = Err(AdminProblem::Deadline(DEADLINE));
        memory.remember("u".into(), "d".into(), later, &problem);
        assert!(memory.at_once("u", "d", later + Duration::from_millis(900)).is_some());
        assert!(memory.at_once("u", "d", later + Duration::from_millis(1100)).is_none());
        memory.remember("u".into(), "d".into(), later, &problem);
        assert!(memory.at_once("v", "d", later + Duration::from_millis(1900)).is_some());
    }

    #[test]
    fn what_it_cannot_do_is_said_before_it_starts() {
        for (text, said) in [
            ("postgres://a:hunter2@h/d?sslmode=verify-full&sslrootcert=/none/root.crt", "/none/root.crt"),
            (
                "postgres://a:hunter2@h/d?sslmode=require&sslcert=/none/a.crt&sslkey=/none/a.key",
                "/none/a.key",
            ),
            ("postgres://a:hunter2@h/d?sslmode=require&sslcrl=/none/a.crl", "/none/a.crl"),
            ("postgres://a:hunter2@h/d?sslmode=prefer&sslnegotiation=direct", "sslmode=require"),
            ("postgres://a:hunter2@h/d?sslnegotiation=yes", "sslnegotiation"),
            ("postgres://a:hunter2@h/d?sslmode=require&sslrootcert=system", "sslmode=verify-full"),
            ("postgres://a:hunter2@h/d?channel_binding=yes", "channel_binding"),
            ("postgres://a:hunter2@h/d?gssencmode=require", "gssencmode"),
            ("mysql://a:hunter2@h/d", "PostgreSQL"),
        ] {
            let error = Admin::new(text).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn it_does_not_go_through_the_proxy_itself() {
        let admin = Admin::new("postgres://a:hunter2@127.0.0.1:7432/d").unwrap();
        let own = |text: &str| [PeerAddr::Tcp(text.parse().unwrap())];
        assert_eq!(admin.never_through(&own("127.0.0.1:5432")), None);
        for addr in ["127.0.0.1:7432", "0.0.0.0:7432"] {
            assert!(admin.never_through(&own(addr)).is_some_and(|text| text.contains("7432")), "{addr}");
        }
        let problem = admin.ask("a", "d", DEADLINE).unwrap_err();
        assert_eq!(problem, AdminProblem::Ourselves("127.0.0.1:7432".into()));
        assert!(!format!("{admin:?}").contains("hunter2"));
    }
}
