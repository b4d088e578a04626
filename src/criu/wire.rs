//! The few parts of the protocol buffers encoding that CRIU's RPC uses
//! (protobuf.dev, "Encoding"): varints and length-delimited fields. A crate for it would weigh more than
//! all that is said here.

use crate::error::{Code, Error, Result};

/// A message that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An `int32`, a `uint32` or an enumeration; a negative number takes ten bytes, as the encoding wants.
    pub fn number(&mut self, field: u32, value: i64) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(value.cast_unsigned());
        self
    }

    /// A `bool`.
    pub fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.number(field, value.into())
    }

    /// A `string`: CRIU's are C strings, mostly paths, and need not be Unicode.
    pub fn text(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.tag(field, DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message inside this one.
    pub fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.text(field, &value.0)
    }

    fn tag(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The value of one field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of a varint.
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
    /// Eight or four bytes, of which CRIU uses none.
    Fixed,
}

impl<'a> Value<'a> {
    /// Of an `int32`; None for what is no number of that range.
    pub fn int32(self) -> Option<i32> {
        match self {
            Self::Number(number) => i32::try_from(number.cast_signed()).ok(),
            Self::Bytes(_) | Self::Fixed => None,
        }
    }

    /// Of a `bool`.
    pub fn flag(self) -> bool {
        matches!(self, Self::Number(number) if number != 0)
    }

    /// Of a string or message; empty for a number.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) | Self::Fixed => &[],
        }
    }

    /// Of a string, with U+FFFD for what is no UTF-8.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of an encoded message in their order.
///
/// # Errors
/// The bytes end in the middle of a field, or are no message at all.
pub fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        fields
            .push(field(&mut bytes).ok_or_else(|| Error::new(Code::Kernel, "a malformed message of CRIU"))?);
    }
    Ok(fields)
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        VARINT => Value::Number(varint(bytes)?),
        DELIMITED => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            Value::Bytes(take(bytes, length)?)
        }
        FIXED64 => take(bytes, 8).map(|_| Value::Fixed)?,
        FIXED32 => take(bytes, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    Some((u32::try_from(tag >> 3).ok()?, value))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_encoding_page_shows() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing");
        assert_eq!(message.as_bytes(), b"\x08\x96\x01\x12\x07testing");
        let mut negative = Message::default();
        negative.number(1, -2);
        assert_eq!(negative.as_bytes(), b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        let mut outer = Message::default();
        outer.message(3, &message).flag(50, true);
        assert_eq!(outer.as_bytes(), b"\x1a\x0c\x08\x96\x01\x12\x07testing\x90\x03\x01");
    }

    #[test]
    fn reads_what_it_writes() {
        let mut message = Message::default();
        message.number(1, -1).text(2, "").flag(16, false).number(1 << 20, i64::from(u32::MAX));
        let read = fields(message.as_bytes()).unwrap();
        assert_eq!(read.iter().map(|(field, _)| *field).collect::<Vec<_>>(), [1, 2, 16, 1 << 20]);
        assert_eq!(read[0].1.int32(), Some(-1));
        assert_eq!(read[1].1.text(), "");
        assert!(!read[2].1.flag());
        assert_eq!(read[3].1, Value::Number(u64::from(u32::MAX)));
        assert_eq!(read[3].1.int32(), None);
    }

    #[test]
    fn passes_over_fields_of_other_kinds_and_refuses_garbage() {
        assert_eq!(fields(b"\x0d\0\0\0\0\x10\x01").unwrap()[1], (2, Value::Number(1)));
        assert_eq!(fields(b"\x09\0\0\0\0\0\0\0\0").unwrap(), [(1, Value::Fixed)]);
        for garbage in
            [&b"\x08"[..], b"\x12\x05ab", b"\x0b", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert!(fields(garbage).is_err(), "{garbage:?}");
        }
    }
}
