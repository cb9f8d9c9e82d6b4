"""The same as work.c."""

import time

seconds, rounds, state = input().split()
time.sleep(float(seconds))
state = int(state)
for _ in range(int(rounds)):
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
print(state)
