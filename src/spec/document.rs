//! JSON into the types of oci-spec.
//!
//! What engines write goes straight into the types. A document that does not fit, or in which the
//! types cannot tell an absent value from a zero, takes the long way: as a tree it is adapted where
//! the types are narrower than the specification (`adapt`), and what then
//! still does not fit is reported with its JSON path.

use std::fmt::Write as _;

use oci_spec::runtime::{
    Linux, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxResources, Process, Spec,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::adapt::{
    adapt_linux, adapt_process, adapt_spec, clear_empty_labels, drop_nulls, drop_other_platforms,
};
use super::finding::{Finding, Rule, SCHEMA, Severity};
use super::locate::locate;
use super::shape::{may_have_misplaced_array, misplaced_arrays};
use super::tree::read;
use super::validate::parse_semver;
use super::{CONFIG, VERSION, ValidateOptions, advice, members, none_in, part, validate};
use crate::error::{Error, Result};
use crate::json;

static JSON: Rule = Rule::error("json", SCHEMA, "");
static DUPLICATE: Rule = Rule::error("json-duplicate", SCHEMA, "keep one: readers disagree on which counts");
static NUL: Rule = Rule::error("nul-character", SCHEMA, "the kernel would read the text up to it only");
static MISSING: Rule = Rule::error("missing-member", SCHEMA, "");
pub(super) static TYPE: Rule = Rule::error("wrong-type", SCHEMA, "");
static VALUE: Rule = Rule::error("unknown-value", SCHEMA, "");
static NEWER_VERSION: Rule = Rule::warning("newer-version", "config.md#specification-version", "");

/// The rules about the form of the document, and what is warned of while it is read.
#[cfg(test)]
pub(super) static RULES: [&Rule; 9] = [
    &JSON,
    &DUPLICATE,
    &NUL,
    &MISSING,
    &TYPE,
    &VALUE,
    &super::adapt::CPU_LIST,
    &NEWER_VERSION,
    &super::adapt::UNKNOWN_CAPABILITY,
];

/// Reads a whole config.json; see [`super::read`].
pub fn parse(json: &[u8], warnings: &mut Vec<String>) -> Result<Spec> {
    let mut spec = match json::read::<Spec>(json) {
        Ok(spec) if !hides_absence(&spec) && !mentions_nul(json) && !may_have_misplaced_array(json) => spec,
        _ => parse_as_tree(json, warnings)?,
    };
    adapt_spec(&mut spec);
    warnings.extend(newer_version(&spec).iter().map(told));
    Ok(spec)
}

/// Reads what an exec needs of a container's config.json ([`part`]), which [`parse`] has taken before: nothing has to
/// be looked for again that it refuses, and there is nothing to be warned of.
pub fn parse_for_exec(json: &[u8]) -> Result<Spec> {
    match part::read(json) {
        Some(mut spec) => {
            adapt_spec(&mut spec);
            Ok(spec)
        }
        None => parse(json, &mut Vec::new()),
    }
}

/// A config.json with all that is to be said of it.
#[derive(Debug)]
pub struct Examined {
    /// What it describes; None while its form is wrong.
    pub spec: Option<Spec>,
    /// In the order of the rules.
    pub findings: Vec<Finding>,
}

/// Reads a whole config.json as [`parse`] and checks it as [`validate`], and beyond errors finds what is
/// passed over.
pub fn examine(json: &[u8], options: &ValidateOptions) -> Examined {
    let mut root = match object(json) {
        Ok(root) => root,
        Err(finding) => return Examined { spec: None, findings: vec![finding] },
    };
    let unknown = members::unknown(&root);
    let mut document = Document::default();
    let mut spec = document.read_spec(&mut root);
    let is_sound = document.findings.iter().all(|finding| finding.rule.severity != Severity::Error);
    if let Some(spec) = &mut spec {
        adapt_spec(spec);
        document.findings.extend(newer_version(spec));
        document.add_what_else_is_wrong(spec, |spec| {
            [validate(spec, options), advice::advise(spec, options)].concat()
        });
    }
    document.findings.extend(unknown);
    Examined { spec: spec.filter(|_| is_sound), findings: document.findings }
}

/// Reads the process object that `exec --process` names. To check it, put it into the container's spec
/// in the place of its process. Errors are those of `file`.
pub fn parse_process(file: &str, json: &[u8], warnings: &mut Vec<String>) -> Result<Process> {
    let mut process = tree(file, json)?;
    let mut document = Document::default();
    document.refuse_nul(&process, &mut String::new());
    document.remove_misplaced_arrays(&mut process);
    drop_nulls(&mut process);
    adapt_process(&mut process, &mut document);
    let parsed = document.read::<Process>(&mut process);
    none_in(file, &document.errors(warnings))?;
    let mut process = parsed.ok_or_else(|| Error::invalid(format!("{file}: is not a process object")))?;
    clear_empty_labels(&mut process);
    Ok(process)
}

/// Reads a config.json with other mounts than its own: those of `mounts add`, an array.
pub fn parse_with_mounts(config: &[u8], mounts: &[u8], warnings: &mut Vec<String>) -> Result<Spec> {
    const FIELD: &str = "mounts";
    let mut document = tree(CONFIG, config)?;
    document[FIELD] = match read(mounts) {
        Ok(mounts @ Value::Array(_)) => mounts,
        Ok(_) => return Err(Error::invalid(format!("{FIELD}: must be an array of mounts"))),
        Err(error) => return Err(Error::invalid(format!("{FIELD}: {error}"))),
    };
    let text = serde_json::to_vec(&document)
        .map_err(|error| Error::invalid(format!("{CONFIG} with other mounts: {error}")))?;
    parse(&text, warnings)
}

/// Reads the linux.resources object that `update --resources` names.
pub fn parse_resources(json: &[u8]) -> Result<LinuxResources> {
    const FILE: &str = "resources";
    let mut linux = Value::Object(Map::from_iter([(FILE.to_owned(), tree(FILE, json)?)]));
    let mut document = Document::default();
    document.refuse_nul(&linux, &mut String::new());
    document.remove_misplaced_arrays(&mut linux);
    drop_nulls(&mut linux);
    adapt_linux(&mut linux, &mut document);
    let parsed = document.read::<Linux>(&mut linux);
    none_in(FILE, &document.findings)?;
    Ok(parsed.and_then(|linux| linux.resources().clone()).unwrap_or_default())
}

/// By the letter a 1.4 document is for runtimes of 1.4 (config.md#specification-version). But engines
/// write the version of their library, not that of what they use, and unknown members must be
/// ignored (config.md#extensibility).
fn newer_version(spec: &Spec) -> Option<Finding> {
    let version = spec.version();
    let newest = parse_semver(VERSION).map(|(_, minor, _)| minor);
    let (1, minor, _) = parse_semver(version)? else { return None };
    newest.is_some_and(|newest| minor > newest).then(|| {
        let message =
            format!("{version} is newer than {VERSION}, which berth knows; what is new in it is ignored");
        Finding::new(&NEWER_VERSION, "ociVersion", message)
    })
}

/// A warning as `create` logs it.
fn told(finding: &Finding) -> String {
    format!("{}: {}", finding.path, finding.message)
}

fn parse_as_tree(json: &[u8], warnings: &mut Vec<String>) -> Result<Spec> {
    let mut root = tree(CONFIG, json)?;
    let mut document = Document::default();
    let spec = document.read_spec(&mut root);
    let mut errors = document.errors(warnings);
    if let Some(spec) = &spec
        && !errors.is_empty()
    {
        document.add_what_else_is_wrong(spec, |spec| validate(spec, &ValidateOptions::default()));
        errors = document.errors(&mut Vec::new());
    }
    none_in(CONFIG, &errors)?;
    spec.ok_or_else(|| Error::invalid(format!("{CONFIG}: is not a container's configuration")))
}

fn tree(file: &str, json: &[u8]) -> Result<Value> {
    object(json).map_err(|finding| Error::invalid(format!("{file}: {finding}")))
}

/// The tree of a document, which is an object in which no member is there twice.
fn object(json: &[u8]) -> Result<Value, Finding> {
    match read(json) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Finding::new(&TYPE, "", "must be a JSON object")),
        // What is JSON and still refused: `tree` refuses nothing else.
        Err(error) if error.is_data() => Err(Finding::new(&DUPLICATE, "", error.to_string())),
        Err(error) => Err(Finding::new(&JSON, "", error.to_string())),
    }
}

