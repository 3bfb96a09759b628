//! One call's span.

use crate::access;
use http_body::{Frame, SizeHint};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{self, Span as _, SpanKind, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, ready};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Request};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a method that there is not is called: a caller may ask for any, and names of spans are to be few.
const OTHER: &str = "_OTHER";
const TRACEPARENT: &str = "traceparent";
/// Those that say that the server failed, not the caller (semantic conventions for gRPC, the server's spans).
const ERRORS: [Code; 6] = [
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
];

/// What the layers within found out about a call; in the extensions of a request that is traced.
#[derive(Clone, Default)]
pub struct Findings(Arc<Found>);

#[derive(Default)]
struct Found {
    client: OnceLock<String>,
    is_charged: AtomicBool,
}

impl Findings {
    /// The client that calls.
    pub fn client(&self, name: &str) {
        let _ = self.0.client.set(name.to_owned());
    }

    /// The call was charged to its quota.
    pub fn charged(&self) {
        self.0.is_charged.store(true, Ordering::Relaxed);
    }
}

/// A call that goes on. If it is dropped before it has ended, its caller went away: CANCELLED.
pub(super) struct Call {
    span: Span,
    pub(super) findings: Findings,
}

impl Call {
    pub(super) fn begin(tracer: &SdkTracer, request: &Request<Body>) -> Call {
        let path = request.uri().path();
        let method = path.strip_prefix('/').filter(|_| access::is_method(path));
        let mut attributes = vec![KeyValue::new("rpc.system", "grpc")];
        match method.and_then(|method| method.split_once('/')) {
            Some((service, method)) => {
                attributes.push(KeyValue::new("rpc.service", service.to_owned()));
                attributes.push(KeyValue::new("rpc.method", method.to_owned()));
            }
            None => attributes.push(KeyValue::new("rpc.method", OTHER)),
        }
        if let Some(from) = access::address_of(request.extensions()) {
            attributes.push(KeyValue::new("network.peer.address", from.ip().to_string()));
            attributes.push(KeyValue::new("network.peer.port", i64::from(from.port())));
        }
        let headers = Headers::of(request.headers());
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = tracer
            .span_builder(method.unwrap_or(OTHER).to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent);
        Call { span, findings: Findings::default() }
    }

    pub(super) fn end(mut self, status: &Status) {
        self.tell(status);
    }

    fn tell(&mut self, status: &Status) {
        // It has ended, or whoever called does not want it traced.
        if !self.span.is_recording() {
            return;
        }
        self.span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(status.code()))));
        let Found { client, is_charged } = &*self.findings.0;
        if let Some(name) = client.get() {
            self.span.set_attribute(KeyValue::new("enduser.id", name.clone()));
        }
        // Who is refused is told which limit it was, whether the call was one too many or what it was to be sent.
        let failure = status.get_details_quota_failure();
        if let Some(limit) = failure.and_then(|failure| failure.violations.into_iter().next()) {
            self.span.set_attribute(KeyValue::new("tickplane.quota.outcome", "refused"));
            self.span.set_attribute(KeyValue::new("tickplane.quota.limit", limit.description));
        } else if is_charged.load(Ordering::Relaxed) {
            self.span.set_attribute(KeyValue::new("tickplane.quota.outcome", "admitted"));
        }
        if ERRORS.contains(&status.code()) {
            self.span.set_status(trace::Status::error(status.message().to_owned()));
        }
        self.span.end();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.tell(&Status::cancelled("the caller went away"));
    }
}

/// The answer of a call, whose end is the call's.
pub(super) struct Answer {
    body: Body,
    /// `None` = it has ended.
    call: Option<Call>,
}

impl Answer {
    pub(super) fn new(body: Body, call: Call) -> Answer {
        Answer { body, call: Some(call) }
    }

    fn end(&mut self, status: &Status) {
        self.call.take().into_iter().for_each(|call| call.end(status));
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.end(&status);
                }
            }
            Some(Err(status)) => self.end(status),
            None => self.end(&Status::unknown("the answer ended without a status")),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Headers as a propagator reads them.
struct Headers<'h> {
    all: &'h HeaderMap,
    traceparent: Option<String>,
}

impl<'h> Headers<'h> {
    fn of(all: &'h HeaderMap) -> Headers<'h> {
        let traceparent = all.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        Headers { all, traceparent: traceparent.map(with_known_flags) }
    }
}

/// The propagator refuses flags that it does not know, of which W3C's second level has one (random trace id, 0x02): only
/// `sampled` (0x01) is left.
fn with_known_flags(traceparent: &str) -> String {
    let parts = traceparent.strip_prefix("00-").and_then(|rest| rest.rsplit_once('-'));
    let flags = parts.and_then(|(ids, flags)| Some((ids, u8::from_str_radix(flags, 16).ok()?)));
    flags.map_or_else(|| traceparent.to_owned(), |(ids, flags)| format!("00-{ids}-{:02x}", flags & 1))
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key == TRACEPARENT {
            return self.traceparent.as_deref();
        }
        self.all.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.all.keys().map(|name| name.as_str()).collect()
    }
}
