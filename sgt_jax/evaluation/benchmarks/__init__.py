"""Real benchmarks in their own formats: what they ask, how they score, and the files that official tools read."""
