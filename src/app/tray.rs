//! The desk's tray: what waits to be reported, and when the desk is woken for it.
//!
//! A channel wakes its receiver for every message, which costs a login more than its diagnosis does.
//! A login that works is in no hurry: while many come, the desk naps between looks, and only what is
//! urgent ends a nap. The first after a pause is taken at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue of bounded length from many threads to one.
#[derive(Debug)]
pub(super) struct Tray<T> {
    inner: Mutex<Inner<T>>,
    came: Condvar,
    capacity: usize,
    nap: Duration,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<(T, Haste)>,
    urgent: usize,
    sleep: Sleep,
    /// Something was taken since the last sleep.
    busy: bool,
}

/// How soon something must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Somebody waits for it.
    Urgent,
    /// A moment later will do.
    Calm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    /// Until a moment is over, or something is urgent.
    Nap,
    /// Until something comes.
    Deep,
}

impl<T> Tray<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let inner = Inner { waiting: VecDeque::new(), urgent: 0, sleep: Sleep::Awake, busy: false };
        Self { inner: Mutex::new(inner), came: Condvar::new(), capacity, nap: NAP }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        // The queue is whole whatever happened to a thread that held it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something, without waiting; a full tray gives it back.
    pub(super) fn put(&self, what: T, haste: Haste) -> Result<(), T> {
        let mut inner = self.inner();
        if inner.waiting.len() >= self.capacity {
            return Err(what);
        }
        inner.waiting.push_back((what, haste));
        inner.urgent += usize::from(haste == Haste::Urgent);
        let wakes = match inner.sleep {
            Sleep::Awake => false,
            Sleep::Nap => haste == Haste::Urgent,
            Sleep::Deep => true,
        };
        if wakes {
            inner.sleep = Sleep::Awake;
        }
        // Not under the lock, which who is woken wants first.
        drop(inner);
        if wakes {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Takes the next, and says how many urgent ones wait behind it.
    pub(super) fn take(&self) -> (T, usize) {
        let mut inner = self.inner();
        loop {
            if let Some((what, haste)) = inner.waiting.pop_front() {
                inner.urgent -= usize::from(haste == Haste::Urgent);
                inner.busy = true;
                return (what, inner.urgent);
            }
            inner = if inner.busy {
                inner.busy = false;
                inner.sleep = Sleep::Nap;
                let rested = self.came.wait_timeout_while(inner, self.nap, |inner| inner.sleep == Sleep::Nap);
                rested.unwrap_or_else(PoisonError::into_inner).0
            } else {
                inner.sleep = Sleep::Deep;
                let rested = self.came.wait_while(inner, |inner| inner.sleep == Sleep::Deep);
                rested.unwrap_or_else(PoisonError::into_inner)
            };
            inner.sleep = Sleep::Awake;
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.inner().waiting.len()
    }
}

/// What a report of a login that worked may be late: nobody sees it.
const NAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn everything_comes_in_order_and_a_full_tray_gives_it_back() {
        let tray = Tray::new(3);
        for (what, haste) in [(1, Haste::Calm), (2, Haste::Urgent), (3, Haste::Urgent)] {
            tray.put(what, haste).unwrap();
        }
        assert_eq!(tray.put(4, Haste::Urgent), Err(4));
        assert_eq!([tray.take(), tray.take(), tray.take()], [(1, 2), (2, 1), (3, 0)]);
        assert_eq!(tray.len(), 0);
    }

    #[test]
    fn a_sleeper_is_woken_by_the_first_and_napping_only_by_what_is_urgent() {
        // Long enough to be found napping on a busy machine.
        let nap = Duration::from_secs(2);
        let tray = Arc::new(Tray { nap, ..Tray::new(10) });
        let taker = Arc::clone(&tray);
        let (told, seen) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                let (what, _) = taker.take();
                told.send((what, Instant::now())).unwrap();
            }
        });
        let sleeps = |how| while tray.inner().sleep != how {};
        sleeps(Sleep::Deep);
        tray.put("first", Haste::Calm).unwrap();
        assert_eq!(seen.recv().unwrap().0, "first");
        sleeps(Sleep::Nap);
        let napping = Instant::now();
        tray.put("calm", Haste::Calm).unwrap();
        assert_eq!(tray.inner().sleep, Sleep::Nap);
        let (what, at) = seen.recv().unwrap();
        assert_eq!(what, "calm");
        assert!(at - napping < nap + Duration::from_secs(20));
        tray.put("urgent", Haste::Urgent).unwrap();
        assert_eq!(seen.recv().unwrap().0, "urgent");
        thread.join().unwrap();
    }
}
