//! `berth features`

use clap::Args;

/// `berth features`
#[derive(Clone, Debug, Args)]
pub struct Features {}
