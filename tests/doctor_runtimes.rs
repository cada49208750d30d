//! `linkspan doctor` and the runtimes of the host: where they look for networks and plugins, and what they read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lab::Lab;
use lab::fitness::{configured, finds, host, includes, list, ours, own_etc, write};
use lab::plugin::{REFERENCE, binary};
use serde_json::json;

#[test]
fn runtimes_that_look_elsewhere() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    finds(&[]);
    let cri = |conf: &str, bin: &str| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{conf}\"\nbin_dir = \"{bin}\"\n"
        )
    };
    write("/etc/containerd/config.toml", cri("/etc/cni/net.d", "/opt/cni/bin"));
    finds(&[]);
    write("/etc/containerd/config.toml", cri("/etc/cni/net.d", "/usr/lib/elsewhere"));
    assert!(finds(&[("runtime-directory", "warning")]).contains("linkspan install --dir /usr/lib/elsewhere"));
    write("/etc/containerd/config.toml", cri("/etc/other", "/opt/cni/bin"));
    assert!(finds(&[("runtime-directory", "warning")]).contains("NETCONFPATH=/etc/other"));
    write("/etc/containerd/config.toml", "version = \n");
    finds(&[("not-looked-at", "remark")]);
    write("/etc/containerd/config.toml", "version = 3\n");

    list("20-db.conflist", "db", json!([{"type": "linkspan"}]));
    write("/etc/crio/crio.conf.d/10.conf", "[crio.network]\ncni_default_network = \"db\"\n");
    assert!(finds(&[("runtime-picks", "remark")]).contains("CRI-O takes db (/etc/cni/net.d/20-db.conflist)"));
    fs::remove_file("/etc/cni/net.d/20-db.conflist").unwrap();
    let podman = "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\n  \"/usr/lib/elsewhere\",\n]\n";
    write("/etc/containers/containers.conf", podman);
    assert!(
        finds(&[("runtime-directory", "warning")]).contains("podman looks for plugins in /usr/lib/elsewhere")
    );
    write("/etc/containers/containers.conf", "");
    write("/etc/ufw/ufw.conf", "ENABLED=yes\n");
    finds(&[("ufw", "remark")]);
}

/// A runtime that says its version, and nothing else.
fn installed(lab: &Lab, program: &str, says: &str) {
    let path = format!("/usr/local/sbin/{program}");
    if !Path::new("/usr/local/sbin/.of-the-lab").exists() {
        lab.host.must(&["mount", "-t", "tmpfs", "tmpfs", "/usr/local/sbin"]);
        write("/usr/local/sbin/.of-the-lab", "");
    }
    write(&path, format!("#!/bin/sh\necho {says}\n"));
    lab.host.must(&["chmod", "755", &path]);
}

