//! `ps`: which processes are in a container, and what ps(1) says of them.

use std::path::Path;

use super::Host;
use super::status;
use crate::error::{Call, Code, Error, Result};
use crate::sys::spawn::{Spawn, Stream, environment, find_in_path};

/// The pids of the container's processes in the caller's pid namespace, ascending; none once it has
/// stopped.
///
/// # Errors
/// No such container.
pub fn processes(host: &Host, id: &str) -> Result<Vec<i32>> {
    let dir = host.root.open(id)?;
    let record = status::record(&dir)?;
    if record.cgroup.is_some() {
        return record.cgroup.pids();
    }
    // In the caller's own cgroup, only the first process is known to be the container's.
    match record.init {
        Some(init) if init.is_alive()? => Ok(vec![init.pid]),
        _ => Ok(Vec::new()),
    }
}

/// The lines of ps(1) about the container's processes, below its header. Without `options` it is
/// called with `-ef`.
///
/// # Errors
/// No such container; ps(1) is missing, fails, or prints no column PID.
pub fn process_table(host: &Host, id: &str, options: &[String]) -> Result<String> {
    let pids = processes(host, id)?;
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    lines_of(&run_ps(options)?, &pids)
}

fn run_ps(options: &[String]) -> Result<String> {
    let program = find_in_path("ps").ok_or_else(|| {
        Error::unsupported("ps(1) is not in $PATH").remedy("install procps, or use --format json")
    })?;
    let arguments: Vec<String> = std::iter::once("ps".into()).chain(options.iter().cloned()).collect();
    // ps(1) is configured by it (COLUMNS, PS_FORMAT, PS_PERSONALITY).
    let mut spawn = Spawn::new(Path::new(&program), &arguments, &environment())?;
    spawn.stdout = Stream::Captured;
    spawn.stderr = Stream::Captured;
    let call = || format!("run {}", arguments.join(" "));
    let exit = spawn.start().and_then(|child| child.wait(None)).call(call)?;
    if !exit.status.is_success() {
        // What is wrong stands first; then it tells where its manual is.
        let output = exit.output().unwrap_or_default();
        let said = output.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        return Err(Error::invalid(format!("{}: {}: {said}", call(), exit.status)));
    }
    exit.output().call(|| "read the output of ps(1)".into())
}

/// The header and the lines of these pids.
fn lines_of(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| {
        Error::new(Code::Invalid, "the output of ps(1) has no column PID")
            .remedy("choose other options of ps")
    })?;
    let mut table = format!("{header}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            table.push_str(line);
            table.push('\n');
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::lines_of;

    #[test]
    fn keeps_the_header_and_the_lines_of_the_pids() {
        let output = "UID PID PPID CMD\nroot 1 0 init\nroot 12 1 sleep 1\nroot 2 1 sh 12\n";
        assert_eq!(lines_of(output, &[12, 3]).unwrap(), "UID PID PPID CMD\nroot 12 1 sleep 1\n");
        assert_eq!(lines_of(output, &[]).unwrap(), "UID PID PPID CMD\n");
        assert!(lines_of("CMD\nsleep\n", &[1]).unwrap_err().to_string().contains("no column PID"));
    }
}
