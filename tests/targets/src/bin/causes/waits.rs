//! Waits for what others hold, make or open: a thread that ends, a loop on another thread, a file's
//! lock, a named pipe's other end, an event; and work that the kernel does.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{channel, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use targets::truth::span;
use targets::work::spin_ms;

use crate::{pause, LONG_MS};

fn named(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("causes-{}-{name}", std::process::id()))
}

// @worker_task
pub async fn worker_task(rounds: u32) {
    for _ in 0..rounds {
        worker_child().await;
    }
}

// @worker_child
async fn worker_child() {
    pause().await;
    let thread = named("worker-helper").spawn(|| spin_ms(LONG_MS * 3));
    worker_call(thread.expect("a thread can be started"));
}

#[inline(never)]
// @worker_call
fn worker_call(thread: JoinHandle<()>) {
    let _span = span("worker");
    thread.join().expect("no panic");
}

/// A thread with an event loop of its own, which answers when that has waited for a while.
fn client() -> Receiver<()> {
    let (send, receive) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let answers = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(LONG_MS * 2)).await;
            if send.send(()).is_err() {
                return;
            }
        }
    };
    named("client-loop")
        .spawn(move || runtime.block_on(async { tokio::spawn(answers).await }))
        .expect("a thread can be started");
    receive
}

// @client_task
pub async fn client_task(rounds: u32) {
    let mut receive = client();
    for _ in 0..rounds {
        client_child(&mut receive).await;
    }
}

// @client_child
async fn client_child(receive: &mut Receiver<()>) {
    pause().await;
    while receive.try_recv().is_ok() {}
    client_call(receive);
}

#[inline(never)]
// @client_call
fn client_call(receive: &Receiver<()>) {
    let _span = span("client");
    receive.recv().expect("the thread goes on");
}

/// Starts a process that holds a file's lock most of the time, until this one ends.
fn start_locker(file: &File) {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no NUL");
    // SAFETY: the child makes system calls alone, as it may with one thread of many.
    if unsafe { libc::fork() } == 0 {
        hold_for_ever(&path);
    }
}

fn hold_for_ever(path: &CStr) -> ! {
    // SAFETY: system calls alone; the path lives.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"file_lock-proc".as_ptr());
        let fd = libc::open(path.as_ptr(), libc::O_RDWR);
        loop {
            libc::flock(fd, libc::LOCK_EX);
            libc::usleep(LONG_MS as u32 * 2_000);
            libc::flock(fd, libc::LOCK_UN);
            libc::usleep(3_000);
        }
    }
}

// @file_lock_task
pub async fn file_lock_task(rounds: u32) {
    let path = file("lock");
    let lock = File::create(&path).expect("the temporary directory can be written");
    start_locker(&lock);
    for _ in 0..rounds {
        file_lock_child(&lock).await;
    }
    // Nothing is said of a file that is closed at once.
    pause().await;
    let _ = std::fs::remove_file(path);
}

// @file_lock_child
async fn file_lock_child(lock: &File) {
    tokio::time::sleep(Duration::from_millis(LONG_MS / 2)).await;
    file_lock_call(lock);
}

#[inline(never)]
// @file_lock_call
fn file_lock_call(lock: &File) {
    let _span = span("file_lock");
    // SAFETY: the file is open.
    unsafe {
        libc::flock(lock.as_raw_fd(), libc::LOCK_EX);
        libc::flock(lock.as_raw_fd(), libc::LOCK_UN);
    }
}

// @named_pipe_task
pub async fn named_pipe_task(rounds: u32) {
    let path = file("pipe");
    let text = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: the path lives.
    assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
    for _ in 0..rounds {
        named_pipe_child(&text).await;
    }
    pause().await;
    let _ = std::fs::remove_file(path);
}

// @named_pipe_child
async fn named_pipe_child(path: &CStr) {
    pause().await;
    let theirs = path.to_owned();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        open(&theirs, libc::O_WRONLY)
    });
    named_pipe_call(path);
    let _ = writer.join();
}

fn open(path: &CStr, flags: i32) -> OwnedFd {
    // SAFETY: the path lives, and nothing else owns the new descriptor.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

#[inline(never)]
// @named_pipe_call
fn named_pipe_call(path: &CStr) {
    let _span = span("named_pipe");
    drop(open(path, libc::O_RDONLY));
}

// @event_task
pub async fn event_task(rounds: u32) {
    // SAFETY: nothing else owns the new descriptor.
    let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    for _ in 0..rounds {
        event_child(&event).await;
    }
}

// @event_child
async fn event_child(event: &OwnedFd) {
    pause().await;
    let theirs = event.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        // SAFETY: eight bytes are read from a number that lives.
        unsafe { libc::write(theirs.as_raw_fd(), (&raw const ONE).cast(), 8) };
    });
    event_call(event);
}

static ONE: u64 = 1;

#[inline(never)]
// @event_call
fn event_call(event: &OwnedFd) {
    let _span = span("event");
    let mut count = 0_u64;
    // SAFETY: eight bytes are written to a number that lives.
    unsafe { libc::read(event.as_raw_fd(), (&raw mut count).cast(), 8) };
}

// @entropy_task
pub async fn entropy_task(rounds: u32) {
    for _ in 0..rounds {
        entropy_child().await;
    }
}

// @entropy_child
async fn entropy_child() {
    pause().await;
    entropy_call();
}

#[inline(never)]
// @entropy_call
fn entropy_call() {
    let _span = span("entropy");
    let mut bytes = vec![0_u8; 1 << 20];
    let end = Instant::now() + Duration::from_millis(LONG_MS * 3);
    while Instant::now() < end {
        // SAFETY: as many bytes are written as there is room for.
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    }
}
