//! Addresses of receivers: of webhooks, of OTLP, of profiles.

use ureq::http::{
    Uri,
    uri::{Authority, InvalidUri},
};

use crate::export::otlp::Address;

/// What OTLP over gRPC listens at by default, as its specification has it.
const OTLP_GRPC_PORT: u16 = 4317;

/// Takes an `http` or `https` URL.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with('/') => {}
        _ => return Err("it begins with neither http:// nor https://".to_owned()),
    }
    let url: Uri = text
        .parse()
        .map_err(|error: InvalidUri| error.to_string())?;
    if let Some(authority) = url.authority() {
        port(authority)?;
    }
    Ok(text.to_owned())
}

/// The port that an address names.
fn port(authority: &Authority) -> Result<Option<u16>, String> {
    let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
    // An IPv6 address ends with a bracket.
    match port.filter(|port| !port.ends_with(']')) {
        Some(port) => match port.parse() {
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(format!("`{port}` is no port")),
        },
        None => Ok(None),
    }
}

/// Takes the URL that paths are put behind.
pub(super) fn parse_base_url(text: &str) -> Result<String, String> {
    let url = parse_url(text)?;
    if url.contains(['?', '#']) {
        return Err("it has a query or a fragment; give the receiver's address alone".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Takes the URL of a receiver of OTLP: over gRPC, or over HTTP, where it is what is before
/// `/v1/traces`.
pub(super) fn parse_otlp_url(text: &str) -> Result<Address, String> {
    match text.split_once("://") {
        Some(("grpc", rest)) => grpc(rest, false),
        Some(("grpcs", rest)) => grpc(rest, true),
        Some(("http" | "https", _)) => otlp_over_http(text).map(Address::Http),
        _ => Err(
            "it begins with none of http://, https://, grpc:// and grpcs://; give 'http://HOST:4318' for OTLP over HTTP, or \
             'grpc://HOST:4317' for OTLP over gRPC"
                .to_owned(),
        ),
    }
}

fn otlp_over_http(text: &str) -> Result<String, String> {
    let url = parse_base_url(text)?;
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        if let Some(base) = url.strip_suffix(path) {
            return Err(format!("{path} is added to it; give '{base}'"));
        }
    }
    Ok(url)
}

fn grpc(rest: &str, tls: bool) -> Result<Address, String> {
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let address = |authority: String| Address::Grpc { authority, tls };
    if !["", "/"].contains(&path) {
        let alone = address(host.to_owned());
        return Err(format!("gRPC has no paths; give '{alone}'"));
    }
    if host.contains('@') {
        return Err(
            "it has a user's name; give that with --otlp-header authorization=...".to_owned(),
        );
    }
    let authority: Authority = host
        .parse()
        .map_err(|error: InvalidUri| error.to_string())?;
    if authority.host().is_empty() {
        return Err("it has no host; give 'grpc://HOST:4317'".to_owned());
    }
    Ok(address(match port(&authority)? {
        Some(_) => host.to_owned(),
        None => format!("{host}:{OTLP_GRPC_PORT}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_http_and_has_a_host() {
        for url in [
            "http://a",
            "https://a.b:1/c?d=e",
            "http://[::1]",
            "http://[::1]:8/x",
        ] {
            assert_eq!(parse_url(url).as_deref(), Ok(url));
        }
        for wrong in [
            "a:1",
            "ftp://a",
            "http://",
            "http:///a",
            "http://a b",
            "http://a:x",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_otlp_url_over_http_is_what_is_before_the_paths() {
        let url = |text| parse_otlp_url(text).map(|address| address.to_string());
        assert_eq!(url("http://a:4318/").as_deref(), Ok("http://a:4318"));
        assert_eq!(url("https://a/otlp").as_deref(), Ok("https://a/otlp"));
        assert!(
            url("http://a/v1/traces")
                .unwrap_err()
                .contains("'http://a'")
        );
        assert!(url("http://a?x=1").is_err());
        assert!(url("a:4318").unwrap_err().contains("grpc://HOST:4317"));
    }

    #[test]
    fn an_otlp_url_over_grpc_is_a_host_and_a_port() {
        let grpc = |authority: &str, tls| {
            let authority = authority.to_owned();
            Ok(Address::Grpc { authority, tls })
        };
        assert_eq!(parse_otlp_url("grpc://a"), grpc("a:4317", false));
        assert_eq!(parse_otlp_url("grpc://a:1/"), grpc("a:1", false));
        assert_eq!(parse_otlp_url("grpcs://a.b:443"), grpc("a.b:443", true));
        assert_eq!(parse_otlp_url("grpc://[::1]"), grpc("[::1]:4317", false));
        for (wrong, said) in [
            ("grpcs://a:1/v1/traces", "give 'grpcs://a:1'"),
            ("grpc://a?b", "give 'grpc://a'"),
            ("grpc://u:p@a:1", "--otlp-header authorization="),
            ("grpc://a:x", "`x` is no port"),
            ("grpc://a:", "`` is no port"),
            ("grpc://:1", "no host"),
            ("grpc://", ""),
            ("grpc://a b", ""),
        ] {
            let error = parse_otlp_url(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
