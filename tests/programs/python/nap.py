"""Sleeps for as many seconds as stdin says, which costs no CPU, and prints something new each time."""

import secrets
import sys
import time

time.sleep(float(sys.stdin.readline()))
print(secrets.token_hex())
