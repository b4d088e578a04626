//! The figures of cgroup v1.

use std::collections::BTreeMap;

use super::read::{Files, list, number, numbers, value};
use super::{Blkio, Cpu, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling};
use crate::error::Result;

/// cpuacct.stat counts in USER_HZ, which is 100 on every architecture that we build for.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// `files` finds a controller's directory.
pub(super) fn stats(files: impl Fn(&str) -> Result<Files>) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(&files("cpuacct")?, &files("cpu")?)?,
        cpuset: cpuset(&files("cpuset")?)?,
        memory: memory(&files("memory")?)?,
        pids: pids(&files("pids")?)?,
        blkio: blkio(&files("blkio")?)?,
        hugetlb: hugetlb(&files("hugetlb")?)?,
        ..Stats::default()
    })
}

fn cpu(accounting: &Files, cpu: &Files) -> Result<Cpu> {
    let mut stats = Cpu::default();
    let table = accounting.table("cpuacct.stat")?;
    stats.usage.total = accounting.number("cpuacct.usage")?;
    stats.usage.percpu = numbers(&accounting.text("cpuacct.usage_percpu")?.unwrap_or_default());
    stats.usage.percpu_kernel = numbers(&accounting.text("cpuacct.usage_percpu_sys")?.unwrap_or_default());
    stats.usage.percpu_user = numbers(&accounting.text("cpuacct.usage_percpu_user")?.unwrap_or_default());
    stats.usage.kernel = value(&table, "system").saturating_mul(NANOSECONDS_PER_TICK);
    stats.usage.user = value(&table, "user").saturating_mul(NANOSECONDS_PER_TICK);
    let table = cpu.table("cpu.stat")?;
    stats.throttling = Throttling {
        periods: value(&table, "nr_periods"),
        throttled_periods: value(&table, "nr_throttled"),
        throttled_time: value(&table, "throttled_time"),
    };
    Ok(stats)
}

fn cpuset(files: &Files) -> Result<Cpuset> {
    let read = |file| files.text(file).map(|text| list(&text.unwrap_or_default()));
    let level = files.text("cpuset.sched_relax_domain_level")?.unwrap_or_default();
    Ok(Cpuset {
        cpus: read("cpuset.cpus")?,
        mems: read("cpuset.mems")?,
        cpu_exclusive: files.number("cpuset.cpu_exclusive")?,
        mem_hardwall: files.number("cpuset.mem_hardwall")?,
        mem_exclusive: files.number("cpuset.mem_exclusive")?,
        memory_migrate: files.number("cpuset.memory_migrate")?,
        memory_spread_page: files.number("cpuset.memory_spread_page")?,
        memory_spread_slab: files.number("cpuset.memory_spread_slab")?,
        memory_pressure: files.number("cpuset.memory_pressure")?,
        sched_load_balance: files.number("cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.trim().parse().unwrap_or(0),
    })
}

fn memory(files: &Files) -> Result<Memory> {
    let raw: BTreeMap<_, _> = files.table("memory.stat")?.into_iter().collect();
    let entry = |prefix: &str| {
        Ok::<_, crate::error::Error>(MemoryEntry {
            limit: files.number(&format!("memory.{prefix}limit_in_bytes"))?,
            usage: files.number(&format!("memory.{prefix}usage_in_bytes"))?,
            max: files.number(&format!("memory.{prefix}max_usage_in_bytes"))?,
            failcnt: files.number(&format!("memory.{prefix}failcnt"))?,
        })
    };
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        ..Memory::default()
    })
}

fn pids(files: &Files) -> Result<Pids> {
    let limit = files.number("pids.max")?;
    Ok(Pids { current: files.number("pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

/// BFQ counts where it schedules, the throttle everywhere; CFQ's files are those of kernels before 5.0.
fn blkio(files: &Files) -> Result<Blkio> {
    let first = |names: [&str; 3]| {
        for name in names {
            let entries = files.devices(name)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok::<_, crate::error::Error>(Vec::new())
    };
    let either = |name: &str| {
        first([
            &format!("blkio.bfq.{name}_recursive"),
            &format!("blkio.{name}_recursive"),
            &format!("blkio.{name}"),
        ])
    };
    Ok(Blkio {
        io_service_bytes_recursive: first([
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ])?,
        io_serviced_recursive: first([
            "blkio.bfq.io_serviced_recursive",
            "blkio.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ])?,
        io_queued_recursive: either("io_queued")?,
        io_service_time_recursive: either("io_service_time")?,
        io_wait_time_recursive: either("io_wait_time")?,
        io_merged_recursive: either("io_merged")?,
        io_time_recursive: either("time")?,
        sectors_recursive: either("sectors")?,
        psi: None,
    })
}

fn hugetlb(files: &Files) -> Result<BTreeMap<String, Hugetlb>> {
    let mut all = BTreeMap::new();
    for size in super::page_sizes()? {
        let Some(usage) = files.text(&format!("hugetlb.{size}.usage_in_bytes"))? else { continue };
        let max = files.number(&format!("hugetlb.{size}.max_usage_in_bytes"))?;
        let failcnt = files.number(&format!("hugetlb.{size}.failcnt"))?;
        all.insert(size, Hugetlb { usage: number(&usage), max, failcnt });
    }
    Ok(all)
}
