//! Against a receiver made of the protocol's own service: with TLS, and one that comes back.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread::{self, JoinHandle},
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::oneshot;
use tonic::{
    Response,
    transport::{
        Certificate, Identity, Server, ServerTlsConfig,
        server::{Router, TcpIncoming},
    },
};

use super::*;

struct Willing;

#[tonic::async_trait]
impl TraceService for Willing {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A receiver; ends when it is dropped.
struct Receiver {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(port: u16, tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server.add_service(TraceServiceServer::new(Willing));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || serve(router, listener, stopped));
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(router: Router, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::select! {
            outcome = router.serve_with_incoming(TcpIncoming::from(listener)) => outcome.unwrap(),
            _ = stopped => {}
        }
    });
}

fn grpc(receiver: &Receiver, tls: bool) -> Grpc {
    let authority = format!("localhost:{}", receiver.address.port());
    Grpc::new(authority, tls, Vec::new(), End::default())
}

fn batch() -> Batch {
    Batch::Traces(ExportTraceServiceRequest::default())
}

/// A certificate authority, and the receiver whose certificate it has signed.
fn with_tls() -> (Certificate, Receiver) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let identity = Identity::from_pem(own.pem(), key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let certificate = Certificate::from_pem(authority.pem());
    (certificate, Receiver::start(0, Some(tls)))
}

#[test]
fn tls_is_spoken_with_whom_is_trusted_and_with_no_other() {
    let (authority, receiver) = with_tls();
    let mut trusting = grpc(&receiver, true);
    trusting.tls = trusting.tls.map(|tls| tls.ca_certificate(authority));
    assert_eq!(trusting.export(&batch()).unwrap().count, 0);
    let doubting = grpc(&receiver, true).export(&batch()).unwrap_err();
    assert!(doubting.contains("UnknownIssuer"), "{doubting}");
    assert!(doubting.starts_with("grpcs://localhost:"), "{doubting}");
}

#[test]
fn who_is_spoken_to_without_the_tls_it_wants_is_told_by_its_answer() {
    let (_, receiver) = with_tls();
    let error = grpc(&receiver, false).export(&batch()).unwrap_err();
    assert!(
        error.contains("if it wants TLS, --otlp grpcs://localhost:"),
        "{error}"
    );
}

/// As Go's `net/http` answers, which collectors are made with.
#[test]
fn a_receiver_of_http_is_told_by_its_answer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream
                .write_all(b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n\r\n");
        }
    });
    let authority = format!("127.0.0.1:{port}");
    let mut grpc = Grpc::new(authority, false, Vec::new(), End::default());
    let error = grpc.export(&batch()).unwrap_err();
    let hint = format!("there, give --otlp http://127.0.0.1:{port}");
    assert!(error.contains(&hint), "{error}");
}

/// The connection is kept, and lost with the receiver.
#[test]
fn a_receiver_that_comes_back_is_found_again() {
    let receiver = Receiver::start(0, None);
    let port = receiver.address.port();
    let mut grpc = grpc(&receiver, false);
    grpc.export(&batch()).unwrap();
    drop(receiver);
    let error = grpc.export(&batch()).unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
    assert!(!error.contains("--otlp"), "{error}");
    let _receiver = Receiver::start(port, None);
    grpc.export(&batch()).unwrap();
}
