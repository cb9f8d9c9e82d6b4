#include <iostream>

struct Base {
    Base();
    virtual void nowhere();
};

int main() {
    Base base;
    std::cout << 1;
}
