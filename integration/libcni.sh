#!/usr/bin/env bash
# libcni, the library under containerd, CRI-O, podman and nerdctl, drives the
# plugin: one container with a published port through ADD, CHECK and DEL, then
# the ways a runtime calls DEL in bad weather, then 64 attachments at once.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
: "${IT_STORM:=64}"

isolate "$@"
make_host
client=$IT_BUILD/libcni
if [[ ! -x $client ]]; then
    skip "libcni: the client is not built (integration/run does it)"
    exit 0
fi
conflist libcni-net >"$work/net.conflist"
cni() { "$client" -conf "$work/net.conflist" -bin "$bin_dir" "$@"; }

attach_and_detach() {
    ip netns add warm-up
    cni add warm-up /run/netns/warm-up 18079:80 >/dev/null
    cni del warm-up /run/netns/warm-up 18079:80
    ip netns del warm-up
}

one_container() {
    ip netns add one
    serve one "hello from one"
    check "ADD by libcni" cni add one /run/netns/one 8080:80
    local address
    address=$(ip -n one -o -4 addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }')
    expect "portmap looks for IPv6 rules that it never made" \
        check "CHECK passes" cni check one /run/netns/one 8080:80
    check "HTTP: host to the container's address" answers host "http://$address/" "hello from one"
    check "HTTP: host to the published port" answers host "http://$host_ip:8080/" "hello from one"
    check "HTTP: host to the published port on 127.0.0.1" answers host http://127.0.0.1:8080/ "hello from one"
    check "HTTP: outside to the published port" answers outside "http://$host_ip:8080/" "hello from one"
    check "HTTP: container to its own published port" answers one "http://$host_ip:8080/" "hello from one"
    check "HTTP: container to outside, as the host's address" \
        answers one "http://$outside_ip/cgi-bin/peer" "$host_ip"

    refuse "ADD of the same attachment is refused" "." cni add one /run/netns/one 8080:80
    check "the refused ADD did no harm" answers outside "http://$host_ip:8080/" "hello from one"
    if [[ $IT_FLAVOUR == reference ]]; then
        skip "libcni: reference portmap gives one host port to two containers"
    else
        ip netns add two
        refuse "ADD with a published port that is taken is refused" "8080" cni add two /run/netns/two 8080:80
        check "the port's owner still answers" answers outside "http://$host_ip:8080/" "hello from one"
        cni del two /run/netns/two 8080:80
        ip netns del two
    fi

    ip -n one route del default
    refuse "CHECK sees that the default route is gone" "route" cni check one /run/netns/one 8080:80
    check "DEL" cni del one /run/netns/one 8080:80
    check "DEL again" cni del one /run/netns/one 8080:80
    check "the published port is closed" silent outside "http://$host_ip:8080/"
    ip netns del one
    nothing_left "nothing is left of the container" "$address" warm-up 18079
}

# A runtime that lost the container calls DEL without a namespace, or with the
# path of one that is gone; a restarted one calls it without its result cache.
bad_weather() {
    ip netns add gone
    cni add gone /run/netns/gone 8080:80 >/dev/null
    ip netns del gone
    check "DEL after the namespace went" cni del gone /run/netns/gone 8080:80
    expect "bridge leaves masquerade rules when the namespace is gone" \
        nothing_left "nothing is left of it"
    baseline
    ip netns add gone
    cni add gone /run/netns/gone 8080:80 >/dev/null
    rm -rf /var/lib/cni/results
    check "DEL without namespace path and without result cache" cni del gone "" 8080:80
    ip netns del gone
    expect "bridge leaves masquerade rules without a namespace path" \
        nothing_left "nothing is left of it either"
    baseline
}

storm() {
    local i
    for ((i = 0; i < IT_STORM; i++)); do ip netns add "storm-$i"; done
    serve storm-0 "hello from the first"
    serve "storm-$((IT_STORM - 1))" "hello from the last"
    check "$IT_STORM ADDs at once, every address different" cni many-add "$IT_STORM" 20000
    check "the first answers on its published port" answers outside "http://$host_ip:20000/" "hello from the first"
    check "the last answers on its published port" \
        answers outside "http://$host_ip:$((20000 + IT_STORM - 1))/" "hello from the last"
    check "$IT_STORM DELs at once" cni many-del "$IT_STORM" 20000
    for ((i = 0; i < IT_STORM; i++)); do ip netns del "storm-$i"; done
    nothing_left "nothing is left of the $IT_STORM"
}

attach_and_detach
baseline
one_container
bad_weather
storm
