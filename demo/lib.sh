# What the demos share: where things are, what is timed, and how everything that was started ends.
# shellcheck shell=bash

MVM=${MVM:-$PWD/${CARGO_TARGET_DIR:-target}/release/mvm}
case ${CARGO_TARGET_DIR:-} in /*) MVM=${MVM#"$PWD/"} ;; esac
[ -x "$MVM" ] || { echo "demo: $MVM is missing; run make demo, or cargo build --release" >&2; exit 1; }
export MVM_INSTANCE=${MVM_INSTANCE:-demo}
# The instance's own sockets, whatever else this shell is set up for.
unset DOCKER_HOST BUILDKIT_HOST
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mvm/demo
PLATFORMS=linux/amd64,linux/arm64,linux/arm/v7
WORK=$(mktemp -d)
mkdir -p "$WORK/base" "$WORK/registry"

TIMES=()
STARTED=()
STARTED_MACHINE=

title() { printf '\n== %s\n' "$*"; }

start_timer() { BEGAN=$(date +%s%N); }

# stop_timer WHAT: notes how long it took since start_timer.
stop_timer() {
    local tenths=$((($(date +%s%N) - BEGAN) / 100000000))
    TIMES+=("$((tenths / 10)).$((tenths % 10))|$1")
}

# step WHAT COMMAND...: shows the command, runs it, and notes how long it took.
step() {
    local what=$1
    shift
    title "$what"
    echo "\$ $(shown "$@")"
    start_timer
    "$@"
    stop_timer "$what"
}

# capture WHAT COMMAND...: the same, with the command's stdout in CAPTURED as well.
capture() {
    local what=$1
    shift
    title "$what"
    echo "\$ $(shown "$@")"
    start_timer
    CAPTURED=$("$@")
    stop_timer "$what"
    echo "$CAPTURED"
}

# Unless the user has it running already, the machine goes down with the demo.
start_machine() {
    case $("$MVM" status --json 2> /dev/null) in
        *'"state":"ready"'* | *'"state":"starting"'*) ;;
        *) STARTED_MACHINE=1 ;;
    esac
    step "mvm up" "$MVM" up "$MVM_INSTANCE"
}

# The command as a reader would type it.
shown() {
    local program=$1
    shift
    echo "$(basename "$program") $*"
}

# expect WHAT WANTED GOT
expect() {
    if [ "$2" != "$3" ]; then
        printf 'demo: %s: expected "%s", but it is "%s"\n' "$1" "$2" "$3" >&2
        exit 1
    fi
    echo "ok: $1: ${3:-none}"
}

port_taken() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        if ! port_taken "$port"; then echo "$port"; return; fi
    done
}

# Debian's docker-registry on a free port of the loopback; its name goes to REGISTRY.
start_registry() {
    local tools port
    tools=$(scripts/unpack-tools)
    port=$(free_port)
    REGISTRY=127.0.0.1:$port
    cat > "$WORK/registry.yml" <<CONF
version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: $WORK/registry } }
http: { addr: "$REGISTRY" }
CONF
    title "a registry of our own: $REGISTRY"
    "$tools/bin/docker-registry" serve "$WORK/registry.yml" > "$WORK/registry.log" 2>&1 &
    on_exit $!
    local tries=0
    until curl --silent --fail --output /dev/null "http://$REGISTRY/v2/"; do
        tries=$((tries + 1))
        if [ "$tries" = 600 ]; then cat "$WORK/registry.log" >&2; exit 1; fi
        sleep 0.1
    done
}

# fetch_page URL PID: the page, as soon as it is there; fails when the process ends first, or after a minute.
fetch_page() {
    local tries=0
    until curl --silent --fail --max-time 10 "$1"; do
        tries=$((tries + 1))
        if [ "$tries" = 300 ] || ! kill -0 "$2" 2> /dev/null; then
            echo "demo: no page came from $1" >&2
            return 1
        fi
        sleep 0.2
    done
}

# steps FILE: "NUMBER NAME" of each step of the Dockerfile that a plain progress log tells of.
steps() { sed -nE 's/^#([0-9]+) (\[linux\/[^]]+\] (RUN|WORKDIR|COPY) .*)/\1 \2/p' "$1" | sort -u; }

# uncached FILE: those of them that the builder did not take from its cache.
uncached() {
    local number name
    steps "$1" | while read -r number name; do
        grep -q "^#$number CACHED" "$1" || echo "$name"
    done
}

# Ends the process $1 when the demo ends, unless `stop` did before.
on_exit() { STARTED+=("$1"); }

stop() {
    kill -TERM "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

finish() {
    local status=$? pid
    trap - EXIT INT TERM
    for pid in "${STARTED[@]}"; do stop "$pid"; done
    [ -z "$STARTED_MACHINE" ] || "$MVM" down "$MVM_INSTANCE" || true
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

print_times() {
    local line total=0
    printf '\n%8s  %s\n' seconds what
    for line in "${TIMES[@]}"; do
        printf '%8s  %s\n' "${line%%|*}" "${line#*|}"
        line=${line%%|*}
        total=$((total + 10#${line/./}))
    done
    printf '%8s  %s\n' "$((total / 10)).$((total % 10))" "together"
}
