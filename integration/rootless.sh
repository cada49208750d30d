#!/usr/bin/env bash
# Rootless, as nerdctl and podman do it: the chain runs as root of a user namespace, in a network namespace whose
# uplink is slirp4netns, which has nothing but an ordinary process's sockets on the host. Ports are published inside.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The part that runs inside, with the host's files but its own /run and /var/lib.
inside() {
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=755 tmpfs /var/lib
    mkdir -p /run/netns /var/lib/cni
    ip link set lo up
    echo $$ >"$work/inside.pid"
    eventually 10 test -e "$work/slirp.ready" || { fail "rootless: slirp4netns gave no uplink"; return; }
    host_ip=10.0.2.100
    local list
    for list in nerdctl podman; do
        ip netns add warm-up
        check "rootless $list: ADD and DEL of a first container" first
        ip netns del warm-up
        baseline
        ip netns add one
        serve one "hello from one"
        check "rootless $list: ADD" cni add one /run/netns/one 8080:80
        check "rootless $list: HTTP to the published port, inside" answers host "http://$host_ip:8080/" "hello from one"
        check "rootless $list: HTTP to the port on 127.0.0.1, inside" answers host http://127.0.0.1:8080/ "hello from one"
        check "rootless $list: HTTP from the container out through slirp4netns, as the host's address" \
            answers one "http://$outside_ip/cgi-bin/peer" 192.0.2.1
        expect "portmap looks for IPv6 rules that it never made" \
            check "rootless $list: CHECK" cni check one /run/netns/one 8080:80
        check "rootless $list: DEL" cni del one /run/netns/one 8080:80
        check "rootless $list: the published port is closed" silent host "http://$host_ip:8080/"
        ip netns del one
        nothing_left "rootless $list: nothing is left" warm-up 18079
    done
}
cni() { "$client" -conf "$root/tests/conflists/$list.conflist" -bin "$bin_dir" "$@"; }
first() { cni add warm-up /run/netns/warm-up 18079:80 && cni del warm-up /run/netns/warm-up 18079:80; }

if [[ ${1:-} == inside ]]; then
    work=$IT_WORK client=$IT_BUILD/libcni
    inside
    exit 0
fi
[[ $IT_FLAVOUR != linkspan ]] || IT_FLAVOUR=names
isolate "$@"
need slirp4netns
if [[ ! -e /dev/net/tun ]]; then
    skip "rootless: slirp4netns needs /dev/net/tun"
    exit 0
fi
make_host
if [[ ! -x $IT_BUILD/libcni ]]; then
    skip "rootless: the client is not built (integration/run does it)"
    exit 0
fi
unshare --user --map-root-user --net --mount --propagation private -- "$0" inside &
within=$!
eventually 5 test -s "$work/inside.pid"
slirp4netns --configure --ready-fd 3 "$(<"$work/inside.pid")" tap0 3>"$work/slirp.fd" >"$work/log/slirp" 2>&1 &
if ! eventually 5 test -s "$work/slirp.fd"; then
    fail "rootless: slirp4netns" "$(<"$work/log/slirp")"
    kill "$within"
    exit 0
fi
: >"$work/slirp.ready"
wait "$within"
