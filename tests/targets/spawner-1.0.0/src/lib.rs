//! Wrappers as in napi, pyo3-async-runtimes and others: one async block around whatever is spawned.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// The source of this file, for the lines of its definitions.
pub const SOURCE: &str = include_str!("lib.rs");

static ENDED: AtomicU64 = AtomicU64::new(0);

/// Counts the result.
// @counted
pub async fn counted<F: Future<Output = u64>>(future: F) -> u64 {
    let result = future.await;
    ENDED.fetch_add(result, Ordering::Relaxed);
    result
}

/// One wrapper in another.
pub async fn counted_twice<F: Future<Output = u64>>(future: F) -> u64 {
    let result = counted(future).await;
    ENDED.fetch_add(result + 1, Ordering::Relaxed);
    result
}

/// Can be told to end, and is boxed by the wrapper.
pub async fn cancellable<F: Future<Output = u64> + Send>(future: F) -> u64 {
    let boxed: Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(Cancellable {
        future,
        is_cancelled: false,
    });
    let result = boxed.await;
    ENDED.fetch_add(result, Ordering::Relaxed);
    result
}

/// One after the other: neither is what the task is.
// @both
pub async fn both<A: Future<Output = u64>, B: Future<Output = u64>>(first: A, second: B) -> u64 {
    first.await + second.await
}

struct Cancellable<F> {
    future: F,
    is_cancelled: bool,
}

impl<F: Future<Output = u64>> Future for Cancellable<F> {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        // SAFETY: the future is not moved.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        if let Poll::Ready(result) = unsafe { Pin::new_unchecked(&mut this.future) }.poll(cx) {
            return Poll::Ready(result);
        }
        if this.is_cancelled {
            return Poll::Ready(0);
        }
        Poll::Pending
    }
}
