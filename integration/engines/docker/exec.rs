//! `docker exec`.

use super::Docker;
use crate::site::eventually;
use std::time::Duration;

pub fn attributes(docker: &Docker) {
    docker.idle("attributes", &["--env", "A=from run", "--workdir", "/home/user"]);
    assert_eq!(docker.exec("attributes", "pwd; echo $A; id -u"), "/home/user\nfrom run\n0");
    let flags = ["exec", "--user", "user:extra", "--workdir", "/tmp", "--env", "A=from exec", "--env", "B=2"];
    let words = ["attributes", "sh", "-c", "pwd; echo $A $B; id -u; id -g; echo out; echo err >&2; exit 42"];
    let done = docker.cli(&[&flags[..], &words].concat()).exits(42);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("/tmp\nfrom exec 2\n1000\n2000\nout\n", "err\n")
    );
    docker.cli(&["exec", "attributes", "sh", "-c", "kill -KILL $$"]).exits(137);
    let line = "seq 100 | docker exec -i attributes wc -l";
    assert_eq!(docker.shell(line).ok(), "100");
    docker.remove(&["attributes"]);
    let error = docker.cli(&["exec", "attributes", "true"]).exits(1).stderr;
    assert!(error.contains("No such container"), "{error}");
}

pub fn terminal(docker: &Docker) {
    docker.idle("shell", &["--hostname", "inner"]);
    let mut terminal = docker.terminal("exec -it --env PS1='in# ' shell sh");
    terminal.await_text("in# ");
    terminal.type_in("hostname; tty\n");
    terminal.await_text("inner\n/dev/pts/0\n");
    eventually("the size", || {
        terminal.type_in("stty size\n");
        std::thread::sleep(Duration::from_millis(200));
        terminal.text().contains("40 100\n")
    });
    terminal.type_in("sleep 1000; echo then $''?\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.type_in("\x03");
    terminal.await_text("in# ");
    terminal.type_in("\nexit 11\n");
    let (code, text) = terminal.finish();
    assert_eq!(code, Some(11), "{text}");
    assert_eq!(docker.inspect("shell", "{{.State.Status}}"), "running");
    docker.remove(&["shell"]);
}

pub fn background(docker: &Docker) {
    docker.idle("background", &[]);
    docker.cli(&["exec", "--detach", "background", "sh", "-c", "echo $$ >/tmp/pid; exec sleep 1003"]).ok();
    eventually("it runs beside", || docker.cli(&["top", "background"]).ok().contains("sleep 1003"));
    let mask = |flags: &[&str]| {
        let words = ["background", "sh", "-c", "grep CapEff /proc/self/status"];
        docker.cli(&[&["exec"], flags, &words].concat()).ok()
    };
    assert!(mask(&[]).ends_with("00000000a80425fb"), "{}", mask(&[]));
    let all = mask(&["--privileged"]);
    let bits = all.rsplit('\t').next().and_then(|text| u64::from_str_radix(text, 16).ok());
    assert!(bits.expect("a mask").count_ones() > 35, "{all}");
    docker.remove(&["background"]);
}

pub fn errors(docker: &Docker) {
    docker.idle("errors", &[]);
    let exec = |flags: &[&str], words: &[&str]| docker.cli(&[&["exec"], flags, &["errors"], words].concat());
    // dockerd 20.10 says 126 for whatever could not be executed, later ones 127 for what is missing.
    let refused = |flags: &[&str], words: &[&str], code: i32| {
        let done = exec(flags, words);
        assert!([126, code].contains(&done.code()), "{}", done.describe());
        done.stdout + &done.stderr
    };
    let text = refused(&[], &["not-there"], 127);
    assert!(text.contains("executable file not found in $PATH"), "{text}");
    let text = refused(&[], &["/not/there"], 127);
    assert!(text.contains("no such file or directory"), "{text}");
    let text = refused(&[], &["/etc/passwd"], 126);
    assert!(text.contains("permission denied"), "{text}");
    let text = refused(&["--workdir", "/not/there"], &["true"], 127);
    assert!(text.contains("/not/there") && text.contains("no such file or directory"), "{text}");
    let text = refused(&["--user", "nobody-here"], &["true"], 1);
    assert!(text.contains("unable to find user nobody-here"), "{text}");
    // None of them has harmed the container.
    assert_eq!(docker.exec("errors", "echo alive"), "alive");
    docker.remove(&["errors"]);
}
