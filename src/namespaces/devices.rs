//! `linux.netDevices`: devices of the host that move into the container's network namespace.
//!
//! Moving takes a device down and its addresses away (the kernel's dev_change_net_namespace), so that they
//! are noted before and given back after. Who may do so has rights over both namespaces: the parent.
//! When the container's namespace ends the kernel gives physical devices back to the host, and virtual
//! ones end with it (config-linux.md, Network devices); only a birth that fails brings them back itself.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use oci_spec::runtime::Linux;

use super::Kind;
use crate::error::{Call, Code, Context, Error, Result};
use crate::sys;
use crate::sys::netlink::{Request, Route, attributes, u32_at};

/// One device: its name on the host and its name in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// On the host.
    pub host: String,
    /// In the container.
    pub container: String,
}

/// The devices in the order of their names on the host.
pub(super) fn from_spec(linux: &Linux) -> Vec<NetDevice> {
    let mut devices: Vec<NetDevice> = linux
        .net_devices()
        .iter()
        .flatten()
        .map(|(host, device)| {
            let name = device.name().as_ref().filter(|name| !name.is_empty());
            NetDevice { host: host.clone(), container: name.unwrap_or(host).clone() }
        })
        .collect();
    devices.sort_by(|a, b| a.host.cmp(&b.host));
    devices
}

/// Devices that have moved; what it takes to bring them back.
#[derive(Debug)]
pub struct Moved {
    devices: Vec<Device>,
    /// The container's network namespace: it outlives the container's processes in this descriptor.
    namespace: File,
    there: Route,
    here: Route,
}

#[derive(Debug)]
struct Device {
    name: NetDevice,
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
}

/// An address as the kernel told of it: `struct ifaddrmsg` without its index, and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    head: [u8; 4],
    attributes: Vec<(u16, Vec<u8>)>,
}

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// `struct ifinfomsg`: family, type, index, flags, mask of the flags to change.
const LINK: usize = 16;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index.
const ADDRESS: usize = 8;
/// What a device's address keeps; a label has the device's old name in it, a lifetime only what is not kept.
const KEPT: [u16; 5] = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS, IFA_RT_PRIORITY];
/// IFA_F_PERMANENT: set by hand, not by DHCP or a router.
const PERMANENT: u32 = 0x80;
/// What the kernel says of an address that nobody can ask for: PERMANENT, TENTATIVE, DEPRECATED, DADFAILED.
const STATES: u32 = 0x80 | 0x40 | 0x20 | 0x08;
/// RT_SCOPE_UNIVERSE: a link-local address belongs to the link that the device leaves.
const GLOBAL: u8 = 0;

impl Moved {
    /// Opens both sides; `namespace` is the container's network namespace.
    ///
    /// # Errors
    /// The kernel's: without rights over that namespace, EPERM.
    pub fn none_yet(namespace: File) -> Result<Self> {
        let here = Route::open().call(|| "socket(NETLINK_ROUTE)".into())?;
        let there = open_there(namespace.as_fd())?;
        Ok(Self { devices: Vec::new(), namespace, there, here })
    }

    /// Moves one device, under its new name, with its addresses, and brings it up.
    ///
    /// # Errors
    /// There is no such device, the name is taken, the device cannot leave. What was done is undone by
    /// [`Moved::bring_back`].
    pub fn take(&mut self, name: &NetDevice) -> Result<()> {
        self.try_take(name).with_context(|| format!("linux.netDevices[{:?}]", name.host))
    }

