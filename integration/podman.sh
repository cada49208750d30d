#!/usr/bin/env bash
# podman 4 with its CNI backend: a container with a published port through run,
# restart, network reload, stop, start and rm. Podman's conmon itself listens on
# the published host port while the container lives, so the plugin must tell that
# listener, which is there to hold the port for it, from a foreign one.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

isolate "$@"
need podman conmon runc
if [[ ! $(podman --version) =~ \ version\ [34]\. ]]; then
    skip "podman.sh: $(podman --version) has no CNI backend"
    exit 0
fi
make_host

configure() {
    # crun wants a capability that a machine may lack (it raises limits); events
    # and logs go to files because there is no journal; no cgroup is delegated.
    cat >"$work/containers.conf" <<CONF
[containers]
pids_limit = 0
log_driver = "k8s-file"
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "/run/libpod"
[network]
network_backend = "cni"
network_config_dir = "$conf_dir"
cni_plugin_dirs = ["$bin_dir"]
CONF
    cat >"$work/storage.conf" <<CONF
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
CONF
    export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
    if [[ $IT_FLAVOUR == linkspan ]]; then
        conflist podman-net >"$conf_dir/10-podman-net.conflist"
    else
        # Podman's own list: bridge, portmap, firewall and tuning.
        podman network create --subnet 10.90.0.0/24 podman-net
    fi
    mkdir -p "$work"/rootfs/{bin,www,proc,sys,dev,etc,run,tmp}
    cp "$(type -P busybox)" "$work/rootfs/bin/busybox"
    echo "hello from podman" >"$work/rootfs/www/index.html"
}

run() { # NAME PORT [OPTION...]
    podman run -d --name "$1" --network podman-net -p "$2:80" "${@:3}" --rootfs "$work/rootfs" \
        /bin/busybox httpd -f -p 80 -h /www
}
remove() { podman rm --force --time 0 "$1"; }
conmon_listens() { ss -Hltnp "sport = :$1" | grep -q conmon; }
no_listener() { [[ -z $(ss -Hltn "sport = :$1") ]]; }
address_of() { podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }
reachable() { # WHEN
    check "HTTP: host to podman's published port $1" answers host "http://$host_ip:8080/" "hello from podman"
    check "HTTP: outside to podman's published port $1" answers outside "http://$host_ip:8080/" "hello from podman"
}

configure >/dev/null
if ! run warm-up 18079 >"$work/log/podman" 2>&1; then
    if ((IT_USERNS)); then
        skip "podman in a user namespace with one user: $(tail -c 300 "$work/log/podman" | tr '\n' ' ')"
    else
        fail "podman run" "$(cat "$work/log/podman")"
    fi
    exit 0
fi
remove warm-up >/dev/null
baseline

check "podman run -p 8080:80" run one 8080
address=$(address_of one)
check "podman knows the address" test -n "$address"
check "conmon holds the host port" conmon_listens 8080
check "HTTP: host to podman's container" answers host "http://$address/" "hello from podman"
reachable "after run"
check "HTTP: host to podman's published port on 127.0.0.1" answers host http://127.0.0.1:8080/ "hello from podman"
ip netns attach one "$(podman inspect --format '{{.State.Pid}}' one)"
check "HTTP: podman's container to outside, as the host's address" \
    answers one "http://$outside_ip/cgi-bin/peer" "$host_ip"
ip netns del one

check "podman restart" podman restart --time 0 one
reachable "after restart"
# DEL and ADD while conmon lives on and listens.
check "podman network reload" podman network reload one
reachable "after network reload"
address=$(address_of one)

check "podman run of a second container" run two 8081
check "HTTP: outside to the second" answers outside "http://$host_ip:8081/" "hello from podman"
remove two >/dev/null
chosen=${address%.*}.77
check "podman run --ip" run two 8081 --ip "$chosen"
check "HTTP: host to the chosen address" answers host "http://$chosen/" "hello from podman"
check "HTTP: outside to its published port" answers outside "http://$host_ip:8081/" "hello from podman"
refuse "podman run with a host port that is taken" "8080|in use" run three 8080
podman rm --force --time 0 --ignore three >/dev/null 2>&1
reachable "after the refused run"

check "podman stop" podman stop --time 0 one
check "podman's published port is closed" silent outside "http://$host_ip:8080/"
check "podman start" podman start one
reachable "after start"
# A container that dies by itself: conmon has podman clean up after it.
check "podman kill" podman kill two
check "podman rm" podman rm --force --time 0 two
check "podman rm --force" remove one
check "no listener is left" no_listener 8080
nothing_left "nothing is left of podman's containers" "$address" "$chosen" 18079

# --- names -------------------------------------------------------------------

# By the key of our own plugin, and by the plugin that podman chains for it.
if [[ $IT_FLAVOUR == reference ]]; then exit 0; fi
named_conflist() {
    if [[ $IT_FLAVOUR == linkspan ]]; then
        chain='{"type":"linkspan","dns":{"enabled":true},"capabilities":{"portMappings":true,"ips":true,"aliases":true}}'
    else
        ln -sf linkspan "$bin_dir/dnsname"
        chain=$(printf '%s' '{"type":"bridge","bridge":"it1","isGateway":true,"ipMasq":true,' \
            '"ipam":{"type":"host-local","ranges":[[{"subnet":"10.91.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},' \
            '{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"},' \
            '{"type":"dnsname","domainName":"dns.podman","capabilities":{"aliases":true}}')
    fi
    printf '{"cniVersion":"1.0.0","name":"%s","plugins":[%s]}\n' "$1" "$chain" | jq .
}
named() { # NAME [OPTION...]
    podman run -d --name "$1" --network named-net "${@:2}" --rootfs "$work/rootfs" /bin/busybox sleep 600
}
resolves() { # FROM NAME ADDRESS: as the container's own resolver sees it
    podman exec "$1" /bin/busybox nslookup "$2" | grep -qw "Address: $3"
}
unknown() { ! podman exec "$1" /bin/busybox nslookup "$2"; }

named_conflist named-net >"$conf_dir/20-named-net.conflist"
check "podman run with a name" named front
check "podman run with an alias" named back --network-alias api
front=$(address_of front) back=$(address_of back)
check "names: front finds back" resolves front back "$back"
check "names: back finds front" resolves back front "$front"
check "names: back has an alias" resolves front api "$back"
check "names: with the network as zone" resolves front back.named-net "$back"
id=$(podman inspect --format '{{.Id}}' back)
check "names: the short ID" resolves front "${id:0:12}" "$back"
check "podman stop of back" podman stop --time 0 back
check "names: back is gone" unknown front back
check "podman start of back" podman start back
check "names: back is found again" resolves front back "$(address_of back)"
remove front >/dev/null
remove back >/dev/null
agent_is_gone() { [[ ! -e /run/linkspan/agent.sock ]]; }
check "the agent ends with the last named container" eventually 10 agent_is_gone