/// Whether a zero in `spec` may stand for a value that was not there, where that differs.
fn hides_absence(spec: &Spec) -> bool {
    let rlimits = spec.process().as_ref().and_then(|process| process.rlimits().as_ref());
    let linux = spec.linux().as_ref();
    let pids = linux
        .and_then(|l| l.resources().as_ref())
        .and_then(|r| r.pids().as_ref())
        .is_some_and(|p| p.limit() == 0);
    let devices = linux.and_then(|linux| linux.devices().as_ref());
    pids || rlimits
        .is_some_and(|rlimits| rlimits.iter().any(|rlimit| rlimit.soft() == 0 || rlimit.hard() == 0))
        || devices.is_some_and(|devices| {
            devices.iter().any(|device| {
                device.typ() != LinuxDeviceType::P && (device.major() == 0 || device.minor() == 0)
            })
        })
        || linux.is_some_and(|linux| linux.intel_rdt().is_some())
}

/// Whether a string may contain NUL. No path, argument or option of the kernel can.
fn mentions_nul(json: &[u8]) -> bool {
    // Hardly any document has one, and that is soon seen.
    json.contains(&b'\\') && json.split(|byte| *byte == b'\\').skip(1).any(|tail| tail.starts_with(b"u0000"))
}

/// A tree on its way into types.
#[derive(Default)]
pub(super) struct Document {
    findings: Vec<Finding>,
    /// What was taken out of the tree so that the rest could be read: nothing is said about it twice.
    removed: Vec<String>,
}

