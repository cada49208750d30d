# shellcheck shell=bash
# Part of lib.sh: running a driver in network, mount, process, IPC, UTS and cgroup
# namespaces of its own, as root or in a user namespace. Its process 1 is the
# driver's shell, so that everything started in there dies with it. Nothing of the
# machine is changed but one cgroup directory, removed at the end.

# Containers get cgroups below one of ours, seen as the root of cgroup2 inside.
make_cgroup() {
    local mount
    mount=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
    [[ -n $mount ]] || return 1
    first_cgroup=$mount$(sed -n 's/^0:://p' /proc/self/cgroup)
    cgroup=$mount/linkspan-integration-$$
    mkdir "$cgroup" 2>/dev/null
}
remove_all() {
    if [[ -n ${cgroup:-} ]]; then
        echo $$ >"$first_cgroup/cgroup.procs"
        eventually 3 remove_cgroup || true
    fi
    rm -rf --one-file-system "$work"
}
remove_cgroup() { find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || [[ ! -e $cgroup ]]; }

# Rootless runtimes have a range of users and groups, and runc sets groups: so map
# a range, which only a process outside of the new namespace can do.
# shellcheck disable=SC2016 # the inner shell expands it
in_user_namespace=(unshare --user bash -c '
    for ((i = 0; i < 100; i++)); do
        if [[ -n $(</proc/self/gid_map) ]]; then exec "$@"; fi
        sleep 0.05
    done' map)
map_users() { # PID
    eventually 5 other_user_namespace "$1" &&
        echo "0 0 65536" >"/proc/$1/uid_map" && echo "0 0 65536" >"/proc/$1/gid_map"
}
other_user_namespace() { [[ $(readlink "/proc/$1/ns/user") != "$(readlink /proc/self/ns/user)" ]]; }

isolate() {
    if [[ -n ${IT_WORK:-} ]]; then
        work=$IT_WORK
        return
    fi
    if (($(id -u) != 0)); then
        skip "$(basename "$0"): needs root to make its namespaces"
        exit 0
    fi
    need unshare ip nft iptables busybox curl jq
    if [[ $IT_FLAVOUR != reference && ! -x $LINKSPAN ]]; then
        fail "$(basename "$0"): no binary at $LINKSPAN"
        exit 1
    fi
    work=$(mktemp -d)
    chmod 755 "$work"
    trap remove_all EXIT
    if make_cgroup; then echo $$ >"$cgroup/cgroup.procs"; else cgroup=; fi

    local prefix=() child status=0
    ((IT_USERNS == 0)) || prefix=("${in_user_namespace[@]}")
    IT_WORK=$work "${prefix[@]}" unshare --net --mount --pid --ipc --uts --cgroup \
        --propagation private --fork --kill-child --mount-proc -- "$0" "$@" </dev/null &
    child=$!
    ((IT_USERNS == 0)) || map_users "$child"
    # Signals end the wait; unshare itself ignores all but SIGKILL.
    trap : INT TERM
    timeout "$IT_LIMIT" tail -s 0.2 -f /dev/null --pid="$child" &
    if ! wait $!; then
        fail "$(basename "$0"): stopped, at the latest after $IT_LIMIT s"
        kill -s KILL "$child"
    fi
    wait "$child" 2>/dev/null || status=$?
    exit "$status"
}
