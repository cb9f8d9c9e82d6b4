"""Benchmarks. ``python -m bench --help`` is the suite; see docs/performance.md."""
