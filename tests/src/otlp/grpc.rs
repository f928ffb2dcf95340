//! A receiver of OTLP over gRPC, made of the protocol's own services.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::{runtime::Builder, sync::oneshot};
use tonic::{
    Code, Request, Response, Status,
    transport::{
        Server,
        server::{Router, TcpIncoming},
    },
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::receiver::{Answer, Receiver, Sent};

/// All three services, which are one.
#[derive(Clone)]
struct Service(Arc<Mutex<Desk>>);

/// How each is answered, by how many came before.
type Answering = Box<dyn Fn(usize, &Sent) -> Answer + Send>;

/// Where requests are answered, one after the other.
struct Desk {
    answer: Answering,
    tell: Sender<Sent>,
    /// How many have come.
    count: usize,
}

/// Ends the server when it is dropped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Answers each request as `answer` says.
pub(super) fn start(answer: impl Fn(usize, &Sent) -> Answer + Send + 'static) -> Result<Receiver> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let url = format!("grpc://{}", listener.local_addr()?);
    let (tell, sent) = channel();
    let service = Service(Arc::new(Mutex::new(Desk {
        answer: Box::new(answer),
        tell,
        count: 0,
    })));
    let router = Server::builder()
        .add_service(TraceServiceServer::new(service.clone()))
        .add_service(MetricsServiceServer::new(service.clone()))
        .add_service(LogsServiceServer::new(service));
    Ok(Receiver::new(url, sent, serve(router, listener)?))
}

fn serve(router: Router, listener: TcpListener) -> Result<Running> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
            let serving = router.serve_with_incoming(TcpIncoming::from(listener));
            // Also in the middle of a request.
            tokio::select! {
                outcome = serving => outcome.expect("it serves"),
                _ = stopped => {}
            }
        });
    });
    Ok(Running {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Service {
    async fn answer<A: Message + Default>(
        &self,
        url: &str,
        request: Request<impl Message>,
    ) -> Result<Response<A>, Status> {
        let headers = request.metadata().clone().into_headers();
        let headers = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        let sent = Sent {
            url: url.to_owned(),
            headers: headers.collect(),
            body: request.get_ref().encode_to_vec(),
            at: Instant::now(),
        };
        let answer = self.0.lock().expect("no panic").take(sent);
        match answer {
            Answer::Take(body) => A::decode(body.as_slice())
                .map(Response::new)
                .map_err(|error| Status::internal(error.to_string())),
            Answer::Refuse(status, after) => Err(refusal(status, after)),
            Answer::Hang => std::future::pending().await,
        }
    }
}

impl Desk {
    fn take(&mut self, sent: Sent) -> Answer {
        let answer = (self.answer)(self.count, &sent);
        self.count += 1;
        let _ = self.tell.send(sent);
        answer
    }
}

/// What HTTP calls `status`, with `RetryInfo` for `Retry-After`.
fn refusal(status: u16, after: Option<u32>) -> Status {
    let code = match status {
        400 => Code::InvalidArgument,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        other => panic!("no code for {other}"),
    };
    match after {
        Some(seconds) => {
            let delay = Duration::from_secs(seconds.into());
            let details = ErrorDetails::with_retry_info(Some(delay));
            Status::with_error_details(code, "not now", details)
        }
        None => Status::new(code, "no"),
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.answer("/v1/traces", request).await
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.answer("/v1/metrics", request).await
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.answer("/v1/logs", request).await
    }
}
