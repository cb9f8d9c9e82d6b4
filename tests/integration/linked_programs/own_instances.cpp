#include <bits/stdc++.h>

void *operator new(std::size_t size) { return std::malloc(size); }
void operator delete(void *block) noexcept { std::free(block); }
void operator delete(void *block, std::size_t) noexcept { std::free(block); }

template class std::basic_string<char>;
template class std::basic_string<wchar_t>;
template class std::basic_ostream<char>;

int main() { std::cout << std::string(100, 'x') << std::endl; }
