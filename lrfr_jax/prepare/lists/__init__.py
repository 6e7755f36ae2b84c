"""What lists of names, pairs and identities say, in text and MATLAB files."""
