"""Early exits: where a network can be left, and the heads that decide."""
