/* The cheapest useful program: what the throughput figures are measured with. */
#include <unistd.h>

int main(void) {
    char text[64];
    ssize_t n = read(0, text, sizeof text);
    return n >= 0 && write(1, text, (size_t)n) == n ? 0 : 1;
}
