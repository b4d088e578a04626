//! `linux.netDevices`: devices of a host move into the container. The host is a network namespace of the
//! test's own.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::tests;
use nix::sched::{CloneFlags, unshare};
use std::process::Command;

tests! {
    moved_renamed_and_up, addresses_are_kept, mtu_and_hardware_address_are_kept, several_devices, into_a_joined_namespace,
    into_a_user_namespaces_network, taken_name_is_refused, missing_device_is_refused, loopback_is_refused,
    without_a_network_namespace_is_refused, sysctl_of_a_moved_device, device_is_back_after_a_failed_birth, moved_before_the_hooks,
    under_create_and_start,
}

/// `ip WORDS`, in the network namespace of this process.
#[track_caller]
fn ip(words: &str) -> String {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    command.done().ok().stdout()
}

/// A host of its own with a device that has two addresses and is up.
fn host_with_a_device(name: &str) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    add_device(name, "10.7.0.1/24");
    ip(&format!("address add 192.0.2.9/32 dev {name}"));
    ip(&format!("link set {name} up"));
}

fn add_device(name: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name {name}-peer"));
    ip(&format!("address add {address} dev {name}"));
}

fn with_device(host: &str, container: Value) -> Bundle {
    Bundle::new().set(&format!("/linux/netDevices/{host}"), container)
}

/// The IPv4 addresses of an interface that is up.
fn addresses(report: &Report, name: &str) -> Vec<String> {
    let all = report["interfaces"].as_array().expect("interfaces");
    let own = all.iter().filter(|one| one["name"] == name && one["up"] == true);
    let mut addresses: Vec<String> = own
        .filter_map(|one| one["address"].as_str().map(|text| text.trim_end_matches(":0").to_owned()))
        .filter(|text| text.split('.').count() == 4)
        .collect();
    addresses.sort();
    addresses
}

fn is_there(name: &str) -> bool {
    ip("-o link show").split_whitespace().any(|word| word.starts_with(&format!("{name}@")))
}

fn moved_renamed_and_up() {
    host_with_a_device("lan7");
    let report = with_device("lan7", json!({ "name": "eth0" })).report();
    assert_eq!(addresses(&report, "eth0"), ["10.7.0.1", "192.0.2.9"]);
    assert!(!is_there("lan7"), "it has left the host");
}

fn addresses_are_kept() {
    host_with_a_device("lan7");
    ip("address add 2001:db8::7/64 dev lan7");
    let report = with_device("lan7", json!({})).report();
    let text = report["interfaces"].to_string();
    assert!(text.contains("[2001:db8::7]"), "{text}");
    assert_eq!(addresses(&report, "lan7"), ["10.7.0.1", "192.0.2.9"]);
}

fn mtu_and_hardware_address_are_kept() {
    host_with_a_device("lan7");
    ip("link set lan7 mtu 1234 address 02:00:00:00:00:07");
    let steps = ["read:/sys/class/net/lan7/mtu", "read:/sys/class/net/lan7/address"];
    let report = with_device("lan7", json!({})).report_after(&steps);
    assert_eq!(
        (report.probe(steps[0]), report.probe(steps[1])),
        (&json!("1234"), &json!("02:00:00:00:00:07"))
    );
}

fn several_devices() {
    host_with_a_device("lan7");
    add_device("lan8", "10.8.0.1/24");
    // The names change places.
    let report = with_device("lan7", json!({ "name": "lan8" }))
        .set("/linux/netDevices/lan8", json!({ "name": "lan7" }))
        .report();
    assert_eq!(addresses(&report, "lan8"), ["10.7.0.1", "192.0.2.9"]);
    assert_eq!(addresses(&report, "lan7"), ["10.8.0.1"]);
}

fn into_a_joined_namespace() {
    let mut owner = Bundle::new().steps(&["sleep:1000"]).container();
    owner.up();
    host_with_a_device("lan7");
    let path = format!("/proc/{}/ns/net", owner.pid());
    let report = with_device("lan7", json!({ "name": "eth0" })).namespace("network", Some(&path)).report();
    assert_eq!(addresses(&report, "eth0"), ["10.7.0.1", "192.0.2.9"]);
}

fn into_a_user_namespaces_network() {
    host_with_a_device("lan7");
    let report = with_device("lan7", json!({ "name": "eth0" })).user_namespace(100_000, 65_536).report();
    assert_eq!(addresses(&report, "eth0"), ["10.7.0.1", "192.0.2.9"]);
}

fn taken_name_is_refused() {
    host_with_a_device("lan7");
    with_device("lan7", json!({ "name": "lo" })).refused("is there already");
    assert_eq!(ip("-o -4 address show lan7 up").lines().count(), 2, "it is as it was");
}

fn missing_device_is_refused() {
    host_with_a_device("lan7");
    with_device("lan9", json!({})).refused("lan9");
}

fn loopback_is_refused() {
    host_with_a_device("lan7");
    with_device("lo", json!({ "name": "lo7" })).refused("cannot leave its namespace");
}

fn without_a_network_namespace_is_refused() {
    host_with_a_device("lan7");
    with_device("lan7", json!({})).without_namespace("network").refused("needs a network namespace");
    assert!(is_there("lan7"));
}

fn sysctl_of_a_moved_device() {
    host_with_a_device("lan7");
    let step = "read:/proc/sys/net/ipv4/conf/eth0/forwarding";
    let report = with_device("lan7", json!({ "name": "eth0" }))
        .set("/linux/sysctl", json!({ "net.ipv4.conf.eth0.forwarding": "1" }))
        .report_after(&[step]);
    assert_eq!(report.probe(step), "1");
}

fn device_is_back_after_a_failed_birth() {
    host_with_a_device("lan7");
    add_device("lan8", "10.8.0.1/24");
    let bundle = || with_device("lan7", json!({ "name": "eth0" })).set("/linux/netDevices/lan8", json!({}));
    bundle().hook("createRuntime", &["exit:3"]).refused("createRuntime");
    bundle().args(&["/no/such/program"]).refused("no such file");
    bundle().set("/linux/netDevices/lan9", json!({})).refused("lan9");
    assert_eq!(ip("-o -4 address show lan7 up").lines().count(), 2, "addresses and state of lan7");
    assert_eq!(ip("-o -4 address show lan8").lines().count(), 1, "address of lan8");
    assert_eq!(ip("-o link show lan8 up"), "", "lan8 was down");
}

fn moved_before_the_hooks() {
    host_with_a_device("lan7");
    let out = program::directory().join("hook");
    with_device("lan7", json!({ "name": "eth0" }))
        .hook("createContainer", &[&format!("report:{}", out.display())])
        .report();
    let report = Report::parse(&std::fs::read_to_string(out).expect("the hook's report"));
    assert_eq!(addresses(&report, "eth0"), ["10.7.0.1", "192.0.2.9"]);
}

fn under_create_and_start() {
    host_with_a_device("lan7");
    let mut container =
        with_device("lan7", json!({ "name": "eth0" })).steps(&["report", "sleep:1000"]).container();
    container.up();
    assert_eq!(addresses(&container.started_report(), "eth0"), ["10.7.0.1", "192.0.2.9"]);
    container.finish();
}
