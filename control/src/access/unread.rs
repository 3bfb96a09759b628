//! How much of the answers to a client waits until that reads it.

use super::standing::last_frame;
use super::{Access, Caller};
use crate::quota::WAITING_BYTES_MAX;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// The answer of a method that answers once, counted until it is read; RESOURCE_EXHAUSTED instead if too much would wait.
pub struct Unread {
    /// `None` = it has ended.
    body: Option<Body>,
    caller: Caller,
    access: Arc<Access>,
}

impl Unread {
    pub fn new(body: Body, caller: Caller, access: Arc<Access>) -> Unread {
        Unread { body: Some(body), caller, access }
    }

    /// HTTP/2 asks for what there is also while its client lets it send nothing, so from here on all of an answer is in memory.
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(trailers) => return Ok(trailers),
        };
        if let Some(held) = self.caller.quota().answers().hold(bytes) {
            return Ok(Frame::data(held));
        }
        self.body = None;
        self.access.refusals.unread.add(1);
        let cure = "read them, or ask for smaller pages";
        let name = self.caller.name();
        let text =
            format!("{name} has up to {WAITING_BYTES_MAX} bytes of answers that wait to be read: {cure}");
        last_frame(&Status::resource_exhausted(text))
    }
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| self.count(frame?)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
