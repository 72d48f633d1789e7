//! The fast engine: pairs of sockets whose handshake is over, carried by a few threads.
//!
//! Each thread has its own epoll and one buffer. Both directions of a pair live on one thread, so a
//! message costs one wake, one `recv` and one `send`, and nothing is handed between threads. Events
//! are edge-triggered: after the two `epoll_ctl` calls that add a pair there are none, but for one
//! when a write first blocks. A pair with TLS is watched for room from the start, as no event would
//! tell of what TLS holds already. Where one `epoll_wait` brings several events, their short messages
//! are sent together ([`outbox`]).
//!
//! A pair is added from the thread that ran the handshake: it reserves a slot, leaves the pair in
//! the shard's inbox and tells the epoll, which wakes the engine only when bytes are there.
//!
//! ```text
//! recv ── short read ──> idle, until the next edge
//!   │ └── full buffer ─> recv again, at most ROUNDS times, then the others get their turn
//!   └─ send ── would block ──> the rest is kept; nothing is read until the peer is writable
//! ```

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::endpoint::Stream;
use super::guard::Guard;
use crate::handshake::Side;

mod bulk;
mod carried;
mod outbox;
mod pair;
mod source;
mod tls_pair;

use bulk::REST;
use carried::Carried;
use pair::{Pair, READABLE, Scratch, Turn};
use tls_pair::{TlsPair, WATCHED};

