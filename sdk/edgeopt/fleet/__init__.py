"""The pure logic of fleets and rollouts: no file, no socket, no clock of its own."""
