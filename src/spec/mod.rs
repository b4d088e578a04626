//! TODO-SKELETON
use crate::error::Result;
/// Name of the file in the bundle.
pub const CONFIG: &str = "config.json";
/// skeleton
pub fn template(_rootless: bool) -> Result<String> {
    Ok(String::new())
}
/// Version of the runtime specification that berth implements.
pub const VERSION: &str = "1.3.0";
