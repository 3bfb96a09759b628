//! What carries updates between two nodes: TCP, with TLS or without; where both have a device for it, RDMA beside it.

use super::ReplicaError;
use crate::config::ReplicaConfig;
use dataplane::cache::reader::Reader;
use dataplane::replica::{Copied, Link, Message, Record, Standby};
use dataplane::time::Clock;
use drivers::clock::SystemClock;
use drivers::region::RegionMapping;
use drivers::tcp_link::{self, Channel, Identity};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

#[cfg(not(feature = "rdma"))]
pub use drivers::tcp_link::LinkError;
#[cfg(feature = "rdma")]
pub use {drivers::rdma::link::LinkError, rdma::Fabric};

/// What this node's links are made of.
#[derive(Clone)]
pub struct LinkSetup {
    /// Who this node is to its peers; `None` = nothing is encrypted.
    identity: Option<Identity>,
    /// `None` = it has no device, and all goes by TCP.
    #[cfg(feature = "rdma")]
    fabric: Option<Fabric>,
}

#[cfg(feature = "rdma")]
mod rdma {
    use crate::config::RdmaConfig;
    use crate::replica::ReplicaError;
    use drivers::rdma::link::LogMemory;
    use drivers::rdma::{Device, DeviceConfig, QueuePairConfig};
    use drivers::region::RegionMapping;
    use std::sync::Arc;

    /// An RDMA device, and the region that it reads and writes.
    #[derive(Clone)]
    pub struct Fabric {
        pub device: Arc<Device>,
        pub mapping: Arc<RegionMapping>,
        /// The log, to be read as the primary.
        pub log: Arc<LogMemory>,
        pub patience: QueuePairConfig,
    }

    impl Fabric {
        pub fn new(config: &RdmaConfig, mapping: &Arc<RegionMapping>) -> Result<Fabric, ReplicaError> {
            let device = Device::open(&DeviceConfig {
                port: config.port,
                gid_index: config.gid_index,
                ..DeviceConfig::new(&config.device)
            })?;
            let log = Arc::new(LogMemory::local(&device, mapping)?);
            Ok(Fabric { device, mapping: mapping.clone(), log, patience: QueuePairConfig::default() })
        }
    }
}

impl LinkSetup {
    /// The region in `mapping` is laid out.
    pub fn new(config: &ReplicaConfig, mapping: &Arc<RegionMapping>) -> Result<LinkSetup, ReplicaError> {
        let identity = match &config.tls {
            Some(tls) => Some(Identity::read(&tls.certificate, &tls.key, &tls.ca)?),
            None => None,
        };
        #[cfg(not(feature = "rdma"))]
        {
            let _ = mapping;
            if config.rdma.is_some() { Err(ReplicaError::NoRdma) } else { Ok(LinkSetup { identity }) }
        }
        #[cfg(feature = "rdma")]
        {
            let fabric = match &config.rdma {
                Some(rdma) => Some(Fabric::new(rdma, mapping)?),
                None => None,
            };
            Ok(LinkSetup { identity, fabric })
        }
    }

    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The primary's end of a connection that was taken.
    pub fn accept(&self, stream: TcpStream) -> Result<PrimaryLink, LinkError> {
        let channel: Channel = match &self.identity {
            Some(identity) => identity.accept(stream).map_err(tcp_link::LinkError::from)?,
            None => stream.into(),
        };
        #[cfg(feature = "rdma")]
        if let Some(Fabric { log, patience, .. }) = &self.fabric {
            let end = drivers::rdma::link::PrimaryEnd::new(channel, log, patience)?;
            return Ok(PrimaryLink::Rdma(Box::new(end)));
        }
        Ok(PrimaryLink::Tcp(tcp_link::PrimaryEnd::new(channel).map_err(tcp_link::LinkError::from)?))
    }

    /// A standby without a connection.
    pub fn standby(&self, standby: Standby<'static>) -> StandbyLink {
        #[cfg(feature = "rdma")]
        if let Some(Fabric { device, mapping, patience, .. }) = &self.fabric {
            let standby = drivers::rdma::link::LinkedStandby::new(standby, device, mapping, patience);
            return StandbyLink::Rdma(Box::new(standby));
        }
        StandbyLink::Tcp(Box::new(TcpStandby { standby, end: None }))
    }
}

