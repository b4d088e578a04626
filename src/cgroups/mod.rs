//! Control groups: limits of a container and the set of its processes, on cgroup v1, v2 and hybrid
//! hosts.
//!
//! ```text
//! Layout::detect ─► plan (pure) ─► Plan::record, saved before anything exists
//!                                     └► Plan::create: mkdir, limits, device filter ─► Cgroup
//!                                                                                        │
//!   clone3(CLONE_INTO_CGROUP, Cgroup::clone_into) or "0" into each of Cgroup::tasks  ◄───┘
//!                                                                                        │
//! Record::{pids, kill, freeze, thaw, open, remove}, from state.json, for the rest of the life
//! ```
//!
//! No process is ever moved by writing a pid to `cgroup.procs`: that waits for an RCU grace period
//! (7 to 15 ms). On v2 init is born in its cgroup; on v1 it writes "0" to each `tasks` file, for which
//! the kernel needs no global lock as long as the writer has a single thread.
//!
//! On a hybrid host the controllers are v1's, as in runc; the unified hierarchy is joined as well
//! and used for what v1 cannot do: `cgroup.kill`, and waiting for `cgroup.events`.

mod controllers;
mod convert;
mod create;
mod delegate;
mod devices;
mod enter;
#[cfg(test)]
mod fields_tests;
mod freezer;
mod kill;
mod layout;
mod oom;
mod path;
mod plan;
mod record;
mod remove;
pub mod stats;
mod systemd;
mod update;
mod v1;
mod v2;
mod wait;
mod write;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod systemd_tests;

pub use create::{Attempts, Cgroup, TasksFile};
pub use enter::Below;
pub use layout::Layout;
pub use oom::{OomEvent, OomSource};
pub use plan::{Driver, Plan, plan};
pub use record::{Directory, Record, Version};
pub use systemd::Start;
pub use update::Update;
