//! Four threads with short queues that deliver alerts, those of one poll in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Counts, OnAlert, Webhook, event::Told};

/// How many are under way at once.
const AT_ONCE: usize = 4;
/// How many wait for each.
const WAITING: usize = 16;
/// How long the end takes once everybody is told to hurry.
const LAST: Duration = Duration::from_millis(500);
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Where an event goes.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// A command.
    Command(Arc<OnAlert>),
    /// A URL.
    Webhook(Arc<Webhook>),
}

impl Channel {
    fn deliver(&self, event: &Told, hurry: &AtomicBool) -> Result<(), String> {
        match self {
            Self::Command(command) => command.run(event, hurry),
            Self::Webhook(webhook) => webhook.post(event, hurry),
        }
    }
}

type Delivery = (Channel, Arc<Told>);

/// Threads that deliver, each behind a queue. The events of one poll take the same one, so that its
/// end comes after its beginning.
#[derive(Debug)]
pub(super) struct Deliveries {
    lanes: Vec<Lane>,
    /// Set once nobody waits any longer.
    hurry: Arc<AtomicBool>,
    counts: Counts,
}

#[derive(Debug)]
struct Lane {
    queue: SyncSender<Delivery>,
    thread: JoinHandle<()>,
}

impl Deliveries {
    /// Starts the threads. They have the rights that the calling thread has now.
    pub(super) fn start(counts: Counts) -> std::io::Result<Self> {
        let hurry = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let (queue, waiting) = sync_channel(WAITING);
            let (counts, hurry) = (counts.clone(), Arc::clone(&hurry));
            let thread = thread::Builder::new()
                .name("alert".to_owned())
                .spawn(move || serve(&waiting, &counts, &hurry))?;
            Ok(Lane { queue, thread })
        };
        Ok(Self {
            lanes: (0..AT_ONCE).map(start).collect::<std::io::Result<_>>()?,
            hurry,
            counts,
        })
    }

    /// Puts an event in a queue, if there is room.
    pub(super) fn add(&self, channel: &Channel, event: &Arc<Told>) {
        let lane = event.subject() % self.lanes.len() as u64;
        let delivery = (channel.clone(), Arc::clone(event));
        if self.lanes[lane as usize].queue.try_send(delivery).is_err() {
            self.counts.add(|tally| tally.busy += 1);
        }
    }

    /// Waits for what is queued, but not for longer than `grace`: then commands that still run are
    /// killed.
    pub(super) fn finish(self, grace: Duration) {
        let (queues, threads): (Vec<_>, Vec<_>) = self
            .lanes
            .into_iter()
            .map(|lane| (lane.queue, lane.thread))
            .unzip();
        drop(queues);
        let end = Instant::now() + grace;
        for (hurry, end) in [(false, end), (true, end + LAST)] {
            self.hurry.store(hurry, Ordering::Relaxed);
            while Instant::now() < end && !threads.iter().all(JoinHandle::is_finished) {
                thread::sleep(LOOK);
            }
        }
        let late = threads
            .iter()
            .filter(|thread| !thread.is_finished())
            .count();
        if late > 0 {
            self.counts.add(|tally| {
                tally.failed += late as u64;
                tally.last_failure = Some(format!("not delivered {grace:?} after the end"));
            });
        }
    }
}

fn serve(waiting: &Receiver<Delivery>, counts: &Counts, hurry: &AtomicBool) {
    for (channel, event) in waiting {
        let outcome = if hurry.load(Ordering::Relaxed) {
            Err("the session was over".to_owned())
        } else {
            channel.deliver(&event, hurry)
        };
        counts.add(|tally| match outcome {
            Ok(()) => tally.delivered += 1,
            Err(failure) => {
                tally.failed += 1;
                tally.last_failure = Some(failure);
            }
        });
    }
}
