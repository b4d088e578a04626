//! The properties of a container's scope: those that runc sets. systemd writes them to the same files
//! as we do, and again at a daemon-reload, so both must say the same. Pure.

use oci_spec::runtime::LinuxResources;

use super::message::{Property, Value};
use crate::cgroups::convert::{Limit, cpu_weight, io_weight, swap_max};
use crate::cgroups::devices::Rules;
use crate::cgroups::record::Version;
use crate::error::{Error, Result};

/// What a limit is in systemd's words: its largest number is "infinity".
fn number(limit: Limit) -> Value {
    match limit {
        Limit::Max => Value::U64(u64::MAX),
        Limit::At(value) => Value::U64(value),
    }
}

/// The properties that every scope of ours has.
pub(in crate::cgroups) fn scope(id: &str, slice: &str, version: Version, pid: u32) -> Vec<Property> {
    let on = || Value::Bool(true);
    let io = if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    [
        ("Description", Value::String(format!("berth container {id}"))),
        ("Slice", Value::String(slice.to_owned())),
        // The subtree is ours: systemd leaves nested cgroups and our device filter alone.
        ("Delegate", on()),
        ("PIDs", Value::U32s(vec![pid])),
        ("CPUAccounting", on()),
        ("MemoryAccounting", on()),
        ("TasksAccounting", on()),
        (io, on()),
        // Not stopped by shutdown.target before its engine; it would kill containers first.
        ("DefaultDependencies", Value::Bool(false)),
        // A failed scope would keep its name from being used again.
        ("CollectMode", Value::String("inactive-or-failed".into())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// linux.resources as properties. What systemd has no property for is only in our own file writes.
pub(in crate::cgroups) fn limits(resources: &LinuxResources, version: Version) -> Result<Vec<Property>> {
    let v2 = version == Version::V2;
    let mut properties = Vec::new();
    let mut set = |name: &str, value: Value| properties.push((name.to_owned(), value));
    if let Some(memory) = resources.memory() {
        let limit = Limit::parse(memory.limit())?;
        if let Some(limit) = limit {
            set(if v2 { "MemoryMax" } else { "MemoryLimit" }, number(limit));
        }
        if v2 {
            if let Some(reservation) = Limit::parse(memory.reservation())? {
                set("MemoryLow", number(reservation));
            }
            if let Some(swap) = swap_max(Limit::parse(memory.swap())?, limit)? {
                set("MemorySwapMax", number(swap));
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        match cpu.shares() {
            Some(shares) if shares != 0 && !v2 => set("CPUShares", Value::U64(shares)),
            shares => {
                if let Some(weight) = shares.and_then(cpu_weight).filter(|_| cpu.idle().unwrap_or(0) == 0) {
                    set("CPUWeight", Value::U64(weight));
                }
            }
        }
        let period = cpu.period().filter(|period| *period != 0);
        if let Some(quota) = Limit::of_quota(cpu.quota()) {
            set("CPUQuotaPerSecUSec", Value::U64(quota_per_second(quota, period.unwrap_or(100_000))));
        }
        if let Some(period) = period {
            set("CPUQuotaPeriodUSec", Value::U64(period));
        }
        if v2 {
            for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
                if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                    set(name, Value::Bytes(bitmask(list)?));
                }
            }
        }
    }
    if let Some(pids) = resources.pids() {
        // systemd takes no 0; the file gets it.
        let limit = u64::try_from(pids.limit()).unwrap_or(u64::MAX).max(1);
        set("TasksMax", Value::U64(limit));
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(oci_spec::runtime::LinuxBlockIo::weight)
        && let Some(converted) = io_weight(weight)?
    {
        if v2 {
            set("IOWeight", Value::U64(converted))
        } else {
            set("BlockIOWeight", Value::U64(weight.into()))
        }
    }
    for (file, value) in resources.unified().iter().flatten().filter(|_| v2) {
        let mirrored = unified(file, value)?;
        properties.retain(|(name, _)| mirrored.iter().all(|(other, _)| other != name));
        properties.extend(mirrored);
    }
    Ok(properties)
}

/// A file of linux.resources.unified in systemd's words, if it has any (the same as runc's). Like the
/// file itself, which is written last, it takes the place of what another field says.
fn unified(file: &str, value: &str) -> Result<Vec<Property>> {
    let invalid =
        || Error::invalid(format!("linux.resources.unified[{file:?}]: {value:?} is no value of it"));
    let number = |text: &str| match text {
        "max" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|_| invalid()),
    };
    let property = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs".into(), Value::Bytes(bitmask(value)?))]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes".into(), Value::Bytes(bitmask(value)?))]),
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let period: u64 = period.trim().parse().ok().filter(|period| *period > 0).ok_or_else(invalid)?;
            let quota = match number(quota)? {
                u64::MAX => Limit::Max,
                quota => Limit::At(quota),
            };
            let quota = Value::U64(quota_per_second(quota, period));
            let period = Value::U64(period);
            return Ok(vec![("CPUQuotaPerSecUSec".into(), quota), ("CPUQuotaPeriodUSec".into(), period)]);
        }
        _ => return Ok(Vec::new()),
    };
    // systemd takes no limit of no process; the file gets it.
    let least = u64::from(property == "TasksMax");
    Ok(vec![(property.into(), Value::U64(number(value)?.max(least)))])
}

