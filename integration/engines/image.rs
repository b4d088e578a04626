//! Images made here: the static busybox with a link per applet, as an OCI layout in a tar and as a Docker archive.

use crate::site::{Bounded, sh};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name under which both archives are imported.
pub const NAME: &str = "localhost/busybox:test";

/// Makes `DIRECTORY/rootfs`, the image's root file system: busybox and all its applets, root and one ordinary user.
pub fn rootfs(directory: &Path) -> PathBuf {
    let root = directory.join("rootfs");
    for name in ["bin", "etc", "tmp", "root", "proc", "sys", "dev", "var/tmp", "home/user"] {
        fs::create_dir_all(root.join(name)).expect("a directory of the image");
    }
    sh(&format!("cp $(command -v busybox) {0:?}/bin/busybox && {0:?}/bin/busybox --install -s {0:?}/bin && chmod 1777 {0:?}/tmp {0:?}/var/tmp && chown 1000:1000 {0:?}/home/user", root)).ok();
    // `--install -s` links to where busybox lies on this machine.
    sh(&format!("cd {root:?}/bin && for link in *; do [ -L $link ] && ln -sfn busybox $link; done; true"))
        .ok();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("a file of the image");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n");
    write("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n");
    root
}

/// The busybox image in an archive (`pack`).
pub fn archive(directory: &Path) -> PathBuf {
    let root = rootfs(directory);
    pack(directory, &root, NAME, serde_json::json!({ "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"] }))
}

/// A tar of an OCI layout and Docker's own form at once: index.json beside manifest.json, as `docker save`
/// writes them today, so that every engine can load it. `config` is the image's `config` object.
pub fn pack(directory: &Path, root: &Path, name: &str, config: serde_json::Value) -> PathBuf {
    let layout = directory.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("the layout");
    let layer = directory.join("layer");
    sh(&format!("tar -C {root:?} --numeric-owner -cf {layer:?} .")).ok();
    let (layer, layer_size) = blob(&layout, &fs::read(&layer).expect("the layer"));
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": config,
        // Builders count it against the layers.
        "history": [{ "created_by": "berth's tests" }],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    });
    let (config, config_size) = blob(&layout, config.to_string().as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config, config_size),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer, layer_size)],
    });
    let (manifest, manifest_size) = blob(&layout, manifest.to_string().as_bytes());
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest, manifest_size);
    entry["annotations"] = serde_json::json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": "test",
    });
    let write = |name: &str, value: serde_json::Value| {
        fs::write(layout.join(name), value.to_string()).expect("a file of the layout");
    };
    write("index.json", serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }));
    write("oci-layout", serde_json::json!({ "imageLayoutVersion": "1.0.0" }));
    write(
        "manifest.json",
        serde_json::json!([{
            "Config": format!("blobs/sha256/{config}"),
            "RepoTags": [name],
            "Layers": [format!("blobs/sha256/{layer}")],
        }]),
    );
    let tar = directory.join("image.tar");
    Command::new("tar").arg("-C").arg(&layout).arg("-cf").arg(&tar).arg(".").done().ok();
    tar
}

/// Writes a blob under its digest; the digest in hex and the size in bytes.
fn blob(layout: &Path, bytes: &[u8]) -> (String, usize) {
    let temporary = layout.join("blob");
    fs::write(&temporary, bytes).expect("a blob");
    let sum = Command::new("sha256sum").arg(&temporary).done().ok();
    let digest = sum.split(' ').next().expect("a digest").to_owned();
    fs::rename(&temporary, layout.join("blobs/sha256").join(&digest)).expect("a blob's name");
    (digest, bytes.len())
}

fn descriptor(kind: &str, digest: &str, size: usize) -> serde_json::Value {
    serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size })
}
