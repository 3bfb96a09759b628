//! Whether a client is still who it was when it called: if not, what it has open ends, whatever it is.

use super::Caller;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::HeaderMap;

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

type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The answer of a method that streams, for as long as its client stands; then its end is PERMISSION_DENIED.
pub struct Standings {
    /// `None` = it has ended.
    body: Option<Body>,
    caller: Caller,
    /// Made by the first wait.
    revoked: Option<Revoked>,
}

impl Standings {
    pub fn new(body: Body, caller: Caller) -> Standings {
        Standings { body: Some(body), caller, revoked: None }
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
        if this.caller.standing().is_over() {
            return Poll::Ready(Some(this.end()));
        }
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let standing = this.caller.standing();
        let revoked = this.revoked.get_or_insert_with(|| Box::pin(standing.clone().revoked()));
        match revoked.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(this.end())),
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
