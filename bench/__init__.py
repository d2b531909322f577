"""Benchmarks of the pooling operators: ``python -m bench run``, ``gpu``, ``step`` and ``report``.

`bench.harness` takes figures on any device, `bench.ops` says what is measured, `bench.report` shows the results. A
figure is a ratio taken in one process on one machine: candidate and peer alternate (A B A B ...), the ratio is the
median over the pairs, and a result that differs from the float64 truth is refused instead of timed.
"""
