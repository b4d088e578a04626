//! What undoes a write to a file of a cgroup; empty where nothing has to. Pure.

use std::borrow::Cow;

/// What to write into `file` to undo `value`, from the file's present `text`.
pub(super) fn previous<'a>(file: &str, value: &str, text: &'a str) -> Cow<'a, str> {
    let line = |key: &str| text.lines().find(|line| line.split([' ', '\t']).next() == Some(key));
    let key = value.split(' ').next().unwrap_or_default();
    match file {
        // "oom_kill_disable 0\nunder_oom 0\n…", of which the first may be written.
        "memory.oom_control" => {
            line("oom_kill_disable").and_then(|l| l.split(' ').nth(1)).unwrap_or("0").into()
        }
        // An idle cgroup shows none, and gets the right one with being idle.
        "cpu.weight" if text.trim() == "0" => "".into(),
        // "8:0 rbps=1000 wbps=max riops=max wiops=max"; no line, no limit.
        "io.max" => {
            let line = line(key).unwrap_or_default().split(' ').skip(1);
            let now = |name: &str| line.clone().find(|pair| pair.split('=').next() == Some(name));
            let names = value.split(' ').skip(1).filter_map(|pair| pair.split('=').next());
            let back = names.map(|name| now(name).map_or_else(|| format!("{name}=max"), Into::into));
            format!("{key} {}", back.collect::<Vec<_>>().join(" ")).into()
        }
        // "default 100\n8:0 200", or the number alone; per device when the value names one.
        "io.weight" | "io.bfq.weight" | "blkio.bfq.weight" | "blkio.weight" if !value.contains(' ') => {
            line("default").map_or_else(|| text.trim(), |line| line.trim_start_matches("default ")).into()
        }
        "io.weight" | "io.bfq.weight" => {
            line(key).map_or_else(|| format!("{key} default").into(), Into::into)
        }
        // "8:0 1000"; 0 takes the line away.
        "blkio.weight_device" | "blkio.bfq.weight_device" | "blkio.leaf_weight_device" => {
            line(key).map_or_else(|| format!("{key} 0").into(), Into::into)
        }
        file if file.starts_with("blkio.throttle.") => {
            line(key).map_or_else(|| format!("{key} 0").into(), Into::into)
        }
        "rdma.max" => {
            line(key).map_or_else(|| format!("{key} hca_handle=max hca_object=max").into(), Into::into)
        }
        "net_prio.ifpriomap" => line(key).map_or_else(|| format!("{key} 0").into(), Into::into),
        // An empty list (cpuset) is written as an empty line: a write of nothing never reaches the kernel.
        _ if text.trim().is_empty() => "\n".into(),
        _ => text.trim().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_file_can_be_set_back() {
        let io = "8:0 rbps=1000 wbps=max riops=max wiops=5\n";
        for (file, value, text, expected) in [
            ("memory.max", "100", "max\n", "max"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpu.max", "5 10", "max 100000\n", "max 100000"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", "0"),
            ("io.max", "8:0 wiops=9", io, "8:0 wiops=5"),
            ("io.max", "8:0 rbps=9", io, "8:0 rbps=1000"),
            ("io.max", "8:16 rbps=9", io, "8:16 rbps=max"),
            ("io.max", "8:0 wiops=9 rbps=9", io, "8:0 wiops=5 rbps=1000"),
            ("io.weight", "7", "default 100\n8:0 50\n", "100"),
            ("io.weight", "8:0 7", "default 100\n8:0 50\n", "8:0 50"),
            ("io.weight", "8:16 7", "default 100\n8:0 50\n", "8:16 default"),
            ("blkio.bfq.weight", "7", "100\n", "100"),
            ("blkio.throttle.read_bps_device", "8:0 7", "8:0 1000\n", "8:0 1000"),
            ("blkio.throttle.read_bps_device", "8:0 7", "", "8:0 0"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 3\n", "eth0 3"),
        ] {
            assert_eq!(previous(file, value, text), expected, "{file} {value}");
        }
    }
}
