"""Files and places: what a path names, here or in a bucket, one writer per folder, pickles that run nothing, sweeps."""
