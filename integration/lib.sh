# shellcheck shell=bash
# Shared by the drivers. A driver sources this file and calls `isolate "$@"` (see
# namespaces.sh), which runs the driver again inside namespaces of its own; then
# `make_host`, which makes of them a small host with an uplink and a neighbour
# `outside`. After that: checks, packets, and what an attachment leaves behind.
#
# IT_FLAVOUR  linkspan   one plugin of type linkspan (default)
#             names      the reference chain, its names answered by linkspan
#             reference  the reference plugins themselves
# IT_USERNS   1: the namespaces belong to a new user namespace, as in rootless use
# IT_LIMIT    seconds that a driver may take
# LINKSPAN    the release binary

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
: "${IT_FLAVOUR:=linkspan}" "${IT_USERNS:=0}" "${IT_LIMIT:=60}"
: "${LINKSPAN:=$root/target/linkspan}" "${IT_BUILD:=$root/target/integration}"
: "${REFERENCE:=/usr/lib/cni}"
export IT_FLAVOUR IT_USERNS IT_LIMIT LINKSPAN IT_BUILD REFERENCE
export PATH=$PATH:/usr/sbin:/sbin

host_ip=192.0.2.1 outside_ip=192.0.2.2
# Read by the drivers.
# shellcheck disable=SC2034
conf_dir=/etc/cni/net.d bin_dir=/opt/cni/bin

# --- results: one line each, counted by `run` --------------------------------

