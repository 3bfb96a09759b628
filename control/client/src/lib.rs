//! A client of Tickplane: rows, and subscriptions that go on by themselves when a connection or a node is lost.
//!
//! ```no_run
//! # async fn example() -> Result<(), tickplane_client::Error> {
//! use tickplane_client::{Client, Event};
//!
//! let client = Client::new(["http://127.0.0.1:50051"])?;
//! let mut events = client.subscribe(["AAPL", "MS*"]).every_tick();
//! loop {
//!     match events.next().await? {
//!         Event::Tick(tick) => println!("{} {:?} {:?}", tick.symbol, tick.state(), tick.row),
//!         event => println!("{event:?}"),
//!     }
//! }
//! # }
//! ```
//!
//! What is in [`proto`] is generated from the interface definition, where everything is told with its units; the types beside it
//! make the common things short.

mod client;
mod event;
mod subscription;

/// What the interface definition says, generated.
pub mod proto {
    #![allow(
        missing_docs,
        clippy::all,
        reason = "generated from the .proto files, which have the documentation"
    )]
    tonic::include_proto!("tickplane.v1");
}

pub use client::{Client, Error, Tls};
pub use event::{Event, Row, Tick};
pub use subscription::Subscription;