impl Document {
    /// Reads a config.json.
    fn read_spec(&mut self, root: &mut Value) -> Option<Spec> {
        self.refuse_nul(root, &mut String::new());
        self.remove_misplaced_arrays(root);
        drop_nulls(root);
        if let Some(members) = root.as_object_mut() {
            drop_other_platforms(members);
        }
        if let Some(process) = root.get_mut("process") {
            adapt_process(process, self);
        }
        if let Some(linux) = root.get_mut("linux") {
            adapt_linux(linux, self);
        }
        self.read::<Spec>(root)
    }

    /// The errors among what was found; the rest goes to `warnings`.
    fn errors(&self, warnings: &mut Vec<String>) -> Vec<Finding> {
        let is_error = |finding: &&Finding| finding.rule.severity == Severity::Error;
        let (errors, others): (Vec<&Finding>, Vec<&Finding>) = self.findings.iter().partition(is_error);
        warnings.extend(others.into_iter().map(told));
        errors.into_iter().cloned().collect()
    }

    /// Reads `value`, taking out what does not fit. `None`: nothing is left to be read.
    fn read<T: DeserializeOwned>(&mut self, value: &mut Value) -> Option<T> {
        // Each round removes or adds a member, so this ends; the bound is for a document of nothing
        // but errors, whose line nobody would read to its end.
        for _ in 0..64 {
            // Back to text, because the types are then read by the very code that `parse` tries first:
            // a second `Deserializer` would double what is the largest part of the binary.
            let json = serde_json::to_vec(value).ok()?;
            let error = match json::read::<T>(&json) {
                Ok(typed) => return Some(typed),
                Err(error) => error,
            };
            let steps = locate(&json, &error);
            let message = message(&error, walk(value, &steps));
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let rule = match missing {
                Some(_) => &MISSING,
                None if message.starts_with("unknown value") => &VALUE,
                None => &TYPE,
            };
            let at = path(&steps);
            // What was taken out is not missing.
            if !missing.is_some_and(|name| self.removed.contains(&member(&at, name))) {
                self.add(rule, &at, &message);
            }
            let mended = match missing {
                Some(name) => fill_in(value, &steps, name) || self.remove(value, &steps),
                None => self.remove(value, &steps),
            };
            if !mended {
                return None;
            }
        }
        None
    }

    pub fn add(&mut self, rule: &'static Rule, path: &str, message: &str) {
        self.findings.push(Finding::new(rule, path, message));
    }

    /// Takes out the member that `steps` lead to; an element takes its whole array along, so that
    /// the indexes of later findings stay those of the file.
    fn remove(&mut self, value: &mut Value, steps: &[Step]) -> bool {
        let members = steps.iter().take_while(|step| matches!(step, Step::Member(_))).count();
        let Some((Step::Member(name), parents)) = steps[..members].split_last() else { return false };
        let removed =
            walk(value, parents).and_then(Value::as_object_mut).and_then(|members| members.remove(name));
        self.removed.push(path(&steps[..members]));
        removed.is_some()
    }

    /// A member that oci-spec would read as zero if it is not there.
    pub fn require_members(
        &mut self,
        path: &str,
        elements: &[Value],
        names: &[&str],
        needed: fn(&Value) -> bool,
    ) {
        for (index, element) in elements.iter().enumerate() {
            for name in names {
                if element.is_object() && needed(element) && element.get(name).is_none() {
                    self.add(&MISSING, &format!("{path}[{index}]"), &format!("missing field `{name}`"));
                }
            }
        }
    }

