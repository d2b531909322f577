"""Reports of runs: tables and plots, the block of README.md, docs/benchmarks.md and docs/poolers.md."""
