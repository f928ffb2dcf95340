//! What a system call was about: a file, socket, pipe, terminal, futex, or several of them.

/// What a system call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A file or a folder.
    File {
        /// Its path, as the process sees it.
        path: String,
        /// If it is being opened: whether to read it.
        opened_to_read: Option<bool>,
    },
    /// A file that is to be locked.
    Locked(LockedFile),
    /// A socket.
    Socket(Socket),
    /// A pipe.
    Pipe(Pipe),
    /// A terminal.
    Terminal {
        /// Its descriptor.
        fd: u32,
        /// Its path.
        path: String,
    },
    /// A futex.
    Futex {
        /// The thread that holds the lock, where the lock says so, as the process numbers its
        /// threads.
        holder: Option<u32>,
    },
    /// Anything else that has a file descriptor, by the kernel's name for it:
    /// `anon_inode:[eventpoll]`.
    Other {
        /// That name.
        name: String,
    },
    /// Several that are waited for at once.
    Any(Vec<Object>),
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Its descriptor, where the call has one.
    pub fd: Option<u32>,
    /// `tcp`, `udp`, `unix`; `socket` where it is not known.
    pub protocol: String,
    /// The other end: an address and a port, or a path.
    pub peer: Option<String>,
    /// Whether calls on it wait (`O_NONBLOCK` is not set), where that could be read.
    pub blocking: Option<bool>,
    /// Whether an epoll instance of the process watches it: an event loop knows it.
    pub watched: bool,
}

/// A file that is to be locked, as a whole or in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedFile {
    /// Its path, as the process sees it; `None` where it has been closed since.
    pub path: Option<String>,
    /// Its inode.
    pub inode: u64,
    /// The other processes that hold a lock on it, `name (pid)`, where they were looked for.
    pub holders: Vec<String>,
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// Its descriptor; `None` of a named one that is being opened.
    pub fd: Option<u32>,
    /// The pipe's inode: both ends have the same.
    pub inode: u64,
    /// Whether the thread read from it; otherwise it wrote to it.
    pub reads: bool,
    /// The processes at its other end, `name (pid)`, where they were looked for.
    pub peers: Vec<String>,
    /// Whether one of them is a child of the process.
    pub child: bool,
}

impl Object {
    /// Itself or, of several, each of them.
    pub(crate) fn each(&self) -> std::slice::Iter<'_, Object> {
        match self {
            Self::Any(several) => several.iter(),
            one => std::slice::from_ref(one).iter(),
        }
    }

    /// Whether it is a socket of a name server: any with port 53, or those of the resolvers that
    /// listen on a path.
    pub(crate) fn is_resolver(&self) -> bool {
        let Self::Socket(Socket {
            peer: Some(peer), ..
        }) = self
        else {
            return false;
        };
        peer.ends_with(":53") || peer.contains("/nscd/socket") || peer.contains("/systemd/resolve/")
    }

    /// Whether it is where a program's output goes: a pipe or a terminal or, as standard output or
    /// error, a local socket.
    pub(crate) fn is_output(&self) -> bool {
        match self {
            Self::Pipe(_) | Self::Terminal { .. } => true,
            Self::Socket(socket) => socket.protocol == "unix" && matches!(socket.fd, Some(1 | 2)),
            _ => false,
        }
    }
}
