//! Resolving a host name: below getaddrinfo, or on a socket of a name server.

use super::{Colour, Rule};
use crate::{
    diagnose::{Object, operation::Operation},
    model::Cause,
};

/// Resolving a name.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Dns,
    label: "name lookup",
    colour: Colour::Net,
    recognised: "below getaddrinfo or a relative of it, or blocked on a socket of a name server (port 53, nscd, systemd-resolved)",
    advice: "use tokio::net::lookup_host, which resolves on the blocking pool, or an async resolver",
    applies: |moment| {
        moment.operation == Some(Operation::Resolver)
            || moment.is_blocked() && moment.objects().any(Object::is_resolver)
    },
};
