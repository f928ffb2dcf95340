//! A web service with one page that takes next to no time, so that what a tool costs shows. It
//! prints its address.

use axum::{routing::get, Router};
use tokio::net::TcpListener;

/// The page: asks two tasks, as a handler asks its helpers.
async fn page() -> String {
    let (left, right) = (tokio::spawn(half(1)), tokio::spawn(half(2)));
    match (left.await, right.await) {
        (Ok(left), Ok(right)) => format!("{}\n", left + right),
        _ => String::new(),
    }
}

async fn half(value: u64) -> u64 {
    tokio::task::yield_now().await;
    value
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    #[cfg(feature = "console")]
    console_subscriber::ConsoleLayer::builder()
        .server_addr(([127, 0, 0, 1], 0))
        .init();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", get(page))).await
}
