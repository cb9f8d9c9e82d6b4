// What inline functions of the headers use by themselves, and programs seldom do: instances made with the precompiled header.
#include <bits/stdc++.h>

struct Shape {
    virtual ~Shape() = default;
    virtual std::string name() const = 0;
};
struct Square : Shape, std::enable_shared_from_this<Square> {
    std::string name() const override { return "square"; }
};

void check(bool right, const char *what) {
    if (!right) {
        std::cerr << what << '\n';
        std::exit(1);
    }
}

int later(int number) {
    std::promise<int> promised;
    auto told = std::async(std::launch::async, [&] { return promised.get_future().get() * number; });
    promised.set_value(number);
    std::packaged_task<int(int)> task([](int x) { return x + 1; });
    auto result = task.get_future().share();
    task(1);
    check(result.get() == 2, "a shared future");
    std::shared_ptr<Shape> shape = std::make_shared<Square>();
    check(shape->name() == "square", "a shared pointer");
    return told.get();
}

void files() {
    try {
        for (const auto &entry : std::filesystem::recursive_directory_iterator("/nowhere")) {
            std::cerr << entry.path();
        }
        check(false, "a directory that is not there");
    } catch (const std::filesystem::filesystem_error &error) {
        check(error.code().value() == ENOENT, "an error of the file system");
    }
}

#if __cplusplus >= 202002L
void newer() {
    std::ostringstream synced;
    std::osyncstream(synced) << "sync";
    check(synced.str() == "sync", "a synchronised stream");
    std::barrier meeting(2);
    std::jthread other([&](std::stop_token) { meeting.arrive_and_wait(); });
    meeting.arrive_and_wait();
    check(std::format(L"{:*^7}", L"w") == L"***w***", "wide formats");
    check(std::ranges::max(std::views::iota(1, 5)) == 4, "ranges");
}
#endif

#if __cplusplus >= 202302L
void newest() {
    auto first = [](int n) -> std::generator<int> {
        for (int i = 0; i < n; i++) {
            co_yield i;
        }
    };
    int sum = 0;
    for (int i : first(3)) {
        sum += i;
    }
    check(sum == 3, "a generator");
    check(std::ranges::to<std::vector>(std::views::iota(0, 3)).size() == 3, "ranges::to");
}
#endif

int main() {
    int number;
    std::cin >> number;
    files();
#if __cplusplus >= 202002L
    newer();
#endif
#if __cplusplus >= 202302L
    newest();
#endif
    std::cout << later(number) << '\n';
}
