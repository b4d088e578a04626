//! `docker build`, by dockerd's own builder and by BuildKit.

use super::Docker;
use super::default::AsDefault;
use crate::image;
use crate::site::{Bounded, Done, eventually};
use std::fs;
use std::process::Stdio;

/// Builds a Dockerfile whose context has one file.
fn build(docker: &Docker, tag: &str, text: &str, buildkit: bool) -> Done {
    let mut client = client(docker, tag, text, buildkit);
    client.done()
}

fn client(docker: &Docker, tag: &str, text: &str, buildkit: bool) -> std::process::Command {
    let context = docker.site.path("context");
    fs::create_dir_all(&context).expect("the context");
    fs::write(context.join("word"), "from the context\n").expect("a file of the context");
    fs::write(context.join("Dockerfile"), format!("FROM {}\n{text}", image::NAME)).expect("a Dockerfile");
    let mut client = docker.client();
    client.env("DOCKER_BUILDKIT", if buildkit { "1" } else { "0" });
    client.args(["build", "--tag", tag]).arg(context);
    client
}

const TEXT: &str = "\
ARG WORD=unset
ENV KEPT=$WORD
COPY word /copied
RUN cat /copied >/made && echo $WORD >>/made && test $(id -u) = 0
WORKDIR /home/user
USER user
RUN id -u >whoami; ! touch /forbidden
CMD [\"cat\", \"/made\", \"whoami\"]
";

/// What the image of TEXT is like.
fn check(docker: &Docker, tag: &str) {
    let mut run = docker.client();
    let seen = run.args(["run", "--rm", tag]).done().ok();
    assert_eq!(seen, "from the context\nunset\n1000");
    docker.cli(&["rmi", tag]).ok();
}

pub fn classic(AsDefault(docker): &AsDefault) {
    build(docker, "localhost/built:test", TEXT, false).ok();
    check(docker, "localhost/built:test");
    let failed = build(docker, "localhost/fails:test", "RUN exit 3\n", false).exits(3);
    assert!(failed.stderr.contains("returned a non-zero code: 3"), "{}", failed.stderr);
    // Its RUN steps are containers of the default runtime.
    let mut client = client(docker, "localhost/slow:test", "RUN sleep 1006 || true\n", false);
    let mut child =
        client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client");
    let mut ids = String::new();
    eventually("the RUN step runs", || {
        ids = docker.cli(&["ps", "--quiet", "--no-trunc"]).ok();
        !ids.is_empty()
    });
    let runtime = docker.inspect(&ids, "{{.HostConfig.Runtime}}");
    let mut listed = docker.runtime_list();
    child.kill().expect("kill the client");
    child.wait().expect("wait for the client");
    eventually("the RUN step is ended", || docker.cli(&["ps", "--quiet"]).ok().is_empty());
    assert_eq!(runtime, docker.word);
    listed.retain(|id| *id == ids);
    assert_eq!(listed, [ids], "not known to the runtime");
    docker.cli(&["image", "prune", "--force"]).ok();
}

pub fn buildkit(AsDefault(docker): &AsDefault) {
    let calls = || fs::read_to_string(docker.site.path("runc-calls")).unwrap_or_default();
    let before = calls().len();
    build(docker, "localhost/kit:test", TEXT, true).ok();
    check(docker, "localhost/kit:test");
    let calls = calls()[before..].to_owned();
    let runs = calls.lines().filter(|line| line.contains(" run --bundle ")).count();
    assert_eq!(runs, 2, "{calls}");
    let failed = build(docker, "localhost/fails:test", "RUN echo word; exit 3\n", true).exits(1);
    assert!(failed.stderr.contains("exit code: 3") && failed.stderr.contains("word"), "{}", failed.stderr);
    let missing = build(docker, "localhost/fails:test", "RUN [\"not-there\"]\n", true).exits(1);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    docker.cli(&["builder", "prune", "--force", "--all"]).ok();
}
