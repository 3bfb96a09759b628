//! Memory: huge pages, what may be locked, and room for the region.

use super::case::{Attachment, Case, DPDK_SPARE_BYTES, packet_bytes};
use super::finding::{Finding, Severity};
use super::mend;
use crate::config::{EalMemory, PortKind};

const CAP_IPC_LOCK: u32 = 14;
const LOCKED: &str = "Max locked memory";
/// Of the shell that starts the appliance; a unit of systemd has its own limit.
const UNLIMITED: &str = "ulimit -l unlimited   # systemd: LimitMEMLOCK=infinity";
const SYSTEM: &str = "/sys/kernel/mm/hugepages";
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage";

pub fn check(case: &Case) -> Vec<Finding> {
    let mut findings = vec![huge_pages(case)];
    findings.extend(node_huge_pages(case));
    findings.extend([transparent(case), shared_transparent(case), locked(case), region(case)]);
    findings
}

/// Reserved pages of one size.
struct Pool {
    folder: String,
    page_bytes: u64,
    reserved: u64,
    free: u64,
}

impl Pool {
    /// Those of a folder, the usual size (2 MiB where there is such) first.
    fn all(case: &Case, folder: &str) -> Vec<Pool> {
        let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
        let names = case.machine.entries(folder, |name| size(name).is_some_and(|kb| kb < 1 << 40));
        let pool = |name: &String| {
            let folder = format!("{folder}/{name}");
            let number = |file| case.machine.number(&format!("{folder}/{file}")).unwrap_or(0);
            let (reserved, free) = (number("nr_hugepages"), number("free_hugepages"));
            Pool { page_bytes: size(name).unwrap_or(0) << 10, reserved, free, folder }
        };
        let mut pools: Vec<Pool> = names.iter().map(pool).filter(|pool| pool.page_bytes > 0).collect();
        pools.sort_by_key(|pool| (pool.page_bytes != 2 << 20, pool.page_bytes));
        pools
    }

    fn free_bytes(&self) -> u64 {
        self.free.saturating_mul(self.page_bytes)
    }

    fn text(&self) -> String {
        format!("{} of {} pages of {}", self.free, self.reserved, size(self.page_bytes))
    }

    /// Reserves as many more as are missing.
    fn mend(&self, missing_bytes: u64) -> String {
        let pages = self.reserved.saturating_add(missing_bytes.div_ceil(self.page_bytes));
        mend::write(pages, &format!("{}/nr_hugepages", self.folder))
    }
}

/// Bytes, in the unit in which they are few.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x4000_0000.. if bytes.is_multiple_of(1 << 30) || bytes >> 32 > 0 => format!("{} GiB", bytes >> 30),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

fn huge_pages(case: &Case) -> Finding {
    let id = "memory.huge_pages";
    let region_bytes = match case.region_mount() {
        Some(mount) if mount.kind == "hugetlbfs" => case.region_bytes(),
        _ => 0,
    };
    let needed_bytes = case.dpdk_bytes() + region_bytes;
    let pools = Pool::all(case, SYSTEM);
    let found = pools.iter().map(Pool::text).collect::<Vec<_>>().join(", ");
    if needed_bytes == 0 {
        let found = if pools.is_empty() { "none".to_owned() } else { format!("free: {found}") };
        return Finding::not_needed(id, found, "no DPDK port takes huge pages, nor does the region");
    }
    let needed = size(needed_bytes);
    let Some(first) = pools.first() else {
        let why = "DPDK keeps its packet buffers in huge pages, and this kernel has none.";
        let without = mend::configure("memory = \"no-huge\" in each [[ports]] of kind \"dpdk\"");
        return Finding::failure(id, format!("none; {needed} are needed"), why).mend(without);
    };
    let found = format!("free: {found}; {needed} are needed");
    let free_bytes = pools.iter().fold(0, |sum: u64, pool| sum.saturating_add(pool.free_bytes()));
    let why = "DPDK keeps its packet buffers in huge pages, and starts only if it gets them.";
    if free_bytes >= needed_bytes {
        return Finding::ok(id, found, why);
    }
    let mend = first.mend(needed_bytes - free_bytes);
    if case.dpdk_bytes() > 0 && free_bytes >= needed_bytes - DPDK_SPARE_BYTES {
        let why =
            "It is just enough for the packet buffers and DPDK itself, but a NIC's driver takes some, too.";
        return Finding::new(id, Severity::Warning, found, why).mend(mend);
    }
    let reserved_bytes = pools
        .iter()
        .fold(0, |sum: u64, pool| sum.saturating_add(pool.reserved.saturating_mul(pool.page_bytes)));
    if reserved_bytes >= needed_bytes {
        let why =
            "Enough are reserved, but others hold them: if that is not the appliance itself, it can't start.";
        return Finding::new(id, Severity::Warning, found, why).mend(mend);
    }
    Finding::failure(id, found, why).mend(mend)
}

