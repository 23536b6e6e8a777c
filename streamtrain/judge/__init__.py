"""Judge: how good a candidate is on the holdout, and whether that earns it publication."""
