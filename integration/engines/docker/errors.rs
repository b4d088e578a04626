//! What cannot start: the exit status, the words and the state that a user sees.

use super::Docker;

/// Runs a container that cannot start: its words, with its state in `docker inspect` as expected.
fn refused(docker: &Docker, flags: &[&str], args: &[&str], code: i32) -> String {
    let done = docker.run(&[&["--name", "refused"], flags].concat(), args);
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}} {{.State.Running}}";
    assert_eq!(docker.inspect("refused", state), format!("created {code} 0 false"), "{}", done.describe());
    let error = docker.inspect("refused", "{{.State.Error}}");
    assert!(!error.is_empty() && done.stderr.contains(&error), "{error:?} in {:?}", done.stderr);
    // 125 is the client's own for what the daemon could not create.
    assert!([125, code].contains(&done.code()), "{}", done.describe());
    docker.remove(&["refused"]);
    error
}

fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} in: {text}");
    }
}

pub fn missing(docker: &Docker) {
    contains(
        &refused(docker, &[], &["not-there"], 127),
        &["not-there", "executable file not found in $PATH"],
    );
    contains(&refused(docker, &[], &["/not/there"], 127), &["/not/there", "no such file or directory"]);
    let script = "printf '#!/not/there\\n' >/script; chmod +x /script";
    docker.run(&["--name", "script"], &["sh", "-c", script]).ok();
    docker.cli(&["commit", "script", "localhost/script:test"]).ok();
    let done = docker.run_image("localhost/script:test", &["--name", "interpreter"], &["/script"]).exits(127);
    contains(&done.stderr, &["no such file or directory"]);
    docker.cli(&["rm", "script", "interpreter"]).ok();
    docker.cli(&["rmi", "localhost/script:test"]).ok();
}

pub fn forbidden(docker: &Docker) {
    contains(&refused(docker, &[], &["/etc/passwd"], 126), &["/etc/passwd", "permission denied"]);
    contains(&refused(docker, &[], &["/etc"], 126), &["/etc"]);
    let text = refused(docker, &["--user", "1000", "--tmpfs", "/tools:mode=0700"], &["/tools/x"], 126);
    contains(&text, &["permission denied"]);
}

pub fn directory(docker: &Docker) {
    // A missing one is made by dockerd.
    assert_eq!(docker.inside(&["--workdir", "/new/one"], "pwd"), "/new/one");
    docker.run(&["--rm", "--workdir", "/etc/passwd"], &["true"]).exits(125);
}

pub fn mount(docker: &Docker) {
    let source = docker.site.path("source-file");
    std::fs::write(&source, "text").expect("a file");
    let volume = format!("{}:/etc", source.display());
    // A file over a directory.
    let text = refused(docker, &["--volume", &volume], &["true"], 127);
    contains(&text, &["not a directory", "Are you trying to mount a directory onto a file (or vice-versa)?"]);
    let volume = format!("{}:/etc/passwd", docker.site.path("bin").display());
    let text = refused(docker, &["--volume", &volume], &["true"], 127);
    contains(&text, &["not a directory"]);
    let text = refused(docker, &["--sysctl", "net.ipv4.not_there=1"], &["true"], 127);
    contains(&text, &["not_there"]);
}

pub fn user(docker: &Docker) {
    let done = docker.run(&["--rm", "--user", "nobody-here"], &["true"]).exits(125);
    contains(&done.stderr, &["unable to find user nobody-here"]);
    let done = docker.run(&["--rm", "--group-add", "no-group"], &["true"]).exits(125);
    contains(&done.stderr, &["Unable to find group no-group"]);
}
