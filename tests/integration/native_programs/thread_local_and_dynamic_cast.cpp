#include <bits/stdc++.h>

struct Shape {
    virtual ~Shape() = default;
};
struct Square : Shape {
    int area = 0;
};
thread_local std::string text = "x";

int main() {
    int n;
    std::cin >> n;
    std::unique_ptr<Shape> shape = std::make_unique<Square>();
    dynamic_cast<Square &>(*shape).area = n * n;
    std::atexit([] { std::fflush(stdout); });
    std::printf("%d", text == "x" ? dynamic_cast<Square *>(shape.get())->area : 0);
}
