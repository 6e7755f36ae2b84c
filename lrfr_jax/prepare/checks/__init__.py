"""What `align` and `check` look at and report."""
