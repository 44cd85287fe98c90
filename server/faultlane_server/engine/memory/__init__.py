"""Memory: what is cached, and what is mapped."""
