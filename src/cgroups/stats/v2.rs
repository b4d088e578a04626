//! The figures of cgroup v2, as runc maps them onto those of v1.

use super::read::{Files, list, number, value};
use super::{
    Blkio, BlkioEntry, Cpu, Cpuset, Hugetlb, Memory, MemoryEntry, MemoryEvents, Pids, Stats, Throttling,
};
use crate::error::Result;

pub(super) fn stats(files: &Files) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(files)?,
        cpuset: cpuset(files)?,
        memory: memory(files)?,
        pids: pids(files)?,
        blkio: blkio(files)?,
        hugetlb: hugetlb(files)?,
        ..Stats::default()
    })
}

fn cpu(files: &Files) -> Result<Cpu> {
    let table = files.table("cpu.stat")?;
    let nanoseconds = |key| value(&table, key).saturating_mul(1000);
    let mut cpu = Cpu { psi: files.pressure("cpu.pressure")?, ..Cpu::default() };
    cpu.usage.total = nanoseconds("usage_usec");
    cpu.usage.user = nanoseconds("user_usec");
    cpu.usage.kernel = nanoseconds("system_usec");
    cpu.throttling = Throttling {
        periods: value(&table, "nr_periods"),
        throttled_periods: value(&table, "nr_throttled"),
        throttled_time: nanoseconds("throttled_usec"),
    };
    Ok(cpu)
}

fn cpuset(files: &Files) -> Result<Cpuset> {
    let read = |file| files.text(file).map(|text| list(&text.unwrap_or_default()));
    Ok(Cpuset { cpus: read("cpuset.cpus")?, mems: read("cpuset.mems")?, ..Cpuset::default() })
}

fn memory(files: &Files) -> Result<Memory> {
    let raw: std::collections::BTreeMap<_, _> = files.table("memory.stat")?.into_iter().collect();
    let events = files.table("memory.events")?;
    let usage = MemoryEntry {
        limit: files.number("memory.max")?,
        usage: files.number("memory.current")?,
        max: files.number("memory.peak")?,
        failcnt: value(&events, "max"),
    };
    let swap_events = files.table("memory.swap.events")?;
    let swap_limit = files.number("memory.swap.max")?;
    let swap = MemoryEntry {
        // "max" on either side is no limit on both together.
        limit: swap_limit.saturating_add(usage.limit),
        usage: files.number("memory.swap.current")?.saturating_add(usage.usage),
        max: files.number("memory.swap.peak")?,
        failcnt: value(&swap_events, "fail"),
    };
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: files.pressure("memory.pressure")?,
        event_count: MemoryEvents {
            low: value(&events, "low"),
            high: value(&events, "high"),
            max: value(&events, "max"),
            oom: value(&events, "oom"),
            oom_kill: value(&events, "oom_kill"),
            oom_group_kill: value(&events, "oom_group_kill"),
        },
        ..Memory::default()
    })
}

fn pids(files: &Files) -> Result<Pids> {
    let limit = files.number("pids.max")?;
    Ok(Pids { current: files.number("pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

/// io.stat: `8:0 rbytes=90112 wbytes=0 rios=22 wios=0 dbytes=0 dios=0`.
fn blkio(files: &Files) -> Result<Blkio> {
    let mut blkio = Blkio { psi: files.pressure("io.pressure")?, ..Blkio::default() };
    for line in files.text("io.stat")?.unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, count) in words.filter_map(|word| word.split_once('=')) {
            let (counters, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            let (major, minor) = (number(major), number(minor));
            counters.push(BlkioEntry { major, minor, op: op.to_owned(), value: number(count) });
        }
    }
    Ok(blkio)
}

fn hugetlb(files: &Files) -> Result<std::collections::BTreeMap<String, Hugetlb>> {
    let mut all = std::collections::BTreeMap::new();
    for size in super::page_sizes()? {
        let Some(usage) = files.text(&format!("hugetlb.{size}.current"))? else { continue };
        let failcnt = value(&files.table(&format!("hugetlb.{size}.events"))?, "max");
        all.insert(size, Hugetlb { usage: number(&usage), max: 0, failcnt });
    }
    Ok(all)
}
