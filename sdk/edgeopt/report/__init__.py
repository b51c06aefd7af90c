"""What people see: tables and progress on a terminal, and the HTML page of a run."""