/// podman looks for plugins in a list of directories of its own, which a configuration of it replaces.
#[test]
fn podman_as_it_is_packaged() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    let theirs = json!([{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.99.0.0/16"}}, {"type": "portmap"}]);
    let list = json!({"cniVersion": "0.4.0", "name": "podman", "plugins": theirs});
    write("/etc/cni/net.d/87-podman-bridge.conflist", list.to_string());
    fs::remove_file("/etc/cni/net.d/10-web.conflist").unwrap();
    let nobody = ("plugin-missing", "fault");
    finds(&[nobody, nobody, nobody]);
    installed(&lab, "podman", "podman version 4.3.1");
    if !Path::new(REFERENCE).join("portmap").exists() {
        lab::skip!("the reference plugins are not where podman looks");
    }
    finds(&[]);
    let conf = "/etc/containers/containers.conf";
    let cni = "[network]\nnetwork_backend = \"cni\"\n";
    write(conf, cni);
    finds(&[]);
    write(conf, format!("{cni}cni_plugin_dirs = [\"/opt/cni/bin\", \"{REFERENCE}\"]\n"));
    finds(&[]);
    // Whoever writes one directory has taken the others away.
    write(conf, format!("{cni}cni_plugin_dirs = [\"/opt/cni/bin\"]\n"));
    let elsewhere = ("runtime-directory", "warning");
    let text = finds(&[nobody, nobody, nobody, elsewhere]);
    let fix = format!("write {REFERENCE} there as well");
    assert!(
        text.contains("these are not there: bridge, host-local, portmap") && text.contains(&fix),
        "{text}"
    );
    let cri = format!("[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{REFERENCE}\"\n");
    write("/etc/containerd/config.toml", cri);
    assert!(finds(&[elsewhere]).contains("/etc/cni/net.d/87-podman-bridge.conflist"));
    fs::remove_file("/etc/containerd/config.toml").unwrap();
    // Its default network needs no file.
    fs::rename("/etc/cni/net.d/87-podman-bridge.conflist", "/etc/cni/net.d/87-podman-bridge.off").unwrap();
    configured();
    let told = "these are not there: bridge, firewall, host-local, portmap, tuning";
    let text = includes("runtime-directory", "warning");
    assert!(text.contains(told) && text.contains("its default network"), "{text}");
    fs::remove_file("/etc/cni/net.d/10-web.conflist").unwrap();
    fs::rename("/etc/cni/net.d/87-podman-bridge.off", "/etc/cni/net.d/87-podman-bridge.conflist").unwrap();
    write(conf, "[network]\nnetwork_backend = \"netavark\"\n");
    finds(&[nobody, nobody, nobody]);
}

/// That podman uses CNI it may have written down itself; and where its networks are elsewhere, those here are others'.
#[test]
fn podman_by_its_own_choice() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    let cri = |dir: &str| format!("[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{dir}\"\n");
    let (conf, chosen) =
        ("/etc/containers/containers.conf", "/var/lib/containers/storage/defaultNetworkBackend");
    write("/run/lib/cni/calico", "");
    lab.host.must(&["chmod", "755", "/run/lib/cni/calico"]);
    symlink(binary(), "/run/lib/cni/linkspan").unwrap();
    write("/etc/containerd/config.toml", cri("/run/lib/cni"));
    list("10-web.conflist", "web", json!([ours(), {"type": "calico"}]));
    finds(&[]);
    let elsewhere = [("runtime-directory", "warning")];
    write(chosen, "cni");
    write(conf, "[network]\ncni_plugin_dirs = [\"/opt/cni/bin\"]\n");
    let text = finds(&elsewhere);
    assert!(text.contains("podman looks for plugins in /opt/cni/bin, and these are not there: calico"));
    write(chosen, "netavark");
    finds(&[]);
    let pods = "[network]\nnetwork_config_dir = \"/etc/pods\"\ncni_plugin_dirs = [\"/opt/cni/bin\"]\n";
    write(conf, pods);
    finds(&[]);
    write(chosen, "cni");
    let text = finds(&elsewhere);
    assert!(text.contains("podman reads networks from /etc/pods") && !text.contains("calico"), "{text}");
    // netavark's networks have such a directory too: nothing says which of the two it is.
    fs::remove_file(chosen).unwrap();
    finds(&[]);
}

/// Where a runtime is told to look there may be a linkspan of another version.
#[test]
fn another_linkspan_where_a_runtime_looks() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    let [bin, link] = ["/run/lib/cni", "/run/link/cni"];
    write(format!("{bin}/linkspan"), "<linkspan version 0.0.1>");
    let cri = |dirs: &str| format!("[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dirs = [{dirs}]\n");
    write("/etc/containerd/config.toml", cri("\"/run/lib/cni\", \"/run/link/cni\""));
    // Twice the same is said once.
    fs::create_dir_all(link).unwrap();
    symlink(format!("{bin}/linkspan"), format!("{link}/linkspan")).unwrap();
    let text = finds(&[("other-linkspan", "warning")]);
    assert!(text.contains("version 0.0.1") && text.contains(&format!("install --dir {bin}")), "{text}");
    write("/etc/containerd/config.toml", "");
    finds(&[]);
}