    fn try_take(&mut self, name: &NetDevice) -> Result<()> {
        let (index, was_up) = find(&mut self.here, &name.host)?;
        let addresses = addresses(&mut self.here, index)?;
        match find(&mut self.there, &name.container) {
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let what = format!("a device named {:?} is there already", name.container);
                return Err(Error::new(Code::Exists, what));
            }
        }
        let moved = relocate(&mut self.here, index, &name.container, self.namespace.as_fd());
        // Its number is only kept where nobody else has it, its new name it gets after the move.
        let there = find(&mut self.there, &name.container).or_else(|_| find(&mut self.there, &name.host));
        if let Ok((index, _)) = there {
            self.devices.push(Device { name: name.clone(), index, was_up, addresses: addresses.clone() });
        }
        moved?;
        let (index, _) = there?;
        addresses.iter().try_for_each(|address| add(&mut self.there, index, address))?;
        bring_up(&mut self.there, index)
    }

    /// Brings all back, after a birth that failed. Routes over them are gone.
    ///
    /// # Errors
    /// The kernel's; the others are brought back all the same.
    pub fn bring_back(&mut self) -> Result<()> {
        let host = File::open("/proc/self/ns/net").call(|| "open(/proc/self/ns/net)".into())?;
        let mut result = Ok(());
        for device in std::mem::take(&mut self.devices).into_iter().rev() {
            let one = self.bring_one_back(&device, host.as_fd());
            let name = &device.name.host;
            result = result.and(one.with_context(|| format!("bring the network device {name:?} back")));
        }
        result
    }

    fn bring_one_back(&mut self, device: &Device, host: BorrowedFd<'_>) -> Result<()> {
        relocate(&mut self.there, device.index, &device.name.host, host)?;
        let (index, _) = find(&mut self.here, &device.name.host)?;
        device.addresses.iter().try_for_each(|address| add(&mut self.here, index, address))?;
        if device.was_up { bring_up(&mut self.here, index) } else { Ok(()) }
    }
}

/// A socket belongs to the namespace in which it was opened; the caller is back in its own afterwards.
fn open_there(namespace: BorrowedFd<'_>) -> Result<Route> {
    let own = File::open("/proc/self/ns/net").call(|| "open(/proc/self/ns/net)".into())?;
    let enter = |namespace: BorrowedFd<'_>, what: &str| {
        sys::namespace::setns(namespace, Kind::Network.flag()).call(|| format!("setns({what})"))
    };
    enter(namespace, "the container's network namespace")?;
    let route = Route::open().call(|| "socket(NETLINK_ROUTE)".into());
    enter(own.as_fd(), "the runtime's network namespace")?;
    route
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn link(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut head = [0; LINK];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..].copy_from_slice(&change.to_ne_bytes());
    head
}

/// Index, and whether it is up.
fn find(route: &mut Route, name: &str) -> Result<(u32, bool)> {
    let ask = |route: &mut Route| -> nix::Result<(u32, bool)> {
        let request = Request::new(RTM_GETLINK, 0, &link(0, 0, 0)).attribute(IFLA_IFNAME, &c_name(name))?;
        let answers = route.ask(&request)?;
        let body = answers.into_iter().find(|answer| answer.kind == RTM_NEWLINK).ok_or(Errno::ENODEV)?.body;
        Ok((u32_at(&body, 4), u32_at(&body, 8) & libc::IFF_UP.cast_unsigned() != 0))
    };
    ask(route).call(|| format!("RTM_GETLINK({name:?})")).map_err(|error| match error.errno() {
        Some(Errno::ENODEV) => error.remedy("`ip link` lists the devices that there are"),
        _ => error,
    })
}

/// The addresses that are the device's own: global ones that were set for good.
fn addresses(route: &mut Route, index: u32) -> Result<Vec<Address>> {
    let answers =
        route.dump(&Request::new(RTM_GETADDR, 0, &[0; ADDRESS])).call(|| "RTM_GETADDR(all)".into())?;
    let of_device = answers.iter().filter(|answer| {
        answer.kind == RTM_NEWADDR && answer.body.len() >= ADDRESS && u32_at(&answer.body, 4) == index
    });
    Ok(of_device.filter_map(|answer| kept(&answer.body)).collect())
}

fn kept(body: &[u8]) -> Option<Address> {
    let all = attributes(body, ADDRESS);
    // The byte in the structure has no room for the newer flags.
    let flags = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).map(|(_, value)| u32_at(value, 0));
    let flags = flags.unwrap_or(u32::from(body[2]));
    if body[3] != GLOBAL || flags & PERMANENT == 0 {
        return None;
    }
    let asked = (flags & !STATES).to_ne_bytes();
    let keep = |(kind, value): &(u16, &[u8])| {
        let value = if *kind == IFA_FLAGS { asked.to_vec() } else { value.to_vec() };
        KEPT.contains(kind).then_some((*kind, value))
    };
    Some(Address { head: [body[0], body[1], 0, body[3]], attributes: all.iter().filter_map(keep).collect() })
}

