//! A subscriber's connection: bytes in, as many at once as there are, whole messages out.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of one read at most.
const READ_BYTES: usize = 256 << 10;

thread_local! {
    /// Where bytes are read to; all connections of a thread share it, so that it stays in the processor's cache.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

pub struct Connection {
    stream: TcpStream,
    /// The beginning of a message that is not whole yet.
    rest: Vec<u8>,
}

impl Connection {
    /// Connects, and says `hello`.
    pub async fn open(address: &str, hello: &[u8]) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("it is TCP");
        let mut connection = Connection { stream, rest: Vec::new() };
        connection.write(hello).await;
        connection
    }

    pub async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.stream.writable().await.expect("it is open");
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits for bytes, and hands to `parse` what is there; it returns how many bytes were whole messages.
    pub async fn read<T>(&mut self, mut parse: impl FnMut(&[u8]) -> (usize, T)) -> T {
        poll_fn(|context| {
            READ.with_borrow_mut(|read| {
                let kept = self.rest.len();
                read[..kept].copy_from_slice(&self.rest);
                let mut buffer = ReadBuf::new(&mut read[kept..]);
                // A short read lets tokio know that there is no more, without another call.
                match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(done) => done.expect("it is open"),
                }
                let count = buffer.filled().len();
                assert!(count > 0, "the server has closed a connection that is read");
                let bytes = &read[..kept + count];
                let (done, result) = parse(bytes);
                self.rest.clear();
                self.rest.extend_from_slice(&bytes[done..]);
                assert!(self.rest.len() < READ_BYTES, "a message is longer than what is read at once");
                Poll::Ready(result)
            })
        })
        .await
    }
}
