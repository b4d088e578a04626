//! `berth update`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxIntelRdt, LinuxMemory, LinuxPids, LinuxResources};

use super::Status;
use crate::container::{self, Host};
use crate::error::{Call, Context, Error, Result as Outcome};
use crate::{log, spec};

/// Change the limits of a container
#[derive(Clone, Debug, Args)]
pub struct Update {
    /// File with a linux.resources object, or - for stdin; all flags but the schemas are then ignored
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block IO, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period of the CPU quota in microseconds, 0 for the default
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// CPU time per period in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up for a burst, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_burst: Option<u64>,
    /// CPU shares, relative to other cgroups
    #[arg(long, value_name = "SHARES", alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// Period of the realtime limit in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<u64>,
    /// Realtime CPU time per period in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs to use
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    /// 1 puts the container into the idle class
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub cpu_idle: Option<i64>,
    /// Memory limit in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory: Option<i64>,
    /// Soft memory limit in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap in bytes, -1 for no limit of swap
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_swap: Option<i64>,
    /// Obsolete kernel memory limit
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true, value_parser = parse_bytes)]
    pub kernel_memory: Option<i64>,
    /// Obsolete kernel memory limit of TCP buffers
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true, value_parser = parse_bytes)]
    pub kernel_memory_tcp: Option<i64>,
    /// Number of processes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Shares of the L3 cache, like L3:0=7f0;1=1f, for the container's own class of linux.intelRdt
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Shares of the memory bandwidth, like MB:0=20;1=70
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Update {
    /// Changes the container's limits.
    pub fn execute(&self, host: &Host) -> Outcome<Status> {
        let shares = self.shares()?;
        let changes = match &self.resources {
            Some(path) => spec::parse_resources(&read(path)?)?,
            None => self.changes(),
        };
        container::update(host, &self.id, changes, shares.as_ref())?;
        Ok(Status::DONE)
    }

    /// The schemas as linux.intelRdt, which no linux.resources has room for; so they count with
    /// `--resources` too (as runc). An empty one is not given.
    fn shares(&self) -> Outcome<Option<LinuxIntelRdt>> {
        let given = |schema: &Option<String>| schema.clone().filter(|schema| !schema.is_empty());
        let (cache, bandwidth) = (given(&self.l3_cache_schema), given(&self.mem_bw_schema));
        if cache.is_none() && bandwidth.is_none() {
            return Ok(None);
        }
        // As for memBwSchema: a line of another kind would be saved under the wrong name.
        if let Some(schema) =
            bandwidth.as_ref().filter(|line| !line.starts_with("MB:") || line.contains('\n'))
        {
            return Err(Error::invalid(format!(
                "--mem-bw-schema: must be one line that starts with MB:, not {schema:?}"
            )));
        }
        let mut shares = LinuxIntelRdt::default();
        shares.set_l3_cache_schema(cache);
        shares.set_mem_bw_schema(bandwidth);
        Ok(Some(shares))
    }

    /// The flags as linux.resources; a zero where runc takes it for "not given" is left out.
    fn changes(&self) -> LinuxResources {
        for (flag, value) in
            [("--kernel-memory", self.kernel_memory), ("--kernel-memory-tcp", self.kernel_memory_tcp)]
        {
            if value.is_some() {
                log::warning(&format!("{flag} is ignored: the kernel has no such limit any more"));
            }
        }
        let list = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(self.cpu_share.filter(|shares| *shares != 0));
        cpu.set_quota(self.cpu_quota);
        cpu.set_period(self.cpu_period);
        cpu.set_burst(self.cpu_burst);
        cpu.set_realtime_period(self.cpu_rt_period);
        cpu.set_realtime_runtime(self.cpu_rt_runtime);
        cpu.set_cpus(list(&self.cpuset_cpus));
        cpu.set_mems(list(&self.cpuset_mems));
        cpu.set_idle(self.cpu_idle);
        let mut memory = LinuxMemory::default();
        memory.set_limit(self.memory);
        memory.set_reservation(self.memory_reservation);
        memory.set_swap(self.memory_swap);
        let mut changes = LinuxResources::default();
        changes.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
        changes.set_memory((memory != LinuxMemory::default()).then_some(memory));
        if let Some(weight) = self.blkio_weight.filter(|weight| *weight != 0) {
            let mut block_io = LinuxBlockIo::default();
            block_io.set_weight(Some(weight));
            changes.set_block_io(Some(block_io));
        }
        if let Some(limit) = self.pids_limit {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            changes.set_pids(Some(pids));
        }
        changes
    }
}

/// A file, or stdin for `-`.
fn read(path: &Path) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).call(|| "read(stdin)".into())?;
        return Ok(text);
    }
    std::fs::read(path).call(|| format!("read({})", path.display())).context("read the limits (--resources)")
}

/// Bytes with an optional binary unit, as runc reads them: `512m`, `1GiB`, `-1`.
fn parse_bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a number of bytes like 1048576, 512m or -1");
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.parse::<i64>().ok().and_then(|number| number.checked_mul(1_i64 << shift)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bytes_with_units() {
        for (text, bytes) in
            [("0", 0), ("-1", -1), ("1048576", 1 << 20), ("512m", 512 << 20), ("1GiB", 1 << 30)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "-2", "m", "1x", "9223372036854775807k"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
