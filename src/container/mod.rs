//! The parent's side: what every command does with a container.
//!
//! `create` and `run` share one story, told in [`birth`]; what is known between two calls is in
//! [`state`]; [`status`] asks the kernel what has become of a container.

mod birth;
pub mod check;
pub mod checkpoint;
mod conversation;
pub mod create;
mod delete;
pub mod events;
pub mod exec;
mod features;
mod foreground;
mod freeze;
mod identity;
pub mod image;
mod kill;
pub mod mounts;
mod notify_engine;
mod plan;
mod processes;
mod relay;
pub mod restore;
pub mod run;
mod start;
pub mod state;
pub mod status;
mod stdio;
mod update;

pub use delete::delete;
pub use features::features;
pub use freeze::{pause, resume};
pub use kill::kill;
pub use processes::{process_table, processes};
pub use start::start;
pub use state::StateRoot;
pub use status::{StateView, Status, list, state};
pub use update::update;

use crate::cgroups::Driver;

/// Where and how this call of berth works: the global flags, understood.
#[derive(Debug)]
pub struct Host {
    /// `--root`.
    pub root: StateRoot,
    /// `--systemd-cgroup`, `--cgroup-manager`.
    pub driver: Driver,
    /// `--rootless true|false`; None for auto.
    pub rootless: Option<bool>,
}
