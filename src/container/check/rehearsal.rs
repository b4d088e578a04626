//! The plans that `create` makes, made for what they refuse and warn of: the same code, so that the two agree.
//! `create` stops at the first refusal; here each member is planned by itself.

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};

use super::super::plan::{annotate, cgroup_view, seccomp_filter};
use crate::cgroups::{self, Driver, Layout};
use crate::error::{Error, Result};
use crate::namespaces::{self, Kind};
use crate::spec::{Finding, Rule, annotations};
use crate::{resctrl, rootfs, security};

/// Names the container, of which no id is known.
const ID: &str = "berth-check";

static MOUNT: Rule = Rule::error("mount", "config.md#mounts", "");
static MOUNT_UNUSED: Rule = Rule::warning("mount-unused", "config.md#linux-mount-options", "leave it out");
static CGROUPS_PATH: Rule = Rule::error("cgroups-path", "config-linux.md#cgroups-path", "");
static RESOURCES: Rule = Rule::error("resources", "config-linux.md#control-groups", "");
static RESOURCE_UNUSED: Rule =
    Rule::warning("resource-unused", "config-linux.md#control-groups", "leave it out");
static ANNOTATION: Rule = Rule::error("annotation-plan", "config.md#annotations", "see docs/annotations.md");
static ANNOTATION_UNUSED: Rule = Rule::warning("annotation-unused", "config.md#annotations", "leave it out");
static SECCOMP: Rule = Rule::error("seccomp-filter", "config-linux.md#seccomp", "");
static SECCOMP_UNUSED: Rule = Rule::warning("seccomp-unused", "config-linux.md#seccomp", "");
static INTEL_RDT: Rule = Rule::error("resctrl", "config-linux.md#intelrdt", "");
static APPARMOR: Rule =
    Rule::error("apparmor", "config.md#linux-process", "leave it out, or turn AppArmor on");
static SELINUX: Rule = Rule::error("selinux", "config.md#linux-process", "leave it out, or turn SELinux on");
static SYSCTL: Rule = Rule::error(
    "sysctl-host",
    "config-linux.md#sysctl",
    "the container needs a namespace that is not the host's",
);
static PROCESS: Rule = Rule::error("process-plan", "config.md#process", "");
static CAPABILITY: Rule =
    Rule::warning("capability-missing", "config.md#linux-process", "the container goes without them");
static NAMESPACE: Rule = Rule::error("namespace-join", "config-linux.md#namespaces", "");

/// Every rule of this file.
#[cfg(test)]
pub(super) static RULES: [&Rule; 16] = [
    &MOUNT,
    &MOUNT_UNUSED,
    &CGROUPS_PATH,
    &RESOURCES,
    &RESOURCE_UNUSED,
    &ANNOTATION,
    &ANNOTATION_UNUSED,
    &SECCOMP,
    &SECCOMP_UNUSED,
    &INTEL_RDT,
    &APPARMOR,
    &SELINUX,
    &SYSCTL,
    &PROCESS,
    &CAPABILITY,
    &NAMESPACE,
];

/// The plans that could be made.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// Limits; None if one of them was refused.
    pub cgroup: Option<cgroups::Plan>,
    /// The process; without what was refused of it.
    pub security: security::Plan,
    /// Namespaces.
    pub namespaces: namespaces::Plan,
}

/// Plans the container of `spec`; what is refused goes to `findings`. The host is read, and nothing made.
///
/// # Errors
/// The host cannot be read.
pub(super) fn rehearse(
    spec: &Spec,
    bundle: &Path,
    driver: Driver,
    findings: &mut Vec<Finding>,
) -> Result<Plans> {
    let linux = spec.linux().clone().unwrap_or_default();
    // What it refuses the rules of the specification find one by one.
    let namespaces = namespaces::plan(&linux).unwrap_or_default();
    join(spec, &namespaces, findings);
    let security = process(spec, findings)?;
    let layout = Layout::detect()?;
    let mut cgroup = limits(spec, &layout, driver, findings);
    let systemd_v1 = annotated(cgroup.as_mut(), spec, &layout, &namespaces, findings);
    mounts(spec, bundle, &namespaces, cgroup.as_ref(), systemd_v1, &layout, findings);
    let mut warnings = Vec::new();
    let filter = seccomp_filter(spec, &mut warnings);
    let compiled = filter.and_then(|filter| filter.map(|checked| checked.compile()).transpose());
    let path = "linux.seccomp";
    findings.extend(compiled.err().map(|error| refused(&SECCOMP, path, &error)));
    findings.extend(warnings.iter().map(|warning| told(&SECCOMP_UNUSED, path, warning)));
    if let Some(rdt) = linux.intel_rdt()
        && let Err(error) = resctrl::plan(rdt, ID).find()
    {
        findings.push(refused(&INTEL_RDT, "linux.intelRdt", &error));
    }
    Ok(Plans { cgroup, security, namespaces })
}

