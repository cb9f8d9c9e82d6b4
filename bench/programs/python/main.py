import sys
from collections import Counter


def main():
    n, *values = map(int, sys.stdin.read().split())
    values.sort()
    count = Counter(values)
    print(sum(values), values[n // 2], len(count))


main()