/// Microseconds of processor time per second. systemd keeps whole percents, so what is in between is
/// rounded up (runc: systemd/common.go), else the kernel would refuse our exact value below it.
fn quota_per_second(quota: Limit, period: u64) -> u64 {
    match quota {
        Limit::Max => u64::MAX,
        Limit::At(quota) => {
            let exact = quota.saturating_mul(1_000_000) / period;
            exact.checked_next_multiple_of(10_000).unwrap_or(u64::MAX)
        }
    }
}

/// `0-2,7` as systemd's bit mask, the lowest processor in the lowest bit of the first byte.
fn bitmask(list: &str) -> Result<Vec<u8>> {
    let invalid = || Error::invalid(format!("{list:?} is not a list such as 0-2,7"));
    let mut mask = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) =
            from.trim().parse().ok().zip(to.trim().parse().ok()).ok_or_else(invalid)?;
        // The kernel's own limit of processors is 8192.
        if from > to || to >= 65_536 {
            return Err(invalid());
        }
        for bit in from..=to {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(mask)
}

/// DevicePolicy and DeviceAllow, so that a daemon-reload writes the same list as we did.
///
/// `groups` is the text of /proc/devices: systemd takes a whole major by its driver's name. What its
/// words cannot say is an error on v1, where it would write its own list over ours; on v2 its filter
/// only adds to ours, so that none is as good.
pub(in crate::cgroups) fn devices(rules: &Rules, version: Version, groups: &str) -> Result<Vec<Property>> {
    let policy = |policy: &str, list| {
        let mut properties = vec![("DevicePolicy".to_owned(), Value::String(policy.into()))];
        properties.extend(replacing("DeviceAllow", Value::Pairs(list)));
        properties
    };
    match rules.list().and_then(|list| list.for_systemd(groups)) {
        Ok(Some(allowed)) => Ok(policy("strict", allowed)),
        Ok(None) => Ok(policy("auto", Vec::new())),
        Err(_) if version == Version::V2 => Ok(policy("auto", Vec::new())),
        Err(error) => Err(error),
    }
}

/// A property that takes the place of its old value. systemd adds a list of devices to the one that it
/// has, unless an empty one comes before.
pub(in crate::cgroups) fn replacing(name: &str, value: Value) -> Vec<Property> {
    let empty = match &value {
        Value::Pairs(list) if !list.is_empty() => Some((name.to_owned(), Value::Pairs(Vec::new()))),
        _ => None,
    };
    empty.into_iter().chain([(name.to_owned(), value)]).collect()
}

/// An `org.systemd.property.NAME` annotation; its value is in GVariant's text form, as in runc and
/// crun: `'text'`, `true`, `uint64 5`, `['a', 'b']`. A name in `Sec` is in seconds and becomes `USec`.
pub(in crate::cgroups) fn annotation(name: &str, text: &str) -> Result<Property> {
    let invalid =
        || Error::invalid(format!("annotation org.systemd.property.{name}: {text:?} is no property value"));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    let value = variant(text.trim()).ok_or_else(invalid)?;
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        None => Ok((name.to_owned(), value)),
        Some(stem) => {
            let microseconds = match value {
                Value::I32(seconds) => u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000)),
                Value::U32(seconds) => Some(u64::from(seconds) * 1_000_000),
                Value::I64(seconds) => u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000)),
                Value::U64(seconds) => seconds.checked_mul(1_000_000),
                // Checked to be in range; less than a microsecond is of no use.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                Value::F64(seconds) if (0.0..1e12).contains(&seconds) => Some((seconds * 1e6) as u64),
                _ => None,
            };
            Ok((format!("{stem}USec"), Value::U64(microseconds.ok_or_else(invalid)?)))
        }
    }
}

