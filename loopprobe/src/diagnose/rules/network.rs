//! In connect, send, recv and the like, or reading, writing or polling a socket.

use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object, syscall::Waits},
    model::Cause,
};

/// A socket.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Network,
    label: "network I/O",
    colour: Colour::Net,
    recognised: "in connect, accept, send or recv, or reading, writing or polling a socket, blocked or on the CPU",
    advice: "use tokio::net or an async client, or move the client into tokio::task::spawn_blocking",
    applies: is_network,
};

/// The standard library's functions of sockets.
const STDS: &[&str] = &["std::net::", "std::os::unix::net::", "std::sys::net::"];

fn is_network(moment: &Moment<'_>) -> bool {
    let socket = || {
        moment
            .objects()
            .any(|object| matches!(object, Object::Socket(_)))
    };
    match moment.waits() {
        Some(Waits::Socket) => true,
        // Below a function of files, the file has been closed meanwhile, and its descriptor is a
        // connection's by now.
        Some(Waits::Descriptor) if socket() => !moment.calls(super::file_io::STDS),
        Some(Waits::Descriptor) => moment.object.is_none() && moment.calls(STDS),
        Some(Waits::Poll | Waits::Events) => {
            socket() || moment.calls(STDS) || moment.calls(&["TcpStream"])
        }
        _ => false,
    }
}