    fn remove_misplaced_arrays(&mut self, value: &mut Value) {
        let mut paths = Vec::new();
        misplaced_arrays(value, &mut Vec::new(), &mut |steps| paths.push(steps.to_vec()));
        for steps in paths {
            self.add(&TYPE, &path(&steps), "expected an object, found an array");
            self.remove(value, &steps);
        }
    }

    fn refuse_nul(&mut self, value: &Value, path: &mut String) {
        let length = path.len();
        match value {
            Value::String(text) if text.contains('\0') => self.add(&NUL, path, "contains a NUL character"),
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    Step::Element(index).append_to(path);
                    self.refuse_nul(element, path);
                    path.truncate(length);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    Step::Member(name.clone()).append_to(path);
                    self.refuse_nul(member, path);
                    if name.contains('\0') {
                        self.add(&NUL, path, "contains a NUL character");
                    }
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }

    /// What `check` finds in the rest of the document.
    fn add_what_else_is_wrong(&mut self, spec: &Spec, check: impl Fn(&Spec) -> Vec<Finding>) {
        let is_known = |finding: &Finding| self.removed.iter().any(|removed| finding.is_within(removed));
        let unread = |removed: &String| matches!(removed.as_str(), "linux" | "linux.namespaces");
        let assumed = self.removed.iter().any(unread).then(|| with_namespaces(spec));
        let mut others = check(assumed.as_ref().unwrap_or(spec));
        others.retain(|finding| !is_known(finding));
        self.findings.extend(others);
    }
}

/// `spec` with the namespaces that most members need, when its own could not be read: that one is missing
/// would be said of each of those members.
fn with_namespaces(spec: &Spec) -> Spec {
    let mut linux = spec.linux().clone().unwrap_or_default();
    use LinuxNamespaceType::{Ipc, Mount, Network, Pid, Time, User, Uts};
    let mut types = vec![Ipc, Mount, Network, Pid, Time, Uts];
    types.extend(linux.uid_mappings().is_some().then_some(User));
    let mut new = LinuxNamespace::default();
    let namespaces = types.into_iter().map(|typ| new.set_typ(typ).clone()).collect();
    linux.set_namespaces(Some(namespaces));
    spec.clone().set_linux(Some(linux)).clone()
}

/// Puts something in the place of the one member without which all of process could not be read.
fn fill_in(value: &mut Value, steps: &[Step], name: &str) -> bool {
    if name != "cwd" {
        return false;
    }
    let members = walk(value, steps).and_then(Value::as_object_mut);
    members.is_some_and(|members| members.insert(name.into(), "/".into()).is_none())
}

fn walk<'a>(value: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Member(name) => value.get_mut(name),
        Step::Element(index) => value.get_mut(index),
    })
}

/// One step of a JSON path.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Member(String),
    Element(usize),
}

impl Step {
    fn append_to(&self, path: &mut String) {
        let result = match self {
            Self::Element(index) => write!(path, "[{index}]"),
            Self::Member(name) if is_plain(name) && path.is_empty() => write!(path, "{name}"),
            Self::Member(name) if is_plain(name) => write!(path, ".{name}"),
            Self::Member(name) => write!(path, "[{name:?}]"),
        };
        debug_assert!(result.is_ok(), "a String takes all that is written");
    }
}

pub(super) fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    steps.iter().for_each(|step| step.append_to(&mut path));
    path
}

/// The path of the member `name` of what is at `parent`.
pub fn member(parent: &str, name: &str) -> String {
    let mut path = parent.to_owned();
    Step::Member(name.to_owned()).append_to(&mut path);
    path
}

/// Whether a member's name can stand in a path without quotes; sysctls and annotations have dots.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// What is wrong with the value that was found, without the position in a text that nobody has seen.
fn message(error: &serde_json::Error, found: Option<&mut Value>) -> String {
    // The place of an enum, of which serde_json says no more than that it is no value. All enums of the
    // specification are strings.
    if error.is_syntax()
        && let Some(Err(error)) = found.map(|found| String::deserialize(&*found))
    {
        return reword(&error.to_string());
    }
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    reword(text.strip_suffix(&position).unwrap_or(&text))
}

/// serde's message in the order in which people say it: what was expected, then what was found.
pub(super) fn reword(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) =
            message.strip_prefix(kind).and_then(|rest| rest.split_once(", expected "))
        {
            return format!("expected {expected}, found {found}");
        }
    }
    message.replacen("unknown variant", "unknown value", 1)
}
