"""The passes: what is done to a network, one algorithm a file, found by entry-point name (`edgeopt.passes`)."""
