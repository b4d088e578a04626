//! `berth ps`

use clap::Args;

use super::list::ListFormat;

/// `berth ps`
#[derive(Clone, Debug, Args)]
pub struct Ps {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "table|json", hide_possible_values = true)]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Options of ps(1) for the table [default: -ef]
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}
