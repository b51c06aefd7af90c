"""The nouns of edgeopt (design §3): frozen, typed, no I/O."""
