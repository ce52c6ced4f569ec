"""Faults that are put into the code on purpose, to see that tests catch them."""
