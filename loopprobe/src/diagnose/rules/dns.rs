use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object},
    model::Cause,
};

/// Resolving a name.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Dns,
    label: "name lookup",
    colour: Colour::Net,
    recognised: "blocked below getaddrinfo or a relative of it, or on a socket of a name server (port 53, nscd, systemd-resolved)",
    advice: "use tokio::net::lookup_host, which resolves on the blocking pool, or an async resolver",
    applies: |moment| moment.is_blocked() && moment.syscall.is_some() && is_resolving(moment),
};

/// Functions that resolve names, as the C library and the resolvers in Rust call them.
const RESOLVERS: &[&str] = &[
    "getaddrinfo",
    "getnameinfo",
    "gethostbyname",
    "gethostbyaddr",
    "getaddrinfo_a",
    "__res_",
    "res_query",
    "res_search",
    "_nss_dns_",
    "std::sys::net::connection::socket::lookup_host",
    "std::net::socket_addr::resolve_socket_addr",
];

fn is_resolving(moment: &Moment<'_>) -> bool {
    moment.calls(RESOLVERS) || moment.object.is_some_and(Object::is_resolver)
}
