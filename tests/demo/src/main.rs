//! A web service that blocks its event loop in the usual ways, one page each. It prints its
//! address.

mod jobs;
mod pages;

use std::{env, path::PathBuf, sync::Arc};

use axum::{routing::get, Router};
use tokio::net::TcpListener;

/// What the pages share.
pub struct Shop {
    /// Where files go.
    folder: PathBuf,
    /// A lock that is held for too long.
    orders: std::sync::Mutex<u64>,
    /// A server that answers late.
    upstream: std::net::SocketAddr,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> std::io::Result<()> {
    let folder = env::args_os()
        .nth(1)
        .map_or_else(env::temp_dir, PathBuf::from);
    let upstream = std::net::TcpListener::bind("127.0.0.1:0")?;
    let shop = Arc::new(Shop {
        folder,
        orders: std::sync::Mutex::new(0),
        upstream: upstream.local_addr()?,
    });
    std::thread::spawn(move || jobs::answer_late(upstream));
    tokio::spawn(jobs::flush_metrics(shop.clone()));
    tokio::spawn(jobs::book_orders(shop.clone()));
    let app = Router::new()
        .route("/", get(pages::home))
        .route("/login", get(pages::login))
        .route("/report", get(pages::report))
        .route("/orders", get(pages::orders))
        .route("/quote", get(pages::quote))
        .route("/upload", get(pages::upload))
        .with_state(shop);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
