//! Whom a socket talks to, from the tables in `/proc/PID/net` or from a system call's address.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Object, object::Socket};

/// A table of the kernel's that is longer is not read: it takes too long while the poll may end.
const MAX_TABLE_BYTES: usize = 16 << 20;

/// The socket with an inode number, from the tables of the process's network namespace.
pub(crate) fn socket(pid: u32, inode: u64) -> Socket {
    let found = ["tcp", "tcp6", "udp", "udp6"]
        .into_iter()
        .find_map(|table| {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok()?;
            let peer = peer(text.get(..text.len().min(MAX_TABLE_BYTES))?, inode)?;
            Some(Socket {
                protocol: table.trim_end_matches('6').to_owned(),
                peer,
                ..Socket::default()
            })
        });
    found
        .or_else(|| {
            let text = fs::read_to_string(format!("/proc/{pid}/net/unix")).ok()?;
            let path = unix_path(&text, inode)?;
            Some(Socket {
                protocol: "unix".to_owned(),
                peer: path,
                ..Socket::default()
            })
        })
        .unwrap_or_else(|| Socket {
            protocol: "socket".to_owned(),
            ..Socket::default()
        })
}

/// The remote address of a socket in a table like `/proc/net/tcp`
/// (`Documentation/networking/proc_net_tcp.rst`): the third column; the inode is the tenth. The
/// inner `None` is a socket without a peer.
fn peer(table: &str, inode: u64) -> Option<Option<String>> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if fields.get(9)?.parse() != Ok(inode) {
            return None;
        }
        let address = parse_address(fields.get(2)?)?;
        Some((address.port() != 0).then(|| address.to_string()))
    })
}

/// `0100007F:1F90`: the address's words in the machine's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_le_bytes)
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for index in 0..4 {
                bytes[index * 4..index * 4 + 4].copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The path of a unix socket (`Num RefCount Protocol Flags Type St Inode Path`), where it has one.
fn unix_path(table: &str, inode: u64) -> Option<Option<String>> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(6);
        (fields.next()?.parse() == Ok(inode)).then(|| fields.next().map(str::to_owned))
    })
}

/// A socket address as a system call passes it: the peer that it names.
pub(crate) fn parse_sockaddr(bytes: &[u8]) -> Option<Object> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let port = || Some(u16::from_be_bytes(*rest.first_chunk()?));
    let inet = |ip: IpAddr| {
        Some(Object::Socket(Socket {
            protocol: "inet".to_owned(),
            peer: Some(SocketAddr::new(ip, port()?).to_string()),
            ..Socket::default()
        }))
    };
    match i32::from(u16::from_le_bytes(*family)) {
        libc::AF_INET => inet(Ipv4Addr::from(*rest.get(2..)?.first_chunk::<4>()?).into()),
        libc::AF_INET6 => inet(Ipv6Addr::from(*rest.get(6..)?.first_chunk::<16>()?).to_canonical()),
        libc::AF_UNIX => {
            let path = rest
                .split(|&byte| byte == 0)
                .find(|part| !part.is_empty())?;
            Some(Object::Socket(Socket {
                protocol: "unix".to_owned(),
                peer: Some(String::from_utf8_lossy(path).into_owned()),
                ..Socket::default()
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsRawFd as _, unix::net::UnixListener},
    };

    use super::*;

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a link");
        let text = link.to_string_lossy().into_owned();
        text.trim_start_matches("socket:[")
            .trim_end_matches(']')
            .parse()
            .expect("an inode")
    }

    #[test]
    fn the_peer_of_a_live_socket_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let peer = listener.local_addr().expect("an address");
            let stream = TcpStream::connect(peer).expect("a connection");
            assert!(stream.as_raw_fd() >= 0);
            let expected = Socket {
                protocol: "tcp".to_owned(),
                peer: Some(peer.to_string()),
                ..Socket::default()
            };
            assert_eq!(socket(std::process::id(), inode(&stream)), expected);
        }
    }

    #[test]
    fn a_unix_socket_has_its_path() {
        let path = std::env::temp_dir().join(format!("loopprobe-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let found = socket(std::process::id(), inode(&listener));
        fs::remove_file(&path).expect("the socket's file");
        let expected = Socket {
            protocol: "unix".to_owned(),
            peer: Some(path.to_string_lossy().into_owned()),
            ..Socket::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn socket_addresses_are_read_from_memory() {
        let mut inet = vec![2, 0, 0, 53, 8, 8, 4, 4];
        inet.resize(16, 0);
        let found = parse_sockaddr(&inet).expect("an address");
        assert!(found.is_resolver(), "{found:?}");
        assert_eq!(parse_sockaddr(&[2, 0, 0]), None);
        assert_eq!(parse_sockaddr(&[1, 0, 0]), None);
        assert!(parse_sockaddr(b"\x01\0/run/nscd/socket\0").is_some_and(|it| it.is_resolver()));
    }
}