/// DPDK takes a NIC's packet buffers from the NIC's own NUMA node, and nowhere else.
fn node_huge_pages(case: &Case) -> Vec<Finding> {
    let id = "memory.node_huge_pages";
    let is_one_node = !case.machine.exists("/sys/devices/system/node/node1");
    if case.dpdk_bytes() == 0 || is_one_node {
        return Vec::new();
    }
    let finding = |(port, attachment): (&crate::config::PortConfig, &Attachment)| {
        let Attachment::Pci(_) = attachment else { return None };
        let node = case.numa_node(attachment)?;
        let pools = Pool::all(case, &format!("/sys/devices/system/node/node{node}/hugepages"));
        let first = pools.first()?;
        let free_bytes = pools.iter().fold(0, |sum: u64, pool| sum.saturating_add(pool.free_bytes()));
        let there = case.ports().filter(|(_, other)| case.numa_node(other) == Some(node));
        let there = there.filter(|(_, other)| matches!(other, Attachment::Pci(_)));
        let needed_bytes: u64 = there.map(|(port, _)| packet_bytes(port)).sum();
        let found = format!("node {node}, free: {}; {} are needed", first.text(), size(needed_bytes));
        let why = "A NIC's packet buffers come from huge pages of its own NUMA node.";
        Some(match needed_bytes.checked_sub(free_bytes) {
            None | Some(0) => Finding::ok(id, found, why).on(&port.name),
            Some(missing_bytes) => {
                Finding::failure(id, found, why).mend(first.mend(missing_bytes)).on(&port.name)
            }
        })
    };
    case.ports().filter_map(finding).collect()
}

fn transparent(case: &Case) -> Finding {
    let id = "memory.transparent_huge_pages";
    let file = format!("{TRANSPARENT}/enabled");
    let why = "Order books ask for transparent huge pages: without them, each search misses the TLB.";
    match case.machine.choice(&file).as_deref() {
        None => Finding::unknown(id, &file),
        Some("never") => Finding::new(id, case.slow(), "never", why).mend(mend::write("madvise", &file)),
        Some("always") => {
            let why = "It works; but programs that did not ask for huge pages get them, too, and memory is compacted for it.";
            Finding::note(id, "always", why).mend(mend::write("madvise", &file))
        }
        Some(choice) => Finding::ok(id, choice, why),
    }
}

fn shared_transparent(case: &Case) -> Finding {
    let id = "memory.shared_huge_pages";
    let file = format!("{TRANSPARENT}/shmem_enabled");
    if case.region_mount().is_some_and(|mount| mount.kind == "hugetlbfs") {
        return Finding::not_needed(id, "the region is on a hugetlbfs", "its pages are huge anyway");
    }
    let why = "The region's table and log lie in shared memory: on ordinary pages, reads of random rows miss the TLB.";
    match case.machine.choice(&file) {
        None => Finding::unknown(id, &file),
        Some(choice) if matches!(choice.as_str(), "never" | "deny") => {
            Finding::new(id, case.slow(), choice, why).mend(mend::write("advise", &file))
        }
        Some(choice) => Finding::ok(id, choice, why),
    }
}

