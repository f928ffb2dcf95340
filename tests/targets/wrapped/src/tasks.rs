//! One task of each wrapper around each future, and what each of them is.
//!
//! Each line has the type's name as the compiler tells it, and the line of the outermost async
//! function or block in it.

use std::any::type_name;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use targets::control;
use targets::source::line_of;
use targets::truth::TaskId;
use tokio::runtime::{Builder, Runtime};
use tokio::task::unconstrained;
use tokio::time::timeout;
use tracing::{info_span, Instrument};

use crate::futures::{
    alpha, around, beta, block, boxed, gamma, generic, never, Alike, Manual, SOURCE,
};
use crate::wrappers::{Either, Flagged, Held, Named, Plain, Timed, Twin};

/// The library's source.
const LIBRARY: &str = "spawner-1.0.0/src/lib.rs";

const LONG: Duration = Duration::from_secs(600);

tokio::task_local! {
    static REQUEST: u64;
}

/// A runtime and its place in the truth.
struct Place<'a>(&'a Runtime, &'static str);

impl Place<'_> {
    /// Spawns `future` and says what it is; `label` marks the outermost definition, none is marked
    /// for other futures.
    fn spawn<F>(&self, label: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Debug + Send + 'static,
    {
        self.spawn_of(label, ("wrapped/src/futures.rs", SOURCE), "null", future);
    }

    /// The same in a wrapper that is an async function of a library's, in that file.
    fn hand_over<F>(&self, label: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Debug + Send + 'static,
    {
        let own = ("wrapped/src/futures.rs", SOURCE);
        self.spawn_of(label, own, &format!("\"{LIBRARY}\""), future);
    }

    /// The same with a definition in this file, and a wrapper in that one.
    fn spawn_of<F>(&self, label: &str, (file, source): (&str, &str), wrapper: &str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Debug + Send + 'static,
    {
        let Place(runtime, flavor) = self;
        let id = TaskId::default();
        id.learn(&runtime.spawn(future));
        let line = line_of(source, label).map_or("null".to_owned(), |line| line.to_string());
        control::say(&format!(
            r#"{{"type":"task","label":"{label}","kind":"async","runtime":"{flavor}","task_id":{},"type_name":"{}","file":"{file}","line":{line},"wrapper":{wrapper}}}"#,
            id.get(),
            type_name::<F>().replace('"', "'"),
        ));
    }

    /// `make` in every wrapper.
    fn wrap_all<F>(&self, label: &str, make: impl Fn() -> F)
    where
        F: Future<Output = u64> + Send + 'static,
    {
        self.spawn(label, make());
        self.spawn(
            label,
            Timed {
                inner: make(),
                longest: 0,
            },
        );
        self.spawn(
            label,
            Named {
                name: "a name",
                inner: make(),
            },
        );
        self.spawn(label, Plain(make()));
        self.spawn(label, Twin(make()));
        self.spawn(
            label,
            Flagged {
                paused: false,
                inner: make(),
            },
        );
        self.spawn(label, Held(Box::pin(make())));
        self.spawn(label, Box::pin(make()));
        self.spawn(label, boxed(make()));
        self.spawn(label, timeout(LONG, make()));
        self.spawn(label, unconstrained(make()));
        self.spawn(label, REQUEST.scope(7, make()));
        self.spawn(label, make().instrument(info_span!("wrapped")));
        self.spawn(
            label,
            timeout(
                LONG,
                Timed {
                    inner: make(),
                    longest: 0,
                },
            ),
        );
        self.spawn(
            label,
            Timed {
                inner: timeout(LONG, make()),
                longest: 0,
            },
        );
        self.spawn(
            label,
            Named {
                name: "two",
                inner: make().instrument(info_span!("two")),
            },
        );
        self.spawn("around", around(make()));
        self.spawn(
            "around",
            Timed {
                inner: around(make()),
                longest: 0,
            },
        );
    }
}

/// What a library puts around futures of this program's, or of its own.
fn hand_over(place: &Place<'_>) {
    place.hand_over("alpha", spawner::counted(alpha()));
    place.hand_over("beta", spawner::counted(beta()));
    place.hand_over("gamma", spawner::counted(Plain(gamma())));
    place.hand_over("beta", spawner::counted_twice(beta()));
    place.hand_over("gamma", spawner::counted_twice(gamma()));
    place.hand_over("alpha", spawner::cancellable(alpha()));
    place.hand_over("gamma", spawner::cancellable(gamma()));
    place.hand_over("alpha", spawner::counted(boxed(alpha())));
    place.hand_over("beta", spawner::counted_twice(boxed(beta())));
    let library = (LIBRARY, spawner::SOURCE);
    place.spawn_of("both", library, "null", spawner::both(alpha(), beta()));
    place.spawn_of("both", library, "null", spawner::both(gamma(), alpha()));
    let manual = spawner::counted(Manual::new());
    place.spawn_of("counted", library, "null", manual);
}

fn populate(place: &Place<'_>) {
    let _inside = place.0.enter();
    place.wrap_all("alpha", alpha);
    place.wrap_all("beta", beta);
    place.wrap_all("gamma", gamma);
    place.wrap_all("never", never);
    place.wrap_all("block", || block(3));
    place.wrap_all("generic", || generic(5_u32));
    place.wrap_all("none", Manual::new);
    place.spawn("generic", generic(5_u8));
    place.spawn("none", Alike::new());
    place.spawn("none", Plain(Alike::new()));
    place.spawn("two", Either(alpha(), beta()));
    place.spawn(
        "two",
        Either(
            beta(),
            Timed {
                inner: gamma(),
                longest: 0,
            },
        ),
    );
    place.spawn("alpha", Either(Manual::new(), alpha()));
    hand_over(place);
}

/// Runtimes with all the tasks; they live as long as the value.
pub fn spawn_all() -> Vec<Runtime> {
    let multi = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build();
    let current = Builder::new_current_thread().enable_time().build();
    let (multi, current) = (multi.expect("a runtime"), current.expect("a runtime"));
    populate(&Place(&multi, "multi_thread"));
    populate(&Place(&current, "current_thread"));
    vec![multi, current]
}
