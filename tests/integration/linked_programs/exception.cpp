#include <cstdio>
#include <stdexcept>

int main() {
    try {
        throw std::runtime_error("x");
    } catch (const std::exception &error) {
        std::puts(error.what());
    }
}