/// Nothing was heard for too long.
pub fn silence(what: &str) -> LinkError {
    let error = io::Error::new(io::ErrorKind::TimedOut, what);
    #[allow(clippy::useless_conversion, reason = "without RDMA it is the same type")]
    tcp_link::LinkError::from(error).into()
}

/// The primary's end of one connection.
pub enum PrimaryLink {
    Tcp(tcp_link::PrimaryEnd),
    #[cfg(feature = "rdma")]
    Rdma(Box<drivers::rdma::link::PrimaryEnd>),
}

/// Does the same with whichever end there is.
macro_rules! each {
    ($link:expr, $end:ident => $call:expr) => {
        match $link {
            PrimaryLink::Tcp($end) => $call,
            #[cfg(feature = "rdma")]
            PrimaryLink::Rdma($end) => $call,
        }
    };
}

impl PrimaryLink {
    pub fn fill(&mut self) -> Result<usize, LinkError> {
        each!(self, end => Ok(end.fill()?))
    }

    pub fn flush(&mut self) -> Result<usize, LinkError> {
        each!(self, end => Ok(end.flush()?))
    }

    pub fn is_from(&self, node: &str) -> bool {
        each!(self, end => end.is_from(node))
    }

    /// What carries the updates: tcp or rdma.
    pub fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "rdma")]
            PrimaryLink::Rdma(end) if end.is_connected() => "rdma",
            _ => "tcp",
        }
    }
}

impl Link for PrimaryLink {
    fn copy(&mut self, log: &Reader<'_>, from: u64, upto: u64) -> Copied {
        each!(self, end => end.copy(log, from, upto))
    }

    fn rows(&mut self, rows: &[Record]) -> usize {
        each!(self, end => end.rows(rows))
    }

    fn send(&mut self, message: Message) -> bool {
        each!(self, end => end.send(message))
    }

    fn receive(&mut self) -> Option<Message> {
        each!(self, end => end.receive())
    }
}

/// A standby with its connection, if there is one.
pub enum StandbyLink {
    Tcp(Box<TcpStandby>),
    #[cfg(feature = "rdma")]
    Rdma(Box<drivers::rdma::link::LinkedStandby<'static>>),
}

pub struct TcpStandby {
    standby: Standby<'static>,
    end: Option<tcp_link::StandbyEnd>,
}

impl StandbyLink {
    pub fn standby(&self) -> &Standby<'static> {
        match self {
            StandbyLink::Tcp(linked) => &linked.standby,
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.standby(),
        }
    }

    pub fn set_whole(&mut self, whole: bool) {
        match self {
            StandbyLink::Tcp(linked) => linked.standby.set_whole(whole),
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.set_whole(whole),
        }
    }

    /// The standby without its connection: whatever the primary still sends is not taken.
    pub fn into_standby(self) -> Standby<'static> {
        match self {
            StandbyLink::Tcp(linked) => linked.standby,
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.into_standby(),
        }
    }

    pub fn connect(&mut self, channel: Channel) -> Result<(), LinkError> {
        match self {
            StandbyLink::Tcp(linked) => {
                let TcpStandby { standby, end } = &mut **linked;
                *end = None;
                *end = Some(tcp_link::StandbyEnd::new(channel, standby).map_err(tcp_link::LinkError::from)?);
                Ok(())
            }
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.connect(channel),
        }
    }

    pub fn disconnect(&mut self) {
        match self {
            StandbyLink::Tcp(linked) => linked.end = None,
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.disconnect(),
        }
    }

    pub fn is_connected(&self) -> bool {
        match self {
            StandbyLink::Tcp(linked) => linked.end.is_some(),
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.is_connected(),
        }
    }

    /// What carries the updates: tcp or rdma.
    pub fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) if linked.is_by_device() => "rdma",
            _ => "tcp",
        }
    }

    /// One round; nothing without a connection. An error ends it.
    pub fn poll(&mut self, write_down: &mut dyn FnMut(u64) -> bool) -> Result<usize, LinkError> {
        let now_ns = || SystemClock.monotonic_ns();
        match self {
            StandbyLink::Tcp(linked) => match &mut linked.end {
                Some(end) => Ok(end.poll(&mut linked.standby, now_ns, write_down)?),
                None => Ok(0),
            },
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.poll(now_ns, write_down),
        }
    }

    pub fn retire(&mut self) {
        match self {
            StandbyLink::Tcp(linked) => linked.standby.retire(),
            #[cfg(feature = "rdma")]
            StandbyLink::Rdma(linked) => linked.retire(),
        }
    }
}
