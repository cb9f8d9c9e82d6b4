/* Sleeps, then computes: "SECONDS ROUNDS SEED" on stdin, the state of a generator after so many rounds on stdout. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

int main(void) {
    double seconds;
    uint64_t rounds, state;
    if (scanf("%lf %" SCNu64 " %" SCNu64, &seconds, &rounds, &state) != 3)
        return 2;
    struct timespec nap = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&nap, NULL);
    for (uint64_t i = 0; i < rounds; i++)
        state = state * 6364136223846793005u + 1442695040888963407u;
    printf("%" PRIu64 "\n", state);
}
