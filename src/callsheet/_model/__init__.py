"""Frozen structs: what runs, states, messages and rows are made of. No I/O, no clock, no threads."""
