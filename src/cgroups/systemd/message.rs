//! The little of D-Bus that a call to systemd needs: method calls with properties, their replies and
//! signals. Wire format: dbus.freedesktop.org/doc/dbus-specification.html, "Marshaling".

/// The value of a unit's property.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cgroups) enum Value {
    String(String),
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
    Strings(Vec<String>),
    /// `a(ss)`: DeviceAllow.
    Pairs(Vec<(String, String)>),
}

/// A property by name.
pub(in crate::cgroups) type Property = (String, Value);

/// The body of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Body {
    pub signature: String,
    pub bytes: Vec<u8>,
}

impl Body {
    pub fn string(mut self, text: &str) -> Self {
        self.signature.push('s');
        put_string(&mut self.bytes, text);
        self
    }

    pub fn bool(mut self, value: bool) -> Self {
        self.signature.push('b');
        put_u32(&mut self.bytes, value.into());
        self
    }

    pub fn properties(mut self, properties: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        put_array(&mut self.bytes, 8, |bytes| {
            for (name, value) in properties {
                align(bytes, 8);
                put_string(bytes, name);
                put_variant(bytes, value);
            }
        });
        self
    }

    /// StartTransientUnit's last argument, of which we need none.
    pub fn no_auxiliary_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        put_array(&mut self.bytes, 8, |_| {});
        self
    }
}

/// Where a method call goes.
pub(super) struct Call<'a> {
    /// [`None`] on a direct connection, which has no bus names.
    pub destination: Option<&'a str>,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

