//! A receiver of what loopprobe sends, which answers as a test wants.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver as Channel, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tiny_http::{Header, Request, Response, Server};

/// A request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Path and query.
    pub url: String,
    /// By name, in small letters.
    pub headers: Vec<(String, String)>,
    /// What was posted.
    pub body: Vec<u8>,
    /// When it was here.
    pub at: Instant,
}

impl Sent {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.url.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(own, _)| *own == name)?;
        let mut bytes = value.bytes();
        let mut decoded = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                decoded.push(u8::from_str_radix(digits, 16).ok()?);
            } else {
                decoded.push(byte);
            }
        }
        String::from_utf8(decoded).ok()
    }
}

/// What a receiver does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200, with this body.
    Take(Vec<u8>),
    /// This status, and after how many seconds the request may come again.
    Refuse(u16, Option<u32>),
    /// Nothing, ever.
    Hang,
}

/// A server on loopback; ends when it is dropped.
pub struct Receiver {
    url: String,
    sent: Channel<Sent>,
    _server: Box<dyn Send>,
}

/// Ends the server when it is dropped.
struct Http {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// What is told of requests in `sent`, for as long as `server` lives.
    pub(crate) fn new(url: String, sent: Channel<Sent>, server: impl Send + 'static) -> Self {
        Self {
            url,
            sent,
            _server: Box::new(server),
        }
    }

    /// Answers each request over HTTP as `answer` says, which is given it and how many came before.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(answer: impl Fn(usize, &Sent) -> Answer + Send + 'static) -> Result<Self> {
        let server = Server::http("127.0.0.1:0").map_err(anyhow::Error::from_boxed)?;
        let server = Arc::new(server);
        let url = format!(
            "http://{}",
            server.server_addr().to_ip().context("an address")?
        );
        let (served, (tell, sent)) = (Arc::clone(&server), channel());
        let thread = thread::spawn(move || {
            let mut hanging = Vec::new();
            for (number, mut request) in served.incoming_requests().enumerate() {
                let Ok(taken) = read(&mut request) else {
                    continue;
                };
                let answer = answer(number, &taken);
                let _ = tell.send(taken);
                let _ = match answer {
                    Answer::Take(body) => request.respond(Response::from_data(body)),
                    Answer::Refuse(status, after) => {
                        let mut response = Response::empty(status);
                        if let Some(after) = after {
                            let header = Header::from_bytes("Retry-After", after.to_string());
                            response.add_header(header.expect("a header"));
                        }
                        request.respond(response)
                    }
                    Answer::Hang => {
                        hanging.push(request);
                        Ok(())
                    }
                };
            }
        });
        let thread = Some(thread);
        Ok(Self::new(url, sent, Http { server, thread }))
    }

    /// Takes all, over HTTP.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn willing() -> Result<Self> {
        Self::start(|_, _| Answer::Take(Vec::new()))
    }

    /// `http://127.0.0.1:1234`
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What has come so far and was not asked for yet.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.try_iter().collect()
    }

    /// The next one.
    ///
    /// # Errors
    /// When none comes within `timeout`.
    pub fn next(&self, timeout: Duration) -> Result<Sent> {
        Ok(self.sent.recv_timeout(timeout)?)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(request: &mut Request) -> std::io::Result<Sent> {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body)?;
    let headers = request.headers().iter();
    let headers = headers.map(|header| {
        let name = header.field.as_str().as_str().to_ascii_lowercase();
        (name, header.value.as_str().to_owned())
    });
    Ok(Sent {
        url: request.url().to_owned(),
        headers: headers.collect(),
        body,
        at: Instant::now(),
    })
}
