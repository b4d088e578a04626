//! docs/spec-conformance.md: a row for each field of config.json that oci-spec knows and for each MUST that
//! is worth one, with the test that shows it. Read here, so that it cannot rot.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use oci_spec::runtime::Spec;
use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

const TABLE: &str = include_str!("../../docs/spec-conformance.md");

/// Sections and members of other platforms, and two members that only oci-spec has (see `document.rs`).
const NOT_OURS: [&str; 7] =
    ["solaris", "windows", "vm", "zos", "uidMappings", "gidMappings", "process.commandLine"];

/// Members whose names oci-spec derives wrongly, with the specification's.
const MISNAMED: [(&str, &str); 2] = [
    ("linux.intelRdt.enableCmt", "linux.intelRdt.enableCMT"),
    ("linux.intelRdt.enableMbm", "linux.intelRdt.enableMBM"),
];

/// A row: what, and the tests.
struct Row {
    what: String,
    tests: Vec<String>,
}

/// The rows of all tables: `| `field` | … | `test::name`, `test::name` |`.
fn rows() -> Vec<Row> {
    let is_row =
        |line: &&str| line.starts_with('|') && !line.starts_with("| ---") && !line.contains("| test");
    TABLE
        .lines()
        .filter(is_row)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let quoted = |cell: &str| -> Vec<String> {
                cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
            };
            let (first, last) = (cells.first().copied(), cells.last().copied());
            Row {
                what: first.map_or_else(String::new, |cell| cell.trim_matches('`').to_owned()),
                tests: quoted(last.unwrap_or_default()),
            }
        })
        .collect()
}

/// Whether there is a function of that name in the test file or module that the path names.
fn exists(test: &str, texts: &mut BTreeMap<String, String>) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
    let module = module.strip_suffix("::tests").map_or_else(|| vec![module], |short| vec![module, short]);
    let files = module.into_iter().flat_map(|module| {
        let path = module.replace("::", "/");
        [format!("integration/{path}.rs"), format!("src/{path}.rs"), format!("src/{path}/mod.rs")]
    });
    let function = format!("fn {name}()");
    files.into_iter().any(|file| {
        let text = texts.entry(file).or_insert_with_key(|file| {
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default()
        });
        text.contains(&function)
    })
}

#[test]
fn every_row_names_tests_that_exist() {
    let rows = rows();
    assert!(rows.len() > 100, "the table was not understood");
    let mut texts = BTreeMap::new();
    for row in rows {
        assert!(!row.tests.is_empty(), "{}: no test", row.what);
        for test in row.tests {
            assert!(exists(&test, &mut texts), "{}: there is no test {test}", row.what);
        }
    }
}

/// All fields by their names in the specification.
pub(super) fn specified_fields() -> BTreeSet<String> {
    fields().into_iter().map(specified).collect()
}

#[test]
fn every_field_has_a_row() {
    let documented: BTreeSet<String> = rows().into_iter().map(|row| row.what).collect();
    let missing: Vec<String> =
        specified_fields().into_iter().filter(|field| !documented.contains(field)).collect();
    assert!(missing.is_empty(), "fields without a row:\n{}", missing.join("\n"));
}

fn specified(field: String) -> String {
    let found = MISNAMED.iter().find(|(wrong, _)| *wrong == field);
    found.map_or(field, |(_, right)| (*right).to_owned())
}

#[test]
fn every_row_of_a_field_is_one() {
    let known = specified_fields();
    let is_path = |what: &String| !what.contains(' ') && what != "rule" && what != "field";
    let strange: Vec<String> = rows()
        .into_iter()
        .map(|row| row.what)
        .filter(|what| is_path(what) && !known.contains(what))
        .collect();
    assert!(strange.is_empty(), "rows without a field: {strange:?}");
}

#[test]
fn fields_are_found_at_any_depth() {
    let fields = fields();
    for field in
        ["ociVersion", "process.user.additionalGids", "linux.resources.blockIO.weightDevice.leafWeight"]
    {
        assert!(fields.contains(field), "{field}");
    }
}

/// The paths of all members that config.json can have: `linux.resources.pids.limit`; what is in a list or
/// in a map has the path of that.
fn fields() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut unexplored = vec![String::new()];
    while let Some(path) = unexplored.pop() {
        for member in members(&path) {
            let below = if path.is_empty() { (*member).to_owned() } else { format!("{path}.{member}") };
            if !NOT_OURS.contains(&below.as_str()) && found.insert(below.clone()) {
                unexplored.push(below);
            }
        }
    }
    found
}

/// The members of the structure at `path`: serde's generated code tells them to whatever it reads from.
fn members(path: &str) -> &'static [&'static str] {
    let found = RefCell::new(&[][..]);
    let way: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    // It reads a document in which nothing else is there, which may well be an error.
    drop(Spec::deserialize(Guide { way: &way, found: &found }));
    found.into_inner()
}

/// A document in which there is only one way to go.
#[derive(Clone, Copy)]
struct Guide<'a> {
    way: &'a [&'a str],
    found: &'a RefCell<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Guide<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.way.split_first() {
            None => {
                *self.found.borrow_mut() = members;
                Err(de::Error::custom("arrived"))
            }
            Some((next, way)) => visitor.visit_map(Member { key: Some(next), value: Guide { way, ..self } }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Element(Some(self)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Member { key: Some("key"), value: self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("not a structure"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

/// The one member of a structure or of a map.
struct Member<'a> {
    key: Option<&'a str>,
    value: Guide<'a>,
}

impl<'de> MapAccess<'de> for Member<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key = self.key.take().map(|key| seed.deserialize(de::value::StrDeserializer::new(key)));
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value)
    }
}

/// The one element of a list.
struct Element<'a>(Option<Guide<'a>>);

impl<'de> SeqAccess<'de> for Element<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|guide| seed.deserialize(guide)).transpose()
    }
}