/// Looks whether each path leads to a namespace of its type.
fn join(spec: &Spec, plan: &namespaces::Plan, findings: &mut Vec<Finding>) {
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for join in &plan.joins {
        let alone = namespaces::Plan { joins: vec![join.clone()], ..namespaces::Plan::default() };
        let index = all.iter().position(|namespace| Kind::from(namespace.typ()) == join.kind);
        if let (Err(error), Some(index)) = (alone.open(), index) {
            findings.push(refused(&NAMESPACE, &format!("linux.namespaces[{index}].path"), &error));
        }
    }
}

/// The process; each label and sysctl that is refused is taken out, so that the next is found too.
fn process(spec: &Spec, findings: &mut Vec<Finding>) -> Result<security::Plan> {
    let (Some(mut process), mut linux) = (spec.process().clone(), spec.linux().clone().unwrap_or_default())
    else {
        return Ok(security::Plan::default());
    };
    let host = security::Host::look(&process)?;
    loop {
        let mut warnings = Vec::new();
        let error = match security::plan(&process, &linux, &host, &mut warnings) {
            Ok(plan) => {
                let path = "process.capabilities";
                findings.extend(warnings.iter().map(|warning| told(&CAPABILITY, path, warning)));
                return Ok(plan);
            }
            Err(error) => error,
        };
        let finding = refused(&PROCESS, "process", &error);
        let rule = match finding.path.as_str() {
            "process.apparmorProfile" => {
                process.set_apparmor_profile(None);
                &APPARMOR
            }
            "process.selinuxLabel" => {
                process.set_selinux_label(None);
                &SELINUX
            }
            "linux.sysctl" => {
                linux.set_sysctl(None);
                &SYSCTL
            }
            _ => {
                // The rules of the specification name the member, this the whole object.
                let path = finding.path.split('.').take(2).collect::<Vec<_>>().join(".");
                findings.push(Finding { path, ..finding });
                return Ok(security::Plan::default());
            }
        };
        findings.push(Finding { rule, ..finding });
    }
}

/// Limits, member by member, and where the cgroup would be.
fn limits(
    spec: &Spec,
    layout: &Layout,
    driver: Driver,
    findings: &mut Vec<Finding>,
) -> Option<cgroups::Plan> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let resources = linux.resources().clone();
    linux.set_resources(None);
    let plan = match cgroups::plan(Some(&linux), ID, layout, driver, &mut Vec::new()) {
        Ok(plan) => plan,
        Err(error) => {
            findings.push(refused(&CGROUPS_PATH, "linux.cgroupsPath", &error));
            return None;
        }
    };
    let Some(resources) = resources else { return Some(plan) };
    let before = findings.len();
    for (member, alone) in apart(&resources) {
        let path = format!("linux.resources.{member}");
        let mut warnings = Vec::new();
        linux.set_resources(Some(alone));
        let planned = cgroups::plan(Some(&linux), ID, layout, driver, &mut warnings);
        findings.extend(planned.err().map(|error| refused(&RESOURCES, &path, &error)));
        findings.extend(warnings.iter().map(|warning| told(&RESOURCE_UNUSED, &path, warning)));
    }
    if findings[before..].iter().any(|finding| finding.rule == &RESOURCES) {
        return None;
    }
    linux.set_resources(Some(resources));
    match cgroups::plan(Some(&linux), ID, layout, driver, &mut Vec::new()) {
        Ok(plan) => Some(plan),
        // Each is right by itself, and not all of them together.
        Err(error) => {
            findings.push(refused(&RESOURCES, "linux.resources", &error));
            None
        }
    }
}

/// What annotations ask of the cgroup; the hierarchy of cgroup v1 that is to be shown.
fn annotated(
    cgroup: Option<&mut cgroups::Plan>,
    spec: &Spec,
    layout: &Layout,
    namespaces: &namespaces::Plan,
    findings: &mut Vec<Finding>,
) -> Option<rootfs::Hierarchy> {
    let mut warnings = Vec::new();
    let annotated = annotate(cgroup?, spec, layout, namespaces, &mut warnings);
    findings.extend(warnings.iter().map(|warning| told(&ANNOTATION_UNUSED, "annotations", warning)));
    annotated.map_err(|error| findings.push(refused(&ANNOTATION, "annotations", &error))).ok().flatten()
}