/// A set of relay threads.
///
/// Dropping it closes every pair and ends the threads.
#[derive(Debug)]
pub struct Engine {
    shards: Vec<Arc<Shard>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts `threads` relay threads (at least one).
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let mut engine = Self { shards: Vec::new(), threads: Vec::new() };
        for number in 0..threads.max(1) {
            let shard = Arc::new(Shard::new()?);
            let runner = Arc::clone(&shard);
            let name = format!("relay-{number}");
            engine
                .threads
                .push(std::thread::Builder::new().name(name).spawn(move || Runner::new(runner).run())?);
            engine.shards.push(shard);
        }
        Ok(engine)
    }

    /// Takes over a pair of legs, out of the runtime; `guard` is told when the pair ends.
    ///
    /// Callable from any thread. Fails only when the kernel refuses to hand them over; both sockets
    /// are closed then and the guard is dropped.
    pub(super) fn add(&self, client: Stream, server: Stream, guard: Box<dyn Guard>) -> std::io::Result<()> {
        self.carry(Carried::new(client)?, Carried::new(server)?, guard)
    }

    fn carry(&self, client: Carried, server: Carried, guard: Box<dyn Guard>) -> std::io::Result<()> {
        let shard = self.shards.iter().min_by_key(|shard| shard.load.load(Ordering::Relaxed));
        match shard {
            Some(shard) => shard.add(client, server, guard),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// How many pairs are carried now.
    pub fn pairs(&self) -> usize {
        self.shards.iter().map(|shard| shard.load.load(Ordering::Relaxed)).sum()
    }

    /// Closes every pair that is carried now.
    pub fn close_all(&self) {
        for shard in &self.shards {
            shard.ask(Request::CloseAll);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.ask(Request::Stop);
        }
        for thread in self.threads.drain(..) {
            // A panicked relay thread has already printed its message; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What the rest of the process asks of a relay thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Request {
    Nothing,
    CloseAll,
    Stop,
}

/// The part of a relay thread that other threads may touch.
#[derive(Debug)]
struct Shard {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// Rings when the next rest is over.
    alarm: OwnedFd,
    /// Pairs carried or about to be.
    load: AtomicUsize,
    inbox: Mutex<Inbox>,
}

/// Pairs on their way in, and the slots that are free for them.
#[derive(Debug)]
struct Inbox {
    arrivals: Vec<(usize, Carrier)>,
    free: Vec<usize>,
    next: usize,
    request: Request,
}

/// A pair of either kind.
#[derive(Debug)]
enum Carrier {
    Plain(Pair),
    Tls(Box<TlsPair>),
}

impl Carrier {
    fn note(&mut self, side: Side, flags: EventFlags) {
        match self {
            Self::Plain(pair) => pair.note(side, flags),
            Self::Tls(pair) => pair.note(side, flags),
        }
    }

    fn turn(&mut self, scratch: &mut Scratch) -> Turn {
        match self {
            Self::Plain(pair) => pair.turn(scratch),
            Self::Tls(pair) => pair.turn(scratch.buffer()),
        }
    }

    fn next_change(&mut self) -> Option<(Side, BorrowedFd<'_>, EventFlags)> {
        match self {
            Self::Plain(pair) => pair.next_change(),
            Self::Tls(pair) => pair.next_change(),
        }
    }

    fn rests(&self) -> bool {
        match self {
            Self::Plain(pair) => pair.rests(),
            Self::Tls(pair) => pair.rests(),
        }
    }

    fn wake(&mut self) {
        match self {
            Self::Plain(pair) => pair.wake(),
            Self::Tls(pair) => pair.wake(),
        }
    }

    fn end(self) {
        match self {
            Self::Plain(pair) => pair.end(),
            Self::Tls(pair) => pair.end(),
        }
    }
}

impl Shard {
    fn new() -> std::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        let alarm =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &alarm, EventData::new_u64(ALARM), EventFlags::IN | EventFlags::ET)?;
        let inbox = Inbox { arrivals: Vec::new(), free: Vec::new(), next: 0, request: Request::Nothing };
        Ok(Self { epoll, wake, alarm, load: AtomicUsize::new(0), inbox: Mutex::new(inbox) })
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // The inbox is a plain list: whatever a panicking thread left there is still in order.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shard::inbox`], by the engine's thread: the client's first words may wake it while the pair
    /// is still being added, which is over in a few microseconds. Sleeping costs more than that.
    fn inbox_soon(&self) -> MutexGuard<'_, Inbox> {
        for _ in 0..YIELDS {
            match self.inbox.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                _ => break,
            }
        }
        self.inbox()
    }

    fn add(&self, client: Carried, server: Carried, guard: Box<dyn Guard>) -> std::io::Result<()> {
        // The lock is held over both registrations, so the engine's first look at the inbox after
        // an event always finds the pair, whole.
        let mut inbox = self.inbox();
        let slot = inbox.free.pop().unwrap_or(inbox.next);
        let key = (slot as u64) << 1;
        let watch = |carrier: &Carrier| {
            let (client, server, flags) = match carrier {
                Carrier::Plain(pair) => {
                    let (client, server) = pair.sockets();
                    (client, server, READABLE)
                }
                Carrier::Tls(pair) => {
                    let (client, server) = pair.sockets();
                    (client, server, WATCHED)
                }
            };
            // The client last: it is the one that may have spoken already, and then the engine wakes and
            // wants the lock.
            epoll::add(&self.epoll, server, EventData::new_u64(key | 1), flags)
                .and_then(|()| epoll::add(&self.epoll, client, EventData::new_u64(key), flags))
        };
        let carrier = match (client, server) {
            (Carried::Plain(client), Carried::Plain(server)) => {
                Carrier::Plain(Pair::new(client, server, guard))
            }
            (client, server) => Carrier::Tls(Box::new(TlsPair::new(client, server, guard))),
        };
        let added = watch(&carrier);
        if slot == inbox.next {
            inbox.next += 1;
        }
        if let Err(errno) = added {
            inbox.free.push(slot);
            return Err(errno.into());
        }
        self.load.fetch_add(1, Ordering::Relaxed);
        inbox.arrivals.push((slot, carrier));
        Ok(())
    }

    fn ask(&self, request: Request) {
        let mut inbox = self.inbox();
        inbox.request = inbox.request.max(request);
        drop(inbox);
        // An eventfd write fails only when its counter is full, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The thread's own side: nobody else sees its pairs.
struct Runner {
    shard: Arc<Shard>,
    pairs: Vec<Option<Carrier>>,
    scratch: Scratch,
    /// Pairs that used up their turn and still have bytes to read.
    again: Vec<usize>,
    /// When pairs that rest are looked at again, the next one first.
    resting: VecDeque<(Instant, usize)>,
    /// The alarm is set, or about to be.
    alarmed: bool,
    /// There are several events, so that the outbox is worth its while.
    together: bool,
    /// Slots freed in this batch; given back at its end, so a late event of the batch can't meet a
    /// new pair.
    freed: Vec<usize>,
}

impl Runner {
    fn new(shard: Arc<Shard>) -> Self {
        Self {
            shard,
            pairs: Vec::new(),
            scratch: Scratch::new(),
            again: Vec::new(),
            resting: VecDeque::new(),
            alarmed: false,
            together: false,
            freed: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            let timeout = if self.again.is_empty() { None } else { Some(&no_wait) };
            match epoll::wait(&self.shard.epoll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Only a broken descriptor gets here, and then no pair can ever move again.
                Err(_) => return self.close_pairs(),
            }
            self.together = events.len() > 1;
            for event in &events {
                let key = event.data.u64();
                let flags = event.flags;
                match key {
                    WAKE if self.obey() => return,
                    WAKE => {}
                    ALARM => self.wake_rested(),
                    key => self.event((key >> 1) as usize, key & 1 == 0, flags),
                }
            }
            self.together = false;
            self.send();
            for slot in std::mem::take(&mut self.again) {
                self.turn(slot);
            }
            self.give_back();
        }
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        while let Some((at, slot)) = self.resting.front().copied()
            && at <= now
        {
            self.resting.pop_front();
            if let Some(Some(pair)) = self.pairs.get_mut(slot) {
                pair.wake();
                self.turn(slot);
            }
        }
        self.alarmed = !self.resting.is_empty();
        if let Some((at, _)) = self.resting.front() {
            self.set_alarm(at.saturating_duration_since(now));
        }
    }

    /// Has the kernel wake this thread; the timeout of `epoll_wait` counts whole milliseconds.
    fn set_alarm(&self, left: Duration) {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would be no alarm; rests are far below a second.
        let once = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos().max(1)) };
        let alarm = Itimerspec { it_interval: none, it_value: once };
        // It refuses only times that are none, and a descriptor that is no timer.
        let _ = timerfd_settime(&self.shard.alarm, TimerfdTimerFlags::empty(), &alarm);
    }

    fn event(&mut self, slot: usize, client: bool, flags: EventFlags) {
        if !matches!(self.pairs.get(slot), Some(Some(_))) {
            self.collect();
        }
        let Some(Some(pair)) = self.pairs.get_mut(slot) else { return };
        let side = if client { Side::Client } else { Side::Server };
        pair.note(side, flags);
        self.turn(slot);
    }

    fn turn(&mut self, slot: usize) {
        if self.scratch.outbox.holds(slot) {
            self.send();
        }
        let Some(Some(pair)) = self.pairs.get_mut(slot) else { return };
        self.scratch.outbox.open_for(self.together.then_some(slot));
        let turn = pair.turn(&mut self.scratch);
        while let Some((side, fd, flags)) = pair.next_change() {
            let key = EventData::new_u64((slot as u64) << 1 | u64::from(side == Side::Server));
            // An edge that came before this call is not lost: the kernel looks at the socket anew.
            // It refuses only a descriptor that is not registered, and ours are.
            let _ = epoll::modify(&self.shard.epoll, fd, key, flags);
        }
        if pair.rests() && !self.resting.iter().any(|(_, resting)| *resting == slot) {
            self.resting.push_back((Instant::now() + REST, slot));
            if !std::mem::replace(&mut self.alarmed, true) {
                self.set_alarm(REST);
            }
        }
        self.turned(slot, turn);
    }

    /// Has the outbox send what waits.
    fn send(&mut self) {
        let mut slots = Vec::new();
        // A pair may have said something both ways: it has all of it back before its turn.
        for returned in self.scratch.outbox.send() {
            if let Some(Some(Carrier::Plain(pair))) = self.pairs.get_mut(returned.slot) {
                pair.take_back(returned.from, returned.rest);
                slots.push(returned.slot);
            }
        }
        slots.dedup();
        for slot in slots {
            self.turn(slot);
        }
    }

    fn turned(&mut self, slot: usize, turn: Turn) {
        match turn {
            Turn::Idle => {}
            Turn::Again => {
                // It brings more than a message: who waits in the outbox need not wait for it.
                self.send();
                if !self.again.contains(&slot) {
                    self.again.push(slot);
                }
            }
            Turn::Ended => {
                if let Some(pair) = self.pairs.get_mut(slot).and_then(Option::take) {
                    if self.scratch.outbox.holds(slot) {
                        self.send();
                    }
                    self.shard.load.fetch_sub(1, Ordering::Relaxed);
                    pair.end();
                }
                self.freed.push(slot);
            }
        }
    }

    /// Moves what has arrived from the inbox into the slots.
    fn collect(&mut self) {
        let arrivals = std::mem::take(&mut self.shard.inbox_soon().arrivals);
        for (slot, pair) in arrivals {
            if self.pairs.len() <= slot {
                self.pairs.resize_with(slot + 1, || None);
            }
            self.pairs[slot] = Some(pair);
        }
    }

    fn give_back(&mut self) {
        if !self.freed.is_empty() {
            self.shard.inbox().free.append(&mut self.freed);
        }
    }

    /// Does what another thread asked for; true when the thread is to end.
    fn obey(&mut self) -> bool {
        // The eventfd is edge-triggered and its count has no meaning, so it is read for tidiness only.
        let _ = rustix::io::read(&self.shard.wake, &mut [0_u8; 8]);
        let request = std::mem::replace(&mut self.shard.inbox().request, Request::Nothing);
        if request != Request::Nothing {
            self.close_pairs();
        }
        request == Request::Stop
    }

    fn close_pairs(&mut self) {
        self.send();
        self.collect();
        for slot in 0..self.pairs.len() {
            if let Some(pair) = self.pairs[slot].take() {
                self.shard.load.fetch_sub(1, Ordering::Relaxed);
                pair.end();
                self.freed.push(slot);
            }
        }
    }
}

