//! The trait of whatever takes events: a view, a recording, a monitoring system.

use std::{io, time::Duration};

use super::{Event, Live, Summary};

/// Takes what a session sees: a view, a recording, a monitoring system.
///
/// ```
/// use std::{collections::BTreeMap, io};
///
/// use loopprobe::model::{Event, Sink};
///
/// /// Counts long polls by cause.
/// #[derive(Default)]
/// struct Causes(BTreeMap<String, u64>);
///
/// impl Sink for Causes {
///     fn event(&mut self, event: &Event) -> io::Result<()> {
///         // One that is still open is told of with `ended: false`, and again at its end.
///         if let Event::LongPoll(poll) = event
///             && let (true, Some(diagnosis)) = (poll.ended, &poll.diagnosis)
///         {
///             *self.0.entry(format!("{:?}", diagnosis.cause)).or_default() += 1;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Sink {
    /// Takes the next event: first the `Session`, last the `Summary`.
    ///
    /// # Errors
    ///
    /// Whatever writing gives; [`io::ErrorKind::BrokenPipe`] means that the reader has gone and
    /// ends the session quietly.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// How often [`Self::live`] is wanted; `None` for never, since a snapshot costs time to make. A
    /// session looks four times a second at the most.
    fn live_every(&self) -> Option<Duration> {
        None
    }

    /// Takes a snapshot of a session that runs.
    ///
    /// # Errors
    ///
    /// As for [`Self::event`].
    fn live(&mut self, _live: &Live) -> io::Result<()> {
        Ok(())
    }

    /// Takes all that the session knows by now, with what every thread does, when something
    /// happened that asks for it (`collect::Options::snapshot_on`). What becomes of it is given as
    /// a sentence, which the session tells as a notice.
    fn snapshot(&mut self, _now: &Summary) -> Option<String> {
        None
    }

    /// Events and snapshots that were dropped because the sink did not keep up. The session counts
    /// them as lost.
    fn dropped(&self) -> u64 {
        0
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        (**self).event(event)
    }

    fn live_every(&self) -> Option<Duration> {
        (**self).live_every()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        (**self).live(live)
    }

    fn snapshot(&mut self, now: &Summary) -> Option<String> {
        (**self).snapshot(now)
    }

    fn dropped(&self) -> u64 {
        (**self).dropped()
    }
}
