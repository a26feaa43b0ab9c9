"""A small world with exact truth, in which a whole training shows in minutes whether the method works."""
