"""The verbs of a fleet: publish, plan, roll out, look, report. Wiring only; what is decided is in `edgeopt.fleet`."""
