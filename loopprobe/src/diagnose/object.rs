use serde::{Deserialize, Serialize};

/// What a system call was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A file or a folder.
    File {
        /// Its path, as the process sees it.
        path: String,
    },
    /// A socket.
    Socket {
        /// `tcp`, `udp`, `unix`; `socket` where it is not known.
        protocol: String,
        /// The other end: an address and a port, or a path.
        peer: Option<String>,
    },
    /// A pipe.
    Pipe,
    /// A futex.
    Futex {
        /// The thread that holds the lock, where the lock says so, as the process numbers its threads.
        holder: Option<u32>,
    },
    /// Anything else that has a file descriptor, by the kernel's name for it: `anon_inode:[eventpoll]`.
    Other {
        /// That name.
        name: String,
    },
}

impl Object {
    /// Whether it is a socket of a name server: any with port 53, or those of the resolvers that listen on a path.
    pub(crate) fn is_resolver(&self) -> bool {
        let Self::Socket {
            peer: Some(peer), ..
        } = self
        else {
            return false;
        };
        peer.ends_with(":53") || peer.contains("/nscd/socket") || peer.contains("/systemd/resolve/")
    }
}
