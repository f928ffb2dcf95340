//! Wrappers of the program's own, as people write them: to time, to name, to count.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

static POLLS: AtomicU64 = AtomicU64::new(0);
static DROPS: AtomicU64 = AtomicU64::new(0);

/// Keeps the longest poll; has no `Drop`.
pub struct Timed<F> {
    pub inner: F,
    pub longest: u128,
}

/// Has a name and a `Drop`.
pub struct Named<F> {
    pub name: &'static str,
    pub inner: F,
}

/// Only forwards.
pub struct Plain<F>(pub F);

/// The same, under another name.
pub struct Twin<F>(pub F);

/// Tests a byte of its own before it polls what it wraps.
pub struct Flagged<F> {
    pub paused: bool,
    pub inner: F,
}

/// Polls two futures, and ends with the first.
pub struct Either<A, B>(pub A, pub B);

/// Polls what it wraps through a pointer.
pub struct Held<F>(pub Pin<Box<F>>);

/// The pinned field that `field` picks out.
fn project<W, F>(wrapper: Pin<&mut W>, field: impl FnOnce(&mut W) -> &mut F) -> Pin<&mut F> {
    // SAFETY: no wrapper here moves its future once it is pinned.
    unsafe { wrapper.map_unchecked_mut(field) }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let start = Instant::now();
        let polled = project(self.as_mut(), |this| &mut this.inner).poll(cx);
        // SAFETY: a number is not pinned.
        let longest = unsafe { &mut self.get_unchecked_mut().longest };
        *longest = start.elapsed().as_nanos().max(*longest);
        polled
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        POLLS.fetch_add(self.name.len() as u64, Ordering::Relaxed);
        project(self, |this| &mut this.inner).poll(cx)
    }
}

impl<F> Drop for Named<F> {
    fn drop(&mut self) {
        DROPS.fetch_add(self.name.len() as u64, Ordering::Relaxed);
    }
}

impl<F: Future> Future for Plain<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        project(self, |this| &mut this.0).poll(cx)
    }
}

impl<F: Future> Future for Twin<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        project(self, |this| &mut this.0).poll(cx)
    }
}

impl<F: Future> Future for Flagged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.paused {
            return Poll::Pending;
        }
        project(self, |this| &mut this.inner).poll(cx)
    }
}

impl<T, A: Future<Output = T>, B: Future<Output = T>> Future for Either<A, B> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Poll::Ready(value) = project(self.as_mut(), |this| &mut this.0).poll(cx) {
            return Poll::Ready(value);
        }
        project(self, |this| &mut this.1).poll(cx)
    }
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}
