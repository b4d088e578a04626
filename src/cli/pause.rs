//! `berth pause` and `berth resume`

use clap::Args;

/// `berth pause`
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `berth resume`
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}
