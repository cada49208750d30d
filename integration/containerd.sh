#!/usr/bin/env bash
# containerd attaches containers in two ways: `ctr run --cni`, whose DEL comes
# without a namespace path, and the CRI, as a kubelet drives it: pods with
# published ports, one of them killed, and a restart of containerd in between.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

isolate "$@"
need containerd ctr runc
make_host
export CONTAINERD_ADDRESS=/run/containerd/containerd.sock
cri=$IT_BUILD/cri

start_containerd() {
    containerd --config "$work/containerd.toml" >>"$work/log/containerd" 2>&1 &
    containerd=$!
    eventually 15 ctr version >/dev/null 2>&1
}
configure() {
    conflist containerd-net >"$conf_dir/10-containerd-net.conflist"
    # The machine may not delegate cgroup controllers to us nor let us lower the
    # score of the out-of-memory killer: neither is a matter of networking.
    cat >"$work/containerd.toml" <<TOML
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "$CONTAINERD_ADDRESS"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  disable_cgroup = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$bin_dir"
    conf_dir = "$conf_dir"
TOML
}

make_rootfs() { # DIR TEXT
    mkdir -p "$1"/{bin,www,proc,sys,dev,etc,tmp}
    cp "$(type -P busybox)" "$1/bin/busybox"
    echo "$2" >"$1/www/index.html"
}
# An image by hand, for there is no registry: one layer, a config, a manifest. Its
# command is the pod's pause process; the container of the pod gives its own.
make_image() {
    local dir=$work/image arch digest
    arch=$(dpkg --print-architecture)
    make_rootfs "$work/layer" "hello from a pod"
    mkdir -p "$dir"
    tar -C "$work/layer" --owner 0 --group 0 -cf "$dir/layer.tar" .
    digest=$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)
    jq -n --arg arch "$arch" --arg id "sha256:$digest" '{architecture: $arch, os: "linux",
        config: {Entrypoint: ["/bin/busybox", "sleep", "600"]},
        rootfs: {type: "layers", diff_ids: [$id]}}' >"$dir/config.json"
    jq -n '[{Config: "config.json", RepoTags: ["localhost/busybox:1"], Layers: ["layer.tar"]}]' >"$dir/manifest.json"
    tar -C "$dir" -cf "$work/image.tar" manifest.json config.json layer.tar
}

# --- ctr ---------------------------------------------------------------------

