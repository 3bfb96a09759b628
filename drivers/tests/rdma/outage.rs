//! The cable is out, and in again.

use crate::group::{compare, connect, until, until_level, with_level};
use crate::nodes::devices;
use drivers::rdma::link::LinkError;
use drivers::rdma::{Device, DeviceConfig, RdmaError, Status};
use std::process::Command;

/// Names the interface that both devices' interfaces lie on, in a guest that has no other use for it.
const INTERFACE: &str = "TICKPLANE_TEST_RDMA_CABLE";

fn cable(state: &str) {
    let interface = std::env::var(INTERFACE).expect("scripts/test-rdma says which interface it is");
    let status = Command::new("ip").args(["link", "set", &interface, "carrier", state]).status().unwrap();
    assert!(status.success());
}

/// While it runs nobody else's packets go anywhere: alone, by scripts/test-rdma.
#[test]
#[ignore = "takes the cable out, of all tests"]
fn an_outage_is_noticed_and_made_up_for() {
    with_level(|mut main, mut copy, mut end| {
        let names = devices().unwrap().map(|device| device.name().to_owned());
        for outage in 0..3 {
            main.write(30);
            until_level(&mut main, &mut copy, &mut end);
            let before = copy.status().position;
            cable("off");
            for name in &names {
                until("the port is seen to be down", || {
                    matches!(Device::open(&DeviceConfig::new(name)), Err(RdmaError::Down { .. }))
                });
            }
            main.write(1 + outage * 50);
            let mut failure = None;
            until("the primary notices", || {
                failure = main.poll(&mut end).err();
                failure.is_some()
            });
            assert!(matches!(failure, Some(LinkError::Write(Status::RetriesExceeded))), "{failure:?}");
            drop(end);
            until("the standby notices", || copy.poll().is_err());
            assert_eq!(copy.status().position, before);

            cable("on");
            for name in &names {
                until("the port is up again", || Device::open(&DeviceConfig::new(name)).is_ok());
            }
            main.write(20);
            end = connect(&mut main, &mut copy);
            until_level(&mut main, &mut copy, &mut end);
            compare(&main.reader, &copy.reader, before);
        }
        assert_eq!(copy.counters().images, 1, "the log reached back far enough");
    });
}
