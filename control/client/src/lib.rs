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

    impl Update {
        /// Where its row comes from.
        pub fn mark(&self) -> Option<&RowMark> {
            match self.row.as_ref()? {
                update::Row::Quote(row) | update::Row::ImpliedQuote(row) => row.mark.as_ref(),
                update::Row::Trade(row) => row.mark.as_ref(),
                update::Row::Status(row) => row.mark.as_ref(),
                update::Row::Definition(row) => row.mark.as_ref(),
                update::Row::Contract(row) => row.mark.as_ref(),
            }
        }

        /// Whether it can be believed; a row without a mark can't.
        pub fn state(&self) -> RowState {
            self.mark().map_or(RowState::Unspecified, RowMark::state)
        }

        /// Its position in the log.
        pub fn position(&self) -> u64 {
            self.mark().map_or(0, |mark| mark.position)
        }
    }
}

pub use client::{Bearer, Client, Error, Tls};
pub use event::Event;
pub use subscription::Subscription;