# runc's own example configuration, less what cannot be set everywhere: limits,
# cgroups, and groups that a small user namespace does not have.
make_spec() {
    make_rootfs "$work/rootfs" "hello from ctr"
    (cd "$work" && rm -f config.json && runc spec)
    jq --arg rootfs "$work/rootfs" '.process.args = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
        | .process.terminal = false | .process.rlimits = [] | .root = {path: $rootfs, readonly: false}
        | .mounts |= map(select(.type != "cgroup") | .options |= ((. // []) | map(select(startswith("gid=") | not))))
        | del(.linux.resources)' "$work/config.json" >"$work/spec.json"
}
ctr_pid() { ctr task ls | awk -v id="$1" '$1 == id && $3 == "RUNNING" { print $2; found = 1 } END { exit !found }'; }
address_of() { nsenter --net="/proc/$1/ns/net" ip -o -4 addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }'; }

has_address() { address=$(address_of "$pid" 2>/dev/null) && [[ -n $address ]]; }

ctr_run() { # ID: sets $job, $pid and $address
    ctr run --rm --cni --config "$work/spec.json" "$1" >>"$work/log/ctr" 2>&1 &
    job=$!
    eventually 10 ctr_pid "$1" >/dev/null && pid=$(ctr_pid "$1") &&
        # The task runs before its network is attached.
        eventually 5 has_address
}
ctr_end() { # ID
    ctr task kill --signal KILL "$1" && { wait "$job" || true; } && ! ctr_pid "$1"
}

with_ctr() {
    make_spec
    if ! ctr_run warm-up; then
        fail "ctr run --cni" "$(tail -n 5 "$work/log/ctr")"
        return
    fi
    ctr_end warm-up
    baseline
    check "ctr run --cni" ctr_run one
    ip netns attach one "$pid" # a name, so that we can send packets from there
    check "HTTP: host to the container of ctr" answers host "http://$address/" "hello from ctr"
    check "HTTP: container of ctr to outside, as the host's address" \
        answers one "http://$outside_ip/cgi-bin/peer" "$host_ip"
    ip netns del one
    check "ctr: the container ends" ctr_end one
    expect "bridge leaves masquerade rules when DEL has no namespace path" \
        nothing_left "nothing is left of the container of ctr" default-one
}

# --- CRI ---------------------------------------------------------------------

pod_run() { # NAME PORT: sets $pod
    pod=$("$cri" run "$1" "$2:80" localhost/busybox:1 /bin/busybox httpd -f -p 80 -h /www)
}
pod_end() { "$cri" stop "$1" && "$cri" remove "$1"; }

restart_containerd() {
    kill "$containerd"
    wait "$containerd" || true
    start_containerd
}

# The CRI calls a pod by its name (CNI_ARGS, K8S_POD_NAME): pods of a network with names find each other by it.
pods_have_names() {
    local front back gateway
    conflist containerd-net | jq '.plugins[0].dns.enabled = true' >"$conf_dir/10-containerd-net.conflist"
    # containerd looks at its configuration when a file changes.
    sleep 0.5
    check "CRI: a pod with a name" pod_run front 8082 && front=$pod
    check "CRI: another pod with a name" pod_run back 8083 && back=$pod
    gateway=$("$cri" status "$front")
    gateway=${gateway%.*}.1
    check "names: a pod finds another by its name" pod_resolves back "$gateway" "$("$cri" status "$back")"
    check "CRI: the named pods end" pods_end "$front" "$back"
    check "the agent ends with the last named pod" eventually 10 agent_is_gone
}
pods_end() { pod_end "$1" && pod_end "$2"; }
agent_is_gone() { [[ ! -e /run/linkspan/agent.sock ]]; }
# The host may ask the gateway as its containers do.
pod_resolves() { busybox nslookup "$1" "$2" | grep -qw "Address: $3"; }

with_cri() {
    if [[ ! -x $cri ]]; then
        skip "containerd: the CRI client is not built (integration/run does it)"
        return
    fi
    make_image
    ctr -n k8s.io images import "$work/image.tar" >"$work/log/import" 2>&1
    if ! pod_run warm-up 18079 2>"$work/log/cri"; then
        if ((IT_USERNS)); then
            skip "CRI in a user namespace with one user: ...$(tail -c 200 "$work/log/cri")"
        else
            fail "CRI: RunPodSandbox" "$(cat "$work/log/cri")"
        fi
        return
    fi
    pod_end "$pod"
    baseline
    check "CRI: RunPodSandbox, CreateContainer, StartContainer" pod_run one 8080
    local one=$pod address two
    address=$("$cri" status "$one")
    check "CRI: PodSandboxStatus has the address" test -n "$address"
    check "HTTP: host to the pod" answers host "http://$address/" "hello from a pod"
    check "HTTP: outside to the pod's host port" answers outside "http://$host_ip:8080/" "hello from a pod"
    check "CRI: a second pod" pod_run two 8081
    two=$pod
    check "HTTP: outside to the second pod's host port" answers outside "http://$host_ip:8081/" "hello from a pod"

    check "CRI: containerd restarts" restart_containerd
    check "HTTP: outside to the pod after the restart" answers outside "http://$host_ip:8080/" "hello from a pod"
    check "CRI: StopPodSandbox" "$cri" stop "$one"
    check "CRI: StopPodSandbox again" "$cri" stop "$one"
    check "CRI: RemovePodSandbox" "$cri" remove "$one"
    check "the pod's host port is closed" silent outside "http://$host_ip:8080/"
    check "the second pod still answers" answers outside "http://$host_ip:8081/" "hello from a pod"

    # A pod whose namespace went with a crash: the CRI sends DEL nevertheless.
    umount /run/netns/cni-* && rm -f /run/netns/cni-*
    check "CRI: a pod without its namespace is stopped and removed" pod_end "$two"
    expect "bridge leaves masquerade rules when the namespace is gone" \
        nothing_left "nothing is left of the pods" "$address" 18079
    [[ $IT_FLAVOUR != linkspan ]] || pods_have_names
}

configure
if ! start_containerd; then
    if ((IT_USERNS)); then
        skip "containerd in a user namespace: $(tail -n 1 "$work/log/containerd" | cut -c1-300)"
    else
        fail "containerd starts" "$(tail -n 5 "$work/log/containerd")"
    fi
    exit 0
fi
with_ctr
with_cri
kill "$containerd"
