"""What people look at: terminal tables and the self-contained HTML page."""
