#include <vector>

int main() {
    std::vector<int> numbers = "these are not numbers";
}
