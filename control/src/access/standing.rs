//! Whether a client is still who it was when it called: if not, what it has open ends, whatever it is. And how much of it waits to be read.

use super::Access;
use crate::quota::{Answers, WAITING_BYTES_MAX};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;
use tonic::{Response, Status};

/// True once the client was deleted, or its role, what it may see, or its token changed. Cheap to look at.
#[derive(Clone, Debug)]
pub struct Standing(watch::Receiver<bool>);

impl Standing {
    /// A standing, and what ends it.
    pub fn new() -> (watch::Sender<bool>, Standing) {
        let (sender, receiver) = watch::channel(false);
        (sender, Standing(receiver))
    }

    /// Whether it was ended.
    pub fn is_over(&self) -> bool {
        *self.0.borrow()
    }

    /// Until it is ended; never, if nobody can end it any more.
    async fn revoked(mut self) {
        if self.0.wait_for(|revoked| *revoked).await.is_err() {
            std::future::pending().await
        }
    }
}

/// In the extensions of a response: it is told to whoever asked, even if what was asked for made another of that client.
#[derive(Clone, Copy, Debug)]
pub struct FinalAnswer;

impl FinalAnswer {
    pub fn of<T>(message: T) -> Response<T> {
        let mut response = Response::new(message);
        response.extensions_mut().insert(FinalAnswer);
        response
    }
}

type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the answer to a call is counted until it is read. A stream has a place instead.
pub struct Unread {
    pub answers: Arc<Answers>,
    pub access: Arc<Access>,
}

/// A response for as long as its client stands; then its end is PERMISSION_DENIED. An answer with which too much would wait to be
/// read is RESOURCE_EXHAUSTED instead.
pub struct Standings {
    /// `None` = it has ended.
    body: Option<Body>,
    client: String,
    standing: Standing,
    /// `None` = it is a stream.
    unread: Option<Unread>,
    /// Made by the first wait: most responses are there at once.
    revoked: Option<Revoked>,
}

impl Standings {
    pub fn new(body: Body, client: String, standing: Standing, unread: Option<Unread>) -> Standings {
        Standings { body: Some(body), client, standing, unread, revoked: None }
    }

    fn end(&mut self, status: Status) -> Result<Frame<Bytes>, Status> {
        // Whoever makes what comes sees that nobody takes it any more.
        self.body = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }

    fn revoke(&mut self) -> Result<Frame<Bytes>, Status> {
        let what = "was deleted, or what it may do was changed: call again, if it still may";
        self.end(Status::permission_denied(format!("{} {what}", self.client)))
    }

    /// HTTP/2 asks for what there is also while its client lets it send nothing, so from here on all of an answer is in memory.
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        let Some(Unread { answers, access }) = &self.unread else { return Ok(frame) };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(trailers) => return Ok(trailers),
        };
        if let Some(held) = answers.hold(bytes) {
            return Ok(Frame::data(held));
        }
        access.refusals.unread.add(1);
        let cure = "read them, or ask for smaller pages";
        let client = &self.client;
        let text =
            format!("{client} has up to {WAITING_BYTES_MAX} bytes of answers that wait to be read: {cure}");
        self.end(Status::resource_exhausted(text))
    }
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
        if this.standing.is_over() {
            return Poll::Ready(Some(this.revoke()));
        }
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| this.count(frame?)));
        }
        let standing = this.standing.clone();
        let revoked = this.revoked.get_or_insert_with(|| Box::pin(standing.revoked()));
        match revoked.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(this.revoke())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
