"""The playground as people see it: its scripts, and what joins them."""
