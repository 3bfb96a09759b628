//! The layer around all others: a span for each call.

use super::call::{Answer, Call};
use opentelemetry_sdk::trace::SdkTracer;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

#[derive(Clone)]
pub struct TraceLayer(SdkTracer);

impl TraceLayer {
    pub(super) fn new(tracer: SdkTracer) -> TraceLayer {
        TraceLayer(tracer)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { tracer: self.0.clone(), inner }
    }
}

#[derive(Clone)]
pub struct Traced<S> {
    tracer: SdkTracer,
    inner: S,
}

impl<S> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = Call::begin(&self.tracer, &request);
        request.extensions_mut().insert(call.findings.clone());
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            // Whoever refuses a call answers it by headers alone.
            Ok(match Status::from_header_map(response.headers()) {
                Some(status) => {
                    call.end(&status);
                    response
                }
                None => response.map(|body| Body::new(Answer::new(body, call))),
            })
        })
    }
}
