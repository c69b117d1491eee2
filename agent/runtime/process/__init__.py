"""The runtime that runs tasks as plain processes, for machines without a Docker Engine."""
