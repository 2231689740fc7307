"""What the command line runs, other than on tables."""
