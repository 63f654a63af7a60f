"""Many runs, or many labellings, of one experiment: what to run, and what came out. Knows no ray: `distreid.cluster.sweep` does."""
