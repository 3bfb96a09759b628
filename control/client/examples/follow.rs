//! Follows instruments over lost connections and nodes: `cargo run -p tickplane-client --example follow -- http://127.0.0.1:50051 'MS*'`

use tickplane_client::{Client, Error, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let pattern = arguments.next().unwrap_or_else(|| "*".to_owned());
    let mut events = Client::new([url])?.subscribe([pattern]).every_tick();
    loop {
        match events.next().await? {
            Event::Tick(tick) => println!("{} {:?} {:?}", tick.symbol, tick.state(), tick.row),
            event => println!("{event:?}"),
        }
    }
}
