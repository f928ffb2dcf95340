//! Where a receiver of OTLP is, and which of its two transports is spoken there.

use std::fmt;

use crate::export::remote::Header;

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// OTLP over HTTP: the URL before `/v1/traces`.
    Http(String),
    /// OTLP over gRPC.
    Grpc {
        /// Host and port.
        authority: String,
        /// Whether with TLS.
        tls: bool,
    },
}

impl Address {
    /// Why a header cannot be sent there; `None` if it can.
    ///
    /// gRPC keeps some names for itself, and encodes what ends with `-bin` ("Custom-Metadata" in
    /// its `doc/PROTOCOL-HTTP2.md`).
    pub fn refusal(&self, header: &Header) -> Option<String> {
        let Self::Grpc { .. } = self else {
            return None;
        };
        let name = header.name();
        if name.ends_with("-bin") {
            return Some(format!(
                "the header `{name}` cannot be sent over gRPC: what is called `-bin` has a binary value there; give it another \
                 name"
            ));
        }
        let is_own = name.starts_with("grpc-")
            || matches!(
                name,
                "te" | "content-type" | "user-agent" | "host" | "connection" | "transfer-encoding"
            );
        is_own.then(|| {
            format!(
                "the header `{name}` cannot be sent over gRPC, which sets it itself; leave it out"
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Grpc { authority, tls } => {
                let scheme = if *tls { "grpcs" } else { "grpc" };
                write!(f, "{scheme}://{authority}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_takes_only_headers_that_arrive_as_they_are() {
        let grpc = Address::Grpc {
            authority: "a:1".to_owned(),
            tls: true,
        };
        assert_eq!(grpc.to_string(), "grpcs://a:1");
        for (header, why) in [
            ("x-id-bin=1", "binary value"),
            ("GRPC-Timeout=1", "`grpc-timeout`"),
            ("Content-Type=1", "sets it itself"),
        ] {
            let header = header.parse().unwrap();
            assert!(grpc.refusal(&header).unwrap().contains(why));
            assert_eq!(Address::Http("http://a".to_owned()).refusal(&header), None);
        }
        assert_eq!(grpc.refusal(&"Authorization=b".parse().unwrap()), None);
    }
}
