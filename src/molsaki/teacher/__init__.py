"""What a teacher writes and where it looks: requests, writers, the filter, key words, reading its signals."""
