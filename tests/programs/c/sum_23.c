#include <stdio.h>

constexpr int wanted = 2;

int main() {
    auto first = nullptr == nullptr ? 0LL : 1LL;
    long long a, b;
    while (scanf("%lld %lld", &a, &b) == wanted)
        printf("%lld\n", first + a + b);
}
