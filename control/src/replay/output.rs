//! What a replay is sent by: the kernel's UDP, or whole frames past it.

use super::ReplayError;
use super::args::ReplayArgs;
use super::lines::Outgoing;
use super::pace::Tempo;
use drivers::frame_sender::FrameSender;
use drivers::interface::Interface;
use drivers::udp_sender::{Datagram, UdpSender};
use std::io;

#[derive(Debug)]
pub enum Output {
    Datagrams(UdpSender),
    Frames(FrameSender),
}

impl Output {
    pub fn open(args: &ReplayArgs) -> Result<Output, ReplayError> {
        let interface = Interface::find(&args.interface)?;
        if args.frames {
            return Ok(Output::Frames(FrameSender::new(&interface)?));
        }
        let mut sender = UdpSender::new(&interface, args.hops)?;
        if args.tempo() == Tempo::FlatOut && !args.no_gso {
            sender.segment();
        }
        Ok(Output::Datagrams(sender))
    }

    /// Sends `packets` in their order and returns how many have gone; an error is that of the first one.
    pub fn send(&mut self, packets: &[Outgoing]) -> io::Result<usize> {
        match self {
            Output::Datagrams(sender) => {
                let datagrams = packets
                    .iter()
                    .map(|Outgoing { destination, bytes, .. }| Datagram { destination: *destination, bytes });
                sender.send(&datagrams.collect::<Vec<_>>())
            }
            Output::Frames(sender) => {
                sender.send(&packets.iter().map(|packet| &packet.bytes[..]).collect::<Vec<_>>())
            }
        }
    }

    /// Datagrams that went to the kernel together with others.
    pub fn segments(&self) -> u64 {
        match self {
            Output::Datagrams(sender) => sender.segments(),
            Output::Frames(_) => 0,
        }
    }

    /// Why the kernel did not take them together.
    pub fn segmentation_error(&self) -> Option<&io::Error> {
        match self {
            Output::Datagrams(sender) => sender.segmentation_error(),
            Output::Frames(_) => None,
        }
    }
}
