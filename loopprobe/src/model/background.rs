//! A thread for a slow sink, behind a bounded queue that drops and counts, never waits.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{Event, Live, Sink};

/// A sink with a thread of its own, for one that may be slow: a network, a command. A bounded queue
/// lies between; what finds it full is dropped and counted, so that the session never waits. Only
/// its first and its last event and its last snapshot always have room. At the last one, what is
/// queued has [`Background::GRACE`] to get through; what has not by then is an error that tells how
/// much it is.
#[derive(Debug)]
pub struct Background {
    queue: Arc<Queue>,
    live_every: Option<Duration>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    room: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    dropped: u64,
    /// No more comes.
    closed: bool,
    /// The thread has ended.
    done: bool,
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum Item {
    Event(Box<Event>),
    Live(Box<Live>),
}

impl Background {
    /// How long a session's end waits for what is queued.
    pub const GRACE: Duration = Duration::from_secs(2);

    /// Starts a thread called `name` for `sink`, before which at most `room` events and snapshots
    /// wait.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(name: &str, sink: impl Sink + Send + 'static, room: usize) -> io::Result<Self> {
        let live_every = sink.live_every();
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            room: room.max(1),
        });
        let served = queue.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || served.serve(sink))?;
        Ok(Self { queue, live_every })
    }
}

impl Sink for Background {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let is_last = matches!(event, Event::Summary(_));
        let always = is_last || matches!(event, Event::Session(_));
        self.queue
            .push(always, || Item::Event(Box::new(event.clone())))?;
        if is_last {
            return self.queue.close();
        }
        Ok(())
    }

    fn live_every(&self) -> Option<Duration> {
        self.live_every
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.queue
            .push(live.is_last, || Item::Live(Box::new(live.clone())))
    }

    fn dropped(&self) -> u64 {
        self.queue.state().dropped
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Who cares for how it ends has sent the last event.
        let _ = self.queue.close();
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sink has failed with is told once; nothing is taken after that.
    fn push(&self, always: bool, item: impl FnOnce() -> Item) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.done || (!always && state.waiting.len() >= self.room) {
            state.dropped += 1;
            return Ok(());
        }
        state.waiting.push_back(item());
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until all is taken, though not for ever. The thread ends with what it has in its
    /// hands, or with the program.
    fn close(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.closed {
            return Ok(());
        }
        state.closed = true;
        self.changed.notify_all();
        state = self
            .changed
            .wait_timeout_while(state, Background::GRACE, |state| !state.done)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.done {
            return Ok(());
        }
        let left = state.waiting.len() + 1;
        state.dropped += left as u64;
        state.waiting.clear();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "the last {left} were not taken within {} s",
                Background::GRACE.as_secs()
            ),
        ))
    }

    fn serve(&self, mut sink: impl Sink) {
        while let Some(item) = self.next() {
            let given = match &item {
                Item::Event(event) => sink.event(event),
                Item::Live(live) => sink.live(live),
            };
            if let Err(error) = given {
                self.state().failed = Some(error);
                break;
            }
        }
        // What the sink does at its end belongs to it too.
        drop(sink);
        self.state().done = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Item> {
        let waiting = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self
            .changed
            .wait_while(self.state(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;
    use crate::model::Notice;

    /// Takes an event each time that it is let.
    struct Gated {
        let_through: mpsc::Receiver<()>,
        taken: mpsc::Sender<Event>,
        fails: bool,
    }

    impl Sink for Gated {
        fn event(&mut self, event: &Event) -> io::Result<()> {
            let _ = self.let_through.recv();
            if self.fails {
                return Err(io::Error::other("refused"));
            }
            let _ = self.taken.send(event.clone());
            Ok(())
        }
    }

    fn gated(fails: bool) -> (Gated, mpsc::Sender<()>, mpsc::Receiver<Event>) {
        let (gate, let_through) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        let sink = Gated {
            let_through,
            taken,
            fails,
        };
        (sink, gate, seen)
    }

    fn notice(time_ns: u64) -> Event {
        Event::Notice(Notice {
            time_ns,
            message: "something".into(),
            threshold_ns: None,
            step: None,
        })
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (sink, gate, seen) = gated(false);
        let mut background = Background::start("test", sink, 10).unwrap();
        let began = Instant::now();
        for time_ns in 0..1000 {
            background.event(&notice(time_ns)).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        // One may be in the sink's hands.
        assert!((989..=990).contains(&background.dropped()));
        drop(gate);
        drop(background);
        let times: Vec<_> = seen.into_iter().collect();
        assert!((10..=11).contains(&times.len()));
        assert_eq!(times[0], notice(0), "in order");
    }

    #[test]
    fn everything_queued_comes_through_at_the_end() {
        let (sink, gate, seen) = gated(false);
        let mut background = Background::start("test", sink, 100).unwrap();
        for time_ns in 0..100 {
            background.event(&notice(time_ns)).unwrap();
        }
        drop(gate);
        drop(background);
        assert_eq!(seen.into_iter().count(), 100);
    }

    #[test]
    fn a_failure_is_told() {
        let (sink, gate, _seen) = gated(true);
        let mut background = Background::start("test", sink, 100).unwrap();
        drop(gate);
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = loop {
            assert!(Instant::now() < deadline, "it was never told");
            if let Err(error) = background.event(&notice(1)) {
                break error;
            }
        };
        assert_eq!(error.to_string(), "refused");
    }

    #[test]
    fn a_sink_that_hangs_does_not_keep_the_end_for_ever() {
        let (sink, _gate, _seen) = gated(false);
        let mut background = Background::start("test", sink, 100).unwrap();
        background.event(&notice(1)).unwrap();
        let began = Instant::now();
        drop(background);
        assert!(began.elapsed() < 2 * Background::GRACE);
    }
}
