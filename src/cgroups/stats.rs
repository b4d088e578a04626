//! What a container uses, in the shape that runc prints (opencontainers/runc: types/events.go), which
//! engines parse: `omitempty` there is a skipped zero here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::record::{Directory, Record, Version};
use crate::error::{Call, Result};
use read::Files;

mod read;
mod v1;
mod v2;

// serde's `skip_serializing_if` gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn zero(value: &u64) -> bool {
    *value == 0
}

/// All figures of one container. JSON: runc's `Stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Which processors and memory nodes it may use.
    pub cpuset: Cpuset,
    /// Memory and swap.
    pub memory: Memory,
    /// Number of tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// By page size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Filled by whoever knows the container's resctrl group; `{}` without one.
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    /// Filled by whoever knows the container's interfaces; `null` without any.
    pub network_interfaces: Option<Vec<NetworkInterface>>,
}

/// One averaged share of time in which tasks were stalled, in percent, and the total in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PressureData {
    /// Over the last 10 s.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last 5 minutes.
    pub avg300: f64,
    /// Since the cgroup was made, in microseconds.
    pub total: u64,
}

/// Pressure stall information (Linux 4.20, Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one task was stalled.
    pub some: PressureData,
    /// All tasks were.
    pub full: PressureData,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time held back by the quota.
    pub throttling: Throttling,
    /// Waiting for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// In nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By processor; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user space, by processor; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// What the quota did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that passed.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Time of waiting for the next period, in nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// The cpuset.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpuset {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// v1 flag.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// v1 flag.
    pub mem_hardwall: u64,
    /// v1 flag.
    pub mem_exclusive: u64,
    /// v1 flag.
    pub memory_migrate: u64,
    /// v1 flag.
    pub memory_spread_page: u64,
    /// v1 flag.
    pub memory_spread_slab: u64,
    /// v1's own measure of reclaim, 0 unless it is switched on.
    pub memory_pressure: u64,
    /// v1 flag.
    pub sched_load_balance: u64,
    /// v1, -1 is the kernel's default.
    pub sched_relax_domain_level: i64,
}

/// One counter of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// 2^64-1 without a limit (v1: the kernel's largest).
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Highest so far.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// How often the kernel acted on a limit (v2's memory.events).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEvents {
    /// Reclaimed although below memory.low.
    #[serde(skip_serializing_if = "zero")]
    pub low: u64,
    /// Throttled above memory.high.
    #[serde(skip_serializing_if = "zero")]
    pub high: u64,
    /// About to go over memory.max.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// Out of memory at the limit.
    #[serde(skip_serializing_if = "zero")]
    pub oom: u64,
    /// Processes killed for it.
    #[serde(skip_serializing_if = "zero")]
    pub oom_kill: u64,
    /// Times that the whole group was.
    #[serde(skip_serializing_if = "zero")]
    pub oom_group_kill: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, also on v2, whose own counter is of swap alone.
    pub swap: MemoryEntry,
    /// v1's kernel memory.
    pub kernel: MemoryEntry,
    /// v1's TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// The lines of memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    /// v2's memory.events.
    pub event_count: MemoryEvents,
}

/// Number of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// 0 without a limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// One counter of one block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Device number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Device number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Discard`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// Bytes, operations, or nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Waiting operations.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioQueueRecursive")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Time in service, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Time in the queue, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Merged operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Disk time, in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Waiting for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Highest so far; v1 only.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Counters of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct NetworkInterface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Record {
    /// Reads all figures. What this host does not count is zero or left out, as in runc.
    pub fn stats(&self) -> Result<Stats> {
        match self.version {
            Version::V2 => v2::stats(&files(self.unified())?),
            Version::V1 => v1::stats(|name| files(self.directories.iter().find(|d| d.has(name)))),
        }
    }
}

fn files(directory: Option<&Directory>) -> Result<Files> {
    let Some(directory) = directory else { return Ok(Files { directory: None }) };
    Ok(Files { directory: directory.open()?.map(|fd| (fd, directory.host_path())) })
}

/// The kernel's huge page sizes as the spec and the cgroup files name them: `2MB`.
fn page_sizes() -> Result<Vec<String>> {
    const DIRECTORY: &str = "/sys/kernel/mm/hugepages";
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).call(|| format!("opendir({DIRECTORY:?})")),
    };
    let mut sizes = Vec::new();
    for entry in entries {
        let name = entry.call(|| format!("getdents({DIRECTORY:?})"))?.file_name();
        let kilobytes =
            name.to_str().and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
        sizes.extend(kilobytes.map(page_size));
    }
    sizes.sort();
    Ok(sizes)
}

/// As hugetlb_cgroup's mem_fmt: the largest unit that fits, without a remainder.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_that_of_runc() {
        let json = serde_json::to_value(Stats::default()).unwrap();
        let zero = serde_json::json!({"limit": 0, "failcnt": 0});
        let expected = serde_json::json!({
            "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
            "cpuset": {"cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                "sched_load_balance": 0, "sched_relax_domain_level": 0},
            "memory": {"usage": zero, "swap": zero, "kernel": zero, "kernelTCP": zero, "event_count": {}},
            "pids": {}, "blkio": {}, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": null,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn huge_pages_are_named_as_the_files_are() {
        assert_eq!(["64KB", "2MB", "1GB"].map(str::to_owned), [64, 2048, 1_048_576].map(page_size));
    }
}
