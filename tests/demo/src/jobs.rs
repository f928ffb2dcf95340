//! What runs beside the pages.

use std::{io::Write, net::TcpListener, sync::Arc, thread, time::Duration};

use crate::Shop;

/// The other server: it answers after 60 ms. It has a thread of its own, for a loop that waits for
/// itself may wait for ever.
pub fn answer_late(listener: TcpListener) {
    for mut stream in listener.incoming().flatten() {
        thread::sleep(Duration::from_millis(60));
        let _ = stream.write_all(b"42");
    }
}

/// Writes a small file now and then, on the event loop.
pub async fn flush_metrics(shop: Arc<Shop>) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _ = std::fs::write(
            shop.folder.join("metrics.txt"),
            "requests 1\n".repeat(400_000),
        );
    }
}

/// Holds the orders' lock while it computes, on the blocking pool, where it may.
pub async fn book_orders(shop: Arc<Shop>) {
    loop {
        tokio::time::sleep(Duration::from_millis(90)).await;
        let shop = shop.clone();
        let booked = tokio::task::spawn_blocking(move || {
            let mut orders = shop.orders.lock().unwrap();
            thread::sleep(Duration::from_millis(30));
            *orders += 1;
        });
        let _ = booked.await;
    }
}
