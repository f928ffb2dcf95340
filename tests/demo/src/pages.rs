//! One page for each way to block.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::extract::State;

use crate::Shop;

/// Well written: it waits without blocking.
pub async fn home() -> &'static str {
    tokio::time::sleep(Duration::from_millis(2)).await;
    "welcome"
}

/// Computes: a password's hash.
pub async fn login() -> String {
    format!("{:016x}", hash_password("correct horse battery staple"))
}

/// Sleeps: a retry loop that somebody copied from synchronous code.
pub async fn report() -> &'static str {
    retry_with_backoff();
    "report"
}

/// Waits for a lock that a background job holds.
pub async fn orders(State(shop): State<Arc<Shop>>) -> String {
    format!("{} orders", count_orders(&shop))
}

/// Asks another server, with a synchronous client.
pub async fn quote(State(shop): State<Arc<Shop>>) -> String {
    fetch_quote(&shop).unwrap_or_default()
}

/// Writes a file and waits for the disk.
pub async fn upload(State(shop): State<Arc<Shop>>) -> &'static str {
    match store_upload(&shop) {
        Ok(()) => "stored",
        Err(_) => "failed",
    }
}

#[inline(never)]
fn hash_password(password: &str) -> u64 {
    let mut state = 0;
    for round in 0..600_000_u64 {
        let mut hasher = DefaultHasher::new();
        (password, state, round).hash(&mut hasher);
        state = hasher.finish();
    }
    state
}

#[inline(never)]
fn retry_with_backoff() {
    for attempt in 1..=2 {
        thread::sleep(Duration::from_millis(20 * attempt));
    }
}

#[inline(never)]
fn count_orders(shop: &Shop) -> u64 {
    *shop.orders.lock().unwrap()
}

#[inline(never)]
fn fetch_quote(shop: &Shop) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(shop.upstream)?;
    let mut quote = String::new();
    stream.read_to_string(&mut quote)?;
    Ok(quote)
}

#[inline(never)]
fn store_upload(shop: &Shop) -> std::io::Result<()> {
    let mut file = std::fs::File::create(shop.folder.join("upload.bin"))?;
    file.write_all(&vec![7; 8 << 20])?;
    file.sync_all()
}
