//! `ps`: pids for programs, ps(1) for people.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};

tests! { json_is_an_array_of_pids, the_table_is_that_of_ps, options_go_to_ps, unknown_and_stopped_containers }

fn has_ps() -> bool {
    ["/bin/ps", "/usr/bin/ps"].iter().any(|path| std::path::Path::new(path).exists())
}

/// A container with three processes, and their pids on the host.
fn three() -> (Container, Vec<i32>) {
    let steps = ["background:sleep:1000", "background:sleep:1000", "echo:ready", "sleep:1000"];
    let mut container = Bundle::new().steps(&steps).container();
    container.up();
    container.await_output("ready");
    let mut pids: Vec<i32> = host::descendants(container.pid()).into_iter().map(|(pid, _)| pid).collect();
    pids.push(container.pid());
    pids.sort_unstable();
    assert_eq!(pids.len(), 3);
    (container, pids)
}

fn json_is_an_array_of_pids() {
    let (container, pids) = three();
    for flags in [["--format", "json"], ["-f", "json"]] {
        let done = container.verb("ps", &flags, &[]).done().ok();
        assert_eq!(serde_json::from_str::<Vec<i32>>(&done.stdout()).expect("integers"), pids);
    }
}

fn pids_in(table: &str, title: &str) -> Vec<i32> {
    let mut lines = table.lines();
    let column =
        lines.next().expect("a header").split_whitespace().position(|word| word == title).expect("PID");
    let mut pids: Vec<i32> = lines
        .map(|line| line.split_whitespace().nth(column).expect("a pid").parse().expect("a number"))
        .collect();
    pids.sort_unstable();
    pids
}

fn the_table_is_that_of_ps() {
    require!(has_ps(), "no ps(1) here");
    let (container, pids) = three();
    let table = container.verb("ps", &[], &[]).done().ok().stdout();
    assert!(table.starts_with("UID"), "{table}");
    assert_eq!(pids_in(&table, "PID"), pids);
}

fn options_go_to_ps() {
    require!(has_ps(), "no ps(1) here");
    let (container, pids) = three();
    let table = container.verb("ps", &[], &["-e", "-o", "comm,pid"]).done().ok().stdout();
    assert!(table.starts_with("COMMAND"), "{table}");
    assert_eq!(pids_in(&table, "PID"), pids);
    container.verb("ps", &[], &["-e", "-o", "comm"]).done().fails("no column PID");
    container.verb("ps", &[], &["--nonsense"]).done().fails("exit status 1");
}

fn unknown_and_stopped_containers() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.verb("ps", &[], &[]).done().fails("does not exist");
    container.up();
    container.await_status("stopped");
    assert_eq!(container.verb("ps", &["-f", "json"], &[]).done().ok().stdout(), "[]\n");
}
