"""How long a candidate will take, before a board is asked: it orders what is measured, and the board decides."""
