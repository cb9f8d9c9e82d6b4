#!/bin/sh
# Precompiles bits/stdc++.h for each C++ standard and fails if the compiler would not use the result.
#
#   precompile.sh PLUGIN   PLUGIN: instantiate.cc, built
set -eu
header=$(echo '#include <bits/stdc++.h>' | g++ -x c++ -M - | tr ' ' '\n' | grep '/bits/stdc++\.h$')
mkdir "$header.gch"
# The plugin waits for a declaration in the header itself, which only includes others. One that is there already leaves nothing
# behind, and the header is put back: what compilers say of it names its lines.
cp -p "$header" /tmp/header.h
echo 'extern "C" void abort() noexcept __attribute__((noreturn));' >>"$header"
for standard in 17 20 23; do
    g++ -std=gnu++$standard -O2 -pipe -fplugin="$1" -x c++-header "$header" -o "$header.gch/gnu++$standard"
done
mv /tmp/header.h "$header"
printf '#include <bits/stdc++.h>\nint main() { std::cout << 1; }\n' >/tmp/check.cpp
for standard in 17 20 23; do
    g++ -std=gnu++$standard -O2 -pipe -static-pie -H -o /tmp/check /tmp/check.cpp 2>&1 |
        grep -q "^! .*/stdc++\.h\.gch/gnu++$standard\$"
done
rm -f /tmp/check /tmp/check.cpp
