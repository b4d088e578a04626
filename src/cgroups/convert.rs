//! What a cgroup v1 value of the spec means on cgroup v2. Pure.
//!
//! The spec's memory, cpu and blockIO fields are cgroup v1's. Each function names the source of its
//! formula, so that a container gets the same share of a host under berth, runc and crun. A value
//! without a counterpart is an error, as the spec demands ("the runtime MUST generate an error",
//! config-linux.md, "Control groups"), never dropped.

use crate::error::{Error, Result};

/// `cpu.shares` (2 to 262144, default 1024) as `cpu.weight` (1 to 10000, default 100). 0 is unset.
///
/// The quadratic in log2 that runc has since 2025 (`ConvertCPUSharesToCgroupV2Value` of
/// opencontainers/cgroups): it maps the minimum, the default and the maximum of one onto those of the
/// other. The linear formula before it gave the default of 1024 shares a weight of 39.
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            // Below 2^18, so that the conversion to floating point is exact.
            #[allow(clippy::cast_precision_loss)]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Between 1 and 10000 by the arms above.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000). 0 is unset.
///
/// Linear, as `ConvertBlkIOToIOWeightValue` of opencontainers/cgroups and crun's cgroup-v2.md.
pub fn io_weight(weight: u16) -> Result<Option<u64>> {
    match weight {
        0 => Ok(None),
        10..=1000 => Ok(Some(1 + (u64::from(weight) - 10) * 9999 / 990)),
        _ => Err(Error::invalid(format!("weight {weight} is not between 10 and 1000"))),
    }
}

/// A limit in bytes, or a number of them: the spec's -1 is no limit, 0 is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit: `max` on v2, `-1` on v1.
    Max,
    /// At most this much.
    At(u64),
}

impl Limit {
    /// The spec's number; [`None`] for 0 and for a missing field, which leave the kernel's value alone.
    pub fn parse(value: Option<i64>) -> Result<Option<Self>> {
        match value {
            None | Some(0) => Ok(None),
            Some(-1) => Ok(Some(Self::Max)),
            Some(value) => u64::try_from(value)
                .map(|value| Some(Self::At(value)))
                .map_err(|_| Error::invalid(format!("{value} is neither -1 (no limit) nor positive"))),
        }
    }

    /// `cpu.quota`: anything below zero is no limit, as v1's file has it and each other runtime.
    pub fn of_quota(value: Option<i64>) -> Option<Self> {
        let quota = value.filter(|quota| *quota != 0)?;
        Some(u64::try_from(quota).map_or(Self::Max, Self::At))
    }

    /// As the files of cgroup v1 take it.
    pub fn v1(self) -> String {
        match self {
            Self::Max => "-1".into(),
            Self::At(value) => value.to_string(),
        }
    }

    /// As the files of cgroup v2 take it.
    pub fn v2(self) -> String {
        match self {
            Self::Max => "max".into(),
            Self::At(value) => value.to_string(),
        }
    }
}

/// The v1 limit of memory plus swap (`memory.memsw.limit_in_bytes`) as the v2 limit of swap alone
/// (`memory.swap.max`), which is their difference (`ConvertMemorySwapToCgroupV2Value` of
/// opencontainers/cgroups). No limit on memory lifts the one on swap, as it does on v1.
pub fn swap_max(swap: Option<Limit>, memory: Option<Limit>) -> Result<Option<Limit>> {
    match (swap, memory) {
        (None, Some(Limit::Max)) | (Some(Limit::Max), _) => Ok(Some(Limit::Max)),
        (None, _) => Ok(None),
        (swap @ Some(Limit::At(_)), Some(Limit::Max)) => Ok(swap),
        (Some(Limit::At(_)), None) => Err(Error::invalid(
            "linux.resources.memory.swap limits memory and swap together and needs a memory.limit on cgroup v2",
        )),
        (Some(Limit::At(swap)), Some(Limit::At(memory))) => {
            swap.checked_sub(memory).map(|swap| Some(Limit::At(swap))).ok_or_else(|| {
                Error::invalid(format!(
                    "linux.resources.memory.swap ({swap}) is memory and swap together and must not be below memory.limit ({memory})"
                ))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_minimum_default_and_maximum() {
        // The table of opencontainers/cgroups' own unit test.
        for (shares, weight) in
            [(0, None), (1, Some(1)), (2, Some(1)), (1024, Some(100)), (262_144, Some(10_000))]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert_eq!(cpu_weight(u64::MAX), Some(10_000));
        let weights: Vec<_> = (2..=262_144).map(cpu_weight).collect();
        assert!(weights.is_sorted());
    }

    #[test]
    fn block_weights_are_linear() {
        assert_eq!(io_weight(0).unwrap(), None);
        assert_eq!(io_weight(10).unwrap(), Some(1));
        assert_eq!(io_weight(1000).unwrap(), Some(10_000));
        assert!(io_weight(9).is_err());
        assert!(io_weight(1001).is_err());
    }

    #[test]
    fn swap_is_the_difference() {
        let at = |n| Some(Limit::At(n));
        let max = Some(Limit::Max);
        assert_eq!(swap_max(at(128), at(64)).unwrap(), at(64));
        assert_eq!(swap_max(at(64), at(64)).unwrap(), at(0));
        assert_eq!(swap_max(max, at(64)).unwrap(), max);
        assert_eq!(swap_max(None, max).unwrap(), max);
        assert_eq!(swap_max(at(64), max).unwrap(), at(64));
        assert_eq!(swap_max(None, at(64)).unwrap(), None);
        assert_eq!(swap_max(None, None).unwrap(), None);
        assert!(swap_max(at(32), at(64)).is_err());
        assert!(swap_max(at(32), None).is_err());
    }

    #[test]
    fn limits_know_unset_and_unlimited() {
        assert_eq!(Limit::parse(None).unwrap(), None);
        assert_eq!(Limit::parse(Some(0)).unwrap(), None);
        assert_eq!(Limit::parse(Some(-1)).unwrap(), Some(Limit::Max));
        assert_eq!(Limit::parse(Some(7)).unwrap(), Some(Limit::At(7)));
        assert!(Limit::parse(Some(-2)).is_err());
    }
}
