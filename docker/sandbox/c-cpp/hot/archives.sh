#!/bin/sh
# Makes /opt/evalx/hot-LIBRARY: copies of those members of a library that most programs run through, side by side.
#
# A fork shares its parent's code but not the page tables for it: each 64 KiB of the program that a test comes by costs it a page
# fault, and the linker lays members out in the order of their archive, so that the few that short programs use lie all over the
# megabyte. Linked from these archives first they lie together. A program gets the very same members either way.
#
# The lists have the members whose code a dozen ordinary programs ran through, found by stepping through them: those after the fork,
# the most used first; those only before it, where a program starts, but for those with much data; their variants for other
# processors. What a version of the library lacks is left out: it costs nothing but time.
set -eu
for list in "$(dirname "$0")"/*.members; do
    library=$(basename "$list" .members)
    from=$(gcc -print-file-name="$library")
    work=$(mktemp -d)
    ar t "$from" >"$work/there"
    # In the order of the list. No member's name is in these libraries twice.
    grep -Fx -f "$work/there" "$list" >"$work/wanted"
    cd "$work"
    # shellcheck disable=SC2046
    ar x "$from" $(cat wanted)
    # shellcheck disable=SC2046
    ar rcsD "/opt/evalx/hot-$library" $(cat wanted)
    cd - >/dev/null
    rm -rf "$work"
done
