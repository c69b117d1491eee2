"""The runtime that drives a Docker Engine through its HTTP API."""