fn variant(text: &str) -> Option<Value> {
    if let Some(string) = quoted(text) {
        return Some(Value::String(string));
    }
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let strings = list.split(',').map(|item| quoted(item.trim())).collect::<Option<Vec<_>>>()?;
        return Some(Value::Strings(strings));
    }
    let (kind, digits) = text.split_once(' ').unwrap_or(("", text));
    match kind {
        "int32" => digits.parse().ok().map(Value::I32),
        "uint32" => digits.parse().ok().map(Value::U32),
        "int64" => digits.parse().ok().map(Value::I64),
        "uint64" => digits.parse().ok().map(Value::U64),
        "double" => digits.parse().ok().map(Value::F64),
        "boolean" => digits.parse().ok().map(Value::Bool),
        "" => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            // GVariant's default types: int32, and double with a point.
            _ => text.parse().map(Value::I32).ok().or_else(|| text.parse().map(Value::F64).ok()),
        },
        _ => None,
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    // An escape is more than a property of a unit has needed so far.
    (!inner.contains([quote, '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits_of(json: &str, version: Version) -> Vec<(String, Value)> {
        limits(&serde_json::from_str(json).unwrap(), version).unwrap()
    }

    #[test]
    fn docker_on_v2() {
        let json = r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"shares":1024,"quota":50000,
            "period":100000,"cpus":"0-2,9"},"pids":{"limit":0},"blockIO":{"weight":10}}"#;
        let expected = [
            ("MemoryMax", Value::U64(67_108_864)),
            ("MemorySwapMax", Value::U64(67_108_864)),
            ("CPUWeight", Value::U64(100)),
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("AllowedCPUs", Value::Bytes(vec![7, 2])),
            ("TasksMax", Value::U64(1)),
            ("IOWeight", Value::U64(1)),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(limits_of(json, Version::V2), expected);
    }

    #[test]
    fn files_of_cgroup_v2_are_properties_too() {
        let json = r#"{"memory":{"limit":67108864},"unified":{"memory.max":"max","memory.high":"1048576",
            "pids.max":"0","cpu.max":"50000 200000","cpuset.cpus":"0,3","memory.oom.group":"1"}}"#;
        let mut properties = limits_of(json, Version::V2);
        properties.sort_by(|(a, _), (b, _)| a.cmp(b));
        let expected = [
            ("AllowedCPUs", Value::Bytes(vec![9])),
            ("CPUQuotaPerSecUSec", Value::U64(250_000)),
            ("CPUQuotaPeriodUSec", Value::U64(200_000)),
            ("MemoryHigh", Value::U64(1_048_576)),
            ("MemoryMax", Value::U64(u64::MAX)),
            ("TasksMax", Value::U64(1)),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(properties, expected);
        for (file, value) in [("memory.max", "much"), ("cpu.max", "1 0"), ("cpuset.cpus", "x")] {
            unified(file, value).expect_err(file);
        }
    }

    #[test]
    fn quotas_are_rounded_up_to_whole_percents() {
        assert_eq!(quota_per_second(Limit::At(33_333), 100_000), 340_000);
        assert_eq!(quota_per_second(Limit::Max, 100_000), u64::MAX);
    }

    #[test]
    fn devices_in_systemds_words() {
        let rules = Rules::new(&[]).unwrap();
        let properties =
            devices(&rules, Version::V1, "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n")
                .unwrap();
        let Value::Pairs(list) = &properties[2].1 else { panic!("{properties:?}") };
        assert_eq!(properties[1].1, Value::Pairs(Vec::new()), "what was allowed before");
        for (device, access) in
            [("char-*", "m"), ("block-*", "m"), ("/dev/char/1:3", "rwm"), ("char-pts", "rwm")]
        {
            assert!(list.contains(&(device.to_owned(), access.to_owned())), "{device} in {list:?}");
        }
        assert_eq!(properties[0].1, Value::String("strict".into()));
    }

    #[test]
    fn annotations_are_gvariant_text() {
        let value = |name, text| annotation(name, text).unwrap();
        assert_eq!(value("TimeoutStopUSec", "uint64 5"), ("TimeoutStopUSec".into(), Value::U64(5)));
        assert_eq!(value("TimeoutStopSec", "1.5"), ("TimeoutStopUSec".into(), Value::U64(1_500_000)));
        assert_eq!(
            value("CollectMode", "'inactive-or-failed'").1,
            Value::String("inactive-or-failed".into())
        );
        assert_eq!(
            value("After", "['a.service', \"b\"]").1,
            Value::Strings(vec!["a.service".into(), "b".into()])
        );
        assert_eq!(value("X", "true").1, Value::Bool(true));
        for text in ["", "'a", "text", "[x]", "uint64 -1"] {
            annotation("X", text).expect_err(text);
        }
        annotation("A b", "1").unwrap_err();
    }
}
