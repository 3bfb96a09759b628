//! NICs that DPDK drives: are they there, whose driver has them, and may that driver let DPDK at them.

use super::case::{Attachment, Case};
use super::finding::{Finding, Severity};
use super::machine::Machine;
use super::mend;
use crate::config::PortKind;

const PCI: &str = "/sys/bus/pci/devices";
/// Kernel drivers beside which DPDK works: the NIC stays with them.
const BIFURCATED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];
/// Drivers that give a NIC to a program without an IOMMU between it and the memory.
const UNPROTECTED: [&str; 3] = ["uio_pci_generic", "igb_uio", "uio_hv_generic"];
const VFIO: &str = "vfio-pci";
const MELLANOX: &str = "0x15b3";
const CLASS_NETWORK: &str = "0x02";
const CLASS_BRIDGE: &str = "0x06";

pub fn check(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, attachment) in case.ports().filter(|(port, _)| port.kind == PortKind::Dpdk) {
        let own = match attachment {
            Attachment::Pci(address) => Nic::new(case.machine, address).check(),
            Attachment::Interface(name) => {
                let found = format!("the kernel's interface {name}");
                vec![Finding::not_needed(
                    "nic.driver",
                    found,
                    "its kernel driver stays, DPDK polls through it",
                )]
            }
            Attachment::Nothing => {
                let found = port.device.clone().unwrap_or_default();
                vec![Finding::not_needed(
                    "nic.driver",
                    found,
                    "a virtual device has no driver of the kernel's",
                )]
            }
            // Told among the interfaces.
            Attachment::NoInterface(_) => Vec::new(),
        };
        findings.extend(own.into_iter().map(|finding| finding.on(&port.name)));
    }
    if findings.is_empty() {
        let ids = ["nic.driver", "nic.iommu", "nic.sriov"];
        findings.extend(ids.map(|id| Finding::not_needed(id, "no NIC", "no port gives DPDK a NIC")));
    }
    findings
}

/// What DPDK is to drive.
struct Nic<'a> {
    machine: &'a Machine,
    address: &'a str,
    folder: String,
    driver: Option<String>,
}

fn driver(machine: &Machine, address: &str) -> Option<String> {
    machine.value(&format!("{PCI}/{address}/uevent"), "DRIVER").filter(|driver| !driver.is_empty())
}

fn bind(driver: &str, address: &str) -> String {
    format!("modprobe {driver} && dpdk-devbind.py --bind={driver} {address}")
}

