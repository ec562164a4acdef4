"""Full ranking over all items: protocol, metrics, slices, intervals, baselines."""
