"""What may follow on what: pure functions and data. Facts go in, verdicts come out."""