impl<'a> Nic<'a> {
    fn new(machine: &'a Machine, address: &'a str) -> Nic<'a> {
        Nic { machine, address, folder: format!("{PCI}/{address}"), driver: driver(machine, address) }
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.machine.text(&self.file(name))
    }

    fn check(&self) -> Vec<Finding> {
        if !self.machine.exists(&self.folder) {
            return vec![self.absent()];
        }
        let mut findings = Vec::new();
        if let Some(class) = self.text("class").filter(|class| !class.starts_with(CLASS_NETWORK)) {
            let found = format!("{} is of class {class}, which is no network controller's", self.address);
            let list = "lspci -D -d ::0200   # then, in the configuration: device";
            findings
                .push(Finding::failure("nic.device", found, "DPDK has no use for such a device.").mend(list));
        }
        findings.extend([self.driver(), self.iommu(), self.sriov()]);
        findings
    }

    fn absent(&self) -> Finding {
        let found = format!("there is no device {}", self.address);
        let why = "DPDK takes the NIC by its PCI address, which must be on this machine's bus.";
        let list = "lspci -D -d ::0200   # then, in the configuration: device";
        Finding::failure("nic.device", found, why).mend(self.unborn().unwrap_or_else(|| list.to_owned()))
    }

    /// The command that makes virtual functions, if a NIC on this bus could have them and has none.
    fn unborn(&self) -> Option<String> {
        let (bus, _) = self.address.rsplit_once(':')?;
        let devices = self.machine.entries(PCI, |name| name.starts_with(bus));
        let parent = devices.iter().find(|name| {
            let number = |file| self.machine.number(&format!("{PCI}/{name}/{file}"));
            number("sriov_totalvfs").is_some_and(|total| total > 0) && number("sriov_numvfs") == Some(0)
        })?;
        Some(mend::write(4, &format!("{PCI}/{parent}/sriov_numvfs")))
    }

    fn driver(&self) -> Finding {
        let id = "nic.driver";
        let address = self.address;
        let is_mellanox = self.text("vendor").is_some_and(|vendor| vendor == MELLANOX);
        let wanted = if is_mellanox { "mlx5_core" } else { VFIO };
        let Some(driver) = self.driver.as_deref() else {
            let why = "DPDK reaches a NIC through the driver that has it, and none has.";
            return Finding::failure(id, format!("{address} has no driver"), why).mend(bind(wanted, address));
        };
        let found = format!("{address} is with {driver}");
        if BIFURCATED.contains(&driver) {
            if self.machine.entries(&self.file("infiniband"), |_| true).is_empty() {
                let why = "DPDK drives this NIC through its RDMA device, which is not there.";
                let load = format!("modprobe {} ib_uverbs", driver.replace("_core", "_ib"));
                return Finding::failure(id, format!("{found}, without an RDMA device"), why).mend(load);
            }
            return Finding::ok(id, found, "DPDK works beside this driver: the NIC stays with it.");
        }
        if is_mellanox {
            let why = "DPDK drives NICs of this vendor beside the kernel's driver, not without it.";
            return Finding::failure(id, found, why).mend(bind(wanted, address));
        }
        if driver == VFIO {
            return Finding::ok(id, found, "DPDK takes the NIC from this driver.");
        }
        if UNPROTECTED.contains(&driver) {
            let why =
                "It works, but without an IOMMU in between: a wrong address from the NIC hits any memory.";
            return Finding::new(id, Severity::Warning, found, why).mend(bind(VFIO, address));
        }
        let why = "While the kernel's own driver has the NIC, DPDK can't take it.";
        Finding::failure(id, found, why).mend(bind(VFIO, address))
    }

    fn iommu(&self) -> Finding {
        let id = "nic.iommu";
        let driver = self.driver.as_deref().unwrap_or_default();
        if BIFURCATED.contains(&driver) {
            return Finding::not_needed(id, driver, "the kernel's driver looks after the NIC's memory");
        }
        let unsafe_mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let group = self.machine.link(&self.file("iommu_group"));
        let groups = "/sys/kernel/iommu_groups";
        let is_none = |group: &String| {
            self.machine.text(&format!("{groups}/{group}/name")).is_some_and(|name| name == "vfio-noiommu")
        };
        let why = "vfio-pci gives a NIC to a program only behind an IOMMU.";
        match group.filter(|group| !is_none(group)) {
            Some(group) => self.group(&group),
            None if self.machine.text(unsafe_mode).is_some_and(|mode| mode == "Y" || mode == "1") => {
                let why = "It works, but a wrong address from the NIC hits any memory: this is for virtual machines only.";
                let found = "none; vfio is told to do without";
                let severity = if self.is_virtual() { Severity::Note } else { Severity::Warning };
                Finding::new(id, severity, found, why).mend(self.switch_on())
            }
            None => {
                let found = format!("{} is in no IOMMU group", self.address);
                let mend = match self.is_virtual() {
                    true => {
                        "modprobe vfio enable_unsafe_noiommu_mode=1   # or give the machine a virtual IOMMU"
                            .to_owned()
                    }
                    false => self.switch_on(),
                };
                Finding::failure(id, found, why).mend(mend)
            }
        }
    }

    fn processor(&self) -> String {
        self.machine.text("/sys/devices/system/cpu/modalias").unwrap_or_default()
    }

    /// Whether a hypervisor is beneath (x86: feature 4·32 + 31).
    fn is_virtual(&self) -> bool {
        self.processor().contains(",009F,")
    }

    fn switch_on(&self) -> String {
        let processor = self.processor();
        // Intel's is off unless it is asked for; AMD's and Arm's are on where the firmware has them.
        match processor.contains("ven0000") {
            true => mend::boot(self.machine, "intel_iommu", "on"),
            false => {
                mend::boot(self.machine, "iommu", "pt") + "   # and IOMMU (AMD-Vi, SMMU) on in the firmware"
            }
        }
    }

    /// A group is given away as a whole.
    fn group(&self, group: &str) -> Finding {
        let id = "nic.iommu";
        let members = self.machine.entries(&format!("/sys/kernel/iommu_groups/{group}/devices"), |_| true);
        let in_the_way = members.iter().filter(|member| *member != self.address).find(|member| {
            let class = self.machine.text(&format!("{PCI}/{member}/class")).unwrap_or_default();
            let theirs = driver(self.machine, member);
            !class.starts_with(CLASS_BRIDGE)
                && theirs.is_some_and(|driver| driver != VFIO && driver != "pci-stub")
        });
        let why = "vfio-pci gives a program a whole IOMMU group, or nothing of it.";
        match in_the_way {
            None => Finding::ok(id, format!("{} is in group {group}", self.address), why),
            Some(member) => {
                let found =
                    format!("group {group} holds {member}, too, which is with a driver of the kernel's");
                Finding::failure(id, found, why).mend(bind(VFIO, member))
            }
        }
    }

    fn sriov(&self) -> Finding {
        let id = "nic.sriov";
        let number = |folder: &str, file| self.machine.number(&format!("{folder}/{file}"));
        let Some(parent) = self.machine.link(&self.file("physfn")) else {
            let found = match number(&self.folder, "sriov_totalvfs") {
                Some(total) => {
                    let made = number(&self.folder, "sriov_numvfs").unwrap_or(0);
                    format!("{made} of {total} virtual functions")
                }
                None => "no virtual functions".to_owned(),
            };
            return Finding::not_needed(id, found, "the port has the NIC itself");
        };
        let folder = format!("{PCI}/{parent}");
        let functions = self.machine.entries(&folder, |name| name.starts_with("virtfn"));
        let own = functions.iter().find(|name| {
            self.machine.link(&format!("{folder}/{name}")).is_some_and(|address| address == self.address)
        });
        let own = own.and_then(|name| name.strip_prefix("virtfn")).unwrap_or("N").to_owned();
        let interface = self.machine.entries(&format!("{folder}/net"), |_| true);
        let interface = interface.first().cloned().unwrap_or_else(|| "PF".to_owned());
        let count = |file| number(&folder, file).map_or_else(|| "?".to_owned(), |count| count.to_string());
        let (made, total) = (count("sriov_numvfs"), count("sriov_totalvfs"));
        let found = format!("function {own} of {parent} ({interface}), one of {made}, at most {total}");
        let why = format!(
            "A virtual function gets the groups that it asks for only if it is trusted, which files do not tell: `ip link \
             show {interface}` does."
        );
        let trust = format!("ip link set {interface} vf {own} trust on spoofchk off");
        Finding::note(id, found, &why).mend(trust)
    }
}
