#!/usr/bin/env bash
# linkspan together with the reference plugins: before theirs in one chain, with
# their IPAM under it, and
# beside a network of theirs on the same host.
# shellcheck source=integration/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

isolate "$@"
if [[ ! -x $REFERENCE/bridge ]]; then
    skip "mixed.sh: no reference plugins in $REFERENCE"
    exit 0
fi
make_host
client=$IT_BUILD/libcni
if [[ ! -x $client ]]; then
    skip "mixed.sh: the client is not built (integration/run does it)"
    exit 0
fi
# Whatever linkspan does not bring comes from the reference plugins.
mkdir -p /opt/cni/reference
cp "$REFERENCE"/* /opt/cni/reference/
path=$bin_dir:/opt/cni/reference

# --- configurations ----------------------------------------------------------

tuning='{"type":"tuning","sysctl":{"net.ipv4.conf.eth0.arp_announce":"2"}}'
bandwidth='{"type":"bandwidth","ingressRate":80000000,"ingressBurst":8000000,"egressRate":80000000,"egressBurst":8000000}'
firewall='{"type":"firewall"}'
portmap='{"type":"portmap","capabilities":{"portMappings":true}}'
host_local='{"type":"host-local","ranges":[[{"subnet":"10.91.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}'
bridge='{"type":"bridge","bridge":"ref0","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":'$host_local'}'
our_bridge=${bridge/ref0/it0}
our_bridge=${our_bridge/10.91/10.90}

# The plugin that makes the interface: publishing ports too, or leaving the choice
# of addresses to host-local, or neither.
main() { # [ports|ipam]
    case $IT_FLAVOUR:${1:-} in
    linkspan:ports) echo '{"type":"linkspan","capabilities":{"portMappings":true}}' ;;
    # Its bridge stays with its subnet, so that is another than theirs; the leases are where host-local keeps them.
    linkspan:ipam) echo '{"type":"linkspan","ipam":{"type":"host-local","dataDir":"/var/lib/cni/networks","subnet":"10.93.0.0/24"}}' ;;
    linkspan:) echo '{"type":"linkspan"}' ;;
    *:ports) echo "$our_bridge,$portmap" ;;
    *) echo "$our_bridge" ;;
    esac
}
list() { # NAME PLUGIN...: writes the list NAME
    local name=$1
    shift
    printf '{"cniVersion":"1.0.0","name":"%s","plugins":[%s]}' "$name" "$(IFS=,; echo "$*")" |
        jq . >"$work/$name.conflist"
}
cni() { # LIST VERB CONTAINER PORT: container in the namespace of its name, on eth0
    "$client" -conf "$work/$1.conflist" -bin "$path" "$2" "$3" "/run/netns/$3" "$4:80"
}
warm_up() { # LIST: makes what the network keeps, then takes the baseline
    ip netns add warm-up
    if ! cni "$1" add warm-up 18079 >"$work/log/add" 2>&1; then
        fail "ADD in the network $1" "$(<"$work/log/add")"
        ip netns del warm-up
        return 1
    fi
    cni "$1" del warm-up 18079
    ip netns del warm-up
    baseline
}
attach() { # LIST CONTAINER PORT
    ip netns add "$2"
    serve "$2" "hello from $2"
    check "$1: ADD" cni "$1" add "$2" "$3"
    check "$1: HTTP from outside to the published port" answers outside "http://$host_ip:$3/" "hello from $2"
    check "$1: HTTP from the container to outside, as the host's address" \
        answers "$2" "http://$outside_ip/cgi-bin/peer" "$host_ip"
}
detach() { # LIST CONTAINER PORT
    check "$1: DEL" cni "$1" del "$2" "$3"
    check "$1: the published port is closed" silent outside "http://$host_ip:$3/"
    ip netns del "$2"
}

# --- the cases ---------------------------------------------------------------

chain_of_all() {
    local all=(main-tuning-firewall "$(main ports)" "$tuning" "$firewall")
    if ip link add probe type ifb 2>/dev/null; then
        ip link del probe
        all+=("$bandwidth")
    else
        skip "mixed: bandwidth needs an ifb device, which this kernel does not have"
    fi
    list "${all[@]}"
    warm_up main-tuning-firewall || return 0
    attach main-tuning-firewall one 8080
    check "tuning took effect" grep -qx 2 <(ip netns exec one cat /proc/sys/net/ipv4/conf/eth0/arp_announce)
    if ((${#all[@]} > 4)); then check "bandwidth took effect" grep -q tbf <(tc qdisc show); fi
    # What the firewall plugin is for: a host that forwards nothing by itself.
    iptables -P FORWARD DROP
    check "with FORWARD policy DROP: HTTP from the container to outside" \
        answers one "http://$outside_ip/cgi-bin/peer" "$host_ip"
    iptables -P FORWARD ACCEPT
    expect "portmap looks for IPv6 rules that it never made" \
        check "main-tuning-firewall: CHECK" cni main-tuning-firewall check one 8080
    detach main-tuning-firewall one 8080
    nothing_left "main-tuning-firewall: nothing is left" 18079
}

reference_portmap() {
    list main-portmap "$(main)" "$portmap"
    warm_up main-portmap || return 0
    attach main-portmap one 8080
    detach main-portmap one 8080
    nothing_left "main-portmap: nothing is left" 18079
}

reference_ipam() {
    list main-host-local "$(main ipam)" "$portmap"
    warm_up main-host-local || return 0
    attach main-host-local one 8080
    if [[ $IT_FLAVOUR == linkspan ]]; then
        check "the lease is where host-local keeps its own" test -n "$(ls /var/lib/cni/networks/main-host-local/10.93.0.*)"
    fi
    detach main-host-local one 8080
    nothing_left "main-host-local: nothing is left" 18079
}

# Two networks at once, each with a container; one goes, the other stays.
side_by_side() {
    list ours "$(main ports)"
    list theirs "$bridge" "$portmap"
    warm_up ours && warm_up theirs || return 0
    attach ours one 8080
    attach theirs two 8081
    detach ours one 8080
    check "theirs: still answers" answers outside "http://$host_ip:8081/" "hello from two"
    attach ours one 8080
    detach theirs two 8081
    check "ours: still answers" answers outside "http://$host_ip:8080/" "hello from one"
    check "ours: still reaches outside" answers one "http://$outside_ip/cgi-bin/peer" "$host_ip"
    detach ours one 8080
    nothing_left "side by side: nothing is left" 18079
}

chain_of_all
reference_portmap
reference_ipam
side_by_side
