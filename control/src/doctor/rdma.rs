//! RDMA devices.

use super::case::Case;
use super::finding::Finding;

const FOLDER: &str = "/sys/class/infiniband";

pub fn check(case: &Case) -> Vec<Finding> {
    let machine = case.machine;
    let mut ports = Vec::new();
    for device in machine.entries(FOLDER, |_| true) {
        for port in machine.entries(&format!("{FOLDER}/{device}/ports"), |_| true) {
            let text =
                |file| machine.text(&format!("{FOLDER}/{device}/ports/{port}/{file}")).unwrap_or_default();
            // `4: ACTIVE`
            let state = text("state");
            let state = state.rsplit(' ').next().unwrap_or_default().to_lowercase();
            ports.push(format!("{device} port {port} {state}, {} {}", text("link_layer"), text("rate")));
        }
    }
    let found = if ports.is_empty() { "none".to_owned() } else { ports.join("; ") };
    vec![Finding::not_needed("rdma.devices", found, "nothing is replicated")]
}
