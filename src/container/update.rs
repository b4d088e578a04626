//! `update`: changes the limits of a container.

use std::time::Duration;

use oci_spec::runtime::{LinuxIntelRdt, LinuxMemory, LinuxResources};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Host;
use super::freeze::live_record;
use super::state::{Record, StateDir};
use crate::error::{Error, Result};
use crate::{cgroups, json, log, resctrl, spec};

/// Sets `changes`, and of caches and memory bandwidth the `shares` (`l3CacheSchema`, `memBwSchema`); what they
/// do not mention stays as it is. All of them, or none.
///
/// Memory and cpu are set together with the container's other values of the same kind, since limits
/// depend on each other: that of swap on cgroup v2 is worked out from that of memory, and a period
/// without its quota means nothing. Devices are left alone unless `changes` has a list: a plugin of
/// the engine may have changed the filter since.
///
/// # Errors
/// The container has stopped, or the kernel refuses a value: the limits are then what they were.
pub fn update(host: &Host, id: &str, changes: LinuxResources, shares: Option<&LinuxIntelRdt>) -> Result<()> {
    let dir = host.root.open(id)?;
    let _lock = dir.lock(Duration::from_secs(10))?;
    shares.map_or(Ok(()), resctrl::check_host)?;
    let record = live_record(&dir)?;
    let mut config = Config::read(&dir)?;
    let class = match shares {
        Some(shares) => resctrl::Change::plan(shares, record.rdt.as_ref(), config.rdt.as_ref())?,
        None => None,
    };
    if let Some(class) = &class {
        class.apply()?;
    }
    // A container without a cgroup may have a class all the same.
    if shares.is_none() || changes != LinuxResources::default() {
        let result = set_limits(&record, &mut config, &changes);
        result.map_err(|error| match &class {
            Some(class) => class.set_back_after(error),
            None => error,
        })?;
    }
    // A later update merges with what is in force now.
    config.write(&dir, shares)
}

fn set_limits(record: &Record, config: &mut Config, changes: &LinuxResources) -> Result<()> {
    let mut changes = without_unset(changes)?;
    unlimit_swap_with_memory(&mut changes);
    let merged: LinuxResources = merge(&config.resources, &changes)?;
    let mut wanted = changes;
    if wanted.memory().is_some() {
        wanted.set_memory(*merged.memory());
    }
    if wanted.cpu().is_some() {
        wanted.set_cpu(merged.cpu().clone());
    }
    let mut warnings = Vec::new();
    let update = cgroups::Update { changes: &wanted, before: &config.resources };
    let result = record.cgroup.update(&update, &mut warnings);
    warnings.iter().for_each(|warning| log::warning(warning));
    result?;
    config.resources = merged;
    Ok(())
}

/// Members of which 0, or an empty list, is no value.
const UNSET_BY_ZERO: [(&str, &[&str]); 3] = [
    ("memory", &["limit", "reservation", "swap", "kernel", "kernelTCP"]),
    ("cpu", &["shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"]),
    ("blockIO", &["weight", "leafWeight"]),
];

/// The changes without what they only seem to mention: Docker 20.10 sends a memory limit of 0 when anything else is
/// updated. Merged with the limits in force it would take the place of the real one.
fn without_unset(changes: &LinuxResources) -> Result<LinuxResources> {
    let mut document = serde_json::to_value(changes).map_err(encoding)?;
    for (kind, members) in UNSET_BY_ZERO {
        if let Some(Value::Object(limits)) = document.get_mut(kind) {
            limits.retain(|name, value| !members.contains(&name.as_str()) || (*value != 0 && *value != ""));
        }
    }
    serde_json::from_value(document).map_err(encoding)
}

/// Memory without a limit and swap with the old one would not fit together, and nobody who lifts the
/// one means to keep the other (as runc).
fn unlimit_swap_with_memory(changes: &mut LinuxResources) {
    let memory = changes.memory().filter(|memory| memory.limit() == Some(-1) && memory.swap().is_none());
    if let Some(mut memory) = memory {
        memory.set_swap(Some(-1));
        changes.set_memory(Some::<LinuxMemory>(memory));
    }
}

/// The container's config.json.
struct Config {
    document: Value,
    resources: LinuxResources,
    rdt: Option<LinuxIntelRdt>,
}

impl Config {
    fn read(dir: &StateDir) -> Result<Self> {
        let text = dir.config()?;
        // Its warnings were given when the container was created.
        let spec = spec::parse(&text, &mut Vec::new())?;
        let linux = spec.linux().clone().unwrap_or_default();
        let resources = linux.resources().clone().unwrap_or_default();
        let document = json::read(&text).map_err(encoding)?;
        Ok(Self { document, resources, rdt: linux.intel_rdt().clone() })
    }

