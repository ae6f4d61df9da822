"""Our own measures, each beside its floor and its target: ``python -m benchmarks [--only NAME …] [--rounds N]``.

A workload is a module with `rows(rounds)`. It runs in a fresh process with a home folder of its own, and it measures
itself and its floor in turn (A B A B …), so that a ratio holds within one run. Nothing is switched off that a user would
have on: history goes to a real file, run logs are written, parameters are validated.
"""
