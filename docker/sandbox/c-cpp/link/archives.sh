#!/bin/sh
# Makes /opt/evalx/slim/c and /opt/evalx/slim/c++: of each library those members that programs usually need, for collect2.c.
#
#   archives.sh WORK   WORK: a folder with usual.c and usual.cpp. /opt/evalx has the fork server and hot-*.a already.
#
# A program linked from these is the one that the whole libraries would give, byte for byte, or there is none. What decides which
# members are linked is, for each name that something needs, which member the linker takes for it: of those that define it the
# first, one that defines it weakly only if there is no other. As long as each name needed has the same member here and there, so
# do the names that this member needs, and so on to the end. Therefore each archive has one more member, "rest.o". It defines each
# name for which the linker would take a member that was left out, strongly and before all others, and cannot be linked: it has a
# 32-bit address, which a program that may lie anywhere cannot have. References that do not pull members, weak ones, do not pull
# this one either.
set -eu
cd "$1"
hot=/opt/evalx/hot-

# parts LIBRARY: the archives that it stands for. libm.a is a script that names two.
parts() {
    path=$(readlink -f "$(gcc -print-file-name="$1")")
    if ar t "$path" >/dev/null 2>&1; then echo "$path"; else sed -n 's/^GROUP *(\(.*\))/\1/p' "$path" | tr -s ' ' '\n' | grep .; fi
}

# link ARGUMENT...: in the language that this is about.
link() { $compiler -static-pie -fuse-ld=mold -o usual /opt/evalx/forkserver.o "$@" -Wl,-z,muldefs -lm; }

# needed ARGUMENT...: adds the members that it is linked with to the file "kept". All sections stay, for the map names members by
# what is left of them.
needed() {
    link "$@" -Wl,--no-gc-sections,--Map=usual.map
    sed -n 's/^.* \(\/[^ ]*\.a\)(\([^)]*\)).*$/\1:\2/p' usual.map | sort -u >>kept
}

# definitions LIBRARY ARCHIVE: of all members, in the order of the archive: "LIBRARY ARCHIVE:MEMBER:... TYPE NAME".
definitions() { nm -A -g --defined-only "$2" 2>/dev/null | sed "s|^|$1 |"; }

# all_definitions: those of all libraries, in the order that the linker has them. hot-*.a come first.
all_definitions() {
    for archive in $hots; do definitions "$archive" "$archive"; done
    for library in $libraries; do
        for path in $(parts "$library"); do definitions "$library" "$path"; done
    done
}

# left_out: "LIBRARY NAME" for each name whose member is not kept.
left_out() {
    awk '
        NR == FNR { kept[$1]; next }
        {
            split($2, place, ":"); weak = $(NF - 1) ~ /[WV]/; name = $NF
            if (!(name in from) || (weakly[name] && !weak)) {
                from[name] = $1; weakly[name] = weak; out[name] = !((place[1] ":" place[2]) in kept)
            }
        }
        END { for (name in from) if (out[name]) print from[name], name }' kept -
}

# rest LIBRARY: the source of its rest.o.
rest() {
    printf '.section .init_array,"aw"\n.long .Lrest\n.text\n.Lrest:\n'
    sed -n "s/^$1 \(.*\)/.globl \"\1\"\n\"\1\":/p" rest
    echo '.section .note.GNU-stack,"",@progbits'
}

# slim LIBRARY: makes its archive.
slim() {
    mkdir members
    rest "$1" | as -o members/rest.o -
    echo rest.o >wanted
    for path in $(parts "$1"); do
        # grep fails where nothing is kept of an archive, libmvec.a for one: that is as it should be.
        ar t "$path" | sed "s|^|$path:|" | { grep -Fx -f kept || true; } | sed 's/.*://' >here
        cat here >>wanted
        # shellcheck disable=SC2046
        [ ! -s here ] || (cd members && ar x "$path" $(cat ../here))
    done
    # shellcheck disable=SC2046
    (cd members && ar rcsD "$folder/$1" $(cat ../wanted))
    rm -rf members
}

# make LANGUAGE OBJECT...: its folder, for what these objects need. If that would not do for them, each link would start twice; and
# nothing that was left out may be taken for a part of a program.
make() {
    folder=/opt/evalx/slim/$1
    mkdir -p "$folder"
    shift
    for archive in $hots; do ar t "$archive" | sed "s|^|$archive:|"; done >kept
    for object; do needed "$object" $hots; done
    all_definitions | left_out >rest
    for library in $libraries; do slim "$library"; done
    for object; do link "-L$folder" "$object" $hots; done
    ! link "-L$folder" rarely.o $hots 2>/dev/null || exit 1
}

echo 'extern int argp_parse; int main(void) { return argp_parse; }' | gcc -w -x c -c - -o rarely.o
for standard in 17 23; do gcc -std=gnu$standard -O2 -c usual.c -o usual-c-$standard.o; done
for standard in 17 23; do
    g++ -std=gnu++$standard -O2 -w -c usual.cpp -o usual-$standard.o
    ld -r -o usual-cpp-$standard.o usual-$standard.o usual-c-23.o --allow-multiple-definition
done
compiler=gcc hots=${hot}libc.a libraries='libm.a libgcc.a libgcc_eh.a libc.a'
make c usual-c-17.o usual-c-23.o
compiler=g++ hots="${hot}libstdc++.a ${hot}libc.a" libraries='libstdc++.a libm.a libgcc.a libgcc_eh.a libc.a'
make c++ usual-cpp-17.o usual-cpp-23.o
