//! What is mounted, and what goes in and out of the file system.

use super::Docker;
use crate::image;
use crate::site::{eventually, sh};
use std::fs;

pub fn read_only(docker: &Docker) {
    let flags = [
        "--read-only",
        "--tmpfs",
        "/tmp:size=4m,mode=1770",
        "--tmpfs",
        "/run:exec",
        "--volume",
        "kept:/kept",
    ];
    let script = "(echo x >/file) 2>&1 | grep -o 'Read-only file system'; echo x >/tmp/file && cat /tmp/file; echo y >/kept/file && cat /kept/file; stat -c %a /tmp; df -k /tmp | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; cp /bin/busybox /run/busybox && /run/busybox echo runs; (cp /bin/busybox /tmp/busybox; /tmp/busybox true) 2>&1 | grep -o 'Permission denied'";
    assert_eq!(
        docker.inside(&flags, script),
        "Read-only file system\nx\ny\n1770\n4096\nruns\nPermission denied"
    );
    docker.cli(&["volume", "rm", "kept"]).ok();
}

pub fn volumes(docker: &Docker) {
    let directory = docker.site.path("shared-with");
    fs::create_dir_all(directory.join("sub")).expect("a directory");
    fs::write(directory.join("word"), "from outside\n").expect("a file");
    let bind = |rest: &str| format!("{}:/in{rest}", directory.display());
    assert_eq!(
        docker.inside(&["--volume", &bind("")], "cat /in/word; echo from inside >/in/answer"),
        "from outside"
    );
    assert_eq!(fs::read_to_string(directory.join("answer")).expect("the answer"), "from inside\n");
    let refused = "(echo x >/in/answer) 2>&1 | grep -o 'Read-only file system'";
    assert_eq!(docker.inside(&["--volume", &bind(":ro")], refused), "Read-only file system");
    let mount = format!("type=bind,source={}/word,target=/one/file,readonly", directory.display());
    assert_eq!(
        docker.inside(&["--mount", &mount], "cat /one/file; (echo x >/one/file) 2>&1 | grep -o Read-only"),
        "from outside\nRead-only"
    );
    let mount = "type=tmpfs,target=/memory,tmpfs-size=1048576,tmpfs-mode=0700";
    assert_eq!(
        docker.inside(
            &["--mount", mount],
            "stat -c %a /memory; df -k /memory | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"
        ),
        "700\n1024"
    );
    // A new volume takes what the image has there, and its owner.
    assert_eq!(
        docker.inside(&["--volume", "own:/home/user"], "stat -c %u /home/user; echo kept >/home/user/file"),
        "1000"
    );
    assert_eq!(
        docker.inside(&["--volume", "own:/elsewhere:ro", "--user", "user"], "cat /elsewhere/file"),
        "kept"
    );
    // From another container.
    docker.idle("with", &["--volume", "own:/from"]);
    assert_eq!(
        docker.inside(
            &["--volumes-from", "with:ro"],
            "cat /from/file; (echo x >/from/file) 2>&1 | grep -o Read-only"
        ),
        "kept\nRead-only"
    );
    docker.remove(&["with"]);
    docker.cli(&["volume", "rm", "own"]).ok();
}

pub fn propagation(docker: &Docker) {
    let directory = docker.site.path("propagated");
    fs::create_dir_all(&directory).expect("a directory");
    let text = directory.display();
    sh(&format!(
        "mount -t tmpfs none {text} && mount --make-shared {text} && mkdir {text}/late {text}/inner"
    ))
    .ok();
    let volume = |mode: &str| format!("{text}:/in:{mode}");
    for mode in ["rslave", "rshared", "rprivate"] {
        docker.idle(mode, &["--privileged", "--volume", &volume(mode)]);
    }
    sh(&format!("mount -t tmpfs none {text}/late && echo word >{text}/late/file")).ok();
    let seen = |name: &str| docker.exec(name, "cat /in/late/file 2>/dev/null || echo nothing");
    assert_eq!([seen("rslave"), seen("rshared"), seen("rprivate")], ["word", "word", "nothing"]);
    for mode in ["rslave", "rprivate"] {
        docker.exec(mode, "mount -t tmpfs none /in/inner && touch /in/inner/file");
        assert!(!directory.join("inner/file").exists(), "{mode}");
    }
    docker.exec("rshared", "mount -t tmpfs none /in/inner && touch /in/inner/file");
    assert!(directory.join("inner/file").exists());
    docker.remove(&["rslave", "rshared", "rprivate"]);
    sh(&format!("umount -R {text}")).ok();
}

pub fn copy(docker: &Docker) {
    let source = docker.site.path("to-copy");
    fs::create_dir_all(source.join("deep")).expect("a directory");
    fs::write(source.join("deep/file"), "from outside\n").expect("a file");
    let source = source.display().to_string();
    docker.idle("copy", &["--tmpfs", "/memory"]);
    docker.cli(&["cp", &source, "copy:/home"]).ok();
    assert_eq!(docker.exec("copy", "cat /home/to-copy/deep/file"), "from outside");
    docker
        .exec("copy", "echo from inside >/home/answer; chmod 640 /home/answer; chown 1000:2000 /home/answer");
    let target = docker.site.path("answer");
    let text = target.display().to_string();
    docker.cli(&["cp", "copy:/home/answer", &text]).ok();
    assert_eq!(fs::read_to_string(&target).expect("the copy"), "from inside\n");
    assert_eq!(sh(&format!("stat -c %a {text}")).ok(), "640");
    docker.cli(&["stop", "--time", "5", "copy"]).ok();
    docker.cli(&["cp", "copy:/home/to-copy/deep/file", &format!("{text}-2")]).ok();
    docker.cli(&["cp", &format!("{text}-2"), "copy:/root/back"]).ok();
    docker.cli(&["start", "copy"]).ok();
    assert_eq!(docker.exec("copy", "cat /root/back"), "from outside");
    docker.remove(&["copy"]);
}

pub fn commit(docker: &Docker) {
    docker
        .run(&["--name", "commit"], &["sh", "-c", "echo new >/new; rm /etc/group; echo more >>/etc/passwd"])
        .ok();
    let diff = docker.cli(&["diff", "commit"]).ok();
    let mut lines: Vec<&str> = diff.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A /new", "C /etc", "C /etc/passwd", "D /etc/group"]);
    docker.cli(&["commit", "--change", "CMD [\"cat\", \"/new\"]", "commit", "localhost/committed:test"]).ok();
    assert_eq!(docker.run_image("localhost/committed:test", &["--rm"], &[]).ok(), "new");
    docker.remove(&["commit"]);
    docker.cli(&["rmi", "localhost/committed:test"]).ok();
    // The image that it was made from is as before.
    assert_eq!(
        docker.inside(&[], "cat /etc/group | head -n 1; ls /new 2>&1 | grep -c 'No such'"),
        "root:x:0:\n1"
    );
    let inspected = docker.inspect(image::NAME, "{{len .RootFS.Layers}}");
    assert_eq!(inspected, "1");
    eventually("nothing dangles", || {
        docker.cli(&["images", "--quiet", "--filter", "dangling=true"]).ok().is_empty()
    });
}
