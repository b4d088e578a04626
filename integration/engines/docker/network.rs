//! Networks: bridges in the daemon's own network namespace.

use super::Docker;
use crate::site::eventually;

const SERVE: &str = "echo page of $(hostname) >/tmp/index.html; exec httpd -f -p 80 -h /tmp";

/// The address of a container in a network.
fn address(docker: &Docker, name: &str, network: &str) -> String {
    docker.inspect(name, &format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}"))
}

pub fn none(docker: &Docker) {
    let script = "ls /sys/class/net; ip address show lo | grep -o 'inet 127.0.0.1'; ping -c 1 127.0.0.1 >/dev/null && echo answers";
    assert_eq!(docker.inside(&["--network", "none"], script), "lo\ninet 127.0.0.1\nanswers");
    let flags = ["--add-host", "other:192.0.2.9", "--dns", "192.0.2.53"];
    assert_eq!(
        docker.inside(&flags, "grep other /etc/hosts; cat /etc/resolv.conf | grep nameserver"),
        "192.0.2.9\tother\nnameserver 192.0.2.53"
    );
}

pub fn published(docker: &Docker) {
    docker.start("published", &["-p", "127.0.0.1:8099:80", "--hostname", "shop"], &["sh", "-c", SERVE]);
    let page = || docker.beside("busybox wget -q -O - http://127.0.0.1:8099/");
    eventually("the page", || page().status.success());
    assert_eq!(page().ok(), "page of shop");
    docker.remove(&["published"]);
    assert!(!page().status.success());
}

pub fn connect(docker: &Docker) {
    docker.cli(&["network", "create", "--subnet", "172.30.98.0/24", "later"]).ok();
    docker.idle("mover", &["--network", "none"]);
    docker.cli(&["network", "disconnect", "none", "mover"]).ok();
    docker.cli(&["network", "connect", "--ip", "172.30.98.7", "later", "mover"]).ok();
    let seen = docker.exec("mover", "ip -4 address show | grep -o 'inet 172[0-9./]*'");
    assert_eq!(seen, "inet 172.30.98.7/24");
    assert_eq!(
        docker.inside(&["--network", "later"], "ping -c 1 -W 5 172.30.98.7 >/dev/null && echo answers"),
        "answers"
    );
    docker.cli(&["network", "disconnect", "later", "mover"]).ok();
    assert_eq!(docker.exec("mover", "ls /sys/class/net"), "lo");
    docker.remove(&["mover"]);
    docker.cli(&["network", "rm", "later"]).ok();
}

pub fn services(docker: &Docker) {
    docker.cli(&["network", "create", "shop"]).ok();
    docker.cli(&["volume", "create", "pages"]).ok();
    docker.start(
        "store",
        &["--network", "shop", "--hostname", "store", "--volume", "pages:/pages"],
        &["sh", "-c", "echo goods >/pages/goods; cd /pages; exec httpd -f -p 80 -h /pages"],
    );
    let store = address(docker, "store", "shop");
    // Asks the store for each request, as an application asks its database.
    let script = format!(
        "while :; do wget -q -O - http://{store}/goods | sed 's/^/app has /' | nc -l -p 81 >/dev/null; done"
    );
    docker.start("app", &["--network", "shop", "--volume", "pages:/pages:ro"], &["sh", "-c", &script]);
    // A proxy in the app's network namespace reaches it at 127.0.0.1.
    docker.start(
        "proxy",
        &["--network", "container:app"],
        &["sh", "-c", "while :; do nc -l -p 80 -e nc 127.0.0.1 81; done"],
    );
    let app = address(docker, "app", "shop");
    let ask = format!("nc -w 2 {app} 80 </dev/null");
    let mut answer = String::new();
    eventually("an answer through all three", || {
        answer = docker.run(&["--rm", "--network", "shop"], &["sh", "-c", &ask]).stdout;
        answer.contains("goods")
    });
    assert_eq!(answer.trim(), "app has goods");
    docker.remove(&["proxy", "app", "store"]);
    docker.cli(&["network", "rm", "shop"]).ok();
    docker.cli(&["volume", "rm", "pages"]).ok();
}
