//! A loopback server that answers late, and a name server that does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use targets::control;
use targets::truth::span;

use crate::{pause, LONG_MS};

/// Starts the server; it answers each byte after a while.
fn late_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut byte = [0_u8];
        while stream.read_exact(&mut byte).is_ok() {
            std::thread::sleep(Duration::from_millis(LONG_MS));
            let _ = stream.write_all(&byte);
        }
    });
    address
}

// @network_task
pub async fn network_task(rounds: u32) {
    let address = late_server();
    control::say(&format!(r#"{{"type":"peer","address":"{address}"}}"#));
    let mut stream = TcpStream::connect(address).expect("the server listens");
    for _ in 0..rounds {
        network_child(&mut stream).await;
    }
}

// @network_child
async fn network_child(stream: &mut TcpStream) {
    pause().await;
    network_call(stream);
}

#[inline(never)]
// @network_call
fn network_call(stream: &mut TcpStream) {
    let _span = span("network");
    stream.write_all(b"?").expect("the server lives");
    let mut answer = [0_u8];
    stream.read_exact(&mut answer).expect("the server answers");
}

// @dns_task
pub async fn dns_task(rounds: u32) {
    for round in 0..rounds {
        dns_child(round).await;
    }
}

// @dns_child
async fn dns_child(round: u32) {
    pause().await;
    dns_call(&format!("host-{round}.test:80"));
}

#[inline(never)]
// @dns_call
fn dns_call(name: &str) {
    let _span = span("dns");
    let _ = name.to_socket_addrs();
}
