#include <bits/stdc++.h>

int main() {
    std::cout.imbue(std::locale(""));
    std::cout << std::filesystem::exists("/tmp") << std::riemann_zeta(1.5) << std::exp(std::complex<long double>(1, 2));
    std::pmr::synchronized_pool_resource().deallocate(nullptr, 0);
    std::shared_timed_mutex().lock();
    std::cout << std::regex_match("aab", std::regex("a+b")) << std::random_device()() << std::put_money(12345);
}
