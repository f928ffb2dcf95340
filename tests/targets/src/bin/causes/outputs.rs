//! A pipe that nobody drains, a socket that lingers, a descriptor in the wrong mode, and a value
//! that takes long to drop.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use targets::truth::span;

use crate::{pause, LONG_MS};

/// A pipe of one page, from which a thread takes all that is there from time to time.
fn slow_pipe() -> File {
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors, which nothing else owns.
    let (mut reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        libc::fcntl(ends[1], libc::F_SETPIPE_SZ, 4096);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    };
    std::thread::Builder::new()
        .name("pipe-reader".to_owned())
        .spawn(move || {
            let mut taken = [0; 4096];
            while reader.read(&mut taken).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(LONG_MS));
            }
        })
        .expect("a thread can be started");
    writer
}

// @pipe_task
pub async fn pipe_task(rounds: u32) {
    let mut pipe = slow_pipe();
    for _ in 0..rounds {
        pipe_child(&mut pipe).await;
    }
}

// @pipe_child
async fn pipe_child(pipe: &mut File) {
    pause().await;
    pipe_call(pipe);
}

#[inline(never)]
// @pipe_call
fn pipe_call(pipe: &mut File) {
    let _span = span("pipe");
    pipe.write_all(&[b'x'; 3 * 4096]).expect("the reader lives");
}

/// A connection whose other end reads nothing for a while, with unsent data, which closing it waits
/// for.
fn lingering() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        std::thread::sleep(Duration::from_millis(LONG_MS));
        let mut taken = [0; 65536];
        while stream.read(&mut taken).is_ok_and(|count| count > 0) {}
    });
    let stream = TcpStream::connect(address).expect("the server listens");
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 5,
    };
    // SAFETY: the option's value is a `struct linger` of that size.
    let failed = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            std::mem::size_of::<libc::linger>() as u32,
        )
    };
    assert_eq!(failed, 0);
    stream.set_nonblocking(true).expect("a mode");
    while (&stream).write(&[0; 65536]).is_ok() {}
    stream
}

// @closing_task
pub async fn closing_task(rounds: u32) {
    for _ in 0..rounds {
        closing_child().await;
    }
}

// @closing_child
async fn closing_child() {
    pause().await;
    closing_call(lingering());
}

#[inline(never)]
// @closing_call
fn closing_call(stream: TcpStream) {
    // The kernel lingers for sockets in blocking mode only.
    stream.set_nonblocking(false).expect("a mode");
    let _span = span("closing");
    drop(stream);
}

/// So many small values take some tens of milliseconds to drop.
type Cache = Vec<Box<[u64; 6]>>;

// @drop_task
pub async fn drop_task(rounds: u32) {
    for _ in 0..rounds {
        drop_child().await;
    }
}

// @drop_child
async fn drop_child() {
    let cache =
        tokio::task::spawn_blocking(|| (0..2_000_000).map(|at| Box::new([at; 6])).collect());
    let cache: Cache = cache.await.expect("no panic");
    pause().await;
    drop_call(cache);
}

#[inline(never)]
// @drop_call
fn drop_call(cache: Cache) {
    let _span = span("drop");
    drop(cache);
}

// @reused_task
pub async fn reused_task(rounds: u32) {
    for _ in 0..rounds {
        reused_child().await;
    }
}

// @reused_child
async fn reused_child() {
    pause().await;
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors, which nothing else owns.
    let (reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    };
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(LONG_MS));
        drop(writer);
    });
    drop(reused_call(reader));
}

/// What the descriptor stands for afterwards, in the same moment and from then on, is no pipe.
#[inline(never)]
// @reused_call
fn reused_call(mut reader: File) -> std::net::UdpSocket {
    let _span = span("reused");
    let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let number = reader.as_raw_fd();
    let _ = reader.read(&mut [0]);
    // SAFETY: both descriptors are this function's own.
    unsafe { libc::dup2(other.as_raw_fd(), number) };
    // Until its number has been looked up.
    std::thread::sleep(Duration::from_millis(5));
    other
}