ok() { echo "ok $*"; }
skip() { echo "skipped: $*"; }
fail() { # NAME [OUTPUT]
    echo "fail $1"
    if [[ -n ${2:-} ]]; then tail -n 12 <<<"$2" | cut -c1-600 | sed 's/^/    /'; fi
}
# The commands of these two may be functions. They run in this shell, so that they
# can set variables, but with errexit off: chain with &&.
check() { # NAME COMMAND...: ok when the command succeeds
    local name=$1
    shift
    if "$@" >"$work/log/check" 2>&1; then ok "$name"; else fail "$name" "$(<"$work/log/check")"; fi
}
refuse() { # NAME PATTERN COMMAND...: ok when it fails and says PATTERN
    local name=$1 pattern=$2
    shift 2
    if "$@" >"$work/log/check" 2>&1; then
        fail "$name" "succeeded: $(<"$work/log/check")"
    elif grep -Eiq -- "$pattern" "$work/log/check"; then
        ok "$name"
    else
        fail "$name" "failed, but not with /$pattern/: $(<"$work/log/check")"
    fi
}
eventually() { # SECONDS COMMAND...: every 0.1 s until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}
expect() { # WHY CHECK NAME...: a check that the reference plugins are known to fail
    if [[ $IT_FLAVOUR == reference ]]; then skip "$3: reference $1"; else "${@:2}"; fi
}
need() { # skips the rest of the driver when a command is missing
    local command
    for command; do
        if ! type -P "$command" >/dev/null; then
            skip "$(basename "$0" .sh): $command is not installed"
            exit 0
        fi
    done
}

# shellcheck source=integration/namespaces.sh
source "$here/namespaces.sh"

# --- the host ----------------------------------------------------------------

make_host() {
    # /run, /opt and /var/lib vanish under empty ones; /etc stays readable with
    # our changes in memory, for runtimes that read fixed paths there.
    local dir
    for dir in "$work" /run /opt /var/lib; do
        [[ $dir == "$work" ]] || mount -t tmpfs -o mode=755 tmpfs "$dir"
    done
    mkdir -p "$work"/{etc,etc.work,log,www/cgi-bin} /run/netns /run/lock
    mount -t overlay -o "lowerdir=/etc,upperdir=$work/etc,workdir=$work/etc.work" overlay /etc
    mkdir -p /etc/cni
    mount -t tmpfs -o mode=755 tmpfs /etc/cni # without the machine's own networks
    mkdir -p /etc/cni/net.d /opt/cni/bin /var/lib/cni /var/lib/containers /var/lib/containerd
    # A sysfs of the new network namespace, and a cgroup tree that starts at ours.
    mount -t sysfs -o ro sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # Runtimes leave their files in places that the variables point to.
    export HOME=$work/home TMPDIR=$work/tmp XDG_RUNTIME_DIR=/run
    mkdir -p "$HOME" "$TMPDIR"
    install_plugins

    ip link set lo up
    ip netns add outside
    ip link add uplink type veth peer name uplink netns outside
    ip addr add "$host_ip/24" dev uplink
    ip link set uplink up
    ip route add default via "$outside_ip"
    ip -n outside link set lo up
    ip -n outside addr add "$outside_ip/24" dev uplink
    ip -n outside link set uplink up
    # The neighbour answers with the address it was asked from: what egress looks like.
    mkdir -p "$work/outside/cgi-bin"
    # shellcheck disable=SC2016 # the server expands it
    printf '#!/bin/sh\nprintf "\\r\\n%%s\\n" "$REMOTE_ADDR"\n' >"$work/outside/cgi-bin/peer"
    chmod 755 "$work/outside/cgi-bin/peer"
    ip netns exec outside busybox httpd -p "$outside_ip:80" -h "$work/outside"
}

# --- the plugin under test ---------------------------------------------------

install_plugins() {
    local name
    if [[ $IT_FLAVOUR != linkspan ]]; then
        for name in bridge host-local static portmap firewall tuning bandwidth loopback ptp macvlan sbr; do
            if [[ $IT_FLAVOUR == reference ]]; then
                cp "$REFERENCE/$name" "$bin_dir/$name"
            else
                ln -s linkspan "$bin_dir/$name"
            fi
        done
    else
        # Runtimes bring the loopback up with a plugin of this name.
        cp "$REFERENCE/loopback" "$bin_dir/"
    fi
    [[ $IT_FLAVOUR == reference ]] || cp "$LINKSPAN" "$bin_dir/linkspan"
}

# The configuration list under test. Podman declares the capability `ips` itself
# when an address is asked for and it is missing, and loses the others by that.
conflist() { # NAME
    local chain
    if [[ $IT_FLAVOUR == linkspan ]]; then
        chain='{"type":"linkspan","capabilities":{"portMappings":true,"ips":true}}'
    else
        chain=$(printf '%s' '{"type":"bridge","bridge":"it0","isGateway":true,"ipMasq":true,"hairpinMode":true,' \
            '"ipam":{"type":"host-local","ranges":[[{"subnet":"10.90.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},' \
            '{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"}')
    fi
    printf '{"cniVersion":"1.0.0","name":"%s","plugins":[%s]}\n' "$1" "$chain" | jq .
}

# --- packets -----------------------------------------------------------------

in_ns() { # host|NAME COMMAND...
    if [[ $1 == host ]]; then "${@:2}"; else ip netns exec "$@"; fi
}
get() { # NETNS URL
    in_ns "$1" curl -sS -f --noproxy '*' --max-time 2 "$2"
}
answers() { # NETNS URL TEXT: within 5 s the answer is TEXT
    eventually 5 answers_now "$@"
}
answers_now() { [[ $(get "$1" "$2" 2>/dev/null) == "$3" ]]; }
silent() { ! get "$1" "$2" >/dev/null 2>&1; }
serve() { # NETNS TEXT: a web server on port 80 there
    mkdir -p "$work/www/$1"
    echo "$2" >"$work/www/$1/index.html"
    ip netns exec "$1" busybox httpd -p 80 -h "$work/www/$1"
}

# --- before and after --------------------------------------------------------

# Everything that an attachment may leave behind, in a form that does not depend
# on time: no counters, no link state, no lifetimes; of files only the names.
snapshot() {
    ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*link\/([a-z]+) ([^ ]*).*/link \1 \2 \3/' | sort
    ip -o addr | awk '{ print "addr", $2, $4 }' | sort
    # IPv6 shows a bridge's own address only while a port has a carrier, or has had one long enough.
    ip route show table all | grep -Ev 'fe80::|ff00::|^multicast|^anycast|^local [0-9a-f]*:' | sed -E 's/ linkdown//' | sort
    nft --stateless list ruleset 2>/dev/null || true
    local save
    for save in {iptables,ip6tables}-{nft,legacy}-save; do
        "$save" 2>/dev/null | grep -Ev '^#' | sed -E 's/\[[0-9]+:[0-9]+\]//' | sed "s/^/$save /" || true
    done
    find /run/linkspan /var/lib/cni /run/cni -type f 2>/dev/null | sort || true
}
# What a network keeps after its last attachment (the bridge, its base chains) is
# no leftover, so a driver attaches and detaches once before it takes the baseline.
baseline() { snapshot >"$work/baseline"; }
same_as_baseline() { diff -U0 "$work/baseline" <(snapshot); }
nothing_left() { # NAME [TEXT...]: as the baseline, and no TEXT (address, ID) anywhere
    local name=$1 text
    shift
    if ! eventually 3 same_as_baseline >/dev/null; then
        fail "$name" "$(same_as_baseline || true)"
        return
    fi
    for text; do
        if grep -qFw -- "$text" "$work/baseline"; then
            fail "$name" "$text is still in: $(grep -Fw -- "$text" "$work/baseline")"
            return
        fi
    done
    ok "$name"
}