fn locked(case: &Case) -> Finding {
    let id = "memory.locked";
    let file = "/proc/self/limits";
    let limit = case.machine.lines(file, |line| line.starts_with(LOCKED)).and_then(|lines| {
        let (soft, ..) = lines.first()?.strip_prefix(LOCKED)?.trim().split_once(' ')?;
        Some(soft.to_owned())
    });
    let Some(limit) = limit else { return Finding::unknown(id, file) };
    let limit_bytes = if limit == "unlimited" { Some(u64::MAX) } else { limit.parse().ok() };
    let shown = limit_bytes.filter(|bytes| *bytes < u64::MAX).map_or_else(|| limit.clone(), size);
    let dpdk = case.ports().filter(|(port, _)| port.kind == PortKind::Dpdk);
    let takers: Vec<&Attachment> = dpdk
        .filter(|(port, _)| port.memory != Some(EalMemory::NoHuge))
        .map(|(_, attachment)| attachment)
        .filter(|attachment| matches!(attachment, Attachment::Pci(_) | Attachment::Interface(_)))
        .collect();
    if takers.is_empty() {
        return Finding::not_needed(id, shown, "nothing is locked into memory for a NIC");
    }
    let needed_bytes = case.dpdk_bytes();
    let found = format!("{shown}; {} are needed", size(needed_bytes));
    let (severity, why) = match takers.iter().any(|taker| matches!(taker, Attachment::Pci(_))) {
        true => (
            Severity::Failure,
            "What a NIC writes into is locked: past the limit the kernel refuses, and DPDK does not start.",
        ),
        false => (
            Severity::Warning,
            "AF_XDP locks its buffers: past the limit the kernel refuses, and the slower af_packet is taken.",
        ),
    };
    match limit_bytes {
        Some(bytes) if bytes >= needed_bytes => Finding::ok(id, found, why),
        _ if case.is_capable(CAP_IPC_LOCK) => {
            let why = "This user is above the limit (CAP_IPC_LOCK); another one would need a higher one.";
            Finding::note(id, found, why).mend(UNLIMITED)
        }
        _ => Finding::new(id, severity, found, why).mend(UNLIMITED),
    }
}

fn region(case: &Case) -> Finding {
    let id = "memory.region";
    let (path, needed_bytes) = (case.config.region_path(), case.region_bytes());
    let needed = size(needed_bytes);
    let Some(mount) = case.region_mount() else { return Finding::unknown(id, "/proc/self/mounts") };
    let place = format!("{} of {} on {} ({})", needed, path.display(), mount.folder, mount.kind);
    let meminfo = |key| {
        let value = case.machine.value("/proc/meminfo", key)?;
        value.trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1 << 10)
    };
    match mount.kind.as_str() {
        "hugetlbfs" => Finding::ok(id, place, "It is among the huge pages above."),
        "tmpfs" | "ramfs" => {
            // A tmpfs that was not given a size takes half of the memory.
            let size_bytes = mount.option_bytes("size").or_else(|| Some(meminfo("MemTotal")? / 2));
            let available_bytes = meminfo("MemAvailable");
            let found = format!(
                "{place}, which holds {}; {} of memory are available",
                size_bytes.map_or_else(|| "?".to_owned(), size),
                available_bytes.map_or_else(|| "?".to_owned(), size)
            );
            if size_bytes.is_some_and(|bytes| bytes < needed_bytes) {
                let why = "The region's pages are all taken at the start: it fails where the file system is too small.";
                let whole = (needed_bytes + needed_bytes / 4).div_ceil(1 << 20);
                let command = format!("mount -o remount,size={whole}M {}", mount.folder);
                return Finding::failure(id, found, why).mend(command);
            }
            if available_bytes.is_some_and(|bytes| bytes < needed_bytes) {
                let why = "The region's pages are all taken at the start, and the machine has not so much memory left.";
                let smaller = mend::configure("[region] smaller instruments_max and log_ticks");
                return Finding::failure(id, found, why).mend(smaller);
            }
            Finding::ok(id, found, "The region's pages are all taken at the start.")
        }
        _ => {
            let why = "The kernel writes a file on such a file system back to its disk, again and again, while the worker waits.";
            let elsewhere =
                mend::configure(&format!("[region] path = \"/dev/shm/tickplane-{}\"", case.config.node));
            Finding::new(id, Severity::Warning, place, why).mend(elsewhere)
        }
    }
}
