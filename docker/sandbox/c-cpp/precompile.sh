#!/bin/sh
# Precompiles bits/stdc++.h for each C++ standard and fails if the compiler would not use the result.
set -eu
header=$(echo '#include <bits/stdc++.h>' | g++ -x c++ -M - | tr ' ' '\n' | grep '/bits/stdc++\.h$')
mkdir "$header.gch"
for standard in 17 20 23; do
    g++ -std=gnu++$standard -O2 -pipe -x c++-header "$header" -o "$header.gch/gnu++$standard"
done
printf '#include <bits/stdc++.h>\nint main() { std::cout << 1; }\n' >/tmp/check.cpp
for standard in 17 20 23; do
    g++ -std=gnu++$standard -O2 -pipe -static-pie -H -o /tmp/check /tmp/check.cpp 2>&1 |
        grep -q "^! .*/stdc++\.h\.gch/gnu++$standard\$"
done
rm -f /tmp/check /tmp/check.cpp
