"""Speed and memory, side by side in one run: `python -m bench.NAME`. See bench/README.md."""
