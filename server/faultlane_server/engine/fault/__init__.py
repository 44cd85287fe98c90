"""The fault path, from trap to return."""
