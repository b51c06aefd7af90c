"""The verbs of edgeopt, wired from the parts below; no algorithm lives here."""
