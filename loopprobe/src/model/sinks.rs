//! Many takers of events as one; a member that fails is dropped, the others go on.

use std::{io, time::Duration};

use super::{Due, Event, Live, Sink, Summary};

/// Many sinks as one. Each gets every event, and snapshots as often as it wants them.
#[derive(Default)]
pub struct Sinks {
    sinks: Vec<Member>,
    /// Of those that have failed.
    dropped: u64,
}

struct Member {
    sink: Box<dyn Sink>,
    live: Due,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks")
            .field("sinks", &self.sinks.len())
            .finish_non_exhaustive()
    }
}

impl Sinks {
    /// One more.
    pub fn add(&mut self, sink: Box<dyn Sink>) {
        self.sinks.push(Member {
            sink,
            live: Due::default(),
        });
    }

    /// Whether nobody takes events (any more).
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Gives something to every sink. One that fails is given no more, and does not keep the
    /// session's end from the others.
    fn give(&mut self, mut give: impl FnMut(&mut Member) -> io::Result<()>) -> io::Result<()> {
        let mut failed = None;
        let dropped = &mut self.dropped;
        self.sinks.retain_mut(|member| match give(member) {
            Ok(()) => true,
            Err(error) => {
                *dropped += member.sink.dropped();
                failed.get_or_insert(error);
                false
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

impl Extend<Box<dyn Sink>> for Sinks {
    fn extend<T: IntoIterator<Item = Box<dyn Sink>>>(&mut self, sinks: T) {
        for sink in sinks {
            self.add(sink);
        }
    }
}

impl Sink for Sinks {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.give(|member| member.sink.event(event))
    }

    fn live_every(&self) -> Option<Duration> {
        let wanted = self
            .sinks
            .iter()
            .filter_map(|member| member.sink.live_every());
        wanted.min()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.give(|member| {
            let Some(every) = member.sink.live_every() else {
                return Ok(());
            };
            if member.live.take(live.time_ns, every) || live.is_last {
                member.sink.live(live)?;
            }
            Ok(())
        })
    }

    fn snapshot(&mut self, now: &Summary) -> Option<String> {
        let said = self
            .sinks
            .iter_mut()
            .filter_map(|member| member.sink.snapshot(now));
        let said: Vec<_> = said.collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    fn dropped(&self) -> u64 {
        let dropped = self.sinks.iter().map(|member| member.sink.dropped());
        self.dropped + dropped.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::model::Notice;

    #[derive(Default)]
    struct Seen {
        events: u32,
        live_at: Vec<u64>,
    }

    struct Watching {
        seen: Rc<RefCell<Seen>>,
        every: Option<Duration>,
        fails: bool,
    }

    impl Sink for Watching {
        fn event(&mut self, _: &Event) -> io::Result<()> {
            if self.fails {
                return Err(io::Error::other("full"));
            }
            self.seen.borrow_mut().events += 1;
            Ok(())
        }

        fn live_every(&self) -> Option<Duration> {
            self.every
        }

        fn live(&mut self, live: &Live) -> io::Result<()> {
            self.seen.borrow_mut().live_at.push(live.time_ns);
            Ok(())
        }
    }

    fn add(sinks: &mut Sinks, every: Option<Duration>, fails: bool) -> Rc<RefCell<Seen>> {
        let seen = Rc::new(RefCell::new(Seen::default()));
        sinks.add(Box::new(Watching {
            seen: seen.clone(),
            every,
            fails,
        }));
        seen
    }

    fn notice() -> Event {
        Event::Notice(Notice {
            time_ns: 1,
            message: "something".into(),
            threshold_ns: None,
            step: None,
        })
    }

    #[test]
    fn one_that_fails_keeps_nothing_from_the_others() {
        let mut sinks = Sinks::default();
        let failing = add(&mut sinks, None, true);
        let other = add(&mut sinks, None, false);
        assert!(sinks.event(&notice()).is_err());
        assert!(sinks.event(&notice()).is_ok(), "it is given no more");
        assert_eq!((failing.borrow().events, other.borrow().events), (0, 2));
    }

    #[test]
    fn each_has_snapshots_as_often_as_it_wants_them() {
        let mut sinks = Sinks::default();
        let never = add(&mut sinks, None, false);
        assert_eq!(sinks.live_every(), None);
        let often = add(&mut sinks, Some(Duration::from_nanos(10)), false);
        let seldom = add(&mut sinks, Some(Duration::from_nanos(25)), false);
        assert_eq!(sinks.live_every(), Some(Duration::from_nanos(10)));
        for time_ns in (0..60).step_by(10) {
            let live = Live {
                time_ns,
                ..Live::default()
            };
            sinks.live(&live).unwrap();
        }
        assert_eq!(never.borrow().live_at, [0_u64; 0]);
        assert_eq!(often.borrow().live_at, [0, 10, 20, 30, 40, 50]);
        assert_eq!(seldom.borrow().live_at, [0, 30, 50]);
    }
}
