//! JSON that was read as bytes.

use serde::Deserialize;
use serde::de::Error as _;

/// Reads one value. That the bytes are text is looked at once, which reading from a slice does again for each string. All of
/// the large types are read so: of each the binary has one reader.
///
/// # Errors
/// It is no UTF-8, no JSON, or no `T`.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_str(std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_no_text_is_told() {
        assert_eq!(super::read::<String>("\"é\"".as_bytes()).unwrap(), "é");
        let error = super::read::<String>(b"\"\xff\"").unwrap_err().to_string();
        assert!(error.starts_with("invalid utf-8 sequence"), "{error}");
    }
}
