//! What the wrappers wrap. The bodies are alike on purpose: their drop glue is the same code.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{sleep, Sleep};

/// The source of this file, for the lines of its definitions.
pub const SOURCE: &str = include_str!("futures.rs");

async fn turn() -> u64 {
    sleep(Duration::from_millis(5)).await;
    std::hint::black_box(1)
}

// @alpha
pub async fn alpha() -> u64 {
    let mut sum = 0;
    while sum < 1 << 40 {
        sum += turn().await;
    }
    sum
}

// @beta
pub async fn beta() -> u64 {
    let mut sum = 1;
    while sum < 1 << 41 {
        sum += turn().await;
    }
    sum
}

// @gamma
pub async fn gamma() -> u64 {
    let mut sum = 2;
    while sum < 1 << 42 {
        sum += turn().await;
    }
    sum
}

// @never
pub async fn never() -> u64 {
    loop {
        turn().await;
    }
}

// @generic
pub async fn generic<T: Copy + Into<u64> + Send>(value: T) -> u64 {
    let mut sum: u64 = 0;
    while sum < 1 << 43 {
        sum += turn().await * value.into();
    }
    sum
}

/// An async function around another future, which has a definition of its own.
// @around
pub async fn around<F: Future<Output = u64>>(inner: F) -> u64 {
    inner.await + turn().await
}

pub fn block(seed: u64) -> impl Future<Output = u64> + Send {
    // @block
    async move {
        let mut sum = seed;
        while sum < 1 << 44 {
            sum += turn().await;
        }
        sum
    }
}

/// A future written by hand, without a definition.
pub struct Manual(pub Pin<Box<Sleep>>);

/// Another one, whose code is the same.
pub struct Alike(pub Pin<Box<Sleep>>);

impl Manual {
    pub fn new() -> Self {
        Self(Box::pin(sleep(Duration::from_secs(600))))
    }
}

impl Alike {
    pub fn new() -> Self {
        Self(Box::pin(sleep(Duration::from_secs(600))))
    }
}

impl Future for Manual {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        self.0.as_mut().poll(cx).map(|()| 1)
    }
}

impl Future for Alike {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        self.0.as_mut().poll(cx).map(|()| 1)
    }
}

pub fn boxed(
    future: impl Future<Output = u64> + Send + 'static,
) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(future)
}
