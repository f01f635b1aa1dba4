"""Exercises from source to marks: given out, taken in, run shut in, marked."""
