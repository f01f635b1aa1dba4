"""Mutations of the package as data, and what the auditor is shown of each."""
