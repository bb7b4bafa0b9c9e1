#!/usr/bin/env bash
# Holds a running service against the description that it serves, as each role: schemathesis sends what the description allows
# and what it forbids, and looks for server errors, statuses, headers and bodies that are not described, doors left open.
#
#   pip install schemathesis
#   tests/schemathesis.sh [EXAMPLES]      examples an operation, 20 unless said otherwise
#   ROLES="reseller auditor" tests/schemathesis.sh
#
# Takes some minutes. Starts its own service, on a small demo network of its own for each role; says at the end which roles failed.
set -euo pipefail
cd "$(dirname "$0")/.."

examples=${1:-20}
command -v schemathesis >/dev/null || { echo "schemathesis is not installed: pip install schemathesis" >&2; exit 2; }

cargo build --quiet
tallytree=target/debug/tallytree
work=$(mktemp -d)
server=
stop() { if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; server=; fi; }
trap 'stop; rm -rf "$work"' EXIT

# So many requests are no test of the limit; that has its own.
export TALLYTREE_REQUESTS_PER_SECOND=0

# Starts a service on a fresh copy of the demo network; sets $url.
start() {
    stop
    rm -rf "$work/store"
    cp -r "$work/demo" "$work/store"
    "$tallytree" serve --database "sqlite:$work/store" --listen 127.0.0.1:0 --log warn >"$work/said" 2>"$work/log" &
    server=$!
    for _ in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$work/said")
        [ -n "$url" ] && return
        sleep 0.1
    done
    echo "the service did not start:" >&2
    cat "$work/log" >&2
    exit 2
}

token() { "$tallytree" token create --database "sqlite:$work/store" "$@"; }

"$tallytree" demo --no-serve --resellers 25 --events 600 --database "sqlite:$work/demo" --log warn >/dev/null 2>&1

failed=
for role in ${ROLES:-super_admin reseller auditor finance payments}; do
    start
    if [ "$role" = reseller ]; then
        # One with a downline: the parent of whoever is registered last.
        admin=$(token --role super_admin)
        tenant=$(curl -fsS -H "Authorization: Bearer $admin" "$url/resellers?limit=500" |
            python3 -c 'import json, sys; print([r["parent_id"] for r in json.load(sys.stdin)["data"] if r["parent_id"]][-1])')
        bearer=$(token --role reseller --tenant "$tenant" --declared-cost)
    else
        bearer=$(token --role "$role")
    fi
    printf '\n== %s\n' "$role"
    schemathesis --config-file tests/schemathesis.toml run "$url/openapi.json" \
        --header "Authorization: Bearer $bearer" --checks all --max-examples "$examples" --seed 1 \
        --continue-on-failure --generation-database none --request-timeout 10 || failed="$failed $role"
    # The log must say of no request that it failed on our side.
    if grep -q "a request failed" "$work/log"; then
        grep "a request failed" "$work/log" | sort | uniq -c | head -n 20
        failed="$failed $role(log)"
    fi
    # Whatever was done to it, the ledger must be whole.
    stop
    "$tallytree" verify --database "sqlite:$work/store" >"$work/verified" 2>&1 || {
        cat "$work/verified"
        failed="$failed $role(verify)"
    }
done
if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
echo "all roles passed"
