//! Descriptors passed from one process to another (`SCM_RIGHTS`, unix(7)), each in a message of its
//! own.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

/// Room for the header and one descriptor: `CMSG_SPACE(4)` is 24.
type Control = [u64; 4];
const DATA: u32 = size_of::<RawFd>() as u32;

/// Two connected ends, between which messages stay apart.
///
/// # Errors
///
/// If no descriptor is left.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    let result = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            ends.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given these descriptors to us alone.
    Ok(ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }).into())
}

/// Sends a descriptor, or the error number in its place; `false` if nobody can receive it. Makes
/// system calls only.
pub(super) fn send(socket: &OwnedFd, result: io::Result<OwnedFd>) -> bool {
    let (fd, mut errno) = match &result {
        Ok(fd) => (Some(fd.as_raw_fd()), 0),
        Err(error) => (None, error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let mut control = Control::default();
    let mut data = io_vector(&mut errno);
    let mut message = message(&mut data);
    if let Some(fd) = fd {
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: the control buffer is aligned and large enough for one header and one descriptor.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(DATA) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(DATA) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        }
    }
    // SAFETY: the message points to live memory.
    unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) >= 0 }
}

/// The next descriptor.
///
/// # Errors
///
/// The error that was sent in its place; [`io::ErrorKind::Interrupted`] if the sender has ended;
/// `EMFILE` if this process has no descriptor left.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let (mut errno, mut control) = (0_i32, Control::default());
    let mut data = io_vector(&mut errno);
    let mut message = message(&mut data);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let received = loop {
        let flags = libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to live memory.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        let error = io::Error::last_os_error();
        if received >= 0 {
            break received;
        } else if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    if received == 0 {
        return Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the process that places probes was killed",
        ));
    }
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    // SAFETY: the kernel has filled in the header if there is one, and what follows is a descriptor
    // that is ours alone.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let fd = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn io_vector(errno: &mut i32) -> libc::iovec {
    libc::iovec {
        iov_base: ptr::from_mut(errno).cast(),
        iov_len: size_of::<i32>(),
    }
}

fn message(data: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data;
    message.msg_iovlen = 1;
    message
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn descriptors_and_errors_arrive_in_order() {
        let (here, there) = pair().unwrap();
        assert!(send(
            &there,
            Ok(File::open("/proc/self/comm").unwrap().into())
        ));
        assert!(send(&there, Err(io::Error::from_raw_os_error(libc::EBADF))));
        let mut text = String::new();
        File::from(receive(&here).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert!(!text.is_empty());
        let error = receive(&here).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn an_end_that_is_gone_is_told() {
        let (here, there) = pair().unwrap();
        drop(there);
        assert_eq!(
            receive(&here).unwrap_err().kind(),
            io::ErrorKind::Interrupted
        );
        let (here, there) = pair().unwrap();
        drop(here);
        assert!(!send(&there, Err(io::Error::from_raw_os_error(libc::EIO))));
    }
}
