"""The benchmarks of painted pictures, one file each."""
