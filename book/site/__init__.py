"""The book as it is read: pages, editions, one PDF, one archive."""