/// Each member of `resources` alone, with its name.
fn apart(resources: &LinuxResources) -> Vec<(&'static str, LinuxResources)> {
    macro_rules! alone {
        ($($name:literal $get:ident $set:ident),+) => {
            [$(($name, LinuxResources::default().$set(resources.$get().clone()).clone())),+]
        };
    }
    let all = alone!(
        "memory" memory set_memory, "cpu" cpu set_cpu, "pids" pids set_pids, "blockIO" block_io set_block_io,
        "hugepageLimits" hugepage_limits set_hugepage_limits, "network" network set_network,
        "rdma" rdma set_rdma, "unified" unified set_unified, "devices" devices set_devices
    );
    all.into_iter().filter(|(_, alone)| alone != &LinuxResources::default()).collect()
}

fn mounts(
    spec: &Spec,
    bundle: &Path,
    namespaces: &namespaces::Plan,
    cgroup: Option<&cgroups::Plan>,
    systemd_v1: Option<rootfs::Hierarchy>,
    layout: &Layout,
    findings: &mut Vec<Finding>,
) {
    let request = rootfs::Request {
        spec,
        bundle,
        rootfs: bundle,
        cgroups: cgroup.map(|plan| cgroup_view(&plan.record(), layout)).unwrap_or_default(),
        cgroup_v1: annotations::cgroup_v1(spec).zip(systemd_v1),
        user_namespace: namespaces.has(Kind::User),
        cgroup_namespace: namespaces.creates(Kind::Cgroup),
        network_namespace: namespaces.creates(Kind::Network),
        mount_namespace: true,
        label_option: annotations::ContextType::of(spec).name(),
        no_pivot: false,
        uid_gid_of_root: (0, 0),
    };
    rootfs::rehearse_mounts(&request, |index, warnings, error| {
        let path = format!("mounts[{index}]");
        if cgroup.is_some() {
            findings.extend(warnings.iter().map(|warning| told(&MOUNT_UNUSED, &path, warning)));
        }
        let Some(error) = error else { return };
        let finding = refused(&MOUNT, &path, &error);
        let members = ["destination", "source", "type", "options"];
        let member = members.iter().find(|name| finding.message.starts_with(&format!("{name}: ")));
        let options = finding.message.starts_with("options of ").then_some(&"options");
        let path = member.or(options).map_or(path, |member| format!("mounts[{index}].{member}"));
        findings.push(Finding { path, ..finding });
    });
}

/// An error of a plan as a finding at `path`, or at the field that the error begins with.
fn refused(rule: &'static Rule, path: &str, error: &Error) -> Finding {
    let (message, remedy) = error.apart();
    told(rule, path, &message).with_remedy(remedy)
}

/// Plans begin with the field that they mean: `linux.resources.cpu.shares: 1 is not …`.
fn told(rule: &'static Rule, path: &str, message: &str) -> Finding {
    let (first, rest) = message.split_once(' ').unwrap_or((message, ""));
    match ["linux.", "process.", "annotations["].iter().any(|member| first.starts_with(member)) {
        true => Finding::new(rule, first.trim_end_matches(':'), rest),
        false => Finding::new(rule, path, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_an_error_is_its_path() {
        let error = Error::invalid("linux.resources.cpu.shares: 1 is not between 2 and 262144");
        let finding = refused(&RESOURCES, "linux.resources.cpu", &error);
        assert_eq!(
            (finding.path.as_str(), finding.message.as_str()),
            ("linux.resources.cpu.shares", "1 is not between 2 and 262144")
        );
        let error = Error::unsupported("no resctrl file system is mounted").remedy("mount it");
        let finding = refused(&INTEL_RDT, "linux.intelRdt", &error);
        assert_eq!((finding.path.as_str(), finding.best_remedy()), ("linux.intelRdt", Some("mount it")));
    }

    #[test]
    fn each_member_of_the_resources_stands_alone() {
        let resources: LinuxResources =
            serde_json::from_str(r#"{"memory": {"limit": 1}, "pids": {"limit": 2}, "devices": []}"#).unwrap();
        let names: Vec<_> = apart(&resources).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["memory", "pids", "devices"]);
    }
}
