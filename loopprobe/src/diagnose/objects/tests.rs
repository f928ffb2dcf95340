//! What descriptors, paths and futexes of this very process resolve to.

use std::{
    fs::File,
    io::pipe,
    net::{TcpListener, UdpSocket},
    os::fd::AsRawFd as _,
};

use super::*;

fn resolve(number: i64, args: [u64; 6]) -> Option<Object> {
    Objects::of(std::process::id()).resolve(&RawSyscall {
        number: u32::try_from(number).expect("a number"),
        args,
    })
}

fn file(path: &str) -> Option<Object> {
    Some(Object::File {
        path: path.to_owned(),
        opened_to_read: None,
    })
}

#[test]
fn a_descriptor_leads_to_its_file() {
    let open = File::open("/proc/version").expect("a file");
    let number = open.as_raw_fd() as u64 | 0xdead_0000_0000;
    assert_eq!(
        resolve(libc::SYS_read, [number, 0, 0, 0, 0, 0]),
        file("/proc/version")
    );
}

#[test]
fn a_descriptor_that_stands_for_something_else_by_now_counts_as_what_it_was() {
    let objects = Objects::of(std::process::id());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let call = RawSyscall {
        number: libc::SYS_read as u32,
        args: [socket.as_raw_fd() as u64, 0, 0, 0, 0, 0],
    };
    let seen = |mode, inode| objects.resolve_seen(&call, SeenFile { mode, inode });
    let pipe = seen(libc::S_IFIFO | 0o600, 7);
    assert!(matches!(pipe, Some(Object::Pipe(Pipe { inode: 7, .. }))));
    assert_eq!(seen(libc::S_IFREG | 0o600, 7), None);
    let place = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let now = SeenFile::of(&fs::metadata(place).expect("the socket"));
    assert_eq!(seen(now.mode, now.inode), objects.resolve(&call));
    assert_eq!(seen(0, 0), objects.resolve(&call));
}

#[test]
fn a_pipe_has_a_direction_and_a_socket_a_mode() {
    let (reader, writer) = pipe().expect("a pipe");
    for (number, fd, expected) in [
        (libc::SYS_read, reader.as_raw_fd(), true),
        (libc::SYS_write, writer.as_raw_fd(), false),
    ] {
        let Some(Object::Pipe(pipe)) = resolve(number, [fd as u64, 0, 0, 0, 0, 0]) else {
            panic!("no pipe");
        };
        assert_eq!((pipe.fd, pipe.reads), (Some(fd as u32), expected));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for mode in [true, false] {
        socket.set_nonblocking(!mode).expect("a mode");
        let args = [socket.as_raw_fd() as u64, 0, 0, 0, 0, 0];
        let Some(Object::Socket(found)) = resolve(libc::SYS_recvfrom, args) else {
            panic!("no socket");
        };
        assert_eq!(found.blocking, Some(mode));
    }
}

#[test]
fn a_poll_is_about_all_its_descriptors() {
    let (reader, _writer) = pipe().expect("a pipe");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let polled = [reader.as_raw_fd(), -1, listener.as_raw_fd()].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let args = [polled.as_ptr() as u64, 3, 0, 0, 0, 0];
    let found = resolve(libc::SYS_poll, args).expect("objects");
    let kinds: Vec<_> = found.each().collect();
    assert!(
        matches!(kinds[..], [Object::Pipe(_), Object::Socket(_)]),
        "{kinds:?}"
    );
}

#[test]
fn a_path_is_read_from_memory_and_completed() {
    let (absolute, relative) = (c"/etc/hosts", c"x/y");
    let here = i64::from(libc::AT_FDCWD) as u64;
    let at = |path: &std::ffi::CStr| [here, path.as_ptr() as u64, 0, 0, 0, 0];
    let opened = |at| match resolve(libc::SYS_openat, at) {
        Some(Object::File {
            path,
            opened_to_read: Some(true),
        }) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(opened(at(absolute)), "/etc/hosts");
    let expected = std::env::current_dir().expect("a folder").join("x/y");
    assert_eq!(opened(at(relative)), expected.to_string_lossy());
}

#[test]
fn what_cannot_be_read_is_absent() {
    assert_eq!(resolve(libc::SYS_openat, [0, 8, 0, 0, 0, 0]), None);
    assert_eq!(resolve(libc::SYS_read, [u64::MAX, 0, 0, 0, 0, 0]), None);
    assert_eq!(resolve(libc::SYS_connect, [u64::MAX, 8, 16, 0, 0, 0]), None);
}