    fn write(mut self, dir: &StateDir, shares: Option<&LinuxIntelRdt>) -> Result<()> {
        let linux = &mut self.document["linux"];
        linux["resources"] = serde_json::to_value(&self.resources).map_err(encoding)?;
        if let Some(shares) = shares {
            merge_value(&mut linux["intelRdt"], serde_json::to_value(shares).map_err(encoding)?);
        }
        dir.save_config(&serde_json::to_vec(&self.document).map_err(encoding)?)
    }
}

fn encoding(error: serde_json::Error) -> Error {
    Error::invalid(format!("linux.resources: {error}"))
}

/// `old` with the members that `new` has.
fn merge<T: Serialize + DeserializeOwned>(old: &T, new: &T) -> Result<T> {
    let mut merged = serde_json::to_value(old).map_err(encoding)?;
    merge_value(&mut merged, serde_json::to_value(new).map_err(encoding)?);
    serde_json::from_value(merged).map_err(encoding)
}

fn merge_value(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, member) in new {
                merge_value(old.entry(name).or_insert(Value::Null), member);
            }
        }
        (Value::Array(old), Value::Array(new)) if new.iter().all(|limit| subject(limit).is_some()) => {
            for limit in new {
                match old.iter_mut().find(|other| subject(other) == subject(&limit)) {
                    Some(other) => *other = limit,
                    None => old.push(limit),
                }
            }
        }
        (old, new) => *old = new,
    }
}

/// What an element of a list limits; None for a rule of the device filter, whose list is one whole.
fn subject(limit: &Value) -> Option<[&Value; 2]> {
    let member = |name: &str| limit.get(name);
    if limit.get("allow").is_some() {
        return None;
    }
    match (member("major"), member("minor"), member("pageSize").or_else(|| member("name"))) {
        (Some(major), Some(minor), _) => Some([major, minor]),
        (_, _, Some(name)) => Some([name, &Value::Null]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(old: Value, new: Value) -> Value {
        let resources = |value| serde_json::from_value::<LinuxResources>(value).unwrap();
        serde_json::to_value(merge(&resources(old), &resources(new)).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        assert_eq!(
            merged(
                json!({"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 9}}),
                json!({"memory": {"limit": 3}, "cpu": {"quota": 5}})
            ),
            json!({"memory": {"limit": 3, "swap": 2}, "pids": {"limit": 9}, "cpu": {"quota": 5}})
        );
    }

    #[test]
    fn lists_are_merged_by_what_they_limit() {
        assert_eq!(
            merged(
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}]}),
                json!({"hugepageLimits": [{"pageSize": "1GB", "limit": 7}]})
            ),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 7}]})
        );
        let throttle = |major: i64, rate: u64| json!({"major": major, "minor": 0, "rate": rate});
        assert_eq!(
            merged(
                json!({"blockIO": {"throttleReadBpsDevice": [throttle(8, 1)]}}),
                json!({"blockIO": {"throttleReadBpsDevice": [throttle(8, 2), throttle(9, 3)]}})
            ),
            json!({"blockIO": {"throttleReadBpsDevice": [throttle(8, 2), throttle(9, 3)]}})
        );
    }

    #[test]
    fn a_device_list_replaces_the_old_one() {
        let rule = |allow: bool, minor: i64| json!({"allow": allow, "type": "c", "major": 1, "minor": minor, "access": "r"});
        assert_eq!(
            merged(json!({"devices": [rule(true, 3), rule(true, 5)]}), json!({"devices": [rule(false, 3)]})),
            json!({"devices": [rule(false, 3)]})
        );
    }

    #[test]
    fn what_is_zero_is_not_mentioned() {
        let all = json!({
            "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0, "swappiness": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": "", "idle": 0},
            "blockIO": {"weight": 0, "leafWeight": 0},
            "pids": {"limit": 0},
        });
        let changes = without_unset(&serde_json::from_value(all).unwrap()).unwrap();
        // Those of which 0 is a value.
        assert_eq!(
            serde_json::to_value(changes).unwrap(),
            json!({"memory": {"swappiness": 0}, "cpu": {"idle": 0}, "blockIO": {}, "pids": {"limit": 0}})
        );
    }

    #[test]
    fn memory_without_limit_frees_swap() {
        let mut changes = serde_json::from_value(json!({"memory": {"limit": -1}})).unwrap();
        unlimit_swap_with_memory(&mut changes);
        assert_eq!(changes.memory().unwrap().swap(), Some(-1));
        let mut changes = serde_json::from_value(json!({"memory": {"limit": -1, "swap": 5}})).unwrap();
        unlimit_swap_with_memory(&mut changes);
        assert_eq!(changes.memory().unwrap().swap(), Some(5));
    }
}
