//! Tasks that become more.

use std::time::Duration;

use targets::control;

use crate::{is_notified, sleeps, waits_at};

async fn passes() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// Tasks that never end come one by one, beside as many others that end, and many that came at the
/// beginning.
pub fn leaks() {
    let runtime = targets::runtime::multi_thread(2);
    for hours in 0..500 {
        drop(runtime.spawn(is_notified(std::sync::Arc::default())));
        drop(runtime.spawn(sleeps(hours)));
    }
    control::ready();
    for _ in 0..12_000 {
        drop(runtime.spawn(waits_at(3)));
        drop(runtime.spawn(passes()));
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime.shutdown_background();
}
