//! Connections of gRPC clients: so many may be open, and each is given back when it ends.

use dataplane::counters::SharedCounter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// Files that a node has open besides connections: the region, ports, the store, the log, links to its peers.
const OTHER_FILES: u64 = 128;

/// A client from which nothing came for so long is asked by HTTP/2 whether it is there, and has as long to answer: one that is frozen
/// goes, and what it held with it. The kernel asks, too, since there are those that never spoke HTTP/2.
pub const QUIET_MAX: Duration = Duration::from_secs(20);

/// How many there are, and may be.
#[derive(Debug)]
pub struct Connections {
    max: AtomicUsize,
    open: AtomicUsize,
    /// Those that were closed as soon as they had come, since there was no place.
    pub refused: SharedCounter,
}

impl Connections {
    pub fn new(max: usize) -> Connections {
        Connections { max: max.into(), open: AtomicUsize::new(0), refused: SharedCounter::default() }
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// So many may be open from now on; those that are open stay, even if they are more.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        check(getrlimit(Resource::Nofile).current, max);
    }

    /// `None` = there is none.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let max = self.max.load(Ordering::Relaxed);
        let one_more = |open: usize| (open < max).then_some(open + 1);
        let opened = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        opened.is_ok().then(|| Place(self.clone()))
    }

    /// Those that come, as long as there is a place for them. What is small is sent at once (`TCP_NODELAY`): an update must not
    /// wait until the client has acknowledged the one before.
    pub fn incoming(self: Arc<Self>, listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
        let accepting = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(QUIET_MAX));
        accepting.filter_map(move |accepted| {
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => return Some(Err(error)),
            };
            let place = self.place();
            if place.is_none() {
                self.refused.add(1);
            }
            Some(Ok(Connection { stream, _place: place? }))
        })
    }
}

/// Lets the process open as many files as it may (`RLIMIT_NOFILE`), and warns if `connections_max` do not fit.
pub fn raise_file_limit(connections_max: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) else {
        return check(maximum, connections_max);
    };
    tracing::warn!("the number of open files stays as it is: {error}");
    check(current, connections_max);
}

fn check(files_max: Option<u64>, connections_max: usize) {
    let needed = connections_max as u64 + OTHER_FILES;
    if let Some(files_max) = files_max.filter(|files_max| *files_max < needed) {
        tracing::warn!(
            "[grpc] connections_max = {connections_max} needs {needed} open files, and {files_max} are allowed: raise the hard limit \
             (ulimit -Hn, LimitNOFILE=), or lower connections_max"
        );
    }
}

/// A client's connection, and its place.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: Place,
}

/// Given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match pieces {
            // What is small is in one piece, for which the kernel has a shorter way.
            [piece] => Pin::new(&mut self.stream).poll_write(context, piece),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::new(1));
        let mut incoming = Box::pin(connections.clone().incoming(listener));
        let _first = TcpStream::connect(address).await.unwrap();
        let held = incoming.next().await.unwrap().unwrap();
        assert!(held.stream.nodelay().unwrap());
        assert_eq!(rustix::net::sockopt::tcp_keepidle(&held.stream).unwrap(), QUIET_MAX);
        let (mut second, mut byte) = (TcpStream::connect(address).await.unwrap(), [0]);
        tokio::select! {
            accepted = incoming.next() => panic!("there is no place: {accepted:?}"),
            read = second.read(&mut byte) => assert_eq!(read.unwrap(), 0, "it is closed"),
        }
        assert_eq!((connections.open(), connections.refused.get()), (1, 1));
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        let held = incoming.next().await.unwrap().unwrap();
        assert_eq!(connections.refused.get(), 1);
        connections.set_max(2);
        let _fourth = TcpStream::connect(address).await.unwrap();
        let _other = incoming.next().await.unwrap().unwrap();
        // Fewer from now on: those that are open stay.
        connections.set_max(1);
        drop(held);
        let (mut fifth, mut byte) = (TcpStream::connect(address).await.unwrap(), [0]);
        tokio::select! {
            accepted = incoming.next() => panic!("there is no place: {accepted:?}"),
            read = fifth.read(&mut byte) => assert_eq!(read.unwrap(), 0, "it is closed"),
        }
        assert_eq!((connections.open(), connections.refused.get()), (1, 2));
    }
}
