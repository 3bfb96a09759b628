//! A collector: the service that OTLP itself defines, which keeps what it is sent.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A span that was sent, and who sent it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub resource: BTreeMap<String, String>,
    pub span: Span,
}

impl Sent {
    pub fn attributes(&self) -> BTreeMap<String, String> {
        texts(&self.span.attributes)
    }

    pub fn attribute(&self, key: &str) -> Option<String> {
        self.attributes().remove(key)
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    attributes.iter().filter_map(|one| Some((one.key.clone(), text(one)?))).collect()
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Sent>>>);

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for sent in request.into_inner().resource_spans {
            let resource = texts(&sent.resource.unwrap_or_default().attributes);
            let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| Sent { resource: resource.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

/// An address that is taken, though nobody listens there.
pub struct Place {
    socket: TcpSocket,
    pub url: String,
}

impl Place {
    pub fn take() -> Place {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        Place { socket, url }
    }
}

pub struct Collector {
    kept: Kept,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start(place: Place) -> Collector {
        let kept = Kept::default();
        let (service, (end, ended)) = (TraceServiceServer::new(kept.clone()), oneshot::channel());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = TcpListenerStream::new(place.socket.listen(64).unwrap());
                let served = Server::builder().add_service(service).serve_with_incoming(incoming);
                tokio::select! {
                    served = served => served.unwrap(),
                    _ = ended => {}
                }
            });
        };
        Collector { kept, end: Some(end), thread: Some(std::thread::spawn(serve)) }
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.kept.0.lock().unwrap().clone()
    }

    /// The first of which this is so, if it is there.
    pub fn find(&self, is_it: impl Fn(&Sent) -> bool) -> Option<Sent> {
        self.sent().into_iter().find(is_it)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().unwrap().join();
    }
}
