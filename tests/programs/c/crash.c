int main(void) {
    volatile int *nowhere = (volatile int *)8;
    return *nowhere;
}
