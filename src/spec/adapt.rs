//! Where the types of oci-spec are narrower than the specification, or say less: each case is a function.

use std::ffi::OsStr;

use oci_spec::runtime::{Capability, Process, Spec};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::annotations;
use super::document::{Document, reword};
use super::finding::Rule;
use super::validate::is_cpu_list;

pub(super) static CPU_LIST: Rule = Rule::error("cpu-affinity", "config.md#linux-process", "");
pub(super) static UNKNOWN_CAPABILITY: Rule =
    Rule::warning("unknown-capability", "config.md#linux-process", "capabilities(7) has the names");

/// Go writes and reads absent members as null.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Sections that are not ours to understand, and two members that only oci-spec knows.
pub(super) fn drop_other_platforms(members: &mut Map<String, Value>) {
    for name in ["solaris", "windows", "vm", "zos", "freebsd", "uidMappings", "gidMappings"] {
        members.remove(name);
    }
}

pub(super) fn adapt_process(process: &mut Value, document: &mut Document) {
    let Some(members) = process.as_object_mut() else { return };
    // Without a user it is 0:0; oci-spec requires the member, the specification's schema does not.
    members.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if let Some(Value::Object(sets)) = members.get_mut("capabilities") {
        drop_unknown_capabilities(sets, document);
    }
    if let Some(Value::Array(rlimits)) = members.get("rlimits") {
        document.require_members("process.rlimits", rlimits, &["soft", "hard"], |_| true);
    }
    if let Some(Value::Object(affinity)) = members.get_mut("execCPUAffinity") {
        drop_wrong_cpu_lists(affinity, document);
    }
    if let Some(Value::Array(flags)) = process.pointer_mut("/scheduler/flags") {
        flags.iter_mut().for_each(rename_scheduler_flag);
    }
}

/// config.md#linux-process: "Any value which cannot be mapped to a relevant kernel interface […] MUST
/// be logged as a warning".
fn drop_unknown_capabilities(sets: &mut Map<String, Value>, document: &mut Document) {
    for (set, names) in sets {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let unknown = name.as_str().filter(|_| Capability::deserialize(name).is_err());
            if let Some(name) = unknown {
                let path = format!("process.capabilities.{set}");
                // runc's words.
                let text = format!("ignoring unknown or unavailable capabilities: [{name}]");
                document.add(&UNKNOWN_CAPABILITY, &path, &text);
            }
            unknown.is_none()
        });
    }
}

/// oci-spec refuses such a list too, but once all of its object is read: the path would be the object's.
fn drop_wrong_cpu_lists(affinity: &mut Map<String, Value>, document: &mut Document) {
    affinity.retain(|name, list| match list.as_str() {
        Some(list) if !list.is_empty() && !is_cpu_list(list) => {
            let path = format!("process.execCPUAffinity.{name}");
            document.add(&CPU_LIST, &path, &format!("must be a list like 0-3,7, not {list:?}"));
            false
        }
        // Go has "" where oci-spec has an absent value.
        Some("") => false,
        _ => true,
    });
}

/// oci-spec derives two flags' names wrongly from their variants.
fn rename_scheduler_flag(flag: &mut Value) {
    match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
        Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
        _ => {}
    }
}

pub(super) fn adapt_linux(linux: &mut Value, document: &mut Document) {
    if let Some(Value::Array(devices)) = linux.get("devices") {
        let has_number = |device: &Value| device.get("type").is_some_and(|typ| typ != "p");
        document.require_members("linux.devices", devices, &["major", "minor"], has_number);
    }
    if let Some(Value::Object(rdt)) = linux.get_mut("intelRdt") {
        rename_switch(rdt, "enableCMT", "enableCmt", document);
        rename_switch(rdt, "enableMBM", "enableMbm", document);
    }
    let Some(Value::Object(resources)) = linux.get_mut("resources") else { return };
    // Absent is "leave it alone" and 0 is a limit; oci-spec has 0 for both.
    if resources.get("pids").is_some_and(|pids| pids.is_object() && pids.get("limit").is_none()) {
        resources.remove("pids");
    }
    if let Some(Value::Array(rules)) = resources.get_mut("devices") {
        // Go has "" where oci-spec has an absent value.
        rules.iter_mut().filter_map(Value::as_object_mut).for_each(|rule| {
            rule.retain(|name, member| name != "type" || member != "");
        });
    }
    if let Some(Value::Array(limits)) = resources.get_mut("hugepageLimits") {
        limits.iter_mut().filter_map(|limit| limit.get_mut("limit")).for_each(clamp_to_i64);
    }
}

/// uint64 in the specification, i64 in oci-spec; no host has so many bytes that it made a difference.
fn clamp_to_i64(limit: &mut Value) {
    if limit.as_u64().is_some_and(|limit| limit > i64::MAX.unsigned_abs()) {
        *limit = i64::MAX.into();
    }
}

/// oci-spec derives these names wrongly; nobody shall read them in a path.
fn rename_switch(rdt: &mut Map<String, Value>, from: &str, to: &str, document: &mut Document) {
    let Some(switch) = rdt.remove(from) else { return };
    match bool::deserialize(&switch) {
        Ok(_) => drop(rdt.insert(to.into(), switch)),
        Err(error) => document.add(
            &super::document::TYPE,
            &format!("linux.intelRdt.{from}"),
            &reword(&error.to_string()),
        ),
    }
}

/// Sets members that are "" to absent: Go's encoders write either, and its readers take both for absent.
macro_rules! clear_empty {
    ($owner:expr, $($get:ident $set:ident),+) => { $(if is_empty($owner.$get()) { $owner.$set(None); })+ };
}

fn is_empty<T: AsRef<OsStr>>(member: &Option<T>) -> bool {
    member.as_ref().is_some_and(|text| text.as_ref().is_empty())
}

/// What absent values, and crun's annotation from before there was listenerPath, mean in the types.
pub(super) fn adapt_spec(spec: &mut Spec) {
    if spec.linux().is_none() {
        // Whoever takes oci-spec's default for it would have namespaces that nobody asked for.
        // Nothing in an object without members can be wrong.
        spec.set_linux(serde_json::from_str("{}").ok());
    }
    clear_empty_members(spec);
    name_seccomp_agent(spec);
}

fn clear_empty_members(spec: &mut Spec) {
    clear_empty!(spec, hostname set_hostname, domainname set_domainname);
    if let Some(process) = spec.process_mut() {
        clear_empty_labels(process);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        clear_empty!(mount, typ set_typ, source set_source);
    }
    let Some(linux) = spec.linux_mut() else { return };
    clear_empty!(linux, cgroups_path set_cgroups_path, rootfs_propagation set_rootfs_propagation);
    clear_empty!(linux, mount_label set_mount_label);
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        clear_empty!(namespace, path set_path);
    }
    if let Some(seccomp) = linux.seccomp_mut() {
        clear_empty!(seccomp, listener_path set_listener_path, listener_metadata set_listener_metadata);
    }
}

/// crun's annotation from before there was listenerPath. The field wins.
fn name_seccomp_agent(spec: &mut Spec) {
    let Some(receiver) = annotations::seccomp_receiver(spec) else { return };
    let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().as_mut());
    if let Some(seccomp) = seccomp.filter(|seccomp| seccomp.listener_path().is_none()) {
        seccomp.set_listener_path(Some(receiver));
    }
}

pub(super) fn clear_empty_labels(process: &mut Process) {
    clear_empty!(process, apparmor_profile set_apparmor_profile, selinux_label set_selinux_label);
}
