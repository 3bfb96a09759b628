//! Whether a client is still who it was when it called: if not, what it has open ends, whatever it is.

use super::Caller;
use crate::bell::{Bell, Listener};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;

/// Whether a client is still who it was. Cheap to look at: each delivery does.
#[derive(Debug, Default)]
pub struct Standing(AtomicBool);

impl Standing {
    /// Whether the client was deleted, or its role, what it may see, or its token changed.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Ends it for good; whoever does rings the bell for news behind it.
    pub fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The answer of a method that streams, for as long as its client stands; then its end is PERMISSION_DENIED.
pub struct Standings {
    /// `None` = it has ended.
    body: Option<Body>,
    caller: Caller,
    news: Listener,
}

impl Standings {
    /// The bell is rung when a standing has ended.
    pub fn new(body: Body, caller: Caller, news_bell: &Arc<Bell>) -> Standings {
        Standings { body: Some(body), caller, news: Listener::new(news_bell) }
    }

    fn end(&mut self) -> Result<Frame<Bytes>, Status> {
        // Whoever makes what comes sees that nobody takes it any more.
        self.body = None;
        let what = "was deleted, or what it may do was changed: call again, if it still may";
        last_frame(&Status::permission_denied(format!("{} {what}", self.caller.name())))
    }
}

/// How an answer ends that has begun.
pub(super) fn last_frame(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

impl http_body::Body for Standings {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        loop {
            this.news.listen();
            if this.caller.standing().is_over() {
                return Poll::Ready(Some(this.end()));
            }
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                return Poll::Ready(frame);
            }
            ready!(this.news.poll_rung(context));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
