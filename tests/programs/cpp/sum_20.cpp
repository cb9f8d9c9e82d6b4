#include <bits/stdc++.h>

template <std::integral T>
T add(T a, T b) {
    return a + b;
}

int main() {
    long long a, b;
    while (std::cin >> a >> b)
        std::cout << std::format("{}\n", add(a, b));
}
