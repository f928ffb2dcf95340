//! Addresses of receivers: of webhooks, of OTLP, of profiles.

use ureq::http::{Uri, uri::InvalidUri};

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
    // An IPv6 address ends with a bracket.
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    match port.filter(|port| !port.ends_with(']')) {
        Some(port) if port.parse::<u16>().is_err() => Err(format!("`{port}` is no port")),
        _ => Ok(text.to_owned()),
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

/// Takes the URL of a receiver of OTLP over HTTP: what is before `/v1/traces`.
pub(super) fn parse_otlp_url(text: &str) -> Result<String, String> {
    if text.starts_with("grpc://") || text.starts_with("grpcs://") {
        return Err(
            "loopprobe speaks OTLP over HTTP only, not over gRPC; give the receiver's OTLP/HTTP address, whose port is 4318 by \
             default: 'http://127.0.0.1:4318'"
                .to_owned(),
        );
    }
    let url = parse_base_url(text)?;
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        if let Some(base) = url.strip_suffix(path) {
            return Err(format!("{path} is added to it; give '{base}'"));
        }
    }
    Ok(url)
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
    fn an_otlp_url_is_what_is_before_the_paths() {
        assert_eq!(
            parse_otlp_url("http://a:4318/").as_deref(),
            Ok("http://a:4318")
        );
        assert_eq!(
            parse_otlp_url("https://a/otlp").as_deref(),
            Ok("https://a/otlp")
        );
        assert!(
            parse_otlp_url("grpc://a:4317")
                .unwrap_err()
                .contains("not over gRPC")
        );
        assert!(
            parse_otlp_url("http://a/v1/traces")
                .unwrap_err()
                .contains("'http://a'")
        );
        assert!(parse_otlp_url("http://a?x=1").is_err());
    }
}
