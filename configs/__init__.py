"""One file = one experiment; `common` holds what they share."""
