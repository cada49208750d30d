#!/usr/bin/env bash
# The configurations that others ship (tests/conflists), unchanged, driven by libcni: attach, real HTTP in and out,
# CHECK, detach, nothing left. With the reference plugins' names answered by linkspan, or by themselves.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[[ $IT_FLAVOUR != linkspan ]] || IT_FLAVOUR=names

isolate "$@"
make_host
client=$IT_BUILD/libcni
if [[ ! -x $client || ! -x $IT_BUILD/flannel ]]; then
    skip "conflists: the client is not built (integration/run does it)"
    exit 0
fi
cp "$IT_BUILD/flannel" "$bin_dir/"
# What flannel's daemon writes on a node.
mkdir -p /run/flannel
printf '%s\n' FLANNEL_NETWORK=10.244.0.0/16 FLANNEL_SUBNET=10.244.3.1/24 FLANNEL_MTU=1450 FLANNEL_IPMASQ=false \
    >/run/flannel/subnet.env

cni() { # LIST VERB CONTAINER [PORT...]
    "$client" -conf "$root/tests/conflists/$1.conflist" -bin "$bin_dir" "$2" "$3" "/run/netns/$3" "${@:4}"
}
has() { grep -q "\"type\": \"$2\"" "$root/tests/conflists/$1.conflist"; }
is_published() { grep -q portMappings "$root/tests/conflists/$1.conflist"; }
address_of() { ip -n "$1" -o -4 addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }'; }
gone() { ! ip -n "$1" link show eth0 >/dev/null 2>&1; }

one_list() { # LIST
    local list=$1 ports=()
    ! is_published "$list" || ports=(8080:80)
    # What the network keeps is no leftover.
    ip netns add warm-up
    check "$list: ADD of a first container" cni "$list" add warm-up "${ports[@]/8080/18079}"
    check "$list: its DEL" cni "$list" del warm-up "${ports[@]/8080/18079}"
    ip netns del warm-up
    baseline
    ip netns add "$list"
    serve "$list" "hello from $list"
    check "$list: ADD" cni "$list" add "$list" "${ports[@]}"
    local address
    address=$(address_of "$list")
    check "$list: HTTP from the host to the container" answers host "http://$address/" "hello from $list"
    # kind routes its containers' addresses and masquerades nothing.
    if [[ $list == kind ]]; then
        ip -n outside route add "$address" via "$host_ip"
        check "$list: HTTP from the container to outside" answers "$list" "http://$outside_ip/cgi-bin/peer" "$address"
        ip -n outside route del "$address"
    else
        check "$list: HTTP from the container to outside, as the host's address" \
            answers "$list" "http://$outside_ip/cgi-bin/peer" "$host_ip"
    fi
    if ((${#ports[@]})); then
        check "$list: HTTP from outside to the published port" answers outside "http://$host_ip:8080/" "hello from $list"
        check "$list: HTTP from the host to the port on 127.0.0.1" answers host http://127.0.0.1:8080/ "hello from $list"
    fi
    # CHECK came with 0.4.0; flannel's is empty, and the reference portmap looks for IPv6 rules that it never made.
    if ! grep -q '"0.3' "$root/tests/conflists/$list.conflist"; then
        expect "portmap looks for IPv6 rules that it never made" check "$list: CHECK" cni "$list" check "$list" "${ports[@]}"
    fi
    check "$list: DEL" cni "$list" del "$list" "${ports[@]}"
    check "$list: the interface is gone" gone "$list"
    ((${#ports[@]} == 0)) || check "$list: the published port is closed" silent outside "http://$host_ip:8080/"
    ip netns del "$list"
    nothing_left "$list: nothing is left" "$address" warm-up 18079
}

loopback() {
    ip netns add lo-only
    check "loopback: ADD" "$client" -conf "$root/tests/conflists/loopback.conflist" -bin "$bin_dir" -ifname lo \
        add lo-only /run/netns/lo-only
    check "loopback: lo answers" ip netns exec lo-only busybox ping -c 1 -W 2 127.0.0.1
    check "loopback: DEL" "$client" -conf "$root/tests/conflists/loopback.conflist" -bin "$bin_dir" -ifname lo \
        del lo-only /run/netns/lo-only
    ip netns del lo-only
}

for file in "$root"/tests/conflists/*.conflist; do
    list=$(basename "$file" .conflist)
    if [[ $list == loopback ]]; then
        loopback
    elif has "$list" bandwidth && ! ip link add probe type ifb 2>/dev/null; then
        skip "$list: bandwidth needs an ifb device, which this kernel does not have"
    else
        ip link del probe 2>/dev/null || true
        one_list "$list"
    fi
    # The next one may name a bridge of the same name with another subnet.
    for bridge in $(ip -o link show type bridge | awk -F': ' '{ print $2 }'); do ip link del "$bridge"; done
    rm -rf /var/lib/cni/networks /run/cni-ipam-state
done
