//! `berth seccomp`: what a profile does, without a container.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use oci_spec::runtime::LinuxSeccomp;

use super::{Status, print};
use crate::error::{Call as _, Context, Error, Result};
use crate::seccomp::arch::{Architecture, NATIVE};
use crate::seccomp::explain::{decide, disassemble};
use crate::seccomp::interpret::{Call, run};
use crate::seccomp::profile::Profile;
use crate::seccomp::table::Syscall;
use crate::{json, log, spec};

/// Print what a seccomp profile does
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Seccomp {
    /// What to do with the profile.
    #[command(subcommand)]
    pub question: Question,
}

/// The verbs below `berth seccomp`.
#[derive(Clone, Debug, Subcommand)]
pub enum Question {
    /// Print the filter that a profile becomes
    Compile {
        /// The machine for which it is compiled [default: this one]
        #[arg(long, value_name = "ARCH", value_parser = architecture, default_value_t = Named(NATIVE), hide_default_value = true)]
        arch: Named,
        /// File with a linux.seccomp object, or a whole config.json
        #[arg(value_name = "PROFILE")]
        profile: PathBuf,
    },
    /// Print what a profile does with a system call, and because of which rule
    Test {
        /// The architecture of the call [default: this one]
        #[arg(long, value_name = "ARCH", value_parser = architecture, default_value_t = Named(NATIVE), hide_default_value = true)]
        arch: Named,
        /// File with a linux.seccomp object, or a whole config.json
        #[arg(value_name = "PROFILE")]
        profile: PathBuf,
        /// The call, by name or number
        #[arg(value_name = "SYSCALL")]
        call: String,
        /// Its arguments, decimal or with 0x; 0 for those not given
        #[arg(value_name = "ARG", num_args = 0..=6, allow_negative_numbers = true, value_parser = argument)]
        arguments: Vec<u64>,
    },
}

/// An architecture that prints as it is typed.
#[derive(Clone, Copy, Debug)]
pub struct Named(Architecture);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Seccomp {
    /// Answers the question.
    pub fn execute(&self) -> Result<Status> {
        match &self.question {
            Question::Compile { arch, profile } => {
                let program = read(profile, arch.0)?.compile()?;
                print(&disassemble(&program))?;
            }
            Question::Test { arch, profile, call, arguments } => {
                print(&answer(&read(profile, arch.0)?, arch.0, call, arguments)?)?;
            }
        }
        Ok(Status::DONE)
    }
}

/// `ERRNO(EPERM): syscalls[3]; 9 instructions`
fn answer(profile: &Profile, arch: Architecture, name: &str, given: &[u64]) -> Result<String> {
    let mut arguments = [0; 6];
    for (place, value) in arguments.iter_mut().zip(given) {
        *place = *value;
    }
    let call = Call { arch, number: number(arch, name)?, arguments };
    let (action, reason) = decide(profile, &call);
    let (by_program, steps) = run(&profile.compile()?, &call)?;
    if action != by_program {
        // Two independent ways to the answer; a profile for which they differ is a bug worth a report.
        return Err(Error::invalid(format!(
            "the rules say {action} and the compiled filter {by_program}: a defect in berth, please report it"
        )));
    }
    Ok(format!("{action}: {reason}; {steps} instructions\n"))
}

fn number(arch: Architecture, call: &str) -> Result<u32> {
    if let Ok(number) = call.parse() {
        return Ok(number);
    }
    let syscall = Syscall::named(call)
        .ok_or_else(|| Error::invalid(format!("no architecture has a system call {call:?}")))?;
    arch.number(syscall).ok_or_else(|| Error::invalid(format!("{} has no system call {call:?}", arch.name())))
}

/// Reads a profile for the machine on which `arch` runs.
fn read(path: &Path, arch: Architecture) -> Result<Profile> {
    let mut warnings = Vec::new();
    let profile = || -> Result<Profile> {
        let text = std::fs::read(path).call(|| format!("read({})", path.display()))?;
        Profile::read_for(arch.machine(), &object(&text, &mut warnings)?, &mut warnings)
    };
    let profile = { profile }().with_context(|| path.display().to_string());
    warnings.iter().for_each(|warning| log::warning(warning));
    profile
}

/// The profile in a config.json, or the whole document.
fn object(text: &[u8], warnings: &mut Vec<String>) -> Result<LinuxSeccomp> {
    let malformed = |error: serde_json::Error| Error::invalid(error.to_string());
    let document: serde_json::Value = json::read(text).map_err(malformed)?;
    if document.get("defaultAction").is_some() {
        return json::read(text).map_err(malformed);
    }
    if document.get("ociVersion").is_none() {
        return Err(Error::invalid("neither a linux.seccomp object nor a config.json"));
    }
    let spec = spec::parse(text, warnings)?;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    profile.ok_or_else(|| Error::invalid("config.json has no linux.seccomp"))
}

fn architecture(name: &str) -> Result<Named, String> {
    let names = || Architecture::all().map(Architecture::name).collect::<Vec<_>>().join(", ");
    Architecture::named(name).map(Named).ok_or_else(|| format!("expected one of {}", names()))
}

fn argument(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        // As the register has it: -1 is all ones.
        None => text.parse().ok().or_else(|| text.parse().ok().map(i64::cast_unsigned)),
    };
    number.ok_or_else(|| format!("{text:?} is no number of 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_registers() {
        assert_eq!(argument("0x10"), Ok(16));
        assert_eq!(argument("-1"), Ok(u64::MAX));
        assert_eq!(argument("18446744073709551615"), Ok(u64::MAX));
        assert!(argument("ten").is_err());
    }

    #[test]
    fn profiles_are_found_in_both_documents() {
        let bare = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        assert!(object(bare.as_bytes(), &mut Vec::new()).is_ok());
        let config = format!(r#"{{"ociVersion": "1.0.0", "linux": {{"seccomp": {bare}}}}}"#);
        assert!(object(config.as_bytes(), &mut Vec::new()).is_ok());
        for (text, words) in [
            ("{}", "neither"),
            (r#"{"ociVersion": "1.0.0"}"#, "no linux.seccomp"),
            (r#"{"defaultAction": "NO"}"#, "NO"),
        ] {
            let error = object(text.as_bytes(), &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
