//! Metrics: what Prometheus scrapes is what the target and the session say.

mod address;
mod figures;
mod prometheus;
mod threshold;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

/// A port that nobody listens at just now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Head and body of the answer to a Prometheus of today.
fn get(port: u16, path: &str) -> Result<(String, String)> {
    get_as(
        port,
        path,
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    )
}

fn get_as(port: u16, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let (mut head, mut body) = (String::new(), String::new());
    while reader.read_line(&mut head)? > 2 {}
    reader.read_to_string(&mut body)?;
    Ok((head, body))
}

/// Each sample by its name with labels.
fn samples(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context(line.to_owned())?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn scraped(port: u16) -> Result<BTreeMap<String, f64>> {
    let (head, body) = get(port, "/metrics")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    ensure!(body.ends_with("# EOF\n"), "{body}");
    samples(&body)
}
