//! From measurements to tables, targets and JSON.

use anyhow::Result;
use serde_json::{Value, json};

/// What `run` of docker.json on cgroup v2 has to reach: the value, whose share of it, and the limit.
const RATIO_TARGETS: [(&str, f64); 3] = [("floor", 1.5), ("crun", 0.4), ("runc", 0.15)];
const PEAK_RSS_KIB: f64 = 3.0 * 1024.0;
const BINARY_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// The case that the targets speak of. Without the hook, since the floor runs none and a hook costs
/// every runtime the same fork and exec of a program that is not its own.
const TARGET_CASE: &str = "run of docker.json";

/// `exec` of /bin/true in a running container, and what it has to reach.
pub const EXEC_CASE: &str = "exec in a container of docker.json";
const EXEC_TARGETS: [(&str, f64); 2] = [("crun", 0.35), ("runc", 0.12)];
/// The case with systemd's scopes, where systemd runs: what it has to reach of crun's median.
pub const SYSTEMD_CASE: &str = "run of docker.json through systemd";
const SYSTEMD_SHARE: f64 = 0.6;

/// The value below which this share of the samples lies; null-like NaN is avoided: None without samples.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((values.len().saturating_sub(1)) as f64 * share).round() as usize;
    values.get(index).copied()
}

/// The whole document that goes to target/bench.json.
pub fn document(layouts: Vec<Value>) -> Result<Value> {
    let binary = std::fs::metadata("target/berth").map(|metadata| metadata.len()).ok();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut document = json!({ "kernel": release.trim(), "berth_binary_bytes": binary, "layouts": layouts });
    document["targets"] = targets(&document);
    Ok(document)
}

/// Whether berth failed in no case of any layout.
pub fn berth_succeeded(document: &Value) -> bool {
    let layouts = document["layouts"].as_array().into_iter().flatten();
    let cases = layouts.flat_map(|layout| layout["cases"].as_array().into_iter().flatten());
    let mut results = cases.flat_map(|case| case["results"].as_array().into_iter().flatten());
    results
        .all(|result| result["runtime"] != "berth" || result["failures"].as_array().is_none_or(Vec::is_empty))
}

fn result<'a>(document: &'a Value, layout: &str, case: &str, runtime: &str) -> Option<&'a Value> {
    let layouts = document["layouts"].as_array()?;
    let layout = layouts.iter().find(|one| one["layout"] == layout)?;
    let case = layout["cases"].as_array()?.iter().find(|one| one["case"] == case)?;
    case["results"].as_array()?.iter().find(|one| one["runtime"] == runtime)
}

/// Each target with what was measured; a target whose peer did not run has no measured value.
fn targets(document: &Value) -> Value {
    let of = |runtime: &str| result(document, "v2", TARGET_CASE, runtime);
    let share = |case: &str, peer: &str| {
        let median = |runtime: &str| result(document, "v2", case, runtime)?["median_ms"].as_f64();
        median("berth").zip(median(peer)).map(|(own, peer)| own / peer)
    };
    let target = |name: String, limit: f64, measured: Option<f64>| {
        let met = measured.map(|measured| measured <= limit);
        json!({ "target": name, "limit": limit, "measured": measured, "met": met })
    };
    let cases = [(TARGET_CASE, &RATIO_TARGETS[..]), (EXEC_CASE, &EXEC_TARGETS[..])];
    let mut targets = Vec::new();
    for (case, limits) in cases {
        for (peer, limit) in limits {
            targets.push(target(
                format!("{case} on v2, share of {peer}'s median"),
                *limit,
                share(case, peer),
            ));
        }
    }
    let peak = of("berth").and_then(|result| result["peak_rss_kib"].as_f64());
    targets.push(target("peak memory of that run, KiB".to_owned(), PEAK_RSS_KIB, peak));
    targets.push(target(
        "size of the binary, bytes".to_owned(),
        BINARY_BYTES,
        document["berth_binary_bytes"].as_f64(),
    ));
    // On whichever layout systemd was asked.
    for layout in ["v1", "v2"] {
        let median = |runtime: &str| result(document, layout, SYSTEMD_CASE, runtime)?["median_ms"].as_f64();
        if let Some((own, peer)) = median("berth").zip(median("crun")) {
            let name = format!("{SYSTEMD_CASE}, {layout}, share of crun's");
            targets.push(target(name, SYSTEMD_SHARE, Some(own / peer)));
        }
    }
    Value::Array(targets)
}

