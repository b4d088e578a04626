//! The seccomp agent: who answers the system calls that a profile hands out (`SCMP_ACT_NOTIFY`).
//!
//! It gets the filter's listener in one message as soon as there is one, with the state that runtime.md
//! describes (Container Process State). Nobody can answer before it has the listener, so from the load
//! of the filter to that message only sendmsg(2) is called; a profile that notifies about that is
//! refused when it is compiled.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::Serialize;

use super::OciState;
use crate::error::{Context, Error, Result};
use crate::sys::socket;

/// Where the agent is and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `linux.seccomp.listenerPath`, on the host.
    pub path: PathBuf,
    /// `linux.seccomp.listenerMetadata`.
    pub metadata: Option<String>,
}

/// A finished message to an agent that is connected.
#[derive(Debug)]
pub struct Introduction {
    socket: OwnedFd,
    message: Vec<u8>,
}

/// runtime.md, Container Process State.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a OciState,
}

impl Introduction {
    /// Prepares the message about the process that is `pid` in the runtime's pid namespace, init or the
    /// process of an exec: made before the filter is loaded, because memory may need a system call.
    ///
    /// # Errors
    /// A path that is no Unicode.
    pub fn new(socket: OwnedFd, address: &Address, pid: i32, state: &OciState) -> Result<Self> {
        let message = serde_json::to_vec(&ContainerProcessState {
            oci_version: &state.oci_version,
            fds: ["seccompFd"],
            pid,
            metadata: address.metadata.as_deref(),
            state,
        })
        .map_err(|error| Error::invalid(format!("encode the state for the seccomp agent: {error}")))?;
        Ok(Self { socket, message })
    }

    /// The descriptor that must stay open until the message is sent.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends the listener.
    ///
    /// # Errors
    /// The agent has gone.
    pub fn send(&self, listener: BorrowedFd<'_>) -> Result<()> {
        socket::send(self.socket.as_fd(), &self.message, &[listener.as_raw_fd()])
            .context("hand the seccomp listener to its agent (linux.seccomp.listenerPath)")
    }
}
