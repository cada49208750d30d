//! `linkspan install`, `uninstall` and `names`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::fitness::{bare, own_etc, write};
use lab::plugin::{REFERENCE, binary, v4};
use lab::{Lab, Plugin, inspect};
use serde_json::json;

/// Runs the binary as a person does; gives its exit code and what it said.
fn run(program: &Path, args: &[&str]) -> (i32, String, String) {
    let out =
        Command::new(program).args(args).env_remove("CNI_COMMAND").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn install(directory: &Path, more: &[&str]) -> (i32, String, String) {
    let mut args = vec!["install", "--dir", directory.to_str().unwrap()];
    args.extend(more);
    run(&binary(), &args)
}

/// A directory as Debian's plugins come: some as files, one as a link.
fn theirs(root: &Path) -> PathBuf {
    let directory = root.join("bin");
    fs::create_dir(&directory).unwrap();
    for name in ["bridge", "host-local", "dhcp"] {
        fs::copy(Path::new(REFERENCE).join(name), directory.join(name)).unwrap();
    }
    symlink(Path::new(REFERENCE).join("portmap"), directory.join("portmap")).unwrap();
    directory
}

/// Every entry with its link's target or its size.
fn listing(directory: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let what = fs::read_link(&path)
                .map_or_else(|_| path.metadata().unwrap().size().to_string(), |t| t.display().to_string());
            format!("{} {what}", path.file_name().unwrap().to_str().unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn another_program_is_refused_kept_aside_and_brought_back() {
    let root = tempfile::tempdir().unwrap();
    let directory = theirs(root.path());
    let before = listing(&directory);

    let (code, out, err) = install(&directory, &["--all"]);
    assert_eq!((code, out.as_str()), (1, ""));
    for word in ["nothing was changed", "bin/bridge", "bin/host-local", "bin/portmap", "--backup"] {
        assert!(err.contains(word), "{err}");
    }
    assert!(!err.contains("dhcp"));
    assert_eq!(listing(&directory), before);

    let (code, out, err) = install(&directory, &["--all", "--backup"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "installed ",
        "bridge: a link to linkspan; what was there is bridge.linkspan-backup",
        "macvlan: a link to linkspan",
        "left to the reference plugins: dhcp, dummy, host-device, ipvlan, vlan, vrf",
    ] {
        assert!(out.lines().any(|found| found.starts_with(line)), "{line}: {out}");
    }
    assert_eq!(fs::read_link(directory.join("bridge")).unwrap(), Path::new("linkspan"));
    assert_eq!(fs::metadata(directory.join("linkspan")).unwrap().mode() & 0o777, 0o755);
    assert!(listing(&directory).iter().all(|entry| !entry.starts_with('.')), "nothing half-made stays");

    let (_, out, _) = run(&binary(), &["names", "--dir", directory.to_str().unwrap()]);
    let line = |name: &str| out.lines().find(|line| line.trim().starts_with(name)).unwrap().to_owned();
    assert!(line("bridge").ends_with("linkspan (another program is kept aside)"), "{out}");
    assert!(line("macvlan").ends_with("linkspan") && line("dhcp").contains("leaves it to"), "{out}");

    // Again: nothing to do, and what was kept aside is not overwritten by ours.
    let installed = listing(&directory);
    let (code, out, _) = install(&directory, &["--all", "--backup"]);
    assert_eq!(code, 0);
    assert!(out.contains("bridge: a link to linkspan already"), "{out}");
    assert_eq!(listing(&directory), installed);

    let (code, out, _) = run(&binary(), &["uninstall", "--dir", directory.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(
        out.contains("bridge: what was there before is back") && out.contains("macvlan: removed"),
        "{out}"
    );
    assert_eq!(listing(&directory), before);
}

#[test]
fn only_what_is_named_is_taken_and_a_stranger_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let directory = theirs(root.path());
    let (code, out, _) = install(&directory, &[]);
    assert_eq!(code, 0);
    assert!(out.contains("not taken: bridge, host-local"), "{out}");
    let (code, _, _) = install(&directory, &["--names", "loopback,tuning"]);
    assert_eq!(code, 0);
    let (code, out, _) = install(&directory, &["--names", "portmap", "--force"]);
    assert_eq!(code, 0);
    assert!(out.contains("portmap: a link to linkspan; what was there is gone"), "{out}");
    let links: Vec<String> =
        listing(&directory).into_iter().filter(|entry| entry.ends_with(" linkspan")).collect();
    assert_eq!(links, ["loopback linkspan", "portmap linkspan", "tuning linkspan"]);
    // Somebody else takes a name of ours back: it is theirs then.
    fs::remove_file(directory.join("tuning")).unwrap();
    fs::copy(Path::new(REFERENCE).join("tuning"), directory.join("tuning")).unwrap();
    let (code, out, _) = run(&binary(), &["uninstall", "--dir", directory.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(!out.contains("tuning"), "{out}");
    let names: Vec<String> =
        listing(&directory).iter().map(|e| e.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["bridge", "dhcp", "host-local", "tuning"]);
    // A program that is called linkspan and is none.
    fs::write(directory.join("linkspan"), "#!/bin/sh\n").unwrap();
    assert!(install(&directory, &[]).2.contains("bin/linkspan"));
    let (_, out, _) = run(&binary(), &["uninstall", "--dir", directory.to_str().unwrap()]);
    assert!(out.contains("another program: left alone"), "{out}");
    assert_eq!(install(&directory, &["--backup"]).0, 0);
    assert!(directory.join("linkspan.linkspan-backup").exists());
}

#[test]
fn a_running_plugin_is_replaced_under_its_feet() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("new/bin");
    assert_eq!(install(&directory, &["--all"]).0, 0);
    let mut child = Command::new(directory.join("bridge"))
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let first = fs::metadata(directory.join("linkspan")).unwrap().ino();
    let (code, out, err) = install(&directory, &["--all"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("replaced "), "{out}");
    assert_ne!(fs::metadata(directory.join("bridge")).unwrap().ino(), first, "every name is the new binary");
    drop(child.stdin.take());
    assert!(child.wait_with_output().unwrap().status.success());
    // From the directory itself there is nothing to copy.
    let (code, out, _) =
        run(&directory.join("linkspan"), &["install", "--all", "--dir", directory.to_str().unwrap()]);
    assert!(code == 0 && out.contains("is this binary"), "{out}");
}

#[test]
fn containers_live_through_install_and_uninstall() {
    let Some(lab) = Lab::new() else { return };
    let directory = theirs(lab.work.path());
    let path = directory.to_str().unwrap().to_owned();
    let bridge = |lab: &Lab| -> Plugin {
        let conf = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": v4(1)});
        lab.plugin(conf).of(directory.join("bridge")).env("CNI_PATH", &path)
    };
    let (a, b) = (lab.container("a"), lab.container("b"));
    let first = bridge(&lab).on(&a).add().ok();
    assert_eq!(install(&directory, &["--all", "--backup"]).0, 0);
    // Attached by theirs, detached by ours, which is what the name stands for now.
    bridge(&lab).on(&a).prev(&first).del().ok();
    assert!(inspect::link(&a, "eth0").is_none());
    let second = bridge(&lab).on(&b).add().ok();
    // Also where it cannot be told which configurations call what is gone.
    let (code, out) = uninstall(&directory, &[("NETCONFPATH", Path::new("/etc/passwd"))]);
    assert_eq!(code, 1);
    assert!(out.contains("network web still has 1 attachment, which is linkspan's to detach"), "{out}");
    // Its rules stay: a restart alone would leave the port leading to where the container was.
    let (del, table) = ("'linkspan del CONTAINER' for each", "'nft delete table inet linkspan'");
    assert!(out.contains(del) && out.contains(table) && out.contains("only then start"), "{out}");
    bridge(&lab).on(&b).prev(&second).del().ok();
    assert!(inspect::link(&b, "eth0").is_none());
}

/// Whoever takes the programs away hears which configurations call them, and no command is left that leads nowhere.
#[test]
fn uninstall_names_what_calls_it_and_takes_its_links() {
    let Some(_lab) = bare() else { return };
    let root = tempfile::tempdir().unwrap();
    let directory = theirs(root.path());
    assert_eq!(install(&directory, &["--all", "--backup"]).0, 0);
    let (networks, commands) = (root.path().join("net.d"), root.path().join("commands"));
    for made in [&networks, &commands] {
        fs::create_dir(made).unwrap();
    }
    let list = |file: &str, plugins: serde_json::Value| {
        let list = json!({"cniVersion": "1.0.0", "name": file, "plugins": plugins});
        fs::write(networks.join(format!("{file}.conflist")), list.to_string()).unwrap();
    };
    list("own", json!([{"type": "linkspan", "ipam": {"type": "static"}}]));
    list("named", json!([{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "dnsname"}]));
    list("fixed", json!([{"type": "vlan", "ipam": {"type": "static"}}]));
    list("theirs", json!([{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}]));
    symlink(directory.join("linkspan"), commands.join("linkspan")).unwrap();
    let uninstall = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["uninstall", "--dir", directory.to_str().unwrap()]).args(more);
        command.env("NETCONFPATH", &networks).env("PATH", format!("{}:/usr/bin", commands.display()));
        let out = command.env_remove("CNI_COMMAND").stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let dry = uninstall(&["--dry-run"]);
    assert!(fs::symlink_metadata(commands.join("linkspan")).is_ok());
    let out = uninstall(&[]);
    assert!(dry.contains(&out), "the same words:\n{dry}\n{out}");
    let path = |file: &str| networks.join(format!("{file}.conflist")).display().to_string();
    for (file, names) in [("own", "linkspan"), ("named", "dnsname"), ("fixed", "static")] {
        assert!(out.contains(&format!("{} calls {names}:", path(file))), "{file}: {out}");
    }
    assert!(!out.contains(&path("theirs")), "their own are back: {out}");
    assert!(out.contains(&format!("removed {}", commands.join("linkspan").display())), "{out}");
    assert!(fs::symlink_metadata(commands.join("linkspan")).is_err());
    // One that leads elsewhere is another's.
    symlink("/nowhere/linkspan", commands.join("linkspan")).unwrap();
    assert!(!uninstall(&[]).contains("commands"));
    assert!(fs::symlink_metadata(commands.join("linkspan")).is_ok());
}

fn uninstall(directory: &Path, env: &[(&str, &Path)]) -> (i32, String) {
    let mut command = Command::new(binary());
    command.args(["uninstall", "--dir", directory.to_str().unwrap()]).envs(env.iter().copied());
    let out = command.env_remove("CNI_COMMAND").stdin(Stdio::null()).output().unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
}

/// What another directory of plugins still has is not gone.
#[test]
fn uninstall_of_one_directory_knows_the_others() {
    let Some(lab) = bare() else { return };
    let root = tempfile::tempdir().unwrap();
    let [one, two, never, networks] = ["one", "two", "never", "net.d"].map(|name| root.path().join(name));
    for made in [&never, &networks] {
        fs::create_dir(made).unwrap();
    }
    let list =
        json!({"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "linkspan"}, {"type": "tuning"}]});
    fs::write(networks.join("web.conflist"), list.to_string()).unwrap();
    let leave = |directory: &Path, searched: &Path| {
        let (code, out) = uninstall(directory, &[("NETCONFPATH", &networks), ("CNI_PATH", searched)]);
        assert_eq!(code, 0, "{out}");
        out
    };
    assert_eq!(install(&one, &["--names", "tuning"]).0, 0);
    assert_eq!(install(&two, &[]).0, 0);
    let out = leave(&one, &two);
    assert!(out.contains(&format!("calls linkspan, still in {}:", two.display())), "{out}");
    assert!(out.contains("calls tuning: move it away"), "{out}");
    let out = leave(&never, &two);
    assert!(out.contains("still in ") && !out.contains("move it away"), "{out}");
    // The directory itself is none of the others, by whichever path.
    let other_path = two.join("../two");
    assert!(leave(&two, &other_path).contains("calls linkspan: move it away"));
    // A runtime of the host may have its own.
    if own_etc(&lab) {
        assert_eq!((install(&one, &[]).0, install(&two, &[]).0), (0, 0));
        let cri = format!("[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{}\"\n", two.display());
        write("/etc/containerd/config.toml", cri);
        assert!(leave(&one, &one).contains("still in "));
    }
}

/// A link for shells that leads to another's program, or to one that was just brought back, leads to what is wanted.
#[test]
fn uninstall_leaves_links_to_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let [theirs, back, commands] = ["theirs", "back", "commands"].map(|name| root.path().join(name));
    for directory in [&theirs, &back, &commands] {
        fs::create_dir(directory).unwrap();
    }
    let env = [("NETCONFPATH", theirs.as_path()), ("PATH", commands.as_path())];
    for directory in [&theirs, &back] {
        fs::write(directory.join("linkspan"), "#!/bin/sh\necho wrapped\n").unwrap();
        symlink(directory.join("linkspan"), commands.join("linkspan")).unwrap();
        if directory == &back {
            assert_eq!(install(&back, &["--backup"]).0, 0);
        }
        let (code, out) = uninstall(directory, &env);
        assert!(code == 0 && !out.contains("commands"), "{out}");
        assert!(commands.join("linkspan").exists(), "{out}");
        fs::remove_file(commands.join("linkspan")).unwrap();
    }
}

/// `make install`, with a build that is there already.
#[test]
fn make_install_puts_a_link_where_shells_look() {
    let root = tempfile::tempdir().unwrap();
    let (tree, target) = (root.path().join("tree"), root.path().join("host"));
    for made in ["scripts", "target"] {
        fs::create_dir_all(tree.join(made)).unwrap();
    }
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile"), tree.join("Makefile")).unwrap();
    symlink("/bin/true", tree.join("scripts/build")).unwrap();
    lab::programs::copy(binary(), tree.join("target/linkspan"));
    let make = |more: &[&str]| {
        let mut command = Command::new("make");
        command.arg("-C").arg(&tree).arg("install").arg(format!("DESTDIR={}", target.display())).args(more);
        command.env_remove("CNI_COMMAND").env_remove("MAKEFLAGS").stdin(Stdio::null()).output()
    };
    let Ok(out) = make(&[]) else { lab::skip!("make is not here") };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(
        fs::read_link(target.join("usr/local/bin/linkspan")).unwrap(),
        Path::new("/opt/cni/bin/linkspan")
    );
    // Again, and where the plugins are where commands are, too: never a link to itself.
    let out = make(&["CNI_BIN=/usr/local/bin"]).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(fs::symlink_metadata(target.join("usr/local/bin/linkspan")).unwrap().is_file());
}

#[test]
fn status_without_a_network_shows_the_names_too() {
    let (code, out, err) = run(&binary(), &["status"]);
    if Path::new("/opt/cni/bin").is_dir() || code == 0 {
        assert!(code == 0 && out.contains("/opt/cni/bin:\n"), "{out}{err}");
    }
    assert_eq!(run(&binary(), &["install", "--names", "vlan"]).0, 2);
}

/// `linkspan install --all | head -1`: the reader goes, the work is done.
#[test]
fn who_stops_reading_does_not_stop_the_work() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().to_str().unwrap();
    let mut child = Command::new(binary())
        .args(["install", "--dir", directory, "--all"])
        .env_remove("CNI_COMMAND")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert!(root.path().join("sbr").exists() && root.path().join("dnsname").exists());
}