/// A method call, ready to send.
pub(super) fn method_call(serial: u32, call: &Call<'_>, body: &Body) -> Vec<u8> {
    let length = u32::try_from(body.bytes.len()).unwrap_or(u32::MAX);
    // Little endian, METHOD_CALL, no flags, protocol 1.
    let mut bytes = vec![b'l', 1, 0, 1];
    put_u32(&mut bytes, length);
    put_u32(&mut bytes, serial);
    put_array(&mut bytes, 8, |bytes| {
        let mut field = |code: u8, kind: u8, text: &str| {
            align(bytes, 8);
            bytes.extend([code, 1, kind, 0]);
            if kind == b'g' { put_signature(bytes, text) } else { put_string(bytes, text) }
        };
        field(1, b'o', call.path);
        field(2, b's', call.interface);
        field(3, b's', call.member);
        if let Some(destination) = call.destination {
            field(6, b's', destination);
        }
        if !body.signature.is_empty() {
            field(8, b'g', &body.signature);
        }
    });
    align(&mut bytes, 8);
    bytes.extend(&body.bytes);
    bytes
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    align(bytes, 4);
    bytes.extend(value.to_le_bytes());
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    put_u32(bytes, u32::try_from(text.len()).unwrap_or(u32::MAX));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn put_signature(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// The length does not count the padding before the first element, which is there even without one.
fn put_array(bytes: &mut Vec<u8>, alignment: usize, elements: impl FnOnce(&mut Vec<u8>)) {
    put_u32(bytes, 0);
    let length = bytes.len() - 4;
    align(bytes, alignment);
    let start = bytes.len();
    elements(bytes);
    let count = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[length..length + 4].copy_from_slice(&count.to_le_bytes());
}

fn put_variant(bytes: &mut Vec<u8>, value: &Value) {
    let put_u64 = |bytes: &mut Vec<u8>, value: [u8; 8]| {
        align(bytes, 8);
        bytes.extend(value);
    };
    match value {
        Value::String(text) => {
            put_signature(bytes, "s");
            put_string(bytes, text);
        }
        Value::Bool(value) => {
            put_signature(bytes, "b");
            put_u32(bytes, (*value).into());
        }
        Value::I32(value) => {
            put_signature(bytes, "i");
            put_u32(bytes, value.cast_unsigned());
        }
        Value::U32(value) => {
            put_signature(bytes, "u");
            put_u32(bytes, *value);
        }
        Value::I64(value) => {
            put_signature(bytes, "x");
            put_u64(bytes, value.to_le_bytes());
        }
        Value::U64(value) => {
            put_signature(bytes, "t");
            put_u64(bytes, value.to_le_bytes());
        }
        Value::F64(value) => {
            put_signature(bytes, "d");
            put_u64(bytes, value.to_le_bytes());
        }
        Value::Bytes(list) => {
            put_signature(bytes, "ay");
            put_array(bytes, 1, |bytes| bytes.extend(list));
        }
        Value::U32s(list) => {
            put_signature(bytes, "au");
            put_array(bytes, 4, |bytes| list.iter().for_each(|value| put_u32(bytes, *value)));
        }
        Value::Strings(list) => {
            put_signature(bytes, "as");
            put_array(bytes, 4, |bytes| list.iter().for_each(|text| put_string(bytes, text)));
        }
        Value::Pairs(list) => {
            put_signature(bytes, "a(ss)");
            put_array(bytes, 8, |bytes| {
                for (first, second) in list {
                    align(bytes, 8);
                    put_string(bytes, first);
                    put_string(bytes, second);
                }
            });
        }
    }
}

/// A message that was received: only what we look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    /// 2 is a reply, 3 an error, 4 a signal.
    pub kind: u8,
    pub reply_to: u32,
    pub member: String,
    pub error: String,
    /// The strings, object paths and numbers that the body starts with; numbers are in decimal.
    pub arguments: Vec<String>,
    /// The variant that the body is, if it is one of a type that [`Value`] has.
    pub value: Option<Value>,
}

/// The whole length of a message, from its first 16 bytes; [`None`] for what is no D-Bus message or
/// longer than the protocol allows.
pub(super) fn length(header: &[u8; 16]) -> Option<usize> {
    let mut reader = Reader::new(header)?;
    reader.at = 4;
    let body = reader.u32()?;
    reader.at = 12;
    let fields = reader.u32()?;
    let length = 16 + usize::try_from(fields).ok()?.next_multiple_of(8) + usize::try_from(body).ok()?;
    (length <= 128 << 20).then_some(length)
}

impl Message {
    /// [`None`] for what is not well-formed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut message = Self { kind: *bytes.get(1)?, ..Self::default() };
        let mut reader = Reader::new(bytes)?;
        reader.at = 12;
        let end = usize::try_from(reader.u32()?).ok()?.checked_add(16)?;
        let mut signature = String::new();
        while reader.at < end {
            reader.at = reader.at.next_multiple_of(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match (code, kind.as_str()) {
                (3, "s") => message.member = reader.string()?,
                (4, "s") => message.error = reader.string()?,
                (5, "u") => message.reply_to = reader.u32()?,
                (8, "g") => signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.string()?),
                (_, "u") => drop(reader.u32()?),
                (_, "g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.at = end.next_multiple_of(8);
        if signature == "v" {
            message.value = reader.variant();
        }
        for kind in signature.bytes() {
            match kind {
                b's' | b'o' => message.arguments.push(reader.string()?),
                b'u' => message.arguments.push(reader.u32()?.to_string()),
                _ => break,
            }
        }
        Some(message)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.first()? {
            b'l' => true,
            b'B' => false,
            _ => return None,
        };
        Some(Self { bytes, at: 0, little })
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        let bytes = self.bytes.get(self.at..self.at.checked_add(4)?)?.try_into().ok()?;
        self.at += 4;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u64(&mut self) -> Option<u64> {
        self.at = self.at.next_multiple_of(8);
        let bytes = self.bytes.get(self.at..self.at.checked_add(8)?)?.try_into().ok()?;
        self.at += 8;
        Some(if self.little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }

    fn array<T>(&mut self, alignment: usize, element: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.at = self.at.next_multiple_of(alignment);
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut list = Vec::new();
        while self.at < end {
            list.push(element(self)?);
        }
        Some(list)
    }

    /// [`None`] also for types that no property of a scope's resources has.
    fn variant(&mut self) -> Option<Value> {
        Some(match self.signature()?.as_str() {
            "s" => Value::String(self.string()?),
            "b" => Value::Bool(self.u32()? != 0),
            "t" => Value::U64(self.u64()?),
            "ay" => Value::Bytes(self.array(1, Self::byte)?),
            "a(ss)" => Value::Pairs(self.array(8, |reader| {
                reader.at = reader.at.next_multiple_of(8);
                Some((reader.string()?, reader.string()?))
            })?),
            _ => return None,
        })
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        self.at = end.checked_add(1)?;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()?;
        self.text(usize::try_from(length).ok()?)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_marshalled_as_the_specification_says() {
        let call = Call { destination: None, path: "/a", interface: "i.j", member: "M" };
        let bytes = method_call(7, &call, &Body::default().string("xyz").bool(true));
        let mut expected = vec![b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0];
        let fields: &[u8] = b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0i.j\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\
            \x08\x01g\0\x02sb\0";
        expected.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
        expected.extend(fields);
        expected.extend(b"\x03\0\0\0xyz\0\x01\0\0\0");
        assert_eq!(bytes, expected);
        assert_eq!(length(bytes[..16].try_into().unwrap()), Some(bytes.len()));
    }

    #[test]
    fn what_was_marshalled_can_be_read() {
        let call = Call { destination: Some("d"), path: "/a", interface: "i", member: "JobRemoved" };
        let body = Body::default().string("/job/1").string("x.scope").string("done");
        let message = Message::parse(&method_call(7, &call, &body)).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (1, "JobRemoved"));
        assert_eq!(message.arguments, ["/job/1", "x.scope", "done"]);
    }

    #[test]
    fn variants_are_aligned() {
        let properties = [
            ("Delegate".to_owned(), Value::Bool(true)),
            ("PIDs".to_owned(), Value::U32s(vec![42])),
            ("MemoryMax".to_owned(), Value::U64(u64::MAX)),
        ];
        let body = Body::default().properties(&properties);
        assert_eq!(body.signature, "a(sv)");
        let mut expected = vec![92, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(b"\x08\0\0\0Delegate\0\x01b\0\x01\0\0\0\0\0\0\0");
        expected.truncate(8 + 20);
        // 8 + 20 ends at 28; the next struct starts at 32.
        expected.extend([0; 4]);
        expected.extend(b"\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x2a\0\0\0");
        assert_eq!(&body.bytes[8..28], &expected[8..28]);
        assert_eq!(&body.bytes[32..56], &expected[32..56]);
        assert_eq!(&body.bytes[body.bytes.len() - 8..], &[0xff; 8]);
    }

    #[test]
    fn values_can_be_read_back() {
        let pairs = vec![("char-pts".to_owned(), "rwm".to_owned()), ("/dev/null".to_owned(), "r".to_owned())];
        for value in [
            Value::String("strict".into()),
            Value::Bool(true),
            Value::U64(u64::MAX - 1),
            Value::Bytes(vec![7, 0, 2]),
            Value::Pairs(pairs),
            Value::Pairs(Vec::new()),
        ] {
            let mut body = Body { signature: "v".into(), ..Body::default() };
            put_variant(&mut body.bytes, &value);
            let call = Call { destination: None, path: "/a", interface: "i", member: "M" };
            assert_eq!(Message::parse(&method_call(7, &call, &body)).unwrap().value, Some(value));
        }
    }

    #[test]
    fn rubbish_is_no_message() {
        for bytes in [&b""[..], b"x", b"l\x02\0\x01", &[b'l'; 64], &[0xff; 64]] {
            assert_eq!(Message::parse(bytes), None);
        }
        assert_eq!(length(&[0; 16]), None);
        assert_eq!(length(&[b'l', 2, 0, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