/// What lies where podman alone looks is missing to whoever else is there.
#[test]
fn what_only_podman_finds() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    if !Path::new(REFERENCE).is_dir() {
        lab::skip!("there is no directory where podman alone looks");
    }
    let path = |name: &str| Path::new(REFERENCE).join(name);
    lab.host.must(&["mount", "-t", "tmpfs", "tmpfs", REFERENCE]);
    fs::rename("/opt/cni/bin/linkspan", "/opt/cni/bin/off").unwrap();
    symlink(binary(), path("linkspan")).unwrap();
    let missing = [("plugin-missing", "fault")];
    finds(&missing);
    installed(&lab, "podman", "podman version 5.4.2");
    let text = finds(&[("plugin-missing", "warning")]);
    assert!(text.contains(&format!("only podman finds it, as {}", path("linkspan").display())), "{text}");
    installed(&lab, "containerd", "containerd github.com/containerd/containerd/v2 v2.0.0 207ad711");
    let text = finds(&missing);
    assert!(text.contains("only podman finds it") && text.contains("linkspan install --dir /opt/cni/bin"));
    // Another's plugin there is enough for podman, and for nobody else.
    fs::rename("/opt/cni/bin/off", "/opt/cni/bin/linkspan").unwrap();
    list("10-web.conflist", "web", json!([ours(), {"type": "tuning"}]));
    write(path("tuning"), "");
    lab.host.must(&["chmod", "755", path("tuning").to_str().unwrap()]);
    assert!(finds(&missing).contains("the plugin tuning"));
    fs::remove_file("/usr/local/sbin/containerd").unwrap();
    finds(&[]);
}

/// Debian 12's runtimes refuse what is answered in a version that their libcni does not know.
#[test]
fn a_version_that_a_runtime_cannot_read() {
    let Some(lab) = host() else { return };
    if !own_etc(&lab) {
        return;
    }
    finds(&[]);
    installed(
        &lab,
        "containerd",
        "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
    );
    let text = finds(&[("version-unreadable", "warning")]);
    assert!(
        text.contains("containerd 1.6.20~ds1") && text.contains("10-web.conflist has cniVersion 1.1.0"),
        "{text}"
    );
    installed(&lab, "podman", "podman version 4.3.1");
    finds(&[("version-unreadable", "warning"), ("version-unreadable", "warning")]);
    // containerd takes one network, podman any by its name.
    let first = json!({"cniVersion": "1.0.0", "name": "first", "plugins": [ours()]});
    write("/etc/cni/net.d/05-first.conflist", first.to_string());
    let text = includes("version-unreadable", "remark");
    assert!(text.contains("containerd 1.6.20~ds1, which takes network first, does not know"), "{text}");
    assert!(text.contains("network web, /etc/cni/net.d/10-web.conflist has cniVersion 1.1.0"), "{text}");
    assert!(includes("version-unreadable", "warning").contains("podman 4.3.1"));
    fs::remove_file("/etc/cni/net.d/05-first.conflist").unwrap();
    write("/etc/containers/containers.conf", "[network]\nnetwork_backend = \"netavark\"\n");
    finds(&[("version-unreadable", "warning")]);
    installed(&lab, "containerd", "containerd github.com/containerd/containerd/v2 v2.0.0 207ad711");
    finds(&[]);
    write("/etc/containers/containers.conf", "");
    // podman takes lists alone.
    fs::remove_file("/etc/cni/net.d/10-web.conflist").unwrap();
    write(
        "/etc/cni/net.d/10-web.conf",
        json!({"cniVersion": "1.1.0", "name": "web", "type": "linkspan"}).to_string(),
    );
    finds(&[]);
    fs::remove_file("/etc/cni/net.d/10-web.conf").unwrap();
    let both =
        json!({"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "web", "plugins": [ours()]});
    write("/etc/cni/net.d/10-web.conflist", both.to_string());
    finds(&[]);
    installed(&lab, "podman", "podman version 3.0.1");
    assert!(finds(&[("version-unreadable", "warning")]).contains("knows 0.4.0 and older"));
}
