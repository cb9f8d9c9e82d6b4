"""Benchmarks. ``python -m bench.sandbox --help`` is the one for the sandbox; see docs/performance.md."""
