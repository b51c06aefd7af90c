"""What each kind of hardware can run, and which recipes are worth trying there."""