/// The tables, for people.
pub fn print(document: &Value) {
    println!("kernel {}", text(&document["kernel"]));
    for layout in document["layouts"].as_array().into_iter().flatten() {
        print_layout(layout);
    }
    println!("\nTargets");
    for target in document["targets"].as_array().into_iter().flatten() {
        let verdict = match target["met"].as_bool() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        println!(
            "  {:<70} {:>12} of at most {:>10}  {verdict}",
            text(&target["target"]),
            number(&target["measured"]),
            number(&target["limit"])
        );
    }
}

fn print_layout(layout: &Value) {
    println!("\n=== cgroups {} ===", text(&layout["layout"]));
    for (name, version) in layout["versions"].as_object().into_iter().flatten() {
        println!("{name:>6}: {}", text(version));
    }
    let stripped: Vec<String> =
        layout["stripped_resources"].as_array().into_iter().flatten().map(text).collect();
    if !stripped.is_empty() {
        println!("no controller here for: {}; taken out of the bundles for all alike", stripped.join(", "));
    }
    println!("peak: ru_maxrss of the direct child and of what it waited for");
    for case in layout["cases"].as_array().into_iter().flatten() {
        print_case(case);
    }
    if layout["system_calls"].is_object() {
        println!("\nsystem calls of one run of docker.json, /bin/true's own among them");
        print_counts(&layout["system_calls"]);
    }
    if layout["exec_cpu"].is_object() {
        println!("\nprocessor time of {} execs, seconds", number(&layout["exec_cpu"]["execs"]));
        print_counts(&layout["exec_cpu"]["seconds"]);
    }
    if layout["smallest_memory_limit_kib"].is_object() {
        println!("\nsmallest memory.limit under which docker.json runs, KiB");
        print_counts(&layout["smallest_memory_limit_kib"]);
    }
    if let Some(steps) = layout["floor_steps_us"].as_array() {
        println!("\nthe floor of docker.json by step, microseconds");
        for step in steps {
            println!("  {:<24} {:>9}", text(&step["step"]), number(&step["median"]));
        }
    }
}

fn print_case(case: &Value) {
    let results: Vec<&Value> = case["results"].as_array().into_iter().flatten().collect();
    let rounds =
        results.iter().filter_map(|one| one["samples_ms"].as_array()).map(Vec::len).max().unwrap_or(0);
    println!("\n{} ({rounds} rounds)", text(&case["case"]));
    println!(
        "  {:<8} {:>10} {:>10} {:>10} {:>9} {:>9} {:>10}",
        "", "median ms", "p90 ms", "min ms", "/ floor", "/ crun", "peak KiB"
    );
    let median = |name: &str| {
        results.iter().find(|one| one["runtime"] == name).and_then(|one| one["median_ms"].as_f64())
    };
    for result in &results {
        let ratio = |of: &str| {
            let share = result["median_ms"].as_f64().zip(median(of)).map(|(own, other)| own / other);
            share.map_or_else(|| "–".to_owned(), |share| format!("{share:.2}"))
        };
        println!(
            "  {:<8} {:>10} {:>10} {:>10} {:>9} {:>9} {:>10}",
            text(&result["runtime"]),
            number(&result["median_ms"]),
            number(&result["p90_ms"]),
            number(&result["min_ms"]),
            ratio("floor"),
            ratio("crun"),
            number(&result["peak_rss_kib"]),
        );
        let failures = result["failures"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(last) = failures.last() {
            println!("           failed {} times, last: {}", failures.len(), text(last));
        }
    }
}

fn print_counts(counts: &Value) {
    for (name, count) in counts.as_object().into_iter().flatten() {
        match count["failed"].as_str() {
            Some(failure) => println!("  {name:<8} failed: {failure}"),
            None => println!("  {name:<8} {:>10}", number(count)),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> String {
    match value.as_f64() {
        None => "–".to_owned(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}
