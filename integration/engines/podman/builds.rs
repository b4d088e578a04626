//! Images built by Podman and by Buildah: each RUN is a container that the runtime runs in the foreground.

use super::Podman;
use crate::image;
use std::fs;
use std::path::PathBuf;

const CONTAINERFILE: &str = "\
FROM localhost/busybox:test
ENV WORD=said
WORKDIR /work
COPY file /work/copied
RUN echo $WORD by $$ >built && id -u >>built && cat copied >>built
RUN --mount=type=tmpfs,target=/scratch touch /scratch/x && stat -f -c %T /scratch >>built
USER 1000:1000
RUN id -u:%g 2>/dev/null; id -u >/tmp/user; ! touch /work/new 2>/dev/null
CMD [\"sh\", \"-c\", \"cat /work/built /tmp/user; ls / | grep -c scratch\"]
";

fn context(podman: &Podman, name: &str) -> PathBuf {
    let context = podman.directory(name);
    fs::write(context.join("Containerfile"), CONTAINERFILE).expect("Containerfile");
    fs::write(context.join("file"), "a file\n").expect("a file of the context");
    context
}

/// Runs the image that was built, and removes it.
#[track_caller]
fn check(podman: &Podman, tag: &str) {
    let text = podman.podman(&["run", "--rm", "--network=none", tag]).stdout;
    assert_eq!(text, "said by 1\n0\na file\ntmpfs\n1000\n0\n");
    podman.podman(&["rmi", tag]).ok();
}

pub fn podman(podman: &Podman) {
    let context = context(podman, "context");
    let context = context.to_string_lossy();
    let runtime = podman.site.runtime.path.to_string_lossy();
    // The isolation is rootless by default for an ordinary user, and takes the runtime as well.
    podman
        .podman(&[
            "--runtime",
            &runtime,
            "build",
            "--isolation=oci",
            "--network=none",
            "--tag",
            "localhost/built",
            &context,
        ])
        .ok();
    check(podman, "localhost/built");
    let file = podman.home.join("failing");
    fs::write(&file, "FROM localhost/busybox:test\nRUN exit 9\n").expect("a Containerfile");
    let file = file.to_string_lossy();
    let done = podman.podman(&["build", "--isolation=oci", "--network=none", "--file", &file, &context]);
    assert!(!done.status.success() && done.stderr.contains("exit status 9"), "{}", done.describe());
}

pub fn commit(podman: &Podman) {
    podman.up("committed", "", "echo changed >/changed; sleep 1000");
    crate::site::eventually("the change", || {
        podman.podman(&["exec", "committed", "cat", "/changed"]).stdout == "changed\n"
    });
    podman.podman(&["commit", "--quiet", "committed", "localhost/committed"]).ok();
    podman.remove("committed");
    let text =
        podman.podman(&["run", "--rm", "--network=none", "localhost/committed", "cat", "/changed"]).ok();
    assert_eq!(text, "changed");
    podman.podman(&["rmi", "localhost/committed"]).ok();
}

pub fn bud(podman: &Podman) {
    let context = context(podman, "buildah");
    podman.buildah(&["bud", "--network=none", "--tag", "localhost/bud", &context.to_string_lossy()]).ok();
    check(podman, "localhost/bud");
}

/// A working container of Buildah's, as `what` uses it.
fn working(podman: &Podman, what: impl FnOnce(&str)) {
    let name = podman.buildah(&["from", "--pull=never", image::NAME]).ok();
    what(&name);
    podman.buildah(&["rm", &name]).ok();
}

pub fn run(podman: &Podman) {
    working(podman, |name| {
        let script = "echo $$; echo to stderr >&2; exit 4";
        let done = podman.buildah(&["run", "--network=none", name, "sh", "-c", script]).exits(4);
        assert_eq!(done.stdout, "1\n");
        assert!(done.stderr.contains("to stderr"), "{}", done.describe());
        podman.buildah(&["run", "--network=none", name, "sh", "-c", "echo kept >/kept"]).ok();
        assert_eq!(podman.buildah(&["run", "--network=none", name, "cat", "/kept"]).ok(), "kept");
        let missing = podman.buildah(&["run", "--network=none", name, "/no/such/program"]);
        assert!(
            !missing.status.success() && missing.stderr.contains("no such file"),
            "{}",
            missing.describe()
        );
        // By its flag as well as from the environment.
        let runtime = podman.site.runtime.path.to_string_lossy();
        podman.buildah(&["run", "--runtime", &runtime, "--network=none", name, "true"]).ok();
    });
}

pub fn run_options(podman: &Podman) {
    let volume = podman.directory("volume-of-buildah");
    fs::write(volume.join("file"), "text").expect("a file");
    let mount = format!("{}:/volume:ro", volume.display());
    working(podman, |name| {
        let script = "id -u; grep CapBnd /proc/self/status; cat /volume/file; touch /volume/new 2>/dev/null; echo $?; hostname";
        let flags = [
            "run",
            "--network=none",
            "--user=1000",
            "--cap-drop=all",
            "--hostname=named",
            "--volume",
            &mount,
            name,
        ];
        let text = podman.buildah(&[&flags[..], &["sh", "-c", script]].concat()).ok().replace('\t', " ");
        assert_eq!(text, "1000\nCapBnd: 0000000000000000\ntext1\nnamed");
    });
}
