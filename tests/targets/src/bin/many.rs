//! More than a thousand task types, each with a poll function of its own, as large programs have them.

use std::time::Duration;

use targets::control::{self, Options};
use tokio::runtime::{Builder, Runtime};

/// `N` is in the code, so that no two are merged.
async fn kind<const N: u64>() -> u64 {
    tokio::task::yield_now().await;
    std::hint::black_box(N)
}

macro_rules! sixteen {
    ($runtime:expr, $from:expr) => {
        sixteen!($runtime, $from; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($runtime:expr, $from:expr; $($n:literal)*) => {
        $(drop($runtime.spawn(kind::<{ $from * 16 + $n }>()));)*
    };
}

macro_rules! two_hundred_fifty_six {
    ($runtime:expr, $from:expr) => {
        two_hundred_fifty_six!($runtime, $from; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($runtime:expr, $from:expr; $($n:literal)*) => {
        $(sixteen!($runtime, ($from * 16 + $n));)*
    };
}

fn spawn_all(runtime: &Runtime) {
    two_hundred_fifty_six!(runtime, 0);
    two_hundred_fifty_six!(runtime, 1);
    two_hundred_fifty_six!(runtime, 2);
    two_hundred_fifty_six!(runtime, 3);
}

fn main() {
    let options = Options::parse(&["many"]);
    control::listen();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    spawn_all(&runtime);
    control::ready();
    std::thread::sleep(Duration::from_millis(options.millis));
}
