//! Host and domain name of a UTS namespace.

use crate::error::{Call, Context, Result};
use crate::sys;

/// sethostname(2) in init's new or joined UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})")).context("set the host name")
}

/// setdomainname(2) in init's new or joined UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    sys::namespace::setdomainname(name.as_bytes())
        .call(|| format!("setdomainname({name:?})"))
        .context("set the domain name")
}