/// Moves, then renames: two steps of one request, of which the second alone may fail.
fn relocate(route: &mut Route, index: u32, name: &str, to: BorrowedFd<'_>) -> Result<()> {
    let fd = to.as_raw_fd().to_ne_bytes();
    let request = Request::new(RTM_NEWLINK, 0, &link(index, 0, 0))
        .attribute(IFLA_NET_NS_FD, &fd)
        .and_then(|request| request.attribute(IFLA_IFNAME, &c_name(name)));
    let moved = request.and_then(|request| route.ask(&request));
    moved.map(drop).call(|| format!("RTM_NEWLINK(to a network namespace, as {name:?})")).map_err(|error| {
        match error.errno() {
            Some(Errno::EEXIST) => error.remedy("a device of this name is there already"),
            Some(Errno::EINVAL) => error.remedy("this kind of device cannot leave its namespace"),
            Some(Errno::EPERM) => error.remedy("it needs CAP_NET_ADMIN over both network namespaces"),
            _ => error,
        }
    })
}

fn add(route: &mut Route, index: u32, address: &Address) -> Result<()> {
    let mut head = [0; ADDRESS];
    head[..4].copy_from_slice(&address.head);
    head[4..].copy_from_slice(&index.to_ne_bytes());
    let request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &head);
    let request =
        address.attributes.iter().try_fold(request, |request, (kind, value)| request.attribute(*kind, value));
    request
        .and_then(|request| route.ask(&request))
        .map(drop)
        .call(|| format!("RTM_NEWADDR({})", show(address)))
}

/// `10.0.0.1/24`
fn show(address: &Address) -> String {
    let value = |kind| address.attributes.iter().find(|(other, _)| *other == kind).map(|(_, value)| value);
    let bytes = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS)).map_or(&[][..], Vec::as_slice);
    let text = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(four), _) => std::net::Ipv4Addr::from(four).to_string(),
        (_, Ok(sixteen)) => std::net::Ipv6Addr::from(sixteen).to_string(),
        _ => format!("{bytes:?}"),
    };
    format!("{text}/{}", address.head[1])
}

fn bring_up(route: &mut Route, index: u32) -> Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    route
        .ask(&Request::new(RTM_NEWLINK, 0, &link(index, up, up)))
        .map(drop)
        .call(|| "RTM_NEWLINK(IFF_UP)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_keep_their_name_unless_it_is_changed() {
        let linux: Linux = serde_json::from_str(
            r#"{"netDevices": {"eth1": {}, "eth0": {"name": "lan"}, "eth2": {"name": ""}}}"#,
        )
        .unwrap();
        let names: Vec<_> = from_spec(&linux).into_iter().map(|one| (one.host, one.container)).collect();
        let expected = [("eth0", "lan"), ("eth1", "eth1"), ("eth2", "eth2")];
        assert_eq!(names, expected.map(|(host, container)| (host.to_string(), container.to_string())));
    }

    #[test]
    fn keeps_global_addresses_that_were_set_for_good() {
        let body = |scope: u8, flags: u32| {
            let request = Request::new(RTM_NEWADDR, 0, &[2, 24, 0, scope, 9, 0, 0, 0])
                .attribute(IFA_LOCAL, &[10, 0, 0, 1])
                .and_then(|request| request.attribute(3, b"eth0\0"))
                .and_then(|request| request.attribute(IFA_FLAGS, &flags.to_ne_bytes()))
                .unwrap();
            kept(request.body())
        };
        let address = body(GLOBAL, PERMANENT | 0x200).unwrap();
        assert_eq!(show(&address), "10.0.0.1/24");
        // Without its label, and without what only the kernel can say of it.
        let expected = [(IFA_LOCAL, vec![10, 0, 0, 1]), (IFA_FLAGS, 0x200_u32.to_ne_bytes().to_vec())];
        assert_eq!(address.attributes, expected);
        assert_eq!(body(GLOBAL, 0), None);
        assert_eq!(body(253, PERMANENT), None);
    }
}
