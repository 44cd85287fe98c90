"""gRPC ends here: requests become calls of the rooms below, errors become statuses."""
