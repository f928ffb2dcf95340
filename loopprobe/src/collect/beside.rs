//! A session beside another one of the same process, in a thread of its own.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{ObserveError, Stop, poll_key::PollKey};
use crate::model::{Event, LongPoll, Notice, Session, Sink, Step, Summary};

/// A session that goes on beside another one.
pub(super) struct Beside {
    stop: Stop,
    told: Receiver<Told>,
    /// Until it has been joined.
    thread: Option<JoinHandle<Result<Summary, ObserveError>>>,
    /// Long polls that it has told of and that have not ended.
    pub open: HashMap<PollKey, LongPoll>,
}

/// What it tells.
pub(super) enum Told {
    /// It has begun.
    Began(Box<Session>),
    /// A long poll.
    Poll(Box<LongPoll>),
    /// It costs too much, and sees less from this time on ([`Notice::time_ns`]).
    Dear(Step, u64),
}

/// Passes on what the session sees.
pub(super) struct Teller {
    to: Sender<Told>,
    ready: Arc<EventFd>,
}

impl Sink for Teller {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let told = match event {
            Event::Session(session) => Told::Began(Box::new(session.clone())),
            Event::LongPoll(poll) => Told::Poll(Box::new(poll.clone())),
            Event::Notice(Notice {
                step: Some(step),
                time_ns,
                ..
            }) => Told::Dear(*step, *time_ns),
            _ => return Ok(()),
        };
        // Nobody listens any more once the other session is over.
        let _ = self.to.send(told);
        let _ = self.ready.write(1);
        Ok(())
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let _ = self.ready.write(1);
    }
}

impl Beside {
    /// What becomes readable when a session beside has something to tell.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub(super) fn event() -> io::Result<Arc<EventFd>> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Arc::new(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Runs a session in a thread of this name.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor or thread left.
    pub(super) fn start(
        name: &str,
        ready: &Arc<EventFd>,
        run: impl FnOnce(&mut Teller, &Stop) -> Result<Summary, ObserveError> + Send + 'static,
    ) -> io::Result<Self> {
        let (to, told) = channel();
        let mut teller = Teller {
            to,
            ready: Arc::clone(ready),
        };
        let stop = Stop::new()?;
        let theirs = stop.clone();
        let thread = thread::Builder::new().name(name.into());
        Ok(Self {
            stop,
            told,
            thread: Some(thread.spawn(move || run(&mut teller, &theirs))?),
            open: HashMap::new(),
        })
    }

    /// What it has told since this was asked last. Complete if it was over before.
    pub(super) fn heard(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }

    /// Keeps in mind what is open; returns whether the poll has ended.
    pub(super) fn keep(&mut self, poll: &LongPoll) -> bool {
        let key = (poll.tid, poll.start_ns);
        if poll.ended {
            self.open.remove(&key);
        } else {
            self.open.insert(key, poll.clone());
        }
        poll.ended
    }

    /// Tells it to end.
    pub(super) fn end(&self) {
        self.stop.trigger();
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has ended.
    pub(super) fn wait(&self) {
        while !self.is_over() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Its summary, or why there is none. Waits for its end.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(super) fn join(mut self) -> Result<Summary, String> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(summary)) => summary.map_err(|error| error.to_string()),
            _ => Err("an error of loopprobe's own".to_owned()),
        }
    }
}

impl Drop for Beside {
    /// No probe is left behind.
    fn drop(&mut self) {
        self.end();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
