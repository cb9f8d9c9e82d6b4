#!/usr/bin/env bash
# Runs fuzz targets one after the other from their corpus. An input that breaks a rule is kept and shown.
# usage: run.sh SECONDS TARGET...    BUILD names the directory of the programs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
seconds=$1 targets=0 inputs=0
shift
# Far over what any input needs: longer is a hang, more a leak. The parsers themselves take at most 192 KiB.
limits=(-timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=16 -max_len=16384)

show() {
    local found
    for found in "$build/fuzz/found/$1"-*; do
        [ -e "$found" ] || continue
        printf '%s: fails with this input (a fix comes with a copy of it in fuzz/corpus/%s/)\n' "$found" "$1"
        od -A d -t x1z "$found" | head -n 40
    done
}

for target; do
    log=$build/fuzz/$target.log
    mkdir -p "$build/fuzz/found" "$build/fuzz/corpus/$target"
    # What one run finds is where the next one goes on; what is worth keeping for all goes into fuzz/corpus by `-merge=1`.
    if ! "$build/fuzz/$target" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$build/fuzz/found/$target-" "$build/fuzz/corpus/$target" "$here/corpus/$target" >"$log" 2>&1; then
        tail -n 40 "$log"
        show "$target"
        exit 1
    fi
    count=$(awk '/number_of_executed_units/ { print $2 }' "$log")
    printf '%-8s %9d inputs, %s\n' "$target" "$count" "$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [^ ]*' "$log" | tail -n 1)"
    targets=$((targets + 1)) inputs=$((inputs + count))
done
printf '%d targets, %d inputs, nothing found\n' "$targets" "$inputs"
