//! The program that the suite runs inside containers: static, needs nothing but a kernel.
//!
//! Its arguments are steps, done in order: probes (`open:/dev/null:rw`, `device:c:10:229`,
//! `syscall:101:0`) whose results are collected, `report` which prints all that a process can learn
//! about itself as one line of JSON, and endings (`sleep:5`, `exit:3`, `raise:9`). Called as `sleep`,
//! as the engines' bundles do, it reports and sleeps; called as `true` it succeeds.
#![allow(missing_docs)]

mod kernel;
mod report;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    match name.rsplit('/').next().unwrap_or_default() {
        "true" => ExitCode::SUCCESS,
        "sleep" => {
            let seconds = args.first().cloned().unwrap_or_else(|| "1000".into());
            steps::run(&["report".into(), format!("sleep:{seconds}")])
        }
        _ => match args.first() {
            // As a `#!` interpreter: the file's other lines are the steps.
            Some(script) if script.starts_with('/') => match std::fs::read_to_string(script) {
                Ok(text) => steps::run(&text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()),
                Err(error) => {
                    eprintln!("payload: {script}: {error}");
                    ExitCode::from(125)
                }
            },
            _ => steps::run(&args),
        },
    }
}
