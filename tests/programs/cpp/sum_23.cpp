#include <bits/stdc++.h>

int main() {
    long long a, b;
    while (std::cin >> a >> b)
        std::println("{}", a + b);
}