/// The event keys of the thread's own eventfd and timer; slots never get that far.
const WAKE: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

/// Events taken at once: enough to spread one `epoll_wait` over many busy pairs, and 12 bytes each.
const EVENTS: usize = 256;

/// Tries before the engine's thread sleeps over the inbox's lock.
const YIELDS: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use rustix::net::sockopt::set_socket_send_buffer_size;

    use super::*;
    use crate::handshake::Close;
    use crate::net::guard::Totals;

    struct Told(Sender<Totals>);

    impl Guard for Told {
        fn ended(self: Box<Self>, totals: Totals) {
            let _ = self.0.send(totals);
        }
    }

    #[test]
    fn slots_are_used_again_and_pairs_do_not_meet() {
        let engine = Engine::start(1).unwrap();
        let (told, ends) = channel();
        for number in 0..1_000_u32 {
            let (mut client, near) = UnixStream::pair().unwrap();
            let (far, mut server) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            far.set_nonblocking(true).unwrap();
            engine
                .carry(Carried::Plain(near.into()), Carried::Plain(far.into()), Box::new(Told(told.clone())))
                .unwrap();
            client.write_all(&number.to_be_bytes()).unwrap();
            let mut got = [0; 4];
            server.read_exact(&mut got).unwrap();
            assert_eq!(got, number.to_be_bytes());
            drop((client, server));
            assert_eq!(ends.recv().unwrap().client_bytes, 4);
        }
        // Freed slots come back at the end of a batch, so two are in turn at most.
        assert!(engine.shards[0].inbox().next <= 2, "slots leak");
        assert_eq!(engine.pairs(), 0);
    }

    #[test]
    fn a_bulk_comes_whole_and_its_end_without_another_event() {
        let engine = Engine::start(1).unwrap();
        let (told, _ends) = channel();
        // Only TCP's sources rest.
        let pair = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let near = listener.accept().unwrap().0;
            near.set_nonblocking(true).unwrap();
            (far, near)
        };
        let ((mut client, near), (mut server, far)) = (pair(), pair());
        engine.carry(Carried::Plain(near.into()), Carried::Plain(far.into()), Box::new(Told(told))).unwrap();
        let piece: Vec<u8> = (0..8_192_usize).map(|at| (at % 251) as u8).collect();
        for round in 0..3_usize {
            let pieces = 1_500 + round;
            let sent = piece.clone();
            let mut source = server.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                for _ in 0..pieces {
                    source.write_all(&sent).unwrap();
                }
                source.write_all(b"end").unwrap();
            });
            let mut got = vec![0; pieces * piece.len() + 3];
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.read_exact(&mut got).unwrap();
            writer.join().unwrap();
            assert!(got.chunks(piece.len()).take(pieces).all(|chunk| chunk == piece));
            assert!(got.ends_with(b"end"));
            // Bytes that come after a rest that brought nothing are an event again.
            std::thread::sleep(REST * 20);
            server.write_all(b"late").unwrap();
            client.read_exact(got.get_mut(..4).unwrap()).unwrap();
            client.write_all(b"next").unwrap();
            server.read_exact(got.get_mut(..4).unwrap()).unwrap();
        }
    }

    /// Keeps the relay thread where it is told of the pair's end, until the test lets it go.
    struct Barrier(Sender<()>, Receiver<()>);

    impl Guard for Barrier {
        fn ended(self: Box<Self>, _: Totals) {
            self.0.send(()).unwrap();
            let _ = self.1.recv();
        }
    }

    #[test]
    fn the_messages_of_one_batch_arrive_whole_and_before_what_follows_them() {
        let engine = Engine::start(1).unwrap();
        let carried = |guard: Box<dyn Guard>| {
            let ((client, near), (far, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
            near.set_nonblocking(true).unwrap();
            far.set_nonblocking(true).unwrap();
            set_socket_send_buffer_size(&far, 4_096).unwrap();
            engine.carry(Carried::Plain(near.into()), Carried::Plain(far.into()), guard).unwrap();
            (client, server)
        };
        let (told, ends) = channel();
        // More than one round of the outbox holds.
        let mut pairs: Vec<_> =
            (0..100).map(|_| (carried(Box::new(Told(told.clone()))), Vec::new())).collect();
        let piece: Vec<u8> = (0..1_000_usize).map(|at| (at % 251) as u8).collect();
        let last = 39;
        for round in 0..=last {
            // While the thread is held all of this comes together. Nobody reads, so some rounds later the
            // receivers' buffers are full, and what comes then has to wait for room.
            let ((held, holds), (release, released)) = (channel(), channel());
            drop(carried(Box::new(Barrier(held, released))));
            holds.recv().unwrap();
            for (number, ((client, _), sent)) in pairs.iter_mut().enumerate() {
                let message = &piece[..1 + (number * 37 + round * 101) % piece.len()];
                client.write_all(message).unwrap();
                sent.extend_from_slice(message);
                if number % 10 == 0 && round == last {
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                }
            }
            release.send(()).unwrap();
            // Nothing else happens after the first batch, and still all of it arrives.
            for ((_, server), sent) in pairs.iter_mut().filter(|_| round == 0) {
                server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut got = vec![0; sent.len()];
                server.read_exact(&mut got).unwrap();
                assert_eq!(got, *sent);
                sent.clear();
            }
        }
        let mut sizes = Vec::new();
        for (number, ((client, mut server), sent)) in pairs.into_iter().enumerate() {
            let mut got = vec![0; sent.len()];
            server.read_exact(&mut got).unwrap();
            assert!(got == sent, "pair {number}");
            if number % 10 == 0 {
                assert_eq!(server.read(&mut [0]).unwrap(), 0);
            }
            drop((client, server));
            // What was read in the first round counts too.
            sizes.push((sent.len() + 1 + (number * 37) % piece.len()) as u64);
        }
        let mut told: Vec<_> = ends.iter().take(sizes.len()).map(|totals| totals.client_bytes).collect();
        told.sort_unstable();
        sizes.sort_unstable();
        assert_eq!(told, sizes);
    }

    #[test]
    fn what_both_sides_of_a_pair_posted_comes_back_before_its_turn() {
        let ((mut client, near), (far, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (told, ends) = channel();
        let (mut to_client, to_server) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let shard = Arc::new(Shard::new().unwrap());
        shard.add(Carried::Plain(near.into()), Carried::Plain(far.into()), Box::new(Told(told))).unwrap();
        let mut runner = Runner::new(Arc::clone(&shard));
        runner.collect();
        // The client does not read, and the server is gone: neither message can be sent.
        while to_client.write(&[0]).is_ok() {}
        drop(server);
        runner.scratch.outbox.open_for(Some(0));
        if !runner.scratch.outbox.post(Side::Client, to_server.as_fd(), b"a word") {
            return; // There is no io_uring here.
        }
        assert!(runner.scratch.outbox.post(Side::Server, to_client.as_fd(), b"the last words"));
        runner.send();
        let mut got = vec![0; 14];
        client.set_nonblocking(true).unwrap();
        while client.read_exact(&mut got[..1]).is_ok() {}
        runner.event(0, true, EventFlags::OUT);
        client.set_nonblocking(false).unwrap();
        drop((to_client, to_server));
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, b"the last words");
        runner.event(0, false, EventFlags::IN | EventFlags::HUP);
        assert_eq!(ends.recv().unwrap().first, Some((Side::Server, Close::Reset)));
    }

    #[test]
    fn dropping_the_engine_tells_every_guard() {
        let engine = Engine::start(2).unwrap();
        let (told, ends) = channel();
        let mut far_ends = Vec::new();
        for _ in 0..10 {
            let (client, near) = UnixStream::pair().unwrap();
            let (far, server) = UnixStream::pair().unwrap();
            engine
                .carry(Carried::Plain(near.into()), Carried::Plain(far.into()), Box::new(Told(told.clone())))
                .unwrap();
            far_ends.push((client, server));
        }
        drop((engine, told));
        assert_eq!(ends.iter().filter(|totals| totals.first.is_none()).count(), 10);
    }
}
