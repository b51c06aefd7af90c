"""What of a model file must be sent when the board has an older one."""
