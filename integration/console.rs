//! A person at a terminal: a shell in a container, in a window of tmux(1).

use crate::harness::program::{self, await_condition};
use crate::harness::tmux::Window;
use crate::harness::*;
use crate::{require, tests};
use std::fs;

tests! {
    the_size_follows_the_window, ctrl_c_reaches_the_program_alone, ctrl_p_ctrl_q_are_left_alone,
    jobs_are_stopped_and_continued, exec_has_all_of_it, the_terminal_is_given_back,
}

const BUSYBOX: &str = "/bin/busybox";

fn shell() -> Container {
    require!(Window::is_possible(), "tmux is not installed here (integration/dependencies installs it)");
    require!(
        fs::exists(BUSYBOX).expect("/bin"),
        "busybox is not installed here (integration/dependencies installs it)"
    );
    let bundle = Bundle::new().args(&["/bin/sh"]).set("/process/terminal", true);
    let bundle = bundle.push("/process/env", json!("PS1=inside$ ")).remove("/process/noNewPrivileges");
    fs::copy(BUSYBOX, bundle.rootfs().join("bin/busybox")).expect("busybox");
    ["sh", "stty", "cat", "sleep"]
        .iter()
        .fold(bundle, |bundle, name| {
            let path = bundle.rootfs().join("bin").join(name);
            if path.exists() {
                fs::remove_file(&path).expect("make place for busybox");
            }
            bundle.symlink("busybox", &format!("/bin/{name}"))
        })
        .container()
}

/// `berth VERB FLAGS` as it is typed.
fn typed(container: &Container, verb: &str, flags: &str) -> String {
    let (berth, root) = (program::path(), program::root());
    format!("{} --root {} {verb} {flags} {}", berth.display(), root.display(), container.id)
}

/// A window in which somebody has typed `berth run`, at the container's prompt.
fn run(container: &Container) -> Window {
    container.bundle.write();
    let window = Window::open();
    window.line(&typed(container, "run", &format!("--bundle {}", container.bundle.path.display())));
    window.await_text("inside$");
    window
}

fn leave(window: &Window) {
    window.line("exit 7");
    // What is typed before is still relayed.
    let back = await_condition(|| window.text().matches("outside$").count() == 2);
    assert!(back, "{}", window.text());
    window.line("echo ended with $?");
    window.await_text("ended with 7");
}

/// Types `stty size` until the answer is there: the new size is on its way.
#[track_caller]
fn await_size(window: &Window, size: &str) {
    let seen = await_condition(|| {
        window.line("stty size");
        std::thread::sleep(std::time::Duration::from_millis(50));
        window.text().lines().any(|line| line.trim() == size)
    });
    assert!(seen, "{size} did not come:\n{}", window.text());
}

fn follows_the_window(window: &Window) {
    await_size(window, "24 80");
    window.resize(100, 30);
    await_size(window, "30 100");
    window.resize(60, 20);
    await_size(window, "20 60");
}

fn the_size_follows_the_window() {
    let container = shell();
    let window = run(&container);
    follows_the_window(&window);
    leave(&window);
}

/// Nothing is printed by which one could see that a program reads its terminal.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(200) * slow());
}

fn interrupts(window: &Window) {
    window.line("sleep 1000");
    settle();
    window.key("C-c");
    window.line("echo status $?");
    window.await_text("status 130");
}

fn ctrl_c_reaches_the_program_alone() {
    let container = shell();
    let window = run(&container);
    interrupts(&window);
    assert_eq!(container.status(), "running");
    leave(&window);
}

/// Docker's way to detach is Docker's: here they are characters like others.
fn ctrl_p_ctrl_q_are_left_alone() {
    let container = shell();
    let window = run(&container);
    window.line("stty -ixon; cat -v");
    window.await_text("cat -v");
    settle();
    for key in ["a", "C-p", "C-q", "b", "Enter"] {
        window.key(key);
    }
    // As the terminal echoes it, and as cat prints it.
    let twice = await_condition(|| window.text().matches("a^P^Qb").count() == 2);
    assert!(twice, "{}", window.text());
    window.key("C-d");
    leave(&window);
}

fn controls_jobs(window: &Window) {
    window.line("sleep 1000");
    settle();
    window.key("C-z");
    window.await_text("Stopped");
    window.line("bg");
    // The shell itself has to learn of it first.
    let running = await_condition(|| {
        window.line("jobs");
        std::thread::sleep(std::time::Duration::from_millis(50));
        window.text().contains("Running")
    });
    assert!(running, "{}", window.text());
    window.line("fg");
    settle();
    window.key("C-c");
    window.line("echo after $?");
    window.await_text("after 130");
    assert!(!window.text().contains("job control turned off"), "{}", window.text());
}

fn jobs_are_stopped_and_continued() {
    let container = shell();
    let window = run(&container);
    controls_jobs(&window);
    leave(&window);
}

fn exec_has_all_of_it() {
    let mut container = shell();
    let config = &mut container.bundle.config;
    bundle::set(config, "/process/args", json!(["/bin/payload", "sleep:1000"]));
    bundle::set(config, "/process/terminal", json!(false));
    container.up();
    let window = Window::open();
    window.line(&format!("{} /bin/sh", typed(&container, "exec", "-t -e 'PS1=inside$ '")));
    window.await_text("inside$");
    follows_the_window(&window);
    interrupts(&window);
    controls_jobs(&window);
    leave(&window);
    assert_eq!(container.status(), "running");
}

fn the_terminal_is_given_back() {
    let container = shell();
    container.bundle.write();
    let window = Window::open();
    let line = typed(&container, "run", &format!("--bundle {}", container.bundle.path.display()));
    window.line(&format!("before=$(stty -g); {line}; test \"$before\" = \"$(stty -g)\" && echo as it was"));
    window.await_text("inside$");
    window.line("exit");
    // Not the line itself, in which the words are too.
    let seen = await_condition(|| window.text().lines().any(|line| line.trim() == "as it was"));
    assert!(seen, "{}", window.text());
}
