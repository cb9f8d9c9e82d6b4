#include <bits/stdc++.h>

static int calls;

void *operator new(std::size_t size) {
    calls++;
    return std::malloc(size);
}
void operator delete(void *place) noexcept { std::free(place); }
void operator delete(void *place, std::size_t) noexcept { std::free(place); }

int main() {
    int n;
    std::cin >> n;
    std::map<int, int> squares;
    squares[n] = n * n;
    std::cout << (calls > 0 ? squares[n] : 0);
}
