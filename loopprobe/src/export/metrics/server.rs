//! The thread that answers `GET /metrics`, in OpenMetrics or Prometheus' older format.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tiny_http::{Header, Method, Request, Response};

use super::shown::Shown;

/// As in the OpenMetrics specification, version 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Prometheus' older format, for all who do not ask for the other.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A thread that answers `GET /metrics`.
pub(super) struct Server {
    http: Arc<tiny_http::Server>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.address).finish()
    }
}

impl Server {
    /// Answers with what is shown, until it is dropped.
    pub(super) fn start(listener: TcpListener, shown: Arc<Shown>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let http = Arc::new(http);
        let served = Arc::clone(&http);
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                for request in served.incoming_requests() {
                    // Whoever asked may have gone.
                    let _ = answer(request, &shown);
                }
            })?;
        Ok(Self {
            http,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.http.unblock();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told already.
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, shown: &Shown) -> io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default();
    match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {}
        (Method::Get | Method::Head, _) => {
            let hint = Response::from_string("loopprobe's metrics are at /metrics\n");
            return request.respond(hint.with_status_code(404));
        }
        _ => return request.respond(Response::empty(405)),
    }
    let takes_open_metrics = takes_open_metrics(&request);
    let Ok(mut text) = shown.text() else {
        return request.respond(Response::empty(500));
    };
    let content_type = if takes_open_metrics {
        OPEN_METRICS
    } else {
        text = in_older_format(&text);
        PROMETHEUS
    };
    let mut response = Response::from_string(text);
    if let Ok(header) = Header::from_bytes("Content-Type", content_type) {
        response = response.with_header(header);
    }
    request.respond(response)
}

fn takes_open_metrics(request: &Request) -> bool {
    let mut headers = request.headers().iter();
    headers.any(|header| {
        header.field.equiv("Accept")
            && header
                .value
                .as_str()
                .contains("application/openmetrics-text")
    })
}

/// There a counter's own name ends with `_total`, and units and the end of the text have no line.
fn in_older_format(text: &str) -> String {
    let counters: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                let _ = writeln!(older, "# {what} {name}_total {rest}");
            }
            _ => {
                let _ = writeln!(older, "{line}");
            }
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_whole_name_in_the_older_format() {
        let text = "# HELP a_seconds Of it.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n\
                    # HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let older = "# HELP a_seconds_total Of it.\n# TYPE a_seconds_total counter\na_seconds_total 1\n\
                     # HELP b B.\n# TYPE b gauge\nb 2\n";
        assert_eq!(in_older_format(text), older);
    }
}
