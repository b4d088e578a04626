//! berth, an OCI container runtime.
//!
//! The modules in the order of a container's life: the command line says what is wanted ([`cli`]),
//! the bundle is read and checked ([`spec`]), the parent plans and claims ([`container`],
//! [`cgroups`]), the child is born ([`init`]) into its [`namespaces`] and [`rootfs`], gives up its
//! rights ([`security`], [`seccomp`]) and becomes the container. [`sys`] is the kernel's boundary
//! and the only place with `unsafe`.
#![deny(unsafe_code)]

mod caller;
pub mod cgroups;
pub mod cli;
pub mod container;
pub mod criu;
pub mod error;
pub mod hooks;
pub mod init;
mod json;
pub mod log;
pub mod namespaces;
pub mod program;
pub mod resctrl;
pub mod rootfs;
pub mod seccomp;
pub mod security;
pub mod self_exe;
pub mod spec;
pub mod sys;
