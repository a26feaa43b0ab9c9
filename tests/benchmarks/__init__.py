"""Side-by-side benchmarks: ours and a bare reference in turn, in one run, as ratios with their spread."""
