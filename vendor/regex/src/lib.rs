//! [`regex_lite`] under the name of its big sister; see Cargo.toml for the reason.

pub use regex_lite::*;
